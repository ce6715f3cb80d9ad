//! The control messages: discovery and quotes. Postcard-encoded behind the preamble, at most 32 KiB each.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::chain::{MAX_SCRIPT_BYTES, MSAT_PER_SAT};
use crate::drop_reason::DropReason;
use crate::fees::{self, Split};
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::limits::MAX_CONTROL_BYTES;
use crate::packet::{FrameKind, PREAMBLE_BYTES, Preamble};
use crate::routing_policy::TrafficClass;
use crate::time::UnixMillis;

pub use crate::certificate::{
    DiscoveryMode, DiscoveryRequest, Price, RouteCertificate, RouterAttestation, check_path,
};
pub use crate::chain::{PaymentMethod, QuotedOutput};
pub use crate::routing::update::{RoutingUpdate, SeqnoRequest};

/// Sixteen random bytes that tell one request from all others.
pub type RequestId = [u8; 16];

/// Everything that neighbours say to one another besides packets and opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// Looks for a path: along a named one, along successors, or flooded.
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
    /// What changed of the sender's routes.
    RoutingUpdate(Box<RoutingUpdate>),
    /// The update with this number was taken in.
    RoutingAck {
        /// The number.
        number: u64,
    },
    /// Asks for a fresher route; goes towards the origin.
    SeqnoRequest(SeqnoRequest),
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
        let preamble = Preamble::parse(frame)?;
        if preamble.kind != FrameKind::Control {
            return Err(DropReason::UnknownKind);
        }
        if preamble.hops != 0 || preamble.index != 0 {
            return Err(DropReason::Malformed);
        }
        read_exactly(frame.get(PREAMBLE_BYTES..).ok_or(DropReason::Malformed)?)
    }
}

/// Decodes postcard; bytes left over are refused, so that nothing travels that nobody reads.
pub(crate) fn read_exactly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DropReason> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(DropReason::Malformed),
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
    /// How those payees are to be paid.
    pub method: PaymentMethod,
}

/// One payee's part of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

    /// The least fee for which every payee's share covers its price, in msat, when it is paid over Lightning: 0 when all
    /// are free.
    pub fn least_total(certificate: &RouteCertificate, units: u64) -> Result<u64, DropReason> {
        Self::least_total_by(PaymentMethod::Lightning, certificate, units)
    }

    /// As [`QuoteRequest::least_total`], paid by `method`.
    pub fn least_total_by(
        method: PaymentMethod,
        certificate: &RouteCertificate,
        units: u64,
    ) -> Result<u64, DropReason> {
        let prices = certificate.prices();
        let (destination, routers) = prices.split_last().ok_or(DropReason::BadRoute)?;
        let routers: Vec<u64> = routers.iter().map(|price| price.msat_per_unit).collect();
        fees::slice_total(
            &routers,
            destination.msat_per_unit,
            units,
            method.min_share_msat(),
        )
        .map_err(|_| DropReason::ShareTooSmall)
    }

    /// The fee to offer for `units` units of `class`, in msat: nothing unless the class is paid. The free classes cost
    /// nothing at any node that carries them, whatever it charges for paid traffic.
    pub fn total_for(
        class: TrafficClass,
        method: PaymentMethod,
        certificate: &RouteCertificate,
        units: u64,
    ) -> Result<u64, DropReason> {
        if class != TrafficClass::Paid {
            return Ok(0);
        }
        let step = fees::total_step_msat(certificate.hops().saturating_sub(1));
        Self::least_total_by(method, certificate, units)?
            .div_ceil(step)
            .checked_mul(step)
            .ok_or(DropReason::LimitReached)
    }

    /// The most units that `total_msat` pays for, at least `units`: what rounding the total up buys beyond what was asked.
    pub fn units_for(
        class: TrafficClass,
        method: PaymentMethod,
        certificate: &RouteCertificate,
        units: u64,
        total_msat: u64,
    ) -> u64 {
        let covers =
            |units| Self::least_total_by(method, certificate, units).is_ok_and(|least| least <= total_msat);
        if class != TrafficClass::Paid || total_msat == 0 {
            return units;
        }
        // Every unit costs something, so no more than the total in msat are covered.
        let (mut enough, mut too_many) = (units, units.saturating_add(total_msat).saturating_add(1));
        while too_many - enough > 1 {
            let middle = enough + (too_many - enough) / 2;
            if covers(middle) {
                enough = middle;
            } else {
                too_many = middle;
            }
        }
        enough
    }

    /// Whether the lists in it fit its route, and it asks for something: what can be said without any signature.
    pub fn check_shape(&self) -> Result<(), DropReason> {
        let hops = self.certificate.hops();
        let fits = self.accounts.len() == hops && self.buying.len() == hops && self.units > 0;
        self.certificate.check_shape()?;
        if fits { Ok(()) } else { Err(DropReason::BadRoute) }
    }

    /// The part of the payee at `place` (1 is the first router, the last the destination). In the free classes it is
    /// nothing, whatever total the payer names.
    pub fn terms(&self, place: usize) -> Result<PayeeTerms, DropReason> {
        let hops = self.certificate.hops();
        self.check_shape()?;
        if place == 0 || place > hops {
            return Err(DropReason::BadRoute);
        }
        if self.class != TrafficClass::Paid {
            return Ok(PayeeTerms::default());
        }
        let least = Self::least_total_by(self.method, &self.certificate, self.units)?;
        let whole_sats =
            !self.method.is_on_chain() || self.total_msat.is_multiple_of(fees::total_step_msat(hops - 1));
        if !whole_sats || self.total_msat < least || (least == 0 && self.total_msat != 0) {
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
                ..PayeeTerms::default()
            })
        }
    }
}

impl QuoteRequest {
    /// What the payees that are bought from are to be paid, in route order, in msat, and the place in that list of the
    /// payee at `place` of the route.
    pub fn amounts_msat(&self, place: usize) -> Result<(Vec<u64>, usize), DropReason> {
        let mut amounts = Vec::new();
        let mut own = 0;
        for payee in 1..=self.certificate.hops() {
            let amount = self.terms(payee)?.amount_msat();
            if amount > 0 {
                own += usize::from(payee < place);
                amounts.push(amount);
            }
        }
        Ok((amounts, own))
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
    /// The BOLT11 invoice; none when nothing is bought, or it is paid on the chain.
    pub invoice: Option<String>,
    /// Where it is paid on the chain; none when nothing is bought, or it is paid over Lightning.
    pub output: Option<QuotedOutput>,
    /// Enters the invoice's description hash, or the name of the output's bill.
    pub nonce: [u8; 16],
    /// Until when it may be paid.
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

    /// Whether it says where to pay, in the one way that was asked for, if there is something to pay.
    pub fn fits(&self, method: PaymentMethod) -> bool {
        let buys = self.amount_msat > 0;
        if !method.is_on_chain() {
            return self.invoice.is_some() == buys && self.output.is_none();
        }
        let payable = self.output.as_ref().is_none_or(|output| {
            (1..=MAX_SCRIPT_BYTES).contains(&output.script.len())
                && self.amount_msat.is_multiple_of(MSAT_PER_SAT)
        });
        self.invoice.is_none() && self.output.is_some() == buys && payable
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
    use crate::certificate::tests::certificate;
    use crate::identity::Ed25519Verifier;
    use proptest::prelude::*;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
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
            method: PaymentMethod::Lightning,
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
    fn free_classes_cost_nothing_over_nodes_that_charge_for_paid_traffic() {
        for class in TrafficClass::ALL {
            let total_msat =
                QuoteRequest::total_for(class, PaymentMethod::Lightning, &certificate(), 1000).unwrap();
            let request = QuoteRequest {
                class,
                ..request(total_msat)
            };
            for place in 1..=3 {
                let free = request.terms(place).unwrap() == PayeeTerms::default();
                assert_eq!(free, class != TrafficClass::Paid, "{class} at {place}");
            }
        }
    }

    #[test]
    fn lists_that_do_not_fit_the_route_are_refused() {
        let base = request(1_000_000);
        assert_eq!(base.check_shape(), Ok(()));
        let mut accounts = base.clone();
        accounts.accounts.push([5; 32]);
        let mut buying = base.clone();
        buying.buying.pop();
        let nothing = QuoteRequest { units: 0, ..base };
        for unfit in [accounts, buying, nothing] {
            assert_eq!(unfit.check_shape(), Err(DropReason::BadRoute));
        }
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
            output: None,
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
