//! Daemons whose wallets are Lightning nodes of their own, on a real bitcoind: funded, joined by channels and paid, all by
//! command.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg(all(unix, feature = "ldk"))]

mod common;

use common::bitcoind::Bitcoind;
use common::daemons::{program, said};
use common::lightning::{Node, confirm_channels, until};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

/// What goes into each channel, in sat.
const CHANNEL_SATS: u64 = 1_000_000;

/// The sum of what all own in channels, in msat, once nothing moves any more.
async fn owned(nodes: &[Node]) -> Vec<u64> {
    let mut owned = Vec::new();
    for node in nodes {
        owned.push(node.balance().await.owned_msat);
    }
    owned
}

#[tokio::test]
async fn a_packet_is_paid_for_from_wallet_to_wallet_over_a_router_on_a_real_chain() {
    let Some(bitcoind) = Bitcoind::start().await else {
        return;
    };
    let mut nodes: Vec<Node> = (0..3).map(Node::new).collect();
    nodes[0].configure(&bitcoind, &[&nodes[1]], 10);
    nodes[1].configure(&bitcoind, &[], 10);
    nodes[2].configure(&bitcoind, &[&nodes[1]], 10);
    for node in &mut nodes {
        node.start().await;
    }
    let [a, b, c] = &nodes[..] else { unreachable!() };
    b.home.wait_for_peers(2).await;
    let payload = ["--max-total-msat", "1000000", "--max-fee-msat", "100000"];
    let destination = c.id.to_string();
    let send = [&["send", &destination, "paid for"][..], &payload].concat();

    // Without a coin nothing opens and nothing is paid, and the operator is told why.
    let to_b = b.lightning_address().await;
    let sats = CHANNEL_SATS.to_string();
    let refused = a.home.ask(&["wallet", "open-channel", &to_b, &sats]).await;
    assert_eq!(refused.status.code(), Some(1));
    let why = said(&refused);
    assert!(
        why.contains("0 sat are spendable") && why.contains("wallet address"),
        "{why}"
    );
    let refused = a.home.ask(&send).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("payment_failed"), "{}", said(&refused));

    for node in [a, b] {
        node.fund(&bitcoind, 2 * CHANNEL_SATS).await;
    }
    bitcoind.mine(1).await;
    for node in [a, b] {
        node.wait_for_coins(CHANNEL_SATS + 100_000).await;
    }
    let opened = a.home.ask(&["wallet", "open-channel", &to_b, &sats]).await;
    assert!(opened.status.success(), "{}", said(&opened));
    b.open_channel(c, CHANNEL_SATS, 0).await;
    confirm_channels(&bitcoind, 2).await;
    for (node, channels) in [(a, 1), (b, 2), (c, 1)] {
        node.wait_for_channels(channels).await;
    }

    let before = owned(&nodes).await;
    // Its channel with C is announced by B to A, whose Lightning node does not say when it has heard: until then it knows no
    // way to C, and what is refused so has paid nothing that the next attempt would pay again.
    until("the packet to be paid for", async || {
        let sent = a.home.ask(&send).await;
        let refused = said(&sent).contains("payment_failed");
        assert!(
            sent.status.success() || refused,
            "{}\n{}",
            said(&sent),
            a.home.end_of_log()
        );
        sent.status.success()
    })
    .await;
    until("the payments to be booked", async || {
        let mut outgoing = 0;
        for node in &nodes {
            outgoing += node.balance().await.outgoing_msat;
        }
        outgoing == 0
    })
    .await;
    let after = owned(&nodes).await;
    assert_eq!(
        before.iter().sum::<u64>(),
        after.iter().sum::<u64>(),
        "what left one wallet is in the others"
    );
    let paid = before[0] - after[0];
    let (got_b, got_c) = (after[1] - before[1], after[2] - before[2]);
    let (router, destination) = (b.status().await, c.status().await);
    // 60 % and the treasury's 10 % to the destination, 30 % to the router.
    let (share_b, share_c) = (router.earned_msat, destination.earned_msat);
    let treasury = destination.treasury_owed_msat;
    assert_eq!(share_c + treasury, got_c);
    let price = share_b + share_c + treasury;
    assert_eq!((share_b, treasury), (price * 3 / 10, price / 10));
    let fees = paid - price;
    assert_eq!(
        got_b,
        share_b + fees,
        "the router's Lightning node forwarded the payment to the destination"
    );
    println!(
        "paid {paid} msat: {share_b} to the router, {share_c} to the destination, {treasury} to the treasury, {fees} in fees"
    );

    // Over what was bought the next packet goes unpaid.
    let again = a.home.ask(&send).await;
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(owned(&nodes).await, after);

    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn the_words_bring_the_same_lightning_node_and_its_coins_back_in_another_place() {
    let Some(bitcoind) = Bitcoind::start().await else {
        return;
    };
    let mut node = Node::new(0);
    node.configure(&bitcoind, &[], 10);
    node.start().await;
    let id = node.lightning_id().await;
    node.fund(&bitcoind, 500_000).await;
    bitcoind.mine(1).await;
    node.wait_for_coins(500_000).await;
    let backup = node.home.ask_json(&["wallet", "backup"]).await;
    let words = backup["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 24);

    // Over a wallet that is there nothing is restored, while it runs or when it has stopped.
    let refused = restore(&node, words).await;
    assert!(said(&refused).contains("another daemon"), "{}", said(&refused));
    node.stop().await;
    let refused = restore(&node, words).await;
    assert!(
        said(&refused).contains("holds a wallet already"),
        "{}",
        said(&refused)
    );

    let mut other = Node::new(1);
    other.configure(&bitcoind, &[], 10);
    let restored = restore(&other, words).await;
    assert!(restored.status.success(), "{}", said(&restored));
    other.start().await;
    assert_eq!(other.lightning_id().await, id);
    other.stop().await;
}

async fn restore(node: &Node, words: &str) -> std::process::Output {
    let mut command = program();
    command.arg("--data-dir").arg(node.home.path());
    command.args(["wallet", "restore"]);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses at once does not read.
    let _ = stdin.write_all(words.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.unwrap()
}
