//! Where a module comes from. Every source ends in a [`Package`]: one manifest and the program of the same version.

pub mod archive;
mod cargo;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::error::Error;
use crate::manifest::{Manifest, ManifestError};

/// What to build with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Cargo's profile: `release`, `dev`, or one of the crate's own.
    pub profile: String,
    /// Cargo features, as `--features` takes them. Empty: the crate's default.
    #[serde(default)]
    pub features: Vec<String>,
}

/// Where a module comes from, and where `upgrade` looks again. Kept with the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Source {
    /// The package registry that cargo is configured with.
    Registry {
        /// The crate.
        #[serde(rename = "crate")]
        name: String,
        /// The version that was asked for; `None` for the newest.
        version: Option<String>,
        /// How it was built.
        build: Build,
    },
    /// A directory with a crate.
    Path {
        /// The directory, absolute.
        dir: PathBuf,
        /// How it was built.
        build: Build,
    },
    /// A release archive.
    Archive {
        /// The file, as it was named.
        file: PathBuf,
        /// Its SHA-256.
        sha256: String,
    },
}

impl Source {
    /// How it was built, if it was built here.
    pub fn build(&self) -> Option<&Build> {
        match self {
            Self::Registry { build, .. } | Self::Path { build, .. } => Some(build),
            Self::Archive { .. } => None,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry { name, .. } => write!(formatter, "the package registry ({name})"),
            Self::Path { dir, .. } => write!(formatter, "{}", dir.display()),
            Self::Archive { file, .. } => write!(formatter, "the archive {}", file.display()),
        }
    }
}

/// A module ready to be put in place.
#[derive(Debug)]
pub struct Package {
    /// Its manifest.
    pub manifest: Manifest,
    /// The files to lay down: where each is, and its place in the release. The program is among them, at the manifest's
    /// entry point; the manifest is not.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Where it came from; `None` for one that was put in place by hand.
    pub source: Option<Source>,
    /// Where the files are until they are laid down.
    pub(crate) _holder: Option<TempDir>,
}

impl Package {
    /// The program.
    pub fn program(&self) -> Option<&Path> {
        let entry_point = Path::new(&self.manifest.entry_point);
        self.files
            .iter()
            .find(|(_, to)| to == entry_point)
            .map(|(from, _)| from.as_path())
    }
}

/// A judgement on a manifest: whether it is what was asked for.
pub type Check<'a> = dyn Fn(&Manifest) -> Result<(), Error> + 'a;

/// Gets a module from where it comes from: builds it, or opens it. Nothing of the node's is touched. The check is made
/// as soon as the manifest is known, which for a directory is before the long work of building.
pub fn fetch(source: &Source, check: &Check<'_>) -> Result<Package, Error> {
    match source {
        Source::Registry { name, version, build } => {
            cargo::from_registry(name, version.as_deref(), build, check)
        }
        Source::Path { dir, build } => cargo::from_path(dir, build, check),
        Source::Archive { file, sha256 } => archive::open(file, sha256, check),
    }
}

/// Reads the `module.toml` of a directory. `what` names the package for the error.
pub(crate) fn read_manifest(dir: &Path, what: &str) -> Result<Manifest, Error> {
    let path = dir.join("module.toml");
    if !path.exists() {
        return Err(Error::NoManifest {
            what: what.to_owned(),
        });
    }
    let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
    let place = format!("module.toml of {what}");
    if bytes > crate::manifest::MAX_BYTES as u64 {
        let source = ManifestError::TooBig {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        return Err(Error::Manifest { place, source });
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Manifest::parse(&text).map_err(|source| Error::Manifest { place, source })
}
