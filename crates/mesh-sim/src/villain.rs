//! A payer without a core: it makes every message by hand, so that it can make them wrong.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::keys::DhSecret;
use mesh_core::limits::MAX_HOPS;
use mesh_core::message::{
    ControlMessage, DiscoveryMode, DiscoveryRequest, Quote, QuoteAnswer, QuoteRequest, RequestId,
    RouteCertificate,
};
use mesh_core::open::{BackMessage, HopErrorView, HopPlan, HopRefusal, OpenPlan, SourceSession};
use mesh_core::packet::{PacketView, Preamble};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::TrafficClass;
use mesh_core::time::UnixMillis;

use crate::node::NodeIndex;
use crate::simulation::Simulation;

/// A villain that pays, or not, as it pleases.
#[derive(Debug, Clone, Copy)]
pub struct RawPayer {
    /// The villain.
    pub me: NodeIndex,
    /// Its neighbour, over which it does everything.
    pub via: NodeIndex,
}

/// The villain's end of a session.
pub struct RawSession {
    /// The open, as the first hop gets it.
    pub frame: Bytes,
    /// The keys.
    pub source: SourceSession,
}

impl RawPayer {
    /// A fresh request id, told apart by a number.
    pub fn request_id(number: u64) -> RequestId {
        let mut id = [0xee; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id
    }

    /// A discovery request for `destination` over `path`, which the villain may have made up.
    pub fn discovery_request(
        sim: &Simulation,
        number: u64,
        destination: NodeIndex,
        path: &[NodeIndex],
    ) -> DiscoveryRequest {
        DiscoveryRequest {
            nonce: Self::request_id(number),
            destination: sim.id(destination),
            max_hops: MAX_HOPS as u8,
            deadline: sim.now().unix + Duration::from_secs(30),
            path: path.iter().map(|node| sim.id(*node)).collect(),
            mode: DiscoveryMode::Ring { avoid: Vec::new() },
        }
    }

    /// Sends a control message to the neighbour.
    pub fn say(&self, sim: &mut Simulation, message: &ControlMessage) -> Result<(), DropReason> {
        let frame = message.encode()?;
        sim.inject(self.me, self.via, frame);
        Ok(())
    }

    /// Asks for a way and waits for the first answer.
    pub fn discover(&self, sim: &mut Simulation, destination: NodeIndex) -> Option<RouteCertificate> {
        let request = Self::discovery_request(sim, sim.now().instant.0, destination, &[self.me]);
        self.say(sim, &ControlMessage::DiscoveryRequest(request)).ok()?;
        sim.settle();
        sim.inbox(self.me)
            .iter()
            .find_map(|(_, frame)| match ControlMessage::decode(frame) {
                Ok(ControlMessage::DiscoveryResponse(certificate)) => Some(certificate),
                _ => None,
            })
    }

    /// The villain's account key at the payee at `place`.
    pub fn account(&self, place: usize) -> Result<DhSecret, DropReason> {
        DhSecret::new(*blake3::hash(&[self.me.0 as u8, place as u8]).as_bytes())
    }

    /// An honest request for quotes, ready to be spoilt.
    pub fn quote_request(
        &self,
        sim: &Simulation,
        certificate: RouteCertificate,
        class: TrafficClass,
        units: u64,
        buying: bool,
    ) -> Result<QuoteRequest, DropReason> {
        let hops = certificate.hops();
        let accounts = (0..hops).map(|place| Ok(self.account(place)?.public()));
        Ok(QuoteRequest {
            id: Self::request_id(sim.now().instant.0),
            total_msat: QuoteRequest::least_total(&certificate, units)?,
            class,
            units,
            accounts: accounts.collect::<Result<_, _>>()?,
            buying: vec![buying; hops],
            method: Default::default(),
            certificate,
        })
    }

    /// Sends a request for quotes and waits; what came back, in route order.
    pub fn quotes(&self, sim: &mut Simulation, request: &QuoteRequest) -> Result<Vec<Quote>, DropReason> {
        self.say(sim, &ControlMessage::QuoteRequest(Box::new(request.clone())))?;
        sim.settle();
        let mut quotes = Vec::new();
        for (_, frame) in sim.inbox(self.me) {
            if let Ok(ControlMessage::QuoteResponse(response)) = ControlMessage::decode(&frame) {
                match response.answer {
                    QuoteAnswer::Quote(quote) => quotes.push(quote),
                    QuoteAnswer::Refusal { reason, .. } => return Err(reason),
                }
            }
        }
        let path = &request.certificate.path;
        quotes.sort_by_key(|quote| path.iter().position(|node| *node == quote.payee));
        Ok(quotes)
    }

    /// Pays a quote over Lightning; nothing when there is nothing to pay.
    pub fn pay(&self, sim: &mut Simulation, quote: &Quote) -> Result<Option<PaymentProof>, DropReason> {
        let Some(invoice) = quote.invoice.clone() else {
            return Ok(None);
        };
        let now = sim.now().unix;
        // Nothing random decides here, so the villain's payments do not shift everybody else's fate.
        let payment = sim
            .lightning
            .pay(self.me, &invoice, u64::MAX, now, &mut crate::Random::new(0))?;
        Ok(Some(PaymentProof::Lightning {
            invoice,
            preimage: payment.preimage,
            amount_msats: payment.amount_msat,
            timestamp: now.seconds(),
            expires_at: quote.redeem_by.seconds(),
        }))
    }

    /// Builds an open over these quotes with these proofs; `salt` makes its ephemeral key.
    pub fn open(
        &self,
        sim: &mut Simulation,
        class: TrafficClass,
        quotes: &[Quote],
        proofs: &[Option<PaymentProof>],
        salt: u8,
    ) -> Result<RawSession, DropReason> {
        let plan = |(place, quote): (usize, &Quote)| {
            Ok(HopPlan {
                node: quote.payee,
                quote_id: quote.id(),
                quote_key: quote.key,
                account: self.account(place)?,
                proof: proofs.get(place).cloned().flatten(),
            })
        };
        let hops = quotes
            .iter()
            .enumerate()
            .map(plan)
            .collect::<Result<Vec<_>, DropReason>>()?;
        let (frame, source) = OpenPlan {
            hops: &hops,
            class,
            expires: sim.now().unix + Duration::from_secs(600),
            ephemeral: DhSecret::new(*blake3::hash(&[0xaa, salt, self.me.0 as u8]).as_bytes())?,
            source: None,
        }
        .build()?;
        let prices = quotes
            .iter()
            .map(|quote| (quote.payee, quote.price_msat))
            .collect();
        sim.note_session(self.me, source.id(), prices);
        Ok(RawSession { frame, source })
    }
}

impl RawSession {
    /// The next packet, valid for ten seconds.
    pub fn packet(&mut self, now: UnixMillis, payload: &[u8]) -> Result<Bytes, DropReason> {
        let expiry = now + Duration::from_secs(10);
        self.source.packet("raw", payload, expiry).map(|(frame, _)| frame)
    }

    /// The refusals among frames that came back, with the hop that spoke.
    pub fn refusals(&self, frames: &[(NodeIndex, Bytes)]) -> Vec<(u8, HopRefusal)> {
        let read = |frame: &Bytes| {
            let view = HopErrorView::parse(frame)
                .ok()
                .filter(|view| view.session == self.source.id())?;
            Some((view.hop, self.source.open_error(&view).ok()?))
        };
        frames.iter().filter_map(|(_, frame)| read(frame)).collect()
    }

    /// Whether the destination's ack is among frames that came back.
    pub fn is_acked(&self, frames: &[(NodeIndex, Bytes)]) -> bool {
        frames.iter().any(|(_, frame)| {
            Preamble::parse(frame).is_ok()
                && PacketView::parse(frame)
                    .is_ok_and(|view| matches!(self.source.open_back(&view), Ok(BackMessage::OpenAck)))
        })
    }
}
