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

pub mod asmap;
pub mod durable;
pub mod entities;
pub mod explain;
pub mod groups;
pub mod measures;
pub mod policy;
pub mod report;
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
use measures::{Measures, ppm};
use policy::{Caps, FairnessPolicy};
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

/// Who earned what, and what follows from it.
#[derive(Debug, Default)]
pub struct Fairness {
    policy: FairnessPolicy,
    asmap: Option<Asmap>,
    entities: Entities,
    /// Where each node is, and whether this node itself reached it there.
    groups: BTreeMap<NodeId, (NetworkGroup, bool)>,
    members: BTreeMap<NetworkGroup, BTreeSet<NodeId>>,
    paid: Weights,
    unavoidable: Weights,
    forced: Weights,
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
    }

    /// The operator's caps.
    pub fn policy(&self) -> &FairnessPolicy {
        &self.policy
    }

    /// A node shows what makes it one with others. Whether anything became one that was not.
    pub fn tie(&mut self, node: NodeId, tie: Tie) -> bool {
        self.entities.tie(node, tie)
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
            self.entities.tie(node, Tie::Address(block));
            self.put(node, address, true);
        }
    }

    fn put(&mut self, node: NodeId, address: IpAddr, reached: bool) {
        if !self.groups.contains_key(&node) && self.groups.len() >= MAX_GRAPH_NODES {
            return;
        }
        let group = NetworkGroup::of(address, self.asmap.as_ref());
        self.leave_group(&node);
        self.groups.insert(node, (group, reached));
        self.members.entry(group).or_default().insert(node);
    }

    /// A node is no longer part of the network. What it earned still counts.
    pub fn forget(&mut self, node: &NodeId) {
        self.entities.forget(node);
        self.leave_group(node);
    }

    /// Which nodes are one.
    pub fn entities(&self) -> &Entities {
        &self.entities
    }

    /// Whose a node is.
    pub fn entity_of(&self, node: &NodeId) -> Entity {
        self.entities.entity_of(node)
    }

    /// Whose network a node is in, if that is known.
    pub fn group_of(&self, node: &NodeId) -> Option<NetworkGroup> {
        self.groups.get(node).map(|(group, _)| *group)
    }

    /// Notes what was paid for and receipted.
    pub fn note_carried(&mut self, carried: &Carried<'_>, now: UnixMillis) {
        let mut all_msat = 0u64;
        for (router, msat) in carried.earned {
            let forgotten = self.paid.add(*router, *msat, carried.units, now);
            self.unwritten.extend(forgotten.into_iter().chain([*router]));
            all_msat = all_msat.saturating_add(*msat);
        }
        let all_units = carried.units.saturating_mul(carried.earned.len() as u64);
        let ways = carried.ways.len() as u64;
        for way in carried.ways {
            let parts = ways.saturating_mul(way.len() as u64).max(1);
            for router in way {
                let forgotten = self
                    .unavoidable
                    .add_part(*router, all_msat, all_units, parts, now);
                self.unwritten.extend(forgotten.into_iter().chain([*router]));
                if carried.ways.iter().all(|way| way.contains(router)) {
                    let forgotten = self.forced.add_part(*router, all_msat, all_units, parts, now);
                    self.unwritten.extend(forgotten);
                }
            }
        }
    }

    /// Forgets what has faded to nothing.
    pub fn sweep(&mut self, now: UnixMillis) {
        for weights in [&mut self.paid, &mut self.unavoidable, &mut self.forced] {
            self.unwritten.extend(weights.sweep(now));
        }
    }

    /// All shares.
    ///
    /// As long as less than [`FairnessPolicy::minimum_sample_msat`] was paid, what is missing counts as paid to nobody in
    /// particular: the first packets of a node must not make a monopolist of whoever carried them.
    pub fn shares(&self, now: UnixMillis) -> Shares {
        let total: u128 = self.paid.fees(now).map(|(_, fees)| u128::from(fees)).sum();
        let units: u128 = self.paid.units(now).map(|(_, units)| u128::from(units)).sum();
        let fees_sample = total.max(Weights::in_scale(self.policy.minimum_sample_msat));
        let units_sample = units.max(Weights::in_scale(MINIMUM_SAMPLE_UNITS));
        let entity = |node: &NodeId| Some(self.entity_of(node));
        let group = |node: &NodeId| self.group_of(node);
        Shares {
            by_fees: Measures::of(sums(self.paid.fees(now), entity).into_values()),
            by_units: Measures::of(sums(self.paid.units(now), entity).into_values()),
            entities: self.shares_of(|weights| sums(weights.fees(now), entity), fees_sample),
            groups: self.shares_of(|weights| sums(weights.fees(now), group), fees_sample),
            entities_by_units: self.shares_of(|weights| sums(weights.units(now), entity), units_sample),
            groups_by_units: self.shares_of(|weights| sums(weights.units(now), group), units_sample),
            usual_msat: usual_msat(total, units),
        }
    }

    /// Shares of what was paid, of what is unavoidable of it, and of what is forced, each summed up by whatever `sum` sums up.
    fn shares_of<K: Ord + Copy>(
        &self,
        sum: impl Fn(&Weights) -> BTreeMap<K, u64>,
        sample: u128,
    ) -> BTreeMap<K, Share> {
        shares(
            &sum(&self.paid),
            &sum(&self.unavoidable),
            &sum(&self.forced),
            sample,
        )
    }

    /// What follows from shares: nodes of an entity or group above its soft cap cost, above its hard cap they are left out.
    /// Who is in both, or in one for two reasons, costs the dearer. Shares of fees and of units count alike: by fees alone,
    /// whoever charges nothing could carry everything.
    pub fn surcharges(&self, shares: &Shares) -> Surcharges {
        let mut surcharges = Surcharges::default();
        let usual_msat = shares.usual_msat;
        for (entity, share) in shares.entities.iter().chain(&shares.entities_by_units) {
            let members = self.entities.members(&entity.0);
            self.charge(&mut surcharges, &self.policy.entity, *share, usual_msat, members);
        }
        for (group, share) in shares.groups.iter().chain(&shares.groups_by_units) {
            let members = self.members.get(group).into_iter().flatten().copied();
            self.charge(&mut surcharges, &self.policy.group, *share, usual_msat, members);
        }
        surcharges
    }

    fn charge(
        &self,
        surcharges: &mut Surcharges,
        caps: &Caps,
        share: Share,
        usual_msat: u64,
        members: impl IntoIterator<Item = NodeId>,
    ) {
        let price = self.policy.price_msat(caps, share, usual_msat);
        let excluded = caps.excludes(share);
        if price == 0 && !excluded {
            return;
        }
        for member in members {
            let dearest = surcharges.by_node.entry(member).or_default();
            *dearest = price.max(*dearest);
            if excluded {
                surcharges.excluded.insert(member);
            }
        }
    }

    fn leave_group(&mut self, node: &NodeId) {
        let Some((group, _)) = self.groups.remove(node) else {
            return;
        };
        if let Some(members) = self.members.get_mut(&group) {
            members.remove(node);
            if members.is_empty() {
                self.members.remove(&group);
            }
        }
    }
}

fn usual_msat(total: u128, units: u128) -> u64 {
    let msat = total
        .saturating_mul(u128::from(COMPARISON_UNITS))
        .checked_div(units);
    u64::try_from(msat.unwrap_or(0)).unwrap_or(u64::MAX)
}

fn sums<K: Ord>(
    weights: impl Iterator<Item = (NodeId, u64)>,
    key: impl Fn(&NodeId) -> Option<K>,
) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (node, weight) in weights {
        if let Some(key) = key(&node) {
            let sum: &mut u64 = sums.entry(key).or_default();
            *sum = sum.saturating_add(weight);
        }
    }
    sums
}

fn shares<K: Ord + Copy>(
    paid: &BTreeMap<K, u64>,
    unavoidable: &BTreeMap<K, u64>,
    forced: &BTreeMap<K, u64>,
    sample: u128,
) -> BTreeMap<K, Share> {
    let share = |(key, weight): (&K, &u64)| {
        let of = |weights: &BTreeMap<K, u64>| ppm(u128::from(weights.get(key).copied().unwrap_or(0)), sample);
        let share = Share {
            observed_ppm: ppm(u128::from(*weight), sample),
            unavoidable_ppm: of(unavoidable),
            forced_ppm: of(forced),
        };
        (*key, share)
    };
    paid.iter().map(share).collect()
}

#[cfg(test)]
mod tests;
