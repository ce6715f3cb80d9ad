//! A node that paid ten thousand entities lately.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use mesh_core::entropy::Entropy;
use mesh_core::fairness::entities::{Entities, Tie};
use mesh_core::fairness::policy::FairnessPolicy;
use mesh_core::fairness::{Carried, Fairness, Surcharges};
use mesh_core::identity::NodeId;
use mesh_core::time::UnixMillis;

use crate::topology::id;

/// Entities that were paid; every eighth has three nodes.
const ENTITIES: usize = 10_000;

/// Entities that have so much that avoiding them is worth something, and the nodes of each.
const HEAVY: usize = 6;
const NODES_OF_HEAVY: usize = 200;

/// Ways to a destination and routers on each: what is usual, and the most there can be.
pub(crate) const USUAL: (usize, usize) = (4, 2);
pub(crate) const MOST: (usize, usize) = (16, 9);

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

pub(crate) struct Payer {
    fairness: Fairness,
    surcharges: Surcharges,
    paths: Vec<(u64, Vec<NodeId>)>,
    nodes: usize,
    entropy: Entropy,
    now: UnixMillis,
}

impl Payer {
    pub(crate) fn new() -> Self {
        let mut payer = Self {
            fairness: Fairness::new(FairnessPolicy::default(), None),
            surcharges: Surcharges::default(),
            paths: Vec::new(),
            nodes: 0,
            entropy: Entropy::new([7; 32]),
            now: NOW,
        };
        for entity in 0..ENTITIES {
            let nodes = match entity {
                entity if entity < HEAVY => NODES_OF_HEAVY,
                entity if entity % 8 == 0 => 3,
                _ => 1,
            };
            for _ in 0..nodes {
                payer.join(entity, if entity < HEAVY { 1_000_000 } else { 10_000 });
            }
        }
        payer.look();
        assert!(payer.surcharges.by_node.len() >= HEAVY * NODES_OF_HEAVY);
        payer.paths = (0..4)
            .map(|way| (5_000 + way, (0..5).map(|_| payer.any()).collect()))
            .collect();
        payer
    }

    /// One more node of an entity, and what it was paid.
    fn join(&mut self, entity: usize, msat: u64) {
        let node = id(self.nodes);
        self.nodes += 1;
        self.fairness.tie(node, Tie::Operator(id(1_000_000 + entity)));
        let network = (entity % 2_000) as u32;
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + (network << 16) + self.nodes as u32 % 65_536);
        self.fairness.place(node, address.into());
        let carried = Carried {
            earned: &[(node, msat)],
            units: msat / 10,
            // One of a thousand ways, so that little of it is unavoidable.
            ways: &[vec![node], vec![self.any()], vec![self.any()], vec![self.any()]],
        };
        self.fairness.note_carried(&carried, self.now);
    }

    fn any(&mut self) -> NodeId {
        id((self.entropy.u64() % self.nodes.max(1) as u64) as usize)
    }

    fn look(&mut self) {
        self.fairness.sweep(self.now);
        self.surcharges = self.fairness.surcharges(self.now);
    }
}

/// What is counted when instructions are.
pub(crate) mod counted {
    use super::{Carried, NodeId, Payer};
    use mesh_core::fairness::Shares;

    /// Four paths in the order in which they would be used.
    #[inline(never)]
    pub(crate) fn rank(payer: &Payer) -> Vec<(bool, u64, usize)> {
        let surcharges = &payer.surcharges;
        let rank = |(place, (fee_msat, path)): (usize, &(u64, Vec<NodeId>))| {
            let routers = &path[1..path.len() - 1];
            let worth = |router| surcharges.by_node.get(router).copied().unwrap_or(0);
            let sum = routers.iter().map(worth).fold(*fee_msat, u64::saturating_add);
            let excluded = routers.iter().any(|router| surcharges.excluded.contains(router));
            (excluded, sum, place)
        };
        let mut ranked: Vec<_> = payer.paths.iter().enumerate().map(rank).collect();
        ranked.sort_unstable();
        ranked
    }

    /// What is done once a minute.
    #[inline(never)]
    pub(crate) fn look(payer: &mut Payer) {
        payer.look();
    }

    /// What a person is shown.
    #[inline(never)]
    pub(crate) fn shares(payer: &Payer) -> Shares {
        payer.fairness.shares(payer.now)
    }

    /// A receipt over a path of two routers, where there are so many ways of so many routers.
    #[inline(never)]
    pub(crate) fn carried(payer: &mut Payer, (ways, routers): (usize, usize)) {
        let ways: Vec<Vec<NodeId>> = (0..ways)
            .map(|_| (0..routers).map(|_| payer.any()).collect())
            .collect();
        note(payer, &ways);
    }

    pub(super) fn note(payer: &mut Payer, ways: &[Vec<NodeId>]) {
        let earned = [(ways[0][0], 2_000), (ways[0][1], 3_000)];
        let carried = Carried {
            earned: &earned,
            units: 256,
            ways,
        };
        payer.fairness.note_carried(&carried, payer.now);
    }
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut payer = Payer::new();
    criterion.bench_function("rank 4 paths", |bencher| bencher.iter(|| counted::rank(&payer)));
    criterion.bench_function("look at shares", |bencher| {
        bencher.iter(|| counted::look(&mut payer))
    });
    criterion.bench_function("all shares", |bencher| bencher.iter(|| counted::shares(&payer)));
    for (name, (ways, routers)) in [("receipt, 4 ways of 2", USUAL), ("receipt, 16 ways of 9", MOST)] {
        criterion.bench_function(name, |bencher| {
            let ways = |payer: &mut Payer| -> Vec<Vec<NodeId>> {
                (0..ways)
                    .map(|_| (0..routers).map(|_| payer.any()).collect())
                    .collect()
            };
            let some: Vec<_> = (0..64).map(|_| ways(&mut payer)).collect();
            let mut some = some.iter().cycle();
            bencher.iter(|| counted::note(&mut payer, some.next().expect("it never ends")));
        });
    }
    ties(criterion);
}

/// Ten thousand nodes tied, pairs first, then pairs of pairs, until all are one.
fn ties(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tie");
    group.throughput(Throughput::Elements(ENTITIES as u64));
    let ties: Vec<(NodeId, Tie)> = (0..ENTITIES)
        .map(|n| {
            let (round, node) = (n % 8, n / 8 % 1_250);
            (
                id(node),
                Tie::Operator(id(1_000_000 + round * 10_000 + (node >> round))),
            )
        })
        .collect();
    group.bench_function("10,000 ties of 1,250 nodes", |bencher| {
        bencher.iter_batched(
            Entities::default,
            |mut entities| {
                for (node, tie) in &ties {
                    black_box(entities.tie(*node, *tie));
                }
                entities
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("10,000 nodes of their own", |bencher| {
        let nodes: Vec<NodeId> = (0..ENTITIES).map(id).collect();
        bencher.iter_batched(
            Entities::default,
            |mut entities| {
                for node in &nodes {
                    black_box(entities.tie(*node, Tie::Operator(*node)));
                }
                entities
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}
