//! Paying BOLT 12 offers, once for each reference.
//!
//! The node names such a payment at random, so which payment a reference stands for is written down: before the payment
//! is handed over that there will be one, afterwards its name. Should a kill come between, the reference is found again
//! in the note that goes with the payment; should it not be there either, nobody knows whether the payment began, and
//! the reference is never paid again.

use ldk_node::NodeError;
use ldk_node::bitcoin::Network;
use ldk_node::bitcoin::constants::ChainHash;
use ldk_node::lightning::offers::offer::Offer;
use ldk_node::payment::PaymentKind;
use mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS;
use tokio::time::Instant;

use super::book::OfferPayment;
use super::payments::{limits, outcome, wait_for_funds};
use super::{Inner, LdkWallet, MAX_WAIT, lock, unavailable};
use crate::wallet::{LightningNetwork, OfferRequest, PaymentOutcome, PaymentStatus, WalletError};

/// The longest offer that is looked at, in bytes; a usual one has 200 to 400.
const MAX_OFFER_LENGTH: usize = 4096;

pub(super) async fn pay(wallet: &LdkWallet, request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
    let deadline = Instant::now() + request.timeout.min(MAX_WAIT);
    let inner = &wallet.inner;
    let reference = request.reference;
    match inner.offer_status(&reference)? {
        PaymentStatus::Succeeded(outcome) => return Ok(outcome),
        PaymentStatus::InFlight => {}
        PaymentStatus::Unknown | PaymentStatus::Failed(_) => {
            let offer = parse(&request.offer, inner.network)?;
            wait_for_funds(inner, request.amount_msat, deadline).await?;
            wallet
                .blocking(move |inner| inner.hand_over_offer(&offer, &request))
                .await?;
        }
    }
    let look = || inner.offer_status(&reference);
    let in_flight = |status: &PaymentStatus| *status == PaymentStatus::InFlight;
    let left = deadline.saturating_duration_since(Instant::now());
    // Its payment hash is the payee's to choose and may not be known yet: the reference looks it up.
    outcome(inner.wait_while(look, in_flight, left).await?, reference)
}

fn parse(text: &str, network: LightningNetwork) -> Result<Offer, WalletError> {
    let invalid = |reason: String| WalletError::InvoiceInvalid { reason };
    if text.len() > MAX_OFFER_LENGTH {
        return Err(invalid(format!(
            "the offer is longer than {MAX_OFFER_LENGTH} bytes"
        )));
    }
    let offer: Offer = text
        .parse()
        .map_err(|error| invalid(format!("it is no BOLT 12 offer ({error:?})")))?;
    let chain = ChainHash::using_genesis_block(match network {
        LightningNetwork::Bitcoin => Network::Bitcoin,
        LightningNetwork::Testnet => Network::Testnet,
        LightningNetwork::Signet => Network::Signet,
        LightningNetwork::Regtest => Network::Regtest,
    });
    if !offer.supports_chain(chain) {
        return Err(WalletError::WrongNetwork { wallet: network });
    }
    if offer.is_expired() {
        return Err(WalletError::InvoiceExpired);
    }
    Ok(offer)
}

impl Inner {
    pub(super) fn offer_status(&self, reference: &[u8; 32]) -> Result<PaymentStatus, WalletError> {
        let Some(payment) = self.book.offer(reference)? else {
            return Ok(PaymentStatus::Unknown);
        };
        let record = match payment.payment_id {
            Some(id) => self.record(&id),
            None => self.noted(reference),
        };
        Ok(match record {
            Some(record) => self.status_of(&record),
            None => PaymentStatus::InFlight,
        })
    }

    /// The payment that carries this reference in its note.
    fn noted(&self, reference: &[u8; 32]) -> Option<ldk_node::payment::PaymentDetails> {
        let wanted = hex::encode(reference);
        let carries = |kind: &PaymentKind| matches!(kind, PaymentKind::Bolt12Offer { payer_note: Some(note), .. } if note.0 == wanted);
        self.node
            .list_payments_with_filter(|record| carries(&record.kind))
            .pop()
    }

    /// Hands the payment to the node, unless it is at it already. Blocks for the disk.
    fn hand_over_offer(&self, offer: &Offer, request: &OfferRequest) -> Result<(), WalletError> {
        let _turn = lock(&self.sending);
        let reference = request.reference;
        let status = self.offer_status(&reference)?;
        if matches!(status, PaymentStatus::InFlight | PaymentStatus::Succeeded(_)) {
            return Ok(());
        }
        let mut payment = OfferPayment {
            amount_msat: request.amount_msat,
            payment_id: None,
        };
        self.book.note_offer(&reference, &payment)?;
        let sent = self.node.bolt12_payment().send_using_amount(
            offer,
            request.amount_msat,
            None,
            Some(hex::encode(reference)),
            Some(limits(request.max_fee_msat, MAX_PAYMENT_CLTV_BLOCKS)),
        );
        match sent {
            Ok(id) => {
                payment.payment_id = Some(id.0);
                self.book.note_offer(&reference, &payment)
            }
            Err(NodeError::PersistenceFailed) => Err(WalletError::OutcomeUnknown {
                payment_hash: reference,
            }),
            Err(error) => {
                self.book.forget_offer(&reference)?;
                Err(match error {
                    NodeError::InvalidAmount => WalletError::InvoiceInvalid {
                        reason: "the offer asks for more than is to be paid".to_owned(),
                    },
                    NodeError::UnsupportedCurrency => WalletError::InvoiceInvalid {
                        reason: "the offer names its price in another currency than bitcoin".to_owned(),
                    },
                    NodeError::PaymentSendingFailed => WalletError::Failed {
                        reason: "the payee of the offer cannot be reached over the Lightning network"
                            .to_owned(),
                    },
                    other => unavailable(other),
                })
            }
        }
    }
}
