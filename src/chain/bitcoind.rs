//! Bitcoin Core and Knots over JSON-RPC.
//!
//! Scripts come from one wallet of the node, named in the configuration, and whatever pays them is that wallet's: it
//! knows its transactions whether their outputs are spent or not, so neither an index of transactions nor old blocks are
//! needed. A covenant's funding is nobody's wallet's; it is looked up among the unspent outputs (`gettxout`), which every
//! node has.
//!
//! | asked | calls |
//! |---|---|
//! | fresh script | `getnewaddress`, `getaddressinfo` |
//! | transaction | `gettransaction` of the wallet: negative confirmations say that another was mined instead |
//! | output | `gettxout`, then `getblockheader` and `getblockhash` for its place |
//! | depth of a block | `getblockheader`: −1 when it is not in the best chain |
//! | fee floor | `getmempoolinfo` |

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use mesh_core::chain::{FundingFacts, OutPoint, Place, Standing, TxOutput};
use mesh_core::verifier::BitcoinNetwork;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{ChainError, ChainSource, OwnTransaction, Tip};
use crate::http::{HttpClient, Method, PlainHttp, Request, Secret, StatusCode, Trust, Url};

/// How long one call may take: a node that validates blocks answers late.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls at once. A node refuses more than 16 waiting ones by default, and it has other users.
const CALLS_AT_ONCE: usize = 4;

/// The longest answer: a transaction of the largest standard weight, in hexadecimal, with room.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The label under which scripts stand in the wallet.
const LABEL: &str = "blvm-mesh";

/// Error codes of the RPC: no such transaction or block, no such wallet, not or wrongly loaded, known already.
const NOT_FOUND: i64 = -5;
const NO_WALLET: i64 = -18;
const WALLET_NOT_NAMED: i64 = -19;
const KNOWN_ALREADY: i64 = -27;

/// How the node knows its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// By the file that the node writes at every start; read again for every call, since a restart changes it.
    Cookie(PathBuf),
    /// By a user and the password in a file.
    Password {
        /// The user.
        user: String,
        /// The file.
        file: PathBuf,
    },
}

/// One wallet of a Bitcoin node.
#[derive(Debug)]
pub struct Bitcoind {
    http: HttpClient,
    url: Url,
    wallet_url: Url,
    wallet: String,
    login: Login,
    calls: Semaphore,
}

impl Bitcoind {
    /// The node at `url`, and its wallet of that name. Asks nothing yet.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`]: the URL cannot be used.
    pub fn new(url: &str, wallet: &str, login: Login) -> Result<Self, ChainError> {
        let url = Url::parse(url)?;
        Ok(Self {
            http: HttpClient::new(&Trust::System, PlainHttp::LoopbackOnly)?,
            wallet_url: url.join(&format!("wallet/{wallet}"))?,
            url,
            wallet: wallet.to_owned(),
            login,
            calls: Semaphore::new(CALLS_AT_ONCE),
        })
    }

    fn authorization(&self) -> Result<Secret, ChainError> {
        let failed = |error: &dyn std::fmt::Display| ChainError::Secret(error.to_string());
        let user_and_password = match &self.login {
            Login::Cookie(file) => Secret::from_text_file(file).map_err(|error| failed(&error))?,
            Login::Password { user, file } => {
                let password = Secret::from_text_file(file).map_err(|error| failed(&error))?;
                Secret::new(format!("{user}:{}", password.expose()))
            }
        };
        Ok(Secret::new(format!(
            "Basic {}",
            STANDARD.encode(user_and_password.expose())
        )))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        url: &Url,
        method: &'static str,
        params: Value,
    ) -> Result<T, ChainError> {
        let body = json!({"jsonrpc": "1.0", "id": "blvm-mesh", "method": method, "params": params});
        let request = Request::new(Method::POST, url.clone(), MAX_ANSWER_BYTES)
            .secret_header("authorization", &self.authorization()?)?
            .json(&body)?;
        // Closed never: the semaphore lives as long as this.
        let _turn = self.calls.acquire().await;
        let response = self.http.send(request, CALL_TIMEOUT).await?;
        if response.status == StatusCode::UNAUTHORIZED || response.status == StatusCode::FORBIDDEN {
            return Err(ChainError::Unauthorised);
        }
        let malformed = |reason: String| ChainError::Malformed { method, reason };
        let reply: Reply = response
            .json()
            .map_err(|_| malformed(format!("status {}", response.status)))?;
        if let Some(error) = reply.error {
            return Err(match error.code {
                NO_WALLET | WALLET_NOT_NAMED => ChainError::NoWallet {
                    wallet: self.wallet.clone(),
                },
                code => ChainError::Refused {
                    method,
                    code,
                    message: error.message,
                },
            });
        }
        serde_json::from_value(reply.result).map_err(|error| malformed(error.to_string()))
    }

    /// As [`Self::call`]; `None` when the node knows no such thing.
    async fn find<T: DeserializeOwned>(
        &self,
        url: &Url,
        method: &'static str,
        params: Value,
    ) -> Result<Option<T>, ChainError> {
        match self.call(url, method, params).await {
            Ok(found) => Ok(Some(found)),
            Err(ChainError::Refused { code: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn header(&self, block: &str) -> Result<Option<Header>, ChainError> {
        self.find(&self.url, "getblockheader", json!([block, true])).await
    }
}

#[async_trait]
impl ChainSource for Bitcoind {
    async fn network(&self) -> Result<BitcoinNetwork, ChainError> {
        let info: ChainInfo = self.call(&self.url, "getblockchaininfo", json!([])).await?;
        let _: Value = self.call(&self.wallet_url, "getwalletinfo", json!([])).await?;
        match info.chain.as_str() {
            "main" => Ok(BitcoinNetwork::Mainnet),
            "test" | "testnet4" => Ok(BitcoinNetwork::Testnet),
            "signet" => Ok(BitcoinNetwork::Signet),
            "regtest" => Ok(BitcoinNetwork::Regtest),
            chain => Err(ChainError::Malformed {
                method: "getblockchaininfo",
                reason: format!("unknown chain {chain:?}"),
            }),
        }
    }

    async fn tip(&self) -> Result<Tip, ChainError> {
        let info: ChainInfo = self.call(&self.url, "getblockchaininfo", json!([])).await?;
        Ok(Tip {
            height: info.blocks,
            block: hash_of("getblockchaininfo", &info.bestblockhash)?,
        })
    }

    async fn fresh_script(&self) -> Result<Vec<u8>, ChainError> {
        let address: String = self
            .call(&self.wallet_url, "getnewaddress", json!([LABEL, "bech32"]))
            .await?;
        let info: AddressInfo = self
            .call(&self.wallet_url, "getaddressinfo", json!([address]))
            .await?;
        bytes_of("getaddressinfo", &info.script_pub_key)
    }

    async fn transaction(&self, txid: [u8; 32]) -> Result<Option<OwnTransaction>, ChainError> {
        let method = "gettransaction";
        let params = json!([shown(txid), true]);
        let Some(known): Option<WalletTransaction> = self.find(&self.wallet_url, method, params).await?
        else {
            return Ok(None);
        };
        let standing = match (known.confirmations, known.blockhash, known.blockheight) {
            (..=-1, ..) => Standing::Replaced,
            (0, ..) => Standing::Unconfirmed,
            (depth, Some(block), Some(height)) => Standing::Confirmed(Place {
                block: hash_of(method, &block)?,
                height,
                depth: u32::try_from(depth).unwrap_or(u32::MAX),
            }),
            _ => {
                return Err(ChainError::Malformed {
                    method,
                    reason: "confirmed in no block".to_owned(),
                });
            }
        };
        let outputs = outputs_of(method, &bytes_of(method, &known.hex)?)?;
        Ok(Some(OwnTransaction { standing, outputs }))
    }

    async fn output(&self, outpoint: OutPoint) -> Result<FundingFacts, ChainError> {
        let method = "gettxout";
        let ask = |mempool: bool| json!([shown(outpoint.txid), outpoint.vout, mempool]);
        let found: Option<UnspentOutput> = self.call(&self.url, method, ask(false)).await?;
        let Some(found) = found else {
            let waits: Option<UnspentOutput> = self.call(&self.url, method, ask(true)).await?;
            return Ok(match waits {
                Some(_) => FundingFacts::Unconfirmed,
                None => FundingFacts::Gone,
            });
        };
        let tip = self
            .header(&found.bestblock)
            .await?
            .filter(|tip| tip.confirmations > 0);
        let height = tip.and_then(|tip| (tip.height + 1).checked_sub(found.confirmations));
        let Some(height) = height else {
            // The chain changed between the two questions.
            return Ok(FundingFacts::Unconfirmed);
        };
        let block: String = self.call(&self.url, "getblockhash", json!([height])).await?;
        let output = TxOutput {
            script: bytes_of(method, &found.script_pub_key.hex)?,
            sats: sats_of(found.value),
        };
        let place = Place {
            block: hash_of("getblockhash", &block)?,
            height,
            depth: found.confirmations,
        };
        Ok(FundingFacts::Unspent(output, place))
    }

    async fn depth(&self, block: [u8; 32]) -> Result<Option<u32>, ChainError> {
        let header = self.header(&shown(block)).await?;
        Ok(header.and_then(|header| u32::try_from(header.confirmations).ok()))
    }

    async fn fee_floor(&self) -> Result<u64, ChainError> {
        let info: MempoolInfo = self.call(&self.url, "getmempoolinfo", json!([])).await?;
        Ok(sats_of(info.mempoolminfee).max(sats_of(info.minrelaytxfee)))
    }

    async fn broadcast(&self, transaction: &[u8]) -> Result<(), ChainError> {
        let params = json!([hex::encode(transaction)]);
        match self.call::<Value>(&self.url, "sendrawtransaction", params).await {
            Ok(_)
            | Err(ChainError::Refused {
                code: KNOWN_ALREADY, ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    result: Value,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    bestblockhash: String,
}

#[derive(Deserialize)]
struct AddressInfo {
    #[serde(rename = "scriptPubKey")]
    script_pub_key: String,
}

#[derive(Deserialize)]
struct WalletTransaction {
    confirmations: i64,
    blockhash: Option<String>,
    blockheight: Option<u32>,
    hex: String,
}

#[derive(Deserialize)]
struct UnspentOutput {
    bestblock: String,
    confirmations: u32,
    value: f64,
    #[serde(rename = "scriptPubKey")]
    script_pub_key: ScriptHex,
}

#[derive(Deserialize)]
struct ScriptHex {
    hex: String,
}

#[derive(Deserialize)]
struct Header {
    confirmations: i64,
    height: u32,
}

#[derive(Deserialize)]
struct MempoolInfo {
    mempoolminfee: f64,
    minrelaytxfee: f64,
}

/// Bitcoins as the RPC writes them, in sats. Eight decimals of at most 21 million are exact in a double once rounded.
fn sats_of(bitcoins: f64) -> u64 {
    (bitcoins * 100_000_000.0).round() as u64
}

/// A hash as the RPC writes it: reversed.
fn shown(mut hash: [u8; 32]) -> String {
    hash.reverse();
    hex::encode(hash)
}

fn hash_of(method: &'static str, text: &str) -> Result<[u8; 32], ChainError> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|error| ChainError::Malformed {
        method,
        reason: error.to_string(),
    })?;
    hash.reverse();
    Ok(hash)
}

fn bytes_of(method: &'static str, text: &str) -> Result<Vec<u8>, ChainError> {
    hex::decode(text).map_err(|error| ChainError::Malformed {
        method,
        reason: error.to_string(),
    })
}

fn outputs_of(method: &'static str, transaction: &[u8]) -> Result<Vec<TxOutput>, ChainError> {
    let transaction: Transaction = deserialize(transaction).map_err(|error| ChainError::Malformed {
        method,
        reason: error.to_string(),
    })?;
    let outputs = transaction.output.into_iter().map(|output| TxOutput {
        script: output.script_pubkey.into_bytes(),
        sats: output.value.to_sat(),
    });
    Ok(outputs.collect())
}
