//! Coins on-chain and channels, for the operator.

use std::net::SocketAddr;
use std::str::FromStr;

use async_trait::async_trait;
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::{ChannelDetails, LightningBalance, NodeError, PendingSweepBalance, UserChannelId};

use super::balance::{owned_msat, sat_to_msat, totals};
use super::{Inner, LdkWallet, unavailable};
use crate::wallet::WalletError;
use crate::wallet::lightning_node::{Channel, LightningNode, OnChainBalance, OpenChannel, PaymentTotals};

#[async_trait]
impl LightningNode for LdkWallet {
    fn listen_addr(&self) -> Option<SocketAddr> {
        self.inner.listen_addr
    }

    async fn new_address(&self) -> Result<String, WalletError> {
        self.blocking(|inner| {
            let address = inner.node.onchain_payment().new_address();
            address.map(|address| address.to_string()).map_err(unavailable)
        })
        .await
    }

    async fn on_chain(&self) -> Result<OnChainBalance, WalletError> {
        self.blocking(|inner| Ok(inner.on_chain())).await
    }

    async fn payments(&self) -> Result<PaymentTotals, WalletError> {
        self.blocking(totals).await
    }

    async fn channels(&self) -> Result<Vec<Channel>, WalletError> {
        self.blocking(|inner| Ok(inner.node.list_channels().iter().map(channel).collect()))
            .await
    }

    async fn open_channel(&self, request: OpenChannel) -> Result<String, WalletError> {
        self.blocking(move |inner| inner.open_channel(&request)).await
    }

    async fn close_channel(&self, id: &str, force: bool) -> Result<(), WalletError> {
        let id = parse_id(id)?;
        self.blocking(move |inner| inner.close_channel(id, force)).await
    }

    async fn stop(&self) {
        let stopped = self
            .blocking(|inner| inner.node.stop().map_err(unavailable))
            .await;
        if let Err(error) = stopped {
            tracing::warn!(%error, "the Lightning node was stopped already");
        }
        self.threads.end();
    }
}

impl Inner {
    fn on_chain(&self) -> OnChainBalance {
        let balances = self.node.list_balances();
        let closing = balances.lightning_balances.iter().map(|balance| match balance {
            LightningBalance::ClaimableAwaitingConfirmations { amount_satoshis, .. } => *amount_satoshis,
            _ => 0,
        });
        let swept = balances
            .pending_balances_from_channel_closures
            .iter()
            .map(|balance| match balance {
                PendingSweepBalance::PendingBroadcast { amount_satoshis, .. }
                | PendingSweepBalance::BroadcastAwaitingConfirmation { amount_satoshis, .. } => {
                    *amount_satoshis
                }
                // Counted with the coins once it is confirmed.
                PendingSweepBalance::AwaitingThresholdConfirmations { .. } => 0,
            });
        OnChainBalance {
            total_sats: balances.total_onchain_balance_sats,
            spendable_sats: balances.spendable_onchain_balance_sats,
            reserve_sats: balances.total_anchor_channels_reserve_sats,
            closing_sats: closing.chain(swept).fold(0, u64::saturating_add),
        }
    }

    /// A public channel if this node may be known to the network, so that others find routes over it.
    fn open_channel(&self, request: &OpenChannel) -> Result<String, WalletError> {
        let peer = PublicKey::from_slice(&request.node_id).map_err(|_| WalletError::InvalidRequest {
            reason: "a channel to a node whose id is no public key",
        })?;
        let address = SocketAddress::from_str(&request.address).map_err(|_| WalletError::InvalidRequest {
            reason: "a channel to a node whose address is not host:port",
        })?;
        let public = self.node.node_alias().is_some() && self.listen_addr.is_some();
        let push = (request.push_msat > 0).then_some(request.push_msat);
        let opened = if public {
            self.node
                .open_announced_channel(peer, address, request.sats, push, None)
        } else {
            self.node.open_channel(peer, address, request.sats, push, None)
        };
        match opened {
            Ok(id) => Ok(show_id(id)),
            Err(NodeError::InsufficientFunds) => {
                let on_chain = self.on_chain();
                Err(WalletError::Failed {
                    reason: format!(
                        "the channel takes {} sat and its reserve, and {} sat are spendable on-chain: fund the wallet \
                         (`blvm-mesh wallet address`) and wait for a confirmation",
                        request.sats, on_chain.spendable_sats
                    ),
                })
            }
            Err(NodeError::ConnectionFailed) => Err(WalletError::Failed {
                reason: format!("no Lightning node {peer} answers at {}", request.address),
            }),
            Err(NodeError::ChannelCreationFailed) => Err(WalletError::Failed {
                reason:
                    "the channel cannot be opened: its size or the amount pushed is out of the node's range"
                        .to_owned(),
            }),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn close_channel(&self, id: UserChannelId, force: bool) -> Result<(), WalletError> {
        let channels = self.node.list_channels();
        let Some(channel) = channels.iter().find(|channel| channel.user_channel_id == id) else {
            return Err(WalletError::InvalidRequest {
                reason: "to close a channel that there is not",
            });
        };
        let peer = channel.counterparty_node_id;
        let closed = if force {
            self.node.force_close_channel(&id, peer, None)
        } else {
            self.node.close_channel(&id, peer)
        };
        closed.map_err(|error| match error {
            NodeError::ChannelClosingFailed => WalletError::Failed {
                reason: "the channel cannot be closed by agreement now; try again when the other node is connected, \
                         or force it"
                    .to_owned(),
            },
            other => unavailable(other),
        })
    }
}

fn channel(details: &ChannelDetails) -> Channel {
    Channel {
        id: show_id(details.user_channel_id),
        peer: details.counterparty_node_id.serialize(),
        funding: details.funding_txo.map(|funding| funding.to_string()),
        value_sats: details.channel_value_sats,
        owned_msat: owned_msat(details).min(sat_to_msat(details.channel_value_sats)),
        spendable_msat: details.outbound_capacity_msat,
        receivable_msat: details.inbound_capacity_msat,
        ready: details.is_channel_ready,
        usable: details.is_usable,
        announced: details.is_announced,
    }
}

/// 32 hexadecimal digits, which no shell takes apart.
fn show_id(id: UserChannelId) -> String {
    hex::encode(id.0.to_be_bytes())
}

fn parse_id(text: &str) -> Result<UserChannelId, WalletError> {
    let mut bytes = [0; 16];
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(UserChannelId(u128::from_be_bytes(bytes))),
        Err(_) => Err(WalletError::InvalidRequest {
            reason: "a channel whose id is not 32 hexadecimal digits",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_that_is_shown_is_the_id_that_is_understood() {
        let id = UserChannelId(0x0123_4567_89ab_cdef_0000_0000_0000_00ff);
        let shown = show_id(id);
        assert_eq!(shown.len(), 32);
        assert_eq!(parse_id(&shown), Ok(id));
        for wrong in ["", "0", &shown[1..], "zz"] {
            assert!(matches!(parse_id(wrong), Err(WalletError::InvalidRequest { .. })));
        }
    }
}
