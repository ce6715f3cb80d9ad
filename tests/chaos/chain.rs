//! The money as the chain has it: settled, taken out of all channels, and counted against what was put in.

use std::time::Duration;

use blvm_mesh::admin::{DoneReply, Request, WalletParams};
use serde_json::{Value, json};

use super::all_linked;
use crate::common::bitcoind::Bitcoind;
use crate::common::lightning::{Node, until};

/// What an anchor output holds, in sat (BOLT 3). Nobody bothers to collect it, and anybody may.
const ANCHOR_SATS: u64 = 330;

/// Blocks mined at a time while payments may still be under way, which are given up when too many pass.
const FEW: u32 = 12;

/// The same when there is nothing left but to wait for outputs to mature.
const MANY: u32 = 48;

/// How long nodes get to see them; they look every other second.
const STEP_PAUSE: Duration = Duration::from_secs(3);

/// Steps before the chain is believed to stand still: two weeks of blocks.
const STEPS: u32 = 2016 / FEW;

/// What there was before anything was paid.
pub struct Coins {
    total_sats: u64,
    height: u64,
}

impl Coins {
    /// Counts what is in wallets and channels, which were all funded by then, in whole sat.
    pub async fn count(bitcoind: &Bitcoind, nodes: &[Node]) -> Self {
        let height = bitcoind.height().await;
        let mut total_sats = 0;
        for node in nodes {
            total_sats += node.balance().await.on_chain.unwrap().total_sats;
            for channel in node.channels().await {
                // Each is listed by both its ends.
                total_sats += channel.value_sats / 2;
            }
        }
        Self { total_sats, height }
    }

    /// Compares it with what there is when every channel is closed: what is missing went to miners, by transactions that
    /// are on the chain, or lies in anchors.
    pub async fn check(&self, bitcoind: &Bitcoind, nodes: &[Node]) {
        let mut held = 0;
        for node in nodes {
            held += node.balance().await.on_chain.unwrap().total_sats;
        }
        let (fees, anchors) = self.fees_and_anchors(bitcoind).await;
        println!(
            "{} sat before, {held} sat after, {fees} sat to miners, {anchors} sat in anchors",
            self.total_sats
        );
        assert_eq!(self.total_sats, held + fees + anchors, "money was lost or made");
    }

    async fn fees_and_anchors(&self, bitcoind: &Bitcoind) -> (u64, u64) {
        let (mut fees, mut anchors) = (0, 0);
        for height in self.height + 1..=bitcoind.height().await {
            let hash = bitcoind.rpc("getblockhash", json!([height])).await;
            let block = bitcoind.rpc("getblock", json!([hash, 2])).await;
            for transaction in block["tx"].as_array().unwrap().iter().skip(1) {
                fees += sats(&transaction["fee"]);
                for (index, output) in transaction["vout"].as_array().unwrap().iter().enumerate() {
                    if sats(&output["value"]) != ANCHOR_SATS {
                        continue;
                    }
                    let unspent = bitcoind
                        .rpc("gettxout", json!([transaction["txid"], index]))
                        .await;
                    if !unspent.is_null() {
                        anchors += ANCHOR_SATS;
                    }
                }
            }
        }
        (fees, anchors)
    }
}

/// Whole sat of an amount in bitcoin.
fn sats(bitcoin: &Value) -> u64 {
    (bitcoin.as_f64().unwrap() * 100_000_000.0).round() as u64
}

/// Waits until no payment is under way. One that a closed channel holds comes back or arrives when its blocks have
/// passed.
pub async fn settle(bitcoind: &Bitcoind, nodes: &[Node]) {
    all_linked(nodes).await;
    step_until(bitcoind, FEW, "channels to let go of payments", async || {
        let mut outgoing = 0;
        for node in nodes {
            outgoing += node.balance().await.outgoing_msat;
        }
        outgoing == 0
    })
    .await;
    // What a kill kept from being sent is known to have come to nothing only when its blocks have passed.
    step_until(bitcoind, MANY, "payments to end", async || {
        let mut pending = 0;
        for node in nodes {
            pending += node.balance().await.payments.unwrap().pending_msat;
        }
        pending == 0
    })
    .await;
}

/// Closes every channel by agreement and waits until all there is lies on-chain.
pub async fn close_all(bitcoind: &Bitcoind, nodes: &[Node]) {
    for node in nodes {
        until("the ends of channels to be connected", async || {
            node.channels()
                .await
                .iter()
                .all(|channel| channel.usable || !channel.ready)
        })
        .await;
        for channel in node.channels().await {
            let params = WalletParams::CloseChannel {
                id: channel.id,
                force: false,
            };
            // The other end may be at it already.
            let _: Result<DoneReply, _> = node.try_call(&Request::Wallet(params)).await;
        }
    }
    step_until(bitcoind, MANY, "channels to close", async || {
        for node in nodes {
            let coins = node.balance().await.on_chain.unwrap();
            let waiting = !node.channels().await.is_empty() || coins.closing_sats > 0;
            if waiting || coins.spendable_sats != coins.total_sats {
                return false;
            }
        }
        let waiting = bitcoind.rpc("getrawmempool", json!([])).await;
        waiting.as_array().unwrap().is_empty()
    })
    .await;
}

/// Mines, and gives the nodes time to see it, until it holds.
async fn step_until(bitcoind: &Bitcoind, blocks: u32, what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..STEPS {
        if holds().await {
            return;
        }
        bitcoind.mine(blocks).await;
        tokio::time::sleep(STEP_PAUSE).await;
    }
    panic!("waited in vain for {what}");
}
