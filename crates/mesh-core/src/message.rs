//! The control messages: discovery and quotes. Postcard-encoded behind the preamble, at most 32 KiB each.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::fees::{self, Split};
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::limits::{MAX_CONTROL_BYTES, MAX_HOPS, MIN_SHARE_MSAT};
use crate::packet::{FrameKind, PREAMBLE_BYTES, Preamble};
use crate::routing_policy::TrafficClass;
use crate::time::UnixMillis;

/// Sixteen random bytes that tell one request from all others.
pub type RequestId = [u8; 16];

/// Everything that neighbours say to one another besides packets and opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// Looks for a path; flooded.
    DiscoveryRequest(DiscoveryRequest),
    /// A complete, priced, signed path; goes back the way the request came.
    DiscoveryResponse(RouteCertificate),
    /// Asks every payee of a route for a quote; goes along the route.
    QuoteRequest(Box<QuoteRequest>),
    /// One payee's answer; goes back along the route.
    QuoteResponse(QuoteResponse),
    /// The one undifferentiated error for what could not be authenticated: the neighbour alone learns that an open
    /// of its went nowhere, nobody learns why.
    Refused,
}

impl ControlMessage {
    /// The frame of this message.
    pub fn encode(&self) -> Result<Bytes, DropReason> {
        let mut frame = Preamble {
            kind: FrameKind::Control,
            hops: 0,
            index: 0,
        }
        .to_bytes()
        .to_vec();
        frame.extend(postcard::to_stdvec(self).map_err(|_| DropReason::Malformed)?);
        if frame.len() > MAX_CONTROL_BYTES {
            Err(DropReason::Oversize)
        } else {
            Ok(frame.into())
        }
    }

    /// The message of a frame; bytes left over are refused.
    pub fn decode(frame: &[u8]) -> Result<Self, DropReason> {
        if frame.len() > MAX_CONTROL_BYTES {
            return Err(DropReason::Oversize);
        }
        if Preamble::parse(frame)?.kind != FrameKind::Control {
            return Err(DropReason::UnknownKind);
        }
        let body = frame.get(PREAMBLE_BYTES..).ok_or(DropReason::Malformed)?;
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            _ => Err(DropReason::Malformed),
        }
    }
}

/// Looks for paths from `path[0]` to `destination`. Unsigned: it proves nothing and promises nothing, every fact that
/// counts is signed in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryRequest {
    /// The requester's nonce; the destination signs it, so an old answer cannot be replayed.
    pub nonce: RequestId,
    /// Whom to find.
    pub destination: NodeId,
    /// Longest path wanted, in hops (1 to 10).
    pub max_hops: u8,
    /// When the requester stops listening.
    pub deadline: UnixMillis,
    /// The nodes it passed, requester first.
    pub path: Vec<NodeId>,
}

/// What a node charges, as it signs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Millisatoshi per unit (a started KiB of payload); 0 is free.
    pub msat_per_unit: u64,
    /// Whether the node has a wallet that can be paid.
    pub payable: bool,
}

/// A router's signed place and price in a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterAttestation {
    /// What the router charges on this path.
    pub price: Price,
    /// The operator key the router claims; claims only ever merge nodes into one entity.
    pub operator: Option<NodeId>,
    /// The network group the router knows itself to be in; 0 when unknown.
    pub network_group: u32,
    /// Until when the price holds.
    pub expires: UnixMillis,
    /// The router's signature over all of this, its neighbours in the path and the destination's signature.
    pub signature: Signature,
}

/// A path, priced and signed by everybody on it: the answer to a discovery, and what a quote request shows payees so
/// that each can recompute the fee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCertificate {
    /// The nonce of the request it answers.
    pub nonce: RequestId,
    /// All nodes, requester first, destination last: 2 to 11, all different.
    pub path: Vec<NodeId>,
    /// What the destination charges.
    pub destination_price: Price,
    /// Until when the destination's price holds.
    pub expires: UnixMillis,
    /// The destination's signature over nonce, path, price and expiry.
    pub destination_signature: Signature,
    /// The routers' attestations in the order they were made: the destination's neighbour first.
    pub attestations: Vec<RouterAttestation>,
}

impl RouteCertificate {
    /// As the destination: confirms that `path` leads here.
    pub fn sign(
        nonce: RequestId,
        path: Vec<NodeId>,
        price: Price,
        expires: UnixMillis,
        destination: &Identity,
    ) -> Self {
        let message = destination_bytes(&nonce, &path, price, expires);
        let destination_signature = destination.sign(SignatureContext::DestinationPath, &message);
        Self {
            nonce,
            path,
            destination_price: price,
            expires,
            destination_signature,
            attestations: Vec::new(),
        }
    }

    /// As the router whose turn it is on the way back: adds its place and price.
    pub fn attest(
        &mut self,
        price: Price,
        operator: Option<NodeId>,
        expires: UnixMillis,
        router: &Identity,
    ) -> Result<(), DropReason> {
        let place = self.next_attester().ok_or(DropReason::BadRoute)?;
        let mut attestation = RouterAttestation {
            price,
            operator,
            network_group: 0,
            expires,
            signature: Signature([0; 64]),
        };
        let message = self
            .router_bytes(place, &attestation)
            .ok_or(DropReason::BadRoute)?;
        attestation.signature = router.sign(SignatureContext::RouterAttestation, &message);
        self.attestations.push(attestation);
        Ok(())
    }

    /// The place in the path of the router that signs next; `None` when all have signed.
    pub fn next_attester(&self) -> Option<usize> {
        self.path
            .len()
            .checked_sub(2 + self.attestations.len())
            .filter(|place| *place > 0)
    }

    /// Hops of the route: routers and destination.
    pub fn hops(&self) -> usize {
        self.path.len().saturating_sub(1)
    }

    /// The requester.
    pub fn requester(&self) -> Option<&NodeId> {
        self.path.first()
    }

    /// The destination.
    pub fn destination(&self) -> Option<&NodeId> {
        self.path.last()
    }

    /// The attestation of the router at `place` (1 is the first router).
    fn attestation(&self, place: usize) -> Option<&RouterAttestation> {
        self.attestations
            .get(self.path.len().checked_sub(2)?.checked_sub(place)?)
    }

    /// The prices of all payees, first router first, destination last.
    pub fn prices(&self) -> Vec<Price> {
        let routers = (1..self.hops())
            .filter_map(|place| self.attestation(place))
            .map(|attestation| attestation.price);
        routers.chain([self.destination_price]).collect()
    }

    /// Until when every price in it holds.
    pub fn valid_until(&self) -> UnixMillis {
        self.attestations
            .iter()
            .map(|attestation| attestation.expires)
            .fold(self.expires, UnixMillis::min)
    }

    /// Checks the shape: 2 to 11 different nodes.
    pub fn check_path(&self) -> Result<(), DropReason> {
        check_path(&self.path)
    }

    /// Checks every signature: the destination's and each router's. What a requester gains from a route, and a payee
    /// from a quote request, rests on this; with one signature unchecked a relay could lower another's price.
    pub fn verify(&self, verifier: &dyn SignatureVerifier) -> Result<(), DropReason> {
        self.check_path()?;
        if self.attestations.len() + 2 != self.path.len() {
            return Err(DropReason::BadRoute);
        }
        let destination = self.destination().ok_or(DropReason::BadRoute)?;
        let message = destination_bytes(&self.nonce, &self.path, self.destination_price, self.expires);
        let signed = verifier.verify(
            destination,
            SignatureContext::DestinationPath,
            &message,
            &self.destination_signature,
        );
        let routers_signed = (1..self.hops()).all(|place| self.router_signed(place, verifier));
        if signed && routers_signed {
            Ok(())
        } else {
            Err(DropReason::BadSignature)
        }
    }

    fn router_signed(&self, place: usize, verifier: &dyn SignatureVerifier) -> bool {
        let (Some(router), Some(attestation)) = (self.path.get(place), self.attestation(place)) else {
            return false;
        };
        self.router_bytes(place, attestation).is_some_and(|message| {
            verifier.verify(
                router,
                SignatureContext::RouterAttestation,
                &message,
                &attestation.signature,
            )
        })
    }

    fn router_bytes(&self, place: usize, attestation: &RouterAttestation) -> Option<Vec<u8>> {
        let previous = self.path.get(place.checked_sub(1)?)?;
        let next = self.path.get(place + 1)?;
        let RouterAttestation {
            price,
            operator,
            network_group,
            expires,
            ..
        } = attestation;
        let facts = (
            &self.destination_signature,
            previous,
            next,
            price,
            operator,
            network_group,
            expires,
        );
        // Serialising plain integers and arrays to a vector cannot fail; `None` makes the check fail closed anyway.
        postcard::to_stdvec(&facts).ok()
    }
}

fn destination_bytes(nonce: &RequestId, path: &[NodeId], price: Price, expires: UnixMillis) -> Vec<u8> {
    let mut message = nonce.to_vec();
    message.push(path.len() as u8);
    for node in path {
        message.extend_from_slice(&node.0);
    }
    message.extend_from_slice(&price.msat_per_unit.to_be_bytes());
    message.push(u8::from(price.payable));
    message.extend_from_slice(&expires.0.to_be_bytes());
    message
}

/// 2 to 11 nodes (requester and at most ten hops), all different.
pub fn check_path(path: &[NodeId]) -> Result<(), DropReason> {
    let long_enough = (2..=MAX_HOPS + 1).contains(&path.len());
    let repeats = path
        .iter()
        .enumerate()
        .any(|(place, node)| path.iter().skip(place + 1).any(|other| other == node));
    if long_enough && !repeats {
        Ok(())
    } else {
        Err(DropReason::BadRoute)
    }
}

/// Asks every payee of a route for a key and, where credit is to be bought, an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// Tells this request from others; repeated on retransmission.
    pub id: RequestId,
    /// The route with everybody's signed price.
    pub certificate: RouteCertificate,
    /// What is to be carried.
    pub class: TrafficClass,
    /// Units the slice pays for.
    pub units: u64,
    /// The fee the payer offers for the slice, in msat; each payee recomputes what it must be at the least.
    pub total_msat: u64,
    /// The payer's account key at each payee, in route order: one per payee, so that payees cannot compare payers.
    pub accounts: Vec<[u8; 32]>,
    /// At which payees credit is bought; at the others the account holds enough.
    pub buying: Vec<bool>,
}

/// One payee's part of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayeeTerms {
    /// What the session draws per unit from the account at this payee, in msat.
    pub price_msat: u64,
    /// Credit that paying buys, in msat.
    pub credit_msat: u64,
    /// The treasury's part that this payee collects, in msat (the destination only).
    pub treasury_msat: u64,
}

impl PayeeTerms {
    /// What the payee's invoice is for, in msat.
    pub fn amount_msat(&self) -> u64 {
        // Both are parts of one split total and so cannot overflow; saturating keeps that from being an assumption.
        self.credit_msat.saturating_add(self.treasury_msat)
    }
}

impl QuoteRequest {
    /// What quotes commit to: the whole request.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh/1 quote request");
        hasher.update(&postcard::to_stdvec(self).unwrap_or_default());
        *hasher.finalize().as_bytes()
    }

    /// The least fee for which every payee's share covers its price, in msat: 0 when all are free.
    pub fn least_total(certificate: &RouteCertificate, units: u64) -> Result<u64, DropReason> {
        let prices = certificate.prices();
        let (destination, routers) = prices.split_last().ok_or(DropReason::BadRoute)?;
        let routers: Vec<u64> = routers.iter().map(|price| price.msat_per_unit).collect();
        fees::slice_total(&routers, destination.msat_per_unit, units, MIN_SHARE_MSAT)
            .map_err(|_| DropReason::ShareTooSmall)
    }

    /// The part of the payee at `place` (1 is the first router, the last the destination).
    pub fn terms(&self, place: usize) -> Result<PayeeTerms, DropReason> {
        let hops = self.certificate.hops();
        if place == 0
            || place > hops
            || self.units == 0
            || self.accounts.len() != hops
            || self.buying.len() != hops
        {
            return Err(DropReason::BadRoute);
        }
        let least = Self::least_total(&self.certificate, self.units)?;
        if self.total_msat < least || (least == 0 && self.total_msat != 0) {
            return Err(DropReason::ShareTooSmall);
        }
        let split = Split::of(self.total_msat, hops - 1).map_err(|_| DropReason::ShareTooSmall)?;
        let (share, treasury) = if place == hops {
            (split.destination_msat(), split.treasury_msat())
        } else {
            (split.share(place - 1).ok_or(DropReason::BadRoute)?, 0)
        };
        let price_msat = share / self.units;
        let buying = self.buying.get(place - 1).copied().unwrap_or(false);
        if buying {
            Ok(PayeeTerms {
                price_msat,
                credit_msat: share,
                treasury_msat: treasury,
            })
        } else {
            Ok(PayeeTerms {
                price_msat,
                credit_msat: 0,
                treasury_msat: 0,
            })
        }
    }
}

/// A payee's signed offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The request it answers.
    pub request_digest: [u8; 32],
    /// Who is to be paid.
    pub payee: NodeId,
    /// A fresh X25519 key: the session's box for this payee is sealed to it.
    pub key: [u8; 32],
    /// What a session draws per unit, in msat.
    pub price_msat: u64,
    /// What the invoice is for, in msat; 0 when there is none.
    pub amount_msat: u64,
    /// The BOLT11 invoice; none when nothing is bought.
    pub invoice: Option<String>,
    /// Enters the invoice's description hash.
    pub nonce: [u8; 16],
    /// Until when the invoice may be paid.
    pub pay_by: UnixMillis,
    /// Until when a settled payment is redeemed.
    pub redeem_by: UnixMillis,
    /// The payee's signature over all of this: without it the relay that hands the quote on would put in an invoice
    /// of its own.
    pub signature: Signature,
}

/// The name of a quote: what an open shows so that the hop finds its key.
pub type QuoteId = [u8; 16];

impl Quote {
    /// Signs the quote (the signature in it is replaced).
    pub fn sign(mut self, payee: &Identity) -> Self {
        self.signature = payee.sign(SignatureContext::Quote, &self.signed_bytes());
        self
    }

    /// Whether the payee signed it.
    pub fn verify(&self, verifier: &dyn SignatureVerifier) -> bool {
        verifier.verify(
            &self.payee,
            SignatureContext::Quote,
            &self.signed_bytes(),
            &self.signature,
        )
    }

    /// The quote's name.
    pub fn id(&self) -> QuoteId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(&self.signed_bytes()).as_bytes()[..16]);
        id
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let unsigned = Self {
            signature: Signature([0; 64]),
            ..self.clone()
        };
        postcard::to_stdvec(&unsigned).unwrap_or_default()
    }
}

/// What a payee answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteResponse {
    /// The request it answers.
    pub request: RequestId,
    /// Who asked: relays see from it that the answer is not for them.
    pub requester: NodeId,
    /// The offer, or why there is none.
    pub answer: QuoteAnswer,
}

/// A quote or a signed refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuoteAnswer {
    /// The offer.
    Quote(Quote),
    /// Why there is no offer.
    Refusal {
        /// Who refuses.
        payee: NodeId,
        /// Why.
        reason: DropReason,
        /// The payee's signature over the request's digest and the reason.
        signature: Signature,
    },
}

/// What a refusal's signature covers.
pub fn refusal_bytes(request_digest: &[u8; 32], reason: DropReason) -> Vec<u8> {
    [b"refusal".as_slice(), request_digest, &[reason.code()]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Ed25519Verifier;
    use proptest::prelude::*;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn price(msat_per_unit: u64) -> Price {
        Price {
            msat_per_unit,
            payable: true,
        }
    }

    /// Requester 1, routers 2 and 3, destination 4.
    pub(crate) fn certificate() -> RouteCertificate {
        let path = (1..=4).map(|byte| identity(byte).node_id()).collect();
        let mut certificate = RouteCertificate::sign([7; 16], path, price(4), UnixMillis(1000), &identity(4));
        certificate
            .attest(price(3), None, UnixMillis(1000), &identity(3))
            .unwrap();
        certificate
            .attest(price(2), None, UnixMillis(900), &identity(2))
            .unwrap();
        certificate
    }

    #[test]
    fn certificate_signed_by_all_verifies_and_lists_prices_in_route_order() {
        let certificate = certificate();
        certificate.verify(&Ed25519Verifier).unwrap();
        assert_eq!(
            certificate
                .prices()
                .iter()
                .map(|p| p.msat_per_unit)
                .collect::<Vec<_>>(),
            [2, 3, 4]
        );
        assert_eq!(certificate.valid_until(), UnixMillis(900));
    }

    #[test]
    fn lowered_price_swapped_node_or_missing_router_is_refused() {
        let mut lowered = certificate();
        lowered.attestations[0].price.msat_per_unit = 1;
        let mut swapped = certificate();
        swapped.path[1] = identity(9).node_id();
        let mut cheap_destination = certificate();
        cheap_destination.destination_price.msat_per_unit = 0;
        for forged in [lowered, swapped, cheap_destination] {
            assert_eq!(forged.verify(&Ed25519Verifier), Err(DropReason::BadSignature));
        }
        let mut missing = certificate();
        missing.attestations.pop();
        assert_eq!(missing.verify(&Ed25519Verifier), Err(DropReason::BadRoute));
        let mut looping = certificate();
        looping.path[2] = looping.path[1];
        assert_eq!(looping.verify(&Ed25519Verifier), Err(DropReason::BadRoute));
    }

    fn request(total_msat: u64) -> QuoteRequest {
        QuoteRequest {
            id: [1; 16],
            certificate: certificate(),
            class: TrafficClass::Paid,
            units: 1000,
            total_msat,
            accounts: vec![[5; 32]; 3],
            buying: vec![true; 3],
        }
    }

    #[test]
    fn every_payee_recomputes_the_fee_and_refuses_less() {
        let least = QuoteRequest::least_total(&certificate(), 1000).unwrap();
        let terms: Vec<_> = (1..=3)
            .map(|place| request(least).terms(place).unwrap())
            .collect();
        assert!(
            terms
                .iter()
                .zip([2, 3, 4])
                .all(|(terms, price)| terms.price_msat >= price)
        );
        assert_eq!(terms.iter().map(PayeeTerms::amount_msat).sum::<u64>(), least);
        assert_eq!(request(least - 1).terms(1), Err(DropReason::ShareTooSmall));
        assert_eq!(request(least).terms(4), Err(DropReason::BadRoute));
    }

    #[test]
    fn quote_with_a_swapped_invoice_loses_its_signature() {
        let quote = Quote {
            request_digest: [1; 32],
            payee: identity(2).node_id(),
            key: [3; 32],
            price_msat: 1,
            amount_msat: 1000,
            invoice: Some("lnbcrt1".into()),
            nonce: [4; 16],
            pay_by: UnixMillis(1),
            redeem_by: UnixMillis(2),
            signature: Signature([0; 64]),
        }
        .sign(&identity(2));
        assert!(quote.verify(&Ed25519Verifier));
        assert!(
            !Quote {
                invoice: Some("lnbcrt2".into()),
                ..quote.clone()
            }
            .verify(&Ed25519Verifier)
        );
        assert_ne!(
            Quote {
                key: [9; 32],
                ..quote.clone()
            }
            .id(),
            quote.id()
        );
    }

    #[test]
    fn messages_survive_their_encoding_and_trailing_bytes_are_refused() {
        for message in [
            ControlMessage::Refused,
            ControlMessage::DiscoveryResponse(certificate()),
            ControlMessage::QuoteRequest(Box::new(request(1))),
        ] {
            let frame = message.encode().unwrap();
            assert_eq!(ControlMessage::decode(&frame).unwrap(), message);
            let longer = [&frame[..], &[0]].concat();
            assert_eq!(ControlMessage::decode(&longer), Err(DropReason::Malformed));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut frame = Preamble { kind: FrameKind::Control, hops: 0, index: 0 }.to_bytes().to_vec();
            frame.extend(bytes);
            let _ = ControlMessage::decode(&frame);
        }
    }
}
