//! Subscribing and registering, on every connection anew, without ever hammering the node.
//!
//! The published node closes the connection over a request that it cannot carry out. So what was under way when the connection
//! closed is blamed for it, and after a few times given up by name, while everything else goes on. A node of another version
//! is tried afresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::event_kind::EventKind;
use crate::request::Request;

use super::Shared;
use super::counters::count;
use super::error::RequestError;
use super::link::Link;
use super::options::Options;

/// The node routes calls to a module only after it has started. It says so in an event, which a module that starts late
/// never sees.
const STARTUP: Duration = Duration::from_secs(2);

/// Failures in a row after which a registration is given up.
const ATTEMPTS: u32 = 3;

/// The wait before failed registrations are tried again on the same connection; doubles with each round.
const AGAIN: Duration = Duration::from_secs(2);

/// Until it is this long.
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Events,
    Api,
    Rpc,
    Cli,
}

#[derive(Debug)]
struct Registration {
    name: String,
    class: Class,
    request: Request,
    failures: u32,
    given_up: bool,
    done: bool,
}

/// All registrations, over all connections.
#[derive(Debug)]
pub(super) struct Registrar {
    all: Vec<Registration>,
    under_way: Option<usize>,
    node_version: String,
}

impl Registrar {
    pub(super) fn new(options: &Options) -> Self {
        let mut all = vec![registration(
            "events",
            Class::Events,
            Request::SubscribeEvents {
                event_types: kinds(options),
            },
        )];
        if !options.api_methods.is_empty() {
            let request = Request::RegisterModuleApi {
                methods: options.api_methods.clone(),
                api_version: options.api_version,
            };
            all.push(registration("the module API", Class::Api, request));
        }
        if let Some(spec) = &options.cli {
            let request = Request::RegisterCliSpec { spec: spec.clone() };
            all.push(registration("the command line", Class::Cli, request));
        }
        // Last: the published node has no endpoints and closes the connection over them.
        for (method, description) in &options.rpc_endpoints {
            let request = Request::RegisterRpcEndpoint {
                method: method.clone(),
                description: description.clone(),
            };
            all.push(registration(
                &format!("the JSON-RPC method {method}"),
                Class::Rpc,
                request,
            ));
        }
        Self {
            all,
            under_way: None,
            node_version: String::new(),
        }
    }

    /// Does what is to be done on a fresh connection. `started` is notified when the node says that it has started.
    pub(super) async fn run(&mut self, shared: &Shared, link: &Arc<Link>, started: &Notify) {
        let mut wait = AGAIN;
        self.attempt_all(shared, link, |class| class == Class::Events)
            .await;
        let _ = tokio::time::timeout(STARTUP, started.notified()).await;
        loop {
            self.attempt_all(shared, link, |_| true).await;
            if self.all.iter().all(|one| one.done || one.given_up) {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_AT_MOST);
        }
    }

    /// A new connection, to a node of this version.
    pub(super) fn connected(&mut self, node_version: &str) {
        let other_node = self.node_version != node_version;
        node_version.clone_into(&mut self.node_version);
        for one in &mut self.all {
            one.done = false;
            if other_node {
                (one.failures, one.given_up) = (0, false);
            }
        }
    }

    /// The connection is gone: whatever was under way is blamed.
    pub(super) fn disconnected(&mut self, shared: &Shared, reason: &str) {
        let Some(index) = self.under_way.take() else {
            return;
        };
        self.failed(index, shared, reason);
        let (class, given_up) = (self.all[index].class, self.all[index].given_up);
        if given_up {
            // The others of its kind would cost a connection each, a few times over.
            for other in (0..self.all.len()).filter(|other| *other != index) {
                if self.all[other].class == class && !self.all[other].given_up {
                    self.give_up(other, shared, reason);
                }
            }
        }
    }

    async fn attempt_all(&mut self, shared: &Shared, link: &Arc<Link>, which: impl Fn(Class) -> bool) {
        for index in 0..self.all.len() {
            let one = &self.all[index];
            if one.done || one.given_up || !which(one.class) {
                continue;
            }
            self.under_way = Some(index);
            let answer = shared.ask(link, one.request.clone()).await;
            match answer {
                Ok(_) => (self.all[index].done, self.all[index].failures) = (true, 0),
                // The connection's end follows, and with it the blame.
                Err(
                    RequestError::Disconnected { .. } | RequestError::NotConnected | RequestError::Stopped,
                ) => return,
                // No word of the node's: it is busy starting, or the module itself asks too much. Later, then.
                Err(RequestError::Timeout { .. } | RequestError::Busy { .. }) => {}
                Err(error) => self.failed(index, shared, &error.to_string()),
            }
            self.under_way = None;
        }
    }

    fn failed(&mut self, index: usize, shared: &Shared, reason: &str) {
        count(&shared.counters.registrations_refused);
        self.all[index].failures += 1;
        if self.all[index].failures >= ATTEMPTS {
            self.give_up(index, shared, reason);
        }
    }

    fn give_up(&mut self, index: usize, shared: &Shared, reason: &str) {
        let one = &mut self.all[index];
        one.given_up = true;
        count(&shared.counters.registrations_given_up);
        tracing::warn!(
            registration = one.name,
            reason,
            "the node does not take this registration: given up; what depends on it is not available through the node"
        );
    }
}

fn registration(name: &str, class: Class, request: Request) -> Registration {
    Registration {
        name: name.to_owned(),
        class,
        request,
        failures: 0,
        given_up: false,
        done: false,
    }
}

/// What the module asked for, and what we need ourselves.
fn kinds(options: &Options) -> Vec<EventKind> {
    let mut kinds = options.subscriptions.clone();
    kinds.push(EventKind::NodeStartupCompleted);
    // The node sends an event as often as its kind was subscribed.
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
