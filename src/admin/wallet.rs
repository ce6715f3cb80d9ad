//! The node's wallet over the admin socket: what it holds, and the channels of one that is a Lightning node itself.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backend::to_json;
use super::wire::{AdminError, DoneReply, codes};
use crate::wallet::lightning_node::{Channel, LightningNode, OpenChannel};
use crate::wallet::{Wallet, WalletError};

/// How long the wallet may take: opening a channel dials the other node first.
const GUARD: Duration = Duration::from_secs(60);

/// Parameters of `wallet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum WalletParams {
    /// Which wallet it is. Answers [`WalletInfoReply`].
    Info {},
    /// A fresh address to fund it on-chain. Answers [`WalletAddressReply`].
    Address {},
    /// What it holds. Answers [`WalletBalanceReply`].
    Balance {},
    /// Its channels. Answers [`WalletChannelsReply`].
    Channels {},
    /// Open a channel. Answers [`WalletOpenedReply`].
    OpenChannel {
        /// The other Lightning node's public key, 66 hexadecimal digits.
        node_id: String,
        /// Where it listens, `host:port`.
        address: String,
        /// What goes into the channel, in sat.
        sats: u64,
        /// How much of it is the other's from the start, in msat.
        #[serde(default)]
        push_msat: u64,
    },
    /// Close a channel. Answers [`DoneReply`].
    CloseChannel {
        /// The channel's id as `channels` shows it.
        id: String,
        /// Close it alone, without the other node's agreement.
        #[serde(default)]
        force: bool,
    },
}

/// Which wallet it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletInfoReply {
    /// The backend.
    pub backend: String,
    /// The Bitcoin network of its invoices; none without a wallet.
    pub network: Option<String>,
    /// The Lightning node's public key, where the backend tells.
    pub node_id: Option<String>,
    /// Where the Lightning node listens, if it is part of this program and does.
    pub listen_addr: Option<SocketAddr>,
}

/// An address to be funded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletAddressReply {
    /// The address.
    pub address: String,
}

/// What the wallet holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletBalanceReply {
    /// What is ours in channels, in msat.
    pub owned_msat: u64,
    /// What can be paid now, in msat.
    pub spendable_msat: u64,
    /// What can be received now, in msat, where the backend tells.
    pub receivable_msat: Option<u64>,
    /// What is on its way to others, in msat.
    pub outgoing_msat: u64,
    /// On-chain, if the Lightning node is part of this program.
    pub on_chain: Option<OnChainReply>,
    /// All Lightning payments so far, likewise.
    pub payments: Option<PaymentsReply>,
}

/// Sums over all Lightning payments so far, in msat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentsReply {
    /// Received.
    pub received_msat: u64,
    /// Paid, without fees.
    pub paid_msat: u64,
    /// Fees of other Lightning nodes.
    pub fees_msat: u64,
    /// Under way.
    pub pending_msat: u64,
}

/// Coins on-chain, in sat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnChainReply {
    /// Everything.
    pub total_sats: u64,
    /// What can be spent now.
    pub spendable_sats: u64,
    /// What is kept back for closing channels.
    pub reserve_sats: u64,
    /// What comes back from channels that are closed or closing.
    pub closing_sats: u64,
}

/// The wallet's channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletChannelsReply {
    /// Each of them.
    pub channels: Vec<ChannelReply>,
}

/// One channel. See [`Channel`] for the meaning of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the same names, the same meaning
pub struct ChannelReply {
    pub id: String,
    pub peer: String,
    pub funding: Option<String>,
    pub value_sats: u64,
    pub owned_msat: u64,
    pub spendable_msat: u64,
    pub receivable_msat: u64,
    pub ready: bool,
    pub usable: bool,
    pub announced: bool,
}

/// A channel that is being opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletOpenedReply {
    /// Its id.
    pub id: String,
}

/// Does what is asked, within a bounded time.
pub(super) async fn answer(wallet: &dyn Wallet, params: WalletParams) -> Result<Value, AdminError> {
    match tokio::time::timeout(GUARD, act(wallet, params)).await {
        Ok(answer) => answer,
        Err(_) => Err(AdminError::new(
            codes::NO_ANSWER,
            format!("the wallet did not answer within {} s", GUARD.as_secs()),
            "look at the daemon's log; what was asked may still happen",
        )),
    }
}

async fn act(wallet: &dyn Wallet, params: WalletParams) -> Result<Value, AdminError> {
    match params {
        WalletParams::Info {} => to_json(info(wallet).await.map_err(refused)?),
        WalletParams::Balance {} => to_json(balance(wallet).await.map_err(refused)?),
        WalletParams::Address {} => {
            let address = own_node(wallet)?.new_address().await.map_err(refused)?;
            to_json(WalletAddressReply { address })
        }
        WalletParams::Channels {} => {
            let channels = own_node(wallet)?.channels().await.map_err(refused)?;
            let channels = channels.into_iter().map(channel).collect();
            to_json(WalletChannelsReply { channels })
        }
        WalletParams::OpenChannel {
            node_id,
            address,
            sats,
            push_msat,
        } => {
            let node = own_node(wallet)?;
            let mut key = [0; 33];
            hex::decode_to_slice(&node_id, &mut key).map_err(|_| {
                AdminError::bad_request(
                    "node_id must be a Lightning node's public key, 66 hexadecimal digits",
                )
            })?;
            let request = OpenChannel {
                node_id: key,
                address,
                sats,
                push_msat,
            };
            let id = node.open_channel(request).await.map_err(refused)?;
            to_json(WalletOpenedReply { id })
        }
        WalletParams::CloseChannel { id, force } => {
            let closed = own_node(wallet)?.close_channel(&id, force).await;
            closed.map_err(refused)?;
            to_json(DoneReply {})
        }
    }
}

async fn info(wallet: &dyn Wallet) -> Result<WalletInfoReply, WalletError> {
    let info = wallet.info().await?;
    Ok(WalletInfoReply {
        backend: info.backend.to_owned(),
        network: info.network.map(|network| network.to_string()),
        node_id: info.payee.map(hex::encode),
        listen_addr: wallet.lightning_node().and_then(LightningNode::listen_addr),
    })
}

async fn balance(wallet: &dyn Wallet) -> Result<WalletBalanceReply, WalletError> {
    let balance = wallet.balance().await?;
    let (on_chain, payments) = match wallet.lightning_node() {
        Some(node) => (Some(node.on_chain().await?), Some(node.payments().await?)),
        None => (None, None),
    };
    Ok(WalletBalanceReply {
        owned_msat: balance.owned_msat,
        spendable_msat: balance.spendable_msat,
        receivable_msat: balance.receivable_msat,
        outgoing_msat: balance.outgoing_msat,
        on_chain: on_chain.map(|coins| OnChainReply {
            total_sats: coins.total_sats,
            spendable_sats: coins.spendable_sats,
            reserve_sats: coins.reserve_sats,
            closing_sats: coins.closing_sats,
        }),
        payments: payments.map(|totals| PaymentsReply {
            received_msat: totals.received_msat,
            paid_msat: totals.paid_msat,
            fees_msat: totals.fees_msat,
            pending_msat: totals.pending_msat,
        }),
    })
}

fn own_node(wallet: &dyn Wallet) -> Result<&dyn LightningNode, AdminError> {
    wallet.lightning_node().ok_or_else(|| {
        refused(WalletError::NotOffered {
            what: "channels and coins of its own, which only backend \"ldk\" has",
        })
    })
}

fn channel(channel: Channel) -> ChannelReply {
    ChannelReply {
        id: channel.id,
        peer: hex::encode(channel.peer),
        funding: channel.funding,
        value_sats: channel.value_sats,
        owned_msat: channel.owned_msat,
        spendable_msat: channel.spendable_msat,
        receivable_msat: channel.receivable_msat,
        ready: channel.ready,
        usable: channel.usable,
        announced: channel.announced,
    }
}

fn refused(error: WalletError) -> AdminError {
    let advice = match error {
        WalletError::NotOffered { .. } => "leave this to the wallet's own tools, or use backend \"ldk\"",
        WalletError::Unavailable { .. } => "look at the daemon's log",
        _ => "nothing was changed",
    };
    AdminError::new(codes::WALLET, error.to_string(), advice)
}

#[cfg(test)]
mod tests {
    use super::super::wire::Request;
    use super::*;
    use crate::wallet::none::NoWallet;

    #[tokio::test]
    async fn a_wallet_that_is_no_lightning_node_tells_what_it_holds_and_refuses_the_rest_by_name() {
        let info = answer(&NoWallet, WalletParams::Info {}).await.unwrap();
        assert_eq!(info["backend"], "none");
        let balance = answer(&NoWallet, WalletParams::Balance {}).await.unwrap();
        assert_eq!(balance["owned_msat"], 0);
        let id = String::new();
        for params in [
            WalletParams::Address {},
            WalletParams::Channels {},
            WalletParams::CloseChannel { id, force: false },
        ] {
            let refused = answer(&NoWallet, params).await.unwrap_err();
            assert_eq!(refused.code, codes::WALLET);
            assert!(refused.message.contains("only backend \"ldk\""), "{refused}");
        }
    }

    #[test]
    fn what_is_asked_of_the_wallet_is_read_as_it_was_written_and_nothing_else_is() {
        let open = WalletParams::OpenChannel {
            node_id: "02".repeat(33),
            address: "127.0.0.1:9735".into(),
            sats: 5,
            push_msat: 0,
        };
        for params in [WalletParams::Balance {}, open] {
            let request = Request::Wallet(params);
            let line = serde_json::to_vec(&request).unwrap();
            assert_eq!(Request::parse(&line).unwrap(), request);
        }
        for wrong in [
            r#"{"method": "wallet"}"#,
            r#"{"method": "wallet", "params": {"action": "fly"}}"#,
            r#"{"method": "wallet", "params": {"action": "balance", "of": "you"}}"#,
            r#"{"method": "wallet", "params": {"action": "open_channel", "sats": -1}}"#,
        ] {
            assert_eq!(
                Request::parse(wrong.as_bytes()).unwrap_err().code,
                codes::BAD_REQUEST,
                "{wrong}"
            );
        }
    }
}
