//! LND's answers, as far as they are read. It writes 64-bit numbers as texts (the JSON form of protocol buffers), and
//! leaves out nothing that is read here.

use serde::{Deserialize, Deserializer};

use crate::wallet::{LightningNetwork, WalletError};

const MSAT_PER_SAT: u64 = 1_000;

/// `GET /v1/getinfo`.
#[derive(Debug, Deserialize)]
pub(super) struct GetInfo {
    identity_pubkey: String,
    chains: Vec<Chain>,
}

#[derive(Debug, Deserialize)]
struct Chain {
    network: String,
}

impl GetInfo {
    /// `None` for a network that no wallet here can be on.
    pub(super) fn network(&self) -> Option<LightningNetwork> {
        match self.chains.first()?.network.as_str() {
            "mainnet" => Some(LightningNetwork::Bitcoin),
            "testnet" | "testnet4" => Some(LightningNetwork::Testnet),
            "signet" => Some(LightningNetwork::Signet),
            "regtest" => Some(LightningNetwork::Regtest),
            _ => None,
        }
    }

    /// The node's key, which signs its invoices.
    pub(super) fn key(&self) -> Result<[u8; 33], WalletError> {
        let mut key = [0; 33];
        hex::decode_to_slice(&self.identity_pubkey, &mut key)
            .map(|()| key)
            .map_err(|_| WalletError::Unavailable {
                reason: "LND tells a key that is none".to_owned(),
            })
    }
}

/// `POST /v1/invoices`.
#[derive(Debug, Deserialize)]
pub(super) struct MadeInvoice {
    pub(super) payment_request: String,
}

/// `GET /v1/invoice/{hash}`.
#[derive(Debug, Deserialize)]
pub(super) struct Invoice {
    pub(super) state: State,
    #[serde(deserialize_with = "number")]
    pub(super) amt_paid_msat: u64,
    #[serde(deserialize_with = "number")]
    creation_date: u64,
    #[serde(deserialize_with = "number")]
    expiry: u64,
}

impl Invoice {
    /// The unix time, in seconds, after which it cannot be paid.
    pub(super) fn expires(&self) -> u64 {
        self.creation_date.saturating_add(self.expiry)
    }
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum State {
    Open,
    Settled,
    Canceled,
    Accepted,
}

/// One news of a payment (`lnrpcPayment`).
#[derive(Debug, Deserialize)]
pub(super) struct Payment {
    pub(super) status: Status,
    pub(super) payment_preimage: String,
    #[serde(deserialize_with = "number")]
    pub(super) value_msat: u64,
    #[serde(deserialize_with = "number")]
    pub(super) fee_msat: u64,
    pub(super) failure_reason: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Status {
    #[serde(rename = "SUCCEEDED")]
    Succeeded,
    #[serde(rename = "FAILED")]
    Failed,
    /// `UNKNOWN`, `INITIATED`, `IN_FLIGHT`, and whatever later versions call it.
    #[serde(other)]
    UnderWay,
}

/// One line of an answer that comes line by line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Streamed {
    Result(Box<Payment>),
    Error(Complaint),
}

/// An error (`rpcStatus`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Complaint {
    pub(super) code: u32,
    pub(super) message: String,
}

/// `GET /v1/graph/routes/…`.
#[derive(Debug, Deserialize)]
pub(super) struct Routes {
    pub(super) routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Route {
    #[serde(deserialize_with = "number")]
    pub(super) total_fees_msat: u64,
}

/// `GET /v1/balance/channels`.
#[derive(Debug, Deserialize)]
pub(super) struct ChannelBalance {
    pub(super) local_balance: Amount,
    /// What we have offered to others in HTLCs.
    pub(super) unsettled_local_balance: Amount,
}

#[derive(Debug, Deserialize)]
pub(super) struct Amount {
    #[serde(deserialize_with = "number")]
    pub(super) msat: u64,
}

/// `GET /v1/channels`.
#[derive(Debug, Deserialize)]
pub(super) struct Channels {
    channels: Vec<Channel>,
}

#[derive(Debug, Deserialize)]
struct Channel {
    active: bool,
    #[serde(deserialize_with = "number")]
    local_balance: u64,
    #[serde(deserialize_with = "number")]
    remote_balance: u64,
    local_constraints: Constraints,
    remote_constraints: Constraints,
}

#[derive(Debug, Deserialize)]
struct Constraints {
    #[serde(deserialize_with = "number")]
    chan_reserve_sat: u64,
}

impl Channels {
    /// What the active channels can send, in msat: all but what each side must keep.
    pub(super) fn spendable_msat(&self) -> u64 {
        self.sum(|channel| (channel.local_balance, channel.local_constraints.chan_reserve_sat))
    }

    /// What they can receive, in msat.
    pub(super) fn receivable_msat(&self) -> u64 {
        self.sum(|channel| {
            (
                channel.remote_balance,
                channel.remote_constraints.chan_reserve_sat,
            )
        })
    }

    fn sum(&self, side: impl Fn(&Channel) -> (u64, u64)) -> u64 {
        let active = self.channels.iter().filter(|channel| channel.active);
        let above_reserve = active
            .map(side)
            .map(|(balance, reserve)| balance.saturating_sub(reserve));
        above_reserve
            .fold(0, u64::saturating_add)
            .saturating_mul(MSAT_PER_SAT)
    }
}

/// A number of 64 bits, as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
