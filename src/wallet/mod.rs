//! The wallet: how this node is paid over Lightning, and how it pays.
//!
//! Everything above this module speaks to one trait, [`Wallet`], held as `Arc<dyn Wallet>`. Behind it stands
//!
//! * [`NoWallet`](none::NoWallet) for nodes that neither charge nor pay (mode `open`), or
//! * [`DevnetWallet`](devnet::DevnetWallet): real Lightning nodes on a simulated chain, for tests and the demo, or
//! * what [`build::connect`] finds in the configuration: LNbits, LND or Core Lightning over REST (docs/WALLETS.md), or
//! * `LdkWallet` (feature `ldk`): a Lightning node inside this program, with coins and channels of its own.
//!
//! The trait asks only for what LND, Core Lightning, LNbits and an embedded LDK node can all answer.
//!
//! # The contract
//!
//! **Amounts** are whole millisatoshi (msat), everywhere.
//!
//! **Settled means money.** [`InvoiceStatus::Settled`] is answered only once the backend itself has booked the
//! payment. That somebody knows the preimage is not enough: claiming reveals it to every hop of the payment
//! before the money is irrevocably ours. Whoever credits a payer asks here first.
//!
//! **An invoice is paid at most once by us.** [`Wallet::pay`] is idempotent by payment hash: asking again while the
//! payment is in flight joins it, asking again after success gives the first outcome back. Only a *known* failure
//! ([`WalletError::nothing_moved`]) frees the invoice for another attempt. An unknown outcome
//! ([`WalletError::OutcomeUnknown`]) is not a failure: the money may have left. It is looked up with
//! [`Wallet::payment_status`], never paid again elsewhere.
//!
//! **Waiting is bounded.** Every operation that waits takes the longest time to wait as an argument.
//!
//! **Dropping a future cancels nothing.** A payment once begun runs to its end in the backend.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

pub mod build;
mod cln;
pub mod devnet;
mod error;
pub mod invoice;
#[cfg(feature = "ldk")]
pub mod ldk;
pub mod lightning_node;
mod lnbits;
mod lnd;
pub mod none;
mod rest;

pub use error::WalletError;
use lightning_node::LightningNode;

/// The 32-byte SHA-256 of a payment's preimage; names an invoice and its payment.
pub type PaymentHash = [u8; 32];

/// The 32-byte secret that its payment hash commits to; the payer's receipt.
pub type Preimage = [u8; 32];

/// A Lightning wallet. See the [module's contract](self).
#[async_trait]
pub trait Wallet: fmt::Debug + Send + Sync {
    /// Who and where this wallet is.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`] when the backend cannot be reached. `NoWallet` answers too, without a payee.
    async fn info(&self) -> Result<WalletInfo, WalletError>;

    /// Issues a BOLT 11 invoice over exactly `request.amount_msat`.
    ///
    /// # Errors
    /// [`WalletError::InvalidRequest`] for an amount of zero or an expiry no invoice can carry;
    /// [`WalletError::LimitReached`] when too many invoices are outstanding; [`WalletError::NoWallet`];
    /// [`WalletError::Unavailable`].
    async fn create_invoice(&self, request: InvoiceRequest) -> Result<CreatedInvoice, WalletError>;

    /// What has become of one of our own invoices.
    ///
    /// # Errors
    /// [`WalletError::NoWallet`], [`WalletError::Unavailable`]. An invoice we never issued is not an error but
    /// [`InvoiceStatus::Unknown`].
    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError>;

    /// Waits until the invoice is settled, or can no longer be, or `timeout` has passed, and answers its status then:
    /// a status of [`InvoiceStatus::Open`] means that the time ran out.
    ///
    /// # Errors
    /// As [`Wallet::invoice_status`]. Running out of time is not an error.
    async fn wait_settled(
        &self,
        payment_hash: PaymentHash,
        timeout: Duration,
    ) -> Result<InvoiceStatus, WalletError>;

    /// Pays a BOLT 11 invoice, at most once, and waits for the outcome (see the [contract](self)).
    ///
    /// # Errors
    /// Those with [`WalletError::nothing_moved`] say that no money left and none can leave any more.
    /// [`WalletError::OutcomeUnknown`] says that it may have.
    async fn pay(&self, request: PayRequest) -> Result<PaymentOutcome, WalletError>;

    /// What has become of a payment we began. Reads only; never pays.
    ///
    /// # Errors
    /// [`WalletError::NoWallet`], [`WalletError::Unavailable`].
    async fn payment_status(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError>;

    /// Asks whether a payment would arrive, as far as that can be known without paying: nothing that is paid afterwards
    /// is promised. A payer probes all payees of a route before it pays any of them, so that the first shares are not
    /// spent on a route whose last payee cannot be reached.
    ///
    /// # Errors
    /// Those of [`Wallet::pay`] that say that nothing moved: the payment would fail with them now.
    async fn probe(&self, request: &PayRequest) -> Result<Probe, WalletError>;

    /// Pays a BOLT 12 offer `amount_msat`, at most once for one `reference`, and waits for the outcome.
    ///
    /// # Errors
    /// [`WalletError::NotOffered`] from a backend that knows no offers; else as [`Wallet::pay`].
    async fn pay_offer(&self, _request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
        Err(WalletError::NotOffered {
            what: "payments to BOLT 12 offers",
        })
    }

    /// The unit of this wallet's invoices, in msat: [`Wallet::create_invoice`] refuses an amount that is no multiple of
    /// it. 1 for every Lightning node; 1,000 for services that count whole satoshi only.
    fn granularity_msat(&self) -> u64 {
        1
    }

    /// Whether a payment begun by a process that was killed may get into the books only later, because its request was on
    /// the way to another program. Until that is over, [`PaymentStatus::Unknown`] is not known to be true of it.
    fn may_book_later(&self) -> bool {
        false
    }

    /// What this wallet owns and can move now.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    async fn balance(&self) -> Result<Balance, WalletError>;

    /// The Lightning node that this wallet runs itself, with its coins on-chain and its channels; `None` from a wallet
    /// that speaks to somebody else's.
    fn lightning_node(&self) -> Option<&dyn LightningNode> {
        None
    }
}

/// The Bitcoin network a wallet's invoices are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LightningNetwork {
    /// The main network: real money.
    Bitcoin,
    /// The public test networks 3 and 4, which share one invoice prefix.
    Testnet,
    /// Signet.
    Signet,
    /// A private regression-test network, such as the devnet's.
    Regtest,
}

impl LightningNetwork {
    /// The human-readable prefix of its invoices before the amount (BOLT 11): `lnbc`, `lntb`, `lntbs`, `lnbcrt`.
    #[must_use]
    pub const fn bolt11_prefix(self) -> &'static str {
        match self {
            Self::Bitcoin => "lnbc",
            Self::Testnet => "lntb",
            Self::Signet => "lntbs",
            Self::Regtest => "lnbcrt",
        }
    }
}

impl fmt::Display for LightningNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bitcoin => "bitcoin",
            Self::Testnet => "testnet",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        })
    }
}

/// Who and where a wallet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletInfo {
    /// The name of the backend, for logs and the dashboard: `none`, `devnet`, …
    pub backend: &'static str,
    /// The network of its invoices; `None` without a wallet.
    pub network: Option<LightningNetwork>,
    /// The compressed secp256k1 public key that signs its invoices, where the backend tells. A proof of payment
    /// counts here only if its invoice was signed by this key.
    pub payee: Option<[u8; 33]>,
}

/// An invoice to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRequest {
    /// What is to be paid, in msat; at least 1.
    pub amount_msat: u64,
    /// What is being paid for. The invoice carries its SHA-256 (BOLT 11 field `h`) and not the text; backends get the
    /// text because some hash it themselves. Printable ASCII of at most [`MAX_DESCRIPTION_BYTES`].
    pub description: String,
    /// How long it can be paid, in whole seconds (a fraction counts as a second); from 1 s to
    /// [`MAX_INVOICE_EXPIRY`](invoice::MAX_INVOICE_EXPIRY).
    pub expiry: Duration,
}

/// The longest description of an invoice, in bytes. What a quote commits to takes some 330.
pub const MAX_DESCRIPTION_BYTES: usize = 512;

impl InvoiceRequest {
    /// What the invoice commits to.
    #[must_use]
    pub fn description_hash(&self) -> [u8; 32] {
        Sha256::digest(&self.description).into()
    }
}

/// An invoice as issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedInvoice {
    /// The invoice in its textual form (BOLT 11).
    pub bolt11: String,
    /// Its payment hash, by which to ask after it.
    pub payment_hash: PaymentHash,
}

/// What has become of one of our own invoices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceStatus {
    /// Not an invoice of this wallet (or one that expired unpaid so long ago that it was forgotten).
    Unknown,
    /// Not settled yet, and it still can be.
    Open,
    /// The money is ours. Final.
    Settled {
        /// What arrived, in msat: what counts is this, not what was asked for.
        amount_msat: u64,
    },
    /// It expired unpaid; a payment arriving later is sent back. Final.
    Expired,
    /// It was withdrawn before it was paid. Final.
    Cancelled,
}

impl InvoiceStatus {
    /// Whether nothing can change it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Settled { .. } | Self::Expired | Self::Cancelled)
    }
}

/// A payment to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayRequest {
    /// The invoice (BOLT 11); it must name its amount.
    pub bolt11: String,
    /// The most to pay to Lightning routers on top of the amount, in msat. 0 allows free routes only.
    pub max_fee_msat: u64,
    /// The most blocks that the money may be locked for while the payment is under way (total CLTV expiry delta):
    /// longer, and a payee who sits on it holds the payer's money for weeks.
    pub max_cltv_blocks: u32,
    /// How long to wait for the outcome.
    pub timeout: Duration,
}

/// A payment to a BOLT 12 offer, such as the treasury's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferRequest {
    /// The offer (`lno1…`).
    pub offer: String,
    /// What is to be paid, in msat.
    pub amount_msat: u64,
    /// The most to pay to Lightning routers on top of the amount, in msat.
    pub max_fee_msat: u64,
    /// Names this payment among all of this wallet's: paying again with the same reference pays nothing again.
    pub reference: [u8; 32],
    /// How long to wait for the outcome.
    pub timeout: Duration,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The payment would most likely arrive, for about this much in Lightning fees.
    Reachable {
        /// The fee, in msat.
        fee_msat: u64,
    },
    /// This backend cannot tell without paying.
    NotOffered,
}

/// A payment that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentOutcome {
    /// The preimage of the payment hash: the receipt.
    pub preimage: Preimage,
    /// What the payee received, in msat.
    pub amount_msat: u64,
    /// What Lightning routers took on top of it, in msat.
    pub fee_msat: u64,
}

/// What has become of a payment we began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentStatus {
    /// We never began it.
    Unknown,
    /// It may still succeed or fail.
    InFlight,
    /// It succeeded. Final.
    Succeeded(PaymentOutcome),
    /// It failed and nothing moved; the invoice may be tried again.
    Failed(WalletError),
}

/// What a wallet owns and can move, in msat. All zero without a wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Everything that is ours in our channels, including what the channels' rules never let us spend off-chain
    /// (reserves, and the commitment fee where we opened the channel). Money in flight in either direction is not
    /// in it.
    pub owned_msat: u64,
    /// What can be sent now, in all channels together.
    pub spendable_msat: u64,
    /// What can be received now, in all channels together; `None` if the backend cannot tell.
    pub receivable_msat: Option<u64>,
    /// What we have offered to others, own payments and forwarded ones alike: it left `owned_msat` and is neither
    /// paid nor returned yet.
    pub outgoing_msat: u64,
}
