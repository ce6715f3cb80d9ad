//! The seed of the embedded Lightning node: 24 words (BIP 39) in a file of its own.
//!
//! Made at the first start, and never overwritten: another seed would be another node, and what the channels of the
//! old one hold would be lost.

use std::path::{Path, PathBuf};

use ldk_node::bip39::Mnemonic;
use zeroize::Zeroizing;

use crate::data_dir::{DataDir, DataDirError, private_directory, read_secret_text, write_secret};

/// Where the Lightning node keeps its state within the data directory.
const FOLDER: &str = "lightning";

/// The words, within that folder.
const SEED_FILE: &str = "seed.words";

/// Why there is no seed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A file cannot be read or written.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The file does not hold words.
    #[error(
        "{} does not hold the words of a seed ({reason}): it is damaged; write the words of your backup into it",
        .path.display()
    )]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The node's state is there, its seed is not.
    #[error(
        "{} is missing, but the Lightning node's state beside it is not: a new seed would be another node and lose the \
         channels; write the words of your backup into it, with permissions 0600",
        .path.display()
    )]
    Lost {
        /// Which file.
        path: PathBuf,
    },
    /// There was never a wallet.
    #[error("there is no wallet in {} yet; the first start of `blvm-mesh run` makes one", .path.display())]
    None {
        /// Which folder.
        path: PathBuf,
    },
    /// There is a wallet already.
    #[error(
        "{} holds a wallet already; restoring over it would lose what its channels hold; move it away first if you are \
         sure that they are all closed",
        .path.display()
    )]
    Exists {
        /// Which folder.
        path: PathBuf,
    },
    /// What was given is no seed.
    #[error(
        "these are not the words of a seed: {reason}; give the 12 to 24 words of a BIP 39 backup in their order"
    )]
    NotWords {
        /// What is wrong with them.
        reason: String,
    },
}

/// Where the Lightning node keeps its state.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

/// The seed; made when there is neither one nor a trace of a node that had one.
pub(super) fn read_or_make(data_dir: &DataDir) -> Result<Mnemonic, SeedError> {
    let folder = folder(data_dir.path());
    private_directory(&folder)?;
    if let Some(seed) = read(&folder)? {
        return Ok(seed);
    }
    if has_state(&folder) {
        let path = folder.join(SEED_FILE);
        return Err(SeedError::Lost { path });
    }
    let seed = ldk_node::generate_entropy_mnemonic(None);
    write(&folder, &seed)?;
    Ok(seed)
}

/// The words to write down. Reads only; the node may run.
///
/// # Errors
/// [`SeedError`].
pub fn backup(data_dir: &Path) -> Result<Zeroizing<String>, SeedError> {
    let path = folder(data_dir);
    match read(&path)? {
        Some(seed) => Ok(Zeroizing::new(seed.to_string())),
        None => Err(SeedError::None { path }),
    }
}

/// Puts a seed in place of a node that never ran here: the next start brings back its node id and what it holds
/// on-chain. Its channels are not in the words.
///
/// # Errors
/// [`SeedError::Exists`], [`SeedError::NotWords`], or a file that cannot be written.
pub fn restore(data_dir: &DataDir, words: &str) -> Result<(), SeedError> {
    let path = folder(data_dir.path());
    private_directory(&path)?;
    if has_state(&path) {
        return Err(SeedError::Exists { path });
    }
    let seed = parse(words).map_err(|reason| SeedError::NotWords { reason })?;
    write(&path, &seed)
}

fn read(folder: &Path) -> Result<Option<Mnemonic>, SeedError> {
    let path = folder.join(SEED_FILE);
    let Some(text) = read_secret_text(&path)? else {
        return Ok(None);
    };
    let seed = parse(&text).map_err(|reason| SeedError::Broken { path, reason })?;
    Ok(Some(seed))
}

fn write(folder: &Path, seed: &Mnemonic) -> Result<(), SeedError> {
    let text = Zeroizing::new(format!("{seed}\n"));
    Ok(write_secret(&folder.join(SEED_FILE), &text)?)
}

fn parse(words: &str) -> Result<Mnemonic, String> {
    let words = Zeroizing::new(
        words
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase(),
    );
    Mnemonic::parse_normalized(&words).map_err(|error| error.to_string())
}

/// Anything at all but what a crash in the middle of writing the first seed leaves.
fn has_state(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name() != format!("{SEED_FILE}.new").as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&folder.path().join("mesh")).unwrap();
        (folder, data_dir)
    }

    #[test]
    fn the_first_start_makes_24_words_that_only_the_owner_can_read_and_every_later_one_finds_them() {
        let (_folder, data_dir) = place();
        let seed = read_or_make(&data_dir).unwrap();
        assert_eq!(seed.word_count(), 24);
        let path = folder(data_dir.path());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(SEED_FILE))), (0o700, 0o600));
        assert_eq!(read_or_make(&data_dir).unwrap(), seed);
        assert_eq!(*backup(data_dir.path()).unwrap(), seed.to_string());
    }

    #[test]
    fn what_was_written_down_brings_the_same_seed_back_elsewhere_but_never_over_another() {
        let (_folder, data_dir) = place();
        let seed = read_or_make(&data_dir).unwrap();
        let words = backup(data_dir.path()).unwrap();
        let (_elsewhere, other) = place();
        restore(&other, &format!("  {}\n", words.to_uppercase())).unwrap();
        assert_eq!(read_or_make(&other).unwrap(), seed);
        let again = restore(&other, &words).unwrap_err();
        assert!(matches!(again, SeedError::Exists { .. }), "{again}");
    }

    #[test]
    fn words_that_are_no_seed_are_refused_and_nothing_is_written() {
        let (_folder, data_dir) = place();
        for words in [
            "",
            "abandon",
            &"abandon ".repeat(12),
            "not words of any list at all",
        ] {
            let refused = restore(&data_dir, words).unwrap_err();
            assert!(matches!(refused, SeedError::NotWords { .. }), "{refused}");
        }
        assert!(matches!(backup(data_dir.path()), Err(SeedError::None { .. })));
    }

    #[test]
    fn a_lost_or_damaged_seed_beside_a_nodes_state_is_refused_and_never_replaced() {
        let (_folder, data_dir) = place();
        read_or_make(&data_dir).unwrap();
        let path = folder(data_dir.path());
        std::fs::write(path.join(SEED_FILE), "abandon abandon").unwrap();
        assert!(matches!(read_or_make(&data_dir), Err(SeedError::Broken { .. })));
        std::fs::remove_file(path.join(SEED_FILE)).unwrap();
        std::fs::write(path.join("ldk_node_data.sqlite"), "").unwrap();
        assert!(matches!(read_or_make(&data_dir), Err(SeedError::Lost { .. })));
        assert!(!path.join(SEED_FILE).exists());
    }
}
