//! The stage: six Lightning nodes, five mesh nodes on loopback, all linked.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command, Status};
use mesh_core::identity::{Identity, NodeId};
use mesh_core::routing_policy::MeshMode;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::EndpointConfig;

use super::villain::Villain;
use super::{DemoError, LOOPBACK};
use crate::handle::NodeHandle;
use crate::node::{NodeConfig, RunningNode};
use crate::wallet::Wallet;
use crate::wallet::devnet::{Devnet, DevnetWallet};

/// The nodes' names.
pub(super) const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];

/// Links and channels: the line, and the shortcut from B to D.
const EDGES: [(usize, usize); 5] = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 3)];

/// The villain's Lightning node.
const VILLAIN: usize = 5;

/// What each node charges per unit of 1 KiB, in msat. With two routers at 15 the fee per packet is 100, of which 60 are
/// the destination's: the percentages come out even and the slice is spent to the last msat.
const PRICES_MSAT: [u64; 5] = [15, 15, 15, 15, 60];

/// Each channel holds this much, half on either side.
const CHANNEL_SAT: u64 = 5_000_000;

const PATIENCE: Duration = Duration::from_secs(30);

/// How often something is looked at again that gives no notice.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// One of the five.
pub(super) struct Actor {
    pub(super) name: &'static str,
    pub(super) node: RunningNode,
    pub(super) wallet: Arc<DevnetWallet>,
    _directory: DemoDirectory,
}

impl Actor {
    pub(super) fn handle(&self) -> &NodeHandle {
        self.node.handle()
    }

    pub(super) fn id(&self) -> NodeId {
        self.handle().node_id()
    }

    pub(super) async fn status(&self) -> Result<Status, DemoError> {
        match self.handle().command(Command::Status).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(crate::handle::CommandError::Unexpected.into()),
        }
    }

    /// How often this node has dropped or refused something for this reason.
    pub(super) async fn dropped(&self, reason: DropReason) -> Result<u64, DemoError> {
        let status = self.status().await?;
        Ok(status
            .dropped
            .iter()
            .find(|(known, _)| *known == reason)
            .map_or(0, |(_, count)| *count))
    }
}

/// Everything the demo plays on.
pub(super) struct Stage {
    pub(super) devnet: Devnet,
    pub(super) actors: Vec<Actor>,
    pub(super) villain: Villain,
}

impl Stage {
    pub(super) async fn set(progress: &dyn Fn(&str)) -> Result<Self, DemoError> {
        let devnet = Devnet::mesh(NAMES.len() + 1, &EDGES, CHANNEL_SAT, random_number()?).await?;
        progress("starting five mesh nodes");
        let mut actors = Vec::new();
        for (index, name) in NAMES.into_iter().enumerate() {
            actors.push(actor(&devnet, index, name).await?);
        }
        for (from, to) in EDGES {
            link(&actors, from, to)?;
        }
        let wallet = devnet.wallet(VILLAIN)?;
        let key = wallet.info().await?.payee.ok_or(DemoError::NoLightningKey)?;
        let villain = Villain::start(new_identity()?, random_bytes()?, wallet, key)?;
        let stage = Self {
            devnet,
            actors,
            villain,
        };
        progress("waiting for links");
        for (index, links) in [1, 3, 2, 3, 1].into_iter().enumerate() {
            stage.wait_linked(index, links).await?;
        }
        Ok(stage)
    }

    /// The villain links itself to A and E and opens channels to them. It comes late, so that it carries none of the
    /// honest part's Lightning payments.
    pub(super) async fn villain_enters(&self) -> Result<(), DemoError> {
        for index in [0, 4] {
            self.devnet
                .open_channel(index, VILLAIN, CHANNEL_SAT, CHANNEL_SAT * 1000 / 2)
                .await?;
            let actor = &self.actors[index];
            if let Some(address) = actor.node.listen_addr() {
                mesh_net::Transport::add_peer(self.villain.endpoint.as_ref(), address, actor.id())?;
            }
        }
        self.devnet.wait_ready().await?;
        self.wait_linked(0, 2).await?;
        self.wait_linked(4, 2).await
    }

    pub(super) fn payer(&self) -> &Actor {
        &self.actors[0]
    }

    pub(super) fn destination(&self) -> &Actor {
        &self.actors[4]
    }

    pub(super) fn name_of(&self, id: &NodeId) -> String {
        let actor = self.actors.iter().find(|actor| actor.id() == *id);
        actor.map_or_else(|| "villain".to_owned(), |actor| actor.name.to_owned())
    }

    pub(super) fn names(&self, path: &[NodeId]) -> Vec<String> {
        path.iter().map(|id| self.name_of(id)).collect()
    }

    /// What every Lightning node owns, in msat, when no payment is under way.
    pub(super) async fn balances(&self) -> Result<Vec<u64>, DemoError> {
        self.devnet.wait_quiet().await?;
        Ok(self
            .actors
            .iter()
            .map(|actor| actor.wallet.balance_msat())
            .collect())
    }

    /// Waits until the node has that many links.
    pub(super) async fn wait_linked(&self, index: usize, links: usize) -> Result<(), DemoError> {
        wait_for("links", || async {
            Ok((self.actors[index].status().await?.neighbours.len() >= links).then_some(()))
        })
        .await
    }

    pub(super) async fn clear(self) {
        drop(self.villain);
        for actor in self.actors {
            actor.node.stop().await;
        }
        self.devnet.shutdown().await;
    }
}

/// Looks again and again, for a bounded time, until there is something.
pub(super) async fn wait_for<T, F>(what: &'static str, mut look: impl FnMut() -> F) -> Result<T, DemoError>
where
    F: Future<Output = Result<Option<T>, DemoError>>,
{
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() > until {
            return Err(DemoError::TooSlow {
                what,
                seconds: PATIENCE.as_secs(),
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn actor(devnet: &Devnet, index: usize, name: &'static str) -> Result<Actor, DemoError> {
    let wallet = devnet.wallet(index)?;
    let directory = DemoDirectory::new(name)?;
    let config = NodeConfig {
        identity: new_identity()?,
        account_secret: random_bytes()?,
        data_dir: directory.0.clone(),
        mode: MeshMode::PaymentGated,
        price_msat_per_unit: PRICES_MSAT[index],
        network: BitcoinNetwork::Regtest,
        operator: None,
        announcing: Default::default(),
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        free_bytes_per_second: 1 << 20,
        spending: Default::default(),
        links: EndpointConfig {
            listen_addr: Some(LOOPBACK),
            ..EndpointConfig::default()
        },
        peers: Vec::new(),
        wallet: wallet.clone(),
        chain: None,
        treasury: None,
        fairness: Default::default(),
    };
    Ok(Actor {
        name,
        node: RunningNode::start(config).await?,
        wallet,
        _directory: directory,
    })
}

fn link(actors: &[Actor], from: usize, to: usize) -> Result<(), DemoError> {
    if let Some(address) = actors[to].node.listen_addr() {
        actors[from].node.add_peer(address, actors[to].id())?;
    }
    Ok(())
}

fn new_identity() -> Result<Identity, DemoError> {
    Identity::from_seed(random_bytes()?).map_err(|_| DemoError::NoRandomness)
}

pub(super) fn random_bytes() -> Result<[u8; 32], DemoError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| DemoError::NoRandomness)?;
    Ok(bytes)
}

fn random_number() -> Result<u64, DemoError> {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&random_bytes()?[..8]);
    Ok(u64::from_ne_bytes(bytes))
}

/// A directory of its own for each node, removed at the end.
struct DemoDirectory(std::path::PathBuf);

impl DemoDirectory {
    fn new(name: &str) -> Result<Self, DemoError> {
        let unique = format!(
            "blvm-mesh-demo-{}-{:016x}-{name}",
            std::process::id(),
            random_number()?
        );
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        // What cannot be removed is left for the system's own cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
