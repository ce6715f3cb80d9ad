//! `blvm-mesh wallet …`: what the node is paid with. All but `backup` and `restore` ask the running daemon.

#[cfg(feature = "ldk")]
use std::io::{self, Read};
use std::path::Path;

use clap::Subcommand;
use comfy_table::{Table, presets};

#[cfg(feature = "ldk")]
use super::print_answer;
use super::{CliError, Global, ask, locate};
use crate::admin::{
    DoneReply, Request, WalletAddressReply, WalletBalanceReply, WalletChannelsReply, WalletInfoReply,
    WalletOpenedReply, WalletParams,
};

/// Longest text that is read as the words of a seed, in bytes; 24 words have at most 215.
#[cfg(feature = "ldk")]
const MAX_WORDS_BYTES: u64 = 1024;

#[derive(Subcommand)]
pub(super) enum WalletCommand {
    /// Show which wallet it is
    Info,
    /// Make a fresh address to fund it on-chain
    Address,
    /// Show what it holds, in channels and on-chain
    Balance,
    /// Show its channels
    Channels,
    /// Open a channel; it can be used when its funding is confirmed
    OpenChannel {
        /// The other Lightning node, NODE_ID@HOST:PORT
        peer: String,
        /// What goes into the channel, in satoshi
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        sats: u64,
        /// How much of it is the other's from the start, in millisatoshi
        #[arg(long, default_value_t = 0, value_name = "MSAT")]
        push_msat: u64,
    },
    /// Close a channel; what is in it comes back on-chain
    CloseChannel {
        /// The channel's id, as `channels` shows it
        id: String,
        /// Close it without the other node: slower and dearer, for when it does not answer
        #[arg(long)]
        force: bool,
    },
    /// Show the words that bring the wallet back. Whoever reads them has its coins
    Backup,
    /// Bring a wallet back from its words, read from the standard input, where there is none yet
    Restore,
}

pub(super) async fn run(global: &Global, command: WalletCommand) -> Result<(), CliError> {
    match command {
        WalletCommand::Info => ask(global, Request::Wallet(WalletParams::Info {}), show_info).await,
        WalletCommand::Address => {
            let request = Request::Wallet(WalletParams::Address {});
            ask(global, request, |WalletAddressReply { address }| address.clone()).await
        }
        WalletCommand::Balance => ask(global, Request::Wallet(WalletParams::Balance {}), show_balance).await,
        WalletCommand::Channels => {
            ask(global, Request::Wallet(WalletParams::Channels {}), show_channels).await
        }
        WalletCommand::OpenChannel {
            peer,
            sats,
            push_msat,
        } => {
            let Some((node_id, address)) = peer.split_once('@') else {
                return Err(CliError::Usage(format!(
                    "{peer:?} is not a Lightning node; write NODE_ID@HOST:PORT"
                )));
            };
            let params = WalletParams::OpenChannel {
                node_id: node_id.to_owned(),
                address: address.to_owned(),
                sats,
                push_msat,
            };
            ask(global, Request::Wallet(params), |WalletOpenedReply { id }| {
                format!("opening channel {id}; `blvm-mesh wallet channels` shows when it is ready")
            })
            .await
        }
        WalletCommand::CloseChannel { id, force } => {
            let params = WalletParams::CloseChannel { id, force };
            ask(global, Request::Wallet(params), |DoneReply {}| {
                "closing; what is in it comes back on-chain".to_owned()
            })
            .await
        }
        WalletCommand::Backup => backup(global.json, &locate(global)?.data_dir),
        WalletCommand::Restore => restore(&locate(global)?.data_dir),
    }
}

#[cfg(feature = "ldk")]
fn backup(as_json: bool, data_dir: &Path) -> Result<(), CliError> {
    #[derive(serde::Serialize)]
    struct Backup<'w> {
        words: &'w str,
    }
    let words = crate::wallet::ldk::backup(data_dir).map_err(crate::wallet::ldk::LdkError::from)?;
    print_answer(as_json, &Backup { words: &words }, |backup| {
        backup.words.to_owned()
    })?;
    hint(
        "These words bring back the Lightning node's id and its coins on-chain, not what its channels hold. \
         Never run two nodes on them.",
    );
    Ok(())
}

#[cfg(feature = "ldk")]
fn restore(data_dir: &Path) -> Result<(), CliError> {
    use zeroize::Zeroizing;

    use crate::data_dir::DataDir;
    // Its lock is how a running daemon is noticed.
    let data_dir = DataDir::open(data_dir)?;
    let mut words = Zeroizing::new(String::new());
    let read = io::stdin()
        .lock()
        .take(MAX_WORDS_BYTES)
        .read_to_string(&mut words);
    read.map_err(|error| CliError::Failed(format!("cannot read the words: {error}")))?;
    crate::wallet::ldk::restore(&data_dir, &words).map_err(crate::wallet::ldk::LdkError::from)?;
    hint(
        "The wallet is in place; the next `blvm-mesh run` with [wallet] backend = \"ldk\" uses it. What was in channels is \
         not in the words: the other nodes close them when they see this one again, which pays it out on-chain.",
    );
    Ok(())
}

#[cfg(not(feature = "ldk"))]
fn backup(_as_json: bool, _data_dir: &Path) -> Result<(), CliError> {
    Err(no_ldk())
}

#[cfg(not(feature = "ldk"))]
fn restore(_data_dir: &Path) -> Result<(), CliError> {
    Err(no_ldk())
}

#[cfg(not(feature = "ldk"))]
fn no_ldk() -> CliError {
    CliError::Failed(
        "this build has no ldk, and only that wallet has words; build with --features ldk".into(),
    )
}

/// Beside the answer, where no script reads it.
#[cfg(feature = "ldk")]
fn hint(text: &str) {
    use std::io::Write;
    // Advice that cannot be shown is no failure.
    let _ = writeln!(io::stderr(), "{text}");
}

fn show_info(reply: &WalletInfoReply) -> String {
    let unknown = || "–".to_owned();
    let rows = [
        ("wallet", reply.backend.clone()),
        ("network", reply.network.clone().unwrap_or_else(unknown)),
        ("Lightning node", reply.node_id.clone().unwrap_or_else(unknown)),
        (
            "listening",
            reply
                .listen_addr
                .map_or_else(unknown, |address| address.to_string()),
        ),
    ];
    two_columns(rows)
}

fn show_balance(reply: &WalletBalanceReply) -> String {
    let msat = |amount: u64| format!("{amount} msat");
    let mut rows = vec![
        ("in channels", msat(reply.owned_msat)),
        ("can be paid now", msat(reply.spendable_msat)),
    ];
    if let Some(receivable) = reply.receivable_msat {
        rows.push(("can be received now", msat(receivable)));
    }
    rows.push(("on its way to others", msat(reply.outgoing_msat)));
    if let Some(coins) = &reply.on_chain {
        let sat = |amount: u64| format!("{amount} sat");
        rows.push(("on-chain", sat(coins.total_sats)));
        rows.push(("  can be spent now", sat(coins.spendable_sats)));
        rows.push(("  kept for closing", sat(coins.reserve_sats)));
        rows.push(("  coming back", sat(coins.closing_sats)));
    }
    two_columns(rows)
}

fn show_channels(reply: &WalletChannelsReply) -> String {
    if reply.channels.is_empty() {
        return "no channels; `blvm-mesh wallet open-channel` opens one".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "channel",
        "with",
        "sat",
        "ours (msat)",
        "can send",
        "can receive",
        "state",
    ]);
    for channel in &reply.channels {
        let state = match (channel.usable, channel.ready) {
            (true, _) => "usable",
            (false, true) => "other node away",
            (false, false) => "opening or closing",
        };
        table.add_row([
            channel.id.clone(),
            channel.peer.clone(),
            channel.value_sats.to_string(),
            channel.owned_msat.to_string(),
            channel.spendable_msat.to_string(),
            channel.receivable_msat.to_string(),
            state.to_owned(),
        ]);
    }
    table.to_string()
}

fn two_columns(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}
