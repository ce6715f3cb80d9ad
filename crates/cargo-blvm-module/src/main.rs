//! The program `cargo-blvm-module`, which cargo runs as `cargo blvm-module`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    cargo_blvm_module::main()
}
