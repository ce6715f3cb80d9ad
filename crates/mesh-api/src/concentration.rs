//! Who carries what this node pays for, in full: `get_concentration`.
//!
//! [`Concentration`](crate::sessions::Concentration) in the network's state is a part of this. What is here came later, and
//! the layout of what was there before stays as it is.

use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, Item};
use crate::codec::{size, wire};
use crate::limits::MAX_LISTED_SHARES;
use crate::types::NodeId;

/// Asks how what this node paid in the last day was spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetConcentrationRequest {
    /// Most shares to list of entities, and again of network groups, 1 to 256; more counts as 256.
    pub max_shares: u32,
}

/// How the routing fees that this node paid, and holds receipts for, were spread in a window that fades over a day.
///
/// Shares are in parts per million. Nothing here is about traffic that this node merely carries for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetConcentrationResponse {
    /// How concentrated the fees are.
    pub by_fees: Spread,
    /// How concentrated the packets are, counted in units of one KiB begun.
    pub by_packets: Spread,
    /// What a router was usually paid for 10,000 units, in msat.
    pub usual_msat: u64,
    /// Fees below which what is missing counts as paid to nobody in particular, in msat.
    pub minimum_sample_msat: u64,
    /// What avoiding a share at its hard cap is worth, in percent of what is usual.
    pub worth_at_hard_cap_percent: u32,
    /// The caps of one entity.
    pub entity_caps: ShareCaps,
    /// The caps of one network group.
    pub group_caps: ShareCaps,
    /// The largest shares of entities, largest first, at most 256.
    #[serde(with = "AtMost::<MAX_LISTED_SHARES>")]
    pub entities: Vec<EntityShare>,
    /// The largest shares of network groups, largest first, at most 256. A node whose address nobody knows is in none.
    #[serde(with = "AtMost::<MAX_LISTED_SHARES>")]
    pub groups: Vec<GroupShare>,
}

/// How concentrated shares are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Entities that have anything.
    pub entities: u64,
    /// Share of the largest, 0 to 1,000,000.
    pub top1_ppm: u32,
    /// Share of the five largest together, 0 to 1,000,000.
    pub top5_ppm: u32,
    /// Herfindahl–Hirschman index, the sum of the squared shares, 0 to 1,000,000.
    pub hhi_ppm: u32,
    /// The fewest entities that together have more than a third; 0 if nobody has anything.
    pub nakamoto_33: u32,
    /// The fewest entities that together have more than half; 0 if nobody has anything.
    pub nakamoto_50: u32,
}

/// What a share may grow to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareCaps {
    /// From a tenth of this share, in parts per million, avoiding whoever has it is worth a little, above it more.
    pub soft_ppm: u32,
    /// Above this share, in parts per million, whoever has it is left out where there is an alternative.
    pub hard_ppm: u32,
}

/// One share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What it is of all fees, in parts per million.
    pub observed_ppm: u32,
    /// What it is of all packets, in parts per million: who charges less than others carries more than he earns.
    pub packets_ppm: u32,
    /// What it would be if all ways that have nobody in common were used alike, in parts per million.
    pub unavoidable_ppm: u32,
    /// What of that is where there is no way without him, in parts per million.
    pub forced_ppm: u32,
    /// What is not of the network's shape: observed less unavoidable, in parts per million.
    pub excess_ppm: u32,
    /// What routes over him are counted dearer by, for his share of fees or of packets, in msat for 10,000 units.
    pub surcharge_msat: u64,
    /// Whether he is left out where there is an alternative.
    pub left_out: bool,
}

/// The share of nodes that are one: by their operator's key or their Lightning node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityShare {
    /// The least id among its nodes names it.
    pub entity: NodeId,
    /// How many nodes of it are known.
    pub nodes: u32,
    /// Its share.
    pub share: Share,
}

/// The share of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupShare {
    /// Which network.
    pub group: NetworkGroup,
    /// How many nodes in it are known.
    pub nodes: u32,
    /// Its share.
    pub share: Share,
}

/// A network that can be switched off as a whole. The order is part of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkGroup {
    /// 0: an autonomous system, by the map that the operator supplied.
    Asn(u32),
    /// 1: the first two bytes of an IPv4 address.
    V4([u8; 2]),
    /// 2: the first four bytes of an IPv6 address.
    V6([u8; 4]),
}

impl Item for EntityShare {}
impl Item for GroupShare {}

const SPREAD_BYTES: usize = size::U64 + 5 * size::U32;
const CAPS_BYTES: usize = 2 * size::U32;
const SHARE_BYTES: usize = 5 * size::U32 + size::U64 + size::BOOL;
const ENTITY_SHARE_BYTES: usize = size::ID32 + size::U32 + SHARE_BYTES;
// Four bytes are the most that a group's name has.
const GROUP_SHARE_BYTES: usize = size::VARIANT + size::U32 + size::U32 + SHARE_BYTES;

wire!(GetConcentrationRequest, size::U32);
wire!(
    GetConcentrationResponse,
    2 * SPREAD_BYTES
        + 2 * size::U64
        + size::U32
        + 2 * CAPS_BYTES
        + size::list(MAX_LISTED_SHARES, ENTITY_SHARE_BYTES)
        + size::list(MAX_LISTED_SHARES, GROUP_SHARE_BYTES)
);
