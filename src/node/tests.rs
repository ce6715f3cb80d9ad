//! A node on a disk that refuses: nothing is shown that could be forgotten, and what was open goes on. And receipts, which
//! wait for what they are for.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::event::{Answer, Buying, Command, Delivery, Funding, QuotedSlice, Status};
use mesh_core::routing_policy::TrafficClass;

use super::*;
use crate::store::full_disk::Disk;
use crate::wallet::none::NoWallet;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(seed: u8) -> NodeConfig {
    NodeConfig {
        identity: Identity::from_seed([seed; 32]).unwrap(),
        account_secret: [seed; 32],
        data_dir: PathBuf::new(),
        mode: MeshMode::Open,
        price_msat_per_unit: 0,
        network: BitcoinNetwork::Regtest,
        operator: None,
        announcing: Default::default(),
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        free_bytes_per_second: 1 << 20,
        spending: Default::default(),
        links: EndpointConfig {
            listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..EndpointConfig::default()
        },
        peers: Vec::new(),
        wallet: Arc::new(NoWallet),
        chain: None,
        treasury: None,
        fairness: Default::default(),
    }
}

async fn start(seed: u8) -> (RunningNode, Disk) {
    let disk = Disk::new();
    let node = RunningNode::start_on(config(seed), |_| disk.open())
        .await
        .unwrap();
    (node, disk)
}

async fn status(node: &RunningNode) -> Status {
    let asked = node.handle().command(Command::Status);
    match tokio::time::timeout(PATIENCE, asked).await.expect("an answer") {
        Ok(Answer::Status(status)) => *status,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        let mut again = tokio::time::interval(Duration::from_millis(2));
        while !done().await {
            again.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

async fn quotes(from: &NodeHandle, to: NodeId) -> QuotedSlice {
    let routes = from.discover(to, 10, PATIENCE, false).await.unwrap();
    let path = routes[0].path.clone();
    from.quote(path, TrafficClass::Open, 1, Buying::Nowhere, PATIENCE)
        .await
        .unwrap()
}

async fn arrives(arrivals: &mut mpsc::Receiver<Delivery>, payload: &Bytes) {
    let delivery = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap();
    assert_eq!(&delivery.unwrap().payload, payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_is_not_passed_on_while_the_disk_is_full_and_packets_of_open_sessions_still_are() {
    let ((a, _), (b, disk), (c, _)) = (start(1).await, start(2).await, start(3).await);
    for end in [&a, &c] {
        b.add_peer(end.listen_addr().unwrap(), end.handle().node_id())
            .unwrap();
    }
    until("links", async || status(&b).await.neighbours.len() == 2).await;
    let (payer, destination) = (a.handle().clone(), c.handle().node_id());
    let mut arrivals = c.handle().deliveries(None);
    let no_proofs = || Funding::Proofs(Vec::new());

    let first = quotes(&payer, destination).await;
    let first = payer.open(first.id, no_proofs()).await.unwrap().session;
    let second = quotes(&payer, destination).await;
    disk.set_full(true);
    let opening = tokio::spawn({
        let payer = payer.clone();
        async move { payer.open(second.id, no_proofs()).await }
    });
    // The open has come and its record was refused, more than once.
    until("refusals", async || b.handle().store_health().failures() >= 2).await;
    assert!(b.handle().store_health().refuses());
    assert_eq!(status(&b).await.sessions, 2, "the owner is told how things stand");
    assert_eq!(
        status(&c).await.sessions,
        1,
        "an open that could be forgotten was passed on"
    );
    let payload = Bytes::from_static(b"still carried");
    payer.send(first, "", payload.clone(), PATIENCE).await.unwrap();
    arrives(&mut arrivals, &payload).await;
    assert!(!opening.is_finished());

    disk.set_full(false);
    let second = tokio::time::timeout(PATIENCE, opening)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let payload = Bytes::from_static(b"carried again");
    payer
        .send(second.session, "", payload.clone(), PATIENCE)
        .await
        .unwrap();
    arrives(&mut arrivals, &payload).await;
    assert!(!b.handle().store_health().refuses());
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_on_a_full_disk_stops_when_told() {
    let (node, disk) = start(1).await;
    disk.set_full(true);
    tokio::time::timeout(PATIENCE, node.stop())
        .await
        .expect("it stops");
}

async fn receipted(payer: &NodeHandle, session: mesh_core::keys::SessionId) -> u64 {
    match payer.command(Command::Session { session }).await.unwrap() {
        Answer::Session(session) => session.receipted_packets,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_has_no_receipt_before_it_is_safe_and_packets_wait_for_none() {
    let ((a, _), (b, _)) = (start(1).await, start(2).await);
    a.add_peer(b.listen_addr().unwrap(), b.handle().node_id())
        .unwrap();
    until("a link", async || status(&a).await.neighbours.len() == 1).await;
    let payer = a.handle();
    let (mut arrivals, safe) = b.handle().deliveries_to_keep();
    let quoted = quotes(payer, b.handle().node_id()).await;
    let opened = payer.open(quoted.id, Funding::Proofs(Vec::new())).await.unwrap();
    let payload = Bytes::from_static(b"keep this");
    for _ in 0..5 {
        payer
            .send(opened.session, "p", payload.clone(), PATIENCE)
            .await
            .unwrap();
        arrives(&mut arrivals, &payload).await;
    }
    // The first packet's receipt would be there at once, the others' after this long.
    tokio::time::sleep(mesh_core::limits::RECEIPT_INTERVAL * 2).await;
    assert_eq!(receipted(payer, opened.session).await, 0);
    safe.are(1);
    until("the first receipt", async || {
        receipted(payer, opened.session).await == 1
    })
    .await;
    safe.are(5);
    until("the other receipt", async || {
        receipted(payer, opened.session).await == 5
    })
    .await;

    // When nobody keeps anything there is nothing to wait for.
    drop((arrivals, safe));
    payer
        .send(opened.session, "p", payload.clone(), PATIENCE)
        .await
        .unwrap();
    until("a receipt at once", async || {
        receipted(payer, opened.session).await == 6
    })
    .await;
    for node in [a, b] {
        node.stop().await;
    }
}
