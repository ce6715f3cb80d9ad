//! Paid over real Lightning: the meshes' wallets are Lightning nodes on a bitcoind of their own.

use blvm_mesh::admin::PaymentsReply;
use common::bitcoind::Bitcoind;
use common::lightning::{Node, confirm_channels, until};

use crate::common;
use crate::trio::{CHAT, MESH, Trio};

/// What goes into each channel, in sat.
const CHANNEL_SATS: u64 = 1_000_000;

/// What the operators let their meshes spend for a module's packets.
const AUTO_PAY: &str = r"
[payments]
auto_pay = true
per_packet_msat = 1000000
max_total_msat = 1000000
per_hour_msat = 10000000
per_day_msat = 10000000
per_destination_day_msat = 10000000
per_caller_day_msat = 10000000
max_fee_msat = 100000
";

#[tokio::test]
async fn a_chat_message_is_paid_for_over_real_lightning_and_all_are_told_of_blocks_ways_and_payments() {
    let Some(mut trio) = Trio::new() else {
        return;
    };
    let Some(bitcoind) = Bitcoind::start().await else {
        return;
    };
    let wallets: Vec<Node> = trio
        .all()
        .into_iter()
        .zip(0..)
        .map(|(node, number)| Node::at(number, Trio::home(node)))
        .collect();
    let [a, b, c] = &wallets[..] else { unreachable!() };
    for (wallet, neighbours) in [(a, &[b][..]), (b, &[]), (c, &[b])] {
        wallet.configure(&bitcoind, neighbours, 10);
        wallet.home.add_to_config(AUTO_PAY);
    }
    trio.start().await;

    for wallet in [a, b] {
        wallet.fund(&bitcoind, 2 * CHANNEL_SATS).await;
    }
    bitcoind.mine(1).await;
    for wallet in [a, b] {
        wallet.wait_for_coins(CHANNEL_SATS + 100_000).await;
    }
    a.open_channel(b, CHANNEL_SATS, 0).await;
    b.open_channel(c, CHANNEL_SATS, 0).await;
    confirm_channels(&bitcoind, 2).await;
    for (wallet, channels) in [(a, 1), (b, 2), (c, 1)] {
        wallet.wait_for_channels(channels).await;
    }

    // A block of the nodes' own chain: its miner hears of it as mined, the others as new.
    let told = [
        (&trio.a, "BlockMined"),
        (&trio.b, "NewBlock"),
        (&trio.c, "NewBlock"),
    ];
    trio.a
        .mine_until("all to hear of a block", async || {
            told.iter().all(|(node, kind)| trio.event(node, kind))
        })
        .await;

    let owned = a.balance().await.owned_msat;
    let sent = trio.say("paid for").await;
    assert_eq!(sent["route_length"], 2, "{sent}");
    trio.heard(&["paid for"]).await;
    assert!(a.balance().await.owned_msat < owned, "it was paid for");
    assert!(c.status().await.earned_msat > 0);
    trio.a
        .until("news of the way", async || trio.event(&trio.a, "RouteDiscovered"))
        .await;
    trio.c
        .until("news of the payment", async || {
            trio.event(&trio.c, "PaymentVerified")
        })
        .await;

    // The sender's mesh and the reader are killed: what comes next is heard once, the first is not heard again, and what the
    // first bought carries the next, too.
    let paid = payments(a).await;
    assert!(paid.paid_msat > 0, "{paid:?}");
    trio.a.kill_module(MESH).await;
    trio.load_again(&trio.a, MESH).await;
    trio.c.kill_module(CHAT).await;
    trio.load_again(&trio.c, CHAT).await;
    trio.linked().await;
    trio.say("after the kill").await;
    trio.heard(&["paid for", "after the kill"]).await;
    assert_eq!(payments(a).await, paid, "it cost nothing more");
}

/// What a wallet paid so far, once nothing is under way.
async fn payments(of: &Node) -> PaymentsReply {
    until("the payments' outcome", async || {
        of.balance().await.payments.unwrap().pending_msat == 0
    })
    .await;
    of.balance().await.payments.unwrap()
}
