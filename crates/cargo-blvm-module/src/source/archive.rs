//! Release archives: a `.tar.gz` with `module.toml` and the program, at its root or in one folder.
//!
//! Nothing is read from an archive before its SHA-256 is the expected one. Whoever made the archive is still not believed
//! about paths and sizes: an entry that leads out of the folder would write over the node's files with the node's
//! rights, a link would have the next entry written through it, and a few kilobytes can unpack to fill the disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};
use thiserror::Error;

use super::{Check, Package, Source, read_manifest};
use crate::error::Error as InstallError;

/// The most an archive may unpack to: a debug build of a large module is a third of it, and any node's disk has it.
const MAX_UNPACKED_BYTES: u64 = 1 << 30;
/// The most entries: a module is a program, a manifest and some papers.
const MAX_ENTRIES: usize = 1_000;
/// Names that the installer itself gives to files in a release.
const RESERVED: [&str; 1] = ["installed.toml"];

/// Why an archive is refused.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Not a gzipped tar, or cut short.
    #[error("not a whole .tar.gz: {0}")]
    Broken(String),
    /// An entry that would be written elsewhere.
    #[error("the entry {0:?} leads out of the module's folder")]
    Escapes(String),
    /// A link, a device, a pipe.
    #[error("the entry {path:?} is a {kind}; only files and folders are taken")]
    Kind {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Two entries of one name: which one was checked?
    #[error("the entry {0:?} is there twice")]
    Twice(String),
    /// A name of the installer's.
    #[error("the entry {0:?} has a name that the installer keeps for itself")]
    Reserved(String),
    /// Too much.
    #[error(
        "it unpacks to more than {MAX_UNPACKED_BYTES} bytes or {MAX_ENTRIES} entries, which no module does"
    )]
    TooBig,
    /// No manifest where one is looked for.
    #[error("it has no module.toml, neither at its root nor in its only folder")]
    NoManifest,
    /// No program where the manifest says.
    #[error("it has no file {0:?}, which its module.toml names as entry_point")]
    NoProgram(String),
}

/// Checks an archive and unpacks it into a directory of its own.
pub(super) fn open(file: &Path, sha256: &str, check: &Check<'_>) -> Result<Package, InstallError> {
    let holder =
        tempfile::tempdir().map_err(InstallError::io("create a directory in", &std::env::temp_dir()))?;
    let copy = checked_copy(file, sha256, holder.path())?;
    let unpacked = holder.path().join("unpacked");
    let refused = |source| InstallError::Archive {
        path: file.to_owned(),
        source,
    };
    let entries = unpack(copy, &unpacked, MAX_UNPACKED_BYTES).map_err(|problem| match problem {
        Problem::Archive(source) => refused(source),
        Problem::Disk(source) => InstallError::Io {
            action: "unpack into",
            path: unpacked.clone(),
            source,
        },
    })?;
    let root = root_folder(&entries).ok_or_else(|| refused(ArchiveError::NoManifest))?;
    let folder = unpacked.join(&root);
    let manifest = read_manifest(&folder, &file.display().to_string())?;
    check(&manifest)?;
    let files: Vec<(PathBuf, PathBuf)> = entries
        .iter()
        .filter_map(|entry| entry.strip_prefix(&root).ok())
        .filter(|path| *path != Path::new("module.toml"))
        .map(|path| (folder.join(path), path.to_owned()))
        .collect();
    if let Some((_, reserved)) = files
        .iter()
        .find(|(_, to)| RESERVED.iter().any(|name| to == Path::new(name)))
    {
        return Err(refused(ArchiveError::Reserved(reserved.display().to_string())));
    }
    let source = Source::Archive {
        file: file.to_owned(),
        sha256: sha256.to_owned(),
    };
    let package = Package {
        manifest,
        files,
        source: Some(source),
        _holder: Some(holder),
    };
    match package.program() {
        Some(_) => Ok(package),
        None => Err(refused(ArchiveError::NoProgram(
            package.manifest.entry_point.clone(),
        ))),
    }
}

/// A SHA-256 in hexadecimal, or a file beside the archive that `sha256sum` wrote: the line of the archive's name, or the
/// only line if that has no name.
pub fn expected_checksum(given: &str, archive: &Path) -> Result<String, InstallError> {
    let not_one = || InstallError::NotAChecksum {
        given: given.to_owned(),
    };
    if is_sha256(given) {
        return Ok(given.to_ascii_lowercase());
    }
    let path = Path::new(given);
    if !path.is_file() {
        return Err(not_one());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(InstallError::io("read", path))?;
    // Checksum files of whole distributions are smaller.
    file.take(1 << 20)
        .read_to_string(&mut text)
        .map_err(InstallError::io("read", path))?;
    let archive_name = archive
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut lines = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace).or(Some((line, ""))));
    lines
        .find(|(hash, name)| {
            let name = name.trim().trim_start_matches('*');
            is_sha256(hash)
                && (name.is_empty() || Path::new(name).file_name().is_some_and(|n| *n == *archive_name))
        })
        .map(|(hash, _)| hash.to_ascii_lowercase())
        .ok_or_else(not_one)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Copies the archive to where nobody else writes while hashing it, so that what was checked is what is opened.
fn checked_copy(file: &Path, sha256: &str, into: &Path) -> Result<File, InstallError> {
    let mut source = File::open(file).map_err(InstallError::io("open", file))?;
    let path = into.join("archive");
    let mut copy = File::create_new(&path).map_err(InstallError::io("create", &path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = source.read(&mut buffer).map_err(InstallError::io("read", file))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        copy.write_all(&buffer[..read])
            .map_err(InstallError::io("write", &path))?;
    }
    let actual = hex::encode(hasher.finalize());
    if actual != sha256 {
        return Err(InstallError::WrongChecksum {
            path: file.to_owned(),
            expected: sha256.to_owned(),
            actual,
        });
    }
    File::open(&path).map_err(InstallError::io("open", &path))
}

#[derive(Debug)]
enum Problem {
    Archive(ArchiveError),
    Disk(io::Error),
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// Unpacks the files of an archive and returns their paths.
fn unpack(archive: File, into: &Path, most_bytes: u64) -> Result<BTreeSet<PathBuf>, Problem> {
    fs::create_dir(into).map_err(Problem::Disk)?;
    let bounded = Bounded {
        inner: GzDecoder::new(archive),
        left: most_bytes,
    };
    let mut archive = Archive::new(bounded);
    let mut files = BTreeSet::new();
    for (index, entry) in archive.entries().map_err(broken)?.enumerate() {
        if index >= MAX_ENTRIES {
            return Err(ArchiveError::TooBig.into());
        }
        let mut entry = entry.map_err(broken)?;
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = is_file(entry.header().entry_type(), &raw)?;
        let path = plain_path(&raw)?;
        if !is_file || path.as_os_str().is_empty() {
            continue;
        }
        if !files.insert(path.clone()) {
            return Err(ArchiveError::Twice(raw).into());
        }
        write_entry(&mut entry, &into.join(path))?;
    }
    Ok(files)
}

fn write_entry(entry: &mut impl Read, to: &Path) -> Result<(), Problem> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(Problem::Disk)?;
    }
    // Never through something that is there: a file "a" and then "a/b", or a second "a" in other letters.
    let mut file = File::create_new(to).map_err(Problem::Disk)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = entry.read(&mut buffer).map_err(broken)?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..read]).map_err(Problem::Disk)?;
    }
}

/// Whether an entry is a file (or else a folder); anything else is refused.
fn is_file(kind: EntryType, path: &str) -> Result<bool, ArchiveError> {
    let kind = match kind {
        EntryType::Regular | EntryType::Continuous => return Ok(true),
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(false),
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        // Its holes are written out without being in the archive: a bomb that no bound on reading sees.
        EntryType::GNUSparse => "sparse file",
        _ => "thing of an unknown kind",
    };
    Err(ArchiveError::Kind {
        path: path.to_owned(),
        kind,
    })
}

/// The path without "./", or a refusal: neither absolute nor with "..".
fn plain_path(raw: &str) -> Result<PathBuf, ArchiveError> {
    let mut path = PathBuf::new();
    for component in Path::new(raw).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(ArchiveError::Escapes(raw.to_owned())),
        }
    }
    if raw.contains(['\\', '\0']) {
        return Err(ArchiveError::Escapes(raw.to_owned()));
    }
    Ok(path)
}

/// Where `module.toml` is: at the root, or in the folder that everything is in.
fn root_folder(files: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    if files.contains(Path::new("module.toml")) {
        return Some(PathBuf::new());
    }
    let folder = PathBuf::from(files.first()?.components().next()?.as_os_str());
    let is_only = files.iter().all(|path| path.starts_with(&folder));
    (is_only && files.contains(&folder.join("module.toml"))).then_some(folder)
}

fn broken(error: io::Error) -> Problem {
    if error.get_ref().is_some_and(|inner| inner.is::<OverBound>()) {
        return ArchiveError::TooBig.into();
    }
    ArchiveError::Broken(error.to_string()).into()
}

/// A reader that fails, rather than ends, where its bound is reached.
struct Bounded<R> {
    inner: R,
    left: u64,
}

#[derive(Debug, Error)]
#[error("over the bound")]
struct OverBound;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(OverBound))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
