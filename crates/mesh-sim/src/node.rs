//! One simulated node: a core, a disk, and notes of what it did.

use std::collections::BTreeMap;

use bytes::Bytes;
use mesh_core::core::{Announcing, Core};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Delivery, Event, LinkId, Record};
use mesh_core::identity::NodeId;
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::SpendingCaps;
use mesh_core::time::UnixMillis;

/// Names a node within its simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// What a node is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSpec {
    /// What it carries.
    pub mode: MeshMode,
    /// What it charges per unit, in msat.
    pub price_msat: u64,
    /// Free bytes each neighbour may send per second.
    pub free_bytes_per_second: u64,
    /// Whether it has a wallet.
    pub payable: bool,
    /// What its wallet holds, in msat.
    pub balance_msat: u64,
    /// Whether it announces itself; one that does not is found by flooding only.
    pub announces: bool,
    /// What it may pay by itself for callers; nothing unless a test says so.
    pub spending: SpendingCaps,
}

impl NodeSpec {
    /// A node that carries for pay, with a full wallet.
    pub fn paid(price_msat: u64) -> Self {
        Self {
            mode: MeshMode::PaymentGated,
            price_msat,
            free_bytes_per_second: 1_000_000,
            payable: true,
            balance_msat: 1_000_000_000,
            announces: true,
            spending: SpendingCaps::default(),
        }
    }

    /// A node that carries for pay and announces itself to nobody.
    pub fn unannounced(price_msat: u64) -> Self {
        Self {
            announces: false,
            ..Self::paid(price_msat)
        }
    }

    /// A node without a price in this mode.
    pub fn free(mode: MeshMode) -> Self {
        Self {
            mode,
            ..Self::paid(0)
        }
    }
}

/// When a node is killed while it obeys the outputs of one input that has something to write down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// What stood before the first record was seen by others, the records are lost.
    BeforeWriting,
    /// The records are durable, what stood behind the first of them was seen by nobody.
    AfterWriting,
}

/// Something that a node refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: DropReason,
    /// Whose it was; none for commands, or when the link is gone.
    pub from: Option<NodeIndex>,
}

/// Chooses the record at which a node is killed.
pub(crate) type CrashWhen = Box<dyn Fn(&Record) -> bool>;

pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    pub(crate) secret: [u8; 32],
    pub(crate) spec: NodeSpec,
    pub(crate) lightning_key: Option<[u8; 33]>,
    /// None while it is down, and always for a villain without a core.
    pub(crate) core: Option<Core>,
    pub(crate) is_villain: bool,
    /// Counts restarts: what was asked in an earlier life is not answered in this one.
    pub(crate) life: u64,
    /// How far its wall clock is ahead of everybody's, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) disk: Vec<Record>,
    /// Records that were on the disk when this life began.
    pub(crate) disk_at_start: usize,
    /// What is to be written soon; a kill loses it.
    pub(crate) soon: Vec<Record>,
    pub(crate) crash: Option<(CrashPoint, CrashWhen)>,
    pub(crate) wake: Option<(u64, u64)>,
    pub(crate) links: BTreeMap<NodeIndex, LinkId>,
    pub(crate) inbox: Vec<(NodeIndex, Bytes)>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) events: Vec<Event>,
    pub(crate) deliveries: Vec<Delivery>,
    /// What it says of itself; whether at all, its kind says.
    pub(crate) announcing: Announcing,
}

impl SimNode {
    pub(crate) fn is_up(&self) -> bool {
        self.core.is_some() || self.is_villain
    }
}
