//! What the node's events, its command line and its JSON-RPC lead to, and what goes back.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use node_ipc::{Event, Invocation, InvocationAnswer, InvocationKind, NodeClient};
use tokio::task::JoinHandle;

use super::ModuleError;
use super::commands::{self, Operator};
use super::environment::ModuleEnvironment;
use super::events::{EventCounts, Hands, ModuleLife, NodeEvents, PeerFrames};
use super::publish::{PublishCounts, publish_for_ever};
use super::rpc::RpcDoor;
use crate::admin::AdminService;
use crate::api::MeshModuleApi;
use crate::carrier::NodeCarrier;
use crate::config::{Config, ConfigError, Variable};
use crate::daemon::Daemon;
use crate::data_dir::CONFIG_FILE;
use crate::resources::{Limits, SetBy, fit};

/// See the [module](self). Dropping it ends what it has under way.
pub(super) struct Doors {
    events: NodeEvents,
    rpc: RpcDoor,
    operator: Arc<AdminService>,
    published: Arc<PublishCounts>,
    publishing: JoinHandle<()>,
}

impl Doors {
    /// Opens them; must be called within a tokio runtime.
    pub(super) fn open(
        daemon: &Daemon,
        client: NodeClient,
        environment: &ModuleEnvironment,
    ) -> Result<Self, ModuleError> {
        let node = daemon.node().handle().clone();
        let published = Arc::new(PublishCounts::default());
        let publishing = tokio::spawn(publish_for_ever(
            node.events(),
            Arc::new(client.clone()),
            published.clone(),
        ));
        let file = environment.data_dir.join(CONFIG_FILE);
        let variables = environment.config.clone();
        let events = NodeEvents::start(Hands {
            node,
            client,
            own_name: environment.module_name.clone(),
            carrier: daemon.carrier().map(|carrier| Arc::new(OverNode(carrier)) as _),
            modules: Arc::new(Handlers(daemon.api().clone())),
            config: daemon.config().clone(),
            load: Box::new(move || load(&file, &variables)),
            peers: daemon.neighbours(),
            look_at_disk: daemon.look_at_disk(),
        });
        let rpc = RpcDoor::new(daemon.api().clone());
        Ok(Self {
            events,
            rpc: rpc.map_err(|error| ModuleError::Failed(error.to_string()))?,
            operator: daemon.operator().clone(),
            published,
            publishing,
        })
    }

    pub(super) fn on_event(&self, event: &Event) {
        self.events.on_event(event);
    }

    pub(super) fn on_connected(&self) {
        self.events.on_connected();
    }

    /// Answers a command or a JSON-RPC call; calls of modules are none of its.
    pub(super) fn answer(&self, invocation: Invocation) -> impl Future<Output = ()> + Send + use<> {
        let (rpc, operator) = (self.rpc.clone(), self.operator.clone());
        let (events, published) = (self.events.counts(), self.published.clone());
        async move {
            let answer = match invocation.kind.clone() {
                InvocationKind::Rpc { method, params } => {
                    let answered = rpc.answer(&method, params).await;
                    answered
                        .map(InvocationAnswer::Rpc)
                        .map_err(|error| error.to_string())
                }
                InvocationKind::Cli { subcommand, args } => {
                    Ok(command(&operator, &events, &published, &subcommand, &args).await)
                }
                InvocationKind::ModuleApi { .. } => return,
            };
            invocation.answer(answer);
        }
    }
}

/// The configuration as at the start: what the limits of this process forced upon it then is no change.
fn load(file: &Path, variables: &[Variable]) -> Result<Config, ConfigError> {
    let mut config = Config::load_for_module(file, variables)?;
    if let Err(error) = fit(&mut config, &Limits::of_this_process(), SetBy::Node) {
        tracing::warn!(%error, "the changed configuration would not start again");
    }
    Ok(config)
}

async fn command(
    admin: &AdminService,
    events: &EventCounts,
    published: &PublishCounts,
    subcommand: &str,
    args: &[String],
) -> InvocationAnswer {
    let operator = Operator {
        admin,
        events,
        published,
    };
    commands::answer(operator, subcommand, args).await
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

/// The second carrier.
struct OverNode(Arc<NodeCarrier>);

impl PeerFrames for OverNode {
    fn came(&self, peer: &str) {
        self.0.on_peer_connected(peer);
    }

    fn went(&self, peer: &str) {
        self.0.on_peer_disconnected(peer);
    }

    fn packet(&self, peer: &str, packet: &[u8]) {
        self.0.on_packet(peer, packet);
    }

    fn node_is_back(&self) {
        self.0.on_node_connected();
    }
}

/// The handlers that modules registered.
struct Handlers(Arc<MeshModuleApi>);

impl ModuleLife for Handlers {
    fn came(&self, name: &str) {
        self.0.module_came(name);
    }
}
