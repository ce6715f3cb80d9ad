//! A key to somebody's money: an API key, a macaroon, a rune.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The longest key that is taken, in bytes. LND's macaroons are some hundred bytes long, twice that in hexadecimal.
pub const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// Why a key is not there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the key file {}: {source}; check the path and who may read it", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its file holds no key.
    #[error("the key file {} {reason}", .path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A text that no `Debug`, log or error shows, and that is overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret from the configuration.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret that a text file holds, without the blanks around it.
    ///
    /// # Errors
    /// [`SecretError`]: it cannot be read, is empty, is no text or is longer than [`MAX_SECRET_BYTES`].
    pub fn from_text_file(path: &Path) -> Result<Self, SecretError> {
        let bytes = read(path)?;
        let wrong = |reason| SecretError::NoKey {
            path: path.to_owned(),
            reason,
        };
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| wrong("holds no text; check that it is the right file"))?;
        if text.trim().is_empty() {
            return Err(wrong("is empty; write the key into it"));
        }
        Ok(Self::new(text.trim().to_owned()))
    }

    /// The hexadecimal digits of what a binary file holds, as LND wants its macaroons.
    ///
    /// # Errors
    /// As [`Secret::from_text_file`].
    pub fn hex_of_file(path: &Path) -> Result<Self, SecretError> {
        let bytes = read(path)?;
        if bytes.is_empty() {
            return Err(SecretError::NoKey {
                path: path.to_owned(),
                reason: "is empty; check that it is the right file",
            });
        }
        Ok(Self::new(hex::encode(bytes.as_slice())))
    }

    /// The text itself, to be sent to whom it is meant for and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Room for all of it at once: a buffer that grows leaves copies behind that nobody overwrites.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::NoKey {
            path: path.to_owned(),
            reason: "is far too long for a key; check that it is the right file",
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_by_nothing() {
        let secret = Secret::new("very private".into());
        let shown = format!("{secret:?} {:#?}", Some(&secret));
        assert!(!shown.contains("private"), "{shown}");
    }

    #[test]
    fn a_key_file_is_read_without_its_line_end_and_a_macaroon_as_hexadecimal_digits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "  abc\n").unwrap();
        assert_eq!(Secret::from_text_file(&path).unwrap().expose(), "abc");
        std::fs::write(&path, [2, 0, 255]).unwrap();
        assert_eq!(Secret::hex_of_file(&path).unwrap().expose(), "0200ff");
        assert!(
            Secret::from_text_file(&path)
                .unwrap_err()
                .to_string()
                .contains("no text")
        );
    }

    #[test]
    fn a_missing_an_empty_and_an_endless_key_file_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.macaroon");
        let said = |path: &Path| Secret::hex_of_file(path).unwrap_err().to_string();
        assert!(said(&path).contains("admin.macaroon"));
        std::fs::write(&path, "").unwrap();
        assert!(said(&path).contains("is empty"));
        assert!(
            Secret::from_text_file(&path)
                .unwrap_err()
                .to_string()
                .contains("is empty")
        );
        std::fs::write(&path, vec![1; MAX_SECRET_BYTES as usize + 1]).unwrap();
        assert!(said(&path).contains("far too long"));
    }
}
