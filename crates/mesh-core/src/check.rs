//! What workers do before the core: parse control messages and check every signature in them.
//!
//! The core takes only a [`Checked`] message, and only this file can make one, so nothing unchecked gets in by mistake.

use crate::certificate::check_path;
use crate::drop_reason::DropReason;
use crate::identity::{NodeId, SignatureContext, SignatureVerifier};
use crate::message::{ControlMessage, QuoteAnswer};
use crate::verifier::{InvoiceFacts, read_invoice};

/// A control message that was found in order: well-formed, bounded, and with every signature that concerns this node.
#[derive(Debug)]
pub struct Checked {
    message: ControlMessage,
    invoice: Option<InvoiceFacts>,
}

impl Checked {
    /// The message, and the facts of the invoice in it when it is a quote for this node.
    pub fn into_parts(self) -> (ControlMessage, Option<InvoiceFacts>) {
        (self.message, self.invoice)
    }
}

/// Parses a control frame and checks it for the node `me`. Relays check the signatures of answers that are for others,
/// too: so each forged one is the fault of the neighbour it came from, and a villain cannot have an honest relay blamed.
pub fn check(frame: &[u8], me: &NodeId, verifier: &dyn SignatureVerifier) -> Result<Checked, DropReason> {
    let message = ControlMessage::decode(frame)?;
    let mut invoice = None;
    match &message {
        ControlMessage::DiscoveryRequest(request) => request.check_shape()?,
        ControlMessage::DiscoveryResponse(certificate) if certificate.requester() == Some(me) => {
            certificate.verify(verifier)?;
        }
        ControlMessage::DiscoveryResponse(certificate) => {
            check_path(&certificate.path)?;
            let place = certificate.next_attester().ok_or(DropReason::BadRoute)?;
            if certificate.path.get(place) != Some(me) {
                return Err(DropReason::WrongHop);
            }
            certificate.verify_so_far(verifier)?;
        }
        ControlMessage::QuoteRequest(request) => {
            // Cheap before dear: up to ten signatures are checked only for a route that this node is a payee of.
            request.check_shape()?;
            if !request.certificate.path.iter().skip(1).any(|payee| payee == me) {
                return Err(DropReason::WrongHop);
            }
            request.certificate.verify(verifier)?;
        }
        ControlMessage::QuoteResponse(response) => {
            if let QuoteAnswer::Quote(quote) = &response.answer {
                if !quote.verify(verifier) {
                    return Err(DropReason::BadSignature);
                }
                if response.requester == *me {
                    invoice = quote.invoice.as_deref().map(read_invoice).transpose()?;
                }
            }
        }
        ControlMessage::RoutingUpdate(update) => update.check(verifier)?,
        ControlMessage::SeqnoRequest(request) => request.check()?,
        ControlMessage::Refused | ControlMessage::RoutingAck { .. } => {}
    }
    Ok(Checked { message, invoice })
}

/// Whether `payee` refused the request with this digest for this reason.
pub fn refusal_signed(
    digest: &[u8; 32],
    payee: &NodeId,
    reason: DropReason,
    signature: &crate::identity::Signature,
    verifier: &dyn SignatureVerifier,
) -> bool {
    let message = crate::message::refusal_bytes(digest, reason);
    verifier.verify(payee, SignatureContext::Quote, &message, signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::certificate;
    use crate::identity::{Ed25519Verifier, Identity, Signature};
    use crate::message::{
        DiscoveryMode, DiscoveryRequest, Price, Quote, QuoteRequest, QuoteResponse, RouteCertificate,
    };
    use crate::routing_policy::TrafficClass;
    use crate::time::UnixMillis;
    use std::cell::Cell;

    /// Counts how often it is asked.
    struct Counting(Cell<u32>);

    impl SignatureVerifier for Counting {
        fn verify(&self, _: &NodeId, _: SignatureContext, _: &[u8], _: &Signature) -> bool {
            self.0.set(self.0.get() + 1);
            true
        }
    }

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    #[test]
    fn forged_quote_never_reaches_the_core_of_its_requester() {
        let me = identity(1).node_id();
        let quote = Quote {
            request_digest: [1; 32],
            payee: identity(2).node_id(),
            key: [3; 32],
            price_msat: 0,
            amount_msat: 0,
            invoice: None,
            output: None,
            nonce: [4; 16],
            pay_by: UnixMillis(1),
            redeem_by: UnixMillis(2),
            signature: Signature([0; 64]),
        };
        let frame = |quote: Quote| {
            let response = QuoteResponse {
                request: [1; 16],
                requester: me,
                answer: QuoteAnswer::Quote(quote),
            };
            ControlMessage::QuoteResponse(response).encode().unwrap()
        };
        assert!(check(&frame(quote.clone().sign(&identity(2))), &me, &Ed25519Verifier).is_ok());
        let by_a_relay = quote.sign(&identity(3));
        assert_eq!(
            check(&frame(by_a_relay), &me, &Ed25519Verifier).unwrap_err(),
            DropReason::BadSignature
        );
    }

    #[test]
    fn forged_route_is_refused_by_its_requester_and_by_every_relay() {
        let path = vec![1, 5, 2].into_iter().map(|byte| identity(byte).node_id());
        let path: Vec<_> = path.collect();
        let price = Price {
            msat_per_unit: 1,
            payable: true,
        };
        let forged = RouteCertificate::sign([0; 16], path, price, UnixMillis(1), &identity(9));
        let frame = ControlMessage::DiscoveryResponse(forged.clone())
            .encode()
            .unwrap();
        let reason = |me: u8, frame: &[u8]| {
            let checked = check(frame, &identity(me).node_id(), &Ed25519Verifier);
            checked.map(|_| ()).err()
        };
        assert_eq!(reason(5, &frame), Some(DropReason::BadSignature));
        assert_eq!(reason(6, &frame), Some(DropReason::WrongHop), "not on that path");
        let mut signed_by_a_router = forged.clone();
        signed_by_a_router
            .attest(price, None, UnixMillis(1), &identity(5))
            .unwrap();
        let frame = ControlMessage::DiscoveryResponse(signed_by_a_router)
            .encode()
            .unwrap();
        assert_eq!(reason(1, &frame), Some(DropReason::BadSignature));
        let honest = RouteCertificate::sign([0; 16], forged.path, price, UnixMillis(1), &identity(2));
        let frame = ControlMessage::DiscoveryResponse(honest).encode().unwrap();
        assert_eq!(reason(5, &frame), None);
    }

    #[test]
    fn request_that_concerns_others_or_is_out_of_shape_costs_no_signature_check() {
        let request = QuoteRequest {
            id: [1; 16],
            certificate: certificate(),
            class: TrafficClass::Paid,
            units: 1,
            total_msat: 1,
            accounts: vec![[5; 32]; 3],
            buying: vec![true; 3],
            method: Default::default(),
        };
        let ask = |request: &QuoteRequest, me: u8| {
            let counting = Counting(Cell::new(0));
            let frame = ControlMessage::QuoteRequest(Box::new(request.clone()))
                .encode()
                .unwrap();
            let outcome = check(&frame, &identity(me).node_id(), &counting).map(|_| ());
            (outcome, counting.0.get())
        };
        assert_eq!(ask(&request, 3), (Ok(()), 3));
        assert_eq!(ask(&request, 9), (Err(DropReason::WrongHop), 0));
        assert_eq!(
            ask(&request, 1),
            (Err(DropReason::WrongHop), 0),
            "the requester itself"
        );
        let unfit = QuoteRequest {
            accounts: vec![[5; 32]; 900],
            ..request
        };
        assert_eq!(ask(&unfit, 3), (Err(DropReason::BadRoute), 0));
    }

    #[test]
    fn request_out_of_shape_is_refused_where_it_arrives() {
        let ids =
            |nodes: &[u8]| -> Vec<NodeId> { nodes.iter().map(|byte| identity(*byte).node_id()).collect() };
        let request = |path: &[u8], max_hops, mode| {
            let request = DiscoveryRequest {
                nonce: [1; 16],
                destination: identity(9).node_id(),
                max_hops,
                deadline: UnixMillis(1),
                path: ids(path),
                mode,
            };
            let frame = ControlMessage::DiscoveryRequest(request).encode().unwrap();
            check(&frame, &identity(5).node_id(), &Ed25519Verifier).map(|_| ())
        };
        let ring = || DiscoveryMode::Ring { avoid: Vec::new() };
        let route = |ahead: &[u8]| DiscoveryMode::Route { ahead: ids(ahead) };
        let branch = |tag, avoid: &[u8]| DiscoveryMode::Branch {
            tag,
            avoid: ids(avoid),
        };
        let sound = [
            request(&[1, 2, 3], 10, ring()),
            request(&[1, 2, 3], 4, route(&[5, 9])),
            request(&[1], 1, branch(3, &[7; 8])),
        ];
        assert_eq!(sound, [Ok(()); 3]);
        let unsound = [
            request(&[1, 2, 1], 10, ring()),
            request(&[], 10, ring()),
            request(&[1], 0, ring()),
            request(&[1, 2, 3], 2, ring()),
            request(&[1, 2, 3], 3, route(&[5, 9])),
            request(&[1, 2, 3], 10, route(&[5, 8])),
            request(&[1, 2, 3], 10, route(&[])),
            request(&[1, 2, 3], 10, route(&[5, 2, 9])),
            request(&[1, 2, 3], 10, route(&[5, 5, 9])),
            request(&[1], 10, branch(4, &[])),
            request(&[1], 10, branch(0, &[7; 9])),
            request(&[1], 10, DiscoveryMode::Ring { avoid: ids(&[7; 9]) }),
        ];
        assert_eq!(unsound, [Err(DropReason::BadRoute); 12]);
    }
}
