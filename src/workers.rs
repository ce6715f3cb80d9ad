//! The dear checks, done before the core and beside it: signatures of control messages, invoices, the wallet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::check::{Checked, check};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Input, LinkId, Payment, Ticket, WalletAnswer, WalletQuestion};
use mesh_core::identity::{Ed25519Verifier, NodeId};
use mesh_core::verifier::{InvoiceFacts, Settlement, read_invoice};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::wallet::{InvoiceRequest, InvoiceStatus, PayRequest, Wallet, WalletError};

/// Control frames that wait to be checked, all links together. A quote request over ten hops takes 0.3 ms, so this is
/// the work of a third of a second.
const CHECK_QUEUE: usize = 1024;

/// Checks control frames in order, off the loop.
pub(crate) struct Checker {
    frames: mpsc::Sender<(LinkId, Bytes)>,
}

impl Checker {
    /// Starts the worker; what it finds comes out of `inputs`.
    pub(crate) fn start(me: NodeId, inputs: mpsc::Sender<Input>, tasks: &mut JoinSet<()>) -> Self {
        let (frames, mut queue) = mpsc::channel::<(LinkId, Bytes)>(CHECK_QUEUE);
        tasks.spawn(async move {
            while let Some((link, frame)) = queue.recv().await {
                let input = match check(&frame, &me, &Ed25519Verifier) {
                    Ok(message) => checked(link, message),
                    Err(reason) => Input::Rejected { link, reason },
                };
                if inputs.send(input).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        Self { frames }
    }

    /// Hands a frame over; refused when too many wait.
    pub(crate) fn submit(&self, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        self.frames
            .try_send((link, frame))
            .map_err(|_| DropReason::RateLimited)
    }
}

fn checked(link: LinkId, message: Checked) -> Input {
    Input::Message {
        link,
        message: Box::new(message),
    }
}

/// Asks the wallet; the core's tables bound how many questions are open at once.
pub(crate) fn ask_wallet(
    wallet: Arc<dyn Wallet>,
    ticket: Ticket,
    question: WalletQuestion,
    inputs: mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(async move {
        let answer = match question {
            WalletQuestion::CreateInvoice {
                amount_msat,
                description_hash,
                expiry,
            } => {
                let request = InvoiceRequest {
                    amount_msat,
                    description_hash,
                    expiry,
                };
                let created = wallet.create_invoice(request).await;
                WalletAnswer::Invoice(match created {
                    Ok(invoice) => Ok((invoice.bolt11, invoice.payment_hash)),
                    Err(error) => {
                        tracing::warn!(%error, "the wallet made no invoice");
                        Err(DropReason::PaymentsUnavailable)
                    }
                })
            }
            WalletQuestion::CheckProof { invoice, wait } => {
                WalletAnswer::Proof(check_proof(wallet.as_ref(), &invoice, wait).await)
            }
            WalletQuestion::Pay {
                invoice,
                max_fee_msat,
                timeout,
            } => WalletAnswer::Paid(pay(wallet.as_ref(), invoice, max_fee_msat, timeout).await),
        };
        // A loop that is gone needs no answer: what the wallet did is found again by its payment hash.
        let _ = inputs.send(Input::Wallet { ticket, answer }).await;
    });
}

async fn check_proof(
    wallet: &dyn Wallet,
    invoice: &str,
    wait: Duration,
) -> Result<(InvoiceFacts, Settlement), DropReason> {
    let facts = read_invoice(invoice)?;
    let settlement = match wallet.wait_settled(facts.payment_hash, wait).await {
        Ok(InvoiceStatus::Settled { amount_msat }) => Settlement::Settled { amount_msat },
        Ok(InvoiceStatus::Unknown) => Settlement::Unknown,
        Ok(InvoiceStatus::Open) => Settlement::Open,
        Ok(InvoiceStatus::Expired | InvoiceStatus::Cancelled) => Settlement::Dead,
        Err(WalletError::NoWallet) => Settlement::Unknown,
        Err(error) => {
            tracing::warn!(%error, "the wallet could not say whether an invoice is settled; it counts as unsettled");
            Settlement::Open
        }
    };
    Ok((facts, settlement))
}

async fn pay(
    wallet: &dyn Wallet,
    bolt11: String,
    max_fee_msat: u64,
    timeout: Duration,
) -> Result<Payment, DropReason> {
    match wallet
        .pay(PayRequest {
            bolt11,
            max_fee_msat,
            timeout,
        })
        .await
    {
        Ok(paid) => Ok(Payment {
            preimage: paid.preimage,
            amount_msat: paid.amount_msat,
            fee_msat: paid.fee_msat,
        }),
        Err(error) => {
            tracing::warn!(%error, "a payment did not go through");
            let known = error.nothing_moved();
            Err(if known {
                DropReason::PaymentFailed
            } else {
                DropReason::PaymentUnknown
            })
        }
    }
}
