//! The treasury's side of the hands: whither its part goes, and how a Lightning address becomes an invoice.
//!
//! When and how much is paid is decided in the core, and the wallet pays; here is only found out what is to be paid.

use std::fmt;
use std::sync::Arc;

use lightning::offers::offer::Offer;
use mesh_core::drop_reason::DropReason;
use mesh_core::treasury::{TreasuryBill, TreasuryPolicy};
use mesh_core::verifier::read_invoice;

use crate::http::{HttpClient, HttpError, PlainHttp, Trust};
use crate::lnurl::{LnurlError, check_address, invoice_for};

/// Longest offer that is taken, in bytes: long enough for one with several blinded paths.
const MAX_OFFER_BYTES: usize = 4096;

/// `[treasury]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreasuryConfig {
    /// Whither it is paid.
    pub destination: TreasuryDestination,
    /// From what is owed on it is paid by itself, in msat; 0 never.
    pub threshold_msat: u64,
    /// The most that Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
}

impl TreasuryConfig {
    /// What the core has to know of it.
    pub fn policy(&self) -> TreasuryPolicy {
        TreasuryPolicy {
            threshold_msat: self.threshold_msat,
            max_fee_msat: self.max_fee_msat,
        }
    }
}

/// Whither the treasury is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreasuryDestination {
    /// A Lightning address, `name@host`.
    Address(String),
    /// A BOLT12 offer.
    Offer(String),
}

impl TreasuryDestination {
    /// Takes a Lightning address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn address(text: &str) -> Result<Self, LnurlError> {
        check_address(text)?;
        Ok(Self::Address(text.to_owned()))
    }

    /// Takes an offer.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn offer(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_OFFER_BYTES || text.parse::<Offer>().is_err() {
            return Err("a BOLT12 offer, lno1…");
        }
        Ok(Self::Offer(text.to_owned()))
    }
}

impl fmt::Display for TreasuryDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) | Self::Offer(text) => f.write_str(text),
        }
    }
}

/// Finds out what is to be paid. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Treasury {
    destination: Arc<TreasuryDestination>,
    http: HttpClient,
}

impl Treasury {
    /// # Errors
    /// [`HttpError::Setup`].
    pub(crate) fn new(config: &TreasuryConfig) -> Result<Self, HttpError> {
        Ok(Self {
            destination: Arc::new(config.destination.clone()),
            http: HttpClient::new(&Trust::System, PlainHttp::LoopbackOnly)?,
        })
    }

    /// What has to be paid for `amount_msat` to arrive; asks the address's server, and takes no longer than
    /// [`invoice_for`] does.
    pub(crate) async fn bill(&self, amount_msat: u64) -> Result<TreasuryBill, DropReason> {
        let address = match self.destination.as_ref() {
            TreasuryDestination::Offer(offer) => return Ok(TreasuryBill::Offer(offer.clone())),
            TreasuryDestination::Address(address) => address,
        };
        match invoice_for(address, amount_msat, &self.http).await {
            Ok(invoice) => {
                let facts = read_invoice(&invoice)?;
                Ok(TreasuryBill::Invoice { invoice, facts })
            }
            Err(error) => {
                tracing::warn!(%error, address, amount_msat, "the treasury's address gives no invoice; its part stays owed");
                Err(DropReason::TreasuryUnreachable)
            }
        }
    }
}
