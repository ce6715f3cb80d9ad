//! Paid on the chain: what is honoured, what is refused and why, and what a reorganisation does.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

#[cfg(feature = "ctv")]
mod covenants;
mod honoured;
mod out_of_turn;
mod refused;
mod reorganised;

use std::time::Duration;

use mesh_core::chain::{ChainPolicy, DepthStep, PaymentMethod, TxOutput};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event, Funding, OpenedSession, QuotedSlice, Record, Refusal};
use mesh_core::identity::NodeId;
use mesh_core::ledger::{Entry, LedgerAccount};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{LinkSpec, NodeIndex, NodeSpec, Simulation};

pub(crate) const UNITS: u64 = 1000;

pub(crate) fn policy() -> ChainPolicy {
    let step = |up_to_sats, blocks| DepthStep { up_to_sats, blocks };
    ChainPolicy {
        steps: vec![step(50_000, 2), step(1_000_000, 4)],
        ctv_enforced_from: None,
        watch_every: Duration::from_secs(1),
    }
}

/// A payer, a router and a destination in a row, the payees paid on the chain too; and a second payer at the router.
pub(crate) struct Stage {
    pub(crate) sim: Simulation,
    pub(crate) payer: NodeIndex,
    pub(crate) router: NodeIndex,
    pub(crate) destination: NodeIndex,
    pub(crate) rival: NodeIndex,
}

impl Stage {
    pub(crate) fn new(policy: ChainPolicy) -> Self {
        let mut sim = Simulation::new(7);
        sim.chain_policy = Some(policy);
        let [payer, router, destination, rival] =
            [0, 3, 5, 0].map(|price| sim.add_node(NodeSpec::paid(price)));
        for (a, b) in [(payer, router), (router, destination), (rival, router)] {
            sim.connect(a, b, LinkSpec::default());
        }
        sim.run_for(Duration::from_millis(200));
        // So that no height is 0 and a block can be taken away.
        sim.chain.mine(10);
        Self {
            sim,
            payer,
            router,
            destination,
            rival,
        }
    }

    fn path_from(&self, payer: NodeIndex) -> Vec<NodeId> {
        [payer, self.router, self.destination]
            .map(|node| self.sim.id(node))
            .to_vec()
    }

    pub(crate) fn try_quote(
        &mut self,
        payer: NodeIndex,
        method: PaymentMethod,
        buying: Buying,
    ) -> Result<QuotedSlice, Box<Refusal>> {
        self.sim.discover(payer, self.destination)?;
        let path = self.path_from(payer);
        self.sim
            .quote_by(method, payer, &path, TrafficClass::Paid, UNITS, buying)
    }

    pub(crate) fn quote(&mut self) -> QuotedSlice {
        self.try_quote(self.payer, PaymentMethod::OnChain, Buying::Everywhere)
            .unwrap()
    }

    /// One transaction that pays everybody what he quoted.
    pub(crate) fn pay(&mut self, slice: &QuotedSlice) -> [u8; 32] {
        self.sim.chain.pay(outputs(slice))
    }

    pub(crate) fn open(
        &mut self,
        slice: &QuotedSlice,
        txid: [u8; 32],
    ) -> Result<OpenedSession, Box<Refusal>> {
        self.sim
            .open(self.payer, slice, Funding::Proofs(proofs(slice, txid)))
    }

    /// Opens with quotes that buy nothing, and shows what was paid for earlier ones.
    pub(crate) fn open_later(
        &mut self,
        payer: NodeIndex,
        paid: Vec<(NodeId, PaymentProof)>,
    ) -> Result<OpenedSession, Box<Refusal>> {
        let slice = self.try_quote(payer, PaymentMethod::Lightning, Buying::Nowhere)?;
        self.sim.open(payer, &slice, Funding::Proofs(paid))
    }

    /// The payer loses what it wrote down, and does not know any more what it redeemed: as a cheat would pretend.
    pub(crate) fn make_payer_forget(&mut self) {
        let payer = self.payer;
        self.sim.settle();
        self.sim.kill(payer);
        self.sim.lose_disk(payer);
        self.sim.restart(payer);
        self.sim.run_for(Duration::from_secs(1));
    }

    /// What payers hold at a payee.
    pub(crate) fn credit_at(&mut self, payee: NodeIndex) -> u64 {
        self.sim.status(payee).unwrap().payers_credit_msat
    }

    /// What the payer believes to hold at all payees.
    pub(crate) fn own_credit(&mut self) -> u64 {
        self.sim.status(self.payer).unwrap().own_credit_msat
    }

    /// The entries that a node booked for payments on the chain, each of them balanced.
    pub(crate) fn booked(&self, node: NodeIndex) -> Vec<Entry> {
        let on_chain = |entry: &Entry| {
            entry
                .postings
                .iter()
                .any(|posting| posting.account == LedgerAccount::OnChain)
        };
        let entries: Vec<Entry> = self
            .sim
            .disk(node)
            .iter()
            .filter_map(|record| match record {
                Record::Booked(entry) if on_chain(entry) => Some((**entry).clone()),
                _ => None,
            })
            .collect();
        assert!(entries.iter().all(Entry::is_balanced), "{entries:?}");
        entries
    }

    /// What an account of the ledger sums to over those entries.
    pub(crate) fn balance(&self, node: NodeIndex, wanted: impl Fn(&LedgerAccount) -> bool) -> i64 {
        let entries = self.booked(node);
        let postings = entries.iter().flat_map(|entry| &entry.postings);
        postings
            .filter(|posting| wanted(&posting.account))
            .map(|posting| posting.msat)
            .sum()
    }

    pub(crate) fn happened(&self, node: NodeIndex, what: impl Fn(&Event) -> bool) -> usize {
        self.sim.events(node).iter().filter(|event| what(event)).count()
    }
}

pub(crate) fn outputs(slice: &QuotedSlice) -> Vec<TxOutput> {
    let bought = slice
        .payees
        .iter()
        .filter_map(|payee| Some((payee, payee.output.as_ref()?)));
    bought
        .map(|(payee, (_, output))| TxOutput {
            script: output.script.clone(),
            sats: payee.amount_msat / 1000,
        })
        .collect()
}

pub(crate) fn proofs(slice: &QuotedSlice, txid: [u8; 32]) -> Vec<(NodeId, PaymentProof)> {
    let bought = slice
        .payees
        .iter()
        .filter_map(|payee| Some((payee, payee.output.as_ref()?)));
    bought
        .map(|(payee, (bill, _))| {
            let proof = PaymentProof::OnChainSettlement {
                payment_request_id: hex::encode(bill),
                tx_hash: txid,
                amount_sats: payee.amount_msat / 1000,
                timestamp: 0,
            };
            (payee.payee, proof)
        })
        .collect()
}

/// Why an open was refused.
pub(crate) fn reason(outcome: Result<OpenedSession, Box<Refusal>>) -> DropReason {
    outcome.map(|opened| opened.session).unwrap_err().reason
}
