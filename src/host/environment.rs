//! What a node tells a module that it spawns: four environment variables, and the module's configuration in more of them.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::Variable;

/// The variables that make a process a module. A node sets all of them.
const NAMES: [&str; 4] = [MODULE_NAME, MODULE_ID, SOCKET_PATH, DATA_DIR];

const MODULE_NAME: &str = "MODULE_NAME";
const MODULE_ID: &str = "MODULE_ID";
const SOCKET_PATH: &str = "SOCKET_PATH";
const DATA_DIR: &str = "DATA_DIR";

/// Longest name of a module that is taken: it travels in every handshake and names a directory.
const MAX_NAME_BYTES: usize = 128;

/// What a node told us at our start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleEnvironment {
    /// What the node calls us; permissions are looked up by it.
    pub module_name: String,
    /// This life of us: the name and 32 hexadecimal digits.
    pub module_id: String,
    /// The node's socket.
    pub socket_path: PathBuf,
    /// Where our state belongs. The node makes it.
    pub data_dir: PathBuf,
    /// `MODULE_CONFIG_*`.
    pub config: Vec<Variable>,
}

/// Why a process that seems to be a module cannot be one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Some variables are there, others are not.
    #[error(
        "{} {} set but {} {}: a node that spawns this program sets all of {}; on a command line give a command (--help \
         lists them), or unset {}",
        .set.join(", "), is_or_are(.set), .missing.join(", "), if .missing.len() == 1 { "is not" } else { "are not" },
        NAMES.join(", "), .set.join(", ")
    )]
    HalfSet {
        /// What is there.
        set: Vec<&'static str>,
        /// What is not, or is empty.
        missing: Vec<&'static str>,
    },
    /// A variable holds what cannot be used.
    #[error("{name} must be {wanted}")]
    Unusable {
        /// Which.
        name: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

fn is_or_are(names: &[&str]) -> &'static str {
    if names.len() == 1 { "is" } else { "are" }
}

impl ModuleEnvironment {
    /// What the environment says; none when nobody spawned us as a module. An empty variable counts as not set.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn detect(
        variable: impl Fn(&str) -> Option<OsString>,
        config: Vec<Variable>,
    ) -> Result<Option<Self>, EnvironmentError> {
        let get = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let (set, missing): (Vec<_>, Vec<_>) = NAMES.into_iter().partition(|name| get(name).is_some());
        let (Some(module_name), Some(module_id), Some(socket_path), Some(data_dir)) =
            (get(MODULE_NAME), get(MODULE_ID), get(SOCKET_PATH), get(DATA_DIR))
        else {
            return match set.is_empty() {
                true => Ok(None),
                false => Err(EnvironmentError::HalfSet { set, missing }),
            };
        };
        Ok(Some(Self {
            module_name: name(module_name, MODULE_NAME)?,
            module_id: name(module_id, MODULE_ID)?,
            socket_path: PathBuf::from(socket_path),
            data_dir: PathBuf::from(data_dir),
            config,
        }))
    }
}

fn name(value: OsString, name: &'static str) -> Result<String, EnvironmentError> {
    let wanted = "a text of at most 128 visible ASCII characters";
    let text = value.into_string().ok();
    text.filter(|text| text.len() <= MAX_NAME_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(EnvironmentError::Unusable { name, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(list: &[(&str, &str)]) -> Result<Option<ModuleEnvironment>, EnvironmentError> {
        let get = |name: &str| {
            let found = list.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        ModuleEnvironment::detect(get, Vec::new())
    }

    const ALL: [(&str, &str); 4] = [
        ("MODULE_NAME", "blvm-mesh"),
        ("MODULE_ID", "blvm-mesh_00112233445566778899aabbccddeeff"),
        ("SOCKET_PATH", "/n/modules.sock"),
        ("DATA_DIR", "/n/data/blvm-mesh"),
    ];

    #[test]
    fn all_four_make_a_module_and_none_makes_none() {
        let module = detect(&ALL).unwrap().unwrap();
        assert_eq!(module.module_name, "blvm-mesh");
        assert_eq!(module.data_dir, PathBuf::from("/n/data/blvm-mesh"));
        assert_eq!(detect(&[]), Ok(None));
        assert_eq!(detect(&[("HOME", "/root"), ("MODULE_NAME", "")]), Ok(None));
    }

    #[test]
    fn a_half_set_environment_is_refused_with_what_is_missing() {
        for left_out in 0..ALL.len() {
            let mut some = ALL.to_vec();
            let (missing, _) = some.remove(left_out);
            let error = detect(&some).unwrap_err();
            assert!(
                matches!(&error, EnvironmentError::HalfSet { missing: found, set } if *found == [missing] && set.len() == 3)
            );
            let said = error.to_string();
            assert!(said.contains(&format!("but {missing} is not")), "{said}");
        }
        let said = detect(&[("DATA_DIR", "/d"), ("SOCKET_PATH", "")])
            .unwrap_err()
            .to_string();
        assert!(
            said.starts_with("DATA_DIR is set but MODULE_NAME, MODULE_ID, SOCKET_PATH are not"),
            "{said}"
        );
    }

    #[test]
    fn a_name_that_would_garble_the_log_is_refused() {
        let long = "x".repeat(129);
        for bad in ["a b", "a\nb", "é", &long] {
            let mut list = ALL;
            list[0].1 = bad;
            let error = detect(&list).unwrap_err();
            assert!(
                matches!(
                    error,
                    EnvironmentError::Unusable {
                        name: "MODULE_NAME",
                        ..
                    }
                ),
                "{bad}"
            );
        }
    }
}
