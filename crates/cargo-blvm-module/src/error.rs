//! Why a command did not do what was asked: what, why, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::manifest::ManifestError;
use crate::source::archive::ArchiveError;

/// Exit code of `verify` and `list` when a module has a fault.
pub const EXIT_FAULTS: u8 = 1;
/// Exit code when the request was refused: what was asked for or given is wrong. (2 is clap's, for wrong usage.)
pub const EXIT_REFUSED: u8 = 3;
/// Exit code when the machine failed: a file, a lock, cargo. The module that was there is there still.
pub const EXIT_FAILED: u8 = 4;

/// What stops a command. Whatever it is, the module that was installed before is installed still.
#[derive(Debug, Error)]
pub enum Error {
    /// The node's modules directory is not known.
    #[error(
        "the node's modules directory is not known: {why}. Say --modules-dir DIR, or --node-config FILE with the file \
         that the node is started with"
    )]
    NoModulesDir {
        /// What was looked at, and what was wrong with it.
        why: String,
    },
    /// Several configurations of nodes name different directories.
    #[error(
        "several configurations of nodes are here and name different modules directories:{}\nSay which node is meant: \
         --modules-dir DIR or --node-config FILE",
        list(.found)
    )]
    SeveralModulesDirs {
        /// Each file with the directory it names.
        found: Vec<(PathBuf, PathBuf)>,
    },
    /// The node's configuration is not readable.
    #[error(
        "{} is not a node's configuration: {why}. The node would start with its defaults; correct the file or say \
         --modules-dir DIR", path.display()
    )]
    NodeConfig {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// The module's data directory is not known.
    #[error(
        "the directory of the module's data is not known, so nothing was removed. Say --data-dir DIR (the node's \
         [modules] data_dir) or --node-config FILE"
    )]
    NoDataDir,
    /// The data directory must not be removed.
    #[error("{} is not removed: {why}. Remove it by hand if it is really to go", path.display())]
    DataDirRefused {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// `--purge-data` without its confirmation.
    #[error(
        "--purge-data removes {} with keys, channels and books in it, for good. Nothing was removed. If that is \
         meant, add --yes", path.display()
    )]
    PurgeNotConfirmed {
        /// What would have been removed.
        path: PathBuf,
    },
    /// A name that the node would not take.
    #[error(
        "{name:?} is no name of a module: the node takes 1 to 64 letters, digits, '-' and '_', a letter or digit first"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// A manifest that the node would not take, or would take for something else.
    #[error("{place}: {source}")]
    Manifest {
        /// Which manifest.
        place: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The package is another module than the one that was asked for.
    #[error(
        "the package is the module {found:?}, not {wanted:?}. Nothing was changed; check what was given, or leave the \
         name out"
    )]
    OtherModule {
        /// What its manifest says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The crate has no `module.toml`.
    #[error(
        "{what} is no module: it has no module.toml beside its Cargo.toml. A crate of that name may be somebody \
         else's; nothing was installed"
    )]
    NoManifest {
        /// The crate or directory.
        what: String,
    },
    /// Manifest and crate are of two versions.
    #[error(
        "module.toml says version {manifest}, the crate is {package}. The node believes module.toml, so one of the two \
         lies to it. Make them equal and try again"
    )]
    TwoVersions {
        /// The version in `module.toml`.
        manifest: String,
        /// The version in `Cargo.toml`.
        package: String,
    },
    /// The crate does not build the program that its manifest names.
    #[error("cargo built no program {entry_point:?}, which module.toml names as its entry_point")]
    NoProgram {
        /// The entry point.
        entry_point: String,
    },
    /// The program is not the one that the manifest's author had.
    #[error(
        "the program's SHA-256 is {actual}, but [binary] hash in its module.toml says {expected}. Nothing was changed"
    )]
    OtherProgram {
        /// What the manifest says.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// An archive without a checksum.
    #[error(
        "{} was given without a checksum, so nobody can tell whether it is what its author released. Say \
         --sha256 HEX, or --sha256 FILE with the .sha256 file that was released with it", path.display()
    )]
    NoChecksum {
        /// The archive.
        path: PathBuf,
    },
    /// The text given as a checksum is none.
    #[error(
        "{given:?} is neither a SHA-256 (64 hexadecimal digits) nor a file that names one for this archive"
    )]
    NotAChecksum {
        /// The text.
        given: String,
    },
    /// The archive is not the one that was released.
    #[error("{} has the SHA-256 {actual}, expected was {expected}. It was not opened; fetch it again", path.display())]
    WrongChecksum {
        /// The archive.
        path: PathBuf,
        /// What was given.
        expected: String,
        /// What it has.
        actual: String,
    },
    /// The archive does harm, or is none.
    #[error("{}: {source}. Nothing was installed", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// `install` where something is installed.
    #[error(
        "{name} {version} is installed already. To replace it: cargo blvm-module upgrade {name}, with the same options"
    )]
    AlreadyInstalled {
        /// The module.
        name: String,
        /// The version there.
        version: String,
    },
    /// No such module in the modules directory.
    #[error("{name} is not installed in {}. cargo blvm-module list shows what is", modules_dir.display())]
    NotInstalled {
        /// The module.
        name: String,
        /// Where it was looked for.
        modules_dir: PathBuf,
    },
    /// `upgrade` without a source, of a module whose source cannot be asked again.
    #[error(
        "{name} came from {from}, which cannot be asked for a newer one. Say --archive FILE --sha256 HEX, --path DIR \
         or --registry"
    )]
    NoSourceAgain {
        /// The module.
        name: String,
        /// Where it came from.
        from: String,
    },
    /// A module's folder that is a link.
    #[error(
        "{} is a symbolic link, so what is in it is not the node's alone. Nothing was changed; remove the link, or \
         install where it leads to", path.display()
    )]
    Link {
        /// The folder.
        path: PathBuf,
    },
    /// `upgrade` to an older version.
    #[error(
        "{name} {installed} is newer than {offered}. An older version may not read the data of a newer one: back it \
         up, then say --allow-older"
    )]
    Older {
        /// The module.
        name: String,
        /// The version there.
        installed: String,
        /// The version offered.
        offered: String,
    },
    /// `rollback` without anything to go back to.
    #[error("{name} has no earlier release to go back to: one is kept after an upgrade")]
    NoPrevious {
        /// The module.
        name: String,
    },
    /// `rollback` to a release that is not whole.
    #[error("the earlier release {release} of {name} is damaged ({why}). Install the version anew")]
    PreviousDamaged {
        /// The module.
        name: String,
        /// Its folder.
        release: String,
        /// What is wrong.
        why: String,
    },
    /// Somebody else installs here just now.
    #[error("another cargo blvm-module is at work in {}. Wait until it is done", modules_dir.display())]
    Busy {
        /// The modules directory.
        modules_dir: PathBuf,
    },
    /// A record of this installer that cannot be read.
    #[error("{} cannot be read ({why}), so it is not known what is installed there. Install the module anew", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// cargo failed; it has said why on the standard error.
    #[error("{command} failed ({status}); what cargo says is above. Nothing was changed")]
    Cargo {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
    },
    /// A file could not be read, written, renamed.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// An [`Error::Io`] for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What the program exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Cargo { .. } | Self::Busy { .. } => EXIT_FAILED,
            _ => EXIT_REFUSED,
        }
    }
}

fn list(found: &[(PathBuf, PathBuf)]) -> String {
    found
        .iter()
        .map(|(file, dir)| format!("\n  {}: {}", file.display(), dir.display()))
        .collect()
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ". Run this as the user that the node runs as",
        io::ErrorKind::StorageFull => ". Make room and try again; the module that was there is there still",
        _ => "",
    }
}
