//! Kills daemons at random moments, starts them again, and opens the channels anew that a kill made the node close.

use std::fmt;
use std::time::Duration;

use super::{CHANNEL_SATS, NODES, Random};
use crate::chaos::traffic::Traffic;
use crate::common::bitcoind::Bitcoind;
use crate::common::lightning::{Node, confirm_channels};

/// Longest pause between a start and the next kill, and between a kill and the start.
const LIFE_MS: usize = 4_000;
const DEATH_MS: usize = 500;

pub struct Killer {
    random: Random,
    pub kills: usize,
    /// How often each node was killed.
    pub deaths: [usize; NODES],
    closed: usize,
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills -9 {:?}, {} channels closed by them",
            self.kills, self.deaths, self.closed
        )
    }
}

impl Killer {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(!seed),
            kills: 0,
            deaths: [0; NODES],
            closed: 0,
        }
    }

    /// Kills for as long as there is traffic.
    pub async fn run(&mut self, bitcoind: &Bitcoind, nodes: &mut [Node], traffic: &Traffic) {
        while traffic.goes_on() {
            self.pause(LIFE_MS).await;
            let victim = self.random.below(NODES);
            nodes[victim].kill().await;
            self.kills += 1;
            self.deaths[victim] += 1;
            self.pause(DEATH_MS).await;
            nodes[victim].start().await;
            self.repair(bitcoind, nodes).await;
            if self.kills.is_multiple_of(10) {
                println!("        {} kills, {} sessions", self.kills, traffic.so_far());
            }
        }
    }

    /// Chooses the next moment of a kill or a restart. Nothing is waited for here: a kill that followed an event would only
    /// ever hit the moments behind such events.
    async fn pause(&mut self, most_ms: usize) {
        let milliseconds = self.random.below(most_ms) as u64;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// What an operator does who finds a channel closed.
    async fn repair(&mut self, bitcoind: &Bitcoind, nodes: &[Node]) {
        let mut opened = 0;
        for number in 0..NODES {
            let (node, next) = (&nodes[number], &nodes[(number + 1) % NODES]);
            let peer = next.lightning_id().await;
            if node.channels().await.iter().any(|channel| channel.peer == peer) {
                continue;
            }
            if node.balance().await.on_chain.unwrap().spendable_sats < CHANNEL_SATS + 100_000 {
                continue;
            }
            self.closed += 1;
            opened += 1;
            node.open_channel(next, CHANNEL_SATS, CHANNEL_SATS * 500).await;
        }
        if opened > 0 {
            confirm_channels(bitcoind, opened).await;
        }
    }
}
