//! A mesh node beside a Bitcoin node that only pretends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use blvm_mesh::config::{Config, ConfigError, LiveConfig, Peer};
use blvm_mesh::host::events::{Hands, ModuleLife, NodeEvents, PeerFrames, ReloadPeers, subscriptions};
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::none::NoWallet;
use mesh_core::identity::NodeId;
use mesh_core::routing_policy::MeshMode;
use node_ipc::testing::FakeNode;
use node_ipc::{EventPayload, Incoming, NodeClient, Options};
use tokio::sync::{Notify, mpsc};

use crate::common::{TestNode, eventually, node_config};

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl PeerFrames for Told {
    fn came(&self, peer: &str) {
        self.note(format!("came {peer}"));
    }
    fn went(&self, peer: &str) {
        self.note(format!("went {peer}"));
    }
    fn packet(&self, peer: &str, packet: &[u8]) {
        self.note(format!("packet of {} from {peer}", packet.len()));
    }
    fn node_is_back(&self) {
        self.note("node is back");
    }
}

impl ModuleLife for Told {
    fn came(&self, name: &str) {
        self.note(format!("module {name} came"));
    }
}

impl ReloadPeers for Told {
    fn change(&self, added: Vec<Peer>, removed: Vec<NodeId>) {
        self.note(format!(
            "{} neighbours added, {} removed",
            added.len(),
            removed.len()
        ));
    }
}

pub(crate) struct Stage {
    pub(crate) mesh: TestNode,
    pub(crate) node: FakeNode,
    pub(crate) client: NodeClient,
    pub(crate) events: Arc<NodeEvents>,
    pub(crate) carrier: Arc<Told>,
    pub(crate) modules: Arc<Told>,
    pub(crate) neighbours: Arc<Told>,
    pub(crate) disk: Arc<Notify>,
    pub(crate) config: LiveConfig,
    /// What the configuration file says from now on.
    pub(crate) file: Arc<Mutex<String>>,
    feeding: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

impl Stage {
    /// A node that charges 10 msat, whose configuration says `text`.
    pub(crate) async fn new(text: &str) -> Self {
        Self::beside(text, |_| {}).await
    }

    /// The same beside a node that was told what to answer before anybody asks.
    pub(crate) async fn beside(text: &str, prepare: impl FnOnce(&FakeNode)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            ..node_config(1, MeshMode::PaymentGated, Arc::new(NoWallet), &directory)
        };
        let mesh = RunningNode::start(config).await.unwrap();
        let socket = directory.path().join("node.sock");
        let mesh = TestNode {
            node: mesh,
            directory,
        };
        let node = FakeNode::bind(&socket).unwrap();
        prepare(&node);
        let mut options = Options::new(socket, "blvm-mesh", "blvm-mesh_0", "0");
        options.subscriptions = subscriptions(true);
        let (client, incoming) = NodeClient::start(options);
        let file = Arc::new(Mutex::new(text.to_owned()));
        let config: LiveConfig = Arc::new(Mutex::new(Config::parse(text, "f").unwrap()));
        let (carrier, modules, neighbours) = (
            Arc::new(Told::default()),
            Arc::new(Told::default()),
            Arc::new(Told::default()),
        );
        let disk = Arc::new(Notify::new());
        let events = Arc::new(NodeEvents::start(Hands {
            node: mesh.node.handle().clone(),
            client: client.clone(),
            own_name: "blvm-mesh".to_owned(),
            carrier: Some(carrier.clone()),
            modules: modules.clone(),
            config: config.clone(),
            load: loader(file.clone()),
            peers: neighbours.clone(),
            look_at_disk: disk.clone(),
        }));
        let stage = Self {
            feeding: tokio::spawn(feed(incoming, events.clone())),
            mesh,
            node,
            client,
            events,
            carrier,
            modules,
            neighbours,
            disk,
            config,
            file,
        };
        stage
            .node
            .until("the subscription", |node| node.asked("SubscribeEvents") == 1)
            .await;
        stage
    }

    pub(crate) async fn happens(&self, payload: EventPayload) {
        self.node.publish(payload).await;
    }

    /// Waits until so many events of a kind arrived.
    pub(crate) async fn arrived(&self, name: &str, count: u64) {
        eventually("an event's arrival", async || {
            let counts: BTreeMap<_, _> = self.events.counts().all().into_iter().collect();
            (counts.get(name).copied().unwrap_or_default() >= count).then_some(())
        })
        .await;
    }

    /// Why it refuses new sessions, by name.
    pub(crate) async fn refuses(&self) -> Vec<&'static str> {
        let status = self.mesh.status().await;
        status
            .pauses
            .iter()
            .map(|pause| pause.reason().as_str())
            .collect()
    }

    pub(crate) async fn until_refusing(&self, wanted: &[&str]) {
        eventually("a pause or its end", async || {
            (self.refuses().await == wanted).then_some(())
        })
        .await;
    }
}

fn loader(file: Arc<Mutex<String>>) -> Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync> {
    Box::new(move || Config::parse(&file.lock().unwrap(), "config.toml"))
}

async fn feed(mut incoming: mpsc::Receiver<Incoming>, events: Arc<NodeEvents>) {
    while let Some(incoming) = incoming.recv().await {
        match incoming {
            Incoming::Connected { .. } => events.on_connected(),
            Incoming::Event(event) => events.on_event(&event),
            Incoming::Disconnected { .. } | Incoming::Invocation(_) => {}
        }
    }
}
