//! From the configuration to a chain source.

use std::path::Path;
use std::sync::Arc;

use mesh_core::verifier::BitcoinNetwork;

use super::bitcoind::{Bitcoind, Login};
use super::node::NodeChain;
use super::node::asking::Answers;
use super::node::scripts::{FreshScripts, ScriptsError};
use super::{ChainError, ChainSetup, ChainSource};
use crate::config::{ChainBackend, ChainConfig};
use crate::data_dir::{DataDirError, expand_home};

/// Why there is no chain source.
#[derive(Debug, thiserror::Error)]
pub enum OpenChainError {
    /// The address.
    #[error(transparent)]
    Source(#[from] ChainError),
    /// A path cannot be.
    #[error(transparent)]
    Path(#[from] DataDirError),
    /// The file of the scripts that were given.
    #[error(transparent)]
    Scripts(#[from] ScriptsError),
    /// There is no node to ask.
    #[error(
        "backend = \"node\" in [chain] asks the blvm-node that started this program as its module, and none did; \
         use backend = \"bitcoind\", or let blvm-node start it"
    )]
    Standalone,
    /// The descriptor is for another network.
    #[error(
        "the descriptor in [chain] has keys of another network than {network:?}, which [mesh] network names: money paid there \
         would not be found; export the descriptor from a wallet of that network"
    )]
    ForeignKeys {
        /// The configuration's.
        network: BitcoinNetwork,
    },
}

/// The source that the configuration names, none unless it names one. `node` is the node that this program is a module of.
/// Asks nothing yet. Only for who holds the data directory's lock.
///
/// # Errors
/// [`OpenChainError`].
pub fn open(
    config: &ChainConfig,
    network: BitcoinNetwork,
    data_dir: &Path,
    node: Option<Arc<dyn Answers>>,
) -> Result<Option<ChainSetup>, OpenChainError> {
    let source: Arc<dyn ChainSource> = match &config.backend {
        None => return Ok(None),
        Some(ChainBackend::Bitcoind(backend)) => {
            let login = match &backend.login {
                Login::Cookie(file) => Login::Cookie(expand_home(file)?),
                Login::Password { user, file } => Login::Password {
                    user: user.clone(),
                    file: expand_home(file)?,
                },
            };
            Arc::new(Bitcoind::new(&backend.url, &backend.wallet, login)?)
        }
        Some(ChainBackend::Node(backend)) => {
            let node = node.ok_or(OpenChainError::Standalone)?;
            if backend.descriptor.is_foreign_to(network) {
                return Err(OpenChainError::ForeignKeys { network });
            }
            let scripts = FreshScripts::open(backend.descriptor.clone(), data_dir)?;
            Arc::new(NodeChain::new(
                node,
                scripts,
                network,
                backend.relay_fee_sats_per_kvb,
            ))
        }
    };
    Ok(Some(ChainSetup {
        source,
        policy: config.policy.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const DESCRIPTOR: &str = "wpkh(tpubD6NzVbkrYhZ4XgiXtGrdW5XDAPFCL9h7we1vwNCpn8tGbBcgfVYjXyhWo4E1xkh56hjod1RhGjxbaTLV3X4FyWuejifB9jusQ46QzG87VKp/0/*)";

    #[derive(Debug)]
    struct NobodyAnswers;

    #[async_trait::async_trait]
    impl Answers for NobodyAnswers {
        async fn ask(&self, _: node_ipc::Request) -> Result<node_ipc::Response, node_ipc::RequestError> {
            Err(node_ipc::RequestError::NotConnected)
        }
    }

    fn config() -> ChainConfig {
        let text = format!("[chain]\nbackend = \"node\"\ndescriptor = \"{DESCRIPTOR}\"");
        Config::parse(&text, "config.toml").unwrap().chain
    }

    #[test]
    fn node_as_a_source_is_refused_by_name_where_no_node_started_this_program() {
        let folder = tempfile::tempdir().unwrap();
        let refused = open(&config(), BitcoinNetwork::Regtest, folder.path(), None).unwrap_err();
        assert!(matches!(refused, OpenChainError::Standalone), "{refused}");
        assert!(
            refused.to_string().contains("backend = \"bitcoind\""),
            "{refused}"
        );
    }

    #[test]
    fn descriptor_of_another_network_is_refused_before_anybody_pays_it() {
        let folder = tempfile::tempdir().unwrap();
        let node = || Some(Arc::new(NobodyAnswers) as Arc<dyn Answers>);
        let refused = open(&config(), BitcoinNetwork::Mainnet, folder.path(), node()).unwrap_err();
        assert!(matches!(refused, OpenChainError::ForeignKeys { .. }), "{refused}");
        let found = open(&config(), BitcoinNetwork::Regtest, folder.path(), node()).unwrap();
        assert!(found.is_some());
    }

    #[test]
    fn nobody_is_asked_unless_somebody_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let config = ChainConfig::default();
        assert!(
            open(&config, BitcoinNetwork::Mainnet, folder.path(), None)
                .unwrap()
                .is_none()
        );
    }
}
