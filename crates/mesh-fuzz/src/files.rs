//! What is read from disk: an operator's configuration, the store, a simulator's scenario.

use std::path::Path;
use std::time::Duration;

use blvm_mesh::config::{Config, ConfigError, Place, Problem};
use mesh_core::account::AccountRecord;
use mesh_core::chain::OutputQuote;
use mesh_core::chain_book::{Bill, HonouredOutput};
use mesh_core::event::{Command, CommandId, Input, Record};
use mesh_core::fairness::durable::WeighedNode;
use mesh_core::identity::NodeId;
use mesh_core::ledger::Entry;
use mesh_core::payer::PurchasedProof;
use mesh_core::quotes::{InvoiceRecord, QuoteKeyRecord};
use mesh_core::time::UnixMillis;
use mesh_core::treasury::TreasuryPayment;
use mesh_sim::network::{Generator, Scenario, Topology};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::wire::{comes_back, read};

/// `config.toml`: an understood one can be acted on, and each problem of another names a line that the file has.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text, "config.toml") {
        Ok(config) => {
            let endpoint = config.endpoint();
            assert!(endpoint.max_peers >= 1 && endpoint.max_handshakes >= 1);
            assert!(endpoint.keepalive_interval < endpoint.idle_timeout);
            let _ = config.warnings();
            assert_eq!(Config::parse(text, "config.toml").unwrap(), config);
        }
        Err(ConfigError::Invalid { problems, .. }) => {
            let lines = text.split('\n').count();
            assert!(!problems.is_empty());
            let on_a_line =
                |problem: &Problem| matches!(problem.place, Place::Line(line) if line >= 1 && line <= lines);
            assert!(problems.iter().all(on_a_line));
            assert!(problems.is_sorted_by(|one, next| one.place <= next.place));
        }
        Err(other) => panic!("{other}"),
    }
}

/// What the store's tables hold, a row after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Row {
    QuoteKey(QuoteKeyRecord),
    Invoice(InvoiceRecord),
    Redeemed([u8; 32], UnixMillis),
    Account(AccountRecord),
    Proof(PurchasedProof),
    Credit(NodeId, u64),
    Announced(NodeId, u64, UnixMillis),
    Entry(Box<Entry>),
    OwnSeqno(u64),
    TreasuryOwed(u64),
    Earned(u64),
    TreasuryBegun(Box<TreasuryPayment>),
    OutputQuote(OutputQuote),
    Honoured(Box<HonouredOutput>),
    Bill(Bill),
    Weighed(Box<WeighedNode>),
}

impl Row {
    fn into_record(self) -> Record {
        match self {
            Self::QuoteKey(key) => Record::QuoteKey(key),
            Self::Invoice(invoice) => Record::Invoice(invoice),
            Self::Redeemed(payment_hash, until) => Record::InvoiceClosed {
                payment_hash,
                redeemed_until: Some(until),
            },
            Self::Account(account) => Record::Account(account),
            Self::Proof(proof) => Record::Proof(proof),
            Self::Credit(payee, msat) => Record::Credit { payee, msat },
            Self::Announced(origin, seqno, expires) => Record::AnnouncementSeen {
                origin,
                seqno,
                expires,
            },
            Self::Entry(entry) => Record::Booked(entry),
            Self::OwnSeqno(seqno) => Record::OwnSeqno(seqno),
            Self::TreasuryOwed(msat) => Record::TreasuryOwed(msat),
            Self::Earned(msat) => Record::Earned(msat),
            Self::TreasuryBegun(payment) => Record::TreasuryBegun(payment),
            Self::OutputQuote(quote) => Record::OutputQuote(quote),
            Self::Honoured(output) => Record::Honoured(output),
            Self::Bill(bill) => Record::Bill(bill),
            Self::Weighed(weighed) => Record::Weighed(weighed),
        }
    }
}

/// The store's values, and a node that starts from them: whatever a damaged disk gives back is refused or lived with, for
/// the day that everything in it lasts.
pub fn records(data: &[u8]) {
    let Some(rows) = read::<Vec<Row>>(data) else {
        return;
    };
    comes_back(&rows);
    let mut node = machine::fresh();
    let records = rows.into_iter().map(Row::into_record);
    if node.core.restore(records, node.now).is_err() {
        return;
    }
    node.wait(Duration::from_secs(60));
    node.feed(Input::Command {
        id: CommandId(1),
        command: Command::Status,
    });
    node.wait(Duration::from_secs(25 * 3600));
    node.core.flush(node.now);
    node.drain();
}

/// Scenarios and topologies: the small ones that a scenario asks for can be made, and are of the size it asked for.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = Topology::parse(text, "fuzz");
    let Ok(scenario) = Scenario::parse(text, Path::new("fuzz.toml")) else {
        return;
    };
    let _ = scenario.network_spec();
    assert!(!scenario.phases.is_empty());
    let made = scenario
        .topology
        .generate
        .filter(|generator| nodes(generator) <= 500);
    if let Some(generator) = made
        && let Ok(topology) = generator.make()
    {
        assert_eq!(topology.nodes, nodes(&generator));
        let destinations = scenario.destinations(&topology, 1);
        assert!((1..=topology.nodes).contains(&destinations.len()));
    }
}

fn nodes(generator: &Generator) -> usize {
    match *generator {
        Generator::Line { nodes }
        | Generator::Ring { nodes }
        | Generator::Tree { nodes, .. }
        | Generator::BarabasiAlbert { nodes, .. }
        | Generator::WattsStrogatz { nodes, .. } => nodes,
        Generator::Grid { width, height } => width.saturating_mul(height),
    }
}
