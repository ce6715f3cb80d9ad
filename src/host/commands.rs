//! The operator's commands through the Bitcoin node's own command line: `blvm-mesh status` and the like.
//!
//! They are those of this program's command line that look, and the few that send or change a price. Whoever may give the node
//! commands is the operator; all the same what leaves the wallet through this door is bounded by the caps of `[payments]`
//! alone, because the node gives a command to whoever holds its JSON-RPC password. The treasury is paid, and the wallet
//! looked at, over this module's own socket.

use clap::{CommandFactory, Parser};
use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_NETWORK_PAGE;
use mesh_core::routing_policy::TrafficClass;
use node_ipc::{CliArg, CliSpec, CliSubcommand, InvocationAnswer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::events::EventCounts;
use super::publish::PublishCounts;
use crate::admin::{
    AdminError, AdminService, DiscoverParams, DoneReply, ExplainParams, LedgerParams, LedgerReply,
    NetworkParams, QuoteParams, Request, SendParams, SetPriceParams, Text,
};
use crate::cli::{audit, fairness, fees, show, treasury};
use crate::ledger::{AuditReport, MAX_LEDGER_PAGE};

/// The version of the node's description of commands.
const SPEC_VERSION: u32 = 1;

/// Most arguments and bytes of a command line that are read: a node bounds neither, and the largest payload in hexadecimal
/// has half a mebibyte.
const MAX_ARGS: usize = 32;
const MAX_ARG_BYTES: usize = 2 * mesh_core::limits::MAX_PAYLOAD_BYTES + 4096;

/// Exit codes, as on the command line.
const REFUSED: i32 = 1;
const USAGE: i32 = 2;

/// Ledger entries shown unless told otherwise.
const LEDGER_ENTRIES: usize = 20;

#[derive(Parser)]
#[command(
    name = "blvm-mesh",
    about = "Payment-gated mesh networking for Bitcoin nodes",
    disable_help_subcommand = true
)]
enum NodeCommand {
    /// Show what the mesh node knows of itself
    Status(Output),
    /// Show its neighbours
    Peers(Output),
    /// Show the routes it knows, or why one of them would be taken
    Routes {
        /// Show every way to this node, and each term that it is compared by
        #[arg(long, value_name = "NODE_ID")]
        explain: Option<NodeId>,
        #[command(flatten)]
        output: Output,
    },
    /// Show who earns what the mesh node pays, and what follows from it
    Shares(Output),
    /// Show what nodes announced of themselves, and how far they are
    Network {
        /// Where the last page ended
        #[arg(long, value_name = "NODE_ID")]
        after: Option<NodeId>,
        #[command(flatten)]
        output: Output,
    },
    /// Find routes to a node
    Discover {
        /// The node's id, 64 hexadecimal digits
        #[arg(long, value_name = "NODE_ID")]
        destination: NodeId,
        /// Ask the network even if routes are known
        #[arg(long)]
        refresh: bool,
        #[command(flatten)]
        search: Search,
        #[command(flatten)]
        output: Output,
    },
    /// Ask what carrying something to a node costs
    Quote {
        /// The node's id, 64 hexadecimal digits
        #[arg(long, value_name = "NODE_ID")]
        destination: NodeId,
        /// How many units (started KiB of payload)
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        units: u64,
        #[command(flatten)]
        search: Search,
        #[command(flatten)]
        output: Output,
    },
    /// Send one packet to a node, paid within the caps of [payments]
    Send {
        /// The node's id, 64 hexadecimal digits
        #[arg(long, value_name = "NODE_ID")]
        destination: NodeId,
        /// The payload
        #[arg(long)]
        payload: String,
        /// The payload is hexadecimal
        #[arg(long)]
        hex: bool,
        /// The protocol it is for, at most 64 bytes
        #[arg(long, default_value = "")]
        protocol: String,
        /// How long the packet may take, in seconds
        #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
        ttl: u64,
        #[command(flatten)]
        search: Search,
        #[command(flatten)]
        output: Output,
    },
    /// Change what the node charges, until it is restarted
    Price {
        /// Millisatoshi per unit
        #[arg(long, value_name = "MSAT")]
        msat_per_unit: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Show the newest entries of the ledger
    Ledger {
        /// How many
        #[arg(long, default_value_t = LEDGER_ENTRIES, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        output: Output,
    },
    /// Show what was earned, spent and is owed: shares, the treasury's part, Lightning fees
    Fees(Output),
    /// Show what the treasury is owed and was paid
    Treasury(Output),
    /// Derive every figure again from the ledger and compare; findings are exit code 1
    Audit(Output),
    /// Show which of the node's events came, and what was told to other modules
    Events(Output),
}

#[derive(clap::Args, Clone, Copy)]
struct Output {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Show node ids in full (JSON always does)
    #[arg(long)]
    full_ids: bool,
}

#[derive(clap::Args)]
struct Search {
    /// Longest route wanted, in hops
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    max_hops: u8,
    /// How long to wait for answers, in seconds; the node itself waits for a minute
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=40))]
    timeout: u64,
}

impl Search {
    fn timeout_ms(&self) -> u64 {
        self.timeout.saturating_mul(1000)
    }
}

/// The commands as the node wants them described.
pub fn spec() -> CliSpec {
    let command = NodeCommand::command();
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string);
    let arg = |arg: &clap::Arg| CliArg {
        name: arg.get_id().to_string(),
        long_name: arg.get_long().map(str::to_owned),
        short_name: arg.get_short().map(String::from),
        required: Some(arg.is_required_set()),
        takes_value: Some(arg.get_action().takes_values()),
        default: arg
            .get_default_values()
            .first()
            .filter(|_| arg.get_action().takes_values())
            .map(|value| value.to_string_lossy().into_owned()),
    };
    CliSpec {
        version: SPEC_VERSION,
        name: command.get_name().to_owned(),
        about: text(command.get_about()),
        subcommands: command
            .get_subcommands()
            .map(|subcommand| CliSubcommand {
                name: subcommand.get_name().to_owned(),
                about: text(subcommand.get_about()),
                args: subcommand
                    .get_arguments()
                    .filter(|found| found.get_id() != "help")
                    .map(arg)
                    .collect(),
            })
            .collect(),
    }
}

/// What commands are answered from.
pub struct Operator<'a> {
    /// The service of the operator's own socket.
    pub admin: &'a AdminService,
    /// The node's events that came.
    pub events: &'a EventCounts,
    /// What others were told.
    pub published: &'a PublishCounts,
}

/// What a command printed and how it ended.
struct Printed {
    stdout: String,
    exit_code: i32,
}

/// Why a command came to nothing.
enum Failure {
    Usage(String),
    Refused(Box<AdminError>),
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// Carries a command out.
pub async fn answer(operator: Operator<'_>, subcommand: &str, args: &[String]) -> InvocationAnswer {
    let done = match parse(subcommand, args) {
        Ok(command) => operator.run(command).await,
        Err(failure) => Err(failure),
    };
    let (stdout, stderr, exit_code) = match done {
        Ok(printed) => (with_line_end(&printed.stdout), String::new(), printed.exit_code),
        Err(Failure::Usage(told)) => (String::new(), with_line_end(&told), USAGE),
        Err(Failure::Refused(error)) => {
            let AdminError {
                code,
                message,
                advice,
                ..
            } = *error;
            (
                String::new(),
                format!("error: {message} ({code})\n{advice}\n"),
                REFUSED,
            )
        }
    };
    InvocationAnswer::Cli {
        stdout,
        stderr,
        exit_code,
    }
}

fn with_line_end(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

fn parse(subcommand: &str, args: &[String]) -> Result<NodeCommand, Failure> {
    let bytes = args
        .iter()
        .map(String::len)
        .fold(subcommand.len(), usize::saturating_add);
    if args.len() > MAX_ARGS || bytes > MAX_ARG_BYTES {
        return Err(Failure::Usage(format!(
            "a command has at most {MAX_ARGS} arguments and {MAX_ARG_BYTES} bytes"
        )));
    }
    let line = ["blvm-mesh", subcommand]
        .into_iter()
        .chain(args.iter().map(String::as_str));
    // Asked for help it is an error to clap, too: what is printed is the help.
    NodeCommand::try_parse_from(line).map_err(|error| Failure::Usage(error.to_string()))
}

impl Operator<'_> {
    async fn run(&self, command: NodeCommand) -> Result<Printed, Failure> {
        match command {
            NodeCommand::Status(output) => self.ask(output, Request::Status, show::status).await,
            NodeCommand::Peers(output) => self.ask(output, Request::Peers, show::peers).await,
            NodeCommand::Routes { explain, output } => self.routes(explain, output).await,
            NodeCommand::Shares(output) => {
                let ids = show::Ids::new(output.full_ids);
                self.ask(output, Request::Shares, |reply| fairness::shares(reply, ids))
                    .await
            }
            NodeCommand::Network { after, output } => {
                let params = NetworkParams {
                    after: after.map(Text),
                    max_nodes: MAX_NETWORK_PAGE,
                };
                let ids = show::Ids::new(output.full_ids);
                self.ask(output, Request::Network(params), |reply| {
                    show::network(reply, ids)
                })
                .await
            }
            NodeCommand::Ledger { limit, output } => self.ledger(limit, output).await,
            NodeCommand::Fees(output) => self.ask(output, Request::Fees, fees::show).await,
            NodeCommand::Treasury(output) => self.ask(output, Request::Treasury, treasury::show).await,
            NodeCommand::Audit(output) => self.audit(output).await,
            NodeCommand::Events(output) => Ok(self.events(output)),
            command => self.act(command).await,
        }
    }

    /// What goes out into the mesh, or changes something.
    async fn act(&self, command: NodeCommand) -> Result<Printed, Failure> {
        match command {
            NodeCommand::Discover {
                destination,
                refresh,
                search,
                output,
            } => {
                let params = DiscoverParams {
                    destination: Text(destination),
                    max_hops: search.max_hops,
                    timeout_ms: search.timeout_ms(),
                    refresh,
                };
                let ids = show::Ids::new(output.full_ids);
                self.ask(output, Request::Discover(params), |reply| {
                    show::routes(reply, ids)
                })
                .await
            }
            NodeCommand::Quote {
                destination,
                units,
                search,
                output,
            } => {
                let params = QuoteParams {
                    destination: Text(destination),
                    units,
                    class: TrafficClass::Paid,
                    max_hops: search.max_hops,
                    timeout_ms: search.timeout_ms(),
                };
                let ids = show::Ids::new(output.full_ids);
                self.ask(output, Request::Quote(params), |reply| show::quote(reply, ids))
                    .await
            }
            NodeCommand::Send {
                destination,
                payload,
                hex,
                protocol,
                ttl,
                search,
                output,
            } => {
                let params = SendParams {
                    destination: Text(destination),
                    // Checked where it is read.
                    payload_hex: if hex { payload } else { hex::encode(payload) },
                    protocol,
                    class: TrafficClass::Paid,
                    ttl_ms: ttl.saturating_mul(1000),
                    max_hops: search.max_hops,
                    timeout_ms: search.timeout_ms(),
                    max_total_msat: None,
                    max_fee_msat: None,
                };
                let ids = show::Ids::new(output.full_ids);
                self.ask(output, Request::Send(params), |reply| show::sent(reply, ids))
                    .await
            }
            NodeCommand::Price {
                msat_per_unit,
                output,
            } => {
                let request = Request::SetPrice(SetPriceParams { msat_per_unit });
                let told = |DoneReply {}: &DoneReply| {
                    format!(
                        "{msat_per_unit} msat per unit from now on; prices signed before hold until they expire"
                    )
                };
                self.ask(output, request, told).await
            }
            _ => Err(Failure::Usage("not a command that acts; see --help".to_owned())),
        }
    }

    async fn routes(&self, explain: Option<NodeId>, output: Output) -> Result<Printed, Failure> {
        let ids = show::Ids::new(output.full_ids);
        let Some(destination) = explain else {
            let shown = |reply: &_| show::routes(reply, ids);
            return self.ask(output, Request::Routes, shown).await;
        };
        let params = ExplainParams {
            destination: Text(destination),
        };
        let shown = |reply: &_| fairness::explained(reply, ids);
        self.ask(output, Request::Explain(params), shown).await
    }

    async fn ask<T: DeserializeOwned + Serialize>(
        &self,
        output: Output,
        request: Request,
        show: impl FnOnce(&T) -> String,
    ) -> Result<Printed, Failure> {
        let reply: T = self.reply(request).await?;
        Ok(print(output, &reply, show))
    }

    async fn reply<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failure> {
        let value = self.admin.answer(request).await?;
        serde_json::from_value(value)
            .map_err(|error| Failure::Usage(format!("the answer cannot be shown: {error}")))
    }

    async fn ledger(&self, limit: usize, output: Output) -> Result<Printed, Failure> {
        let params = LedgerParams {
            newest_first: true,
            limit: limit.clamp(1, MAX_LEDGER_PAGE),
            ..LedgerParams::default()
        };
        let mut reply: LedgerReply = self.reply(Request::Ledger(params)).await?;
        reply.entries.reverse();
        let ids = show::Ids::new(output.full_ids);
        Ok(print(output, &reply, |reply| show::ledger(&reply.entries, ids)))
    }

    async fn audit(&self, output: Output) -> Result<Printed, Failure> {
        let report: AuditReport = self.reply(Request::Audit).await?;
        let exit_code = if report.is_clean() { 0 } else { REFUSED };
        let printed = print(output, &report, audit::show);
        Ok(Printed { exit_code, ..printed })
    }

    fn events(&self, output: Output) -> Printed {
        #[derive(Serialize)]
        struct Counts {
            events: Vec<(&'static str, u64)>,
            published: [(&'static str, u64); 4],
        }
        let counts = Counts {
            events: self.events.all(),
            published: self.published.all(),
        };
        print(output, &counts, |counts| {
            let mut table = show::table(&["event", "count"], &[1]);
            for (name, count) in counts.events.iter().chain(&counts.published) {
                table.add_row([(*name).to_owned(), count.to_string()]);
            }
            table.to_string()
        })
    }
}

fn print<T: Serialize>(output: Output, reply: &T, show: impl FnOnce(&T) -> String) -> Printed {
    let stdout = match serde_json::to_string(reply) {
        Ok(json) if output.json => json,
        _ => show(reply),
    };
    Printed { stdout, exit_code: 0 }
}

#[cfg(test)]
mod tests;
