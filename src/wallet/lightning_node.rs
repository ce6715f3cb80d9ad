//! What only a wallet with a Lightning node of its own can do: hold coins on-chain, open channels and close them.

use std::net::SocketAddr;

use async_trait::async_trait;

use super::WalletError;

/// A Lightning node that this program runs itself. Other wallets leave all this to the node they speak to.
#[async_trait]
pub trait LightningNode: Send + Sync {
    /// Where it listens for other Lightning nodes; nowhere if it only dials.
    fn listen_addr(&self) -> Option<SocketAddr>;

    /// A fresh address of its on-chain wallet, to fund it.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    async fn new_address(&self) -> Result<String, WalletError>;

    /// What it holds on-chain.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    async fn on_chain(&self) -> Result<OnChainBalance, WalletError>;

    /// What it was paid and has paid over Lightning in all its life.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    async fn payments(&self) -> Result<PaymentTotals, WalletError>;

    /// Its channels, open, opening and closing.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    async fn channels(&self) -> Result<Vec<Channel>, WalletError>;

    /// Begins to open a channel; it can be used when its funding is confirmed. Answers its id.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`]; [`WalletError::Failed`] when the other node cannot be reached or refuses.
    async fn open_channel(&self, request: OpenChannel) -> Result<String, WalletError>;

    /// Closes a channel by agreement with the other node or, with `force`, alone: what is ours then comes back after
    /// the delay that the channel was opened with.
    ///
    /// # Errors
    /// [`WalletError::InvalidRequest`] for a channel that there is not; [`WalletError::Failed`].
    async fn close_channel(&self, id: &str, force: bool) -> Result<(), WalletError>;

    /// Stops it in order. Afterwards everything answers [`WalletError::Unavailable`].
    async fn stop(&self);
}

/// Coins on-chain, in sat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnChainBalance {
    /// Everything, unconfirmed change included.
    pub total_sats: u64,
    /// What can be spent now.
    pub spendable_sats: u64,
    /// What is kept back so that channels can be closed when fees are high.
    pub reserve_sats: u64,
    /// What comes back from channels that are closed or closing.
    pub closing_sats: u64,
}

/// Sums over all Lightning payments that the node remembers, which is all that succeeded, in msat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaymentTotals {
    /// What its invoices and offers were paid.
    pub received_msat: u64,
    /// What others received from it.
    pub paid_msat: u64,
    /// What other Lightning nodes took on the way there.
    pub fees_msat: u64,
    /// What is under way to others and may still arrive or come back.
    pub pending_msat: u64,
}

/// A channel to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// The other node's compressed public key.
    pub node_id: [u8; 33],
    /// Where it listens, `host:port`.
    pub address: String,
    /// What goes into the channel, in sat.
    pub sats: u64,
    /// How much of it is the other's from the start, in msat.
    pub push_msat: u64,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its id: this node's own name for it, the same for all its life.
    pub id: String,
    /// The other node's compressed public key.
    pub peer: [u8; 33],
    /// The funding transaction's output, `txid:index`, once there is one.
    pub funding: Option<String>,
    /// What is in it, in sat.
    pub value_sats: u64,
    /// What of it is ours, in msat; money in flight in either direction is not in it.
    pub owned_msat: u64,
    /// What can be sent over it now, in msat.
    pub spendable_msat: u64,
    /// What can be received over it now, in msat.
    pub receivable_msat: u64,
    /// Confirmed on both sides, and not closing.
    pub ready: bool,
    /// Ready, and the other node is connected.
    pub usable: bool,
    /// Known to the whole Lightning network.
    pub announced: bool,
}
