//! A whole router, fed whatever neighbours can send, in any order.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::account::AccountRecord;
use mesh_core::check::check;
use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Channel, Command, CommandId, Input, LinkId, Output, Payment, Record, Ticket, WalletAnswer, WalletQuestion,
};
use mesh_core::keys::{PayloadSeal, TagKey};
use mesh_core::open::{BackMessage, HopRefusal, build_hop_error};
use mesh_core::packet::{self, FrameKind, PacketParts};
use mesh_core::quotes::QuoteKeyRecord;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::time::{Instant, Now};
use mesh_core::verifier::{BitcoinNetwork, Settlement};

use crate::cast::{self, Credulous, NOW, SESSION};

/// Steps of one input at the most.
const STEPS: usize = 64;

/// More outputs than any one input may lead to.
const OUTPUTS: usize = 20_000;

/// Frames that the session's ends make.
static PACKETS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let (_, mut source) = cast::open_session();
    (0..16u8)
        .map(|number| {
            source
                .packet("fuzz", &[number; 40], NOW + Duration::from_secs(600))
                .unwrap()
                .0
        })
        .collect()
});
static BACK: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let id = SESSION.source.id();
    let seal = PayloadSeal::Sealed(SESSION.hops[1].back_cipher(&id));
    let tag_keys = [TagKey::of_back_secret(&SESSION.hops[0].back_secret(), &id)];
    let ack = postcard::to_stdvec(&BackMessage::OpenAck).unwrap();
    let packet = |sequence| {
        let parts = PacketParts {
            kind: FrameKind::Back,
            session: id,
            sequence,
            expiry: NOW + Duration::from_secs(600),
            tag_keys: &tag_keys,
            seal: &seal,
        };
        packet::build(&parts, &[&ack]).unwrap().0
    };
    let refusal = HopRefusal {
        reason: DropReason::CreditSpent,
        credit_msat: 3,
    };
    let error = build_hop_error(&id, 1, &SESSION.hops[1].error_cipher(&id), 0, &refusal);
    (0..7).map(packet).chain([error]).collect()
});

/// How often a node is woken in one pause at the most; then it sleeps through the rest, as on a machine that was suspended.
const WAKES: usize = 300;

/// A node and what it has said so far.
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) now: Now,
    /// To the source and to the destination, while they are up.
    links: [Option<LinkId>; 2],
    links_made: u64,
    said: blake3::Hasher,
    asked: Option<(Ticket, WalletQuestion)>,
    answered: BTreeSet<CommandId>,
}

/// The router of the cast, before anything happened.
pub(crate) fn fresh() -> Node {
    let config = CoreConfig {
        mode: MeshMode::PaymentGated,
        price_msat_per_unit: 10,
        network: BitcoinNetwork::Regtest,
        lightning_key: Some([2; 33]),
        operator: None,
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        announcing: Announcing::default(),
        free_bytes_per_second: 65_536,
        account_secret: [9; 32],
        seed: [8; 32],
        spending: Default::default(),
    };
    let now = Now {
        instant: Instant(0),
        unix: NOW,
    };
    let core = Core::new(config, cast::identity(10), Arc::new(Credulous), now);
    Node {
        core,
        now,
        links: [None; 2],
        links_made: 0,
        said: blake3::Hasher::new(),
        asked: None,
        answered: BTreeSet::new(),
    }
}

/// The same with its links up and the session open.
fn with_session() -> Node {
    let mut node = fresh();
    let key = Record::QuoteKey(QuoteKeyRecord {
        id: [0xc0; 16],
        secret: *cast::quote_key(0).secret(),
        account: cast::account_key(0).public(),
        previous: cast::identity(1).node_id(),
        next: Some(cast::node(1)),
        class: TrafficClass::Paid,
        price_msat: 10,
        expires: NOW + Duration::from_secs(3600),
    });
    let account = Record::Account(AccountRecord {
        key: cast::account_key(0).public(),
        balance_msat: 1_000,
    });
    node.core.restore([key, account], node.now).unwrap();
    for side in 0..2 {
        node.link_up(side);
    }
    node.frame(0, SESSION.open.clone());
    node
}

impl Node {
    /// Feeds one input and holds what comes of it to the core's contract.
    pub(crate) fn feed(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.core.poll_output() {
            outputs += 1;
            assert!(outputs < OUTPUTS, "one input leads to no end of outputs");
            self.hear(output);
        }
    }

    fn hear(&mut self, output: Output) {
        match output {
            Output::Transmit { link, channel, frame } => self.hear_frame(link, channel, &frame),
            Output::Forward { link, frame } | Output::Receipt { link, frame } => {
                self.hear_frame(link, Channel::Data, &frame);
            }
            Output::AskWallet { ticket, question } => self.asked = Some((ticket, question)),
            Output::AskChain { .. } => {}
            Output::Answer { id, .. } => {
                assert!(self.answered.insert(id), "a command is answered once");
            }
            Output::Dropped { reason, .. } => {
                self.said.update(&[reason.code()]);
            }
            Output::Deliver(_) | Output::Event(_) | Output::Persist(_) | Output::PersistSoon(_) => {}
        }
    }

    fn hear_frame(&mut self, link: LinkId, channel: Channel, frame: &Bytes) {
        assert!(
            self.links.contains(&Some(link)),
            "no frame for a link that is not up"
        );
        assert!(frame.len() <= channel.max_frame_bytes());
        self.said.update(&link.0.to_be_bytes()).update(frame);
    }

    /// Lets time pass, waking the core whenever it asked to be.
    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..WAKES {
            let Some(next) = self.core.next_timeout().filter(|next| *next <= until.instant) else {
                break;
            };
            self.now = self.now + (next - self.now.instant);
            self.feed(Input::Timeout);
        }
        self.now = until;
        self.feed(Input::Timeout);
    }

    fn link_up(&mut self, side: usize) {
        if self.links[side].is_none() {
            self.links_made += 1;
            let link = LinkId(self.links_made);
            self.links[side] = Some(link);
            let peer = [cast::identity(1).node_id(), cast::node(1)][side];
            self.feed(Input::LinkUp { link, peer });
        }
    }

    fn link_down(&mut self, side: usize) {
        if let Some(link) = self.links[side].take() {
            self.feed(Input::LinkDown { link });
        }
    }

    fn frame(&mut self, side: usize, frame: Bytes) {
        if let Some(link) = self.links[side] {
            self.feed(Input::Frame { link, frame });
        }
    }

    /// As workers hand control messages over.
    fn control(&mut self, side: usize, frame: &[u8]) {
        let Some(link) = self.links[side] else {
            return;
        };
        let input = match check(frame, &self.core.node_id(), &Credulous) {
            Ok(message) => Input::Message {
                link,
                message: Box::new(message),
            },
            Err(reason) => Input::Rejected { link, reason },
        };
        self.feed(input);
    }

    /// Answers the wallet's last question, not always to its point.
    fn wallet(&mut self, how: u8) {
        let Some((ticket, question)) = self.asked.take() else {
            return;
        };
        let refused = DropReason::NotSettled;
        let answer = match question {
            WalletQuestion::CreateInvoice { .. } if how & 1 == 0 => {
                WalletAnswer::Invoice(Ok(("an invoice".to_owned(), [how; 32])))
            }
            WalletQuestion::CreateInvoice { .. } => WalletAnswer::Invoice(Err(refused)),
            WalletQuestion::CheckProof { .. } => WalletAnswer::Proof(Err(refused)),
            WalletQuestion::Settlement { .. } => WalletAnswer::Settlement(Settlement::Settled {
                amount_msat: u64::from(how) << 40,
            }),
            WalletQuestion::Probe { .. } => WalletAnswer::Probed(Ok(())),
            WalletQuestion::LookUp { .. } | WalletQuestion::Pay { .. } => WalletAnswer::Paid(Ok(Payment {
                preimage: [how; 32],
                amount_msat: u64::MAX,
                fee_msat: u64::from(how),
            })),
            // Nobody here pays a treasury.
            _ => return,
        };
        self.feed(Input::Wallet { ticket, answer });
    }

    fn command(&mut self, how: u8, number: u64) {
        let command = match (how, how % 5) {
            (254, _) => Command::Shares,
            (255, _) => Command::Explain {
                destination: cast::node(2),
            },
            (_, 0) => Command::Status,
            (_, 1) => Command::Routes,
            (_, 2) => Command::SetPrice {
                msat_per_unit: u64::from(how),
            },
            (_, 3) => Command::Network {
                after: None,
                most: usize::from(how),
            },
            _ => Command::Discover {
                destination: cast::node(how % 4),
                max_hops: how % 12,
                timeout: Duration::from_secs(5),
                refresh: how & 64 != 0,
            },
        };
        let id = CommandId(number);
        self.feed(Input::Command { id, command });
    }
}

/// A script of frames, control messages, pauses, broken links and wallet's words. The core never panics, sends nothing
/// that its links would refuse, answers each command at most once, and does the same again when it is fed the same.
pub fn core(data: &[u8]) {
    assert_eq!(play(data), play(data), "the same inputs, the same outputs");
}

fn play(script: &[u8]) -> blake3::Hash {
    let mut node = with_session();
    let mut script = Script(script);
    for number in 0..STEPS as u64 {
        let Some([how, a, b]) = script.take() else {
            break;
        };
        let side = usize::from(how >> 7);
        match how % 8 {
            0 => node.frame(side, Bytes::copy_from_slice(script.block(a, b))),
            1 => node.control(side, &crate::wire::control_frame(script.block(a, b))),
            2 => node.frame(side, bent(&PACKETS[usize::from(how >> 3) % PACKETS.len()], a, b)),
            3 => node.frame(side, bent(&BACK[usize::from(how >> 3) % BACK.len()], a, b)),
            4 => node.frame(side, bent(&SESSION.open, a, b)),
            5 => node.wait(Duration::from_millis(u64::from(a) << (b % 20))),
            6 => match a % 3 {
                0 => node.link_down(side),
                1 => node.link_up(side),
                _ => node.wallet(b),
            },
            _ => node.command(a, number),
        }
    }
    node.said.finalize()
}

/// A frame with one byte changed, or as it is.
fn bent(frame: &Bytes, at: u8, by: u8) -> Bytes {
    let mut frame = frame.to_vec();
    let at = usize::from(at) % frame.len();
    frame[at] ^= by;
    frame.into()
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn take(&mut self) -> Option<[u8; 3]> {
        let (step, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*step)
    }

    /// The next `a` + 256 `b` bytes, or what is left.
    fn block(&mut self, a: u8, b: u8) -> &'a [u8] {
        let length = usize::from(u16::from_le_bytes([a, b])).min(self.0.len());
        let (block, rest) = self.0.split_at(length);
        self.0 = rest;
        block
    }
}
