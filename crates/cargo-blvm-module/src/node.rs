//! Finding the node's directories, in the places where the program `blvm` looks for its configuration.
//!
//! A directory that is guessed wrong is worse than none: the module would be installed, verified, and never run. So a
//! relative directory counts only where it is known what it is relative to, which is the node's working directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// What the node takes where its configuration names no directory.
const DEFAULT_MODULES_DIR: &str = "modules";
const DEFAULT_DATA_DIR: &str = "data/modules";
/// The modules the node loads where its configuration names none.
const DEFAULT_PINS: [&str; 3] = ["blvm-miniscript", "blvm-zmq", "blvm-wallet-index"];
/// Keys of `[modules]` that are no names of modules.
const SETTINGS: [&str; 13] = [
    "enabled",
    "modules_dir",
    "data_dir",
    "socket_dir",
    "enabled_modules",
    "disabled_modules",
    "registry_url",
    "module_configs",
    "watch_enabled",
    "watch_auto_load",
    "watch_auto_unload",
    "module_database_backend",
    "marketplace_fetch_enabled",
];

/// What the command line says about the node.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--modules-dir`
    pub modules_dir: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--node-config`
    pub node_config: Option<PathBuf>,
}

/// Where a node has its modules and their data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDirs {
    /// Where the node looks for modules; absolute.
    pub modules_dir: PathBuf,
    /// Where each module has a directory for its data; absolute. `None` where nothing tells.
    pub data_dir: Option<PathBuf>,
    /// What of `[modules]` decides whether a module is loaded; `None` where no configuration was read.
    pub loading: Option<Loading>,
}

/// What of `[modules]` decides whether a module is loaded at the node's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loading {
    enabled: bool,
    /// Empty: every module in the directory.
    pinned: Vec<String>,
    disabled: Vec<String>,
}

/// The machine the command runs on, as far as looking for a node goes.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The working directory.
    pub working_dir: PathBuf,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// The system's configuration directory.
    pub system: PathBuf,
}

impl Surroundings {
    /// This machine, this process.
    pub fn here() -> Result<Self, Error> {
        let working_dir = std::env::current_dir().map_err(Error::io("find", Path::new(".")))?;
        let home = std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from);
        Ok(Self {
            working_dir,
            home,
            system: PathBuf::from("/etc"),
        })
    }

    /// Where `blvm` looks for its configuration, in its order, without `--config`.
    fn places(&self) -> Vec<PathBuf> {
        let mut places = vec![self.working_dir.join("blvm.toml")];
        places.extend(self.home.iter().map(|home| home.join(".config/blvm/blvm.toml")));
        places.push(self.system.join("blvm/blvm.toml"));
        places
    }

    /// Finds the directories of the node that is meant, or says why it cannot be known which.
    pub fn find(&self, asked: &Asked) -> Result<NodeDirs, Error> {
        let mut dirs = match (&asked.modules_dir, &asked.node_config) {
            (Some(dir), config) => self.named(dir, config.as_deref())?,
            (None, Some(config)) => self.read(config)?,
            (None, None) => self.look_around()?,
        };
        if let Some(data_dir) = &asked.data_dir {
            dirs.data_dir = Some(self.working_dir.join(data_dir));
        }
        Ok(dirs)
    }

    fn named(&self, modules_dir: &Path, config: Option<&Path>) -> Result<NodeDirs, Error> {
        let modules_dir = self.working_dir.join(modules_dir);
        let Some(config) = config else {
            return Ok(NodeDirs {
                modules_dir,
                data_dir: None,
                loading: None,
            });
        };
        let settings = Settings::read(config)?;
        Ok(NodeDirs {
            modules_dir,
            data_dir: self.absolute(&settings.data_dir, None),
            loading: Some(settings.loading),
        })
    }

    /// Uses the configurations that are there. Two that agree on the directory are no contradiction.
    fn look_around(&self) -> Result<NodeDirs, Error> {
        let mut found: Vec<(PathBuf, NodeDirs)> = Vec::new();
        for place in self.places().into_iter().filter(|place| place.is_file()) {
            let dirs = self.read(&place)?;
            found.push((place, dirs));
        }
        let differ = found
            .windows(2)
            .any(|pair| pair[0].1.modules_dir != pair[1].1.modules_dir);
        if differ {
            let found = found
                .into_iter()
                .map(|(place, dirs)| (place, dirs.modules_dir))
                .collect();
            return Err(Error::SeveralModulesDirs { found });
        }
        found
            .into_iter()
            .next()
            .map(|(_, dirs)| dirs)
            .ok_or_else(|| self.nothing_found())
    }

    fn nothing_found(&self) -> Error {
        let places: Vec<String> = self
            .places()
            .iter()
            .map(|place| place.display().to_string())
            .collect();
        let mut why = format!("there is no configuration of a node ({})", places.join(", "));
        if self.working_dir.join(DEFAULT_MODULES_DIR).is_dir() {
            why.push_str(". A node that is started in this directory without one uses ./modules");
        }
        Error::NoModulesDir { why }
    }

    /// The directories a configuration names. The node takes relative ones from its working directory. That is known
    /// only for a configuration that lies right here: a node that uses it is started here.
    fn read(&self, config: &Path) -> Result<NodeDirs, Error> {
        let config = self.working_dir.join(config);
        let settings = Settings::read(&config)?;
        let lies_here = config.parent() == Some(self.working_dir.as_path());
        let base = lies_here.then_some(self.working_dir.as_path());
        let modules_dir = self
            .absolute(&settings.modules_dir, base)
            .ok_or_else(|| Error::NoModulesDir {
                why: format!(
                    "{} has modules_dir = {:?}, which is relative to the directory the node is started in",
                    config.display(),
                    settings.modules_dir
                ),
            })?;
        let data_dir = self.absolute(&settings.data_dir, base);
        Ok(NodeDirs {
            modules_dir,
            data_dir,
            loading: Some(settings.loading),
        })
    }

    /// The node's way with a path: a leading `~` is the home directory.
    fn absolute(&self, text: &str, base: Option<&Path>) -> Option<PathBuf> {
        let path = match (text.strip_prefix('~'), &self.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(text),
        };
        match base {
            _ if path.is_absolute() => Some(path),
            Some(base) => Some(base.join(path)),
            None => None,
        }
    }
}

impl Loading {
    /// Why the node would not load this module at its start; `None` if it would.
    pub fn obstacle(&self, name: &str, version: &str) -> Option<String> {
        if !self.enabled {
            return Some(
                "the node's modules are switched off: set enabled = true in its [modules]".to_owned(),
            );
        }
        if self.disabled.iter().any(|disabled| disabled == name) {
            return Some(format!(
                "{name} is in disabled_modules of the node's [modules]: take it out"
            ));
        }
        if self.pinned.is_empty() || self.pinned.iter().any(|pinned| pinned == name) {
            return None;
        }
        Some(format!(
            "the node loads at its start only what its [modules] pins: add {name} = {:?} there",
            pin(version)
        ))
    }
}

/// The node's way to write "this version and its repairs".
fn pin(version: &str) -> String {
    match crate::manifest::version_numbers(version) {
        Some([major, minor, _]) => format!("{major}.{minor}.*"),
        None => "*".to_owned(),
    }
}

struct Settings {
    modules_dir: String,
    data_dir: String,
    loading: Loading,
}

impl Settings {
    /// Reads `[modules]` of a node's configuration, TOML or JSON by its extension as the node does.
    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let not_read = |why: String| Error::NodeConfig {
            path: path.to_owned(),
            why,
        };
        let root: BTreeMap<String, toml::Value> =
            if path.extension().is_some_and(|extension| extension == "toml") {
                toml::from_str(&text).map_err(|error| not_read(error.to_string()))?
            } else {
                // JSON's null is nothing TOML could hold: the node takes such a key as absent.
                let root: BTreeMap<String, serde_json::Value> =
                    serde_json::from_str(&text).map_err(|error| not_read(error.to_string()))?;
                root.into_iter()
                    .filter(|(key, _)| key == "modules")
                    .map(|(key, value)| Ok((key, toml::Value::try_from(value)?)))
                    .collect::<Result<_, toml::ser::Error>>()
                    .map_err(|error| not_read(error.to_string()))?
            };
        match root.get("modules") {
            None => Ok(Self::from_table(&toml::Table::new())),
            Some(toml::Value::Table(modules)) => Ok(Self::from_table(modules)),
            Some(_) => Err(not_read("modules is no table".to_owned())),
        }
    }

    fn from_table(modules: &toml::Table) -> Self {
        let text = |key: &str, default: &str| {
            modules
                .get(key)
                .and_then(toml::Value::as_str)
                .unwrap_or(default)
                .trim()
                .to_owned()
        };
        Self {
            modules_dir: text("modules_dir", DEFAULT_MODULES_DIR),
            data_dir: text("data_dir", DEFAULT_DATA_DIR),
            loading: Loading {
                enabled: modules
                    .get("enabled")
                    .and_then(toml::Value::as_bool)
                    .unwrap_or(true),
                pinned: pins(modules),
                disabled: names(modules.get("disabled_modules")),
            },
        }
    }
}

/// The modules that are pinned: `enabled_modules` replaces the node's own three, and every other key that is a string,
/// or a table with a version, adds one.
fn pins(modules: &toml::Table) -> Vec<String> {
    let mut pinned = match modules.get("enabled_modules") {
        Some(value) => names(Some(value)),
        None => DEFAULT_PINS.map(str::to_owned).to_vec(),
    };
    let inline = modules.iter().filter(|(key, value)| {
        let has_version = value
            .as_table()
            .is_some_and(|table| table.contains_key("version"));
        !SETTINGS.contains(&key.as_str()) && (value.is_str() || has_version)
    });
    pinned.extend(inline.map(|(key, _)| key.clone()));
    pinned
}

fn names(value: Option<&toml::Value>) -> Vec<String> {
    match value {
        Some(toml::Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        Some(toml::Value::Table(table)) => table.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
