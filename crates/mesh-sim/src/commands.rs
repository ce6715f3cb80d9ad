//! Commands to nodes, and what can be seen of them from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mesh_core::core::Core;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command, CommandId, Delivery, Event, Input, Record, Status};
use mesh_core::identity::{Identity, NodeId};
use mesh_core::keys::SessionId;
use mesh_core::routing::RoutingTable;

use crate::node::{Dropped, NodeIndex};
use crate::simulation::{CommandOutcome, SessionNotes, Simulation};
use crate::verifier::MemoisingVerifier;
use crate::world::identity;

/// Commands, and what is known of the nodes.
impl Simulation {
    /// Gives a node a command.
    pub fn command(&mut self, node: NodeIndex, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        match &command {
            Command::Open { quotes, .. } => {
                self.opening.insert(id, *quotes);
            }
            Command::Send {
                protocol_id, payload, ..
            } => {
                self.sending.insert(id, (protocol_id.clone(), payload.clone()));
            }
            _ => {}
        }
        if self.nodes[node.0].core.is_some() {
            self.unanswered.insert(id, node);
        }
        self.feed(node, Input::Command { id, command });
        id
    }

    #[allow(clippy::panic)] // the core broke its contract
    pub(crate) fn note_answer(&mut self, node: NodeIndex, id: CommandId, answer: CommandOutcome) {
        self.note(&answer);
        match &answer {
            Ok(Answer::Quoted(slice)) => {
                self.quoted.insert(slice.id, (**slice).clone());
            }
            Ok(Answer::Opened(opened)) => {
                let slice = self.opening.get(&id).and_then(|quotes| self.quoted.get(quotes));
                let payees = slice.map(|slice| slice.payees.as_slice()).unwrap_or_default();
                let prices = payees
                    .iter()
                    .map(|payee| (payee.payee, payee.price_msat))
                    .collect();
                self.note_session(node, opened.session, prices);
            }
            Ok(Answer::Sent { packet_id, .. }) => {
                if let Some(what) = self.sending.remove(&id) {
                    self.sent.insert(*packet_id, what);
                }
            }
            _ => {}
        }
        if self.unanswered.remove(&id).is_none() || self.answers.insert(id, answer).is_some() {
            panic!("command {id:?} was answered twice");
        }
    }

    /// Tells the audit what a session draws per unit at each payee; sessions opened by command are known already.
    pub fn note_session(&mut self, source: NodeIndex, session: SessionId, prices: BTreeMap<NodeId, u64>) {
        self.own_sessions.insert((source, session));
        self.sessions.insert(session, SessionNotes { prices });
    }

    /// What a command came to, once.
    pub fn take_answer(&mut self, id: CommandId) -> Option<CommandOutcome> {
        self.answers.remove(&id)
    }

    /// Whether a command has been answered.
    pub fn is_answered(&self, id: CommandId) -> bool {
        self.answers.contains_key(&id)
    }

    /// Commands that running nodes have not answered yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// A node's own account of itself; none while it is down.
    pub fn status(&mut self, node: NodeIndex) -> Option<Status> {
        let id = self.command(node, Command::Status);
        match self.take_answer(id) {
            Some(Ok(Answer::Status(status))) => Some(*status),
            _ => None,
        }
    }

    /// A running node's core, to be looked at.
    pub fn core(&self, node: NodeIndex) -> Option<&Core> {
        self.nodes[node.0].core.as_ref()
    }

    /// What a node knows of the ways through the mesh; none while it is down.
    pub fn routing(&self, node: NodeIndex) -> Option<&RoutingTable> {
        self.nodes[node.0].core.as_ref().map(Core::routing)
    }

    /// A node's id.
    pub fn id(&self, node: NodeIndex) -> NodeId {
        self.nodes[node.0].id
    }

    /// A node's secret name, for villains who have one.
    pub fn identity(&self, node: NodeIndex) -> Identity {
        identity(self.nodes[node.0].secret)
    }

    /// All nodes, villains included.
    pub fn all_nodes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.nodes.len()).map(NodeIndex)
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: NodeIndex) -> bool {
        self.nodes[node.0].is_up()
    }

    /// What arrived at a node, over all its lives.
    pub fn deliveries(&self, node: NodeIndex) -> &[Delivery] {
        &self.nodes[node.0].deliveries
    }

    /// What a node announced, over all its lives.
    pub fn events(&self, node: NodeIndex) -> &[Event] {
        &self.nodes[node.0].events
    }

    /// What a node refused, over all its lives.
    pub fn dropped(&self, node: NodeIndex) -> &[Dropped] {
        &self.nodes[node.0].dropped
    }

    /// How often a node refused something for this reason.
    pub fn drops(&self, node: NodeIndex, reason: DropReason) -> usize {
        self.nodes[node.0]
            .dropped
            .iter()
            .filter(|dropped| dropped.reason == reason)
            .count()
    }

    /// What a node wrote down, oldest first.
    pub fn disk(&self, node: NodeIndex) -> &[Record] {
        &self.nodes[node.0].disk
    }

    /// Takes what a villain received, oldest first.
    pub fn inbox(&mut self, villain: NodeIndex) -> Vec<(NodeIndex, Bytes)> {
        std::mem::take(&mut self.nodes[villain.0].inbox)
    }

    /// How many frames wait in a villain's inbox.
    pub fn heard(&self, villain: NodeIndex) -> usize {
        self.nodes[villain.0].inbox.len()
    }

    /// The checker of signatures that all nodes share.
    pub fn signatures(&self) -> Arc<MemoisingVerifier> {
        self.signatures.clone()
    }

    /// A hash over everything that happened so far, in its order.
    pub fn event_hash(&self) -> [u8; 32] {
        *self.hash.finalize().as_bytes()
    }

    pub(crate) fn note(&mut self, what: &impl std::fmt::Debug) {
        self.hash.update(format!("{what:?}").as_bytes());
    }
}
