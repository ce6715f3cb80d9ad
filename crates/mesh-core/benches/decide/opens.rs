//! The first packet of a session: opens that a router has quoted keys for and whose payer holds credit, so that nothing
//! waits for a wallet.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::account::AccountRecord;
use mesh_core::core::Core;
use mesh_core::event::Record;
use mesh_core::keys::DhSecret;
use mesh_core::open::{HopPlan, OpenPlan};
use mesh_core::quotes::QuoteKeyRecord;
use mesh_core::routing_policy::TrafficClass;
use mesh_core::time::Now;

use crate::route::{self, secret};

/// A router, and `count` opens that reach it over [`route::FROM_SOURCE`].
pub(crate) fn opens(now: Now, count: u64) -> (Core, Vec<Bytes>) {
    let mut router = route::router(now);
    let [source, here, next] = route::ids();
    let account = secret(11);
    let credit = Record::Account(AccountRecord {
        key: account.public(),
        balance_msat: 1 << 40,
    });
    let numbered = |label: &[u8], number: u64| {
        *blake3::keyed_hash(&[5; 32], &[label, &number.to_be_bytes()].concat()).as_bytes()
    };
    let mut records = vec![credit];
    let mut frames = Vec::new();
    for number in 0..count {
        let quote = DhSecret::new(numbered(b"quote", number)).unwrap();
        let mut id = [0; 16];
        id.copy_from_slice(&numbered(b"id", number)[..16]);
        records.push(Record::QuoteKey(QuoteKeyRecord {
            id,
            secret: *quote.secret(),
            account: account.public(),
            previous: source,
            next: Some(next),
            class: TrafficClass::Paid,
            price_msat: 10,
            expires: now.unix + Duration::from_secs(3600),
        }));
        let hop = |node, quote_id, quote_key| HopPlan {
            node,
            quote_id,
            quote_key,
            account: account.clone(),
            proof: None,
        };
        let plan = OpenPlan {
            hops: &[
                hop(here, id, quote.public()),
                hop(next, [7; 16], secret(12).public()),
            ],
            class: TrafficClass::Paid,
            expires: now.unix + Duration::from_secs(3600),
            ephemeral: DhSecret::new(numbered(b"ephemeral", number)).unwrap(),
            source: None,
        };
        frames.push(plan.build().unwrap().0);
    }
    router.restore(records, now).unwrap();
    (router, frames)
}
