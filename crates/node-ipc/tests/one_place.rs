//! A node as published (0.1.83): it serves one connection, the others wait, and it is lost if one goes that waits.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use node_ipc::frame::{FrameReader, framed};
use node_ipc::message::{Decoded, Message, decode};
use node_ipc::{Incoming, NodeClient, Options, Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::Receiver;

fn start(path: &Path) -> (NodeClient, Receiver<Incoming>) {
    let mut options = Options::new(path, "mesh", "mesh_0", "0.1.0");
    options.leave_the_only_place = true;
    NodeClient::start(options)
}

/// A connection as the node has it.
struct Served {
    frames: FrameReader<OwnedReadHalf>,
    socket: OwnedWriteHalf,
}

impl Served {
    /// Accepts, reads the handshake, and says under which id it was made.
    async fn next(listener: &UnixListener) -> (Self, u64, String) {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, socket) = UnixStream::into_split(stream);
        let mut frames = FrameReader::new(read);
        let frame = frames.next().await.unwrap();
        let Ok(Decoded::Known(Message::Request(id, Request::Handshake { module_id, .. }))) = decode(&frame)
        else {
            panic!("no handshake");
        };
        (Self { frames, socket }, id, module_id)
    }

    async fn greet(&mut self, id: u64) -> std::io::Result<()> {
        let ack = Response::HandshakeAck {
            node_version: "0.1.83".to_owned(),
        };
        let frame = framed(&Message::Response(id, Ok(ack))).unwrap();
        self.socket.write_all(&frame).await
    }

    async fn sees_the_end(mut self) -> bool {
        self.frames.next().await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_place_is_left_to_the_node_in_an_order_that_it_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (client, mut incoming) = start(&path);

    let (mut first, id, name) = Served::next(&listener).await;
    assert_eq!(name, "mesh");
    first.greet(id).await.unwrap();
    // Serving the first, the node does not come to the second before the first is gone.
    assert!(first.sees_the_end().await);
    let (mut second, id, name) = Served::next(&listener).await;
    assert_eq!(name, "mesh#probe");
    second.greet(id).await.expect("the second waits to be greeted");
    assert!(second.sees_the_end().await);
    let said = incoming.recv().await.unwrap();
    assert!(
        matches!(&said, Incoming::Disconnected { reason } if reason.contains("one connection only")),
        "{said:?}"
    );
    assert!(!client.is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_node_with_more_places_keeps_the_first_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (client, mut incoming) = start(&path);

    let (mut first, id, _) = Served::next(&listener).await;
    first.greet(id).await.unwrap();
    let (mut second, id, _) = Served::next(&listener).await;
    second.greet(id).await.unwrap();
    assert!(second.sees_the_end().await);
    assert!(matches!(
        incoming.recv().await.unwrap(),
        Incoming::Connected { .. }
    ));
    while !client.is_connected() {
        tokio::task::yield_now().await;
    }
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_handshake_is_told_and_waited_for_on_the_same_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (client, mut incoming) = start(&path);

    let (mut first, id, _) = Served::next(&listener).await;
    let said = incoming.recv().await.unwrap();
    assert!(
        matches!(&said, Incoming::Disconnected { reason } if reason.contains("waiting for it")),
        "{said:?}"
    );
    // An hour later it is the same connection still, and the only one.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(1), listener.accept())
            .await
            .is_err()
    );
    first.greet(id).await.unwrap();
    let (mut second, id, _) = Served::next(&listener).await;
    second.greet(id).await.unwrap();
    assert!(matches!(
        incoming.recv().await.unwrap(),
        Incoming::Connected { .. }
    ));
    drop((client, first));
}
