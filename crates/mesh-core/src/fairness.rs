//! Nobody owns the mesh: who earned how much of what this node paid, and what it would pay to spread it.
//!
//! **What counts.** Only fees that this node itself paid, for packets that the destination signed receipts for. What it
//! carries for others is shown to the operator and never acted upon: a rival could send himself packets through this
//! node and his victim, and have the victim avoided for the price of a few sats.
//!
//! **Whose.** Shares are those of [entities], and coarser those of [network groups](groups): a node alone is
//! cheap to have many of.
//!
//! **Nobody's fault.** Most real monopolies are of the network's shape. Where two ends have `k` ways that share no entity,
//! each entity on them is *unavoidable* to 1/k; at a cut, where there is no way without it, it is *forced*.
//!
//! **What for.** What of a share is not forced has a price, which routes are compared with: a small one up to a soft cap, a
//! steep one above; who has more than a hard cap, and more than twice the unavoidable, is left out where there is an
//! alternative ([`policy`]). So a node with two providers never excludes either. Shares of fees and of units count alike:
//! who charges nothing earns nothing, and could else carry everything. Nobody else is told, and no metric contains it.
//!
//! **What it costs.** Sums are kept, not made: a receipt adds to those of the few it concerns (`tally.rs`), and what
//! follows from them is looked at without going through all nodes closely (`view.rs`).

pub mod asmap;
pub mod durable;
pub mod entities;
pub mod explain;
pub mod groups;
pub mod measures;
mod parts;
pub mod policy;
pub mod report;
mod tally;
mod view;
pub mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::identity::NodeId;
use crate::limits::MAX_GRAPH_NODES;
use crate::routing::COMPARISON_UNITS;
use crate::time::UnixMillis;

use asmap::Asmap;
use entities::{AddressBlock, Entities, Entity, Tie};
use groups::NetworkGroup;
use measures::Measures;
use parts::Parts;
use policy::FairnessPolicy;
use tally::{Owners, Tally};
use weights::Weights;

/// Units carried in the window below which shares of them say little, times routers: about 100 MiB over one. What is
/// missing counts as if it had been spread evenly, as with [`FairnessPolicy::minimum_sample_msat`].
const MINIMUM_SAMPLE_UNITS: u64 = 10 * COMPARISON_UNITS;

/// Units that this node paid for and that were receipted.
#[derive(Debug, Clone, Copy)]
pub struct Carried<'a> {
    /// What each router was paid for them, in msat.
    pub earned: &'a [(NodeId, u64)],
    /// How many units.
    pub units: u64,
    /// The routers of the ways between the two ends that have nobody in common but whom no way can do without
    /// ([`NetworkGraph::ways`](crate::routing::NetworkGraph::ways)). The route used need not be among them.
    pub ways: &'a [Vec<NodeId>],
}

/// One share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// What it is of all, in parts per million.
    pub observed_ppm: u32,
    /// What would be his if all ways that have nobody in common were used alike, in parts per million.
    pub unavoidable_ppm: u32,
    /// What of that is at cuts: there is no way without him. In parts per million.
    pub forced_ppm: u32,
}

impl Share {
    /// What is not of the network's shape.
    pub fn excess_ppm(&self) -> u32 {
        self.observed_ppm.saturating_sub(self.unavoidable_ppm)
    }
}

/// All shares at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shares {
    /// By entity, of fees.
    pub entities: BTreeMap<Entity, Share>,
    /// By network group, of fees; of nodes whose group is known.
    pub groups: BTreeMap<NetworkGroup, Share>,
    /// By entity, of units: who charges less than others carries more than he earns.
    pub entities_by_units: BTreeMap<Entity, Share>,
    /// By network group, of units.
    pub groups_by_units: BTreeMap<NetworkGroup, Share>,
    /// How concentrated fees are, by entity.
    pub by_fees: Measures,
    /// How concentrated units are, by entity.
    pub by_units: Measures,
    /// What a router was usually paid for [`COMPARISON_UNITS`], in msat.
    pub usual_msat: u64,
}

/// What follows from shares for the choice of routes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surcharges {
    /// What one would pay to avoid each router, in msat for [`COMPARISON_UNITS`]; routers that are not here, nothing.
    pub by_node: BTreeMap<NodeId, u64>,
    /// Routers above a hard cap: left out where there is an alternative.
    pub excluded: BTreeSet<NodeId>,
}

type Places = BTreeMap<NodeId, (NetworkGroup, bool)>;

/// Who earned what, and what follows from it.
#[derive(Debug, Default)]
pub struct Fairness {
    policy: FairnessPolicy,
    asmap: Option<Asmap>,
    entities: Entities,
    /// Where each node is, or was when it left with something that still counts; and whether this node itself reached it
    /// there.
    groups: Places,
    /// Who is in each group; not who left.
    members: BTreeMap<NetworkGroup, BTreeSet<NodeId>>,
    paid: Tally,
    unavoidable: Tally,
    forced: Tally,
    /// Whose weights changed since they were written down.
    unwritten: BTreeSet<NodeId>,
}

impl Fairness {
    /// Nothing known yet.
    pub fn new(policy: FairnessPolicy, asmap: Option<Asmap>) -> Self {
        Self {
            policy,
            asmap,
            ..Self::default()
        }
    }

    /// Takes other caps and another map of networks. Who earned what stays; where nodes are has to be told anew.
    pub fn set_policy(&mut self, policy: FairnessPolicy, asmap: Option<Asmap>) {
        self.policy = policy;
        self.asmap = asmap;
        self.groups.clear();
        self.members.clear();
        self.recount();
    }

    /// The operator's caps.
    pub fn policy(&self) -> &FairnessPolicy {
        &self.policy
    }

    /// A node shows what makes it one with others. Whether anything became one that was not.
    pub fn tie(&mut self, node: NodeId, tie: Tie) -> bool {
        let before = self.owners(&node);
        let union = self.entities.tie(node, tie);
        let after = self.owners(&node);
        for tally in self.tallies() {
            if before.tree.is_none() {
                tally.move_node(&node, before, after);
            }
            if let Some(union) = union {
                tally.unite(union.gone, union.stays);
            }
        }
        union.is_some()
    }

    /// Who signed for a node, if it shows anybody. Who shows nobody may be the operator's own node, whose id is the key that
    /// others show: as an entity apart from them it would have a cap of its own.
    pub fn owned_by(&mut self, node: NodeId, operator: Option<NodeId>) -> bool {
        self.tie(node, Tie::Operator(operator.unwrap_or(node)))
    }

    /// Where a node says that it is; the last place counts, unless it was reached elsewhere.
    pub fn place(&mut self, node: NodeId, address: IpAddr) {
        if self.groups.get(&node).is_none_or(|(_, reached)| !reached) {
            self.put(node, address, false);
        }
    }

    /// A node was reached at an address, which makes it one with all others that were. Nothing follows from addresses that
    /// many have at once.
    pub fn reached_at(&mut self, node: NodeId, address: IpAddr) {
        if let Some(block) = AddressBlock::of(address) {
            self.tie(node, Tie::Address(block));
            self.put(node, address, true);
        }
    }

    fn put(&mut self, node: NodeId, address: IpAddr, reached: bool) {
        if !self.groups.contains_key(&node) && self.groups.len() >= MAX_GRAPH_NODES {
            return;
        }
        let group = NetworkGroup::of(address, self.asmap.as_ref());
        let before = self.owners(&node);
        self.leave_group(&node);
        self.groups.insert(node, (group, reached));
        self.members.entry(group).or_default().insert(node);
        self.moved(&node, before);
    }

    /// A node is no longer part of the network. What it earned still counts, to whom it belonged: else whoever has too
    /// much would go on under another id.
    pub fn forget(&mut self, node: &NodeId) {
        let paid = self.paid.weights();
        let counts = |node: &NodeId| !paid.of(node).is_nothing();
        let still_counts = counts(node);
        if self.entities.forget(node, counts) {
            let entities = &self.entities;
            for tally in [&mut self.paid, &mut self.unavoidable, &mut self.forced] {
                tally.regrow(entities.trees());
            }
        }
        self.leave_group(node);
        if !still_counts {
            let before = self.owners(node);
            self.groups.remove(node);
            self.moved(node, before);
        }
    }

    /// Which nodes are one.
    pub fn entities(&self) -> &Entities {
        &self.entities
    }

    /// Whose a node is.
    pub fn entity_of(&self, node: &NodeId) -> Entity {
        self.entities.entity_of(node)
    }

    /// Whose network a node is in, or was when it left, if that is known.
    pub fn group_of(&self, node: &NodeId) -> Option<NetworkGroup> {
        self.groups.get(node).map(|(group, _)| *group)
    }

    /// Notes what was paid for and receipted.
    pub fn note_carried(&mut self, carried: &Carried<'_>, now: UnixMillis) {
        self.sweep(now);
        let owners = owners(&self.entities, &self.groups);
        let unwritten = &mut self.unwritten;
        let mut add = |tally: &mut Tally, router, weight| {
            unwritten.insert(router);
            unwritten.extend(tally.add(router, weight, now, &owners));
        };
        let units = Weights::in_scale(carried.units);
        for (router, msat) in carried.earned {
            add(&mut self.paid, *router, (Weights::in_scale(*msat), units));
        }
        let (fees, units) = Parts::of(carried, &self.entities);
        for (tally, fees, units) in [
            (&mut self.unavoidable, fees.unavoidable, units.unavoidable),
            (&mut self.forced, fees.forced, units.forced),
        ] {
            for (router, weight) in together(&fees, &units) {
                add(tally, router, weight);
            }
        }
    }

    /// Forgets what has faded to nothing, now and then.
    pub fn sweep(&mut self, now: UnixMillis) {
        let mut was_swept = false;
        for tally in [&mut self.paid, &mut self.unavoidable, &mut self.forced] {
            let forgotten = tally.advance(now);
            was_swept |= forgotten.is_some();
            self.unwritten.extend(forgotten.into_iter().flatten());
        }
        if was_swept {
            let (paid, members) = (self.paid.weights(), &self.members);
            self.groups.retain(|node, (group, _)| {
                let is_there = members.get(group).is_some_and(|members| members.contains(node));
                is_there || !paid.of(node).is_nothing()
            });
            self.recount();
        }
    }

    fn recount(&mut self) {
        let owners = owners(&self.entities, &self.groups);
        for tally in [&mut self.paid, &mut self.unavoidable, &mut self.forced] {
            tally.recount(&owners);
        }
    }

    fn owners(&self, node: &NodeId) -> Owners {
        owners(&self.entities, &self.groups)(node)
    }

    fn tallies(&mut self) -> [&mut Tally; 3] {
        [&mut self.paid, &mut self.unavoidable, &mut self.forced]
    }

    /// What a node has belongs to others than before.
    fn moved(&mut self, node: &NodeId, before: Owners) {
        let after = self.owners(node);
        for tally in self.tallies() {
            tally.move_node(node, before, after);
        }
    }

    fn leave_group(&mut self, node: &NodeId) {
        let Some((group, _)) = self.groups.get(node) else {
            return;
        };
        if let Some(members) = self.members.get_mut(group) {
            members.remove(node);
            if members.is_empty() {
                self.members.remove(group);
            }
        }
    }
}

/// Who a node's weight belongs to.
fn owners(entities: &Entities, groups: &Places) -> impl Fn(&NodeId) -> Owners {
    |node| Owners {
        tree: entities.tree_of(node),
        group: groups.get(node).map(|(group, _)| *group),
    }
}

/// Fees and units of each router: both are of the routers of the same ways.
fn together(fees: &BTreeMap<NodeId, u128>, units: &BTreeMap<NodeId, u128>) -> BTreeMap<NodeId, (u128, u128)> {
    let mut both: BTreeMap<NodeId, (u128, u128)> = BTreeMap::new();
    for (router, fees) in fees {
        both.entry(*router).or_default().0 = *fees;
    }
    for (router, units) in units {
        both.entry(*router).or_default().1 = *units;
    }
    both
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
