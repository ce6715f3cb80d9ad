#!/bin/sh
# Puts LNbits into a virtual environment of its own, for tests/lnbits.rs:
#
#   tests/lnbits.sh DIR && LNBITS_PYTHON=DIR/bin/python cargo test --test lnbits
#
# Nothing is installed anywhere else. The tests start the server themselves, on loopback, and end it.
set -eu
directory=${1:?usage: tests/lnbits.sh DIR}
python3 -m venv "$directory"
# bitstring 5 lacks what LNbits' bolt11 imports, and nothing there says so.
"$directory/bin/pip" install --quiet --disable-pip-version-check 'lnbits==1.6.2' 'bitstring<5'
