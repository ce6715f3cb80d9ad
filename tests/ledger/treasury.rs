//! The treasury is paid over real Lightning to an address that a real HTTP server answers for.

use std::sync::Arc;

use blvm_mesh::handle::CommandError;
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::store::Store;
use blvm_mesh::treasury::{TreasuryConfig, TreasuryDestination};
use blvm_mesh::wallet::devnet::Devnet;
use blvm_mesh::wallet::{InvoiceRequest, Wallet};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command};
use mesh_core::routing_policy::MeshMode;
use serde_json::json;

use crate::common::{PATIENCE, eventually, node_config};
use crate::server::{Reply, Server};
use crate::{sale, write};

const METADATA: &str = r#"[["text/plain","the treasury"]]"#;
const PAID: u64 = 50_000;

/// A Lightning address with one invoice to give.
async fn address_of(wallet: &dyn Wallet) -> (Server, [u8; 32]) {
    let request = InvoiceRequest {
        amount_msat: PAID,
        description: METADATA.to_owned(),
        expiry: std::time::Duration::from_secs(3600),
    };
    let created = wallet.create_invoice(request).await.unwrap();
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/pay") {
            return Reply::json(json!({"pr": created.bolt11, "routes": []}));
        }
        let host = &asked.headers["host"];
        Reply::json(json!({
            "tag": "payRequest", "callback": format!("http://{host}/pay"),
            "minSendable": 1000, "maxSendable": 1_000_000, "metadata": METADATA,
        }))
    })
    .await;
    (server, created.payment_hash)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_collected_is_paid_to_the_address_once_and_the_books_agree_with_the_wallet() {
    let devnet = Devnet::mesh(2, &[(0, 1)], 5_000_000, 12).await.unwrap();
    let (own, treasury) = (devnet.wallet(0).unwrap(), devnet.wallet(1).unwrap());
    let before = treasury.balance_msat();
    let (server, _) = address_of(treasury.as_ref()).await;
    let folder = tempfile::tempdir().unwrap();
    {
        let path = folder.path().join(blvm_mesh::data_dir::DATABASE_FILE);
        let (store, _) = Store::open(&path).unwrap();
        for number in 1..=50 {
            write(&store, sale(number));
        }
    }
    let address = format!("treasury@{}", server.address);
    let config = NodeConfig {
        treasury: Some(TreasuryConfig {
            destination: TreasuryDestination::address(&address).unwrap(),
            threshold_msat: 0,
            max_fee_msat: 10_000,
        }),
        ..node_config(
            7,
            MeshMode::PaymentGated,
            Arc::clone(&own) as Arc<dyn Wallet>,
            &folder,
        )
    };
    let node = RunningNode::start(config).await.unwrap();
    let pay = Command::PayTreasury { amount_msat: None };
    let answer = tokio::time::timeout(PATIENCE, node.handle().command(pay))
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(
            answer,
            Answer::TreasuryPaid {
                amount_msat: PAID,
                ..
            }
        ),
        "{answer:?}"
    );
    eventually("the treasury's money", async || {
        (treasury.balance_msat() == before + PAID).then_some(())
    })
    .await;
    let again = node
        .handle()
        .command(Command::PayTreasury { amount_msat: None })
        .await;
    let refused = again.as_ref().err().and_then(CommandError::reason);
    assert_eq!(
        refused,
        Some(DropReason::BadCommand),
        "nothing is owed any more: {again:?}"
    );
    let report = node.books().audit().await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    let wallet = report.wallet.unwrap();
    assert_eq!((wallet.compared, wallet.payments), (1, 1));
    node.stop().await;
    devnet.shutdown().await;
}
