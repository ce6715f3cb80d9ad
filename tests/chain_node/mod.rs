//! The stage: a payer, a router and a destination, the payees as modules of one node.

mod fake;
mod payments;
mod real;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::chain::ChainSetup;
use blvm_mesh::chain::node::NodeChain;
use blvm_mesh::chain::node::asking;
use blvm_mesh::chain::node::scripts::FreshScripts;
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
use node_ipc::testing::{FakeAnswer, FakeNode};
use node_ipc::{NodeClient, Options, Transaction, TransactionOutput};
use tempfile::TempDir;

use crate::common::{PATIENCE, TestNode, eventually, node_config, wait_linked};
use fake::{FakeChain, id, paying};

const UNITS: u64 = 1000;

/// The account of a public test key: nobody needs to spend what these tests pay.
const DESCRIPTOR: &str = "wpkh(tpubD6NzVbkrYhZ4XgiXtGrdW5XDAPFCL9h7we1vwNCpn8tGbBcgfVYjXyhWo4E1xkh56hjod1RhGjxbaTLV3X4FyWuejifB9jusQ46QzG87VKp/BRANCH/*)";

/// The mesh: payees that ask the node at this socket.
struct Mesh {
    socket: PathBuf,
    client: NodeClient,
    payer: TestNode,
    router: TestNode,
    destination: TestNode,
}

impl Mesh {
    async fn raise(socket: PathBuf, folders: [TempDir; 3]) -> Self {
        let [payer, router, destination] = folders;
        // One connection for both payees: the node as published serves no second one.
        let options = Options::new(&socket, "blvm-mesh", "blvm-mesh_00", "0.1.0");
        let (client, mut incoming) = NodeClient::start(options);
        // Nobody here listens to the node's events; the watch alone must find out.
        tokio::spawn(async move { while incoming.recv().await.is_some() {} });
        let at_router = setup(client.clone(), 1, router.path());
        let at_destination = setup(client.clone(), 2, destination.path());
        let mesh = Self {
            payer: start(1, payer, None).await,
            router: start(2, router, Some(at_router)).await,
            destination: start(3, destination, Some(at_destination)).await,
            socket,
            client,
        };
        mesh.payer.connect(&mesh.router);
        mesh.router.connect(&mesh.destination);
        wait_linked(&[(&mesh.payer, 1), (&mesh.router, 2), (&mesh.destination, 1)]).await;
        mesh.connected().await;
        mesh
    }

    async fn connected(&self) {
        eventually("the connection", async || {
            self.client.is_connected().then_some(())
        })
        .await;
    }

    /// The payees start again on what they wrote down; the payer knows nothing any more: a cheat.
    async fn restart_with_a_cheat(self) -> Self {
        let socket = self.socket.clone();
        let [_, router, destination] = self.stop().await;
        Self::raise(socket, [tempfile::tempdir().unwrap(), router, destination]).await
    }

    async fn try_quote(&self, method: PaymentMethod, buying: Buying) -> Result<QuotedSlice, CommandError> {
        let node = self.payer.node.handle();
        node.discover(self.destination.id(), 10, PATIENCE, false).await?;
        let path = [&self.payer, &self.router, &self.destination].map(TestNode::id);
        node.quote_by(method, path.to_vec(), TrafficClass::Paid, UNITS, buying, PATIENCE)
            .await
    }

    async fn quote(&self) -> QuotedSlice {
        self.try_quote(PaymentMethod::OnChain, Buying::Everywhere)
            .await
            .unwrap()
    }

    /// Opens with quotes that buy nothing, as after hours.
    async fn open(&self, proofs: &[(NodeId, PaymentProof)]) -> Result<OpenedSession, CommandError> {
        let slice = self.try_quote(PaymentMethod::Lightning, Buying::Nowhere).await?;
        let node = self.payer.node.handle();
        node.open(slice.id, Funding::Proofs(proofs.to_vec())).await
    }

    async fn opened(&self, proofs: &[(NodeId, PaymentProof)]) -> OpenedSession {
        eventually("the session", async || self.open(proofs).await.ok()).await
    }

    async fn credit(&self) -> u64 {
        self.destination.status().await.payers_credit_msat
    }

    /// Where they kept what they wrote down.
    async fn stop(self) -> [TempDir; 3] {
        let nodes = [self.payer, self.router, self.destination];
        let mut folders = Vec::new();
        for TestNode { node, directory } in nodes {
            node.stop().await;
            folders.push(directory);
        }
        self.client.stop().await;
        folders.try_into().unwrap()
    }
}

/// The mesh on a node that is played.
struct Stage {
    chain: Arc<FakeChain>,
    mesh: Mesh,
    node: Option<FakeNode>,
    _socket: TempDir,
}

impl Deref for Stage {
    type Target = Mesh;

    fn deref(&self) -> &Mesh {
        &self.mesh
    }
}

impl Stage {
    async fn start() -> Self {
        let chain = Arc::new(FakeChain::new(20));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("node.sock");
        let node = serve(&chain, &socket);
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        Self {
            chain,
            mesh: Mesh::raise(socket, folders).await,
            node: Some(node),
            _socket: folder,
        }
    }

    async fn restart_with_a_cheat(self) -> Self {
        Self {
            mesh: self.mesh.restart_with_a_cheat().await,
            ..self
        }
    }

    /// A transaction that pays all quotes with this coinbase.
    fn payment(&self, slice: &QuotedSlice, coinbase: usize) -> Transaction {
        let mut payment = paying(&[self.chain.coinbase(coinbase)], &[0x51], 1);
        payment.outputs = slice
            .payees
            .iter()
            .map(|payee| TransactionOutput {
                value: i64::try_from(payee.amount_msat / 1000).unwrap(),
                script_pubkey: payee.output.clone().unwrap().1.script,
            })
            .collect();
        payment
    }

    async fn stop(self) {
        self.mesh.stop().await;
    }
}

/// The node at its socket.
fn serve(chain: &Arc<FakeChain>, socket: &Path) -> FakeNode {
    let node = FakeNode::bind(socket).unwrap();
    let chain = chain.clone();
    node.answer_with(move |request| chain.reply(request).map(FakeAnswer::Reply));
    node
}

fn setup(client: NodeClient, branch: u8, folder: &Path) -> ChainSetup {
    let descriptor = DESCRIPTOR.replace("BRANCH", &branch.to_string()).parse().unwrap();
    let scripts = FreshScripts::open(descriptor, folder).unwrap();
    ChainSetup {
        source: Arc::new(NodeChain::new(
            Arc::new(client),
            scripts,
            BitcoinNetwork::Regtest,
            1000,
        )),
        policy: ChainPolicy {
            steps: vec![DepthStep {
                up_to_sats: 10_000_000,
                blocks: 2,
            }],
            ctv_enforced_from: None,
            watch_every: Duration::from_millis(50),
        },
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

fn proofs(slice: &QuotedSlice, payment: &Transaction) -> Vec<(NodeId, PaymentProof)> {
    proofs_of(slice, id(payment))
}

fn proofs_of(slice: &QuotedSlice, txid: [u8; 32]) -> Vec<(NodeId, PaymentProof)> {
    let payees = slice.payees.iter();
    payees
        .map(|payee| {
            let (bill, _) = payee.output.as_ref().unwrap();
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

fn reason(outcome: Result<OpenedSession, CommandError>) -> DropReason {
    let error = outcome.map(|opened| opened.session).unwrap_err();
    error.reason().unwrap_or_else(|| panic!("{error}"))
}

fn taken_back(event: &Event) -> bool {
    matches!(event, Event::OutputTakenBack { .. })
}

fn came_back(event: &Event) -> bool {
    matches!(event, Event::OutputCameBack { .. })
}

async fn heard(
    events: &mut tokio::sync::broadcast::Receiver<Arc<Event>>,
    what: &str,
    wanted: impl Fn(&Event) -> bool,
) {
    let found = tokio::time::timeout(PATIENCE, async {
        while !wanted(&events.recv().await.unwrap()) {}
    });
    found
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
