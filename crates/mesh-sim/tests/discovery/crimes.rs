//! Who lies about paths is found out where the lie arrives, and nobody else is held responsible.

use std::cell::RefCell;
use std::rc::Rc;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command};
use mesh_core::identity::NodeId;
use mesh_core::message::{ControlMessage, DiscoveryRequest, Price, RequestId, RouteCertificate};
use mesh_sim::{LinkSpec, NodeIndex, Simulation};

use super::*;

/// What a villain without a core heard of requests, as far as it was asked by `neighbour`.
fn requests_heard(sim: &mut Simulation, villain: NodeIndex, neighbour: NodeIndex) -> Vec<DiscoveryRequest> {
    let heard = sim.inbox(villain).into_iter();
    heard
        .filter(|(from, _)| *from == neighbour)
        .filter_map(|(_, frame)| match ControlMessage::decode(&frame) {
            Ok(ControlMessage::DiscoveryRequest(request)) => Some(request),
            _ => None,
        })
        .collect()
}

fn free() -> Price {
    Price {
        msat_per_unit: 0,
        payable: true,
    }
}

fn say(sim: &mut Simulation, villain: NodeIndex, to: NodeIndex, certificate: RouteCertificate) {
    let frame = ControlMessage::DiscoveryResponse(certificate).encode().unwrap();
    sim.inject(villain, to, frame);
}

/// A request of A's passes B and comes to a villain M, which answers with what `forge` makes of it.
fn answered_by_a_villain(
    seed: u64,
    forge: impl Fn(&Simulation, NodeIndex, DiscoveryRequest) -> Vec<RouteCertificate>,
) -> (Simulation, NodeIndex) {
    let mut sim = unannounced(seed, 4, &[(0, 1), (1, 2), (2, 3)]);
    let villain = sim.add_villain();
    sim.connect(villain, B, LinkSpec::default());
    sim.run_for(SECOND);
    let command = Command::Discover {
        destination: sim.id(D),
        max_hops: 10,
        timeout: 10 * SECOND,
        refresh: true,
    };
    let id = sim.command(A, command);
    while !sim.is_answered(id) && sim.step() {
        for request in requests_heard(&mut sim, villain, B) {
            for certificate in forge(&sim, villain, request) {
                say(&mut sim, villain, B, certificate);
            }
        }
    }
    let Ok(Answer::Routes(routes)) = sim.take_answer(id).unwrap() else {
        panic!("the honest way was not found");
    };
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].path, path(&sim, &[0, 1, 2, 3]), "and no other");
    sim.settle();
    assert_eq!(sim.drops(A, DropReason::BadSignature), 0, "B let nothing through");
    assert_eq!(sim.drops(A, DropReason::Unsolicited), 0, "B let nothing through");
    (sim, villain)
}

fn with_villain_and_destination(
    sim: &Simulation,
    villain: NodeIndex,
    request: &DiscoveryRequest,
) -> Vec<NodeId> {
    let ends = [sim.id(villain), request.destination];
    request.path.iter().copied().chain(ends).collect()
}

#[test]
fn relay_that_answers_for_the_destination_is_refused_by_its_neighbour_and_blamed() {
    let (sim, villain) = answered_by_a_villain(11, |sim, villain, request| {
        let path = with_villain_and_destination(sim, villain, &request);
        let expires = sim.now().unix + 60 * SECOND;
        let me = sim.identity(villain);
        let mut forged = RouteCertificate::sign(request.nonce, path, free(), expires, &me);
        forged.attest(free(), None, expires, &me).unwrap();
        vec![forged]
    });
    blames(&sim, B, villain, DropReason::BadSignature);
}

#[test]
fn relay_that_names_itself_the_destination_or_makes_up_a_path_is_blamed() {
    let (sim, villain) = answered_by_a_villain(12, |sim, villain, request| {
        let expires = sim.now().unix + 60 * SECOND;
        let me = sim.identity(villain);
        let to_me: Vec<_> = request.path.iter().copied().chain([sim.id(villain)]).collect();
        // Properly signed, but the way to somebody A did not ask for.
        let lure = RouteCertificate::sign(request.nonce, to_me.clone(), free(), expires, &me);
        // A way that the request never took.
        let mut detour = to_me;
        detour.insert(1, NodeId([7; 32]));
        let detour = RouteCertificate::sign(request.nonce, detour, free(), expires, &me);
        vec![lure, detour]
    });
    blames(&sim, B, villain, DropReason::Unsolicited);
}

#[test]
fn same_answer_twice_is_held_against_who_gave_it_twice() {
    let mut sim = unannounced(13, 3, &line(3));
    sim.tamper(B, A, Box::new(|_, frame| vec![frame.clone(), frame.clone()]));
    assert_eq!(found(&mut sim, A, C).len(), 1);
    sim.settle();
    blames(&sim, A, B, DropReason::Unsolicited);
}

#[test]
fn old_answer_is_worth_nothing_to_a_new_question() {
    let mut sim = unannounced(14, 3, &line(3));
    let old: Rc<RefCell<Vec<RouteCertificate>>> = Rc::default();
    let new_nonce: Rc<RefCell<Option<RequestId>>> = Rc::default();
    let (shown, dress) = (old.clone(), new_nonce.clone());
    sim.tamper(
        B,
        A,
        Box::new(move |_, frame| {
            let Ok(ControlMessage::DiscoveryResponse(certificate)) = ControlMessage::decode(frame) else {
                return vec![frame.clone()];
            };
            let mut shown = shown.borrow_mut();
            if shown.is_empty() {
                shown.push(certificate);
                return vec![frame.clone()];
            }
            let mut replayed = shown[0].clone();
            if dress.borrow().is_some() {
                replayed.nonce = certificate.nonce;
            }
            vec![ControlMessage::DiscoveryResponse(replayed).encode().unwrap()]
        }),
    );
    assert_eq!(found(&mut sim, A, C).len(), 1);
    // An hour later the cache is empty, and B shows the old answer to each new question.
    sim.run_for(3700 * SECOND);
    assert_eq!(look(&mut sim, A, C, 10, 3 * SECOND).0, Err(DropReason::NoRoute));
    blames(&sim, A, B, DropReason::Unsolicited);
    // With the new nonce in it the signature no longer holds.
    *new_nonce.borrow_mut() = Some([0; 16]);
    assert_eq!(look(&mut sim, A, C, 10, 3 * SECOND).0, Err(DropReason::NoRoute));
    blames(&sim, A, B, DropReason::BadSignature);
}
