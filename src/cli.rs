//! The command line: `blvm-mesh run` is the daemon, `demo` and `sim` stand alone, and every other command talks to a
//! running daemon over its admin socket; `ledger`, `fees` and `audit` also read the database of one that does not run.
//!
//! What was asked for goes to the standard output, everything else (logs, progress, errors) to the standard error.
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration.

pub(crate) mod audit;
mod books;
pub(crate) mod fairness;
pub(crate) mod fees;
mod ledger;
mod operator;
mod run;
pub(crate) mod show;
mod sim;
pub(crate) mod treasury;
mod wallet;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mesh_core::identity::NodeId;
use mesh_core::limits::{MAX_NETWORK_PAGE, MAX_PAYLOAD_BYTES};
use mesh_core::routing_policy::TrafficClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::admin::{
    AdminClient, ClientError, DiscoverParams, DoneReply, ExplainParams, ListenParams, NetworkParams,
    QuoteParams, Request, SendParams, SetPriceParams, Text,
};
use crate::config::{Config, ConfigError};
use crate::daemon::DaemonError;
use crate::data_dir::{self, DataDirError};
use crate::demo::DemoError;
use crate::operator::OperatorError;
use crate::store::StoreError;

/// How long the runtime may take to let go of blocked threads (a name look-up that hangs) before the process ends.
const RUNTIME_STOP: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(
    name = "blvm-mesh",
    version,
    about = "Payment-gated mesh networking for Bitcoin nodes"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Where the node's state is kept [default: ~/.blvm-mesh, or data_dir of the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration [default: config.toml in the data directory; without it, the defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON, one object to a line
    #[arg(long, global = true)]
    json: bool,
    /// Show node ids in tables in full (JSON always does)
    #[arg(long, global = true)]
    full_ids: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node until SIGTERM or SIGINT
    Run,
    /// Show what the running node knows of itself
    Status,
    /// Show its neighbours
    Peers,
    /// Show the routes it knows, or why one of them would be taken
    Routes {
        /// Show every way to this node, and each term that it is compared by
        #[arg(long, value_name = "NODE_ID")]
        explain: Option<NodeId>,
    },
    /// Show who earns what this node pays, and what follows from it
    Shares,
    /// Show what nodes announced of themselves, and how far they are
    Network {
        /// Where the last page ended
        #[arg(long, value_name = "NODE_ID")]
        after: Option<NodeId>,
    },
    /// Change what the node charges, until it is restarted
    Price {
        /// Millisatoshi per unit (a started KiB of payload)
        msat_per_unit: u64,
    },
    /// Find routes to a node
    Discover {
        /// The node's id, 64 hexadecimal digits
        destination: NodeId,
        /// Ask the network even if routes are known
        #[arg(long)]
        refresh: bool,
        #[command(flatten)]
        search: Search,
    },
    /// Ask what carrying something to a node costs
    Quote {
        /// The node's id, 64 hexadecimal digits
        destination: NodeId,
        /// How many units (started KiB of payload)
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        units: u64,
        /// What is to be carried: paid, open, bitcoin_p2p, governance or stratum_setup
        #[arg(long, default_value_t = TrafficClass::Paid)]
        class: TrafficClass,
        #[command(flatten)]
        search: Search,
    },
    /// Send one packet to a node
    Send {
        /// The node's id, 64 hexadecimal digits
        destination: NodeId,
        /// The payload; read from the standard input when left out
        payload: Option<String>,
        /// The payload argument is hexadecimal
        #[arg(long, requires = "payload")]
        hex: bool,
        /// The protocol it is for, at most 64 bytes
        #[arg(long, default_value = "")]
        protocol: String,
        /// What is to be carried: paid, open, bitcoin_p2p, governance or stratum_setup
        #[arg(long, default_value_t = TrafficClass::Paid)]
        class: TrafficClass,
        /// How long the packet may take, in seconds
        #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
        ttl: u64,
        /// The most that all shares of a purchase may cost, in msat; 0 pays nothing [default: auto-pay decides, within the
        /// caps in [payments] of the daemon's configuration]
        #[arg(long, value_name = "MSAT")]
        max_total_msat: Option<u64>,
        /// The most that Lightning fees may cost per payment, in msat [default: by the daemon's configuration]
        #[arg(long, value_name = "MSAT")]
        max_fee_msat: Option<u64>,
        #[command(flatten)]
        search: Search,
    },
    /// Show the ledger: every movement of money, of the running node or of one that does not run
    Ledger(ledger::LedgerArgs),
    /// Show what was earned, spent and is owed, by the ledger
    Fees,
    /// Derive every figure again from the ledger and compare; findings are exit code 1
    Audit,
    /// Show what the treasury is owed, or pay it
    #[command(subcommand)]
    Treasury(treasury::TreasuryCommand),
    /// Make an operator's key, certify nodes with it, or have this node show its certificate
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Show what arrives, until interrupted
    Listen {
        /// Only this protocol ("": packets without one)
        #[arg(long)]
        protocol: Option<String>,
    },
    /// Look at the node's wallet, and at the Lightning node in it
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Play five nodes, real payments and ten crimes on this machine
    Demo,
    /// Play whole networks in virtual time, as scenario files say, and judge their routes
    Sim {
        /// The scenarios (TOML)
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Play each under this seed only
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
}

#[derive(Args)]
struct Search {
    /// Longest route wanted, in hops
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    max_hops: u8,
    /// How long to wait for answers, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=120))]
    timeout: u64,
}

impl Search {
    fn timeout_ms(&self) -> u64 {
        self.timeout.saturating_mul(1000)
    }
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[cfg(feature = "ldk")]
    #[error(transparent)]
    Ldk(#[from] crate::wallet::ldk::LdkError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("{0}")]
    Failed(String),
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::DataDir(_) | Self::Usage(_) => 2,
            Self::Daemon(error) if error.is_configuration() => 2,
            // Whoever reads has seen enough (`… | head`): nothing failed.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }

    fn report(&self, as_json: bool) {
        if self.exit_code() == 0 {
            return;
        }
        let line = match self {
            Self::Client(ClientError::Refused(error)) if as_json => json!({ "error": error }).to_string(),
            error if as_json => {
                let code = if error.exit_code() == 2 { "usage" } else { "failed" };
                json!({ "error": { "code": code, "message": error.to_string() } }).to_string()
            }
            error => format!("error: {error}"),
        };
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// The program: reads the arguments, does what they say, and answers with the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_json = cli.global.json;
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(as_json);
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), CliError> {
    // The daemon and the demo use all cores; one request to a socket needs no threads.
    let mut builder = match cli.command {
        Command::Run | Command::Demo => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build();
    let runtime = runtime
        .map_err(|error| CliError::Failed(format!("cannot start: {error}; check the system's limits")))?;
    let done = runtime.block_on(dispatch(cli));
    runtime.shutdown_timeout(RUNTIME_STOP);
    done
}

async fn dispatch(cli: Cli) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    let ids = show::Ids::new(global.full_ids);
    match command {
        Command::Run => run::run(&global).await,
        Command::Demo => demo(&global).await,
        Command::Status => ask(&global, Request::Status, show::status).await,
        Command::Peers => ask(&global, Request::Peers, show::peers).await,
        Command::Routes { explain: None } => {
            ask(&global, Request::Routes, |reply| show::routes(reply, ids)).await
        }
        Command::Routes {
            explain: Some(destination),
        } => {
            let params = ExplainParams {
                destination: Text(destination),
            };
            ask(&global, Request::Explain(params), |reply| {
                fairness::explained(reply, ids)
            })
            .await
        }
        Command::Shares => ask(&global, Request::Shares, |reply| fairness::shares(reply, ids)).await,
        Command::Network { after } => {
            let params = NetworkParams {
                after: after.map(Text),
                max_nodes: MAX_NETWORK_PAGE,
            };
            ask(&global, Request::Network(params), |reply| {
                show::network(reply, ids)
            })
            .await
        }
        Command::Price { msat_per_unit } => {
            let params = SetPriceParams { msat_per_unit };
            ask(&global, Request::SetPrice(params), |DoneReply {}| {
                format!(
                    "{msat_per_unit} msat per unit from now on; prices signed before hold until they expire, and after \
                     a restart the configuration's counts"
                )
            })
            .await
        }
        Command::Discover {
            destination,
            refresh,
            search,
        } => {
            let params = DiscoverParams {
                destination: Text(destination),
                max_hops: search.max_hops,
                timeout_ms: search.timeout_ms(),
                refresh,
            };
            ask(&global, Request::Discover(params), |reply| {
                show::routes(reply, ids)
            })
            .await
        }
        Command::Quote {
            destination,
            units,
            class,
            search,
        } => {
            let params = QuoteParams {
                destination: Text(destination),
                units,
                class,
                max_hops: search.max_hops,
                timeout_ms: search.timeout_ms(),
            };
            ask(&global, Request::Quote(params), |reply| show::quote(reply, ids)).await
        }
        Command::Send {
            destination,
            payload,
            hex,
            protocol,
            class,
            ttl,
            max_total_msat,
            max_fee_msat,
            search,
        } => {
            let params = SendParams {
                destination: Text(destination),
                payload_hex: payload_hex(payload, hex)?,
                protocol,
                class,
                ttl_ms: ttl.saturating_mul(1000),
                max_hops: search.max_hops,
                timeout_ms: search.timeout_ms(),
                max_total_msat,
                max_fee_msat,
            };
            ask(&global, Request::Send(params), |reply| show::sent(reply, ids)).await
        }
        Command::Ledger(args) => ledger::run(&global, args, ids).await,
        Command::Fees => fees::run(&global).await,
        Command::Treasury(command) => treasury::run(&global, command).await,
        Command::Audit => audit::run(&global).await,
        Command::Sim { files, seed } => sim::run(&files, seed, global.json),
        Command::Operator(command) => operator::run(&global, command),
        Command::Wallet(command) => wallet::run(&global, command).await,
        Command::Listen { protocol } => listen(&global, protocol, ids).await,
    }
}

/// Makes one request to the daemon and shows the answer.
async fn ask<T: DeserializeOwned + Serialize>(
    global: &Global,
    request: Request,
    show: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    let mut client = AdminClient::connect(&admin_socket(global)?).await?;
    let reply: T = client.call(&request).await?;
    print_answer(global.json, &reply, show)
}

async fn listen(global: &Global, protocol: Option<String>, ids: show::Ids) -> Result<(), CliError> {
    let mut client = AdminClient::connect(&admin_socket(global)?).await?;
    client.listen(ListenParams { protocol }).await?;
    while let Some(delivery) = client.next_delivery().await? {
        print_answer(global.json, &delivery, |delivery| show::delivery(delivery, ids))?;
    }
    Err(CliError::Failed("the daemon has stopped".into()))
}

async fn demo(global: &Global) -> Result<(), CliError> {
    let progress = |line: &str| {
        // Progress that cannot be shown is no reason to stop.
        let _ = writeln!(io::stderr(), "{line}");
    };
    let report = crate::demo::play(&progress).await?;
    print_answer(global.json, &report, crate::demo::Report::to_text)?;
    match report.ok {
        true => Ok(()),
        false => Err(CliError::Failed("the demo's report shows what is wrong".into())),
    }
}

/// Shows an answer at once, also through a pipe.
fn print_answer<T: Serialize>(
    as_json: bool,
    answer: &T,
    show: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    let text = if as_json {
        serde_json::to_string(answer).map_err(|error| CliError::Failed(error.to_string()))?
    } else {
        show(answer)
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}

/// The payload as it travels to the daemon. From the standard input at most one byte more than allowed is read: the
/// daemon then says why it is too much.
fn payload_hex(argument: Option<String>, is_hex: bool) -> Result<String, CliError> {
    match argument {
        Some(digits) if is_hex => match hex::decode(&digits) {
            Ok(payload) => Ok(hex::encode(payload)),
            Err(error) => Err(CliError::Usage(format!(
                "the payload is not hexadecimal: {error}"
            ))),
        },
        Some(text) => Ok(hex::encode(text)),
        None => {
            let mut payload = Vec::new();
            let read = io::stdin()
                .lock()
                .take(MAX_PAYLOAD_BYTES as u64 + 1)
                .read_to_end(&mut payload);
            read.map_err(|error| CliError::Failed(format!("cannot read the payload: {error}")))?;
            Ok(hex::encode(payload))
        }
    }
}

/// What the options and the configuration say together.
struct Place {
    config: Config,
    /// The file it was read from, or the one that was looked for.
    file: PathBuf,
    /// Whether that file was there.
    found: bool,
    data_dir: PathBuf,
}

/// Reads the configuration: the file that is named, which must exist, or `config.toml` in the data directory, which
/// need not.
fn locate(global: &Global) -> Result<Place, CliError> {
    let default_dir = match &global.data_dir {
        Some(given) => given.clone(),
        None => data_dir::default_path()?,
    };
    let (file, config) = match &global.config {
        Some(file) => (file.clone(), Some(Config::load(file)?)),
        None => {
            let file = default_dir.join(data_dir::CONFIG_FILE);
            let config = load_if_there(&file)?;
            (file, config)
        }
    };
    let found = config.is_some();
    let config = config.unwrap_or_default();
    let data_dir = match (&global.data_dir, &config.mesh.data_dir) {
        (None, Some(configured)) => data_dir::expand_home(configured)?,
        _ => default_dir,
    };
    Ok(Place {
        config,
        file,
        found,
        data_dir,
    })
}

fn load_if_there(file: &Path) -> Result<Option<Config>, ConfigError> {
    match Config::load(file) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the daemon listens. With a directory given the configuration does not matter, and is not read: a daemon can
/// be asked even while its configuration is being edited.
fn admin_socket(global: &Global) -> Result<PathBuf, CliError> {
    match &global.data_dir {
        Some(given) => Ok(data_dir::admin_socket(given)),
        None => Ok(data_dir::admin_socket(&locate(global)?.data_dir)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["blvm-mesh"], arguments].concat())
    }

    #[test]
    fn the_arguments_are_free_of_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_for_all_commands_may_stand_anywhere() {
        for arguments in [
            &["--json", "--data-dir", "/d", "status"][..],
            &["status", "--data-dir", "/d", "--json"],
        ] {
            let cli = parse(arguments).unwrap();
            assert!(cli.global.json);
            assert_eq!(admin_socket(&cli.global).unwrap(), Path::new("/d/admin.sock"));
        }
    }

    #[test]
    fn wrong_usage_is_refused_by_the_parser() {
        let id = "ab".repeat(32);
        for arguments in [
            &["fly"][..],
            &["discover"],
            &["discover", "abc"],
            &["discover", &id, "--max-hops", "11"],
            &["discover", &id, "--timeout", "0"],
            &["quote", &id],
            &["quote", &id, "--units", "0"],
            &["send", &id, "x", "--class", "free"],
            &["send", &id, "--hex"],
            &["send", &id, "x", "--max-total-msat", "-1"],
            &["wallet"],
            &["wallet", "open-channel", "02ab@127.0.0.1:9735"],
            &["wallet", "open-channel", "02ab@127.0.0.1:9735", "0"],
            &["wallet", "close-channel"],
        ] {
            let error = parse(arguments)
                .err()
                .unwrap_or_else(|| panic!("{arguments:?} was taken"));
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
        assert!(parse(&["send", &id, "x", "--class", "open", "--ttl", "60"]).is_ok());
    }

    #[test]
    fn payloads_are_taken_as_text_or_hexadecimal() {
        assert_eq!(payload_hex(Some("hé".into()), false).unwrap(), "68c3a9");
        assert_eq!(payload_hex(Some("00FF".into()), true).unwrap(), "00ff");
        assert_eq!(payload_hex(Some("0".into()), true).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn operators_and_explanations_are_asked_for_with_what_they_need() {
        let node = "01".repeat(32);
        for line in [
            vec!["shares"],
            vec!["routes"],
            vec!["routes", "--explain", &node],
            vec!["operator", "init", "--key", "k"],
            vec!["operator", "certify", &node, "--days", "3653", "--out", "f"],
            vec!["operator", "join", "-"],
        ] {
            assert!(parse(&line).is_ok(), "{line:?}");
        }
        for line in [
            vec!["routes", "--explain"],
            vec!["routes", "--explain", "01"],
            vec!["operator"],
            vec!["operator", "certify"],
            vec!["operator", "certify", &node, "--days", "0"],
            vec!["operator", "certify", &node, "--days", "3654"],
            vec!["operator", "join"],
        ] {
            assert!(parse(&line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_missing_default_configuration_is_the_defaults_a_missing_named_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        let global = |arguments: &[&str]| parse(&[arguments, &["status"]].concat()).unwrap().global;

        let place = locate(&global(&["--data-dir", dir])).unwrap();
        assert!(!place.found);
        assert_eq!(
            (place.config, place.data_dir.as_path()),
            (Config::default(), folder.path())
        );

        let named = folder.path().join("other.toml");
        let named = named.to_str().unwrap();
        let error = locate(&global(&["--config", named])).err().unwrap();
        assert_eq!(error.exit_code(), 2);

        std::fs::write(named, "[mesh]\ndata_dir = \"/elsewhere\"").unwrap();
        assert_eq!(
            locate(&global(&["--config", named])).unwrap().data_dir,
            Path::new("/elsewhere")
        );
        let both = locate(&global(&["--config", named, "--data-dir", dir])).unwrap();
        assert_eq!(
            both.data_dir,
            folder.path(),
            "the option goes before the configuration"
        );

        std::fs::write(folder.path().join("config.toml"), "[mesh]\nmode = \"fre\"").unwrap();
        assert_eq!(
            locate(&global(&["--data-dir", dir])).err().unwrap().exit_code(),
            2
        );
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let closed = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.exit_code(), 0);
        assert_eq!(CliError::Output(io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }
}
