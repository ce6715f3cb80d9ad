//! Modules built by cargo, from a directory or from its package registry. Cargo fetches, checks what it fetched against
//! the registry's checksums, and builds; this reads what cargo says it built.
//!
//! `cargo install` keeps no manifest. But it tells, for each thing it compiles, in which directory the source was: the
//! `module.toml` is read there, so it is that of the very source the program was compiled from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Build, Check, Package, Source, read_manifest};
use crate::error::Error;
use crate::manifest::{Manifest, version_numbers};

/// Builds the crate in a directory as it stands there, with its lock file.
pub(super) fn from_path(dir: &Path, build: &Build, check: &Check<'_>) -> Result<Package, Error> {
    let manifest = read_manifest(dir, &dir.display().to_string())?;
    check(&manifest)?;
    let mut command = cargo();
    command.args([
        "build",
        "--locked",
        "--bin",
        program_name(&manifest),
        "--manifest-path",
    ]);
    command.arg(dir.join("Cargo.toml"));
    let built = run(&mut command, build, &manifest.entry_point)?;
    let source = Source::Path {
        dir: dir.to_owned(),
        build: build.clone(),
    };
    package(manifest, &built, built.executable.clone(), source, None)
}

/// Builds a crate of the registry: the newest version, or the one asked for, with the lock file it was published with.
pub(super) fn from_registry(
    name: &str,
    version: Option<&str>,
    build: &Build,
    check: &Check<'_>,
) -> Result<Package, Error> {
    let root = tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let mut command = cargo();
    command
        .args(["install", name, "--locked", "--root"])
        .arg(root.path());
    command.args(version.map(|version| format!("--version={version}")));
    let built = run_install(&mut command, name, build)?;
    let folder = built.manifest_path.parent().unwrap_or(Path::new("")).to_owned();
    let manifest = read_manifest(&folder, &format!("the crate {name}"))?;
    check(&manifest)?;
    let program = root
        .path()
        .join("bin")
        .join(with_extension(program_name(&manifest)));
    let source = Source::Registry {
        name: name.to_owned(),
        version: version.map(str::to_owned),
        build: build.clone(),
    };
    package(manifest, &built, Some(program), source, Some(root))
}

fn package(
    manifest: Manifest,
    built: &Built,
    program: Option<PathBuf>,
    source: Source,
    holder: Option<tempfile::TempDir>,
) -> Result<Package, Error> {
    let program = program
        .filter(|program| program.is_file())
        .ok_or_else(|| Error::NoProgram {
            entry_point: manifest.entry_point.clone(),
        })?;
    let package = built.version();
    // 0.1 in a manifest is 0.1.0 of a crate, by the node's own reading.
    if package != manifest.version && version_numbers(package) != version_numbers(&manifest.version) {
        return Err(Error::TwoVersions {
            manifest: manifest.version,
            package: package.to_owned(),
        });
    }
    let files = vec![(program, PathBuf::from(&manifest.entry_point))];
    Ok(Package {
        manifest,
        files,
        source: Some(source),
        _holder: holder,
    })
}

/// The cargo that runs this, or the one on the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The program's name to cargo: an entry point may lie in a folder.
fn program_name(manifest: &Manifest) -> &str {
    let name = manifest.entry_point.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(std::env::consts::EXE_SUFFIX).unwrap_or(name)
}

fn with_extension(program: &str) -> String {
    format!("{program}{}", std::env::consts::EXE_SUFFIX)
}

/// One line of cargo's JSON: what it compiled, from where.
#[derive(Deserialize)]
struct Built {
    reason: String,
    package_id: String,
    manifest_path: PathBuf,
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Built {
    /// `…#name@1.2.3`, or `…/name#1.2.3` where the name is the directory's.
    fn version(&self) -> &str {
        self.package_id.rsplit(['#', '@']).next().unwrap_or_default()
    }

    fn is_program(&self) -> bool {
        self.reason == "compiler-artifact" && self.target.kind.iter().any(|kind| kind == "bin")
    }
}

fn run(command: &mut Command, build: &Build, entry_point: &str) -> Result<Built, Error> {
    let wanted = entry_point.rsplit('/').next().unwrap_or_default();
    programs(command, build)?
        .into_iter()
        .find(|built| with_extension(&built.target.name) == wanted || built.target.name == wanted)
        .ok_or_else(|| Error::NoProgram {
            entry_point: entry_point.to_owned(),
        })
}

/// `cargo install` builds only the programs of the crate that was named, and refuses one without any.
fn run_install(command: &mut Command, name: &str, build: &Build) -> Result<Built, Error> {
    programs(command, build)?
        .into_iter()
        .next()
        .ok_or_else(|| Error::NoManifest {
            what: format!("the crate {name}"),
        })
}

/// Runs cargo, its talk going to the standard error, and returns the programs it built.
fn programs(command: &mut Command, build: &Build) -> Result<Vec<Built>, Error> {
    command.args([
        "--message-format",
        "json-render-diagnostics",
        "--profile",
        &build.profile,
    ]);
    if !build.features.is_empty() {
        command.args(["--features", &build.features.join(",")]);
    }
    let said = format!("{command:?}").replace('"', "");
    let cargo = PathBuf::from(command.get_program());
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(Error::io("run", &cargo))?;
    if !output.status.success() {
        return Err(Error::Cargo {
            command: said,
            status: output.status.to_string(),
        });
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    Ok(lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Built>(line).ok())
        .filter(Built::is_program)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(package_id: &str) -> String {
        let line = serde_json::json!({
            "reason": "compiler-artifact", "package_id": package_id, "manifest_path": "/x/Cargo.toml",
            "target": {"name": "m", "kind": ["bin"]}, "executable": null
        });
        serde_json::from_value::<Built>(line)
            .unwrap()
            .version()
            .to_owned()
    }

    #[test]
    fn the_version_is_read_from_each_form_of_a_package_id() {
        assert_eq!(
            version("registry+https://example.org/index#blvm-mesh@0.1.0"),
            "0.1.0"
        );
        assert_eq!(version("path+file:///src/blvm-mesh#0.1.0"), "0.1.0");
        assert_eq!(
            version("path+file:///src/mesh@home#blvm-mesh@0.1.0-rc.1"),
            "0.1.0-rc.1"
        );
    }
}
