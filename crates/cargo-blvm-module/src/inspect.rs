//! Whether what lies in the modules directory is whole, looked at as the node looks at it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::manifest::Manifest;
use crate::source::{Source, read_manifest};
use crate::store::{Current, RELEASES, Record};

/// What is known of a module that lies in the modules directory.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its folder's name, which is the name the node loads it by.
    pub name: String,
    /// Its version, if the manifest can be read.
    pub version: Option<String>,
    /// The program the node would start.
    pub program: Option<PathBuf>,
    /// The program's SHA-256 as it is now.
    pub sha256: Option<String>,
    /// Where it came from; `None` for a module that was put there by hand.
    pub source: Option<Source>,
    /// The release before this one, which `rollback` goes back to.
    pub previous: Option<String>,
    /// What keeps the node from running it, or makes it another program than was installed.
    pub faults: Vec<String>,
    /// What the node passes over.
    pub warnings: Vec<String>,
}

/// Looks at every module in the modules directory, in the order of their names.
pub fn all(modules_dir: &Path) -> Result<Vec<Report>, Error> {
    let mut names = Vec::new();
    if modules_dir.exists() {
        for entry in fs::read_dir(modules_dir).map_err(Error::io("list", modules_dir))? {
            let path = entry.map_err(Error::io("list", modules_dir))?.path();
            if path.join("module.toml").exists() {
                names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
    }
    names.sort_unstable();
    names.iter().map(|name| module(modules_dir, name)).collect()
}

/// Looks at one module.
pub fn module(modules_dir: &Path, name: &str) -> Result<Report, Error> {
    let folder = modules_dir.join(name);
    if !folder.join("module.toml").exists() {
        return Err(Error::NotInstalled {
            name: name.to_owned(),
            modules_dir: modules_dir.to_owned(),
        });
    }
    let mut report = Report {
        name: name.to_owned(),
        version: None,
        program: None,
        sha256: None,
        source: None,
        previous: None,
        faults: Vec::new(),
        warnings: Vec::new(),
    };
    match read_manifest(&folder, name) {
        Ok(manifest) => examine(&mut report, modules_dir, &folder, &manifest)?,
        Err(error @ Error::Manifest { .. }) => report.faults.push(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(report)
}

fn examine(report: &mut Report, modules_dir: &Path, folder: &Path, manifest: &Manifest) -> Result<(), Error> {
    report.version = Some(manifest.version.clone());
    report.warnings = manifest.warnings();
    if manifest.name != report.name {
        report.faults.push(format!(
            "its folder is called {:?}, its manifest {:?}",
            report.name, manifest.name
        ));
    }
    let record = match Current::of(folder, manifest) {
        Ok(current) => current,
        Err(error) => {
            report.faults.push(error.to_string());
            None
        }
    };
    let expected = record.as_ref().map(|current| current.record.sha256.clone());
    if let Some(current) = record {
        report.previous = current.previous;
        report.source = current.record.source;
    }
    let Some(program) = find_program(modules_dir, folder, &manifest.entry_point) else {
        report.faults.push(format!(
            "there is no file that may be executed at entry_point {:?}; the node would pass the module over",
            manifest.entry_point
        ));
        return Ok(());
    };
    let (sha256, _) = digest(&program)?;
    match expected.or_else(|| manifest.binary_hash.clone()) {
        Some(expected) if expected != sha256 => report.faults.push(format!(
            "the program was changed after it was installed: its SHA-256 is {sha256}, recorded was {expected}"
        )),
        Some(_) => {}
        None => report
            .warnings
            .push("no SHA-256 of the program was ever recorded".to_owned()),
    }
    report.program = Some(program);
    report.sha256 = Some(sha256);
    Ok(())
}

/// Finds the program as the node does: the first of these that is a file inside the modules directory and may be
/// executed.
pub fn find_program(modules_dir: &Path, folder: &Path, entry_point: &str) -> Option<PathBuf> {
    let inside = modules_dir.canonicalize().ok()?;
    [
        folder.join(entry_point),
        folder.join("target/release").join(entry_point),
        folder.join("target/debug").join(entry_point),
        modules_dir.join(entry_point),
    ]
    .iter()
    .filter_map(|candidate| candidate.canonicalize().ok())
    .find(|candidate| candidate.starts_with(&inside) && candidate.is_file() && may_run(candidate))
}

/// A WebAssembly module is loaded, not executed.
fn may_run(program: &Path) -> bool {
    program.extension().is_some_and(|extension| extension == "wasm") || is_executable(program)
}

#[cfg(unix)]
fn is_executable(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    program
        .metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_program: &Path) -> bool {
    true
}

/// SHA-256 in hexadecimal, and size, of a file.
pub fn digest(path: &Path) -> Result<(String, u64), Error> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hex::encode(hasher.finalize()), size)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
}

/// Why a release that lies in a module's folder could not be run; `None` if it is whole.
pub fn damage(folder: &Path, release: &str) -> Option<String> {
    let dir = folder.join(RELEASES).join(release);
    let record = match Record::read(&dir) {
        Ok(record) => record,
        Err(error) => return Some(error.to_string()),
    };
    if let Err(error) = read_manifest(&dir, release) {
        return Some(error.to_string());
    }
    let program = dir.join(&record.entry_point);
    match digest(&program) {
        Err(error) => Some(error.to_string()),
        Ok((sha256, _)) if sha256 != record.sha256 => Some("its program was changed".to_owned()),
        Ok(_) if !may_run(&program) => Some("its program may not be executed".to_owned()),
        Ok(_) => None,
    }
}
