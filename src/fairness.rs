//! What a node is told about fairness at its start: the caps, and a map of networks from a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mesh_core::fairness::asmap::{Asmap, AsmapError, MAX_ASMAP_BYTES};
use mesh_core::fairness::policy::FairnessPolicy;

use crate::config::FairnessConfig;
use crate::data_dir;

/// What a node is started with.
#[derive(Debug, Clone, Default)]
pub struct Fairness {
    /// How large a share may grow, and what avoiding a larger one is worth.
    pub policy: FairnessPolicy,
    /// Which network announces an address; without it networks are prefixes of addresses.
    pub asmap: Option<Asmap>,
}

/// Why a map of networks is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AsmapFileError {
    /// It cannot be read.
    #[error(
        "[fairness] asmap: cannot read {}: {source}; check the path and its permissions, or leave `asmap` out", .path.display()
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it is no map.
    #[error("[fairness] asmap: {} is not taken: {source}", .path.display())]
    NoMap {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: AsmapError,
    },
}

impl Fairness {
    /// As the configuration says, with the map read from its file.
    ///
    /// # Errors
    /// [`AsmapFileError`]: the file that is named is not there, or is no map. Blocks while it reads, up to 16 MiB.
    pub fn open(config: &FairnessConfig) -> Result<Self, AsmapFileError> {
        let asmap = config.asmap.as_deref().map(read_asmap).transpose()?;
        Ok(Self {
            policy: config.policy,
            asmap,
        })
    }
}

fn read_asmap(path: &Path) -> Result<Asmap, AsmapFileError> {
    let unreadable = |source| AsmapFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let path = data_dir::expand_home(path).map_err(|error| unreadable(io::Error::other(error)))?;
    let unreadable = |source| AsmapFileError::Unreadable {
        path: path.clone(),
        source,
    };
    let file = File::open(&path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the limit from one above it: of a device that never ends no more is read.
    file.take(MAX_ASMAP_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Asmap::new(bytes).map_err(|source| AsmapFileError::NoMap { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest map: one answer, AS1, for every address.
    const EVERYWHERE_AS1: [u8; 3] = [0, 0, 0];

    fn open(bytes: Option<&[u8]>) -> Result<Fairness, AsmapFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("asmap.dat");
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        Fairness::open(&FairnessConfig {
            asmap: Some(path),
            ..FairnessConfig::default()
        })
    }

    #[test]
    fn map_is_read_from_its_file() {
        let map = open(Some(&EVERYWHERE_AS1)).unwrap().asmap.unwrap();
        assert_eq!(map.lookup("192.0.2.1".parse().unwrap()), Some(1));
        assert!(
            Fairness::open(&FairnessConfig::default())
                .unwrap()
                .asmap
                .is_none()
        );
    }

    #[test]
    fn file_that_is_not_there_or_is_no_map_is_refused_with_its_path() {
        let missing = open(None).unwrap_err().to_string();
        assert!(
            missing.contains("asmap.dat") && missing.contains("cannot read"),
            "{missing}"
        );
        for broken in [&b""[..], &[0xff; 40], b"no map at all"] {
            let refused = open(Some(broken)).unwrap_err().to_string();
            assert!(
                refused.contains("asmap.dat") && refused.contains("no asmap"),
                "{refused}"
            );
        }
        let refused = open(Some(&vec![0; MAX_ASMAP_BYTES + 1])).unwrap_err().to_string();
        assert!(refused.contains(&MAX_ASMAP_BYTES.to_string()), "{refused}");
    }
}
