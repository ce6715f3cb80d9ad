//! Core Lightning's answers, as far as they are read. Amounts are plain numbers of msat (since 23.08).

use serde::Deserialize;

use crate::wallet::{Balance, LightningNetwork, PaymentHash, PaymentOutcome, WalletError};

/// `getinfo`.
#[derive(Debug, Deserialize)]
pub(super) struct GetInfo {
    id: String,
    network: String,
}

impl GetInfo {
    /// `None` for a network that no wallet here can be on.
    pub(super) fn network(&self) -> Option<LightningNetwork> {
        match self.network.as_str() {
            "bitcoin" => Some(LightningNetwork::Bitcoin),
            "testnet" | "testnet4" => Some(LightningNetwork::Testnet),
            "signet" => Some(LightningNetwork::Signet),
            "regtest" => Some(LightningNetwork::Regtest),
            _ => None,
        }
    }

    /// The node's key, which signs its invoices.
    pub(super) fn key(&self) -> Result<[u8; 33], WalletError> {
        let mut key = [0; 33];
        hex::decode_to_slice(&self.id, &mut key)
            .map(|()| key)
            .map_err(|_| WalletError::Unavailable {
                reason: "Core Lightning tells a key that is none".to_owned(),
            })
    }
}

/// An error of a method.
#[derive(Debug, Deserialize)]
pub(super) struct Complaint {
    /// An error without a code is not the node's but of somebody in between, and says nothing of what the node does.
    pub(super) code: i64,
    pub(super) message: String,
}

/// `invoice`.
#[derive(Debug, Deserialize)]
pub(super) struct MadeInvoice {
    pub(super) bolt11: String,
}

/// `listinvoices`.
#[derive(Debug, Deserialize)]
pub(super) struct Invoices {
    pub(super) invoices: Vec<Invoice>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Invoice {
    pub(super) status: String,
    /// Of paid ones.
    pub(super) amount_received_msat: Option<u64>,
}

/// `xpay`.
#[derive(Debug, Deserialize)]
pub(super) struct Paid {
    payment_preimage: String,
    amount_msat: u64,
    amount_sent_msat: u64,
}

impl Paid {
    pub(super) fn outcome(&self, payment_hash: PaymentHash) -> Result<PaymentOutcome, WalletError> {
        outcome(
            &self.payment_preimage,
            self.amount_msat,
            self.amount_sent_msat,
            payment_hash,
        )
    }
}

/// `listpays`.
#[derive(Debug, Deserialize)]
pub(super) struct Pays {
    pub(super) pays: Vec<Pay>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pay {
    pub(super) status: State,
    /// These three of complete ones.
    preimage: Option<String>,
    amount_msat: Option<u64>,
    amount_sent_msat: Option<u64>,
}

impl Pay {
    /// What a complete payment came to.
    pub(super) fn outcome(&self, payment_hash: PaymentHash) -> Result<PaymentOutcome, WalletError> {
        let sent_msat = self.amount_sent_msat.unwrap_or(0);
        let arrived_msat = self.amount_msat.unwrap_or(sent_msat);
        let preimage = self.preimage.as_deref().unwrap_or_default();
        outcome(preimage, arrived_msat, sent_msat, payment_hash)
    }
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Complete,
    Failed,
    /// `pending`, and whatever later versions call it.
    #[serde(other)]
    UnderWay,
}

fn outcome(
    preimage_hex: &str,
    arrived_msat: u64,
    sent_msat: u64,
    payment_hash: PaymentHash,
) -> Result<PaymentOutcome, WalletError> {
    let mut preimage = [0; 32];
    hex::decode_to_slice(preimage_hex, &mut preimage)
        .map_err(|_| WalletError::OutcomeUnknown { payment_hash })?;
    Ok(PaymentOutcome {
        preimage,
        amount_msat: arrived_msat,
        fee_msat: sent_msat.saturating_sub(arrived_msat),
    })
}

/// `getroutes`.
#[derive(Debug, Deserialize)]
pub(super) struct Routes {
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Route {
    amount_msat: u64,
    path: Vec<Hop>,
}

#[derive(Debug, Deserialize)]
struct Hop {
    /// What is sent into the hop; called `amount_msat` before 26.06, and for a year both.
    amount_in_msat: Option<u64>,
    amount_msat: Option<u64>,
}

impl Routes {
    /// What all parts cost together, in msat.
    pub(super) fn fee_msat(&self) -> u64 {
        let fee = |route: &Route| {
            let first = route.path.first();
            let sent = first.and_then(|hop| hop.amount_in_msat.or(hop.amount_msat));
            sent.unwrap_or(route.amount_msat)
                .saturating_sub(route.amount_msat)
        };
        self.routes.iter().map(fee).fold(0, u64::saturating_add)
    }
}

/// `listpeerchannels`.
#[derive(Debug, Deserialize)]
pub(super) struct Channels {
    channels: Vec<Channel>,
}

#[derive(Debug, Deserialize)]
struct Channel {
    state: String,
    peer_connected: bool,
    /// Ours, with what we have offered to others and not paid yet.
    #[serde(default)]
    to_us_msat: u64,
    #[serde(default)]
    spendable_msat: u64,
    #[serde(default)]
    receivable_msat: u64,
    #[serde(default)]
    htlcs: Vec<Htlc>,
}

#[derive(Debug, Deserialize)]
struct Htlc {
    direction: String,
    amount_msat: u64,
}

impl Channel {
    fn is_open(&self) -> bool {
        ["CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE"].contains(&self.state.as_str())
    }

    fn outgoing_msat(&self) -> u64 {
        let out = self.htlcs.iter().filter(|htlc| htlc.direction == "out");
        out.map(|htlc| htlc.amount_msat).fold(0, u64::saturating_add)
    }
}

impl Channels {
    /// What can be sent now.
    pub(super) fn spendable_msat(&self) -> u64 {
        self.sum(|channel| {
            if channel.peer_connected {
                channel.spendable_msat
            } else {
                0
            }
        })
    }

    pub(super) fn balance(&self) -> Balance {
        let outgoing_msat = self.sum(Channel::outgoing_msat);
        let receivable = |channel: &Channel| {
            if channel.peer_connected {
                channel.receivable_msat
            } else {
                0
            }
        };
        Balance {
            owned_msat: self
                .sum(|channel| channel.to_us_msat)
                .saturating_sub(outgoing_msat),
            spendable_msat: self.spendable_msat(),
            receivable_msat: Some(self.sum(receivable)),
            outgoing_msat,
        }
    }

    fn sum(&self, amount: impl Fn(&Channel) -> u64) -> u64 {
        let open = self.channels.iter().filter(|channel| channel.is_open());
        open.map(amount).fold(0, u64::saturating_add)
    }
}

/// `fetchinvoice`.
#[derive(Debug, Deserialize)]
pub(super) struct Fetched {
    pub(super) invoice: String,
}

/// `decode`, of a BOLT 12 invoice.
#[derive(Debug, Deserialize)]
pub(super) struct Decoded {
    pub(super) valid: bool,
    pub(super) invoice_amount_msat: u64,
    pub(super) invoice_payment_hash: String,
    pub(super) invoice_created_at: u64,
    /// In seconds; 7,200 where the invoice names none (BOLT 12).
    #[serde(default = "two_hours")]
    pub(super) invoice_relative_expiry: u64,
}

const fn two_hours() -> u64 {
    7_200
}

/// `listdatastore`.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) datastore: Vec<Record>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Record {
    pub(super) string: Option<String>,
    pub(super) generation: Option<u64>,
}
