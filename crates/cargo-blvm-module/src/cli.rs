//! The command line. What was asked for goes to the standard output, everything else to the standard error.

mod change;
mod print;
mod source_options;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::source_options::SourceOptions;
use crate::error::{EXIT_FAULTS, Error};
use crate::inspect::{self, Report};
use crate::manifest::is_name;
use crate::node::{Asked, Surroundings};

#[derive(Parser)]
#[command(
    name = "cargo blvm-module",
    bin_name = "cargo blvm-module",
    version,
    about = "Installs modules of blvm-node",
    after_help = "Exit codes: 0 done, 1 verify or list found a fault, 2 wrong usage, 3 refused, 4 failed. After 3 and \
                  4 the module that was installed before is installed still."
)]
struct Cli {
    /// The node's modules directory [default: modules_dir of the node's configuration]
    #[arg(long, global = true, value_name = "DIR")]
    modules_dir: Option<PathBuf>,
    /// The file the node is started with [default: ./blvm.toml, ~/.config/blvm/blvm.toml, /etc/blvm/blvm.toml]
    #[arg(long, global = true, value_name = "FILE")]
    node_config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install a module: from the package registry, from a directory (--path) or from a release archive (--archive)
    Install {
        /// The module; with --path or --archive it may be left out
        #[arg(required_unless_present_any = ["path", "archive"])]
        name: Option<String>,
        #[command(flatten)]
        options: SourceOptions,
    },
    /// Replace an installed module, from where it came or from where you say; its data and configuration stay
    Upgrade {
        /// The module
        name: String,
        #[command(flatten)]
        options: SourceOptions,
        /// Take it from the package registry, wherever it came from
        #[arg(long, conflicts_with_all = ["path", "archive"])]
        registry: bool,
        /// Take a version that is older than the installed one
        #[arg(long)]
        allow_older: bool,
    },
    /// Go back to the release before the last upgrade
    Rollback {
        /// The module
        name: String,
    },
    /// Remove a module; its configuration and its data stay
    Remove {
        /// The module
        name: String,
        /// Remove its data too: keys, channels, books. Needs --yes
        #[arg(long)]
        purge_data: bool,
        /// The data is really to go
        #[arg(long, requires = "purge_data")]
        yes: bool,
        /// The node's directory of module data [default: data_dir of the node's configuration]
        #[arg(long, value_name = "DIR", requires = "purge_data")]
        data_dir: Option<PathBuf>,
    },
    /// Show what is installed
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that the node would run what was installed: manifest, program, SHA-256, capabilities
    Verify {
        /// The module [default: all]
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Count warnings as faults
        #[arg(long)]
        strict: bool,
    },
}

/// Runs the program `cargo-blvm-module`.
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments(std::env::args_os().collect()));
    let mut out = io::stdout().lock();
    let outcome = run(cli, &mut out).and_then(|code| said(out.flush()).map(|()| code));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where even the standard error is gone, the exit code is all there is.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Cargo runs `cargo blvm-module …` as `cargo-blvm-module blvm-module …`.
fn arguments(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|first| first == "blvm-module") {
        arguments.remove(1);
    }
    arguments
}

fn run(cli: Cli, out: &mut dyn Write) -> Result<u8, Error> {
    let mut asked = Asked {
        modules_dir: cli.modules_dir,
        data_dir: None,
        node_config: cli.node_config,
    };
    if let Command::Remove { data_dir, .. } = &cli.command {
        asked.data_dir.clone_from(data_dir);
    }
    if let Some(name) = cli.command.name() {
        check_name(name)?;
    }
    let surroundings = Surroundings::here()?;
    let node = surroundings.find(&asked)?;
    match cli.command {
        Command::Install { name, options } => change::install(&node, name.as_deref(), &options, out),
        Command::Upgrade {
            name,
            options,
            registry,
            allow_older,
        } => change::upgrade(&node, &name, &options, registry, allow_older, out),
        Command::Rollback { name } => change::roll_back(&node, &name, out),
        Command::Remove {
            name,
            purge_data,
            yes,
            ..
        } => change::remove(&node, &name, purge_data, yes, out),
        Command::List { json } => {
            let reports = inspect::all(&node.modules_dir)?;
            said(if json {
                print::json(&node, &reports, out)
            } else {
                print::list(&node, &reports, out)
            })?;
            Ok(verdict(&reports, false))
        }
        Command::Verify { name, json, strict } => {
            let reports = match name {
                Some(name) => vec![inspect::module(&node.modules_dir, &name)?],
                None => inspect::all(&node.modules_dir)?,
            };
            said(if json {
                print::json(&node, &reports, out)
            } else {
                print::verified(&node, &reports, out)
            })?;
            Ok(verdict(&reports, strict))
        }
    }
}

impl Command {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Install { name, .. } | Self::Verify { name, .. } => name.as_deref(),
            Self::Upgrade { name, .. } | Self::Rollback { name } | Self::Remove { name, .. } => Some(name),
            Self::List { .. } => None,
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_name(name) {
        Ok(())
    } else {
        Err(Error::Name {
            name: name.to_owned(),
        })
    }
}

fn verdict(reports: &[Report], strict: bool) -> u8 {
    let is_bad = |report: &Report| !report.faults.is_empty() || (strict && !report.warnings.is_empty());
    if reports.iter().any(is_bad) {
        EXIT_FAULTS
    } else {
        0
    }
}

fn said(outcome: io::Result<()>) -> Result<(), Error> {
    outcome.map_err(Error::io("write", "standard output".as_ref()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn cargo_may_call_it_or_the_user() {
        let by = |arguments: &[&str]| self::arguments(arguments.iter().map(OsString::from).collect()).len();
        assert_eq!(by(&["cargo-blvm-module", "blvm-module", "list"]), 2);
        assert_eq!(by(&["cargo-blvm-module", "list"]), 2);
        assert_eq!(by(&["cargo-blvm-module", "install", "blvm-module"]), 3);
    }
}
