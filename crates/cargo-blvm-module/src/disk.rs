//! The few things the installer does to a disk, each durable when it returns. Behind a trait so that tests can cut the
//! power between any two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What the installer does to a disk.
pub trait Disk {
    /// Creates a directory and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Copies a file to a path that does not exist, with these permission bits, down to the disk.
    fn copy(&self, from: &Path, to: &Path, mode: u32) -> io::Result<()>;
    /// Writes a file, down to the disk.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
    /// Puts one path in the place of another, at once: whoever looks finds the old or the new.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the entries of a directory (what was created, renamed, removed in it) durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it, if it is there.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file, if it is there.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
}

/// The machine's disk.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn copy(&self, from: &Path, to: &Path, mode: u32) -> io::Result<()> {
        let mut source = File::open(from)?;
        let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
        io::copy(&mut source, &mut target)?;
        set_mode(&target, mode)?;
        target.sync_all()
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        set_mode(&file, 0o644)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // A directory is opened like a file to be synced; elsewhere its entries are durable by themselves or not at all.
        if cfg!(unix) {
            File::open(path)?.sync_all()
        } else {
            Ok(())
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_file(path))
    }
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}
