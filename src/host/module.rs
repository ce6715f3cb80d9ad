//! A module's life, from the directory the node made to the orderly stop.

use std::fs::File;
use std::time::Duration;

use rustix::stdio::{dup2_stderr, dup2_stdout};
use tokio::time::sleep_until;

use super::ModuleError;
use super::again::until_it_starts;
use super::conversation::Conversation;
use super::doors::Doors;
use super::environment::ModuleEnvironment;
use super::log::{self, NodeLog};
use super::parent::{PARENT_LOOK, Parent};
use super::runtime;
use crate::config::Config;
use crate::daemon::{Daemon, STOP_TIMEOUT, Setup, StopSignals};
use crate::data_dir::{self, CONFIG_FILE, DataDir};
use crate::resources::{Limits, SetBy, fit};

/// The node sets our limits just after it has spawned us: this long until they hold.
const LIMITS_SETTLE: Duration = Duration::from_millis(200);

/// How long after our start we call the node: well after its spawner has called, 100 ms after it started us. A published
/// node (0.1.83) has one place for a connection. Were we first, it would wait for its own call to be answered and never
/// finish its start; as the second we are not answered, and nothing else breaks. A node with more places answers at once.
const CALL_THE_NODE_AFTER: Duration = Duration::from_secs(1);

/// How long the data directory is waited for: a node that was killed and started again at once finds the module of its
/// earlier life about to notice and stop.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// How long the runtime may take to let go of blocked threads before the process ends.
const RUNTIME_STOP: Duration = Duration::from_secs(2);

const _: () = assert!(LOCK_PATIENCE.as_secs() > PARENT_LOOK.as_secs() + STOP_TIMEOUT.as_secs());

/// Runs until the node goes, or somebody says stop.
pub(super) fn run(environment: &ModuleEnvironment) -> Result<(), ModuleError> {
    let node = Parent::of_this_process();
    data_dir::make_private(&environment.data_dir)?;
    let node_log = NodeLog::default();
    log::start(&environment.data_dir, node_log.clone())?;
    let ended = live(environment, &node_log, node);
    if let Err(error) = &ended {
        tracing::error!("{error}");
    }
    ended
}

fn live(environment: &ModuleEnvironment, node_log: &NodeLog, node: Parent) -> Result<(), ModuleError> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = environment.module_name,
        id = environment.module_id,
        "starting as a module"
    );
    if node.was_gone() {
        tracing::info!("the node that spawned this module is gone already, and with it the reason to run");
        return Ok(());
    }
    std::thread::sleep(LIMITS_SETTLE);
    let Some(setup) = prepare(environment)? else {
        tracing::info!("enabled = false: nothing to do");
        return Ok(());
    };
    let runtime = runtime::build(&Limits::of_this_process())?;
    let ended = runtime.block_on(serve(setup, environment, node_log, node));
    runtime.shutdown_timeout(RUNTIME_STOP);
    ended
}

/// What the daemon is started with; none when it is not to run.
fn prepare(environment: &ModuleEnvironment) -> Result<Option<Setup>, ModuleError> {
    let given = &environment.data_dir;
    let mut config = Config::load_for_module(&given.join(CONFIG_FILE), &environment.config)?;
    if let Some(configured) = config
        .mesh
        .data_dir
        .as_ref()
        .filter(|configured| *configured != given)
    {
        return Err(ModuleError::OtherDataDir {
            configured: configured.display().to_string(),
            given: given.display().to_string(),
        });
    }
    if !config.mesh.enabled {
        return Ok(None);
    }
    let fitted = fit(&mut config, &Limits::of_this_process(), SetBy::Node)?;
    for warning in config.warnings().iter().chain(&fitted.warnings) {
        tracing::warn!("{warning}");
    }
    let data_dir = DataDir::take_over(given, LOCK_PATIENCE)?;
    Ok(Some(Setup {
        database_cache_bytes: fitted.database_cache_bytes,
        ..Setup::new(config, data_dir)
    }))
}

async fn serve(
    mut setup: Setup,
    environment: &ModuleEnvironment,
    node_log: &NodeLog,
    node: Parent,
) -> Result<(), ModuleError> {
    let mut stop = StopSignals::new()?;
    let gone = node.gone();
    tokio::pin!(gone);
    let starting = async {
        sleep_until(node.spawned_us + CALL_THE_NODE_AFTER).await;
        let mut conversation = Conversation::begin(environment, node_log, setup.config.mesh.node_carrier);
        setup.bitcoin_node = Some(conversation.client());
        let daemon = tokio::select! {
            started = start(setup) => started?,
            never = conversation.turn_away() => match never {},
        };
        Ok::<_, ModuleError>((daemon, conversation))
    };
    let (daemon, mut conversation) = tokio::select! {
        started = starting => started?,
        () = stop.wait() => return Ok(()),
        () = &mut gone => return Ok(()),
    };
    let (node_id, listen_addr) = (daemon.node().handle().node_id(), daemon.node().listen_addr());
    tracing::info!(%node_id, ?listen_addr, "the mesh is running");
    leave_standard_streams();
    let doors = Doors::open(&daemon, conversation.client(), environment)?;
    let ended = tokio::select! {
        error = daemon.serve() => Err(error.into()),
        () = conversation.go_on(daemon.api(), &doors) => Ok(()),
        () = stop.wait() => Ok(()),
        () = &mut gone => {
            tracing::info!("the node is gone, and with it the reason to run");
            Ok(())
        }
    };
    tracing::info!("stopping");
    daemon.stop().await?;
    tracing::info!("stopped");
    conversation.end().await;
    ended
}

/// Starts the daemon, as often as it takes.
async fn start(setup: Setup) -> Result<Daemon, ModuleError> {
    let (config, database_cache_bytes) = (setup.config.clone(), setup.database_cache_bytes);
    let (place, bitcoin_node) = (setup.data_dir.path().to_owned(), setup.bitcoin_node.clone());
    let anew = || -> Result<Setup, ModuleError> {
        Ok(Setup {
            database_cache_bytes,
            bitcoin_node: bitcoin_node.clone(),
            ..Setup::new(config.clone(), DataDir::open(&place)?)
        })
    };
    let mut first = Some(setup);
    until_it_starts(|| {
        let setup = first.take().map_or_else(&anew, Ok);
        async { Ok(Daemon::start(setup?).await?) }
    })
    .await
}

/// Whatever a library may still write there must not wait for somebody to read it.
fn leave_standard_streams() {
    let left = File::options().write(true).open("/dev/null").and_then(|nowhere| {
        dup2_stdout(&nowhere)?;
        dup2_stderr(&nowhere)?;
        Ok(())
    });
    if let Err(error) = left {
        tracing::warn!(%error, "cannot let go of the standard streams; nothing of ours writes there");
    }
}
