//! Who owns which protocol, across restarts: a file of its own in the data directory.
//!
//! A module learns of the mesh's restart late or never, and what arrives meanwhile must wait for it and not for anybody who
//! asks. So registrations are durable before they are confirmed. They are few and change rarely: the file is written whole,
//! beside and renamed. It says nothing about money; damaged, it is set aside, and modules register again.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::desk::MAX_PROTOCOLS;

/// The file's name within the data directory.
pub const REGISTRATIONS_FILE: &str = "protocols.json";

/// Longest file that is read: every protocol with names of full length, generously.
const MAX_FILE_BYTES: u64 = MAX_PROTOCOLS as u64 * 2048;

/// Why registrations cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationsError {
    /// The disk or the operating system refuses.
    #[error("cannot {doing} {}: {source}; check the disk's free space and the file's permissions", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// One protocol and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registration {
    pub(super) protocol: String,
    pub(super) owner: Client,
    pub(super) method: String,
}

impl Registration {
    /// As the desk tells it.
    pub(super) fn parts(&self) -> (&str, &Client, &str) {
        (&self.protocol, &self.owner, &self.method)
    }
}

/// The file; without one registrations last as long as the process.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    file: Option<PathBuf>,
}

impl Registrations {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self {
            file: Some(directory.join(REGISTRATIONS_FILE)),
        }
    }

    /// What was written last; nothing if it makes no sense, and then the file is set aside.
    pub(super) fn read(&self) -> Result<Vec<Registration>, RegistrationsError> {
        let Some(path) = &self.file else {
            return Ok(Vec::new());
        };
        let failed = |doing| {
            move |source| RegistrationsError::Io {
                doing,
                path: path.clone(),
                source,
            }
        };
        let bytes = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("look at")(error)),
            Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Vec::new(),
            Ok(_) => std::fs::read(path).map_err(failed("read"))?,
        };
        match serde_json::from_slice::<Vec<Registration>>(&bytes) {
            Ok(known) => Ok(known),
            Err(error) => {
                let aside = path.with_extension("damaged");
                tracing::warn!(%error, file = %path.display(), aside = %aside.display(), "the list of registered protocols is damaged and set aside; modules must register again");
                std::fs::rename(path, aside).map_err(failed("set aside"))?;
                Ok(Vec::new())
            }
        }
    }

    /// Writes all of them; durable when it returns. Waits for the disk.
    pub(super) fn write(&self, registrations: &[Registration]) -> Result<(), RegistrationsError> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let failed = |source| RegistrationsError::Io {
            doing: "write",
            path: path.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(registrations).map_err(io::Error::other);
        let text = text.map_err(failed)?;
        crate::data_dir::write_secret(path, &text).map_err(|error| failed(io::Error::other(error)))
    }
}
