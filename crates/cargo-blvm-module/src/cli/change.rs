//! The commands that change the modules directory.

use std::io::{self, Write};
use std::path::PathBuf;

use super::source_options::SourceOptions;
use super::{print, said};
use crate::disk::RealDisk;
use crate::error::{EXIT_FAILED, Error};
use crate::inspect;
use crate::manifest::{Manifest, version_numbers};
use crate::node::NodeDirs;
use crate::source::{self, Package};
use crate::store::{Current, Outcome, Store};

pub(super) fn install(
    node: &NodeDirs,
    name: Option<&str>,
    options: &SourceOptions,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let source = options.source(name, None)?;
    let store = Store::open(&RealDisk, &node.modules_dir)?;
    let refuse_installed = |name: &str| match store.manifest_of(name) {
        Ok(manifest) => Err(Error::AlreadyInstalled {
            name: name.to_owned(),
            version: manifest.version,
        }),
        Err(Error::Manifest { .. } | Error::NotInstalled { .. }) => Ok(()),
        Err(error) => Err(error),
    };
    // Before the long work of building, where the name is known.
    name.map_or(Ok(()), refuse_installed)?;
    let package = source::fetch(&source, &|manifest| {
        refuse_other(name, manifest)?;
        refuse_installed(&manifest.name)
    })?;
    place(&store, node, &package, out)
}

pub(super) fn upgrade(
    node: &NodeDirs,
    name: &str,
    options: &SourceOptions,
    registry: bool,
    allow_older: bool,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let store = Store::open(&RealDisk, &node.modules_dir)?;
    // One whose manifest cannot be read can still be replaced; only its source is not known.
    let installed = match store.manifest_of(name) {
        Ok(manifest) => Some(manifest),
        Err(Error::Manifest { .. }) => None,
        Err(error) => return Err(error),
    };
    let before = installed.as_ref().and_then(|manifest| {
        let current = Current::of(&node.modules_dir.join(name), manifest).ok()??;
        current.record.source
    });
    let source = if registry || options.name_a_source() {
        options.source(Some(name), before.as_ref().and_then(source::Source::build))?
    } else {
        let no_source = Error::NoSourceAgain {
            name: name.to_owned(),
            from: print::source(before.as_ref()),
        };
        before.and_then(|before| options.again(before)).ok_or(no_source)?
    };
    let package = source::fetch(&source, &|manifest| {
        refuse_other(Some(name), manifest)?;
        match &installed {
            Some(installed) if !allow_older => refuse_older(installed, manifest),
            _ => Ok(()),
        }
    })?;
    place(&store, node, &package, out)
}

fn refuse_other(wanted: Option<&str>, found: &Manifest) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted != found.name => Err(Error::OtherModule {
            found: found.name.clone(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn refuse_older(installed: &Manifest, offered: &Manifest) -> Result<(), Error> {
    if version_numbers(&offered.version) >= version_numbers(&installed.version) {
        return Ok(());
    }
    Err(Error::Older {
        name: installed.name.clone(),
        installed: installed.version.clone(),
        offered: offered.version.clone(),
    })
}

fn place(store: &Store<'_>, node: &NodeDirs, package: &Package, out: &mut dyn Write) -> Result<u8, Error> {
    print::warnings(&package.manifest.warnings());
    let outcome = store.place(package)?;
    placed(node, &package.manifest.name, &outcome, out)
}

pub(super) fn roll_back(node: &NodeDirs, name: &str, out: &mut dyn Write) -> Result<u8, Error> {
    let store = Store::open(&RealDisk, &node.modules_dir)?;
    let before = store.manifest_of(name)?;
    store.roll_back(name)?;
    placed(
        node,
        name,
        &Outcome::Placed {
            replaced: Some(before.version),
        },
        out,
    )
}

/// Looks at what was put in place as `verify` would, and says so.
fn placed(node: &NodeDirs, name: &str, outcome: &Outcome, out: &mut dyn Write) -> Result<u8, Error> {
    let report = inspect::module(&node.modules_dir, name)?;
    if !report.faults.is_empty() {
        said(print::verified(node, std::slice::from_ref(&report), out))?;
        return Ok(EXIT_FAILED);
    }
    said(print::placed(node, &report, outcome, out))?;
    Ok(0)
}

pub(super) fn remove(
    node: &NodeDirs,
    name: &str,
    purge: bool,
    yes: bool,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let data = if purge {
        Some(data_to_purge(node, name, yes)?)
    } else {
        None
    };
    let store = Store::open(&RealDisk, &node.modules_dir)?;
    let removed = match store.remove(name) {
        // The data of a module that was removed before can still be purged.
        Err(Error::NotInstalled { .. }) if data.as_ref().is_some_and(|data| data.exists()) => None,
        removed => Some(removed?),
    };
    if let Some(data) = &data {
        match std::fs::remove_dir_all(data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", data)(error));
            }
            _ => {}
        }
    }
    said(print::removed(node, name, removed.as_ref(), data.as_deref(), out))?;
    Ok(0)
}

/// The directory of the module's data, if it is one that may be removed.
fn data_to_purge(node: &NodeDirs, name: &str, yes: bool) -> Result<PathBuf, Error> {
    let dir = node.data_dir.as_ref().ok_or(Error::NoDataDir)?.join(name);
    let refused = |why| {
        Err(Error::DataDirRefused {
            path: dir.clone(),
            why,
        })
    };
    if dir.is_symlink() {
        return refused("it is a symbolic link");
    }
    if let (Ok(data), Ok(modules)) = (dir.canonicalize(), node.modules_dir.canonicalize())
        && (data.starts_with(&modules) || modules.starts_with(&data))
    {
        return refused("the node's modules are in it, or it is among them");
    }
    if !yes {
        return Err(Error::PurgeNotConfirmed { path: dir });
    }
    Ok(dir)
}
