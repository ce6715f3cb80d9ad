//! Nodes that are killed between two instructions and started again from what their disk held: the payer loses nothing,
//! no payment counts twice, no packet counts twice, and traffic goes on.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blvm_mesh::handle::{CommandError, NodeHandle, SendRequest};
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::devnet::{Devnet, DevnetWallet};
use blvm_mesh::wallet::none::NoWallet;
use blvm_mesh::wallet::{PayRequest, Wallet};
use bytes::Bytes;
use common::{PATIENCE, eventually, node_config, open_request};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Buying, Command, Delivery, Funding, QuotedSlice, Status};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::ACCOUNT_LEASE_MSAT;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const UNITS: u64 = 4000;

/// A node on a runtime of its own, so that it can end as by kill -9: no task of it runs another line.
struct Life {
    seed: u8,
    mode: MeshMode,
    wallet: Arc<dyn Wallet>,
    directory: TempDir,
    runtime: Option<Runtime>,
    node: Option<RunningNode>,
}

impl Life {
    async fn begin(seed: u8, mode: MeshMode, wallet: Arc<dyn Wallet>) -> Self {
        let mut life = Self {
            seed,
            mode,
            wallet,
            directory: tempfile::tempdir().unwrap(),
            runtime: None,
            node: None,
        };
        life.start(Vec::new()).await;
        life
    }

    async fn start(&mut self, peers: Vec<(SocketAddr, NodeId)>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let config = NodeConfig {
            peers,
            ..node_config(self.seed, self.mode, self.wallet.clone(), &self.directory)
        };
        let node = runtime.spawn(RunningNode::start(config)).await.unwrap().unwrap();
        (self.runtime, self.node) = (Some(runtime), Some(node));
    }

    fn node(&self) -> &RunningNode {
        self.node.as_ref().unwrap()
    }

    fn handle(&self) -> &NodeHandle {
        self.node().handle()
    }

    fn id(&self) -> NodeId {
        self.handle().node_id()
    }

    fn address(&self) -> (SocketAddr, NodeId) {
        (self.node().listen_addr().unwrap(), self.id())
    }

    async fn status(&self) -> Status {
        match self.handle().command(Command::Status).await.unwrap() {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    async fn dropped(&self, reason: DropReason) -> u64 {
        let dropped = self.status().await.dropped;
        dropped
            .iter()
            .find(|(known, _)| *known == reason)
            .map_or(0, |(_, count)| *count)
    }

    /// Kills the node, and starts it again from the image that its disk was at that moment. It finds its neighbours by
    /// itself.
    async fn is_killed_and_comes_back(&mut self, neighbours: &[(&Life, usize)]) {
        let image = self.image_of_the_disk();
        drop(self.node.take());
        self.runtime.take().unwrap().shutdown_background();
        self.directory = image;
        let peers = neighbours.iter().map(|(life, _)| life.address()).collect();
        self.start(peers).await;
        let me = self.id();
        eventually("its links", async || {
            (self.status().await.neighbours.len() == neighbours.len()).then_some(())
        })
        .await;
        for (life, links) in neighbours {
            eventually("the neighbours' links", async || {
                let known = life.status().await.neighbours;
                (known.len() == *links && known.iter().any(|(_, id)| *id == me)).then_some(())
            })
            .await;
        }
    }

    /// What a kill leaves: the files as they are while the database is open, never closed in order.
    fn image_of_the_disk(&self) -> TempDir {
        let health = self.handle().store_health();
        loop {
            let (image, before) = (tempfile::tempdir().unwrap(), health.commits());
            copy(self.directory.path(), image.path());
            // A copy that a commit fell into is not what the disk was at any moment.
            if health.commits() == before {
                return image;
            }
        }
    }

    async fn end(mut self) {
        let node = self.node.take().unwrap();
        let runtime = self.runtime.take().unwrap();
        let stopping = runtime.spawn(node.stop());
        tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
        runtime.shutdown_background();
    }
}

fn copy(from: &Path, to: &Path) {
    let files: Vec<PathBuf> = std::fs::read_dir(from)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!files.is_empty());
    for file in files {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// A payer, a router and a destination with real Lightning nodes, and the payments that were made.
struct Market {
    devnet: Devnet,
    payer_wallet: Arc<DevnetWallet>,
    a: Life,
    b: Life,
    c: Life,
    arrivals: mpsc::Receiver<Delivery>,
    proofs: Vec<(NodeId, PaymentProof)>,
    session: SessionId,
    price_msat: u64,
}

impl Market {
    /// A has paid B and C by hand, opened a session and sent some.
    async fn opened() -> Self {
        let devnet = Devnet::mesh(3, &[(0, 1), (1, 2)], 5_000_000, 11).await.unwrap();
        let payer_wallet = devnet.wallet(0).unwrap();
        let gated = MeshMode::PaymentGated;
        let a = Life::begin(1, gated, payer_wallet.clone()).await;
        let b = Life::begin(2, gated, devnet.wallet(1).unwrap()).await;
        let c = Life::begin(3, gated, devnet.wallet(2).unwrap()).await;
        link(&a, &b, &c).await;
        let arrivals = c.handle().deliveries(None);
        let mut market = Self {
            devnet,
            payer_wallet,
            a,
            b,
            c,
            arrivals,
            proofs: Vec::new(),
            session: SessionId([0; 16]),
            price_msat: 0,
        };
        market.pay_and_open().await;
        market.send(20).await;
        market
    }

    async fn quote(&self, buying: Buying) -> QuotedSlice {
        let payer = self.a.handle();
        let routes = payer.discover(self.c.id(), 10, PATIENCE, true).await.unwrap();
        let path = routes.into_iter().next().unwrap().path;
        assert_eq!(path, [self.a.id(), self.b.id(), self.c.id()]);
        payer
            .quote(path, TrafficClass::Paid, UNITS, buying, PATIENCE)
            .await
            .unwrap()
    }

    async fn pay_and_open(&mut self) {
        let slice = self.quote(Buying::Everywhere).await;
        for quoted in &slice.payees {
            let bolt11 = quoted.invoice.clone().unwrap();
            let request = PayRequest {
                bolt11: bolt11.clone(),
                max_fee_msat: 100_000,
                max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
                timeout: PATIENCE,
            };
            let paid = self.payer_wallet.pay(request).await.unwrap();
            let proof = PaymentProof::Lightning {
                invoice: bolt11,
                preimage: paid.preimage,
                amount_msats: quoted.amount_msat,
                timestamp: 0,
                expires_at: quoted.redeem_by.seconds(),
            };
            self.proofs.push((quoted.payee, proof));
        }
        self.price_msat = slice.payees.iter().map(|quoted| quoted.price_msat).min().unwrap();
        let funding = Funding::Proofs(self.proofs.clone());
        self.session = self.a.handle().open(slice.id, funding).await.unwrap().session;
    }

    /// Sends that many packets of one unit over the session and sees them arrive.
    async fn send(&mut self, packets: u8) {
        for number in 0..packets {
            let payload = Bytes::from(vec![number; 500]);
            let payer = self.a.handle();
            payer
                .send(self.session, "", payload.clone(), PATIENCE)
                .await
                .unwrap();
            let delivery = tokio::time::timeout(PATIENCE, self.arrivals.recv())
                .await
                .unwrap();
            let delivery = delivery.unwrap();
            assert_eq!((delivery.session, delivery.payload), (self.session, payload));
        }
    }

    /// A session over what is left, paid by nobody.
    async fn open_on_what_is_left(&mut self) {
        let slice = self.quote(Buying::Nowhere).await;
        assert!(slice.payees.iter().all(|quoted| quoted.amount_msat == 0));
        let nothing = Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat: 0,
            max_fee_msat: 0,
            keep_funded: false,
        };
        let opened = self.a.handle().open(slice.id, nothing).await.unwrap();
        assert!(opened.paid.is_empty());
        self.session = opened.session;
    }

    /// Shows one payee the proof it has redeemed already, as a payer that would like to be credited twice.
    async fn show_again(&self, payee: NodeId) -> Result<(), CommandError> {
        let slice = self.quote(Buying::Nowhere).await;
        let proofs = self.proofs.iter().filter(|(paid, _)| *paid == payee);
        let funding = Funding::Proofs(proofs.cloned().collect());
        self.a.handle().open(slice.id, funding).await.map(|_| ())
    }

    async fn end(self) {
        for life in [self.a, self.b, self.c] {
            life.end().await;
        }
        self.devnet.shutdown().await;
    }
}

async fn link(a: &Life, b: &Life, c: &Life) {
    for end in [a, c] {
        let (address, id) = end.address();
        b.node().add_peer(address, id).unwrap();
    }
    for (life, links) in [(a, 1), (b, 2), (c, 1)] {
        eventually("links", async || {
            (life.status().await.neighbours.len() == links).then_some(())
        })
        .await;
    }
}

/// The promises of a payee that was killed: what it held for the payer, and what it must not take again.
fn is_kept(before: &Status, after: &Status) {
    let (left, kept) = (before.payers_credit_msat, after.payers_credit_msat);
    assert!(kept >= left, "the payer lost {} msat", left - kept);
    assert!(
        kept <= left + ACCOUNT_LEASE_MSAT,
        "the payee lost more than a lease: {left} → {kept}"
    );
    assert_eq!(after.redeemed, before.redeemed);
    assert_eq!(after.treasury_owed_msat, before.treasury_owed_msat);
    assert_eq!(after.sessions, 0, "sessions are forgotten, credit is not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_router_and_destination_and_payer_keep_the_books_and_traffic_goes_on_unpaid() {
    let mut market = Market::opened().await;
    let spent = market.payer_wallet.balance_msat();

    let before = market.b.status().await;
    assert!(
        before.payers_credit_msat > 0 && before.redeemed == 1,
        "{before:?}"
    );
    market
        .b
        .is_killed_and_comes_back(&[(&market.a, 1), (&market.c, 1)])
        .await;
    is_kept(&before, &market.b.status().await);
    old_packets_are_of_no_session(&market, &market.b).await;
    let refused = market.show_again(market.b.id()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(DropReason::AlreadyRedeemed), "{refused}");
    market.open_on_what_is_left().await;
    market.send(20).await;

    let before = market.c.status().await;
    market.c.is_killed_and_comes_back(&[(&market.b, 2)]).await;
    market.arrivals = market.c.handle().deliveries(None);
    is_kept(&before, &market.c.status().await);
    old_packets_are_of_no_session(&market, &market.c).await;
    let refused = market.show_again(market.c.id()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(DropReason::AlreadyRedeemed), "{refused}");
    market.open_on_what_is_left().await;
    market.send(20).await;

    let before = market.a.status().await.own_credit_msat;
    market.a.is_killed_and_comes_back(&[(&market.b, 2)]).await;
    let after = market.a.status().await.own_credit_msat;
    let leases = 2 * ACCOUNT_LEASE_MSAT;
    assert!(
        (before..=before + leases).contains(&after),
        "the payer believes to hold {after} msat, it held {before}"
    );
    market.open_on_what_is_left().await;
    market.send(20).await;

    market.devnet.wait_quiet().await.unwrap();
    assert_eq!(
        market.payer_wallet.balance_msat(),
        spent,
        "nothing was paid again"
    );
    for life in [&market.a, &market.b, &market.c] {
        let report = life.node().books().audit().await.unwrap();
        assert!(report.entries > 0 && report.is_clean(), "{:#?}", report.findings);
    }
    market.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_payer_sends_its_next_packet_on_what_it_had_bought_and_pays_nobody() {
    let devnet = Devnet::mesh(3, &[(0, 1), (1, 2)], 5_000_000, 12).await.unwrap();
    let wallet = devnet.wallet(0).unwrap();
    let gated = MeshMode::PaymentGated;
    let mut a = Life::begin(1, gated, wallet.clone()).await;
    let b = Life::begin(2, gated, devnet.wallet(1).unwrap()).await;
    let c = Life::begin(3, gated, devnet.wallet(2).unwrap()).await;
    link(&a, &b, &c).await;
    let mut arrivals = c.handle().deliveries(None);
    let request = |payload: &[u8]| SendRequest {
        class: TrafficClass::Paid,
        max_total_msat: 1_000_000,
        max_fee_msat: 100_000,
        ..open_request(c.id(), payload)
    };
    let full = wallet.balance_msat();
    a.handle().send_packet(request(b"paid for")).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap();
    assert_eq!(&first.unwrap().payload[..], b"paid for");
    devnet.wait_quiet().await.unwrap();
    let left = wallet.balance_msat();
    assert!(left < full);

    a.is_killed_and_comes_back(&[(&b, 2)]).await;
    eventually("a way", async || {
        a.handle().send_packet(request(b"after the kill")).await.ok()
    })
    .await;
    let next = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap();
    assert_eq!(&next.unwrap().payload[..], b"after the kill");
    devnet.wait_quiet().await.unwrap();
    assert_eq!(wallet.balance_msat(), left, "it cost nothing more");
    for life in [a, b, c] {
        life.end().await;
    }
    devnet.shutdown().await;
}

/// Packets of the session that the killed node has forgotten end there, by name, and cost nothing there.
async fn old_packets_are_of_no_session(market: &Market, killed: &Life) {
    let credit = killed.status().await.payers_credit_msat;
    for number in 1..=3 {
        let payload = Bytes::from_static(b"late");
        market
            .a
            .handle()
            .send(market.session, "", payload, PATIENCE)
            .await
            .unwrap();
        eventually("the forgotten session's packet", async || {
            (killed.dropped(DropReason::UnknownSession).await >= number).then_some(())
        })
        .await;
    }
    assert_eq!(killed.status().await.payers_credit_msat, credit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_to_a_destination_behind_a_killed_router_flow_again_by_themselves() {
    let open = MeshMode::Open;
    let a = Life::begin(1, open, Arc::new(NoWallet)).await;
    let mut b = Life::begin(2, open, Arc::new(NoWallet)).await;
    let c = Life::begin(3, open, Arc::new(NoWallet)).await;
    link(&a, &b, &c).await;
    let mut arrivals = c.handle().deliveries(Some("test".to_owned()));
    let request = |number: u8| -> SendRequest { open_request(c.id(), &[number]) };
    let first = a.handle().send_packet(request(0)).await.unwrap();
    tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap();

    b.is_killed_and_comes_back(&[(&a, 1), (&c, 1)]).await;
    // The link is back, but the router has forgotten the session, and no hop may tell a stranger why it dropped his
    // packet: that the link broke at all is what ends the session.
    let sent = a.handle().send_packet(request(1)).await.unwrap();
    assert_ne!(sent.session, first.session);
    let healed = eventually("a packet to arrive", async || {
        a.handle().send_packet(request(2)).await.unwrap();
        arrivals.try_recv().ok()
    })
    .await;
    assert_ne!(healed.session, first.session);
    let again = a.handle().send_packet(request(3)).await.unwrap();
    assert_eq!(again.session, healed.session, "and it stays");
    for life in [a, b, c] {
        life.end().await;
    }
}
