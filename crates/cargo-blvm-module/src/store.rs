//! Puts modules in place, so that at every moment the node finds a whole one. The crate's documentation shows the
//! layout.

mod record;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::Error;
use crate::inspect::{damage, digest, find_program};
use crate::manifest::{Manifest, version_numbers};
use crate::source::{Package, read_manifest};

use self::record::RECORD;
pub use self::record::{Current, Record};

/// The folder of the releases in a module's folder.
pub const RELEASES: &str = "releases";
/// A release that is being written. It is never pointed at, and removed by whoever comes next.
const UNFINISHED: &str = ".unfinished";
/// The manifest that is about to take the place of `module.toml`.
const NEXT_MANIFEST: &str = ".module.toml.next";
/// Held while somebody changes the modules directory. A file: the node looks at folders only.
const LOCK: &str = ".cargo-blvm-module.lock";
/// How much of a hash names a release; the record holds the whole.
const HASH_CHARS: usize = 12;

/// What installing came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The module is in place.
    Placed {
        /// The version that was there before.
        replaced: Option<String>,
    },
    /// The same program with the same manifest was in place and whole.
    Same,
}

/// What `remove` left in the module's folder, because it is not the installer's.
#[derive(Debug)]
pub struct Removed {
    /// The version that was removed, if its manifest could be read.
    pub version: Option<String>,
    /// What is left; empty if the folder is gone.
    pub left: Vec<PathBuf>,
}

/// The modules directory, held by this process alone.
pub struct Store<'a> {
    disk: &'a dyn Disk,
    modules_dir: PathBuf,
    /// Let go of when the process ends, however it ends.
    _lock: File,
}

impl<'a> Store<'a> {
    /// Takes the modules directory, which is created if need be.
    pub fn open(disk: &'a dyn Disk, modules_dir: &Path) -> Result<Self, Error> {
        disk.create_dir(modules_dir)
            .map_err(Error::io("create", modules_dir))?;
        let path = modules_dir.join(LOCK);
        let options = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = options.map_err(Error::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                disk,
                modules_dir: modules_dir.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy {
                modules_dir: modules_dir.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// Puts a package in place of whatever is installed under its name.
    pub fn place(&self, package: &Package) -> Result<Outcome, Error> {
        let folder = self.folder(&package.manifest.name)?;
        let was_there = folder.exists();
        let outcome = self.place_in(&folder, package);
        if outcome.is_err() && !was_there && !folder.join("module.toml").exists() {
            // If even this fails, nothing is lost: the node passes over a folder without a manifest.
            let _ = self.disk.remove_dir(&folder);
        }
        outcome
    }

    fn place_in(&self, folder: &Path, package: &Package) -> Result<Outcome, Error> {
        let releases = folder.join(RELEASES);
        self.disk
            .create_dir(&releases)
            .map_err(Error::io("create", &releases))?;
        self.sync(&self.modules_dir)?;
        let installed = self.installed(folder)?;
        let record = self.write_unfinished(&releases, package)?;
        if let Some(expected) = package
            .manifest
            .binary_hash
            .as_ref()
            .filter(|hash| **hash != record.sha256)
        {
            return Err(Error::OtherProgram {
                expected: expected.clone(),
                actual: record.sha256,
            });
        }
        if self.is_same(folder, &installed, package, &record) {
            let unfinished = releases.join(UNFINISHED);
            self.disk
                .remove_dir(&unfinished)
                .map_err(Error::io("remove", &unfinished))?;
            return Ok(Outcome::Same);
        }
        let release = self.finish(&releases, &package.manifest, &record)?;
        let (previous, taken_over) = self.keep(folder, &installed)?;
        self.point_at(folder, &package.manifest, &record, &release, previous.as_deref())?;
        // The module is in place by now: what cannot be removed costs room, no more.
        if let Some(program) = taken_over {
            let _ = self.remove_program(folder, &program);
        }
        self.prune(&releases, &[Some(release.as_str()), previous.as_deref()]);
        let replaced = installed.manifest.map(|manifest| manifest.version);
        Ok(Outcome::Placed { replaced })
    }

    /// Goes back to the release before. The one that is left stays, so that going back can be taken back.
    pub fn roll_back(&self, name: &str) -> Result<(), Error> {
        let folder = self.folder(name)?;
        let manifest = self.manifest_of(name)?;
        let no_previous = || Error::NoPrevious {
            name: name.to_owned(),
        };
        let current = Current::of(&folder, &manifest)?.ok_or_else(no_previous)?;
        let release = current.previous.ok_or_else(no_previous)?;
        if let Some(why) = damage(&folder, &release) {
            return Err(Error::PreviousDamaged {
                name: name.to_owned(),
                release,
                why,
            });
        }
        let dir = folder.join(RELEASES).join(&release);
        let record = Record::read(&dir)?;
        let manifest = read_manifest(&dir, name)?;
        self.point_at(&folder, &manifest, &record, &release, Some(&current.release))
    }

    /// Removes a module, and nothing that is the operator's: `config.toml` and whatever else lies in its folder stay.
    pub fn remove(&self, name: &str) -> Result<Removed, Error> {
        let folder = self.folder(name)?;
        let path = folder.join("module.toml");
        if !path.exists() {
            return Err(Error::NotInstalled {
                name: name.to_owned(),
                modules_dir: self.modules_dir.clone(),
            });
        }
        let manifest = read_manifest(&folder, name).ok();
        let program = manifest
            .as_ref()
            .and_then(|manifest| find_program(&self.modules_dir, &folder, &manifest.entry_point));
        // The manifest first: from here on the node does not see the module, whatever becomes of the rest.
        self.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        self.sync(&folder)?;
        let releases = folder.join(RELEASES);
        self.remove_releases(&releases)?;
        if let Some(program) = program.filter(|program| program.exists()) {
            self.remove_program(&folder, &program)?;
        }
        let next = folder.join(NEXT_MANIFEST);
        self.disk.remove_file(&next).map_err(Error::io("remove", &next))?;
        let left = entries(&folder)?;
        if left.is_empty() {
            self.disk
                .remove_dir(&folder)
                .map_err(Error::io("remove", &folder))?;
        }
        Ok(Removed {
            version: manifest.map(|manifest| manifest.version),
            left,
        })
    }

    /// Removes the program of a module that was put there by hand, with the folders that only it was in. One that lies
    /// outside the module's folder may be another module's too, and stays.
    fn remove_program(&self, folder: &Path, program: &Path) -> Result<(), Error> {
        let folder = folder.canonicalize().map_err(Error::io("find", folder))?;
        if !program.starts_with(&folder) {
            return Ok(());
        }
        self.disk
            .remove_file(program)
            .map_err(Error::io("remove", program))?;
        for parent in folders_between(&folder, program).iter().rev() {
            if entries(parent)?.is_empty() {
                self.disk
                    .remove_dir(parent)
                    .map_err(Error::io("remove", parent))?;
            }
        }
        Ok(())
    }

    /// The manifest of an installed module.
    pub fn manifest_of(&self, name: &str) -> Result<Manifest, Error> {
        let folder = self.modules_dir.join(name);
        if !folder.join("module.toml").exists() {
            return Err(Error::NotInstalled {
                name: name.to_owned(),
                modules_dir: self.modules_dir.clone(),
            });
        }
        read_manifest(&folder, name)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.modules_dir.join(name);
        if path.is_symlink() {
            Err(Error::Link { path })
        } else {
            Ok(path)
        }
    }

    /// What is installed, as far as it can be read: an unreadable module is replaced like any other.
    fn installed(&self, folder: &Path) -> Result<Installed, Error> {
        if !folder.join("module.toml").exists() {
            return Ok(Installed {
                manifest: None,
                current: None,
            });
        }
        let manifest = match read_manifest(folder, "what is installed") {
            Ok(manifest) => manifest,
            Err(Error::Manifest { .. }) => {
                return Ok(Installed {
                    manifest: None,
                    current: None,
                });
            }
            Err(error) => return Err(error),
        };
        let current = Current::of(folder, &manifest).ok().flatten();
        Ok(Installed {
            manifest: Some(manifest),
            current,
        })
    }

    fn is_same(&self, folder: &Path, installed: &Installed, package: &Package, record: &Record) -> bool {
        let Some(current) = &installed.current else {
            return false;
        };
        let dir = folder.join(RELEASES).join(&current.release);
        current.record.sha256 == record.sha256
            && current.record.source == record.source
            && read_manifest(&dir, "").is_ok_and(|manifest| manifest.text == package.manifest.text)
            && damage(folder, &current.release).is_none()
            && find_program(
                &self.modules_dir,
                folder,
                &self.entry_point(&current.release, &current.record),
            )
            .is_some()
            && installed.manifest.as_ref().is_some_and(|manifest| {
                manifest.entry_point == self.entry_point(&current.release, &current.record)
            })
    }

    /// Writes a whole release where nothing points, and takes the hash of what was written.
    fn write_unfinished(&self, releases: &Path, package: &Package) -> Result<Record, Error> {
        let dir = releases.join(UNFINISHED);
        self.disk.remove_dir(&dir).map_err(Error::io("remove", &dir))?;
        self.disk.create_dir(&dir).map_err(Error::io("create", &dir))?;
        let entry_point = Path::new(&package.manifest.entry_point);
        for (from, to) in &package.files {
            let target = dir.join(to);
            let mode = if to == entry_point { 0o755 } else { 0o644 };
            for folder in folders_between(&dir, &target) {
                self.disk
                    .create_dir(&folder)
                    .map_err(Error::io("create", &folder))?;
            }
            self.disk
                .copy(from, &target, mode)
                .map_err(Error::io("write", &target))?;
            for folder in folders_between(&dir, &target) {
                self.sync(&folder)?;
            }
        }
        let (sha256, size) = digest(&dir.join(entry_point))?;
        let record = Record {
            version: package.manifest.version.clone(),
            entry_point: package.manifest.entry_point.clone(),
            sha256,
            size,
            source: package.source.clone(),
        };
        self.write(&dir.join("module.toml"), &package.manifest.text)?;
        let path = dir.join(RECORD);
        let text = toml::to_string(&record).map_err(|error| Error::Record {
            path: path.clone(),
            why: error.to_string(),
        })?;
        self.write(&path, &text)?;
        self.sync(&dir)?;
        Ok(record)
    }

    /// Gives the unfinished release its name, one that no other release here has.
    fn finish(&self, releases: &Path, manifest: &Manifest, record: &Record) -> Result<String, Error> {
        let [major, minor, patch] = version_numbers(&manifest.version).unwrap_or_default();
        let hash: String = record.sha256.chars().take(HASH_CHARS).collect();
        let base = format!("{major}.{minor}.{patch}-{hash}");
        let mut name = base.clone();
        let mut number = 1;
        while releases.join(&name).exists() {
            number += 1;
            name = format!("{base}-{number}");
        }
        let (from, to) = (releases.join(UNFINISHED), releases.join(&name));
        self.disk.rename(&from, &to).map_err(Error::io("rename", &from))?;
        self.sync(releases)?;
        if let Some(folder) = releases.parent() {
            self.sync(folder)?;
        }
        Ok(name)
    }

    /// Names the release to go back to, and a program whose place it takes. Of a damaged release that is the one before
    /// it. A module that was put there by hand is copied into a release first.
    fn keep(&self, folder: &Path, installed: &Installed) -> Result<(Option<String>, Option<PathBuf>), Error> {
        if let Some(current) = &installed.current {
            let mut candidates = [Some(&current.release), current.previous.as_ref()]
                .into_iter()
                .flatten();
            let whole = candidates.find(|release| damage(folder, release).is_none());
            return Ok((whole.cloned(), None));
        }
        let Some(manifest) = &installed.manifest else {
            return Ok((None, None));
        };
        let Some(program) = find_program(&self.modules_dir, folder, &manifest.entry_point) else {
            return Ok((None, None));
        };
        // Its manifest would be given the hash of what is there: a program that was changed would pass from then on.
        let (sha256, _) = digest(&program)?;
        if manifest.binary_hash.as_ref().is_some_and(|hash| *hash != sha256) {
            return Ok((None, None));
        }
        let package = Package {
            manifest: manifest.clone(),
            files: vec![(program.clone(), PathBuf::from(&manifest.entry_point))],
            source: None,
            _holder: None,
        };
        let releases = folder.join(RELEASES);
        let record = self.write_unfinished(&releases, &package)?;
        let release = self.finish(&releases, manifest, &record)?;
        Ok((Some(release), Some(program)))
    }

    /// The moment of change: one rename makes a release the module.
    fn point_at(
        &self,
        folder: &Path,
        manifest: &Manifest,
        record: &Record,
        release: &str,
        previous: Option<&str>,
    ) -> Result<(), Error> {
        let mut installed = toml::Table::new();
        installed.insert("release".to_owned(), release.into());
        installed.extend(previous.map(|previous| ("previous".to_owned(), previous.into())));
        let entry_point = self.entry_point(release, record);
        let text = manifest.for_folder(&entry_point, &record.sha256, record.size, installed);
        let next = folder.join(NEXT_MANIFEST);
        self.write(&next, &text)?;
        let path = folder.join("module.toml");
        self.disk
            .rename(&next, &path)
            .map_err(Error::io("replace", &path))?;
        self.sync(folder)
    }

    fn entry_point(&self, release: &str, record: &Record) -> String {
        format!("{RELEASES}/{release}/{}", record.entry_point)
    }

    /// Removes releases that nothing goes back to. The module is in place by now: what cannot be removed costs room,
    /// and the next time tries again.
    fn prune(&self, releases: &Path, kept: &[Option<&str>]) {
        for path in entries(releases).unwrap_or_default() {
            let name = path.file_name().and_then(|name| name.to_str());
            if !kept.contains(&name) && is_ours(&path) {
                let _ = self.disk.remove_dir(&path);
            }
        }
    }

    /// Removes the releases, and what they lie in unless something else lies there too.
    fn remove_releases(&self, releases: &Path) -> Result<(), Error> {
        if !releases.is_dir() {
            return Ok(());
        }
        for path in entries(releases)?.into_iter().filter(|path| is_ours(path)) {
            self.disk.remove_dir(&path).map_err(Error::io("remove", &path))?;
        }
        if entries(releases)?.is_empty() {
            self.disk
                .remove_dir(releases)
                .map_err(Error::io("remove", releases))?;
        }
        Ok(())
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        self.disk.write(path, text).map_err(Error::io("write", path))
    }

    fn sync(&self, path: &Path) -> Result<(), Error> {
        self.disk.sync_dir(path).map_err(Error::io("sync", path))
    }
}

/// Whether this program made it: a module that was put there by hand may have a folder of this name, with what its owner
/// wants to keep.
fn is_ours(path: &Path) -> bool {
    path.join(RECORD).is_file() || path.file_name().is_some_and(|name| name == UNFINISHED)
}

struct Installed {
    manifest: Option<Manifest>,
    current: Option<Current>,
}

/// The folders from `top` (without it) down to the one that `file` is in.
fn folders_between(top: &Path, file: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = file
        .ancestors()
        .skip(1)
        .take_while(|folder| *folder != top)
        .map(Path::to_owned)
        .collect();
    folders.reverse();
    folders
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(Error::io("list", dir))?;
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests;
