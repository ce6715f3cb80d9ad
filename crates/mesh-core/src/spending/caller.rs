//! Who wants something paid.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_MODULE_NAME_BYTES;

/// Who wants something paid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Caller {
    /// The operator: the command line, the admin socket.
    Operator,
    /// A module that the host authenticated, by the name the host knows it by.
    Module(ModuleName),
    /// Somebody on this machine of whom nothing is known.
    Unidentified,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("the operator"),
            Self::Module(name) => write!(f, "module {name}"),
            Self::Unidentified => f.write_str("unidentified callers"),
        }
    }
}

/// A module's name as the host authenticated it: 1 to [`MAX_MODULE_NAME_BYTES`] bytes without control characters, so
/// that it can neither flood nor forge a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleName(String);

/// A name that no module can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a module's name has 1 to {MAX_MODULE_NAME_BYTES} bytes and no control characters; rename the module"
)]
pub struct BadModuleName;

impl ModuleName {
    /// The name, if it is one.
    ///
    /// # Errors
    /// [`BadModuleName`]: empty, too long, or with control characters.
    pub fn new(name: impl Into<String>) -> Result<Self, BadModuleName> {
        let name = name.into();
        let fits = !name.is_empty() && name.len() <= MAX_MODULE_NAME_BYTES;
        if fits && !name.chars().any(char::is_control) {
            Ok(Self(name))
        } else {
            Err(BadModuleName)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ModuleName {
    type Error = BadModuleName;

    fn try_from(name: String) -> Result<Self, BadModuleName> {
        Self::new(name)
    }
}

impl From<ModuleName> for String {
    fn from(name: ModuleName) -> Self {
        name.0
    }
}
