//! A paid session over one router, opened for real: quotes, invoices, proofs, open, ack. Only the wallet is played, as
//! the hands would relay its word; the source is played from its half of the protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::check::check;
use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::event::{Input, LinkId, Output, Ticket, WalletAnswer, WalletQuestion};
use mesh_core::identity::{Ed25519Verifier, Identity, NodeId};
use mesh_core::keys::DhSecret;
use mesh_core::message::{ControlMessage, Price, Quote, QuoteAnswer, QuoteRequest, RouteCertificate};
use mesh_core::open::{HopPlan, OpenPlan, SourceSession};
use mesh_core::packet::{FrameKind, Preamble};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::time::{Instant, Now, UnixMillis};
use mesh_core::verifier::{BitcoinNetwork, InvoiceFacts, Settlement};
use sha2::{Digest, Sha256};

/// The link at the router that leads to the source.
pub(crate) const FROM_SOURCE: LinkId = LinkId(1);
const TO_DESTINATION: LinkId = LinkId(2);
/// The link at the destination that leads to the router.
pub(crate) const FROM_ROUTER: LinkId = LinkId(1);

const PRICE: Price = Price {
    msat_per_unit: 10,
    payable: true,
};

/// More packets than any run of the benchmark sends.
const UNITS: u64 = 1 << 40;

const WALLET_KEY: [u8; 33] = [2; 33];

/// Source, router, destination, and a session between them.
pub(crate) struct Route {
    pub(crate) router: Core,
    pub(crate) destination: Core,
    source: SourceSession,
    now: Now,
}

impl Route {
    pub(crate) fn open() -> Self {
        let now = Now {
            instant: Instant(0),
            unix: UnixMillis(1_700_000_000_000),
        };
        let (source, router, destination) = (identity(1), identity(2), identity(3));
        let ids = [source.node_id(), router.node_id(), destination.node_id()];
        let accounts = [secret(11), secret(12)];
        let request = request(now, ids, &accounts, &router, &destination);

        let mut at_router = core(now, router, &[(FROM_SOURCE, ids[0]), (TO_DESTINATION, ids[2])]);
        let mut at_destination = core(now, destination, &[(FROM_ROUTER, ids[1])]);
        let quotes = [
            quote(&mut at_router, now, FROM_SOURCE, &request, [21; 32]),
            quote(&mut at_destination, now, FROM_ROUTER, &request, [22; 32]),
        ];
        let hops: Vec<HopPlan> = [[21; 32], [22; 32]]
            .iter()
            .zip(&quotes)
            .zip(&accounts)
            .map(|((preimage, quote), account)| HopPlan {
                node: quote.payee,
                quote_id: quote.id(),
                quote_key: quote.key,
                account: account.clone(),
                proof: Some(PaymentProof::Lightning {
                    invoice: quote.invoice.clone().unwrap(),
                    preimage: *preimage,
                    amount_msats: quote.amount_msat,
                    timestamp: now.unix.seconds(),
                    expires_at: quote.redeem_by.seconds(),
                }),
            })
            .collect();
        let plan = OpenPlan {
            hops: &hops,
            class: TrafficClass::Paid,
            expires: now.unix + Duration::from_secs(3600),
            ephemeral: secret(13),
            source: Some(&identity(1)),
        };
        let (open, session) = plan.build().unwrap();
        let open = redeem(
            &mut at_router,
            now,
            FROM_SOURCE,
            open,
            [21; 32],
            quotes[0].amount_msat,
        );
        let ack = redeem(
            &mut at_destination,
            now,
            FROM_ROUTER,
            open,
            [22; 32],
            quotes[1].amount_msat,
        );
        assert_eq!(Preamble::parse(&ack).unwrap().kind, FrameKind::Back);
        Self {
            router: at_router,
            destination: at_destination,
            source: session,
            now,
        }
    }

    /// The next packet of the session.
    pub(crate) fn packet(&mut self, payload: &[u8]) -> Bytes {
        let expiry = self.now.unix + Duration::from_secs(30);
        self.source.packet("bench", payload, expiry).unwrap().0
    }

    /// A moment later: a little time passes between two batches.
    pub(crate) fn tick(&mut self) -> Now {
        self.now = Now {
            instant: self.now.instant + Duration::from_micros(100),
            ..self.now
        };
        self.now
    }
}

/// Source, router and destination.
pub(crate) fn ids() -> [NodeId; 3] {
    [1, 2, 3].map(|byte| identity(byte).node_id())
}

/// The router with its links up and no session.
pub(crate) fn router(now: Now) -> Core {
    let [source, _, destination] = ids();
    core(
        now,
        identity(2),
        &[(FROM_SOURCE, source), (TO_DESTINATION, destination)],
    )
}

fn identity(byte: u8) -> Identity {
    Identity::from_seed([byte; 32]).unwrap()
}

pub(crate) fn secret(byte: u8) -> DhSecret {
    DhSecret::new([byte; 32]).unwrap()
}

fn core(now: Now, identity: Identity, links: &[(LinkId, NodeId)]) -> Core {
    let config = CoreConfig {
        mode: MeshMode::PaymentGated,
        price_msat_per_unit: PRICE.msat_per_unit,
        network: BitcoinNetwork::Regtest,
        lightning_key: Some(WALLET_KEY),
        operator: None,
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        announcing: Announcing {
            enabled: false,
            ..Announcing::default()
        },
        free_bytes_per_second: 0,
        spending: Default::default(),
        account_secret: [9; 32],
        seed: [8; 32],
    };
    let mut core = Core::new(config, identity, Arc::new(Ed25519Verifier), now);
    for (link, peer) in links {
        feed(
            &mut core,
            now,
            Input::LinkUp {
                link: *link,
                peer: *peer,
            },
        );
    }
    core
}

fn request(
    now: Now,
    path: [NodeId; 3],
    accounts: &[DhSecret],
    router: &Identity,
    destination: &Identity,
) -> QuoteRequest {
    let expires = now.unix + Duration::from_secs(3600);
    let mut certificate = RouteCertificate::sign([1; 16], path.to_vec(), PRICE, expires, destination);
    certificate.attest(PRICE, None, expires, router).unwrap();
    QuoteRequest {
        id: [2; 16],
        total_msat: QuoteRequest::least_total(&certificate, UNITS).unwrap(),
        certificate,
        class: TrafficClass::Paid,
        units: UNITS,
        accounts: accounts.iter().map(DhSecret::public).collect(),
        buying: vec![true; 2],
        method: Default::default(),
    }
}

fn feed(core: &mut Core, now: Now, input: Input) -> Vec<Output> {
    core.handle(now, input);
    std::iter::from_fn(|| core.poll_output()).collect()
}

/// Asks a payee for its quote; its wallet makes an invoice over the preimage's hash.
fn quote(core: &mut Core, now: Now, link: LinkId, request: &QuoteRequest, preimage: [u8; 32]) -> Quote {
    let frame = ControlMessage::QuoteRequest(Box::new(request.clone()))
        .encode()
        .unwrap();
    let message = Box::new(check(&frame, &core.node_id(), &Ed25519Verifier).unwrap());
    let outputs = feed(core, now, Input::Message { link, message });
    let (ticket, question) = question(outputs);
    assert!(matches!(question, WalletQuestion::CreateInvoice { .. }));
    let made = WalletAnswer::Invoice(Ok(("an invoice".to_owned(), hash(&preimage))));
    let answered = feed(core, now, Input::Wallet { ticket, answer: made });
    let answer = answered.into_iter().find_map(|output| match output {
        Output::Transmit { frame, .. } => Some(ControlMessage::decode(&frame).unwrap()),
        _ => None,
    });
    match answer {
        Some(ControlMessage::QuoteResponse(response)) => match response.answer {
            QuoteAnswer::Quote(quote) => quote,
            refusal => panic!("{refusal:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Shows an open to a hop whose wallet says that the payment has settled; what the hop sends on.
fn redeem(
    core: &mut Core,
    now: Now,
    link: LinkId,
    open: Bytes,
    preimage: [u8; 32],
    amount_msat: u64,
) -> Bytes {
    let (ticket, question) = question(feed(core, now, Input::Frame { link, frame: open }));
    assert!(matches!(question, WalletQuestion::CheckProof { .. }));
    let facts = InvoiceFacts {
        network: BitcoinNetwork::Regtest,
        payee: WALLET_KEY,
        payment_hash: hash(&preimage),
        description_hash: None,
        amount_msat: Some(amount_msat),
        expires: now.unix + Duration::from_secs(600),
    };
    let answer = WalletAnswer::Proof(Ok((facts, Settlement::Settled { amount_msat })));
    let outputs = feed(core, now, Input::Wallet { ticket, answer });
    let sent = outputs.into_iter().find_map(|output| match output {
        Output::Transmit { frame, .. } => Some(frame),
        _ => None,
    });
    sent.expect("the hop sends the open on, or its ack back")
}

fn question(outputs: Vec<Output>) -> (Ticket, WalletQuestion) {
    let asked = outputs.into_iter().find_map(|output| match output {
        Output::AskWallet { ticket, question } => Some((ticket, question)),
        _ => None,
    });
    asked.expect("the hop asks its wallet")
}

fn hash(preimage: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(preimage).into()
}
