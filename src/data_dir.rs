//! The directory a node keeps its state in.
//!
//! ```text
//! ~/.blvm-mesh/             0700
//! ├── config.toml           the operator's, optional
//! ├── identity.key          0600  the node's Ed25519 seed, 64 hexadecimal digits: whoever reads it is the node
//! ├── account.key           0600  the secret that accounts at other nodes derive from: whoever reads it spends them
//! ├── module.log            0600  the log of a node's module, and older ones with .1, .2, … after it
//! ├── lock                  held while a daemon runs, so that two never share a directory
//! ├── operator.json         0600  the operator's certificate that the node shows, if it joined one
//! ├── operator.key          0600  an operator's key, if it was made here: no node needs it
//! ├── admin.sock            0600  where the command line talks to the daemon
//! ├── api.sock              0600  where programs talk to the mesh that the host cannot call for
//! ├── protocols.json        0600  which module has which protocol
//! ├── deliveries.redb       0600  packets that wait for modules
//! ├── mesh.redb             the database
//! ├── chain-scripts.json    0600  which scripts were given to payers, if the chain source is a node without a wallet
//! └── lightning/            0700  the embedded Lightning node, if that is the wallet: its seed and its state
//! ```
//!
//! Both keys are made at the first start from the operating system's randomness and never overwritten. A key file
//! that others can read, or that is damaged, is refused rather than replaced: a new key would be a new node, and the
//! credit bound to the old one would be lost.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// The configuration's name within the directory.
pub const CONFIG_FILE: &str = "config.toml";

/// The database's name within the directory.
pub const DATABASE_FILE: &str = "mesh.redb";

/// The directory's name within the home directory.
const DEFAULT_NAME: &str = ".blvm-mesh";

/// The node's secret key.
const IDENTITY_FILE: &str = "identity.key";

/// The secret of the node's accounts at others.
const ACCOUNT_FILE: &str = "account.key";

/// The lock of the running daemon; holds its process id.
const LOCK_FILE: &str = "lock";

/// The socket of the running daemon.
const SOCKET_FILE: &str = "admin.sock";

/// Permission bits of group and others: none of them may be set on what is secret.
const FOREIGN_BITS: u32 = 0o077;

/// Longest content of a key file or lock that is read, in bytes: 64 digits and some blanks.
const MAX_FILE_BYTES: u64 = 256;

/// How often a lock that somebody else holds is tried again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// No home directory is known and no directory was given.
    #[error("no home directory is known (HOME is not set); say where to keep state with --data-dir")]
    NoHome,
    /// Something could not be read or written.
    #[error("cannot {doing} {}: {source}; check that the path exists and belongs to the user this program runs as", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can reach what is secret.
    #[error("{} has permissions {mode:04o}: others can reach the node's keys; run `chmod {wanted:o} {0}` and consider whether somebody read them", .path.display())]
    TooOpen {
        /// What is too open.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they must be at most.
        wanted: u32,
    },
    /// A key file does not hold a key.
    #[error(
        "{} does not hold 64 hexadecimal digits: it is damaged; restore it from a backup, or remove it to start with a new key \
         (the credit bound to the old one is then lost)",
        .path.display()
    )]
    BrokenKey {
        /// Which file.
        path: PathBuf,
    },
    /// Another daemon runs on this directory.
    #[error("another daemon{} runs on {}; stop it, or give this one its own --data-dir", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// The other daemon's process id, if it could be read.
        pid: Option<u32>,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness; no key can be made")]
    NoRandomness,
}

/// A data directory that belongs to this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock goes with the file.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be (0700) and takes its lock.
    ///
    /// # Errors
    /// [`DataDirError`]: it cannot be created, others can reach it, or another daemon runs on it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(io_error("create", path))?;
        let metadata = std::fs::metadata(path).map_err(io_error("look at", path))?;
        refuse_too_open(path, metadata.permissions().mode(), 0o700)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: take_lock(path)?,
        })
    }

    /// The same, for a directory that somebody else may have made for us: it is closed to others first, and a daemon that
    /// still runs on it is waited for, up to `patience`. Blocks.
    ///
    /// # Errors
    /// [`DataDirError`]: it cannot be created or closed, or the other daemon goes on.
    pub fn take_over(path: &Path, patience: Duration) -> Result<Self, DataDirError> {
        make_private(path)?;
        let since = Instant::now();
        loop {
            match Self::open(path) {
                Err(DataDirError::InUse { .. }) if since.elapsed() < patience => {
                    std::thread::sleep(ASK_AGAIN)
                }
                opened => return opened,
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the admin socket belongs.
    pub fn admin_socket(&self) -> PathBuf {
        admin_socket(&self.path)
    }

    /// Where the socket of the ModuleAPI belongs.
    pub fn api_socket(&self) -> PathBuf {
        self.path.join(mesh_api::frames::SOCKET_FILE)
    }

    /// The node's secret seed; made at the first call.
    ///
    /// # Errors
    /// [`DataDirError`]: the file is too open, damaged, or cannot be read or made.
    pub fn identity_seed(&self) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        self.secret(IDENTITY_FILE)
    }

    /// The secret of the node's accounts at others; made at the first call.
    ///
    /// # Errors
    /// As [`DataDir::identity_seed`].
    pub fn account_secret(&self) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        self.secret(ACCOUNT_FILE)
    }

    fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        let path = self.path.join(name);
        match File::open(&path) {
            Ok(file) => read_secret(file, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_secret(&path),
            Err(error) => Err(io_error("open", &path)(error)),
        }
    }

    fn make_secret(&self, path: &Path) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
        let mut secret = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(secret.as_mut()).map_err(|_| DataDirError::NoRandomness)?;
        write_secret(path, &Zeroizing::new(hex::encode(secret.as_slice()) + "\n"))?;
        Ok(secret)
    }
}

/// The secret in a key file; nothing is made.
///
/// # Errors
/// [`DataDirError`]: the file is missing, too open or damaged.
pub(crate) fn secret_of(path: &Path) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
    read_secret(File::open(path).map_err(io_error("open", path))?, path)
}

/// The secret seed of the node whose state is in a directory, also while it runs; none when it was never started.
///
/// # Errors
/// [`DataDirError`]: the file is too open, damaged, or cannot be read.
pub(crate) fn identity_of(directory: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, DataDirError> {
    match secret_of(&directory.join(IDENTITY_FILE)) {
        Err(DataDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Creates a directory if need be, and closes it to others whoever made it.
///
/// # Errors
/// [`DataDirError`]: it cannot be created, or belongs to somebody else.
pub fn make_private(path: &Path) -> Result<(), DataDirError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(io_error("create", path))?;
    let mode = std::fs::metadata(path)
        .map_err(io_error("look at", path))?
        .permissions()
        .mode();
    if mode & FOREIGN_BITS == 0 {
        return Ok(());
    }
    let closed = Permissions::from_mode(mode & 0o7777 & !FOREIGN_BITS);
    std::fs::set_permissions(path, closed).map_err(io_error("close to others", path))
}

/// Writes a file that only its owner can read, beside and renamed, so that a crash leaves a whole secret or none: half a
/// key file would be refused at every later start. Only for who holds the directory's lock.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), DataDirError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    // Left by a crash; the lock says that nobody else is at it.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &unfinished)(error));
        }
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(io_error("write", &unfinished))?;
    std::fs::rename(&unfinished, path).map_err(io_error("write", path))?;
    // Without this the name could be gone after a power cut, and with it the node.
    let directory = path.parent().unwrap_or(path);
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("write", directory))
}

/// Creates a directory that only its owner can enter, and refuses one that others can.
#[cfg(feature = "ldk")]
pub(crate) fn private_directory(path: &Path) -> Result<(), DataDirError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(io_error("create", path))?;
    let metadata = std::fs::metadata(path).map_err(io_error("look at", path))?;
    refuse_too_open(path, metadata.permissions().mode(), 0o700)
}

/// Reads a short secret text that only its owner can reach; `None` when there is no such file.
#[cfg(feature = "ldk")]
pub(crate) fn read_secret_text(path: &Path) -> Result<Option<Zeroizing<String>>, DataDirError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("look at", path))?;
    refuse_too_open(path, metadata.permissions().mode(), 0o600)?;
    let text = read_short(&mut file).map_err(io_error("read", path))?;
    Ok(Some(Zeroizing::new(text)))
}

/// Where the admin socket of the daemon on a data directory is.
pub fn admin_socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_FILE)
}

/// The directory that is used when none is given: `.blvm-mesh` in the home directory.
///
/// # Errors
/// [`DataDirError::NoHome`].
pub fn default_path() -> Result<PathBuf, DataDirError> {
    Ok(home()?.join(DEFAULT_NAME))
}

/// The path with a leading `~` replaced by the home directory, as a shell does for its own arguments only.
///
/// # Errors
/// [`DataDirError::NoHome`].
pub fn expand_home(path: &Path) -> Result<PathBuf, DataDirError> {
    match path.strip_prefix("~") {
        Ok(below) => Ok(home()?.join(below)),
        Err(_) => Ok(path.to_owned()),
    }
}

fn home() -> Result<PathBuf, DataDirError> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or(DataDirError::NoHome)
}

fn take_lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join(LOCK_FILE);
    // Not truncated on opening: a running daemon's process id is in it.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let mut file = opened.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DataDirError::InUse {
                path: directory.to_owned(),
                pid: read_short(&mut file)
                    .ok()
                    .and_then(|text| text.trim().parse().ok()),
            });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
    }
    let noted = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    noted.map_err(io_error("write", &path))?;
    Ok(file)
}

/// The opened file is examined, not the path: what is behind a path can change between two looks.
fn read_secret(mut file: File, path: &Path) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
    let metadata = file.metadata().map_err(io_error("look at", path))?;
    refuse_too_open(path, metadata.permissions().mode(), 0o600)?;
    let broken = || DataDirError::BrokenKey {
        path: path.to_owned(),
    };
    let text = match read_short(&mut file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(broken()),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), secret.as_mut()).map_err(|_| broken())?;
    // What a disk gives back for a block it lost; as a key it would be everybody's.
    if secret.iter().all(|byte| *byte == 0) {
        return Err(broken());
    }
    Ok(secret)
}

fn read_short(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn refuse_too_open(path: &Path, mode: u32, wanted: u32) -> Result<(), DataDirError> {
    let mode = Permissions::from_mode(mode).mode() & 0o7777;
    if mode & FOREIGN_BITS == 0 {
        return Ok(());
    }
    Err(DataDirError::TooOpen {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A fresh place, and the folder that removes it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("mesh");
        (folder, path)
    }

    #[test]
    fn the_first_start_makes_a_private_directory_and_two_different_private_keys() {
        let (_folder, path) = place();
        let dir = DataDir::open(&path).unwrap();
        let (identity, account) = (dir.identity_seed().unwrap(), dir.account_secret().unwrap());
        assert_ne!(identity, account);
        assert_eq!(mode(&path), 0o700);
        for name in [IDENTITY_FILE, ACCOUNT_FILE, LOCK_FILE] {
            assert_eq!(mode(&path.join(name)), 0o600, "{name}");
        }
        assert_eq!(dir.admin_socket(), path.join("admin.sock"));
    }

    #[test]
    fn keys_are_the_same_after_a_restart() {
        let (_folder, path) = place();
        let first = {
            let dir = DataDir::open(&path).unwrap();
            (dir.identity_seed().unwrap(), dir.account_secret().unwrap())
        };
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(
            (dir.identity_seed().unwrap(), dir.account_secret().unwrap()),
            first
        );
    }

    #[test]
    fn a_key_file_others_can_read_is_refused_with_what_to_do() {
        let (_folder, path) = place();
        let dir = DataDir::open(&path).unwrap();
        dir.identity_seed().unwrap();
        let key = path.join(IDENTITY_FILE);
        for wide in [0o640, 0o604, 0o620, 0o601] {
            set_mode(&key, wide);
            let error = dir.identity_seed().unwrap_err();
            assert!(matches!(error, DataDirError::TooOpen { .. }), "{wide:o}");
            let said = error.to_string();
            assert!(
                said.contains(&format!("{wide:04o}")) && said.contains("chmod 600"),
                "{said}"
            );
        }
        set_mode(&key, 0o400);
        dir.identity_seed().unwrap();
    }

    #[test]
    fn a_directory_others_can_enter_is_refused() {
        let (_folder, path) = place();
        drop(DataDir::open(&path).unwrap());
        set_mode(&path, 0o755);
        let said = DataDir::open(&path).unwrap_err().to_string();
        assert!(said.contains("chmod 700"), "{said}");
    }

    #[test]
    fn a_directory_that_a_node_made_is_closed_to_others_and_taken() {
        let (_folder, path) = place();
        std::fs::create_dir_all(&path).unwrap();
        set_mode(&path, 0o755);
        let taken = DataDir::take_over(&path, Duration::ZERO).unwrap();
        assert_eq!(mode(&path), 0o700);
        let refused = DataDir::take_over(&path, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(refused, DataDirError::InUse { .. }));
        let later = std::thread::spawn({
            let path = path.clone();
            move || DataDir::take_over(&path, Duration::from_secs(60)).unwrap()
        });
        drop(taken);
        later.join().unwrap();
    }

    #[test]
    fn a_damaged_key_is_refused_and_left_as_it_is() {
        let (_folder, path) = place();
        let dir = DataDir::open(&path).unwrap();
        dir.identity_seed().unwrap();
        let key = path.join(IDENTITY_FILE);
        let zeros = "00".repeat(32);
        let long = "ab".repeat(500);
        for content in [&b""[..], b"abc", &[0xff; 64], zeros.as_bytes(), long.as_bytes()] {
            std::fs::write(&key, content).unwrap();
            let error = dir.identity_seed().unwrap_err();
            assert!(matches!(error, DataDirError::BrokenKey { .. }), "{error}");
            assert_eq!(std::fs::read(&key).unwrap(), content);
        }
    }

    #[test]
    fn a_crash_while_a_key_is_made_leaves_nothing_in_the_way() {
        let (_folder, path) = place();
        let dir = DataDir::open(&path).unwrap();
        std::fs::write(path.join("identity.key.new"), "half a ke").unwrap();
        let made = dir.identity_seed().unwrap();
        assert_eq!(dir.identity_seed().unwrap(), made);
        assert!(!path.join("identity.key.new").exists());
    }

    #[test]
    fn a_second_daemon_on_the_same_directory_is_refused_until_the_first_ends() {
        let (_folder, path) = place();
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
        assert!(error.to_string().contains("--data-dir"));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_a_file_is_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        let said = DataDir::open(&path).unwrap_err().to_string();
        assert!(said.contains(&path.display().to_string()), "{said}");
    }

    #[test]
    fn a_leading_tilde_is_the_home_directory() {
        let home = home().unwrap();
        assert_eq!(expand_home(Path::new("~/x")).unwrap(), home.join("x"));
        assert_eq!(expand_home(Path::new("/a/~/x")).unwrap(), Path::new("/a/~/x"));
        assert_eq!(default_path().unwrap(), home.join(".blvm-mesh"));
    }
}
