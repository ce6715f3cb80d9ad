//! Daemons with a wallet of LNbits each, as operators run them.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{interval, timeout};

use crate::common::daemons::{ASK_AGAIN, Daemon, Home, PATIENCE, program, said};
use crate::server::LnBitsServer;

/// 256 units at this price are 96 sat. Over one router a slice then costs 320 sat: 96 for the router, and 192 and the
/// treasury's 32 for the destination. All of them are whole, as LNbits wants them.
const PRICE_MSAT: u64 = 375;
const TOTAL_MSAT: u64 = 320_000;
const ROUTER_MSAT: u64 = 96_000;
const DESTINATION_MSAT: u64 = 224_000;

fn configure(home: &Home, server: &LnBitsServer, key: &str, network: &str, neighbours: &[&Daemon]) {
    let key_file = home.path().join("lnbits.key");
    std::fs::write(&key_file, format!("{key}\n")).unwrap();
    let mut config = format!(
        "[mesh]\nmode = \"payment_gated\"\nlisten_addr = \"127.0.0.1:0\"\nprice_msat_per_unit = {PRICE_MSAT}\n\
         network = \"{network}\"\n"
    );
    for neighbour in neighbours {
        let (address, id) = (&neighbour.listen_addr, &neighbour.node_id);
        config += &format!("[[mesh.peers]]\naddress = \"{address}\"\nnode_id = \"{id}\"\n");
    }
    config += &format!(
        "[wallet]\nbackend = \"lnbits\"\n[wallet.lnbits]\nurl = \"{}\"\napi_key_file = \"{}\"\n",
        server.url,
        key_file.display()
    );
    std::fs::write(home.path().join("config.toml"), config).unwrap();
}

pub(crate) async fn packet_is_bought_over_a_router_and_every_share_arrives(server: &LnBitsServer) {
    let (payer, router, destination) = (Home::new(), Home::new(), Home::new());
    let accounts = (
        server.account(1_000).await,
        server.account(0).await,
        server.account(0).await,
    );
    configure(&router, server, &accounts.1.admin_key, "bitcoin", &[]);
    let router_daemon = Daemon::start(&router).await;
    configure(
        &payer,
        server,
        &accounts.0.admin_key,
        "bitcoin",
        &[&router_daemon],
    );
    configure(
        &destination,
        server,
        &accounts.2.admin_key,
        "bitcoin",
        &[&router_daemon],
    );
    let (payer_daemon, destination_daemon) = (Daemon::start(&payer).await, Daemon::start(&destination).await);
    router.wait_for_peers(2).await;
    assert_eq!(payer.ask_json(&["status"]).await["wallet"], "lnbits");

    let mut listener = program();
    listener
        .arg("--data-dir")
        .arg(destination.path())
        .args(["--json", "listen"]);
    let mut listener = listener.stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = BufReader::new(listener.stdout.take().unwrap()).lines();

    // A limit below the price buys nothing, and is told.
    let too_little = ["--max-total-msat", "319999", "--max-fee-msat", "5000"];
    let send = |limits: [&'static str; 4]| {
        let start = ["send", destination_daemon.node_id.as_str(), "bought"];
        let arguments: Vec<&str> = start.into_iter().chain(limits).collect();
        let payer = &payer;
        async move { payer.ask(&arguments).await }
    };
    let refused = send(too_little).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));

    // A listener gives no notice once it listens, so it is sent to until it hears.
    let enough = ["--max-total-msat", "320000", "--max-fee-msat", "5000"];
    let arrives = timeout(PATIENCE * 2, async {
        let mut again = interval(ASK_AGAIN * 10);
        loop {
            tokio::select! {
                line = heard.next_line() => return line.unwrap().expect("it listens"),
                () = async {
                    again.tick().await;
                    let sent = send(enough).await;
                    assert!(sent.status.success(), "{}", said(&sent));
                } => {}
            }
        }
    });
    let delivery: Value = serde_json::from_str(&arrives.await.expect("the packet arrives")).unwrap();
    assert_eq!(delivery["payload_hex"], hex::encode("bought"));
    assert_eq!(delivery["source"], payer_daemon.node_id.as_str());

    let mut balances = Vec::new();
    for account in [&accounts.0, &accounts.1, &accounts.2] {
        let wallet = server.wallet(&account.admin_key).await;
        balances.push(wallet.balance().await.unwrap().owned_msat);
    }
    assert_eq!(
        balances,
        [1_000_000 - TOTAL_MSAT, ROUTER_MSAT, DESTINATION_MSAT],
        "bought once, and paid in full"
    );
    for daemon in [payer_daemon, router_daemon, destination_daemon] {
        assert_eq!(daemon.terminate().await.code(), Some(0));
    }
}

pub(crate) async fn daemon_on_another_network_than_its_wallet_does_not_start(server: &LnBitsServer) {
    let home = Home::new();
    let account = server.account(0).await;
    configure(&home, server, &account.admin_key, "regtest", &[]);
    let refused = home.ask(&["run"]).await;
    assert!(!refused.status.success());
    let why = said(&refused);
    assert!(
        why.contains("the wallet is on bitcoin") && why.contains("network"),
        "{why}"
    );
}
