//! Packets that wait for a module while the mesh is killed.

use std::collections::BTreeMap;

use blvm_mesh::api::DELIVERIES_FILE;
use mesh_api::frames::SOCKET_FILE;
use mesh_api::socket::{Arrival, Arrivals, SocketCaller};
use mesh_api::{
    Delivery, MeshClient, OpenSessionRequest, OpenSessionResponse, PaymentProof, PollDeliveriesRequest,
    QuoteRouteRequest, QuoteRouteResponse, RegisterProtocolRequest, SendPacketRequest,
};
use tokio::time::timeout;

use crate::common::daemons::{ASK_AGAIN, Daemon, Home, PATIENCE};

const PROTOCOL: &str = "messaging-v1";

type Client = MeshClient<SocketCaller>;

/// A sender and a receiver, each a daemon of its own, linked.
struct Pair {
    sender: Home,
    receiver: Home,
    from: Daemon,
    to: Daemon,
}

impl Pair {
    async fn start() -> Self {
        let (sender, receiver) = (Home::new(), Home::new());
        receiver.configure("127.0.0.1:0", &[]);
        let to = Daemon::start(&receiver).await;
        receiver.configure(&to.listen_addr, &[]);
        sender.configure("127.0.0.1:0", &[&to]);
        let from = Daemon::start(&sender).await;
        receiver.wait_for_peers(1).await;
        Self {
            sender,
            receiver,
            from,
            to,
        }
    }

    /// The receiver's mesh is killed as it stands, and starts again.
    async fn kill_receiver(self) -> Self {
        let Self {
            sender,
            receiver,
            from,
            to,
        } = self;
        to.kill().await;
        let to = Daemon::start(&receiver).await;
        receiver.wait_for_peers(1).await;
        Self {
            sender,
            receiver,
            from,
            to,
        }
    }

    /// A program that sends.
    async fn program(&self) -> Client {
        let caller = SocketCaller::connect(self.sender.path().join(SOCKET_FILE), "sender");
        MeshClient::new(caller.await.unwrap())
    }

    fn destination(&self) -> [u8; 32] {
        let mut destination = [0; 32];
        hex::decode_to_slice(&self.to.node_id, &mut destination).unwrap();
        destination
    }

    /// Opens a session to the receiver, for more packets than are sent here.
    async fn session(&self, client: &Client) -> [u8; 16] {
        let quote = client.quote_route(QuoteRouteRequest {
            destination: self.destination(),
            max_hops: None,
            timeout_seconds: Some(30),
            units: 10_000,
            max_fee_msat: None,
            avoid: Vec::new(),
            method: Default::default(),
        });
        let QuoteRouteResponse::Quoted(quote) = quote.await.unwrap() else {
            panic!("no quote");
        };
        let open = client.open_session(OpenSessionRequest {
            quote_id: quote.quote_id,
            payment_proof: None,
            max_fee_msat: None,
        });
        let OpenSessionResponse::Opened(opened) = open.await.unwrap() else {
            panic!("no session");
        };
        opened.session_id
    }

    /// Sends these texts, in order; what each is called on the wire.
    async fn send(&self, texts: &[String]) -> Vec<[u8; 32]> {
        let (client, destination) = (self.program().await, self.destination());
        let mut sent = Vec::new();
        for text in texts {
            let request = SendPacketRequest {
                destination,
                payload: text.as_bytes().to_vec(),
                payment_proof: None,
                protocol_id: Some(PROTOCOL.to_owned()),
                ttl: Some(60),
            };
            let answer = client.send_packet(request).await.unwrap();
            assert!(answer.success, "{:?}", answer.error);
            sent.push(answer.packet_id);
        }
        sent
    }

    /// Waits until this text is on the receiver's disk.
    async fn until_on_disk(&self, text: &str) {
        let file = self.receiver.path().join(DELIVERIES_FILE);
        let there = async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            loop {
                let bytes = std::fs::read(&file).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return;
                }
                again.tick().await;
            }
        };
        timeout(PATIENCE, there).await.expect("it is written");
    }

    /// The receiving module: it takes what arrives over its connection, or only polls.
    async fn module(&self, handler: &str) -> (Client, Arrivals) {
        let path = self.receiver.path().join(SOCKET_FILE);
        let (caller, arrivals) = SocketCaller::connect_for_deliveries(path, "chat").await.unwrap();
        let client = MeshClient::new(caller);
        let registering = client.register_protocol_handler(RegisterProtocolRequest {
            protocol_id: PROTOCOL.to_owned(),
            handler_method: handler.to_owned(),
        });
        assert!(registering.await.unwrap().success);
        (client, arrivals)
    }

    async fn stop(self) {
        for daemon in [self.from, self.to] {
            assert_eq!(daemon.terminate().await.code(), Some(0));
        }
    }
}

fn texts(count: usize, about: &str) -> Vec<String> {
    (0..count)
        .map(|number| format!("{about} number {number:04}."))
        .collect()
}

async fn poll_all(client: &Client) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let request = PollDeliveriesRequest {
            protocol_id: Some(PROTOCOL.to_owned()),
            max_deliveries: 64,
        };
        let polled = client.poll_deliveries(request).await.unwrap();
        assert_eq!(polled.dropped, 0);
        all.extend(polled.deliveries);
        if !polled.more {
            return all;
        }
    }
}

async fn next(arrivals: &mut Arrivals) -> Arrival {
    timeout(PATIENCE, arrivals.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn packets_that_wait_for_a_module_are_all_there_once_after_the_mesh_was_killed() {
    let pair = Pair::start().await;
    // It registers and is gone.
    drop(pair.module("").await);
    let texts = texts(200, "while you were away");
    let sent = pair.send(&texts).await;
    pair.until_on_disk(&texts[199]).await;

    let pair = pair.kill_receiver().await;
    let stranger = SocketCaller::connect(pair.receiver.path().join(SOCKET_FILE), "stranger");
    let stranger = MeshClient::new(stranger.await.unwrap());
    assert_eq!(poll_all(&stranger).await, [], "they still have their owner");
    let (client, arrivals) = pair.module("").await;
    let got = poll_all(&client).await;
    let names: Vec<_> = got.iter().map(|delivery| delivery.packet_id).collect();
    assert_eq!(
        names, sent,
        "each once, in order, under the name that its sender knows"
    );
    let words: Vec<_> = got
        .iter()
        .map(|delivery| String::from_utf8_lossy(&delivery.payload))
        .collect();
    assert_eq!(words, texts);
    let source = hex::encode(got[0].source.unwrap());
    assert_eq!(source, pair.from.node_id);
    drop((client, arrivals));

    // Stopped in order, it has forgotten nothing of that: what was polled is not there again.
    let Pair {
        sender,
        receiver,
        from,
        to,
    } = pair;
    assert_eq!(to.terminate().await.code(), Some(0));
    let to = Daemon::start(&receiver).await;
    let pair = Pair {
        sender,
        receiver,
        from,
        to,
    };
    let (client, _arrivals) = pair.module("").await;
    assert_eq!(poll_all(&client).await, []);
    pair.stop().await;
}

#[tokio::test]
async fn a_kill_repeats_the_packet_that_was_being_handled_and_none_that_was_answered() {
    let pair = Pair::start().await;
    let mut heard: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let (client, mut arrivals) = pair.module("on_message").await;
    let answered = pair.send(&texts(20, "answered")).await;
    for _ in 0..20 {
        let arrival = next(&mut arrivals).await;
        *heard.entry(arrival.delivery.packet_id).or_default() += 1;
        arrival.handled();
    }
    // The mesh has the last answer when it pushes the next packet, and what is written with that one covers it.
    let waiting = texts(20, "waiting");
    let sent = pair.send(&waiting).await;
    let being_handled = next(&mut arrivals).await;
    *heard.entry(being_handled.delivery.packet_id).or_default() += 1;
    pair.until_on_disk(&waiting[19]).await;

    let pair = pair.kill_receiver().await;
    drop((client, arrivals, being_handled));
    let (_client, mut arrivals) = pair.module("on_message").await;
    for _ in 0..20 {
        let arrival = next(&mut arrivals).await;
        *heard.entry(arrival.delivery.packet_id).or_default() += 1;
        arrival.handled();
    }
    let names: Vec<_> = answered.iter().chain(&sent).copied().collect();
    assert_eq!(
        heard.len(),
        names.len(),
        "nothing lost, and nothing that was never sent"
    );
    let repeated: Vec<_> = names.iter().filter(|name| heard[*name] > 1).collect();
    assert_eq!(
        repeated,
        [&sent[0]],
        "one push of a protocol is under way at a time"
    );
    assert_eq!(heard[&sent[0]], 2);
    pair.stop().await;
}

#[tokio::test]
async fn a_packet_whose_receipt_the_sender_has_is_never_lost_whenever_the_mesh_is_killed() {
    let mut pair = Pair::start().await;
    for receipts_before_the_kill in [1, 1, 2, 30, 60] {
        drop(pair.module("").await);
        let sender = pair.program().await;
        let session_id = pair.session(&sender).await;
        let mut receipted = 0;
        while receipted < receipts_before_the_kill {
            let request = SendPacketRequest {
                destination: pair.destination(),
                payload: b"paid for".to_vec(),
                payment_proof: Some(PaymentProof::Session { session_id }),
                protocol_id: Some(PROTOCOL.to_owned()),
                ttl: Some(60),
            };
            let sent = sender.send_packet(request).await.unwrap();
            assert!(sent.success, "{:?}", sent.error);
            let session = sender.get_session(session_id).await.unwrap().unwrap();
            receipted = session.packets_receipted;
        }
        pair = pair.kill_receiver().await;
        // A receipt that was under way when it was killed counts too.
        if let Some(session) = sender.get_session(session_id).await.unwrap() {
            receipted = receipted.max(session.packets_receipted);
        }
        let (client, _arrivals) = pair.module("").await;
        let got = poll_all(&client).await;
        let of_session = got.iter().filter(|delivery| delivery.session_id == session_id);
        let mut sequences: Vec<_> = of_session.map(|delivery| delivery.sequence).collect();
        let all = sequences.len();
        sequences.dedup();
        assert_eq!(sequences.len(), all, "none twice");
        assert!(all as u64 >= receipted, "{all} of {receipted} that have receipts");
    }
    pair.stop().await;
}
