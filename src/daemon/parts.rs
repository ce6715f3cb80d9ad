//! What a daemon is made of, from what the configuration says.

use std::path::Path;
use std::sync::Arc;

use mesh_core::announcement::OperatorCertificate;
use mesh_core::core::Announcing;
use mesh_core::identity::{Ed25519Verifier, NodeId};
use mesh_core::operator::{CertificateError, DatedCertificate};
#[cfg(feature = "ldk")]
use mesh_core::verifier::BitcoinNetwork;

use super::DaemonError;
use crate::config::{Config, MeshConfig};
use crate::data_dir::DataDir;
use crate::operator::{self, CERTIFICATE_FILE};
#[cfg(feature = "ldk")]
use crate::wallet::LightningNetwork;
#[cfg(feature = "ldk")]
use crate::wallet::ldk::LdkWallet;
use crate::wallet::{Wallet, build};

/// A Lightning node of our own, if the configuration wants one; its chain source must answer.
#[cfg(feature = "ldk")]
async fn start_lightning(
    config: &Config,
    data_dir: &DataDir,
) -> Result<Option<Arc<dyn Wallet>>, DaemonError> {
    let Some(ldk) = &config.wallet.ldk else {
        return Ok(None);
    };
    let network = lightning_network(config.mesh.network);
    Ok(Some(LdkWallet::start(ldk, network, data_dir).await?))
}

/// The configuration refuses to want one.
#[cfg(not(feature = "ldk"))]
#[expect(clippy::unused_async, reason = "the same call in both builds")]
async fn start_lightning(
    _config: &Config,
    _data_dir: &DataDir,
) -> Result<Option<Arc<dyn Wallet>>, DaemonError> {
    Ok(None)
}

/// The wallet that the configuration names, once it answers.
pub(super) async fn connect_wallet(
    config: &Config,
    data_dir: &DataDir,
) -> Result<Arc<dyn Wallet>, DaemonError> {
    if let Some(wallet) = start_lightning(config, data_dir).await? {
        return Ok(wallet);
    }
    let connected = build::connect(&config.wallet).await;
    let wallet = connected.map_err(|error| match error {
        build::ConnectError::Unreachable { .. } => DaemonError::Unreachable(error.to_string()),
        error => DaemonError::Refused(error.to_string()),
    })?;
    let granularity_msat = wallet.granularity_msat();
    if granularity_msat > 1 {
        tracing::info!(
            granularity_msat,
            "this wallet makes invoices over multiples of this only: payers who offer shares of anything else are refused; this program's do not"
        );
    }
    Ok(wallet)
}

/// What the node says of itself; a certificate that does not fit would be refused by every other node.
pub(super) fn announcing(
    mesh: &MeshConfig,
    data_dir: &Path,
    own: &NodeId,
) -> Result<Announcing, DaemonError> {
    let joined = joined(mesh, data_dir, own)?;
    let configured = mesh.operator.zip(mesh.operator_signature);
    let configured = configured.map(|(operator, signature)| OperatorCertificate { operator, signature });
    if configured.is_some_and(|certificate| !certificate.verify(own, &Ed25519Verifier)) {
        return Err(DaemonError::Refused(format!(
            "operator_signature is not the operator's signature over this node's id {own}; sign that id, or remove it"
        )));
    }
    Ok(Announcing {
        enabled: mesh.announce,
        addresses: mesh.addresses.clone(),
        certificate: joined.map_or(configured, |joined| Some(joined.certificate)),
        certificate_until: joined.map(|joined| joined.expires),
    })
}

/// The certificate that the node took with `operator join`. One that ended meanwhile is not shown, as by a node that kept
/// running; one that was never this node's is refused.
fn joined(mesh: &MeshConfig, data_dir: &Path, own: &NodeId) -> Result<Option<DatedCertificate>, DaemonError> {
    let refused = |why: String| {
        let file = data_dir.join(CERTIFICATE_FILE);
        DaemonError::Refused(format!("{}: {why}, or remove the file", file.display()))
    };
    let taken = operator::taken(data_dir).map_err(|error| DaemonError::Refused(error.to_string()))?;
    let Some(taken) = taken else {
        return Ok(None);
    };
    match taken.check(own, operator::now(), &Ed25519Verifier) {
        Ok(()) => {}
        Err(error @ CertificateError::Expired { .. }) => {
            tracing::warn!(operator = %taken.certificate.operator, %error, "the operator's certificate is not shown");
            return Ok(None);
        }
        Err(error) => return Err(refused(error.to_string())),
    }
    let operator = taken.certificate.operator;
    if let Some(configured) = mesh.operator.filter(|configured| *configured != operator) {
        return Err(refused(format!(
            "it names operator {operator}, and `operator` in [mesh] names {configured}; set it to the same or remove it there"
        )));
    }
    Ok(Some(taken))
}

#[cfg(feature = "ldk")]
fn lightning_network(network: BitcoinNetwork) -> LightningNetwork {
    match network {
        BitcoinNetwork::Mainnet => LightningNetwork::Bitcoin,
        BitcoinNetwork::Testnet => LightningNetwork::Testnet,
        BitcoinNetwork::Signet => LightningNetwork::Signet,
        BitcoinNetwork::Regtest => LightningNetwork::Regtest,
    }
}
