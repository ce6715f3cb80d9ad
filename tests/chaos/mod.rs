//! The town, its traffic, its killer and its auditor.
#![allow(unreachable_pub)] // as in tests/common

mod books;
mod chain;
mod killer;
mod traffic;

use std::time::Instant;

use books::Books;
use chain::Coins;
use killer::Killer;
use traffic::Traffic;

use crate::common::bitcoind::Bitcoind;
use crate::common::lightning::{Node, confirm_channels, until};

/// Nodes; each is joined to the next, the last to the first, by a link and a channel.
pub const NODES: usize = 5;

/// What goes into each channel, in sat; half of it is the other's from the start.
pub const CHANNEL_SATS: u64 = 3_000_000;

/// Coins each node is given, each of this many sat: for its channel, for those that replace closed ones, and for fees.
const COINS: u64 = 6;
const COIN_SATS: u64 = CHANNEL_SATS + 500_000;

/// What everybody charges per unit, in msat: a share of a purchase is then large enough to be worth its fee on-chain
/// when a channel is closed under it.
const MSAT_PER_UNIT: u64 = 4_000;

/// What one packet of the traffic costs at a node at the most, in msat.
const PACKET_MSAT: i64 = 4_000 * 256 * 4;

/// Pseudo-random numbers (splitmix64, Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Plays the whole of it.
pub async fn run(sessions: usize, seed: u64) {
    let Some(bitcoind) = Bitcoind::start().await else {
        return;
    };
    println!("MESH_SEED={seed}, {sessions} sessions");
    let begun = Instant::now();
    let mut nodes = town(&bitcoind).await;
    println!(
        "{:>5.0} s: five nodes, five channels",
        begun.elapsed().as_secs_f32()
    );
    let coins = Coins::count(&bitcoind, &nodes).await;

    let traffic = Traffic::start(&nodes, sessions, seed);
    let mut killer = Killer::new(seed);
    killer.run(&bitcoind, &mut nodes, &traffic).await;
    let sent = traffic.finish().await;
    println!("{:>5.0} s: {sent}, {killer}", begun.elapsed().as_secs_f32());
    assert!(sent.sessions >= sessions, "traffic stood still");
    assert!(killer.kills > 0, "nobody was killed");

    chain::settle(&bitcoind, &nodes).await;
    println!(
        "{:>5.0} s: no payment is under way",
        begun.elapsed().as_secs_f32()
    );
    payments_arrived(&nodes).await;
    books::audit_each(&nodes).await;
    let books = Books::read(&nodes).await;
    books.check_payments(&nodes).await;
    books.check_shares();
    books.check_credit(&killer.deaths, sent.failures as i64 * PACKET_MSAT);
    chain::close_all(&bitcoind, &nodes).await;
    coins.check(&bitcoind, &nodes).await;
    for node in &mut nodes {
        node.stop().await;
    }
    println!("{:>5.0} s in all", begun.elapsed().as_secs_f32());
}

/// Everybody up, linked, funded and joined by channels.
async fn town(bitcoind: &Bitcoind) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..NODES as u8).map(Node::new).collect();
    for number in 0..NODES {
        let next = &nodes[(number + 1) % NODES];
        nodes[number].configure(bitcoind, &[next], MSAT_PER_UNIT);
    }
    for node in &mut nodes {
        node.start().await;
        for _ in 0..COINS {
            node.fund(bitcoind, COIN_SATS).await;
        }
        // The miner spends his change again and again, and a chain of unconfirmed ones ends soon.
        bitcoind.mine(1).await;
    }
    for node in &nodes {
        node.wait_for_coins(COINS * COIN_SATS).await;
    }
    for number in 0..NODES {
        let next = &nodes[(number + 1) % NODES];
        nodes[number]
            .open_channel(next, CHANNEL_SATS, CHANNEL_SATS * 500)
            .await;
    }
    confirm_channels(bitcoind, NODES).await;
    for node in &nodes {
        node.wait_for_channels(2).await;
        node.home.wait_for_peers(2).await;
    }
    nodes
}

/// What left the wallets of payers is in the wallets of payees, msat for msat; on top of it went Lightning fees.
async fn payments_arrived(nodes: &[Node]) {
    let (mut paid, mut received, mut fees) = (0, 0, 0);
    for node in nodes {
        let payments = node.balance().await.payments.unwrap();
        assert_eq!(payments.pending_msat, 0, "{}", node.name);
        paid += payments.paid_msat;
        received += payments.received_msat;
        fees += payments.fees_msat;
    }
    println!("paid {paid} msat, received {received} msat, Lightning fees {fees} msat");
    assert!(paid > 0);
    assert_eq!(paid, received, "msat that left a wallet are in another one");
}

/// Waits until all mesh links are up.
pub async fn all_linked(nodes: &[Node]) {
    for node in nodes {
        until(&format!("the links of {}", node.name), async || {
            node.status().await.peers == 2
        })
        .await;
    }
}
