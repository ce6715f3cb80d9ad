//! Where the commands about money read: from the running node, or from the database of one that does not run.

use std::io::Write;

use super::{CliError, Global, admin_socket};
use crate::admin::{AdminClient, ClientError, LedgerParams, LedgerReply, Request};
use crate::data_dir::DATABASE_FILE;
use crate::ledger::{AuditReport, FeesReport, audit};
use crate::store::{StoreError, StoreReader};

/// The books of a node.
pub(super) enum Books {
    /// A running node answers over its admin socket.
    Running(Box<AdminClient>),
    /// No node runs: the database is this process's until it ends.
    Stopped(StoreReader),
}

impl Books {
    /// Asks the running node; if none runs, opens its database.
    pub(super) async fn open(global: &Global) -> Result<Self, CliError> {
        let socket = admin_socket(global)?;
        let no_daemon = match AdminClient::connect(&socket).await {
            Ok(client) => return Ok(Self::Running(Box::new(client))),
            Err(error @ ClientError::NoDaemon { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        let database = socket.with_file_name(DATABASE_FILE);
        if !database.exists() {
            return Err(no_daemon.into());
        }
        let reader = StoreReader::open(&database).map_err(|error| {
            CliError::Failed(match error {
                StoreError::InUse { .. } => format!(
                    "the database {} belongs to a process whose admin socket does not answer: a node that is starting or \
                     stopping, or another of these commands; wait for it and try again",
                    database.display()
                ),
                error => error.to_string(),
            })
        })?;
        // To the standard error: what was asked for is the same either way.
        let _ = writeln!(
            std::io::stderr(),
            "the node does not run: read from its database, which keeps it from starting meanwhile"
        );
        Ok(Self::Stopped(reader))
    }

    pub(super) async fn page(&mut self, params: &LedgerParams) -> Result<LedgerReply, CliError> {
        match self {
            Self::Running(client) => Ok(client.call(&Request::Ledger(params.clone())).await?),
            Self::Stopped(reader) => {
                let query = params.query().map_err(ClientError::from)?;
                Ok(reader.page(&query)?.into())
            }
        }
    }

    pub(super) async fn fees(&mut self) -> Result<FeesReport, CliError> {
        match self {
            Self::Running(client) => Ok(client.call(&Request::Fees).await?),
            Self::Stopped(reader) => Ok(FeesReport::of(&reader.books()?)),
        }
    }

    pub(super) async fn audit(&mut self) -> Result<AuditReport, CliError> {
        match self {
            Self::Running(client) => Ok(client.call(&Request::Audit).await?),
            Self::Stopped(reader) => Ok(AuditReport::new(reader.read(audit::audit)?, None)),
        }
    }
}
