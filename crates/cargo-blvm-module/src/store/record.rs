//! What the installer knows of a release, and which release a module's manifest points at.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::RELEASES;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::source::Source;

/// A release's record of itself.
pub(super) const RECORD: &str = "installed.toml";

/// What is known of a release, kept beside its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version in its manifest.
    pub version: String,
    /// Its program, relative to the release.
    pub entry_point: String,
    /// SHA-256 of the program.
    pub sha256: String,
    /// Size of the program in bytes.
    pub size: u64,
    /// Where it came from; `None` for one that was put in place by hand before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl Record {
    /// Reads the record of a release's folder.
    pub fn read(release: &Path) -> Result<Self, Error> {
        let path = release.join(RECORD);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        toml::from_str(&text).map_err(|error| Error::Record {
            path,
            why: error.to_string(),
        })
    }
}

/// The release that a module's manifest points at.
#[derive(Debug)]
pub struct Current {
    /// Its folder's name.
    pub release: String,
    /// The one before it.
    pub previous: Option<String>,
    /// Its record.
    pub record: Record,
}

impl Current {
    /// What the manifest in a module's folder points at; `None` if this installer did not write it.
    pub fn of(folder: &Path, manifest: &Manifest) -> Result<Option<Self>, Error> {
        let name = |key: &str| {
            let name = manifest.installed()?.get(key)?.as_str()?;
            // It becomes part of a path, and anybody may have edited the manifest.
            is_release_name(name).then(|| name.to_owned())
        };
        let Some(release) = name("release") else {
            return Ok(None);
        };
        let record = Record::read(&folder.join(RELEASES).join(&release))?;
        Ok(Some(Self {
            release,
            previous: name("previous"),
            record,
        }))
    }
}

fn is_release_name(name: &str) -> bool {
    !name.starts_with('.')
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-'))
}
