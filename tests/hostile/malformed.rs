//! Neighbours whose frames are none, or say what no honest neighbour says.

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::Channel;
use mesh_core::identity::{Identity, NodeId};
use mesh_core::message::{ControlMessage, Price, RouteCertificate};
use mesh_core::packet::FrameKind;
use mesh_core::routing_policy::MeshMode;
use mesh_core::time::UnixMillis;
use mesh_net::{CloseReason, EndpointConfig, LinkEvent};

use crate::common::eventually;
use crate::stage::*;

/// What a link forgives at once, as `DropReason::Malformed` promises a bounded number.
const FORGIVEN: u64 = 32;

/// What the rogue's key is made from.
const ROGUE: u8 = 66;

/// Every way to be malformed that ends in its own branch of the code.
fn malformed_frames() -> Vec<(&'static str, Channel, Vec<u8>, DropReason)> {
    use Channel::{Control, Data};
    use DropReason::{Malformed, Oversize, UnknownKind, UnknownVersion};
    let trailing = [&ControlMessage::Refused.encode().unwrap()[..], &[0]].concat();
    vec![
        ("bytes of chance", Data, vec![0x5a; 200], Malformed),
        ("bytes of chance as control", Control, vec![0xa5; 200], Malformed),
        ("half a preamble", Data, b"MESH\x01\x01\x02".to_vec(), Malformed),
        ("wrong magic", Data, altered(0, b'm'), Malformed),
        ("wrong version", Data, altered(4, 2), UnknownVersion),
        ("unknown kind", Data, altered(5, 9), UnknownKind),
        (
            "control on the data connection",
            Data,
            ControlMessage::Refused.encode().unwrap().to_vec(),
            Malformed,
        ),
        (
            "open on the data connection",
            Data,
            frame(FrameKind::Open, 2, 300),
            Malformed,
        ),
        (
            "packet on the control connection",
            Control,
            frame(FrameKind::Data, 2, 300),
            Malformed,
        ),
        (
            "answer on the control connection",
            Control,
            frame(FrameKind::Back, 2, 300),
            Malformed,
        ),
        (
            "packet cut off in its header",
            Data,
            frame(FrameKind::Data, 2, 20),
            Malformed,
        ),
        (
            "packet that lies about its length",
            Data,
            frame(FrameKind::Data, 2, 300),
            Malformed,
        ),
        ("open cut off", Control, frame(FrameKind::Open, 2, 40), Malformed),
        (
            "error cut off",
            Control,
            frame(FrameKind::HopError, 0, 20),
            Malformed,
        ),
        (
            "error too long",
            Control,
            frame(FrameKind::HopError, 0, 200),
            Oversize,
        ),
        (
            "control message of nonsense",
            Control,
            frame(FrameKind::Control, 0, 90),
            Malformed,
        ),
        ("control message with a tail", Control, trailing, Malformed),
    ]
}

/// Answers that an honest neighbour of `victim` would have refused itself.
fn dishonest_answers(victim: NodeId) -> Vec<(&'static str, Channel, Vec<u8>, DropReason)> {
    let me = Identity::from_seed([ROGUE; 32]).unwrap();
    let price = Price {
        msat_per_unit: 0,
        payable: false,
    };
    let path = vec![NodeId([1; 32]), victim, me.node_id()];
    let asked_for_by_nobody = RouteCertificate::sign([1; 16], path, price, UnixMillis(u64::MAX), &me);
    let mut forged = asked_for_by_nobody.clone();
    forged.nonce = [2; 16];
    let frame = |answer| {
        ControlMessage::DiscoveryResponse(answer)
            .encode()
            .unwrap()
            .to_vec()
    };
    vec![
        (
            "answer nobody asked for",
            Channel::Control,
            frame(asked_for_by_nobody),
            DropReason::Unsolicited,
        ),
        (
            "answer with a forged signature",
            Channel::Control,
            frame(forged),
            DropReason::BadSignature,
        ),
    ]
}

async fn malformed_frames_cost_the_link(mode: MeshMode) {
    let mut line = Line::start(mode, victim_links()).await;
    let mut rogue = Rogue::new(ROGUE, EndpointConfig::default());
    let crimes = [malformed_frames(), dishonest_answers(line.victim.id())].concat();
    for (number, (crime, channel, frame, reason)) in (1..).zip(crimes) {
        let sender = rogue.enter(&line).await;
        let (frame, before) = (Bytes::from(frame), line.dropped(reason).await);
        let mut sent = 0;
        while line.closed(CloseReason::Misbehaved) < number {
            assert!(sent < FORGIVEN + 20, "{crime}: {sent} frames and no end");
            if send(&sender, channel, vec![frame.clone()]) {
                sent += 1;
            } else {
                // The link has just ended; that it ended for this crime is still to be seen.
                line.wait_closed(CloseReason::Misbehaved, number).await;
            }
            eventually(crime, async || {
                let counted = line.dropped(reason).await >= before + sent;
                (counted || line.closed(CloseReason::Misbehaved) >= number).then_some(())
            })
            .await;
        }
        let counted = line.dropped(reason).await - before;
        assert!(counted > FORGIVEN, "{crime}: lost its link after {counted}");
        loop {
            if let LinkEvent::Down { .. } = rogue.next().await {
                break;
            }
        }
        line.honest_packet_crosses().await;
    }
    line.honest_session_opens().await;
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbour_that_goes_on_sending_malformed_frames_loses_its_link_in_mode_open() {
    malformed_frames_cost_the_link(MeshMode::Open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbour_that_goes_on_sending_malformed_frames_loses_its_link_in_mode_payment_gated() {
    malformed_frames_cost_the_link(MeshMode::PaymentGated).await;
}
