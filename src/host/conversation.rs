//! What the node and its other modules say to us, and our answers.
//!
//! The mesh never waits for any of it: the conversation may begin late, break off, or never come about, and everything else
//! goes on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::{CallError, Method};
use mesh_core::spending::Caller;
use node_ipc::{Incoming, Invocation, InvocationAnswer, InvocationKind, LogLevel, NodeClient, Options};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Level;

use super::calls::NodeCalls;
use super::doors::Doors;
use super::environment::ModuleEnvironment;
use super::events::subscriptions;
use super::log::NodeLog;
use super::{commands, rpc};
use crate::api::{Client, MeshModuleApi};
use crate::handle::lock;

/// The version of our ModuleAPI.
const API_VERSION: u32 = 1;

/// Calls of modules that are worked on at once. Some wait for a minute (for packets, for a network that changes); the packet
/// path itself takes microseconds.
const MAX_CALLS: usize = 96;

/// Of them, of one caller: so that one that waits in many places leaves room for others.
const MAX_CALLS_OF_ONE: usize = 32;

/// How long the last answers and log lines may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The conversation with the node.
pub(super) struct Conversation {
    client: NodeClient,
    incoming: mpsc::Receiver<Incoming>,
    calls: Calls,
}

impl Conversation {
    /// Begins to connect. From now on the node sees our log, whenever it listens.
    pub(super) fn begin(environment: &ModuleEnvironment, log: &NodeLog, with_second_carrier: bool) -> Self {
        let mut options = Options::new(
            &environment.socket_path,
            &environment.module_name,
            &environment.module_id,
            env!("CARGO_PKG_VERSION"),
        );
        options.api_methods = Method::ALL.iter().map(ToString::to_string).collect();
        options.api_version = API_VERSION;
        options.leave_the_only_place = true;
        options.subscriptions = subscriptions(with_second_carrier);
        options.rpc_endpoints = rpc::METHODS
            .map(|(method, description)| (method.to_owned(), description.to_owned()))
            .to_vec();
        options.cli = Some(commands::spec());
        let (client, incoming) = NodeClient::start(options);
        let teller = client.clone();
        log.tell_through(move |level, target, line| teller.log(log_level(level), target, line));
        Self {
            client,
            incoming,
            calls: Calls::default(),
        }
    }

    /// The way to ask the node.
    pub(super) fn client(&self) -> NodeClient {
        self.client.clone()
    }

    /// As long as the mesh does not run: calls are refused, so that nobody waits for it; events are let go.
    pub(super) async fn turn_away(&mut self) -> Infallible {
        loop {
            match self.incoming.recv().await {
                Some(Incoming::Invocation(invocation)) => {
                    invocation.answer(Err(
                        "the mesh does not run yet; its log says why, try again later".to_owned(),
                    ));
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Listens and answers, for ever. What is under way when it is dropped is answered with an error.
    pub(super) async fn go_on(&mut self, api: &Arc<MeshModuleApi>, doors: &Doors) {
        api.call_modules_through(Arc::new(NodeCalls(self.client.clone())));
        if self.client.is_connected() {
            // The node took us in while the mesh was starting and nobody listened. Twice does no harm.
            doors.on_connected();
        }
        loop {
            tokio::select! {
                Some(incoming) = self.incoming.recv() => self.take(incoming, api, doors),
                Some(ended) = self.calls.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a module's call ended badly");
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn end(self) {
        // What the node does not take in time it does not get.
        let _ = tokio::time::timeout(GOODBYE, self.client.stop()).await;
    }

    fn take(&mut self, incoming: Incoming, api: &Arc<MeshModuleApi>, doors: &Doors) {
        match incoming {
            Incoming::Connected { node_version } => {
                tracing::info!(node_version, "the node took this module in");
                doors.on_connected();
            }
            Incoming::Disconnected { reason } => {
                tracing::warn!(reason, "no conversation with the node; the mesh goes on")
            }
            Incoming::Event(event) => doors.on_event(&event),
            Incoming::Invocation(invocation) => self.calls.answer(invocation, api, doors),
        }
    }
}

/// Calls that are worked on.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<()>,
    by_caller: Arc<Mutex<HashMap<Client, usize>>>,
}

impl Calls {
    fn answer(&mut self, invocation: Invocation, api: &Arc<MeshModuleApi>, doors: &Doors) {
        match &invocation.kind {
            InvocationKind::ModuleApi { caller_module_id, .. } => match Client::module(caller_module_id) {
                Ok(client) => self.answer_module(invocation, client, api),
                Err(error) => invocation.answer(Err(error.to_string())),
            },
            InvocationKind::Rpc { .. } | InvocationKind::Cli { .. } => {
                match Place::take(self.tasks.len(), &self.by_caller, Client::of(Caller::Operator)) {
                    Ok(place) => {
                        let answering = doors.answer(invocation);
                        self.tasks.spawn(async move {
                            let _place = place;
                            answering.await;
                        });
                    }
                    Err(refusal) => invocation.answer(Err(refusal)),
                }
            }
        }
    }

    fn answer_module(&mut self, invocation: Invocation, client: Client, api: &Arc<MeshModuleApi>) {
        let place = match Place::take(self.tasks.len(), &self.by_caller, client.clone()) {
            Ok(place) => place,
            Err(refusal) => return invocation.answer(Err(refusal)),
        };
        let api = api.clone();
        self.tasks.spawn(async move {
            let _place = place;
            let answered = match &invocation.kind {
                InvocationKind::ModuleApi { method, params, .. } => {
                    api.handle_for(&client, method, params).await
                }
                // Sorted out before.
                InvocationKind::Rpc { .. } | InvocationKind::Cli { .. } => return,
            };
            invocation.answer(match answered {
                Ok(answer) => Ok(InvocationAnswer::ModuleApi(answer)),
                Err(CallError::Refused { reason } | CallError::Unreachable { reason }) => Err(reason),
            });
        });
    }
}

/// One of a caller's places, given back when dropped.
struct Place {
    by_caller: Arc<Mutex<HashMap<Client, usize>>>,
    client: Client,
}

impl Place {
    fn take(
        under_way: usize,
        by_caller: &Arc<Mutex<HashMap<Client, usize>>>,
        client: Client,
    ) -> Result<Self, String> {
        if under_way >= MAX_CALLS {
            return Err(format!(
                "busy: {MAX_CALLS} calls of modules are under way; try again"
            ));
        }
        // As many entries as calls under way at the most.
        let mut counts = lock(by_caller);
        let own = counts.entry(client.clone()).or_default();
        if *own >= MAX_CALLS_OF_ONE {
            return Err(format!(
                "busy: {MAX_CALLS_OF_ONE} calls of {client} are under way; await some of them first"
            ));
        }
        *own += 1;
        drop(counts);
        Ok(Self {
            by_caller: by_caller.clone(),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.by_caller);
        if let Some(own) = counts.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

fn log_level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

#[cfg(test)]
mod tests;
