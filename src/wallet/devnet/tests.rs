//! The devnet's promises, tested on whole networks.

use std::time::{Duration, Instant};

use super::*;
use crate::wallet::{InvoiceRequest, InvoiceStatus, PayRequest, PaymentStatus, Wallet, WalletError};

const CAPACITY_SAT: u64 = 1_000_000;
const LONG: Duration = Duration::from_secs(60);

fn request(amount_msat: u64) -> InvoiceRequest {
    InvoiceRequest {
        amount_msat,
        description: "what is sold".into(),
        expiry: Duration::from_secs(600),
    }
}

fn pay(bolt11: &str, max_fee_msat: u64) -> PayRequest {
    PayRequest {
        bolt11: bolt11.to_owned(),
        max_fee_msat,
        max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
        timeout: LONG,
    }
}

fn balances(wallets: &[Arc<DevnetWallet>]) -> Vec<u64> {
    wallets.iter().map(|wallet| wallet.balance_msat()).collect()
}

fn wallets(devnet: &Devnet) -> Vec<Arc<DevnetWallet>> {
    (0..devnet.len())
        .map(|index| devnet.wallet(index).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_over_two_hops_conserves_every_millisatoshi() {
    let devnet = Devnet::line(3, CAPACITY_SAT, 1).await.unwrap();
    let all = wallets(&devnet);
    let before = balances(&all);
    assert_eq!(
        before.iter().sum::<u64>(),
        2 * sat_to_msat(CAPACITY_SAT),
        "all that was funded, and no more"
    );
    for amount_msat in [1_000_u64, 1_001, 123_457, 50_000_001] {
        let before = balances(&all);
        let invoice = all[2].create_invoice(request(amount_msat)).await.unwrap();
        let paid = all[0].pay(pay(&invoice.bolt11, 1_000_000)).await.unwrap();
        let fee = amount_msat / 1_000;
        assert_eq!((paid.amount_msat, paid.fee_msat), (amount_msat, fee));
        assert_eq!(
            all[2].wait_settled(invoice.payment_hash, LONG).await,
            Ok(InvoiceStatus::Settled { amount_msat })
        );
        devnet.wait_quiet().await.unwrap();
        assert_eq!(
            balances(&all),
            [
                before[0] - amount_msat - fee,
                before[1] + fee,
                before[2] + amount_msat
            ],
            "payer, router, payee after {amount_msat} msat"
        );
    }
    assert_eq!(balances(&all).iter().sum::<u64>(), before.iter().sum::<u64>());
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_invoice_commits_to_payee_and_description_and_the_preimage_to_its_hash() {
    use lightning::bitcoin::hashes::{Hash, sha256};
    let devnet = Devnet::line(2, CAPACITY_SAT, 2).await.unwrap();
    let (payer, payee) = (devnet.wallet(0).unwrap(), devnet.wallet(1).unwrap());
    let invoice = payee.create_invoice(request(5_000)).await.unwrap();
    let read: lightning_invoice::Bolt11Invoice = invoice.bolt11.parse().unwrap();
    assert_eq!(
        Some(read.get_payee_pub_key().serialize()),
        payee.info().await.unwrap().payee
    );
    let lightning_invoice::Bolt11InvoiceDescriptionRef::Hash(hash) = read.description() else {
        panic!("not a hash: {read:?}")
    };
    assert_eq!(hash.0, sha256::Hash::hash(b"what is sold"));
    let paid = payer.pay(pay(&invoice.bolt11, 0)).await.unwrap();
    assert_eq!(
        sha256::Hash::hash(&paid.preimage).to_byte_array(),
        invoice.payment_hash
    );
    assert_eq!(paid.fee_msat, 0, "no router stood between");
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paying_one_invoice_many_times_at_once_and_again_pays_once() {
    let devnet = Devnet::line(2, CAPACITY_SAT, 3).await.unwrap();
    let all = wallets(&devnet);
    let before = balances(&all);
    let invoice = all[1].create_invoice(request(7_000)).await.unwrap();
    let mut payers = JoinSet::new();
    for _ in 0..8 {
        let (payer, request) = (Arc::clone(&all[0]), pay(&invoice.bolt11, 0));
        payers.spawn(async move { payer.pay(request).await.unwrap() });
    }
    let outcomes = payers.join_all().await;
    assert!(
        outcomes.iter().all(|outcome| *outcome == outcomes[0]),
        "{outcomes:?}"
    );
    assert_eq!(all[0].pay(pay(&invoice.bolt11, 0)).await, Ok(outcomes[0]));
    assert_eq!(
        all[0].payment_status(invoice.payment_hash).await,
        Ok(PaymentStatus::Succeeded(outcomes[0]))
    );
    devnet.wait_quiet().await.unwrap();
    assert_eq!(balances(&all), [before[0] - 7_000, before[1] + 7_000]);
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_settlement_is_woken_by_it() {
    let devnet = Devnet::line(2, CAPACITY_SAT, 4).await.unwrap();
    let (payer, payee) = (devnet.wallet(0).unwrap(), devnet.wallet(1).unwrap());
    let invoice = payee.create_invoice(request(1_000)).await.unwrap();
    let begun = Instant::now();
    let request = pay(&invoice.bolt11, 0);
    let (waited, paid) = tokio::join!(payee.wait_settled(invoice.payment_hash, LONG), payer.pay(request));
    assert!(paid.is_ok());
    assert_eq!(waited, Ok(InvoiceStatus::Settled { amount_msat: 1_000 }));
    assert!(
        begun.elapsed() < LONG / 2,
        "it was the event that woke, not the clock"
    );
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaked_preimage_settles_nothing() {
    use lightning::bitcoin::hashes::{Hash, sha256};
    let devnet = Devnet::line(2, CAPACITY_SAT, 5).await.unwrap();
    let payee = devnet.wallet(1).unwrap();
    let before = payee.balance_msat();
    let invoice = payee.create_invoice(request(9_000)).await.unwrap();
    let leaked = payee.leak_preimage_of_own_invoice(invoice.payment_hash).unwrap();
    assert_eq!(
        sha256::Hash::hash(&leaked).to_byte_array(),
        invoice.payment_hash,
        "the very preimage"
    );
    assert_eq!(
        payee.invoice_status(invoice.payment_hash).await,
        Ok(InvoiceStatus::Open)
    );
    assert_eq!(
        payee.wait_settled(invoice.payment_hash, Duration::ZERO).await,
        Ok(InvoiceStatus::Open)
    );
    assert_eq!(payee.invoice_status([0; 32]).await, Ok(InvoiceStatus::Unknown));
    assert_eq!(
        payee.wait_settled([0; 32], LONG).await,
        Ok(InvoiceStatus::Unknown)
    );
    assert_eq!(payee.leak_preimage_of_own_invoice([0; 32]), None);
    assert_eq!(payee.balance_msat(), before);
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_low_a_fee_limit_moves_nothing_and_the_invoice_can_still_be_paid() {
    let devnet = Devnet::line(3, CAPACITY_SAT, 6).await.unwrap();
    let all = wallets(&devnet);
    let before = balances(&all);
    let invoice = all[2].create_invoice(request(100_000)).await.unwrap();
    let refused = all[0].pay(pay(&invoice.bolt11, 99)).await.unwrap_err();
    assert_eq!(
        refused,
        WalletError::FeeLimit {
            limit_msat: 99,
            cheapest_msat: 100
        }
    );
    assert!(refused.nothing_moved());
    assert_eq!(
        all[0].payment_status(invoice.payment_hash).await,
        Ok(PaymentStatus::Failed(refused))
    );
    assert_eq!(balances(&all), before);
    assert_eq!(
        all[2].invoice_status(invoice.payment_hash).await,
        Ok(InvoiceStatus::Open)
    );
    assert_eq!(all[0].pay(pay(&invoice.bolt11, 100)).await.unwrap().fee_msat, 100);
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paid_is_refused_by_name_and_moves_nothing() {
    let devnet = Devnet::start(3, 7).await.unwrap();
    devnet
        .open_channel(0, 1, CAPACITY_SAT, sat_to_msat(CAPACITY_SAT) / 2)
        .await
        .unwrap();
    devnet.wait_ready().await.unwrap();
    let all = wallets(&devnet);
    let before = balances(&all);
    let island = all[2].create_invoice(request(1_000)).await.unwrap();
    let dear = all[1]
        .create_invoice(request(sat_to_msat(CAPACITY_SAT)))
        .await
        .unwrap();
    let own = all[0].create_invoice(request(1_000)).await.unwrap();
    let refusal = |bolt11: String| {
        let payer = Arc::clone(&all[0]);
        async move { payer.pay(pay(&bolt11, 1_000_000)).await.unwrap_err() }
    };
    assert_eq!(
        refusal(island.bolt11).await,
        WalletError::NoRoute { amount_msat: 1_000 }
    );
    assert!(matches!(
        refusal(dear.bolt11).await,
        WalletError::InsufficientFunds { .. }
    ));
    assert!(matches!(
        refusal(own.bolt11).await,
        WalletError::InvoiceInvalid { .. }
    ));
    assert!(matches!(
        refusal("lnbcrt1nonsense".to_owned()).await,
        WalletError::InvoiceInvalid { .. }
    ));
    assert!(matches!(
        all[0].create_invoice(request(0)).await,
        Err(WalletError::InvalidRequest { .. })
    ));
    assert_eq!(balances(&all), before);
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_of_one_side_can_belong_to_the_opener() {
    let devnet = Devnet::start(2, 8).await.unwrap();
    devnet.open_channel(0, 1, CAPACITY_SAT, 0).await.unwrap();
    devnet.wait_ready().await.unwrap();
    let all = wallets(&devnet);
    assert_eq!(balances(&all), [sat_to_msat(CAPACITY_SAT), 0]);
    let invoice = all[1].create_invoice(request(1_234)).await.unwrap();
    all[0].pay(pay(&invoice.bolt11, 0)).await.unwrap();
    devnet.wait_quiet().await.unwrap();
    assert_eq!(
        balances(&all),
        [sat_to_msat(CAPACITY_SAT) - 1_234, 1_234],
        "less than the reserve is still counted"
    );
    assert_eq!(
        all[1].balance().await.unwrap().spendable_msat,
        0,
        "but cannot be spent"
    );
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_in_a_ring_with_a_chord_pay_one_another_all_at_once() {
    let edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 3)];
    let devnet = Devnet::mesh(5, &edges, CAPACITY_SAT, 9).await.unwrap();
    let all = wallets(&devnet);
    let total: u64 = balances(&all).iter().sum();
    assert_eq!(total, edges.len() as u64 * sat_to_msat(CAPACITY_SAT));
    let mut payments = JoinSet::new();
    for (index, payer) in all.iter().enumerate() {
        for (other, payee) in all.iter().enumerate() {
            if index != other {
                let (payer, payee) = (Arc::clone(payer), Arc::clone(payee));
                payments.spawn(async move {
                    let invoice = payee.create_invoice(request(10_000)).await.unwrap();
                    payer.pay(pay(&invoice.bolt11, 1_000)).await.unwrap();
                });
            }
        }
    }
    assert_eq!(payments.join_all().await.len(), 20);
    devnet.wait_quiet().await.unwrap();
    assert_eq!(balances(&all).iter().sum::<u64>(), total);
    devnet.shutdown().await;
}

// Holding the payee's book is the point: his node stops where it would look the payment up, on a thread of its own.
#[allow(clippy::await_holding_lock)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_payment_that_the_payee_holds_back_is_of_unknown_outcome_and_can_still_succeed() {
    let devnet = Devnet::line(2, CAPACITY_SAT, 11).await.unwrap();
    let all = wallets(&devnet);
    let before = balances(&all);
    let invoice = all[1].create_invoice(request(3_000)).await.unwrap();
    let held = all[1].hold_incoming_payments();
    let hasty = PayRequest {
        max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
        timeout: Duration::from_millis(50),
        ..pay(&invoice.bolt11, 0)
    };
    let unknown = all[0].pay(hasty).await.unwrap_err();
    assert_eq!(
        unknown,
        WalletError::OutcomeUnknown {
            payment_hash: invoice.payment_hash
        }
    );
    assert!(!unknown.nothing_moved());
    assert_eq!(
        all[0].payment_status(invoice.payment_hash).await,
        Ok(PaymentStatus::InFlight)
    );
    assert_eq!(all[0].balance().await.unwrap().outgoing_msat, 3_000);
    drop(held);
    let outcome = all[0].pay(pay(&invoice.bolt11, 0)).await.unwrap();
    assert_eq!((outcome.amount_msat, outcome.fee_msat), (3_000, 0));
    devnet.wait_quiet().await.unwrap();
    assert_eq!(
        balances(&all),
        [before[0] - 3_000, before[1] + 3_000],
        "asked for twice, paid once"
    );
    devnet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_shutdown_a_wallet_says_so_and_still_knows_what_it_was_paid() {
    let devnet = Devnet::line(2, CAPACITY_SAT, 10).await.unwrap();
    let (payer, payee) = (devnet.wallet(0).unwrap(), devnet.wallet(1).unwrap());
    let invoice = payee.create_invoice(request(1_000)).await.unwrap();
    let outcome = payer.pay(pay(&invoice.bolt11, 0)).await.unwrap();
    let late = payee.create_invoice(request(1_000)).await.unwrap();
    payee.wait_settled(invoice.payment_hash, LONG).await.unwrap();
    devnet.shutdown().await;
    assert!(matches!(
        payer.pay(pay(&late.bolt11, 0)).await,
        Err(WalletError::Unavailable { .. })
    ));
    assert!(matches!(
        payee.create_invoice(request(1_000)).await,
        Err(WalletError::Unavailable { .. })
    ));
    assert_eq!(payer.pay(pay(&invoice.bolt11, 0)).await, Ok(outcome));
    assert_eq!(
        payee.invoice_status(invoice.payment_hash).await,
        Ok(InvoiceStatus::Settled { amount_msat: 1_000 })
    );
}

#[tokio::test]
async fn impossible_networks_are_refused_by_name() {
    assert!(matches!(
        Devnet::start(0, 1).await,
        Err(DevnetError::NodeCount { wanted: 0 })
    ));
    assert!(matches!(
        Devnet::start(MAX_NODES + 1, 1).await,
        Err(DevnetError::NodeCount { .. })
    ));
    let devnet = Devnet::start(2, 1).await.unwrap();
    assert!(matches!(
        devnet.wallet(2),
        Err(DevnetError::NoSuchNode { index: 2, nodes: 2 })
    ));
    assert!(matches!(
        devnet.open_channel(0, 0, 100_000, 0).await,
        Err(DevnetError::Channel { .. })
    ));
    assert!(matches!(
        devnet.open_channel(0, 1, 100, 0).await,
        Err(DevnetError::Channel { .. })
    ));
    assert!(matches!(
        devnet.open_channel(0, 1, 100_000, 100_000_001).await,
        Err(DevnetError::Channel { .. })
    ));
    devnet.shutdown().await;
}
