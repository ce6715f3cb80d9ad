//! Under whom we run: this program as a module of a Bitcoin node, which spawns it without arguments and with an environment
//! that says so.
//!
//! The module is the daemon of `blvm-mesh run`, with the node's directory and configuration, a log of its own, limits that
//! the node imposes, and a conversation with the node beside it. Nothing of the mesh waits for that conversation.

mod again;
mod calls;
pub mod commands;
mod conversation;
mod doors;
pub mod environment;
pub mod events;
pub mod log;
mod module;
mod parent;
pub mod publish;
pub mod rpc;
mod runtime;

use std::env;
use std::io::Write;
use std::process::ExitCode;

use crate::config::{ConfigError, Variable};
use crate::daemon::DaemonError;
use crate::data_dir::DataDirError;
use crate::resources::TooTight;
use environment::ModuleEnvironment;

/// Why a module does not run, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// `data_dir` is configured, and another directory than the node's.
    #[error(
        "`data_dir` is configured as {configured}, but a module keeps its state where its node says: {given}; remove \
         `data_dir`, or set [modules] data_dir of the node"
    )]
    OtherDataDir {
        /// In the configuration.
        configured: String,
        /// From the node.
        given: String,
    },
    /// The limits.
    #[error(transparent)]
    TooTight(#[from] TooTight),
    /// Threads.
    #[error(
        "only {to_be_had} threads can be started and two are needed: the limit of processes (RLIMIT_NPROC{}) counts every \
         thread of the user the node runs as; raise `default_max_child_processes` in [module_resource_limits] of the \
         node's configuration well above what that user runs, 1024 for instance",
        .limit.map(|limit| format!(", {limit}")).unwrap_or_default()
    )]
    TooFewThreads {
        /// The limit; none when another is in the way.
        limit: Option<u64>,
        /// What can be had.
        to_be_had: usize,
    },
    /// The daemon.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

impl ModuleError {
    /// Whether starting again may help.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Daemon(error) if error.may_pass())
    }

    /// As on the command line: 2 when the operator must change something first, 1 otherwise.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Daemon(error) if !error.is_configuration() => 1,
            _ => 2,
        }
    }
}

/// Runs as a module if a node spawned us as one, and answers with the exit code; none when nobody did.
#[must_use]
pub fn main() -> Option<ExitCode> {
    if env::args_os().len() > 1 {
        return None;
    }
    let environment = match ModuleEnvironment::detect(|name| env::var_os(name), Variable::of_this_process()) {
        Ok(found) => found?,
        Err(error) => {
            complain(&error);
            return Some(ExitCode::from(2));
        }
    };
    runtime::with_few_arenas();
    Some(match module::run(&environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    })
}

/// To the standard error, a few lines at the most: see [`log`].
fn complain(error: &dyn std::error::Error) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: {error}");
}
