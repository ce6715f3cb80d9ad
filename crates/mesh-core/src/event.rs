//! The core's language: what goes in, what comes out.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::account::AccountRecord;
use crate::chain::{BillId, ChainAnswer, ChainQuestion, OutPoint, OutputQuote};
use crate::chain_book::{Bill, HonouredOutput};
use crate::check::Checked;
use crate::drop_reason::DropReason;
use crate::fairness::durable::WeighedNode;
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::ledger::Entry;
use crate::limits::{MAX_CONTROL_BYTES, MAX_FRAME_BYTES};
use crate::message::{QuoteId, RequestId};
use crate::open::{HopRefusal, Receipt};
use crate::packet::PacketId;
use crate::payer::PurchasedProof;
use crate::quotes::{InvoiceRecord, QuoteKeyRecord};
use crate::spending::SpendingRecord;
use crate::time::UnixMillis;
use crate::treasury::{TreasuryBill, TreasuryPayment};
use crate::verifier::{InvoiceFacts, Settlement};

pub use crate::command::{
    Answer, Buying, Command, Funding, NetworkNode, NetworkPage, OpenedSession, QuotedPayee, QuotedSlice,
    Refusal, RouteInfo, SessionState, Status,
};

/// One live link to a neighbour; never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl std::fmt::Display for LinkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// Ties an answer to the command it answers; chosen by the hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Ties a wallet's answer to the core's question; chosen by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Which of a link's two connections a frame takes, so that a large packet never delays a control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Packets.
    Data,
    /// Opens, errors, discovery, quotes.
    Control,
}

impl Channel {
    /// The longest frame it carries, in bytes.
    pub const fn max_frame_bytes(self) -> usize {
        match self {
            Self::Data => MAX_FRAME_BYTES,
            Self::Control => MAX_CONTROL_BYTES,
        }
    }

    /// The name used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Control => "control",
        }
    }
}

/// What the core is fed. Every input comes with the moment it happened.
#[derive(Debug)]
pub enum Input {
    /// A neighbour proved its id and can be sent to.
    LinkUp {
        /// The new link.
        link: LinkId,
        /// Who is on the other side.
        peer: NodeId,
    },
    /// The neighbour on a link is directly connected with this address: neither over a proxy nor over somebody else's
    /// connection, which would make one of all who use them.
    Reached {
        /// The link.
        link: LinkId,
        /// The other end of the connection.
        address: IpAddr,
    },
    /// A link is gone.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// A packet, open or hop error as it was received.
    Frame {
        /// Whence.
        link: LinkId,
        /// The frame, starting with the preamble.
        frame: Bytes,
    },
    /// A control message whose signatures a worker has checked.
    Message {
        /// Whence.
        link: LinkId,
        /// The message.
        message: Box<Checked>,
    },
    /// A worker refused a frame.
    Rejected {
        /// Whence.
        link: LinkId,
        /// Why.
        reason: DropReason,
    },
    /// Somebody on this machine wants something.
    Command {
        /// Comes back with the answer.
        id: CommandId,
        /// What is wanted.
        command: Command,
    },
    /// The wallet's answer.
    Wallet {
        /// The question's.
        ticket: Ticket,
        /// What it says.
        answer: WalletAnswer,
    },
    /// The chain source's answer.
    Chain {
        /// The question's.
        ticket: Ticket,
        /// What it says.
        answer: ChainAnswer,
    },
    /// The first so many of all records that this core put out ([`Output::Persist`] and [`Output::PersistSoon`], counted
    /// together in their order since it was made) are durable. Told after every commit: what is drawn and not known to be
    /// durable is bounded.
    Durable {
        /// How many.
        records: u64,
    },
    /// The moment that [`crate::core::Core::next_timeout`] named has come.
    Timeout,
}

/// What the core asks to be done. Outputs are carried out in their order, and a [`Output::Persist`] is durable before
/// anything after it is done. Only [`Output::Forward`] and [`Output::Deliver`] need not wait: packets flow in sessions
/// whose open was held back until it was durable, so a disk that writes never delays other people's packets.
#[derive(Debug)]
pub enum Output {
    /// Send a frame to a neighbour.
    Transmit {
        /// Whither.
        link: LinkId,
        /// Over which of its connections.
        channel: Channel,
        /// The frame.
        frame: Bytes,
    },
    /// Send a packet of an open session to a neighbour, over the data connection.
    Forward {
        /// Whither.
        link: LinkId,
        /// The frame.
        frame: Bytes,
    },
    /// A payload for this node arrived; each is delivered once.
    Deliver(Box<Delivery>),
    /// Send a receipt to a neighbour, over the data connection, once all that was delivered before it is in safe hands: its
    /// source takes it as proof of that. Receipts add up, so one that is never sent is made good by the next.
    Receipt {
        /// Whither.
        link: LinkId,
        /// The frame.
        frame: Bytes,
    },
    /// Ask the wallet.
    AskWallet {
        /// Comes back with the answer.
        ticket: Ticket,
        /// The question.
        question: WalletQuestion,
    },
    /// Ask the chain source.
    AskChain {
        /// Comes back with the answer.
        ticket: Ticket,
        /// The question.
        question: ChainQuestion,
    },
    /// The answer to a command; each command gets exactly one.
    Answer {
        /// The command's.
        id: CommandId,
        /// What came of it.
        answer: Result<Answer, Box<Refusal>>,
    },
    /// Something happened that others may want to know.
    Event(Box<Event>),
    /// Make this durable before anything after it is done.
    Persist(Box<Record>),
    /// Make this durable soon, in order with the other records; nothing waits for it.
    PersistSoon(Box<Record>),
    /// Something was dropped or refused.
    Dropped {
        /// Why.
        reason: DropReason,
        /// Whose it was; none for commands.
        link: Option<LinkId>,
    },
}

/// A payload that arrived here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent it, if it proved so.
    pub source: Option<NodeId>,
    /// The session it came in.
    pub session: SessionId,
    /// Its place in the session.
    pub sequence: u64,
    /// Its name on the wire.
    pub packet_id: PacketId,
    /// The protocol it is for; may be empty.
    pub protocol_id: String,
    /// The payload.
    pub payload: Bytes,
}

/// A question to the wallet; the hands answer each exactly once.
#[derive(Clone, PartialEq, Eq)]
pub enum WalletQuestion {
    /// Make an invoice.
    CreateInvoice {
        /// Its amount, in msat.
        amount_msat: u64,
        /// The text whose SHA-256 it commits to.
        description: String,
        /// How long it may be paid.
        expiry: Duration,
    },
    /// Read an invoice shown as proof and wait boundedly until the wallet reports it settled.
    CheckProof {
        /// The invoice.
        invoice: String,
        /// How long to wait at the most.
        wait: Duration,
    },
    /// Say whether an invoice of one's own was paid; at once.
    Settlement {
        /// Its payment hash.
        payment_hash: [u8; 32],
    },
    /// Say what became of a payment; at once, and without paying.
    LookUp {
        /// Its payment hash.
        payment_hash: [u8; 32],
        /// Whether it was begun so shortly ago that a request to make it, sent before this node was killed, may not have
        /// got into the books of a wallet's service yet: not being in them is then no failure.
        just_begun: bool,
    },
    /// Say, without paying, whether a payment of this invoice would arrive.
    Probe {
        /// The invoice.
        invoice: String,
        /// The most it may cost in Lightning fees, in msat.
        max_fee_msat: u64,
        /// How long to look.
        timeout: Duration,
    },
    /// Find out what has to be paid for the treasury to get this much; pays nothing.
    TreasuryBill {
        /// How much, in msat.
        amount_msat: u64,
    },
    /// Pay an offer. Asking again under the same reference pays nothing again and tells what became of it.
    PayOffer {
        /// The offer (BOLT12).
        offer: String,
        /// How much, in msat.
        amount_msat: u64,
        /// The most it may cost in Lightning fees, in msat.
        max_fee_msat: u64,
        /// Names the payment.
        reference: [u8; 32],
        /// How long to try.
        timeout: Duration,
    },
    /// Pay an invoice; paying the same one twice pays once. The money is locked for at most
    /// [`crate::limits::MAX_PAYMENT_CLTV_BLOCKS`].
    Pay {
        /// The invoice.
        invoice: String,
        /// The most it may cost in Lightning fees, in msat.
        max_fee_msat: u64,
        /// How long to try.
        timeout: Duration,
    },
}

impl std::fmt::Debug for WalletQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CreateInvoice { amount_msat, .. } => write!(f, "CreateInvoice({amount_msat} msat)"),
            Self::CheckProof { .. } => f.write_str("CheckProof"),
            Self::Settlement { .. } => f.write_str("Settlement"),
            Self::LookUp { .. } => f.write_str("LookUp"),
            Self::Probe { max_fee_msat, .. } => write!(f, "Probe(fee at most {max_fee_msat} msat)"),
            Self::TreasuryBill { amount_msat } => write!(f, "TreasuryBill({amount_msat} msat)"),
            Self::PayOffer { amount_msat, .. } => write!(f, "PayOffer({amount_msat} msat)"),
            Self::Pay { max_fee_msat, .. } => write!(f, "Pay(fee at most {max_fee_msat} msat)"),
        }
    }
}

/// What the wallet says.
#[derive(Debug, Clone)]
pub enum WalletAnswer {
    /// The invoice and its payment hash, or why there is none.
    Invoice(Result<(String, [u8; 32]), DropReason>),
    /// What the shown invoice says, and what the wallet says of it.
    Proof(Result<(InvoiceFacts, Settlement), DropReason>),
    /// What the wallet says of an invoice of its own.
    Settlement(Settlement),
    /// Whether a payment would arrive, as far as the wallet can tell without paying; why not, if not.
    Probed(Result<(), DropReason>),
    /// What is to be paid to the treasury, or why that is not known.
    TreasuryBill(Result<TreasuryBill, DropReason>),
    /// The payment, or why there is none: [`DropReason::PaymentFailed`] when it is certain that none was made.
    Paid(Result<Payment, DropReason>),
}

/// A payment that went through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// What paying revealed.
    pub preimage: [u8; 32],
    /// What arrived, in msat.
    pub amount_msat: u64,
    /// What Lightning nodes took on the way, in msat.
    pub fee_msat: u64,
}

impl std::fmt::Debug for Payment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Payment({} msat, fee {} msat)",
            self.amount_msat, self.fee_msat
        )
    }
}

/// Something that others may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A route was found.
    RouteDiscovered {
        /// All nodes, this one first.
        path: Vec<NodeId>,
        /// The least fee for one unit over it, in msat.
        msat_per_unit: u64,
    },
    /// No route was found.
    RouteFailed {
        /// To whom.
        destination: NodeId,
        /// Why.
        reason: DropReason,
    },
    /// A payment was verified and credited here.
    PaymentVerified {
        /// Its payment hash; of a payment on the chain the name of the bill that it paid.
        payment_hash: [u8; 32],
        /// This node's own invoice that was paid; none on the chain.
        invoice: Option<String>,
        /// This node's share, credited to the payer's account, in msat.
        credit_msat: u64,
        /// The treasury's part, booked as owed, in msat.
        treasury_msat: u64,
    },
    /// A reorganisation took an honoured output out of the best chain.
    OutputTakenBack {
        /// The output.
        outpoint: OutPoint,
        /// What was left of its credit and is taken from the payer's account, in msat.
        taken_msat: u64,
        /// What packets had drawn of it or the treasury was paid: this node's loss unless the output comes back, in msat.
        lost_msat: u64,
    },
    /// An output that was taken back is in the best chain again, as deep as is asked for; what was taken from the account
    /// is credited again.
    OutputCameBack {
        /// The output.
        outpoint: OutPoint,
        /// The credit, in msat.
        credit_msat: u64,
    },
    /// Somebody announced this node's id with a number this node has not used: its own earlier life, if its database was
    /// lost, or a second node with the same key. Two nodes with one key take each other's traffic away.
    OwnIdSeen {
        /// The number.
        seqno: u64,
    },
    /// A session was opened through or to this node.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Whether this node is its destination.
        is_destination: bool,
    },
    /// A session ended; what its account still holds stays the payer's.
    SessionClosed {
        /// The session.
        session: SessionId,
    },
    /// The next slice was bought, and the session's packets go over a new one from now on; commands still know it by its
    /// old id.
    SessionContinued {
        /// The session as it was opened.
        session: SessionId,
        /// The one that carries its packets now, and whose receipts come.
        by: SessionId,
        /// All nodes, this one first.
        path: Vec<NodeId>,
        /// What each payee draws per unit, in msat, first router first.
        prices_msat: Vec<u64>,
        /// What a unit costs in all, the treasury's part included, in msat, rounded up.
        msat_per_unit: u64,
    },
    /// The next slice could not be bought; it is tried again while packets are sent.
    TopUpFailed {
        /// The session as it was opened.
        session: SessionId,
        /// Why.
        reason: DropReason,
    },
    /// The destination signed what arrived.
    Receipt(Receipt),
    /// A hop of one's own session refused something, or says that the link behind it broke.
    HopRefused {
        /// The session.
        session: SessionId,
        /// Which hop; this node itself when its own link to the first one broke.
        hop: NodeId,
        /// What it said.
        refusal: HopRefusal,
    },
    /// Packets went out over a session of one's own and no receipt came back: somebody on the way takes packets and
    /// carries none, or the way back is broken. The session takes no more packets.
    SessionSilent {
        /// The session.
        session: SessionId,
        /// All nodes, this one first: which of them fell silent cannot be known.
        path: Vec<NodeId>,
    },
}

/// What has to survive a kill -9. Applied in order by [`crate::core::Core::restore`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A quote's key and terms.
    QuoteKey(QuoteKeyRecord),
    /// A quote's key was used or has expired and is erased.
    QuoteKeyErased(QuoteId),
    /// An invoice was quoted.
    Invoice(InvoiceRecord),
    /// A payment was redeemed, or its invoice can no longer be.
    InvoiceClosed {
        /// The payment hash.
        payment_hash: [u8; 32],
        /// Until when it is remembered as redeemed; none if it never was.
        redeemed_until: Option<UnixMillis>,
    },
    /// What an account of a payer at this node holds.
    Account(AccountRecord),
    /// What this node owes the treasury in all, in msat.
    TreasuryOwed(u64),
    /// The shares this node was paid in all, in msat.
    Earned(u64),
    /// A payment of this node's own that is not yet redeemed.
    Proof(PurchasedProof),
    /// A payment of this node's own was redeemed.
    ProofRedeemed {
        /// Its payment hash.
        payment_hash: [u8; 32],
    },
    /// Seqnos up to this one may have been used by this node: a later life goes on behind it.
    OwnSeqno(u64),
    /// An announcement was taken up: older ones are refused for as long as they could be replayed.
    AnnouncementSeen {
        /// Whose it is.
        origin: NodeId,
        /// Its number.
        seqno: u64,
        /// When it expires, and with it everything older.
        expires: UnixMillis,
    },
    /// A node was forgotten, and with it what was seen of it.
    AnnouncementForgotten {
        /// Which.
        origin: NodeId,
    },
    /// Money moved, or a session ended. Becomes durable with the other records of its step.
    Booked(Box<Entry>),
    /// A payment to the treasury is about to begin.
    TreasuryBegun(Box<TreasuryPayment>),
    /// It went through, or certainly did not.
    TreasuryDone,
    /// This node's credit at a payee, in msat: never more than it is.
    Credit {
        /// The payee.
        payee: NodeId,
        /// The credit.
        msat: u64,
    },
    /// A script was quoted.
    OutputQuote(OutputQuote),
    /// A quoted script was paid and redeemed, or can no longer be.
    OutputQuoteClosed(BillId),
    /// An output was honoured, or how it stands has changed. Never forgotten.
    Honoured(Box<HonouredOutput>),
    /// Another node quoted a script to this node as payer.
    Bill(Bill),
    /// That bill was paid and redeemed, or can no longer be.
    BillForgotten(BillId),
    /// An auto-payment, before it is made with the most that it may cost, and again with what it did cost.
    Spending(Box<SpendingRecord>),
    /// An auto-payment that was not made, or that is older than any cap looks back.
    SpendingForgotten(RequestId),
    /// What a node earned of this node's money lately, for shares. Written at most once a minute: a crash forgets the
    /// receipts of so long, and no money.
    Weighed(Box<WeighedNode>),
}
