//! A real LNbits server with wallets that pay each other in its books, and daemons that each have one of them.
//!
//! `LNBITS_PYTHON` names a Python in which LNbits is installed (`tests/lnbits.sh` makes one); without it nothing is
//! tested here, which is said.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod daemons;
mod server;
mod wallet;

/// One server for all: it takes longer to start than everything that is asked of it.
#[tokio::test(flavor = "multi_thread")]
async fn wallets_of_a_real_lnbits_keep_the_contract_and_daemons_pay_each_other_with_them() {
    let Some(python) = std::env::var_os("LNBITS_PYTHON") else {
        eprintln!("skipped: LNBITS_PYTHON is not set (see tests/lnbits.sh)");
        return;
    };
    let server = server::LnBitsServer::start(&python).await;
    wallet::invoices_carry_the_amount_and_what_they_are_for(&server).await;
    wallet::fraction_of_a_satoshi_is_refused_rather_than_cut_off(&server).await;
    wallet::payment_arrives_once_however_often_it_is_asked_for(&server).await;
    wallet::payment_whose_reserve_is_above_the_limit_is_not_begun(&server).await;
    wallet::payment_beyond_the_balance_moves_nothing(&server).await;
    wallet::payment_that_nobody_can_make_fails_and_moves_nothing(&server).await;
    wallet::unpaid_invoice_expires(&server).await;
    wallet::wrong_key_is_told(&server).await;
    wallet::key_that_only_receives_cannot_pay(&server).await;
    daemons::packet_is_bought_over_a_router_and_every_share_arrives(&server).await;
    daemons::daemon_on_another_network_than_its_wallet_does_not_start(&server).await;
    server.stop().await;
}
