//! Fresh scripts without a wallet: the operator's public descriptor, counted up.
//!
//! Which place comes next is in a file of the data directory, and it is there (synced, and its name with it) before the
//! script is told to anybody. A crash in between wastes a place and gives none twice. Every descriptor that was ever used
//! keeps its place: who changes it and changes it back goes on where he was.
//!
//! Two payers with the same script could each show the other's payment as his own, so whatever is wrong with the file is
//! refused and never mended by beginning anew.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::NetworkKind;
use bitcoin::secp256k1::Secp256k1;
use mesh_core::chain::MAX_SCRIPT_BYTES;
use mesh_core::verifier::BitcoinNetwork;
use miniscript::descriptor::DescriptorPublicKey;
use miniscript::{Descriptor, ForEachKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data_dir::{DataDirError, write_secret};

/// Where the places are kept, within the data directory.
pub const SCRIPTS_FILE: &str = "chain-scripts.json";

/// Longest file that is read: some thousand descriptors, each of which an operator once typed.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Longest descriptor that is read, in bytes: a dozen keys with their origins.
const MAX_DESCRIPTOR_BYTES: usize = 2048;

/// Places that a descriptor has: those that derive without the private key (BIP-32).
const PLACES: u32 = 1 << 31;

/// Why a descriptor cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// It holds private keys; what they are is not repeated.
    #[error(
        "a descriptor without private keys: this program only receives, and whoever reads the configuration could spend; \
         export the public one from your wallet (listdescriptors)"
    )]
    Private,
    /// It is none.
    #[error("an output descriptor such as \"wpkh(xpub…/0/*)\" ({0})")]
    Malformed(String),
    /// It has one script only.
    #[error("a descriptor that ends in /*: without it every payer would get the same script")]
    NotRanged,
    /// It has two branches.
    #[error("a descriptor of one branch, such as /0/*: <0;1> names two; keep the one for receiving")]
    Multipath,
    /// Its scripts cannot be derived from public keys.
    #[error("a descriptor whose last steps are not hardened: those cannot be derived from a public key")]
    Hardened,
    /// Its scripts are longer than payers pay.
    #[error(
        "a descriptor of addresses (wpkh, tr, wsh, sh, pkh): payers pay scripts of at most {MAX_SCRIPT_BYTES} bytes"
    )]
    NoAddress,
}

/// A descriptor from which scripts can be made for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicDescriptor(Descriptor<DescriptorPublicKey>);

impl FromStr for PublicDescriptor {
    type Err = DescriptorError;

    fn from_str(text: &str) -> Result<Self, DescriptorError> {
        if text.len() > MAX_DESCRIPTOR_BYTES {
            let reason = format!("this one is longer than {MAX_DESCRIPTOR_BYTES} bytes");
            return Err(DescriptorError::Malformed(reason));
        }
        // Before anything else, since the parser's messages repeat what they were given.
        if ["xprv", "tprv"].iter().any(|mark| text.contains(mark)) {
            return Err(DescriptorError::Private);
        }
        let parsed: Descriptor<DescriptorPublicKey> = text
            .parse()
            .map_err(|error: miniscript::Error| DescriptorError::Malformed(why(&error)))?;
        if parsed.is_multipath() {
            return Err(DescriptorError::Multipath);
        }
        if parsed.for_any_key(DescriptorPublicKey::has_hardened_step) || has_hardened_wildcard(&parsed) {
            return Err(DescriptorError::Hardened);
        }
        if !parsed.has_wildcard() {
            return Err(DescriptorError::NotRanged);
        }
        let descriptor = Self(parsed);
        let script = descriptor.script(0).ok_or(DescriptorError::Hardened)?;
        if script.len() > MAX_SCRIPT_BYTES || matches!(descriptor.0, Descriptor::Bare(_)) {
            return Err(DescriptorError::NoAddress);
        }
        Ok(descriptor)
    }
}

/// The parser's messages repeat parts of the text, which may be a private key pasted by mistake.
fn why(error: &miniscript::Error) -> String {
    if error.to_string().contains("checksum") {
        "its checksum is wrong: it was not copied whole".to_owned()
    } else {
        "this one is not understood".to_owned()
    }
}

fn has_hardened_wildcard(descriptor: &Descriptor<DescriptorPublicKey>) -> bool {
    use miniscript::descriptor::Wildcard;
    descriptor.for_any_key(|key| match key {
        DescriptorPublicKey::XPub(key) => key.wildcard == Wildcard::Hardened,
        DescriptorPublicKey::MultiXPub(key) => key.wildcard == Wildcard::Hardened,
        DescriptorPublicKey::Single(_) => false,
    })
}

impl PublicDescriptor {
    /// The script at a place; none from 2³¹ on.
    pub fn script(&self, place: u32) -> Option<Vec<u8>> {
        let definite = self.0.at_derivation_index(place).ok()?;
        let derived = definite
            .derived_descriptor(&Secp256k1::verification_only())
            .ok()?;
        Some(derived.script_pubkey().into_bytes())
    }

    /// Whether its keys are made for the other kind of network: money sent there would look lost to its wallet.
    pub fn is_foreign_to(&self, network: BitcoinNetwork) -> bool {
        let kind = if network == BitcoinNetwork::Mainnet {
            NetworkKind::Main
        } else {
            NetworkKind::Test
        };
        self.0.for_any_key(|key| match key {
            DescriptorPublicKey::XPub(key) => key.xkey.network != kind,
            DescriptorPublicKey::MultiXPub(key) => key.xkey.network != kind,
            DescriptorPublicKey::Single(_) => false,
        })
    }

    /// What it is remembered as: its hash, so that the file tells nobody which addresses are this node's. Made from the
    /// scripts and not from the text, which can be written in several ways.
    fn name(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"blvm-mesh/1 descriptor\0");
        for place in [0, 1] {
            hasher.update(self.script(place).unwrap_or_default());
        }
        hex::encode(hasher.finalize())
    }
}

/// Why there is no fresh script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptsError {
    /// The file cannot be read or written.
    #[error("no fresh script: {0}")]
    Disk(Arc<str>),
    /// The file does not hold what was written.
    #[error(
        "{} is damaged ({reason}); restore it from a backup. Do not delete it: scripts would be given a second time, and payers \
         could claim each other's money. If it is lost, use another descriptor",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// All were given.
    #[error("the descriptor in [chain] has given all its {PLACES} scripts; use another")]
    Exhausted,
}

/// What the file holds for one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// The place that comes next.
    next: u32,
    /// The height of the tip when the first script was given: nothing before it can have paid one.
    since: u32,
}

/// The scripts of one descriptor; each is given once.
#[derive(Debug)]
pub struct FreshScripts {
    descriptor: PublicDescriptor,
    path: PathBuf,
    name: String,
    known: Mutex<BTreeMap<String, Progress>>,
}

impl FreshScripts {
    /// Goes on where the data directory says. Only for who holds that directory's lock.
    ///
    /// # Errors
    /// [`ScriptsError`]: the file cannot be read, or is damaged.
    pub fn open(descriptor: PublicDescriptor, data_dir: &Path) -> Result<Self, ScriptsError> {
        let path = data_dir.join(SCRIPTS_FILE);
        let known = read(&path)?;
        Ok(Self {
            name: descriptor.name(),
            descriptor,
            path,
            known: Mutex::new(known),
        })
    }

    /// The height of the tip when the first script was given; none when none was.
    pub fn since(&self) -> Option<u32> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&self.name).map(|progress| progress.since)
    }

    /// The next script; that it was given is on the disk. `tip` is the height of the tip. Waits for the disk.
    ///
    /// # Errors
    /// [`ScriptsError`]; no script was given then.
    pub fn next(&self, tip: u32) -> Result<Vec<u8>, ScriptsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&self.name).copied();
        let progress = before.unwrap_or(Progress { next: 0, since: tip });
        let script = self
            .descriptor
            .script(progress.next)
            .ok_or(ScriptsError::Exhausted)?;
        let mut after = known.clone();
        // A tip below the first one's: the chain was reorganised, and blocks from there on can pay.
        let advanced = Progress {
            next: progress.next + 1,
            since: progress.since.min(tip),
        };
        after.insert(self.name.clone(), advanced);
        write(&self.path, &after)?;
        *known = after;
        Ok(script)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Progress>, ScriptsError> {
    let damaged = |reason: String| ScriptsError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(unreadable(path, &error)),
    };
    if length > MAX_FILE_BYTES {
        return Err(damaged(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let known: BTreeMap<String, Progress> =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if known
        .values()
        .any(|progress| progress.next == 0 || progress.next > PLACES)
    {
        return Err(damaged("a place is out of range".to_owned()));
    }
    Ok(known)
}

fn unreadable(path: &Path, error: &io::Error) -> ScriptsError {
    ScriptsError::Disk(format!("cannot read {}: {error}", path.display()).into())
}

fn write(path: &Path, known: &BTreeMap<String, Progress>) -> Result<(), ScriptsError> {
    let disk = |why: String| ScriptsError::Disk(why.into());
    let text = serde_json::to_string_pretty(known).map_err(|error| disk(error.to_string()))?;
    write_secret(path, &text).map_err(|error: DataDirError| disk(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account of BIP-84's test vectors; its first two receiving addresses are in the BIP.
    fn bip84() -> String {
        "wpkh([73c5da0a/84h/0h/0h]xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V/0/*)".to_owned()
    }

    fn parse(text: &str) -> Result<PublicDescriptor, DescriptorError> {
        text.parse()
    }

    #[test]
    fn scripts_are_those_of_the_operators_wallet() {
        let descriptor = parse(&bip84()).unwrap();
        let uri = |place| {
            crate::chain::payment_uri(&descriptor.script(place).unwrap(), 1, BitcoinNetwork::Mainnet).unwrap()
        };
        assert!(
            uri(0).contains("bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
            "{}",
            uri(0)
        );
        assert!(
            uri(1).contains("bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
            "{}",
            uri(1)
        );
        assert!(descriptor.is_foreign_to(BitcoinNetwork::Regtest));
        assert!(!descriptor.is_foreign_to(BitcoinNetwork::Mainnet));
    }

    #[test]
    fn same_script_is_never_given_twice_over_restarts_and_changes_of_the_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let first = parse(&bip84()).unwrap();
        let second = parse(&bip84().replace("/0/*", "/1/*")).unwrap();
        let mut given = std::collections::BTreeSet::new();
        for descriptor in [&first, &second, &first, &first, &second] {
            let scripts = FreshScripts::open(descriptor.clone(), folder.path()).unwrap();
            for _ in 0..3 {
                assert!(given.insert(scripts.next(7).unwrap()), "a script was given twice");
            }
        }
        assert_eq!(given.len(), 15);
    }

    #[test]
    fn script_that_could_not_be_written_down_is_given_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let scripts = FreshScripts::open(parse(&bip84()).unwrap(), folder.path()).unwrap();
        let first = scripts.next(7).unwrap();
        let away = folder.path().with_extension("away");
        std::fs::rename(folder.path(), &away).unwrap();
        assert!(matches!(scripts.next(7), Err(ScriptsError::Disk(_))));
        std::fs::rename(&away, folder.path()).unwrap();
        assert_ne!(scripts.next(7).unwrap(), first);
    }

    #[test]
    fn damaged_file_is_refused_and_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        for damage in [
            "",
            "{}x",
            "{\"a\":{\"next\":0,\"since\":1}}",
            "{\"a\":{\"next\":4294967295,\"since\":1}}",
        ] {
            std::fs::write(folder.path().join(SCRIPTS_FILE), damage).unwrap();
            let refused = FreshScripts::open(parse(&bip84()).unwrap(), folder.path()).unwrap_err();
            assert!(
                refused.to_string().contains("Do not delete it"),
                "{damage}: {refused}"
            );
        }
    }

    #[test]
    fn first_block_that_can_pay_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let open = || FreshScripts::open(parse(&bip84()).unwrap(), folder.path()).unwrap();
        assert_eq!(open().since(), None);
        open().next(120).unwrap();
        open().next(130).unwrap();
        assert_eq!(open().since(), Some(120));
        open().next(110).unwrap();
        assert_eq!(open().since(), Some(110), "a reorganisation went below it");
    }

    #[test]
    fn descriptors_that_cannot_give_fresh_scripts_are_refused_by_name() {
        let base = bip84();
        let refusals = [
            (base.replace("/0/*", "/0/5"), DescriptorError::NotRanged),
            (base.replace("/0/*", "/<0;1>/*"), DescriptorError::Multipath),
            (base.replace("/0/*", "/0/*h"), DescriptorError::Hardened),
            (base.replace("xpub", "xprv"), DescriptorError::Private),
        ];
        for (text, refusal) in refusals {
            assert_eq!(parse(&text).unwrap_err(), refusal, "{text}");
        }
        assert!(matches!(parse("wpkh(02)"), Err(DescriptorError::Malformed(_))));
        assert!(matches!(
            parse(&"a".repeat(5000)),
            Err(DescriptorError::Malformed(_))
        ));
        let bare = base.replace("wpkh(", "pk(");
        assert_eq!(parse(&bare).unwrap_err(), DescriptorError::NoAddress);
    }

    #[test]
    fn private_key_is_never_repeated_in_a_message() {
        let text = bip84().replace("xpub", "tprv");
        assert!(!parse(&text).unwrap_err().to_string().contains("CatWdi"));
        // A key in the format of wallets' exports: no descriptor, and not repeated either.
        let wif = "wpkh(KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn)";
        assert!(!parse(wif).unwrap_err().to_string().contains("KwDiBf"));
    }
}
