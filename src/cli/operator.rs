//! `blvm-mesh operator`: makes an operator's key, certifies nodes, and has a node show its certificate.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use mesh_core::identity::NodeId;
use serde::Serialize;

use super::{CliError, Global, locate, print_answer};
use crate::admin::Text;
use crate::ledger::export::rfc3339;
use crate::operator::{self, KEY_FILE, OperatorError};

/// Longest life of a certificate, in days: ten years.
const MAX_DAYS: u64 = 3653;

#[derive(Subcommand)]
pub(super) enum OperatorCommand {
    /// Make an operator's key, which makes several nodes one in everybody's eyes
    Init {
        /// Where the key is kept; a secret that no node needs [default: operator.key in the data directory]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Sign that a node is this operator's; prints the certificate, one line
    Certify {
        /// The node's id, 64 hexadecimal digits
        node: NodeId,
        /// The operator's key [default: operator.key in the data directory]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// For how many days the node may show it
        #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=MAX_DAYS))]
        days: u64,
        /// Write it to a new file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Have this node show a certificate, from its next start on
    Join {
        /// The certificate's file; - reads the standard input
        certificate: PathBuf,
    },
}

/// What was made or taken.
#[derive(Debug, Serialize)]
struct OperatorReply {
    operator: Text<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<Text<NodeId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_unix_ms: Option<u64>,
}

pub(super) fn run(global: &Global, command: OperatorCommand) -> Result<(), CliError> {
    let data_dir = locate(global)?.data_dir;
    match command {
        OperatorCommand::Init { key } => init(global, key_or(key, &data_dir)),
        OperatorCommand::Certify { node, key, days, out } => {
            let lifetime = Duration::from_secs(days.saturating_mul(86_400));
            let line = operator::certify(&key_or(key, &data_dir), node, lifetime)?;
            match out {
                Some(path) => write_new(&path, &line),
                None => print_answer(false, &(), |()| line.clone()),
            }
        }
        OperatorCommand::Join { certificate } => join(global, &data_dir, &certificate),
    }
}

fn key_or(key: Option<PathBuf>, data_dir: &Path) -> PathBuf {
    key.unwrap_or_else(|| data_dir.join(KEY_FILE))
}

fn init(global: &Global, key: PathBuf) -> Result<(), CliError> {
    // Beside a node's keys it is as private as they are; elsewhere the operator made the place.
    let missing = |directory: &&Path| !directory.as_os_str().is_empty() && !directory.exists();
    if let Some(directory) = key.parent().filter(missing) {
        crate::data_dir::make_private(directory)?;
    }
    let reply = OperatorReply {
        operator: Text(operator::make_key(&key)?),
        key_file: Some(key.clone()),
        node_id: None,
        expires_unix_ms: None,
    };
    print_answer(global.json, &reply, |reply| {
        format!(
            "operator {}\n  key        {}: keep it secret and safe; no node needs it\n  next       `blvm-mesh operator certify NODE_ID` \
             for each node, and there `blvm-mesh operator join`",
            reply.operator.0,
            key.display()
        )
    })
}

fn join(global: &Global, data_dir: &Path, certificate: &Path) -> Result<(), CliError> {
    let text = if certificate == Path::new("-") {
        operator::read(io::stdin().lock(), certificate)?
    } else {
        let file = File::open(certificate).map_err(|source| OperatorError::Io {
            doing: "open",
            path: certificate.to_owned(),
            source,
        })?;
        operator::read(file, certificate)?
    };
    let dated = operator::join(data_dir, &text, certificate)?;
    let reply = OperatorReply {
        operator: Text(dated.certificate.operator),
        key_file: None,
        node_id: Some(Text(dated.node)),
        expires_unix_ms: Some(dated.expires.0),
    };
    print_answer(global.json, &reply, |reply| {
        format!(
            "node {} shows from its next start on, until {}, that operator {} runs it",
            dated.node,
            rfc3339(dated.expires),
            reply.operator.0
        )
    })
}

fn write_new(path: &Path, line: &str) -> Result<(), CliError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{line}"));
    written.map_err(|source| {
        CliError::Operator(OperatorError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        })
    })
}
