//! The wallet's contract, kept by two Lightning nodes on a real chain. Skipped, saying so, without a BITCOIND_EXE.

#[path = "../../../tests/common/bitcoind.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod bitcoind;

use std::net::{SocketAddr, TcpListener};

use bitcoind::{Bitcoind, USER};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::book::Begun;
use super::*;
use crate::wallet::lightning_node::OpenChannel;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const CHANNEL_SATS: u64 = 1_000_000;

/// A wallet and the place where it can be started again.
struct Place {
    config: LdkConfig,
    data_dir: DataDir,
    _folder: TempDir,
}

impl Place {
    fn new(bitcoind: &Bitcoind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            config: LdkConfig {
                listen_addr: Some(listener.local_addr().unwrap()),
                alias: Some("mesh".into()),
                anchor_reserve_sats: 1_000,
                chain: LdkChain::Bitcoind {
                    host: "127.0.0.1".into(),
                    port: bitcoind.rpc_port,
                    auth: RpcAuth::Password {
                        user: USER.into(),
                        password: USER.into(),
                    },
                },
            },
            data_dir: DataDir::open(&folder.path().join("mesh")).unwrap(),
            _folder: folder,
        }
    }

    async fn start(&self) -> Arc<LdkWallet> {
        LdkWallet::start(&self.config, LightningNetwork::Regtest, &self.data_dir)
            .await
            .unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.config.listen_addr.unwrap()
    }
}

/// Nothing on the chain gives notice.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

async fn join(bitcoind: &Bitcoind, payer: &LdkWallet, payee: &LdkWallet, address: SocketAddr) {
    bitcoind
        .pay(&payer.new_address().await.unwrap(), 2 * CHANNEL_SATS)
        .await;
    bitcoind.mine(1).await;
    until("coins", async || {
        payer.on_chain().await.unwrap().spendable_sats >= 2 * CHANNEL_SATS
    })
    .await;
    let request = OpenChannel {
        node_id: payee.info().await.unwrap().payee.unwrap(),
        address: address.to_string(),
        sats: CHANNEL_SATS,
        push_msat: 0,
    };
    payer.open_channel(request).await.unwrap();
    until("the funding", async || {
        let waiting = bitcoind.rpc("getrawmempool", serde_json::json!([])).await;
        !waiting.as_array().unwrap().is_empty()
    })
    .await;
    bitcoind.mine(6).await;
    for end in [payer, payee] {
        until("the channel", async || {
            end.channels().await.unwrap().iter().any(|channel| channel.usable)
        })
        .await;
    }
}

async fn invoice(wallet: &LdkWallet, amount_msat: u64) -> CreatedInvoice {
    let request = InvoiceRequest {
        amount_msat,
        description: "a test".into(),
        expiry: Duration::from_secs(600),
    };
    wallet.create_invoice(request).await.unwrap()
}

fn pay(invoice: &CreatedInvoice) -> PayRequest {
    PayRequest {
        bolt11: invoice.bolt11.clone(),
        max_fee_msat: 10_000,
        max_cltv_blocks: 1008,
        timeout: PATIENCE,
    }
}

async fn owned(wallet: &LdkWallet) -> u64 {
    let quiet = async || wallet.balance().await.unwrap().outgoing_msat == 0;
    until("payments to be over", quiet).await;
    wallet.balance().await.unwrap().owned_msat
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_once_is_paid_once_across_joined_calls_restarts_and_doubts() {
    let Some(bitcoind) = Bitcoind::start().await else {
        return;
    };
    let (a_place, b_place) = (Place::new(&bitcoind), Place::new(&bitcoind));
    let (mut a, b) = (a_place.start().await, b_place.start().await);
    let poor = invoice(&b, 1_000).await;
    let refused = a.probe(&pay(&poor)).await.unwrap_err();
    assert!(
        matches!(refused, WalletError::InsufficientFunds { .. }),
        "{refused}"
    );
    assert_eq!(a.pay(pay(&poor)).await.unwrap_err(), refused);
    join(&bitcoind, &a, &b, b_place.address()).await;

    let asked = invoices_are_paid_once(&a, &b).await;
    let (offer, reference) = offers_are_paid_once(&a, &b).await;

    let before = owned(&a).await;
    a.stop().await;
    assert!(a.pay(pay(&poor)).await.is_err(), "a stopped node pays nobody");
    drop(a);
    a = a_place.start().await;
    assert_eq!(owned(&a).await, before);
    let again = a.pay(pay(&asked)).await.unwrap();
    assert_eq!(Sha256::digest(again.preimage)[..], asked.payment_hash);
    a.pay_offer(offer_request(&offer, reference)).await.unwrap();
    assert_eq!(owned(&a).await, before, "after a restart nothing is paid again");

    doubts_are_no_failures(&a, &b).await;
    a.stop().await;
    b.stop().await;
}

async fn invoices_are_paid_once(a: &LdkWallet, b: &LdkWallet) -> CreatedInvoice {
    let asked = invoice(b, 5_000_000).await;
    let hash = asked.payment_hash;
    assert_eq!(b.invoice_status(hash).await.unwrap(), InvoiceStatus::Open);
    assert_eq!(b.invoice_status([7; 32]).await.unwrap(), InvoiceStatus::Unknown);
    assert_eq!(a.payment_status(hash).await.unwrap(), PaymentStatus::Unknown);
    assert_eq!(a.probe(&pay(&asked)).await.unwrap(), Probe::NotOffered);
    let own = b.pay(pay(&asked)).await.unwrap_err();
    assert!(matches!(own, WalletError::InvoiceInvalid { .. }), "{own}");

    let before = owned(a).await;
    let (one, other) = tokio::join!(a.pay(pay(&asked)), a.pay(pay(&asked)));
    let paid = one.unwrap();
    assert_eq!(other.unwrap(), paid);
    assert_eq!((paid.amount_msat, paid.fee_msat), (5_000_000, 0));
    assert_eq!(Sha256::digest(paid.preimage)[..], hash);
    let settled = b.wait_settled(hash, PATIENCE).await.unwrap();
    assert_eq!(
        settled,
        InvoiceStatus::Settled {
            amount_msat: 5_000_000
        }
    );
    assert_eq!(a.pay(pay(&asked)).await.unwrap(), paid);
    assert_eq!(
        a.payment_status(hash).await.unwrap(),
        PaymentStatus::Succeeded(paid)
    );
    assert_eq!(before - owned(a).await, 5_000_000);
    assert_eq!(owned(b).await, 5_000_000);

    let too_much = invoice(b, 2 * CHANNEL_SATS * 1_000).await;
    let refused = a.pay(pay(&too_much)).await.unwrap_err();
    assert!(
        matches!(refused, WalletError::InsufficientFunds { .. }),
        "{refused}"
    );
    asked
}

fn offer_request(offer: &str, reference: [u8; 32]) -> OfferRequest {
    OfferRequest {
        offer: offer.to_owned(),
        amount_msat: 2_000_000,
        max_fee_msat: 10_000,
        reference,
        timeout: PATIENCE,
    }
}

async fn offers_are_paid_once(a: &LdkWallet, b: &LdkWallet) -> (String, [u8; 32]) {
    let offer = b.inner.node.bolt12_payment();
    let offer = offer
        .receive(2_000_000, "treasury", None, None)
        .unwrap()
        .to_string();
    let reference = [9; 32];
    let before = owned(a).await;
    let paid = a.pay_offer(offer_request(&offer, reference)).await.unwrap();
    assert_eq!(a.pay_offer(offer_request(&offer, reference)).await.unwrap(), paid);
    let known = a.payment_status(reference).await.unwrap();
    assert_eq!(known, PaymentStatus::Succeeded(paid));
    assert_eq!(before - owned(a).await, 2_000_000);
    a.pay_offer(offer_request(&offer, [8; 32])).await.unwrap();
    assert_eq!(
        before - owned(a).await,
        4_000_000,
        "another reference is another payment"
    );

    let refused = a
        .pay_offer(offer_request("lno1nothing", [1; 32]))
        .await
        .unwrap_err();
    assert!(matches!(refused, WalletError::InvoiceInvalid { .. }), "{refused}");
    assert_eq!(a.payment_status([1; 32]).await.unwrap(), PaymentStatus::Unknown);
    (offer, reference)
}

/// A payment that was begun when the node was killed, as the book shows it then.
async fn doubts_are_no_failures(a: &LdkWallet, b: &LdkWallet) {
    let asked = invoice(b, 1_000_000).await;
    let hash = asked.payment_hash;
    let begun = |resolved_at_height| Begun {
        amount_msat: 1_000_000,
        resolved_at_height,
    };
    a.inner.book.begin(&hash, &begun(a.inner.height() + 1)).unwrap();
    assert_eq!(a.payment_status(hash).await.unwrap(), PaymentStatus::InFlight);
    let before = owned(a).await;
    a.pay(pay(&asked)).await.unwrap();
    assert_eq!(before - owned(a).await, 1_000_000);
    until("the book to know", async || {
        a.inner.book.begun(&hash).unwrap().is_none()
    })
    .await;

    // When so many blocks have passed that nothing can be under way, it is known to have come to nothing.
    let other = invoice(b, 1_000_000).await.payment_hash;
    a.inner.book.begin(&other, &begun(a.inner.height())).unwrap();
    assert_eq!(a.payment_status(other).await.unwrap(), PaymentStatus::Unknown);
}
