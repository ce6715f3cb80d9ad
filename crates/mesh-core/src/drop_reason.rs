//! Every end of a packet, message or proof that is not success has a name.
//!
//! One enum is the log field, the metric label, the wire code of an authenticated error, the test assertion and the
//! row in PROTOCOL.md. A new reason is added here, to that table, and where it arises; nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! drop_reasons {
    ($( $(#[doc = $doc:literal])* $variant:ident = $code:literal, $name:literal, $advice:literal; )*) => {
        /// Why something was refused or dropped. Encoded as its code, one byte: the derived encoding would be the place
        /// in this list, and a reason added in the middle would change what nodes of the older version read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "u8", try_from = "u8")]
        #[repr(u8)]
        pub enum DropReason {
            $( $(#[doc = $doc])* $variant = $code, )*
        }

        impl DropReason {
            /// All reasons, in the order of their codes.
            pub const ALL: &'static [DropReason] = &[ $( DropReason::$variant, )* ];

            /// The stable name: metric label and log field.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// When it arises, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),*).trim_start(), )* }
            }

            /// What follows from it: what the one who is refused, or the operator, can do.
            pub fn advice(self) -> &'static str {
                match self { $( Self::$variant => $advice, )* }
            }

            /// The stable code: the byte in an authenticated error.
            pub fn code(self) -> u8 {
                self as u8
            }

            /// The reason of a code; `None` for a code of a newer version.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $( $code => Some(Self::$variant), )* _ => None }
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter or longer than its own header says, or a field is out of range.
    Malformed = 1, "malformed", "the sender's software is broken or hostile; its link is closed when it goes on";
    /// A protocol version this node does not speak.
    UnknownVersion = 2, "unknown_version", "upgrade the older of the two nodes";
    /// A kind of frame this node does not know.
    UnknownKind = 3, "unknown_kind", "upgrade the older of the two nodes";
    /// Larger than the limit for its kind.
    Oversize = 4, "oversize", "split the payload: a packet carries at most 256 KiB";
    /// More messages or bytes than this neighbour may send.
    RateLimited = 5, "rate_limited", "slow down; the budget refills every second";
    /// A table or queue of this node is full; the new is refused, nothing old is forgotten.
    TableFull = 6, "table_full", "try again later or another route";
    /// The outgoing link's queue is full.
    QueueFull = 7, "queue_full", "the next hop is slower than the traffic; send slower or take another route";
    /// No live link to the next hop.
    NextHopGone = 8, "next_hop_gone", "discover another route; credit at surviving hops is kept";
    /// The expiry in the message has passed.
    Expired = 9, "expired", "check both clocks, or give a longer ttl";

    /// So much was drawn that is not yet durable that a crash would cost this hop more than it risks.
    DiskBehind = 10, "disk_behind", "the hop's disk is slow or refuses; send slower, or take another route";
    /// Little room is left on this node's disk: it takes nothing new, and what is open goes on.
    DiskLow = 11, "disk_low", "take another route meanwhile; its operator makes room on the disk";
    /// This node's host or operator works on it: it takes nothing new, and what is open goes on.
    Maintenance = 12, "maintenance", "try again in some minutes, or take another route meanwhile";
    /// This node is being stopped.
    ShuttingDown = 13, "shutting_down", "take another route; credit at it is kept for its next start";

    /// No session of that id at this hop.
    UnknownSession = 20, "unknown_session", "open a session first, or again if this node restarted";
    /// Came from another neighbour, or in another place, than the session's route says.
    WrongHop = 21, "wrong_hop", "send over the session's own route";
    /// The hop's tag does not match: forged or altered header.
    BadTag = 22, "bad_tag", "somebody on the way alters packets; take another route";
    /// The sealed payload does not open at the destination: it was altered on the way.
    PayloadAltered = 23, "payload_altered", "somebody on the way alters payloads; take another route";
    /// This sequence number was seen before.
    Duplicate = 24, "duplicate", "nothing to do: the packet counted once already";
    /// Behind the replay window: it cannot be told whether it was seen before.
    TooOld = 25, "too_old", "the packet was overtaken by thousands of others; send it again";
    /// The account at this hop holds less than the packet costs.
    CreditSpent = 26, "credit_spent", "buy another slice";
    /// An open under an existing session id that differs from the first.
    DifferingOpen = 27, "differing_open", "open a new session with a fresh key";
    /// A sealed box that this node's key does not open.
    SealBroken = 28, "seal_broken", "ask for a fresh quote; the open was altered or sealed to an old key";
    /// The session's prepaid allowance for bytes on the way back is used up.
    BackAllowanceSpent = 29, "back_allowance_spent", "receipts and acks are larger than agreed; buy another slice";
    /// The route repeats a node, is too long, or does not contain this node where it says.
    BadRoute = 30, "bad_route", "routes have at most 10 hops, all different";
    /// The source's signature on the open is not the named source's.
    BadSourceSignature = 31, "bad_source_signature", "open again without a source name, or with the right key";
    /// Packets went out over this session and no receipt came back for them.
    SessionSilent = 32, "session_silent", "open another session: the silent route is passed over; credit at its hops is kept";

    /// The credit for this packet is being bought.
    CreditComing = 33, "credit_coming", "send again in a moment: the next slice is being paid for";

    /// No quote of this node under that id: never given, spent, or expired.
    UnknownQuote = 40, "unknown_quote", "ask for a fresh quote";
    /// No proof of payment came with the open and the account holds too little.
    PaymentMissing = 41, "payment_missing", "pay the quoted invoice and show its preimage";
    /// The proof is not a BOLT11 invoice, or its signature is broken, or it names no bill.
    InvoiceInvalid = 42, "invoice_invalid", "show the invoice or the bill's name exactly as it was quoted";
    /// The invoice is payable to somebody else, or the bill is none of this node's.
    InvoiceNotMine = 43, "invoice_not_mine", "pay what this node's own quote asks for; what is payable to others is nothing to it";
    /// The invoice belongs to another Bitcoin network.
    WrongNetwork = 44, "wrong_network", "both nodes must use the same Bitcoin network";
    /// Shown after redeem-by.
    ProofExpired = 45, "proof_expired", "redeem a paid invoice within its redeem-by time";
    /// The preimage does not hash to the invoice's payment hash.
    WrongPreimage = 46, "wrong_preimage", "pay the invoice: its preimage is learned by paying";
    /// The payee's wallet does not report the invoice as settled.
    NotSettled = 47, "not_settled", "wait until the payment settles and open again; a preimage alone is no money";
    /// Paid with less than was quoted, or a covenant holds too little to be settled.
    Underpaid = 48, "underpaid", "pay the full quoted amount";
    /// The invoice or script was quoted to another account key.
    WrongAccountKey = 49, "wrong_account_key", "only the payer whose key the quote commits to can redeem it";
    /// This payment was redeemed before.
    AlreadyRedeemed = 50, "already_redeemed", "each payment buys its credit once";
    /// The offered share lies below the payee's price or the least payable share, or on the chain is not whole satoshis.
    ShareTooSmall = 51, "share_too_small", "buy a larger slice";
    /// The payee has no wallet that can be paid.
    PaymentsUnavailable = 52, "payments_unavailable", "choose a route whose nodes can be paid, or configure a wallet there";
    /// A kind of proof that this node does not accept.
    ProofKindRefused = 53, "proof_kind_refused", "pay over Lightning";
    /// The payer's fee limit or auto-pay limits forbid this payment.
    LimitReached = 54, "limit_reached", "raise max_fee or the auto-pay limits, or pay by hand and show the proofs";
    /// The wallet could not pay the invoice; nothing was spent.
    PaymentFailed = 55, "payment_failed", "check the wallet's balance and channels";
    /// It is not known whether the payment went through; it is never repeated by itself.
    PaymentUnknown = 56, "payment_unknown", "look the payment up in the wallet; show its proof when it settles";
    /// The treasury's Lightning address gave no invoice.
    TreasuryUnreachable = 58, "treasury_unreachable", "look at the log for what its server said; its part stays owed and is tried again";
    /// A payee's operator has cost this node more within a day than it risks.
    LossLimit = 59, "loss_limit", "take a route over others; the operator sells to this node again when the day is over";

    /// This node's mode does not carry this class of traffic.
    ClassRefused = 60, "class_refused", "pay for the traffic, or choose nodes in another mode";
    /// The payload is not what its free class promises.
    ContentMismatch = 61, "content_mismatch", "free classes carry only what they are named for; pay for anything else";
    /// The neighbour's quota of free bytes is used up.
    FreeQuotaSpent = 62, "free_quota_spent", "wait for the quota to refill, or pay";

    /// A signature in a discovery or quote message is not the named signer's.
    BadSignature = 70, "bad_signature", "somebody on the way forges messages; take another route";
    /// An answer nobody here asked for.
    Unsolicited = 71, "unsolicited", "the sender is broken or hostile";
    /// A message relayed often enough already.
    AlreadyRelayed = 72, "already_relayed", "nothing to do: copies of the request are on their way";
    /// A quote that differs from what was asked: another price, amount, invoice or commitment.
    QuoteMismatch = 73, "quote_mismatch", "the payee or a relay changed the terms; take another route";
    /// Nobody answered in time.
    Timeout = 74, "timeout", "try again, give more time, or another route";
    /// No path to the destination is known or was found.
    NoRoute = 75, "no_route", "check that the destination is up and within 10 hops";
    /// The command names something this node does not have, or in a state that forbids it.
    BadCommand = 76, "bad_command", "see the command's documentation";
    /// A route to a node that never announced itself, or with a seqno that it has not signed.
    Unannounced = 77, "unannounced", "its announcement was refused here before (see which refusals are counted), or the neighbour tells of routes it cannot have";
    /// An announcement older than one already seen: replayed, or overtaken on the way.
    StaleAnnouncement = 78, "stale_announcement", "nothing to do: a newer one is known";
    /// Two announcements of one node under one number that differ.
    ConflictingAnnouncement = 79, "conflicting_announcement", "two nodes run with one key; stop one of them";
    /// A metric that no honest neighbour can have: nothing for another's node, or beyond the plane.
    ImpossibleMetric = 80, "impossible_metric", "the neighbour lies about its routes; unlink it";

    /// The payment is not yet as deep in the best chain as the payee asks for, or the payee's node does not know it.
    Unconfirmed = 90, "unconfirmed", "wait for more blocks and show it again; the quote says how many at the least";
    /// The payment does not pay the quoted script, or not everybody what the split says.
    OutputMismatch = 91, "output_mismatch", "pay exactly the scripts and amounts that were quoted";
    /// What funds the payment was spent by another transaction.
    FundingSpent = 92, "funding_spent", "pay the quoted script again: the first payment was replaced or double spent and never arrives";
    /// The payment was honoured, and then a reorganisation took it out of the best chain.
    Reorganised = 93, "reorganised", "hand the transaction to the network again: its credit comes back when it is as deep as before, by itself";
    /// The covenant's output is not bound to the shown template and nothing else, or the template cannot be settled.
    TemplateMismatch = 94, "template_mismatch", "make the covenant as the protocol says: one input, final, one leaf, no output below dust";
    /// The chain does not enforce BIP-119 there and the covenant is not yet settled: anybody could take its money.
    CtvNotEnforced = 95, "ctv_not_enforced", "settle the covenant and show it when the settling transaction is as deep as the payee asks, or pay otherwise";
    /// The payee has no answer from its Bitcoin node, or an unusable one.
    ChainUnavailable = 96, "chain_unavailable", "try again later; the payee's operator checks [chain] and the Bitcoin node";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.as_str(), self.advice())
    }
}

impl std::error::Error for DropReason {}

impl From<DropReason> for u8 {
    fn from(reason: DropReason) -> Self {
        reason.code()
    }
}

/// A code that this version has no reason for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reason code {0} is unknown to this version; upgrade this node to read it")]
pub struct UnknownReason(pub u8);

impl TryFrom<u8> for DropReason {
    type Error = UnknownReason;

    fn try_from(code: u8) -> Result<Self, Self::Error> {
        Self::from_code(code).ok_or(UnknownReason(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique_and_come_back() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        for reason in DropReason::ALL {
            assert_eq!(DropReason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(DropReason::from_code(0), None);
    }

    #[test]
    fn on_the_wire_a_reason_is_its_code() {
        for reason in DropReason::ALL {
            let bytes = postcard::to_stdvec(reason).unwrap();
            assert_eq!(bytes, [reason.code()]);
            assert_eq!(postcard::from_bytes::<DropReason>(&bytes).unwrap(), *reason);
        }
        assert!(postcard::from_bytes::<DropReason>(&[0]).is_err());
    }
}
