//! Transactions made by hand: what no honest wallet would make.

use serde_json::{Value, json};

use crate::common::bitcoind::Bitcoind;

/// A coin of the miner's wallet.
pub(crate) struct Coin {
    txid: String,
    vout: u64,
    sats: u64,
}

pub(crate) async fn coin(bitcoind: &Bitcoind) -> Coin {
    let coins = bitcoind.rpc("listunspent", json!([1])).await;
    let coin = &coins.as_array().unwrap()[0];
    Coin {
        txid: coin["txid"].as_str().unwrap().to_owned(),
        vout: coin["vout"].as_u64().unwrap(),
        sats: (coin["amount"].as_f64().unwrap() * 1e8).round() as u64,
    }
}

/// A signed transaction that spends the coin, may be replaced, pays `outputs` (address, sats), leaves `fee` and gives
/// the rest back to the miner.
pub(crate) async fn spend(bitcoind: &Bitcoind, coin: &Coin, outputs: &[(String, u64)], fee: u64) -> String {
    let rest = coin.sats - fee - outputs.iter().map(|(_, sats)| sats).sum::<u64>();
    let change = bitcoind.rpc("getnewaddress", json!([])).await;
    let mut pays: Vec<Value> = outputs
        .iter()
        .map(|(address, sats)| json!({ address: bitcoins(*sats) }))
        .collect();
    pays.push(json!({ change.as_str().unwrap(): bitcoins(rest) }));
    let inputs = json!([{"txid": coin.txid, "vout": coin.vout, "sequence": 0xffff_fffdu32}]);
    let raw = bitcoind.rpc("createrawtransaction", json!([inputs, pays])).await;
    let signed = bitcoind.rpc("signrawtransactionwithwallet", json!([raw])).await;
    assert_eq!(signed["complete"], json!(true));
    signed["hex"].as_str().unwrap().to_owned()
}

pub(crate) async fn send(bitcoind: &Bitcoind, transaction: &str) -> String {
    let txid = bitcoind.rpc("sendrawtransaction", json!([transaction])).await;
    txid.as_str().unwrap().to_owned()
}

/// Mines one block with exactly these transactions, whatever the node itself would relay.
#[cfg(feature = "ctv")]
pub(crate) async fn mine_with(bitcoind: &Bitcoind, transactions: &[String]) {
    let address = bitcoind.rpc("getnewaddress", json!([])).await;
    bitcoind
        .rpc("generateblock", json!([address, transactions]))
        .await;
}

pub(crate) fn sats_of(bitcoins: &str) -> u64 {
    let (whole, part) = bitcoins.split_once('.').unwrap();
    whole.parse::<u64>().unwrap() * 100_000_000 + part.parse::<u64>().unwrap()
}

fn bitcoins(sats: u64) -> String {
    format!("{}.{:08}", sats / 100_000_000, sats % 100_000_000)
}
