"""Serves LNbits on a port of loopback: `python serve.py PORT`.

LNbits as it is shipped, but for one thing. Its play-money funding source writes invoices with a payment secret and
without the feature bits that BOLT 11 demands beside one; Lightning nodes, real funding sources among them, set the bits
and refuse invoices without them. They are added here before such an invoice is signed.
"""

import sys

import uvicorn
from bolt11 import Feature, Features, FeatureState, TagChar, encode
from lnbits.wallets import fake


def encode_with_features(invoice, key):
    required = {Feature.var_onion_optin, Feature.payment_secret}
    features = Features.from_feature_list({feature: FeatureState.required for feature in required})
    invoice.tags.add(TagChar.features, features)
    return encode(invoice, key)


fake.encode = encode_with_features
uvicorn.run("lnbits.__main__:app", host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
