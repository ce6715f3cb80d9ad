//! The options that say where a module comes from.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::source::{Build, Source, archive};

const DEFAULT_PROFILE: &str = "release";

#[derive(Args)]
pub(super) struct SourceOptions {
    /// Build the crate in this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["archive", "version"])]
    path: Option<PathBuf>,
    /// A release: a .tar.gz with module.toml and the program
    #[arg(long, value_name = "FILE", conflicts_with_all = ["version", "profile", "features"])]
    archive: Option<PathBuf>,
    /// The archive's SHA-256, or the file that names it
    #[arg(long, value_name = "HEX|FILE", requires = "archive")]
    sha256: Option<String>,
    /// The version to take from the registry, as cargo writes it [default: the newest]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Cargo's profile to build with [default: release]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Cargo features to build with
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    features: Vec<String>,
}

impl SourceOptions {
    /// What they say; the registry if they say nothing. What they do not say about building is as it was `before`.
    pub(super) fn source(&self, name: Option<&str>, before: Option<&Build>) -> Result<Source, Error> {
        let build = self.build(before);
        if let Some(path) = &self.path {
            let dir = path.canonicalize().map_err(Error::io("find", path))?;
            return Ok(Source::Path { dir, build });
        }
        if let Some(archive) = &self.archive {
            let path = archive.clone();
            let given = self.sha256.as_ref().ok_or(Error::NoChecksum { path })?;
            let sha256 = archive::expected_checksum(given, archive)?;
            let file = std::path::absolute(archive).map_err(Error::io("find", archive))?;
            return Ok(Source::Archive { file, sha256 });
        }
        let name = name.unwrap_or_default().to_owned();
        let version = self.version.clone();
        Ok(Source::Registry { name, version, build })
    }

    /// Where a module came from, to be asked for what is newest there; `None` if it cannot be asked.
    pub(super) fn again(&self, before: Source) -> Option<Source> {
        let build = self.build(before.build());
        match before {
            Source::Registry { name, .. } => Some(Source::Registry {
                name,
                version: None,
                build,
            }),
            Source::Path { dir, .. } => Some(Source::Path { dir, build }),
            Source::Archive { .. } => None,
        }
    }

    /// Whether they say where it comes from.
    pub(super) fn name_a_source(&self) -> bool {
        self.path.is_some() || self.archive.is_some() || self.version.is_some()
    }

    fn build(&self, before: Option<&Build>) -> Build {
        let before = before.cloned().unwrap_or_else(|| Build {
            profile: DEFAULT_PROFILE.to_owned(),
            features: Vec::new(),
        });
        let features = if self.features.is_empty() {
            before.features
        } else {
            self.features.clone()
        };
        Build {
            profile: self.profile.clone().unwrap_or(before.profile),
            features,
        }
    }
}
