//! The command line. What was asked for goes to the standard output, everything else to the standard error.

mod print;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::disk::RealDisk;
use crate::error::{EXIT_FAILED, EXIT_FAULTS, Error};
use crate::inspect::{self, Report};
use crate::manifest::{is_name, version_numbers};
use crate::node::{Asked, NodeDirs, Surroundings};
use crate::source::{self, Build, Origin, Package, archive};
use crate::store::{Current, Outcome, Store};

const RELEASE_PROFILE: &str = "release";

#[derive(Parser)]
#[command(
    name = "cargo blvm-module",
    bin_name = "cargo blvm-module",
    version,
    about = "Installs modules of blvm-node",
    after_help = "Exit codes: 0 done, 1 verify or list found a fault, 2 wrong usage, 3 refused, 4 failed. After 3 and \
                  4 the module that was installed before is installed still."
)]
struct Cli {
    /// The node's modules directory [default: modules_dir of the node's configuration]
    #[arg(long, global = true, value_name = "DIR")]
    modules_dir: Option<PathBuf>,
    /// The file the node is started with [default: ./blvm.toml, ~/.config/blvm/blvm.toml, /etc/blvm/blvm.toml]
    #[arg(long, global = true, value_name = "FILE")]
    node_config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install a module: from the package registry, from a directory (--path) or from a release archive (--archive)
    Install {
        /// The module; with --path or --archive it may be left out
        #[arg(required_unless_present_any = ["path", "archive"])]
        name: Option<String>,
        #[command(flatten)]
        from: From,
    },
    /// Replace an installed module, from where it came or from where you say; its data and configuration stay
    Upgrade {
        /// The module
        name: String,
        #[command(flatten)]
        from: From,
        /// Take it from the package registry, wherever it came from
        #[arg(long, conflicts_with_all = ["path", "archive"])]
        registry: bool,
        /// Take a version that is older than the installed one
        #[arg(long)]
        allow_older: bool,
    },
    /// Go back to the release before the last upgrade
    Rollback {
        /// The module
        name: String,
    },
    /// Remove a module; its configuration and its data stay
    Remove {
        /// The module
        name: String,
        /// Remove its data too: keys, channels, books. Needs --yes
        #[arg(long)]
        purge_data: bool,
        /// The data is really to go
        #[arg(long, requires = "purge_data")]
        yes: bool,
        /// The node's directory of module data [default: data_dir of the node's configuration]
        #[arg(long, value_name = "DIR", requires = "purge_data")]
        data_dir: Option<PathBuf>,
    },
    /// Show what is installed
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that the node would run what was installed: manifest, program, SHA-256, capabilities
    Verify {
        /// The module [default: all]
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Count warnings as faults
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Args)]
struct From {
    /// Build the crate in this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["archive", "sha256", "version"])]
    path: Option<PathBuf>,
    /// A release: a .tar.gz with module.toml and the program
    #[arg(long, value_name = "FILE", conflicts_with_all = ["version", "profile", "features"])]
    archive: Option<PathBuf>,
    /// The archive's SHA-256, or the file that names it
    #[arg(long, value_name = "HEX|FILE")]
    sha256: Option<String>,
    /// The version to take from the registry, as cargo writes it [default: the newest]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Cargo's profile to build with [default: release]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Cargo features to build with
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    features: Vec<String>,
}

/// Runs the program `cargo-blvm-module`.
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments(std::env::args_os().collect()));
    let mut out = io::stdout().lock();
    match run(cli, &mut out).and_then(|code| {
        out.flush()
            .map_err(Error::io("write", "standard output".as_ref()))
            .map(|()| code)
    }) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where even the standard error is gone, the exit code is all there is.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Cargo runs `cargo blvm-module …` as `cargo-blvm-module blvm-module …`.
fn arguments(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|first| first == "blvm-module") {
        arguments.remove(1);
    }
    arguments
}

fn run(cli: Cli, out: &mut dyn Write) -> Result<u8, Error> {
    let mut asked = Asked {
        modules_dir: cli.modules_dir,
        data_dir: None,
        node_config: cli.node_config,
    };
    if let Command::Remove { data_dir, .. } = &cli.command {
        asked.data_dir.clone_from(data_dir);
    }
    if let Some(name) = cli.command.name() {
        check_name(name)?;
    }
    let surroundings = Surroundings::here()?;
    let node = surroundings.find(&asked)?;
    match cli.command {
        Command::Install { name, from } => {
            let origin = from.origin(name.as_deref(), None)?;
            install(&node, name.as_deref(), &origin, out)
        }
        Command::Upgrade {
            name,
            from,
            registry,
            allow_older,
        } => upgrade(&node, &name, &from, registry, allow_older, out),
        Command::Rollback { name } => roll_back(&node, &name, out),
        Command::Remove {
            name,
            purge_data,
            yes,
            ..
        } => remove(&node, &name, purge_data, yes, out),
        Command::List { json } => {
            let reports = inspect::all(&node.modules_dir)?;
            said(if json {
                print::json(&node, &reports, out)
            } else {
                print::list(&node, &reports, out)
            })?;
            Ok(verdict(&reports, false))
        }
        Command::Verify { name, json, strict } => {
            let reports = match name {
                Some(name) => vec![inspect::module(&node.modules_dir, &name)?],
                None => inspect::all(&node.modules_dir)?,
            };
            said(if json {
                print::json(&node, &reports, out)
            } else {
                print::verified(&node, &reports, out)
            })?;
            Ok(verdict(&reports, strict))
        }
    }
}

impl Command {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Install { name, .. } | Self::Verify { name, .. } => name.as_deref(),
            Self::Upgrade { name, .. } | Self::Rollback { name } | Self::Remove { name, .. } => Some(name),
            Self::List { .. } => None,
        }
    }
}

impl From {
    /// What the options say; `before` fills in for how to build.
    fn origin(&self, name: Option<&str>, before: Option<&Build>) -> Result<Origin, Error> {
        if let Some(path) = &self.path {
            let dir = path.canonicalize().map_err(Error::io("find", path))?;
            return Ok(Origin::Path {
                dir,
                build: self.build(before),
            });
        }
        if let Some(archive) = &self.archive {
            let given = self.sha256.as_ref().ok_or_else(|| Error::NoChecksum {
                path: archive.clone(),
            })?;
            let sha256 = archive::expected_checksum(given, archive)?;
            let file = std::path::absolute(archive).map_err(Error::io("find", archive))?;
            return Ok(Origin::Archive { file, sha256 });
        }
        let name = name.unwrap_or_default().to_owned();
        Ok(Origin::Registry {
            name,
            version: self.version.clone(),
            build: self.build(before),
        })
    }

    fn build(&self, before: Option<&Build>) -> Build {
        let profile = self
            .profile
            .clone()
            .or_else(|| before.map(|build| build.profile.clone()));
        let features = match before {
            Some(build) if self.features.is_empty() => build.features.clone(),
            _ => self.features.clone(),
        };
        Build {
            profile: profile.unwrap_or_else(|| RELEASE_PROFILE.to_owned()),
            features,
        }
    }

    fn names_a_source(&self) -> bool {
        self.path.is_some() || self.archive.is_some() || self.version.is_some()
    }
}

fn install(node: &NodeDirs, name: Option<&str>, origin: &Origin, out: &mut dyn Write) -> Result<u8, Error> {
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
    let package = source::fetch(origin, &|manifest| {
        same_module(name, &manifest.name)?;
        refuse_installed(&manifest.name)
    })?;
    same_module(name, &package.manifest.name)?;
    refuse_installed(&package.manifest.name)?;
    place(&store, node, &package, out)
}

fn upgrade(
    node: &NodeDirs,
    name: &str,
    from: &From,
    registry: bool,
    allow_older: bool,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let store = Store::open(&RealDisk, &node.modules_dir)?;
    let folder = node.modules_dir.join(name);
    // One that cannot be read, or was put there by hand, can be replaced; only its source is not known.
    let installed = match store.manifest_of(name) {
        Ok(manifest) => Some(manifest),
        Err(Error::Manifest { .. }) => None,
        Err(error) => return Err(error),
    };
    let record = installed
        .as_ref()
        .and_then(|manifest| Current::of(&folder, manifest).ok().flatten())
        .map(|c| c.record);
    let origin = if registry || from.names_a_source() {
        from.origin(
            Some(name),
            record.as_ref().and_then(|record| record.origin.build()),
        )?
    } else {
        let origin = record.map_or(Origin::Manual, |record| record.origin);
        renewed(name, origin, from)?
    };
    let installed = installed.map(|manifest| manifest.version);
    let check = |offered: &str| match &installed {
        Some(version) if !allow_older && version_numbers(offered) < version_numbers(version) => {
            Err(Error::Older {
                name: name.to_owned(),
                installed: version.clone(),
                offered: offered.to_owned(),
            })
        }
        _ => Ok(()),
    };
    let package = source::fetch(&origin, &|manifest| {
        same_module(Some(name), &manifest.name)?;
        check(&manifest.version)
    })?;
    same_module(Some(name), &package.manifest.name)?;
    check(&package.manifest.version)?;
    place(&store, node, &package, out)
}

/// Where a module came from, asked for what is newest there.
fn renewed(name: &str, origin: Origin, from: &From) -> Result<Origin, Error> {
    match origin {
        Origin::Registry { name, build, .. } => Ok(Origin::Registry {
            name,
            version: None,
            build: from.build(Some(&build)),
        }),
        Origin::Path { dir, build } => Ok(Origin::Path {
            dir,
            build: from.build(Some(&build)),
        }),
        Origin::Archive { .. } | Origin::Manual => Err(Error::NoSourceAgain {
            name: name.to_owned(),
            origin: origin.to_string(),
        }),
    }
}

fn place(store: &Store<'_>, node: &NodeDirs, package: &Package, out: &mut dyn Write) -> Result<u8, Error> {
    print::warnings(&package.manifest.warnings());
    let outcome = store.place(package)?;
    let report = inspect::module(&node.modules_dir, &package.manifest.name)?;
    if !report.faults.is_empty() {
        said(print::verified(node, std::slice::from_ref(&report), out))?;
        return Ok(EXIT_FAILED);
    }
    said(print::placed(node, &report, &outcome, out))?;
    Ok(0)
}

fn roll_back(node: &NodeDirs, name: &str, out: &mut dyn Write) -> Result<u8, Error> {
    let store = Store::open(&RealDisk, &node.modules_dir)?;
    let before = store.manifest_of(name).ok().map(|manifest| manifest.version);
    store.roll_back(name)?;
    let report = inspect::module(&node.modules_dir, name)?;
    let outcome = Outcome::Placed {
        replaced: before,
        previous: report.previous.clone(),
    };
    said(print::placed(node, &report, &outcome, out))?;
    Ok(0)
}

fn remove(node: &NodeDirs, name: &str, purge: bool, yes: bool, out: &mut dyn Write) -> Result<u8, Error> {
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

fn check_name(name: &str) -> Result<(), Error> {
    if is_name(name) {
        Ok(())
    } else {
        Err(Error::Name {
            name: name.to_owned(),
        })
    }
}

fn same_module(wanted: Option<&str>, found: &str) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted != found => Err(Error::OtherModule {
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn verdict(reports: &[Report], strict: bool) -> u8 {
    let is_bad = |report: &Report| !report.faults.is_empty() || (strict && !report.warnings.is_empty());
    if reports.iter().any(is_bad) {
        EXIT_FAULTS
    } else {
        0
    }
}

fn said(outcome: io::Result<()>) -> Result<(), Error> {
    outcome.map_err(Error::io("write", "standard output".as_ref()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn cargo_may_call_it_or_the_user() {
        let by = |arguments: &[&str]| self::arguments(arguments.iter().map(OsString::from).collect()).len();
        assert_eq!(by(&["cargo-blvm-module", "blvm-module", "list"]), 2);
        assert_eq!(by(&["cargo-blvm-module", "list"]), 2);
        assert_eq!(by(&["cargo-blvm-module", "install", "blvm-module"]), 3);
    }
}
