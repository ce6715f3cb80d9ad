//! Who calls: for whom money is spent, and under which name things are kept.

use std::fmt;

use mesh_core::spending::{BadModuleName, Caller, ModuleName};
use serde::{Deserialize, Serialize};

/// Hexadecimal digits that the host appends to a module's name to make its id.
const ID_DIGITS: usize = 32;

/// Whoever calls the ModuleAPI.
///
/// Two names that must not be confused: the *caller* is whom the host authenticated, and has a budget. The *socket name*
/// is what a client of the socket calls itself: it tells one program's quotes, sessions and protocols from another's and is
/// good for nothing else. If it were good for a budget, a runaway program would get a fresh one with every name it thinks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Client {
    caller: Caller,
    socket_name: Option<ModuleName>,
}

impl Client {
    /// Whom the host authenticated, or nobody known.
    pub fn of(caller: Caller) -> Self {
        Self {
            caller,
            socket_name: None,
        }
    }

    /// A module, by its name or by its id, which is the name, `_` and 32 hexadecimal digits: another id after every start,
    /// so what a module has would not survive its restart under it.
    ///
    /// # Errors
    /// [`BadModuleName`].
    pub fn module(name_or_id: &str) -> Result<Self, BadModuleName> {
        ModuleName::new(without_instance(name_or_id)).map(|name| Self::of(Caller::Module(name)))
    }

    /// A client of the socket, under the name that it gives itself.
    pub fn over_socket(name: ModuleName) -> Self {
        Self {
            caller: Caller::Unidentified,
            socket_name: Some(name),
        }
    }

    /// Whose budget pays.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The module that the host can call; none if it is no module of the host.
    pub(super) fn module_name(&self) -> Option<&ModuleName> {
        match &self.caller {
            Caller::Module(name) => Some(name),
            Caller::Operator | Caller::Unidentified => None,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket_name {
            Some(name) => write!(f, "socket client {name}"),
            None => self.caller.fmt(f),
        }
    }
}

fn without_instance(id: &str) -> &str {
    match id.rsplit_once('_') {
        Some((name, digits))
            if !name.is_empty()
                && digits.len() == ID_DIGITS
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            name
        }
        _ => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_the_same_one_after_its_restart_and_never_a_socket_client_of_its_name() {
        let name = ModuleName::new("chat_bot").unwrap();
        let expected = Client::of(Caller::Module(name.clone()));
        for id in ["chat_bot", "chat_bot_00112233445566778899aabbccddeeff"] {
            assert_eq!(Client::module(id), Ok(expected.clone()));
        }
        assert_ne!(Client::over_socket(name), expected);
        for other in ["chat_bot_0011", "chat_bot_zz112233445566778899aabbccddeeff"] {
            assert_ne!(Client::module(other), Ok(expected.clone()), "{other}");
        }
        let digits = format!("_{}", "0".repeat(ID_DIGITS));
        assert_eq!(
            Client::module(&digits).unwrap().to_string(),
            format!("module {digits}")
        );
        assert!(Client::module("").is_err());
    }
}
