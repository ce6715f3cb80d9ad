//! The stage: a payer, a router and a destination, the payees paid into wallets of their own on one bitcoind.

#[cfg(feature = "ctv")]
mod covenants;
mod payments;
mod raw;

use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::chain::bitcoind::{Bitcoind as Source, Login};
use blvm_mesh::chain::{ChainSetup, payment_uri};
use blvm_mesh::handle::CommandError;
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::none::NoWallet;
use mesh_core::chain::{ChainPolicy, DepthStep, PaymentMethod};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event, Funding, OpenedSession, QuotedSlice};
use mesh_core::identity::NodeId;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::verifier::BitcoinNetwork;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::common::bitcoind::{Bitcoind, USER};
use crate::common::{PATIENCE, TestNode, eventually, node_config, wait_linked};

const UNITS: u64 = 1000;

pub(crate) fn policy() -> ChainPolicy {
    ChainPolicy {
        steps: vec![DepthStep {
            up_to_sats: 10_000_000,
            blocks: 2,
        }],
        ctv_enforced_from: None,
        watch_every: Duration::from_millis(50),
    }
}

pub(crate) struct Stage {
    pub(crate) bitcoind: Bitcoind,
    secrets: TempDir,
    policy: ChainPolicy,
    pub(crate) payer: TestNode,
    pub(crate) router: TestNode,
    pub(crate) destination: TestNode,
}

impl Stage {
    /// `None` without a bitcoind.
    pub(crate) async fn start(policy: ChainPolicy) -> Option<Self> {
        let bitcoind = Bitcoind::start().await?;
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("password"), USER).unwrap();
        for wallet in ["router", "destination"] {
            bitcoind.rpc("createwallet", json!([wallet])).await;
        }
        let at = |wallet| setup(&bitcoind, &secrets, wallet, &policy);
        let payer = start(1, tempfile::tempdir().unwrap(), None).await;
        let router = start(2, tempfile::tempdir().unwrap(), Some(at("router"))).await;
        let destination = start(3, tempfile::tempdir().unwrap(), Some(at("destination"))).await;
        let stage = Self {
            bitcoind,
            secrets,
            policy,
            payer,
            router,
            destination,
        };
        stage.link().await;
        Some(stage)
    }

    async fn link(&self) {
        self.payer.connect(&self.router);
        self.router.connect(&self.destination);
        wait_linked(&[(&self.payer, 1), (&self.router, 2), (&self.destination, 1)]).await;
    }

    /// Stops the payees and starts them again on what they wrote down; the payer starts again and knows nothing: a cheat.
    pub(crate) async fn restart_with_a_cheat(self) -> Self {
        let Self {
            bitcoind,
            secrets,
            policy,
            payer,
            router,
            destination,
        } = self;
        for node in [payer.node, router.node, destination.node] {
            node.stop().await;
        }
        let at = |wallet| setup(&bitcoind, &secrets, wallet, &policy);
        let payer = start(1, tempfile::tempdir().unwrap(), None).await;
        let router = start(2, router.directory, Some(at("router"))).await;
        let destination = start(3, destination.directory, Some(at("destination"))).await;
        let stage = Self {
            bitcoind,
            secrets,
            policy,
            payer,
            router,
            destination,
        };
        stage.link().await;
        stage
    }

    pub(crate) async fn try_quote(
        &self,
        method: PaymentMethod,
        buying: Buying,
    ) -> Result<QuotedSlice, CommandError> {
        let node = self.payer.node.handle();
        node.discover(self.destination.id(), 10, PATIENCE, false).await?;
        let path = [&self.payer, &self.router, &self.destination].map(TestNode::id);
        node.quote_by(method, path.to_vec(), TrafficClass::Paid, UNITS, buying, PATIENCE)
            .await
    }

    pub(crate) async fn quote(&self) -> QuotedSlice {
        self.try_quote(PaymentMethod::OnChain, Buying::Everywhere)
            .await
            .unwrap()
    }

    pub(crate) async fn open(
        &self,
        slice: &QuotedSlice,
        proofs: Vec<(NodeId, PaymentProof)>,
    ) -> Result<OpenedSession, CommandError> {
        self.payer
            .node
            .handle()
            .open(slice.id, Funding::Proofs(proofs))
            .await
    }

    /// With quotes that buy nothing, as after hours.
    pub(crate) async fn open_later(
        &self,
        proofs: Vec<(NodeId, PaymentProof)>,
    ) -> Result<OpenedSession, CommandError> {
        let slice = self.try_quote(PaymentMethod::Lightning, Buying::Nowhere).await?;
        self.open(&slice, proofs).await
    }

    /// Pays all quotes in one transaction of the miner's wallet, which waits to be mined.
    pub(crate) async fn pay(&self, slice: &QuotedSlice) -> String {
        let mut amounts = Map::new();
        for (address, bitcoins) in bills(slice) {
            amounts.insert(address, Value::String(bitcoins));
        }
        let txid = self.bitcoind.rpc("sendmany", json!(["", amounts])).await;
        txid.as_str().unwrap().to_owned()
    }

    pub(crate) async fn credit_at_destination(&self) -> u64 {
        self.destination.status().await.payers_credit_msat
    }

    pub(crate) async fn stop(self) {
        for node in [self.payer.node, self.router.node, self.destination.node] {
            node.stop().await;
        }
    }
}

fn setup(bitcoind: &Bitcoind, secrets: &TempDir, wallet: &str, policy: &ChainPolicy) -> ChainSetup {
    let url = format!("http://127.0.0.1:{}", bitcoind.rpc_port);
    let login = Login::Password {
        user: USER.to_owned(),
        file: secrets.path().join("password"),
    };
    ChainSetup {
        source: Arc::new(Source::new(&url, wallet, login).unwrap()),
        policy: policy.clone(),
    }
}

async fn start(seed: u8, directory: TempDir, chain: Option<ChainSetup>) -> TestNode {
    let config = NodeConfig {
        chain,
        ..node_config(seed, MeshMode::PaymentGated, Arc::new(NoWallet), &directory)
    };
    let node = RunningNode::start(config).await.unwrap();
    TestNode { node, directory }
}

/// What a wallet is told to pay: addresses and amounts.
pub(crate) fn bills(slice: &QuotedSlice) -> Vec<(String, String)> {
    let payees = slice.payees.iter();
    payees
        .map(|payee| {
            let (_, output) = payee.output.as_ref().unwrap();
            let sats = payee.amount_msat / 1000;
            let uri = payment_uri(&output.script, sats, BitcoinNetwork::Regtest).unwrap();
            let (address, amount) = uri
                .strip_prefix("bitcoin:")
                .unwrap()
                .split_once("?amount=")
                .unwrap();
            (address.to_owned(), amount.to_owned())
        })
        .collect()
}

pub(crate) fn internal(txid: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    hex::decode_to_slice(txid, &mut bytes).unwrap();
    bytes.reverse();
    bytes
}

pub(crate) fn proofs(slice: &QuotedSlice, txid: &str) -> Vec<(NodeId, PaymentProof)> {
    let payees = slice.payees.iter();
    payees
        .map(|payee| {
            let (bill, _) = payee.output.as_ref().unwrap();
            let proof = PaymentProof::OnChainSettlement {
                payment_request_id: hex::encode(bill),
                tx_hash: internal(txid),
                amount_sats: payee.amount_msat / 1000,
                timestamp: 0,
            };
            (payee.payee, proof)
        })
        .collect()
}

pub(crate) fn reason(outcome: Result<OpenedSession, CommandError>) -> DropReason {
    let error = outcome.map(|opened| opened.session).unwrap_err();
    match error.reason() {
        Some(reason) => reason,
        None => panic!("{error}"),
    }
}

/// Waits until a node told of such an event.
pub(crate) async fn heard(
    events: &mut tokio::sync::broadcast::Receiver<Arc<Event>>,
    what: &str,
    wanted: impl Fn(&Event) -> bool,
) -> Arc<Event> {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    });
    found
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Opens as soon as the payee's wallet has seen what there is to see: it hears of blocks a moment later than the node.
pub(crate) async fn eventually_refused(stage: &Stage, proofs: &[(NodeId, PaymentProof)], wanted: DropReason) {
    eventually("the refusal", async || {
        let refused = reason(stage.open_later(proofs.to_vec()).await);
        (refused == wanted).then_some(())
    })
    .await;
}
