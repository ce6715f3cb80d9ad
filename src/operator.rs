//! An operator's key, and the certificates that make several nodes his: files of their own, none of them needs a running node.
//!
//! The key is a file of 64 hexadecimal digits, as a node's key is; it belongs where the operator keeps his secrets, and no node
//! needs it. A certificate is a line of JSON, no secret, of use to the one node that it names. What a node has taken lies in
//! its data directory as [`CERTIFICATE_FILE`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::announcement::OperatorCertificate;
use mesh_core::identity::{Ed25519Verifier, Identity, InvalidIdentity, NodeId, Signature};
use mesh_core::operator::{CertificateError, DatedCertificate};
use mesh_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::admin::Text;
use crate::data_dir::{self, DataDir, DataDirError};

/// An operator's key, unless another place is named.
pub const KEY_FILE: &str = "operator.key";

/// The certificate that a node shows.
pub const CERTIFICATE_FILE: &str = "operator.json";

/// Longest certificate that is read, in bytes: 600 of JSON, and room for whoever sets it in.
const MAX_CERTIFICATE_BYTES: u64 = 4096;

/// What a file must call itself.
const KIND: &str = "blvm-mesh operator certificate 1";

/// Why a key or a certificate is not made or taken.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is a key already.
    #[error("{} exists already and is not overwritten; name another file with --key", .0.display())]
    KeyExists(PathBuf),
    /// There is no key.
    #[error("there is no operator's key at {}; make one with `blvm-mesh operator init`, or name its file with --key", .0.display())]
    NoKey(PathBuf),
    /// The key's file is damaged.
    #[error("{} does not hold 64 hexadecimal digits: the operator's key is damaged; restore it from a backup", .0.display())]
    BrokenKey(PathBuf),
    /// A file or directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key that is none.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// The certificate cannot be read or written.
    #[error("cannot {doing} {}: {source}; check the path and its permissions", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it is something else.
    #[error("{} is no operator's certificate: {why}; it is the line that `blvm-mesh operator certify` writes", .path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It does not hold here and now.
    #[error(transparent)]
    Refused(#[from] CertificateError),
}

/// A certificate as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    operator: Text<NodeId>,
    node_id: Text<NodeId>,
    expires_unix_ms: u64,
    signature: String,
    end_signature: String,
}

/// Makes an operator's key and answers with its public half.
///
/// # Errors
/// [`OperatorError`]: there is one already, or it cannot be written.
pub fn make_key(path: &Path) -> Result<NodeId, OperatorError> {
    // The directory is written too, and a bare name has none.
    let path = &std::path::absolute(path).map_err(|source| OperatorError::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    })?;
    if path.try_exists().unwrap_or(true) {
        return Err(OperatorError::KeyExists(path.to_owned()));
    }
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(seed.as_mut()).map_err(|_| DataDirError::NoRandomness)?;
    let operator = Identity::from_seed(*seed)?.node_id();
    keep_key(path, &Zeroizing::new(hex::encode(seed.as_slice()) + "\n"))?;
    Ok(operator)
}

/// Writes the key beside its place, under a name that no other process takes, and links it there: of two that make a key at
/// once one is told that there is one already, and no key is ever replaced.
fn keep_key(path: &Path, text: &str) -> Result<(), OperatorError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    data_dir::write_secret(&beside, text)?;
    let linked = std::fs::hard_link(&beside, path).and_then(|()| {
        // Without this the name could be gone after a power cut, with certificates that nobody can renew.
        File::open(path.parent().unwrap_or(path))?.sync_all()
    });
    std::fs::remove_file(&beside).map_err(|source| OperatorError::Io {
        doing: "remove",
        path: beside.clone(),
        source,
    })?;
    linked.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => OperatorError::KeyExists(path.to_owned()),
        _ => OperatorError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        },
    })
}

/// Signs for a node, for so long from now on; answers with the certificate's line.
///
/// # Errors
/// [`OperatorError`]: the key's file is missing, damaged or open to others.
pub fn certify(key: &Path, node: NodeId, lifetime: Duration) -> Result<String, OperatorError> {
    let seed = match data_dir::secret_of(key) {
        Err(DataDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(OperatorError::NoKey(key.to_owned()));
        }
        Err(DataDirError::BrokenKey { path }) => return Err(OperatorError::BrokenKey(path)),
        read => read?,
    };
    let operator = Identity::from_seed(*seed)?;
    let dated = DatedCertificate::sign(node, now() + lifetime, &operator);
    Ok(line_of(&dated))
}

/// Has the node whose state is in `data_dir` show a certificate from its next start on. A node that was never started gets
/// its key now.
///
/// # Errors
/// [`OperatorError`]: it is no certificate, another node's, forged or ended; nothing is changed then.
pub fn join(data_dir: &Path, text: &str, called: &Path) -> Result<DatedCertificate, OperatorError> {
    let dated = parse(text, called)?;
    dated.check(&own_id(data_dir)?, now(), &Ed25519Verifier)?;
    data_dir::write_secret(&data_dir.join(CERTIFICATE_FILE), &(line_of(&dated) + "\n"))?;
    Ok(dated)
}

/// The certificate that a node took; none when it took none. It is read as it was written: who shows it checks it.
///
/// # Errors
/// [`OperatorError`]: it cannot be read, or is none.
pub fn taken(data_dir: &Path) -> Result<Option<DatedCertificate>, OperatorError> {
    let path = data_dir.join(CERTIFICATE_FILE);
    match File::open(&path) {
        Ok(file) => parse(&read(file, &path)?, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OperatorError::Io {
            doing: "open",
            path,
            source,
        }),
    }
}

/// The text of a certificate, from a file or whatever else.
///
/// # Errors
/// [`OperatorError`]: it cannot be read, or is longer than a certificate can be.
pub fn read(from: impl Read, path: &Path) -> Result<String, OperatorError> {
    let mut text = String::new();
    let read = from.take(MAX_CERTIFICATE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|source| OperatorError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    if text.len() as u64 > MAX_CERTIFICATE_BYTES {
        return Err(OperatorError::NoCertificate {
            path: path.to_owned(),
            why: format!("it is longer than {MAX_CERTIFICATE_BYTES} bytes"),
        });
    }
    Ok(text)
}

/// Now, by the system's clock.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The node's id, also while it runs.
fn own_id(data_dir: &Path) -> Result<NodeId, OperatorError> {
    let seed = match data_dir::identity_of(data_dir)? {
        Some(seed) => seed,
        None => DataDir::open(data_dir)?.identity_seed()?,
    };
    Ok(Identity::from_seed(*seed)?.node_id())
}

fn line_of(dated: &DatedCertificate) -> String {
    let written = Written {
        kind: KIND.to_owned(),
        operator: Text(dated.certificate.operator),
        node_id: Text(dated.node),
        expires_unix_ms: dated.expires.0,
        signature: hex::encode(dated.certificate.signature.0),
        end_signature: hex::encode(dated.seal.0),
    };
    // Nothing in it can fail to be JSON.
    serde_json::to_string(&written).unwrap_or_default()
}

fn parse(text: &str, path: &Path) -> Result<DatedCertificate, OperatorError> {
    let no_certificate = |why: String| OperatorError::NoCertificate {
        path: path.to_owned(),
        why,
    };
    let written: Written =
        serde_json::from_str(text.trim()).map_err(|error| no_certificate(error.to_string()))?;
    if written.kind != KIND {
        let kind = written.kind.escape_debug();
        return Err(no_certificate(format!("it calls itself {kind:.80}")));
    }
    let signature = |name: &str, digits: &str| {
        let mut bytes = [0; 64];
        hex::decode_to_slice(digits, &mut bytes)
            .map(|()| Signature(bytes))
            .map_err(|_| no_certificate(format!("{name} is not 128 hexadecimal digits")))
    };
    Ok(DatedCertificate {
        node: written.node_id.0,
        expires: UnixMillis(written.expires_unix_ms),
        certificate: OperatorCertificate {
            operator: written.operator.0,
            signature: signature("signature", &written.signature)?,
        },
        seal: signature("end_signature", &written.end_signature)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const DAY: Duration = Duration::from_secs(86_400);

    struct Stage {
        folder: tempfile::TempDir,
        key: PathBuf,
        operator: NodeId,
    }

    impl Stage {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
            let key = folder.path().join("my.key");
            let operator = make_key(&key).unwrap();
            Self {
                folder,
                key,
                operator,
            }
        }

        fn own_id(&self) -> NodeId {
            own_id(self.folder.path()).unwrap()
        }

        fn join(&self, text: &str) -> Result<DatedCertificate, OperatorError> {
            join(self.folder.path(), text, Path::new("cert"))
        }

        fn refusal(&self, text: &str) -> String {
            let refused = self.join(text).unwrap_err().to_string();
            assert!(taken(self.folder.path()).unwrap().is_none(), "nothing is changed");
            refused
        }
    }

    #[test]
    fn key_is_private_and_never_overwritten_and_what_it_signs_is_taken_by_its_node() {
        let stage = Stage::new();
        let mode = std::fs::metadata(&stage.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = std::fs::read(&stage.key).unwrap();
        assert!(matches!(make_key(&stage.key), Err(OperatorError::KeyExists(_))));
        assert_eq!(std::fs::read(&stage.key).unwrap(), before);

        let line = certify(&stage.key, stage.own_id(), DAY).unwrap();
        assert!(!line.contains(std::str::from_utf8(&before).unwrap().trim()));
        let joined = stage.join(&format!("  {line}\n")).unwrap();
        assert_eq!(joined.certificate.operator, stage.operator);
        assert_eq!(taken(stage.folder.path()).unwrap(), Some(joined));
    }

    #[test]
    fn certificate_of_another_node_forged_or_expired_is_refused_by_name_and_not_kept() {
        let stage = Stage::new();
        let others = certify(&stage.key, NodeId([9; 32]), DAY).unwrap();
        assert!(stage.refusal(&others).starts_with("wrong node: "));
        let expired = certify(&stage.key, stage.own_id(), Duration::ZERO).unwrap();
        assert!(stage.refusal(&expired).starts_with("expired certificate: "));
        let honest = certify(&stage.key, stage.own_id(), DAY).unwrap();
        let mut forged: serde_json::Value = serde_json::from_str(&honest).unwrap();
        forged["operator"] = "07".repeat(32).into();
        assert!(
            stage
                .refusal(&forged.to_string())
                .starts_with("forged certificate: ")
        );
        let mut longer: serde_json::Value = serde_json::from_str(&honest).unwrap();
        longer["expires_unix_ms"] = u64::MAX.into();
        assert!(
            stage
                .refusal(&longer.to_string())
                .starts_with("forged certificate: ")
        );
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_where_it_came_from() {
        let stage = Stage::new();
        let honest = certify(&stage.key, stage.own_id(), DAY).unwrap();
        let another = honest.replace("certificate 1", "certificate 2");
        let more = honest.replacen('{', "{\"more\":1,", 1);
        let short = honest.replace("\"signature\":\"", "\"signature\":\"zz");
        for wrong in ["", "{}", "[1]", &another, &more, &short] {
            let refused = stage.refusal(wrong);
            assert!(
                refused.starts_with("cert is no operator's certificate: "),
                "{refused}"
            );
        }
        let endless = read(io::repeat(b'x'), Path::new("cert")).unwrap_err();
        assert!(matches!(endless, OperatorError::NoCertificate { .. }));
    }

    #[test]
    fn key_that_is_missing_damaged_or_open_to_others_signs_nothing() {
        let stage = Stage::new();
        let certify = |key: &Path| certify(key, NodeId([9; 32]), DAY).unwrap_err();
        assert!(matches!(
            certify(&stage.folder.path().join("none")),
            OperatorError::NoKey(_)
        ));
        std::fs::set_permissions(&stage.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            certify(&stage.key),
            OperatorError::DataDir(DataDirError::TooOpen { .. })
        ));
        std::fs::set_permissions(&stage.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&stage.key, "half a key").unwrap();
        assert!(matches!(certify(&stage.key), OperatorError::BrokenKey(_)));
    }
}
