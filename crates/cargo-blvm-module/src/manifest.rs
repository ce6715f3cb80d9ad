//! `module.toml`: the node's rules for it, and ours where the node would be silent.
//!
//! The node discovers a module whose manifest breaks its own rules with no more than a line in its log, and drops a
//! capability that stands in the wrong place without even that. A module then starts and is denied what it asks for.
//! Here each of these is refused by name before anything is installed.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use thiserror::Error;

use crate::capabilities;

/// The node's bound on a manifest.
pub const MAX_BYTES: usize = 64 * 1024;
/// The node's bound on a name.
pub const MAX_NAME_CHARS: usize = 64;
/// Calls of the node's own JSON-RPC that a module may replace; the node does not load a module that names another.
const OVERRIDABLE_RPC: [&str; 2] = ["getdescriptorinfo", "analyzepsbt"];
/// Keys that must stand before the first table header.
const ROOT_ONLY: [&str; 5] = ["capabilities", "name", "version", "entry_point", "rpc_overrides"];
/// Everything the node reads at the root of a manifest.
const READ_BY_NODE: [&str; 14] = [
    "name",
    "version",
    "entry_point",
    "description",
    "author",
    "capabilities",
    "dependencies",
    "optional_dependencies",
    "config_schema",
    "rpc_overrides",
    "signatures",
    "binary",
    "downloads",
    "payment",
];

/// What is wrong with a manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Too big for the node.
    #[error("{bytes} bytes, but the node reads at most {MAX_BYTES}")]
    TooBig {
        /// Its size.
        bytes: usize,
    },
    /// Not TOML, or a key of the wrong type: the node would not see the module at all.
    #[error("not a manifest: {0}")]
    Syntax(String),
    /// A key the node needs.
    #[error("{key} is missing. It must stand before the first [table] header")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key that is lost where it stands.
    #[error(
        "{key} stands under [{table}], where the node does not look: the module would run without it. Move it before \
         the first [table] header"
    )]
    Lost {
        /// The key.
        key: &'static str,
        /// The table it is in.
        table: String,
    },
    /// A name the node refuses to load.
    #[error(
        "name {0:?}: the node takes 1 to {MAX_NAME_CHARS} letters, digits, '-' and '_', a letter or digit first"
    )]
    Name(String),
    /// A version the node cannot read.
    #[error(
        "version {0:?}: the node takes MAJOR.MINOR or MAJOR.MINOR.PATCH, in numbers, and letters only after '-' or '+'"
    )]
    Version(String),
    /// An entry point that leads out of the module's folder.
    #[error("entry_point {0:?} must be a path inside the module's folder: no '..', not absolute")]
    EntryPoint(String),
    /// An override the node does not allow.
    #[error(
        "rpc_overrides names {0:?}; the node lets modules replace only getdescriptorinfo and analyzepsbt and would not load this one"
    )]
    RpcOverride(String),
}

/// A manifest that the node takes, and takes as it is meant.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The module's name, and the name of its folder.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The program, relative to where the manifest lies.
    pub entry_point: String,
    /// What it asks the node for.
    pub capabilities: Vec<String>,
    /// SHA-256 of the program as its author states it, in hexadecimal.
    pub binary_hash: Option<String>,
    /// The text as its author wrote it.
    pub text: String,
    table: toml::Table,
}

/// The types the node demands; a manifest that has others is not seen by it.
#[derive(Deserialize)]
struct Typed {
    name: Option<String>,
    version: Option<String>,
    entry_point: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "author")]
    _author: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default, rename = "dependencies")]
    _dependencies: BTreeMap<String, String>,
    #[serde(default, rename = "optional_dependencies")]
    _optional_dependencies: BTreeMap<String, String>,
    #[serde(default, rename = "config_schema")]
    _config_schema: BTreeMap<String, String>,
    #[serde(default)]
    rpc_overrides: Vec<String>,
    binary: Option<Binary>,
}

#[derive(Deserialize)]
struct Binary {
    hash: Option<String>,
    #[serde(rename = "size")]
    _size: Option<u64>,
}

impl Manifest {
    /// Reads a manifest and applies every rule that would keep the node from running the module as it is meant.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_BYTES {
            return Err(ManifestError::TooBig { bytes: text.len() });
        }
        let table: toml::Table =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        refuse_lost_keys(&table)?;
        let typed: Typed = toml::from_str(text).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        let manifest = Self {
            name: present(typed.name, "name")?,
            version: present(typed.version, "version")?,
            entry_point: present(typed.entry_point, "entry_point")?,
            capabilities: typed.capabilities,
            binary_hash: typed.binary.and_then(|binary| binary.hash).map(plain_hash),
            text: text.to_owned(),
            table,
        };
        if !is_name(&manifest.name) {
            return Err(ManifestError::Name(manifest.name));
        }
        // It becomes part of a path.
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+');
        if version_numbers(&manifest.version).is_none() || !manifest.version.chars().all(is_plain) {
            return Err(ManifestError::Version(manifest.version));
        }
        if !stays_inside(&manifest.entry_point) {
            return Err(ManifestError::EntryPoint(manifest.entry_point));
        }
        match typed
            .rpc_overrides
            .into_iter()
            .find(|method| !OVERRIDABLE_RPC.contains(&method.as_str()))
        {
            Some(method) => Err(ManifestError::RpcOverride(method)),
            None => Ok(manifest),
        }
    }

    /// What the node will pass over: nothing that keeps the module from running.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .capabilities
            .iter()
            .filter(|capability| !capabilities::is_known(capability))
            .map(|capability| {
                format!(
                    "capability {capability:?} is unknown to blvm-node 0.1.83, which grants nothing for it"
                )
            })
            .collect();
        // The table of this installer, which the node is meant to pass over.
        let unread = self
            .table
            .keys()
            .filter(|key| *key != INSTALLED && !READ_BY_NODE.contains(&key.as_str()));
        warnings
            .extend(unread.map(|key| format!("{key:?} is no key of a manifest; the node passes over it")));
        if self
            .version
            .split(['-', '+'])
            .next()
            .is_some_and(|numbers| numbers.split('.').count() < 3)
        {
            warnings.push(format!(
                "version {:?} has no patch number: no pin such as {}.* in the node's [modules] will match it",
                self.version, self.version
            ));
        }
        warnings
    }

    /// Whether the author signed it. The node then compares the program's hash and the signatures by itself, and a
    /// hash of ours in the manifest would be checked against a signature that was never made over it.
    pub fn is_signed(&self) -> bool {
        self.table.contains_key("signatures")
    }

    /// The same manifest for the module's folder: its entry point leads into a release, the program's hash and size
    /// stand under `[binary]` (the node checks the hash each time it loads the module), and `[installed]` says which
    /// release this is and which was before it.
    pub fn for_folder(&self, entry_point: &str, sha256: &str, size: u64, installed: toml::Table) -> String {
        let mut table = self.table.clone();
        table.insert("entry_point".to_owned(), entry_point.into());
        if !self.is_signed() {
            let mut binary = toml::Table::new();
            binary.insert("hash".to_owned(), sha256.into());
            binary.insert("size".to_owned(), i64::try_from(size).unwrap_or(i64::MAX).into());
            table.insert("binary".to_owned(), binary.into());
        }
        table.insert(INSTALLED.to_owned(), installed.into());
        table.to_string()
    }

    /// The `[installed]` table, if this installer wrote the manifest.
    pub fn installed(&self) -> Option<&toml::Table> {
        self.table.get(INSTALLED).and_then(toml::Value::as_table)
    }
}

/// The table of this installer in a manifest that lies in a module's folder.
const INSTALLED: &str = "installed";

/// Whether the node takes this as a module's name.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_CHARS
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
}

/// The numbers of a version, without what follows '-' or '+'. A missing patch number is 0.
pub fn version_numbers(version: &str) -> Option<[u32; 3]> {
    let numbers: Option<Vec<u32>> = version
        .split(['-', '+'])
        .next()?
        .split('.')
        .map(|part| {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse().ok())
                .flatten()
        })
        .collect();
    match numbers?.as_slice() {
        [major, minor] => Some([*major, *minor, 0]),
        [major, minor, patch] => Some([*major, *minor, *patch]),
        _ => None,
    }
}

/// A relative path of plain names. The node refuses every entry point with ".." in it, even inside a name.
fn stays_inside(entry_point: &str) -> bool {
    !entry_point.contains("..")
        && !entry_point.contains('\\')
        && Path::new(entry_point)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

fn present(value: Option<String>, key: &'static str) -> Result<String, ManifestError> {
    value
        .filter(|text| !text.is_empty())
        .ok_or(ManifestError::Missing { key })
}

/// The node takes hashes with this prefix and in either case.
fn plain_hash(hash: String) -> String {
    hash.trim_start_matches("sha256:").to_ascii_lowercase()
}

fn refuse_lost_keys(table: &toml::Table) -> Result<(), ManifestError> {
    for (name, value) in table {
        // Its strings are descriptions of the module's own keys, whatever those are called.
        let is_schema = name == "config_schema";
        let Some(inner) = value.as_table().filter(|_| name != INSTALLED) else {
            continue;
        };
        for key in ROOT_ONLY {
            let lost = match inner.get(key) {
                Some(toml::Value::Array(_)) => true,
                Some(_) => !is_schema && !table.contains_key(key),
                None => false,
            };
            if lost {
                return Err(ManifestError::Lost {
                    key,
                    table: name.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"blvm-mesh\"\nversion = \"0.1.0\"\nentry_point = \"blvm-mesh\"\n";

    fn refusal(text: &str) -> String {
        Manifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_capability_after_a_table_header_is_refused_by_name() {
        let said = refusal(&format!(
            "{GOOD}[package]\ncapabilities = [\"read_blockchain\"]\n"
        ));
        assert!(
            said.contains("capabilities") && said.contains("[package]"),
            "{said}"
        );
        // Even where the node's own types would make it fail for another reason.
        let said = refusal(&format!(
            "{GOOD}[config_schema]\ncapabilities = [\"read_blockchain\"]\n"
        ));
        assert!(said.contains("[config_schema]"), "{said}");
    }

    #[test]
    fn a_configuration_key_may_be_called_like_a_key_of_the_manifest() {
        let text =
            format!("{GOOD}[config_schema]\nname = \"how this node is called\"\ncapabilities = \"…\"\n");
        Manifest::parse(&text).unwrap();
    }

    #[test]
    fn each_required_key_is_missed_by_name() {
        for key in ["name", "version", "entry_point"] {
            let text: String = GOOD
                .lines()
                .filter(|line| !line.starts_with(key))
                .map(|line| format!("{line}\n"))
                .collect();
            assert!(refusal(&text).starts_with(&format!("{key} is missing")), "{key}");
        }
    }

    #[test]
    fn an_entry_point_never_leads_out_of_the_folder() {
        for entry_point in ["/bin/sh", "../blvm", "a/../../b", "..", ".", "a..b", "./x"] {
            let text = GOOD.replace(
                "entry_point = \"blvm-mesh\"",
                &format!("entry_point = {entry_point:?}"),
            );
            let outcome = Manifest::parse(&text);
            assert!(
                matches!(outcome, Err(ManifestError::EntryPoint(_))),
                "{entry_point}: {outcome:?}"
            );
        }
    }

    #[test]
    fn names_and_versions_are_the_nodes() {
        for name in ["", "-a", "a b", "a/b", "..", "ä", &"a".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("blvm-mesh") && is_name("2_x") && is_name(&"a".repeat(64)));
        assert_eq!(version_numbers("1.2"), Some([1, 2, 0]));
        assert_eq!(version_numbers("1.2.3-rc1+x"), Some([1, 2, 3]));
        for version in [
            "",
            "1",
            "1.2.3.4",
            "1.x",
            "1.-2",
            "1.+2",
            "1..2",
            "v1.2",
            "1.99999999999",
        ] {
            assert_eq!(version_numbers(version), None, "{version}");
        }
    }

    #[test]
    fn what_the_node_passes_over_is_warned_of() {
        let text = "name = \"m\"\nversion = \"0.1\"\nentry_point = \"m\"\nauthors = \"x\"\ncapabilities = [\"read_utxo\", \"fly\"]\n";
        let warnings = Manifest::parse(text).unwrap().warnings();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            warnings[0].contains("fly") && warnings[1].contains("authors") && warnings[2].contains("0.1.*")
        );
    }

    #[test]
    fn the_folders_manifest_keeps_all_that_the_author_wrote() {
        let text = format!("{GOOD}capabilities = [\"read_utxo\"]\n[config_schema]\nmode = \"how\"\n");
        let manifest = Manifest::parse(&text).unwrap();
        let written = manifest.for_folder("releases/x/blvm-mesh", "ab", 7, toml::Table::new());
        let read = Manifest::parse(&written).unwrap();
        assert_eq!(read.entry_point, "releases/x/blvm-mesh");
        assert_eq!(read.capabilities, ["read_utxo"]);
        assert_eq!(read.binary_hash.as_deref(), Some("ab"));
        assert_eq!(read.table["config_schema"]["mode"].as_str(), Some("how"));
        assert!(read.warnings().is_empty(), "{:?}", read.warnings());
    }

    #[test]
    fn a_signed_manifest_is_given_no_hash_that_its_signature_does_not_cover() {
        let manifest = Manifest::parse(&format!("{GOOD}[signatures]\nthreshold = \"1-of-1\"\n")).unwrap();
        let written = manifest.for_folder("releases/x/blvm-mesh", "ab", 7, toml::Table::new());
        assert_eq!(Manifest::parse(&written).unwrap().binary_hash, None);
    }
}
