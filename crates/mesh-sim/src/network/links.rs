//! The links of a network: who is on either side, how long a frame takes, and what befalls it.
//!
//! A link is one edge of the topology and two directions with delays of their own. It behaves like a connection over TCP:
//! frames arrive in the order they were sent, also when some are late, unless [`Faults::reorder_ppm`] says otherwise. When
//! it breaks, what is under way on it is lost.

use std::ops::RangeInclusive;

use mesh_core::event::LinkId;
use serde::Deserialize;

use super::topology::Topology;
use crate::random::Random;

/// After a lost segment a connection waits this long, and its round trip, before it sends it again (RFC 6298 section 2.4
/// recommends a second; common systems use a fifth).
const RETRANSMISSION_US: u64 = 200_000;

/// A frame held back to be overtaken is late by this or up to twice this.
const HELD_BACK_US: u64 = 120_000;

/// Light in glass or air needs about 5 µs for a kilometre.
const METRES_PER_US: u64 = 200;

/// What links do to frames. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Each frame is late by up to this, in microseconds.
    pub jitter_us: u64,
    /// How many in a million frames vanish: more than a connection ever does while it lives.
    pub loss_ppm: u32,
    /// How many in a million frames are lost below the connection, which sends them again: they and all behind them
    /// are late.
    pub stall_ppm: u32,
    /// How many in a million frames are overtaken by later ones.
    pub reorder_ppm: u32,
    /// How many in a million frames arrive twice.
    pub duplicate_ppm: u32,
}

/// How long frames take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// Each direction takes that long, by seed, in microseconds.
    pub range_us: RangeInclusive<u64>,
    /// Where the topology knows how far apart two nodes are, light's time over that distance is added to the least of
    /// the range instead.
    pub by_distance: bool,
}

impl Default for Latency {
    /// 2 to 50 ms: from the next house to across an ocean.
    fn default() -> Self {
        Self {
            range_us: 2_000..=50_000,
            by_distance: false,
        }
    }
}

pub(crate) struct Link {
    pub(crate) ends: [u32; 2],
    /// Counts how often it came up: what was sent over an earlier connection does not arrive on this one.
    pub(crate) generation: u32,
    pub(crate) up: bool,
    /// Held down until it is mended.
    pub(crate) cut: bool,
    latency_us: [u64; 2],
    last_arrival: [u64; 2],
}

/// A direction of a link: which link, and from which of its two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction(u32);

impl Direction {
    pub(crate) fn new(link: u32, side: usize) -> Self {
        Self(link << 1 | side as u32)
    }

    pub(crate) fn link(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn side(self) -> usize {
        (self.0 & 1) as usize
    }
}

/// All links, and each node's own.
pub(crate) struct Links {
    pub(crate) all: Vec<Link>,
    /// Each node's neighbours with the link to each, by the neighbour's number.
    pub(crate) of_node: Vec<Vec<(u32, u32)>>,
    pub(crate) faults: Faults,
    /// Grows whenever a link comes or goes.
    pub(crate) version: u64,
    random: Random,
}

impl Links {
    pub(crate) fn new(topology: &Topology, latency: &Latency, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x11_4c5);
        let mut of_node = vec![Vec::new(); topology.nodes];
        let mut all = Vec::with_capacity(topology.edges.len());
        for edge in &topology.edges {
            let link = all.len() as u32;
            of_node[edge.a as usize].push((edge.b, link));
            of_node[edge.b as usize].push((edge.a, link));
            let mut draw = || latency.draw(edge.metres, &mut random);
            all.push(Link {
                ends: [edge.a, edge.b],
                generation: 0,
                up: false,
                cut: false,
                latency_us: [draw(), draw()],
                last_arrival: [0; 2],
            });
        }
        for neighbours in &mut of_node {
            neighbours.sort_unstable();
        }
        Self {
            all,
            of_node,
            faults: Faults::default(),
            version: 0,
            random,
        }
    }

    pub(crate) fn between(&self, a: usize, b: usize) -> Option<u32> {
        let neighbours = &self.of_node[a];
        let place = neighbours.binary_search_by_key(&(b as u32), |(peer, _)| *peer);
        place.ok().map(|place| neighbours[place].1)
    }

    /// The node that sends in this direction, and the one that receives.
    pub(crate) fn ends(&self, direction: Direction) -> (usize, usize) {
        let ends = self.all[direction.link()].ends;
        (
            ends[direction.side()] as usize,
            ends[1 - direction.side()] as usize,
        )
    }

    /// The link that a core knows by this name, seen from the node `from`; none when it is no longer that one.
    pub(crate) fn direction(&self, id: LinkId, from: usize) -> Option<Direction> {
        let link = (id.0 & u64::from(u32::MAX)) as u32;
        let state = self.all.get(link as usize)?;
        let current = state.up && u64::from(state.generation) == id.0 >> 32;
        let side = state.ends.iter().position(|end| *end as usize == from)?;
        current.then(|| Direction::new(link, side))
    }

    /// The name under which both cores know the link since it last came up.
    pub(crate) fn id(&self, link: usize) -> LinkId {
        LinkId(u64::from(self.all[link].generation) << 32 | link as u64)
    }

    /// When a frame sent now arrives; none when it is lost.
    pub(crate) fn arrival(&mut self, direction: Direction, now: u64) -> Option<u64> {
        let faults = self.faults;
        let link = &mut self.all[direction.link()];
        let latency = link.latency_us[direction.side()];
        let last = &mut link.last_arrival[direction.side()];
        let mut at = now + latency;
        if faults != Faults::default() {
            if self.random.chance(faults.loss_ppm) {
                return None;
            }
            at += self.random.below(faults.jitter_us + 1);
            if self.random.chance(faults.stall_ppm) {
                at += RETRANSMISSION_US + 2 * latency;
            }
            if self.random.chance(faults.reorder_ppm) {
                return Some(at.max(*last) + HELD_BACK_US + self.random.below(HELD_BACK_US));
            }
        }
        *last = at.max(*last);
        Some(*last)
    }

    /// How much later a frame arrives once more, if it does.
    pub(crate) fn repeated_after(&mut self) -> Option<u64> {
        let ppm = self.faults.duplicate_ppm;
        (ppm > 0 && self.random.chance(ppm)).then(|| self.random.below(HELD_BACK_US))
    }

    #[cfg(test)]
    fn latencies(&self, link: usize) -> [u64; 2] {
        self.all[link].latency_us
    }
}

impl Latency {
    fn draw(&self, metres: Option<u32>, random: &mut Random) -> u64 {
        let (least, most) = (*self.range_us.start(), *self.range_us.end());
        let latency = match metres.filter(|_| self.by_distance) {
            Some(metres) => least + u64::from(metres) / METRES_PER_US,
            None => least + random.below(most.saturating_sub(least) + 1),
        };
        // A frame that took no time could arrive before its link is up on the other side.
        latency.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Generator;

    fn two(faults: Faults) -> Links {
        let topology = Generator::Line { nodes: 2 }.make().unwrap();
        let mut links = Links::new(&topology, &Latency::default(), 1);
        links.faults = faults;
        links
    }

    #[test]
    fn late_frames_still_arrive_in_their_order() {
        let mut links = two(Faults {
            jitter_us: 40_000,
            stall_ppm: 100_000,
            ..Faults::default()
        });
        let there = Direction::new(0, 0);
        let arrivals: Vec<_> = (0..1000).map(|now| links.arrival(there, now).unwrap()).collect();
        assert!(arrivals.is_sorted());
        assert!(arrivals[999] > 200_000, "some were sent again");
    }

    #[test]
    fn some_frames_are_lost_and_some_overtaken_as_often_as_they_should() {
        let mut links = two(Faults {
            loss_ppm: 100_000,
            reorder_ppm: 100_000,
            ..Faults::default()
        });
        let there = Direction::new(0, 0);
        let arrivals: Vec<_> = (0..10_000)
            .filter_map(|now| links.arrival(there, now * 100))
            .collect();
        assert!((8_800..9_200).contains(&arrivals.len()));
        let overtaken = arrivals.windows(2).filter(|pair| pair[1] < pair[0]);
        assert!((600..1000).contains(&overtaken.count()));
    }

    #[test]
    fn distance_decides_where_it_is_known() {
        let text = "# columns=u v km\n0 1 100\n";
        let topology = Topology::parse(text, "t").unwrap();
        let latency = Latency {
            range_us: 1000..=9000,
            by_distance: true,
        };
        let links = Links::new(&topology, &latency, 1);
        assert_eq!(links.latencies(0), [1500; 2]);
    }
}
