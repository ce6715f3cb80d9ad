//! The dear checks, done before the core and beside it: signatures of control messages, invoices, the wallet.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::chain::ChainQuestion;
use mesh_core::check::{Checked, check};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Input, LinkId, Payment, Ticket, WalletAnswer, WalletQuestion};
use mesh_core::identity::{Ed25519Verifier, NodeId};
use mesh_core::limits::{MAX_CONTROL_BYTES, MAX_PAYMENT_CLTV_BLOCKS};
use mesh_core::verifier::{InvoiceFacts, Settlement, read_invoice};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::chain::{self, ChainSource};
use crate::handle::lock;
use crate::treasury::Treasury;
use crate::wallet::{
    InvoiceRequest, InvoiceStatus, OfferRequest, PayRequest, PaymentOutcome, PaymentStatus, Probe, Wallet,
    WalletError,
};

/// Control frames of one link that wait to be checked. A quote request over ten hops takes 0.3 ms, so this is the work
/// of a twelfth of a second; a relay that serves many payers at once stays below.
const LANE_FRAMES: usize = 256;

/// Bytes of them: with the 128 neighbours that a node has by default, 64 MiB at the very worst.
const LANE_BYTES: usize = 512 * 1024;

/// Checks control frames off the loop: those of one link in their order, the links by turns, so that a neighbour that
/// floods waits for itself and nobody else for it.
pub(crate) struct Checker {
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lanes: Mutex<Lanes>,
    filled: Notify,
}

/// What waits, by link. A lane is there only while something is in it.
#[derive(Default)]
struct Lanes {
    by_link: BTreeMap<LinkId, Lane>,
    served: Option<LinkId>,
}

#[derive(Default)]
struct Lane {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Lanes {
    fn push(&mut self, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        let lane = self.by_link.entry(link).or_default();
        let full = lane.frames.len() >= LANE_FRAMES || lane.bytes + frame.len() > LANE_BYTES;
        // The first always fits: no frame is longer than what a lane takes.
        if full {
            return Err(DropReason::RateLimited);
        }
        lane.bytes += frame.len();
        lane.frames.push_back(frame);
        Ok(())
    }

    /// The next frame of the link whose turn it is.
    fn pop(&mut self) -> Option<(LinkId, Bytes)> {
        let after = self.served.map_or(Bound::Unbounded, Bound::Excluded);
        let mut turn = self.by_link.range((after, Bound::Unbounded));
        let link = *turn.next().or_else(|| self.by_link.iter().next())?.0;
        self.served = Some(link);
        let lane = self.by_link.get_mut(&link)?;
        let frame = lane.frames.pop_front()?;
        lane.bytes -= frame.len();
        if lane.frames.is_empty() {
            self.by_link.remove(&link);
        }
        Some((link, frame))
    }
}

impl Checker {
    /// Starts the worker; what it finds comes out of `inputs`.
    pub(crate) fn start(me: NodeId, inputs: mpsc::Sender<Input>, tasks: &mut JoinSet<()>) -> Self {
        let waiting = Arc::new(Waiting::default());
        let queue = waiting.clone();
        tasks.spawn(async move {
            loop {
                let next = lock(&queue.lanes).pop();
                let Some((link, frame)) = next else {
                    queue.filled.notified().await;
                    continue;
                };
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
        Self { waiting }
    }

    /// Hands a frame over; refused when too many of this link wait.
    pub(crate) fn submit(&self, link: LinkId, frame: &Bytes) -> Result<(), DropReason> {
        if frame.len() > MAX_CONTROL_BYTES {
            return Err(DropReason::Oversize);
        }
        // A slice would keep the whole buffer that the link read it into.
        lock(&self.waiting.lanes).push(link, Bytes::copy_from_slice(frame))?;
        self.waiting.filled.notify_one();
        Ok(())
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
    treasury: Option<Treasury>,
    ticket: Ticket,
    question: WalletQuestion,
    inputs: mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(async move {
        let answer = match question {
            WalletQuestion::CreateInvoice {
                amount_msat,
                description,
                expiry,
            } => {
                let request = InvoiceRequest {
                    amount_msat,
                    description,
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
            WalletQuestion::Settlement { payment_hash } => {
                WalletAnswer::Settlement(settlement(wallet.invoice_status(payment_hash).await))
            }
            WalletQuestion::LookUp {
                payment_hash,
                just_begun,
            } => WalletAnswer::Paid(look_up(wallet.as_ref(), payment_hash, just_begun).await),
            WalletQuestion::TreasuryBill { amount_msat } => WalletAnswer::TreasuryBill(match treasury {
                Some(treasury) => treasury.bill(amount_msat).await,
                None => Err(DropReason::TreasuryUnreachable),
            }),
            WalletQuestion::PayOffer {
                offer,
                amount_msat,
                max_fee_msat,
                reference,
                timeout,
            } => {
                let request = OfferRequest {
                    offer,
                    amount_msat,
                    max_fee_msat,
                    reference,
                    timeout,
                };
                WalletAnswer::Paid(outcome(wallet.pay_offer(request).await))
            }
            WalletQuestion::Probe {
                invoice,
                max_fee_msat,
                timeout,
            } => WalletAnswer::Probed(probe(wallet.as_ref(), invoice, max_fee_msat, timeout).await),
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

/// Asks the chain source; the core's tables bound how many questions are open at once. Without one the core asks only
/// about what an earlier life honoured, and is told that nothing is known.
pub(crate) fn ask_chain(
    source: Option<Arc<dyn ChainSource>>,
    ticket: Ticket,
    question: ChainQuestion,
    inputs: mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(async move {
        let answer = match source {
            Some(source) => chain::answer(source.as_ref(), question).await,
            None => chain::unavailable(&question),
        };
        // A loop that is gone needs no answer: what is on the chain is found again there.
        let _ = inputs.send(Input::Chain { ticket, answer }).await;
    });
}

async fn check_proof(
    wallet: &dyn Wallet,
    invoice: &str,
    wait: Duration,
) -> Result<(InvoiceFacts, Settlement), DropReason> {
    let facts = read_invoice(invoice)?;
    let said = wallet.wait_settled(facts.payment_hash, wait).await;
    Ok((facts, settlement(said)))
}

fn settlement(said: Result<InvoiceStatus, WalletError>) -> Settlement {
    match said {
        Ok(InvoiceStatus::Settled { amount_msat }) => Settlement::Settled { amount_msat },
        Ok(InvoiceStatus::Unknown) => Settlement::Unknown,
        Ok(InvoiceStatus::Open) => Settlement::Open,
        Ok(InvoiceStatus::Expired | InvoiceStatus::Cancelled) => Settlement::Dead,
        Err(WalletError::NoWallet) => Settlement::Unknown,
        Err(error) => {
            tracing::warn!(%error, "the wallet could not say whether an invoice is settled; it counts as unsettled");
            Settlement::Open
        }
    }
}

/// What became of a payment. Only what the wallet is sure of counts as failed.
async fn look_up(
    wallet: &dyn Wallet,
    payment_hash: [u8; 32],
    just_begun: bool,
) -> Result<Payment, DropReason> {
    match wallet.payment_status(payment_hash).await {
        Ok(PaymentStatus::Succeeded(paid)) => Ok(Payment {
            preimage: paid.preimage,
            amount_msat: paid.amount_msat,
            fee_msat: paid.fee_msat,
        }),
        Ok(PaymentStatus::Unknown) if just_begun && wallet.may_book_later() => {
            Err(DropReason::PaymentUnknown)
        }
        Ok(PaymentStatus::Unknown | PaymentStatus::Failed(_)) => Err(DropReason::PaymentFailed),
        Ok(PaymentStatus::InFlight) => Err(DropReason::PaymentUnknown),
        Err(error) => {
            tracing::warn!(%error, "the wallet could not say what became of a payment; it will be asked again");
            Err(DropReason::PaymentUnknown)
        }
    }
}

/// A wallet that cannot probe, or cannot be asked now, keeps nobody from paying: the payment itself will tell.
async fn probe(
    wallet: &dyn Wallet,
    bolt11: String,
    max_fee_msat: u64,
    timeout: Duration,
) -> Result<(), DropReason> {
    let request = PayRequest {
        bolt11,
        max_fee_msat,
        max_cltv_blocks: MAX_PAYMENT_CLTV_BLOCKS,
        timeout,
    };
    match wallet.probe(&request).await {
        Ok(Probe::Reachable { .. } | Probe::NotOffered) => Ok(()),
        Err(error) if !error.nothing_moved() => {
            tracing::warn!(%error, "the wallet could not probe a payment; it is tried all the same");
            Ok(())
        }
        Err(error) => {
            tracing::info!(%error, "a payee cannot be paid, so nobody on this route is");
            Err(DropReason::PaymentFailed)
        }
    }
}

async fn pay(
    wallet: &dyn Wallet,
    bolt11: String,
    max_fee_msat: u64,
    timeout: Duration,
) -> Result<Payment, DropReason> {
    let request = PayRequest {
        bolt11,
        max_fee_msat,
        max_cltv_blocks: MAX_PAYMENT_CLTV_BLOCKS,
        timeout,
    };
    outcome(wallet.pay(request).await)
}

fn outcome(said: Result<PaymentOutcome, WalletError>) -> Result<Payment, DropReason> {
    match said {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::{Balance, CreatedInvoice, PaymentHash, WalletInfo};

    /// A wallet whose books know nothing of any payment.
    #[derive(Debug)]
    struct Blank {
        may_book_later: bool,
    }

    #[async_trait::async_trait]
    impl Wallet for Blank {
        async fn info(&self) -> Result<WalletInfo, WalletError> {
            Err(WalletError::NoWallet)
        }
        async fn create_invoice(&self, _: InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
            Err(WalletError::NoWallet)
        }
        async fn invoice_status(&self, _: PaymentHash) -> Result<InvoiceStatus, WalletError> {
            Err(WalletError::NoWallet)
        }
        async fn wait_settled(&self, _: PaymentHash, _: Duration) -> Result<InvoiceStatus, WalletError> {
            Err(WalletError::NoWallet)
        }
        async fn pay(&self, _: PayRequest) -> Result<PaymentOutcome, WalletError> {
            Err(WalletError::NoWallet)
        }
        async fn payment_status(&self, _: PaymentHash) -> Result<PaymentStatus, WalletError> {
            Ok(PaymentStatus::Unknown)
        }
        async fn probe(&self, _: &PayRequest) -> Result<Probe, WalletError> {
            Err(WalletError::NoWallet)
        }
        async fn balance(&self) -> Result<Balance, WalletError> {
            Err(WalletError::NoWallet)
        }
        fn may_book_later(&self) -> bool {
            self.may_book_later
        }
    }

    #[tokio::test]
    async fn a_payment_begun_just_before_a_kill_is_not_taken_for_failed_while_its_request_may_still_arrive() {
        let found = async |may_book_later, just_begun| {
            let wallet = Blank { may_book_later };
            look_up(&wallet, [1; 32], just_begun).await.map(|_| ())
        };
        assert_eq!(found(true, true).await, Err(DropReason::PaymentUnknown));
        assert_eq!(found(true, false).await, Err(DropReason::PaymentFailed));
        assert_eq!(found(false, true).await, Err(DropReason::PaymentFailed));
    }

    fn frame(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 10])
    }

    #[test]
    fn flooder_waits_for_itself_and_the_others_take_their_turns() {
        let mut lanes = Lanes::default();
        let (flooder, quiet, late) = (LinkId(5), LinkId(7), LinkId(2));
        let taken = (0..1000)
            .filter(|_| lanes.push(flooder, frame(0)).is_ok())
            .count();
        assert_eq!(taken, LANE_FRAMES);
        for byte in 1..=2 {
            lanes.push(quiet, frame(byte)).unwrap();
            lanes.push(late, frame(byte)).unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(order.len(), LANE_FRAMES + 4);
        let of = |link| order.iter().filter(move |(from, _)| *from == link);
        assert!(of(quiet).map(|(_, frame)| frame[0]).eq([1, 2]), "in order");
        let last_of_others = order.iter().rposition(|(link, _)| *link != flooder).unwrap();
        assert!(last_of_others < 6, "{last_of_others}");
        assert!(lanes.by_link.is_empty());
    }

    #[test]
    fn lane_holds_no_more_bytes_than_it_says_and_takes_the_longest_message() {
        let mut lanes = Lanes::default();
        let longest = Bytes::from(vec![0; MAX_CONTROL_BYTES]);
        let taken = (0..100).filter(|_| lanes.push(LinkId(1), longest.clone()).is_ok());
        assert_eq!(taken.count(), LANE_BYTES / MAX_CONTROL_BYTES);
    }
}
