//! The villain of the demo: a node that speaks the protocol perfectly and then cheats.
//!
//! It runs the real core over real links, with its own Lightning node, but what it sends passes through a hand that may
//! alter it, and it can send whatever it likes. Nothing of this is part of an honest node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::check::check;
use mesh_core::core::{Core, CoreConfig};
use mesh_core::event::{
    Answer, Channel, Command, CommandId, Input, LinkId, Output, Payment, Refusal, WalletAnswer,
    WalletQuestion,
};
use mesh_core::identity::{Ed25519Verifier, Identity, NodeId};
use mesh_core::keys::DhSecret;
use mesh_core::message::{ControlMessage, Quote, QuoteAnswer};
use mesh_core::open::{HopErrorView, HopPlan, OpenPlan, SourceSession};
use mesh_core::packet::{FrameKind, Preamble};
use mesh_core::payer::account_key;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::time::UnixMillis;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::{Endpoint, EndpointConfig, LinkEvent, LinkSender};
use tokio::sync::{mpsc, oneshot};

use super::DemoError;
use crate::clock::Clock;
use crate::handle::lock;
use crate::wallet::devnet::DevnetWallet;
use crate::wallet::{InvoiceRequest, PayRequest, Wallet};

/// What the villain does to a frame that its core wants to send: what goes out instead.
pub(super) type Tamper = Box<dyn FnMut(&NodeId, Bytes) -> Vec<Bytes> + Send>;

enum Order {
    Do(Box<Command>, oneshot::Sender<Result<Answer, Box<Refusal>>>),
    Send {
        to: NodeId,
        channel: Channel,
        frame: Bytes,
    },
    Tamper(Tamper),
}

/// What the villain overheard: quotes made to it, and errors sent to it.
#[derive(Default)]
struct Overheard {
    quotes: BTreeMap<NodeId, Quote>,
    errors: Vec<Bytes>,
}

/// A dishonest node.
pub(super) struct Villain {
    id: NodeId,
    account_secret: [u8; 32],
    orders: mpsc::Sender<Order>,
    overheard: Arc<Mutex<Overheard>>,
    pub(super) wallet: Arc<DevnetWallet>,
    pub(super) endpoint: Arc<Endpoint>,
}

impl Villain {
    pub(super) fn start(
        identity: Identity,
        account_secret: [u8; 32],
        wallet: Arc<DevnetWallet>,
        lightning_key: [u8; 33],
    ) -> Result<Self, DemoError> {
        let id = identity.node_id();
        let (events_in, events) = mpsc::channel(mesh_net::RECOMMENDED_EVENT_QUEUE);
        let links = EndpointConfig {
            listen_addr: Some(super::LOOPBACK),
            ..EndpointConfig::default()
        };
        let endpoint = Arc::new(Endpoint::bind(links, &identity, events_in)?);
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| DemoError::NoRandomness)?;
        let config = CoreConfig {
            mode: MeshMode::PaymentGated,
            price_msat_per_unit: 1,
            network: BitcoinNetwork::Regtest,
            lightning_key: Some(lightning_key),
            operator: None,
            route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
            announcing: Default::default(),
            free_bytes_per_second: 1 << 20,
            spending: Default::default(),
            account_secret,
            seed,
        };
        let mut clock = Clock::starting_at(UnixMillis(0));
        let now = clock.now();
        let (orders, orders_out) = mpsc::channel(64);
        let overheard = Arc::new(Mutex::new(Overheard::default()));
        let pump = Pump {
            core: Core::new(config, identity, Arc::new(Ed25519Verifier), now),
            clock,
            links: BTreeMap::new(),
            replies: BTreeMap::new(),
            tamper: Box::new(|_, frame| vec![frame]),
            overheard: overheard.clone(),
            wallet: wallet.clone(),
        };
        tokio::spawn(pump.run(events, orders_out));
        Ok(Self {
            id,
            account_secret,
            orders,
            overheard,
            wallet,
            endpoint,
        })
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) async fn command(&self, command: Command) -> Result<Answer, DemoError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Do(Box::new(command), reply)).await?;
        answer
            .await
            .map_err(|_| DemoError::VillainGone)?
            .map_err(DemoError::Refused)
    }

    /// Sends any frame to a neighbour.
    pub(super) async fn inject(&self, to: NodeId, channel: Channel, frame: Bytes) -> Result<(), DemoError> {
        self.order(Order::Send { to, channel, frame }).await
    }

    /// From now on everything that the core sends passes through this hand.
    pub(super) async fn tamper(&self, hand: Tamper) -> Result<(), DemoError> {
        self.order(Order::Tamper(hand)).await
    }

    async fn order(&self, order: Order) -> Result<(), DemoError> {
        self.orders.send(order).await.map_err(|_| DemoError::VillainGone)
    }

    /// Builds a session to `payee` by hand, with the newest quote it made, so that nothing keeps its credit in order.
    pub(super) fn forge_session(
        &self,
        payee: &NodeId,
        proof: Option<PaymentProof>,
        expires: UnixMillis,
    ) -> Result<(Bytes, SourceSession), DemoError> {
        let quote = lock(&self.overheard)
            .quotes
            .get(payee)
            .cloned()
            .ok_or(DemoError::VillainGone)?;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| DemoError::NoRandomness)?;
        let hop = HopPlan {
            node: *payee,
            quote_id: quote.id(),
            quote_key: quote.key,
            account: account_key(&self.account_secret, payee)?,
            proof,
        };
        let plan = OpenPlan {
            hops: &[hop],
            class: TrafficClass::Paid,
            expires,
            ephemeral: DhSecret::new(seed)?,
            source: None,
        };
        Ok(plan.build()?)
    }

    /// Errors that hops sent on this session, as its source reads them.
    pub(super) fn errors_on(&self, session: &SourceSession) -> Vec<mesh_core::open::HopRefusal> {
        let overheard = lock(&self.overheard);
        let views = overheard
            .errors
            .iter()
            .filter_map(|frame| HopErrorView::parse(frame).ok());
        views
            .filter(|view| view.session == session.id())
            .filter_map(|view| session.open_error(&view).ok())
            .collect()
    }
}

struct Pump {
    core: Core,
    clock: Clock,
    links: BTreeMap<LinkId, (NodeId, LinkSender)>,
    replies: BTreeMap<CommandId, oneshot::Sender<Result<Answer, Box<Refusal>>>>,
    tamper: Tamper,
    overheard: Arc<Mutex<Overheard>>,
    wallet: Arc<DevnetWallet>,
}

impl Pump {
    async fn run(mut self, mut events: mpsc::Receiver<LinkEvent>, mut orders: mpsc::Receiver<Order>) {
        let (wallet_in, mut wallet_answers) = mpsc::channel(64);
        let mut next_command = 0;
        loop {
            let at = self.core.next_timeout().map(|at| self.clock.deadline(at));
            let deadline = at.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
            let input = tokio::select! {
                Some(event) = events.recv() => { self.on_link_event(event, &wallet_in); None }
                Some(input) = wallet_answers.recv() => Some(input),
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Do(command, reply)) => {
                        next_command += 1;
                        let id = CommandId(next_command);
                        self.replies.insert(id, reply);
                        Some(Input::Command { id, command: *command })
                    }
                    Some(Order::Send { to, channel, frame }) => { self.send_raw(&to, channel, vec![frame]); None }
                    Some(Order::Tamper(hand)) => { self.tamper = hand; None }
                },
                () = tokio::time::sleep_until(deadline) => Some(Input::Timeout),
            };
            if let Some(input) = input {
                self.feed(input, &wallet_in);
            }
        }
    }

    fn on_link_event(&mut self, event: LinkEvent, wallet: &mpsc::Sender<Input>) {
        match event {
            LinkEvent::Up {
                link, peer, sender, ..
            } => {
                self.links.insert(link, (peer, sender));
                self.feed(Input::LinkUp { link, peer }, wallet);
            }
            LinkEvent::Down { link, .. } => {
                self.links.remove(&link);
                self.feed(Input::LinkDown { link }, wallet);
            }
            LinkEvent::Frames { link, frames, .. } => {
                for frame in frames {
                    self.on_frame(link, frame, wallet);
                }
            }
        }
    }

    fn on_frame(&mut self, link: LinkId, frame: Bytes, wallet: &mpsc::Sender<Input>) {
        let kind = Preamble::parse(&frame).map(|preamble| preamble.kind);
        self.listen_in(&frame, kind.ok());
        let input = match kind {
            Ok(FrameKind::Control) => match check(&frame, &self.core.node_id(), &Ed25519Verifier) {
                Ok(message) => Input::Message {
                    link,
                    message: Box::new(message),
                },
                Err(reason) => Input::Rejected { link, reason },
            },
            _ => Input::Frame { link, frame },
        };
        self.feed(input, wallet);
    }

    fn listen_in(&self, frame: &Bytes, kind: Option<FrameKind>) {
        let mut overheard = lock(&self.overheard);
        if kind == Some(FrameKind::HopError) && overheard.errors.len() < 1000 {
            overheard.errors.push(frame.clone());
        }
        if let Ok(ControlMessage::QuoteResponse(response)) = ControlMessage::decode(frame)
            && let QuoteAnswer::Quote(quote) = response.answer
        {
            overheard.quotes.insert(quote.payee, quote);
        }
    }

    fn feed(&mut self, input: Input, wallet: &mpsc::Sender<Input>) {
        let now = self.clock.now();
        self.core.handle(now, input);
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Forward { link, frame } | Output::Receipt { link, frame } => {
                    self.send(link, Channel::Data, frame);
                }
                Output::Transmit { link, channel, frame } => self.send(link, channel, frame),
                Output::Answer { id, answer } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        // Nobody waiting is no error.
                        let _ = reply.send(answer);
                    }
                }
                Output::AskWallet { ticket, question } => {
                    let (own, inbox) = (self.wallet.clone(), wallet.clone());
                    tokio::spawn(async move {
                        let answer = ask(own.as_ref(), question).await;
                        // The villain may have left the stage.
                        let _ = inbox.send(Input::Wallet { ticket, answer }).await;
                    });
                }
                // A villain keeps no books.
                Output::Persist(_) | Output::PersistSoon(_) => {}
                // Nor is it paid on the chain.
                Output::AskChain { .. } => {}
                Output::Deliver(_) | Output::Event(_) | Output::Dropped { .. } => {}
            }
        }
    }

    fn send(&mut self, link: LinkId, channel: Channel, frame: Bytes) {
        let Some((peer, _)) = self.links.get(&link) else {
            return;
        };
        let peer = *peer;
        let frames = (self.tamper)(&peer, frame);
        self.send_raw(&peer, channel, frames);
    }

    fn send_raw(&self, to: &NodeId, channel: Channel, frames: Vec<Bytes>) {
        let Some((_, sender)) = self.links.values().find(|(peer, _)| peer == to) else {
            return;
        };
        // A crime that does not arrive is noticed by the stage, which waits for its refusal.
        let _ = match channel {
            Channel::Data => sender.try_send_data(frames),
            Channel::Control => sender.try_send_control(frames),
        };
    }
}

async fn ask(wallet: &DevnetWallet, question: WalletQuestion) -> WalletAnswer {
    use mesh_core::drop_reason::DropReason;
    use mesh_core::verifier::{Settlement, read_invoice};
    match question {
        WalletQuestion::CreateInvoice {
            amount_msat,
            description,
            expiry,
        } => {
            let created = wallet
                .create_invoice(InvoiceRequest {
                    amount_msat,
                    description,
                    expiry,
                })
                .await;
            let invoice = created.map(|invoice| (invoice.bolt11, invoice.payment_hash));
            WalletAnswer::Invoice(invoice.map_err(|_| DropReason::PaymentsUnavailable))
        }
        WalletQuestion::CheckProof { invoice, .. } => {
            // It believes everybody: what it loses by that is its own.
            let believed = |facts: mesh_core::verifier::InvoiceFacts| {
                let amount_msat = facts.amount_msat.unwrap_or(0);
                (facts, Settlement::Settled { amount_msat })
            };
            WalletAnswer::Proof(read_invoice(&invoice).map(believed))
        }
        // A villain forgets what it quoted and what it began.
        WalletQuestion::Settlement { .. } => WalletAnswer::Settlement(Settlement::Unknown),
        WalletQuestion::LookUp { .. } => WalletAnswer::Paid(Err(DropReason::PaymentFailed)),
        WalletQuestion::Probe { .. } => WalletAnswer::Probed(Ok(())),
        WalletQuestion::TreasuryBill { .. } => {
            WalletAnswer::TreasuryBill(Err(DropReason::PaymentsUnavailable))
        }
        WalletQuestion::PayOffer { .. } => WalletAnswer::Paid(Err(DropReason::PaymentFailed)),
        WalletQuestion::Pay {
            invoice,
            max_fee_msat,
            timeout,
        } => {
            let paid = wallet
                .pay(PayRequest {
                    bolt11: invoice,
                    max_fee_msat,
                    max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
                    timeout,
                })
                .await;
            let payment = paid.map(|paid| Payment {
                preimage: paid.preimage,
                amount_msat: paid.amount_msat,
                fee_msat: paid.fee_msat,
            });
            WalletAnswer::Paid(payment.map_err(|_| DropReason::PaymentFailed))
        }
    }
}
