//! What a user's hands do: look for a way, ask for prices, pay, open, send, and try again where a user would.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::chain::PaymentMethod;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Answer, Buying, Command, CommandId, Funding, OpenedSession, QuotedSlice, Refusal, RouteInfo,
};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS};
use mesh_core::packet::PacketId;
use mesh_core::routing_policy::TrafficClass;

use crate::node::NodeIndex;
use crate::simulation::{CommandOutcome, Simulation};

/// How often a user tries before giving up.
const ATTEMPTS: usize = 12;

/// Longer than any command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a user is ready to pay for a slice in these simulations, in msat.
const GENEROUS: u64 = 100_000_000;

/// A session that was opened, and what it took.
#[derive(Debug, Clone)]
pub struct Trip {
    /// The session.
    pub session: SessionId,
    /// All nodes, the source first.
    pub path: Vec<NodeId>,
    /// What was quoted for it.
    pub quoted: QuotedSlice,
    /// What opening it came to.
    pub opened: OpenedSession,
    /// How often the user had to try.
    pub attempts: usize,
}

impl Simulation {
    /// Waits for a command's answer; `None` when its node died or the answer never came.
    pub fn wait(&mut self, id: CommandId) -> Option<CommandOutcome> {
        self.run_until(PATIENCE, |sim| sim.is_answered(id));
        self.take_answer(id)
    }

    fn ask(&mut self, node: NodeIndex, command: Command) -> Result<Answer, Box<Refusal>> {
        let id = self.command(node, command);
        self.wait(id)
            .unwrap_or_else(|| Err(Refusal::own(DropReason::Timeout)))
    }

    /// Looks for ways, once.
    pub fn discover(&mut self, from: NodeIndex, to: NodeIndex) -> Result<Vec<RouteInfo>, Box<Refusal>> {
        let destination = self.id(to);
        let command = Command::Discover {
            destination,
            max_hops: MAX_HOPS as u8,
            timeout: DISCOVERY_TIMEOUT,
            refresh: false,
        };
        match self.ask(from, command)? {
            Answer::Routes(routes) => Ok(routes),
            other => unexpected(&other),
        }
    }

    /// Asks for prices along a route, once, to be paid over Lightning.
    pub fn quote(
        &mut self,
        from: NodeIndex,
        path: &[NodeId],
        class: TrafficClass,
        units: u64,
        buying: Buying,
    ) -> Result<QuotedSlice, Box<Refusal>> {
        self.quote_by(PaymentMethod::Lightning, from, path, class, units, buying)
    }

    /// The same, to be paid by `method`.
    pub fn quote_by(
        &mut self,
        method: PaymentMethod,
        from: NodeIndex,
        path: &[NodeId],
        class: TrafficClass,
        units: u64,
        buying: Buying,
    ) -> Result<QuotedSlice, Box<Refusal>> {
        let command = Command::Quote {
            path: path.to_vec(),
            class,
            units,
            buying,
            method,
            timeout: DISCOVERY_TIMEOUT,
        };
        match self.ask(from, command)? {
            Answer::Quoted(slice) => Ok(*slice),
            other => unexpected(&other),
        }
    }

    /// Opens a session over quoted hops, once.
    pub fn open(
        &mut self,
        from: NodeIndex,
        quoted: &QuotedSlice,
        funding: Funding,
    ) -> Result<OpenedSession, Box<Refusal>> {
        let command = Command::Open {
            quotes: quoted.id,
            funding,
            sign_as_source: true,
        };
        match self.ask(from, command)? {
            Answer::Opened(opened) => Ok(*opened),
            other => unexpected(&other),
        }
    }

    /// What a user with a full wallet says.
    pub fn from_the_wallet() -> Funding {
        Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat: GENEROUS,
            max_fee_msat: GENEROUS,
            keep_funded: false,
        }
    }

    /// From nothing to an open session: the cheapest way, credit bought where it is missing, and everything again, a
    /// second later, when something on the way refuses or falls silent.
    pub fn establish(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        class: TrafficClass,
        units: u64,
    ) -> Result<Trip, Box<Refusal>> {
        let mut last = Refusal::own(DropReason::NoRoute);
        for attempt in 1..=ATTEMPTS {
            match self.establish_once(from, to, class, units) {
                Ok(trip) => {
                    return Ok(Trip {
                        attempts: attempt,
                        ..trip
                    });
                }
                Err(refusal) => last = refusal,
            }
            self.run_for(Duration::from_secs(1));
        }
        Err(last)
    }

    /// As [`Simulation::establish_once`], over a session that is kept funded.
    pub fn establish_kept_funded(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        units: u64,
    ) -> Result<Trip, Box<Refusal>> {
        let routes = self.discover(from, to)?;
        let path = routes.first().map(|route| route.path.clone()).unwrap_or_default();
        let quoted = self.quote(from, &path, TrafficClass::Paid, units, Buying::WhereNeeded)?;
        let funding = Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat: GENEROUS,
            max_fee_msat: GENEROUS,
            keep_funded: true,
        };
        let opened = self.open(from, &quoted, funding)?;
        Ok(Trip {
            session: opened.session,
            path: opened.path.clone(),
            quoted,
            opened,
            attempts: 1,
        })
    }

    /// As [`Simulation::establish`], but gives up at the first refusal.
    pub fn establish_once(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        class: TrafficClass,
        units: u64,
    ) -> Result<Trip, Box<Refusal>> {
        let routes = self.discover(from, to)?;
        let path = routes.first().map(|route| route.path.clone()).unwrap_or_default();
        self.establish_over(from, &path, class, units)
    }

    /// From a known way to an open session, once.
    pub fn establish_over(
        &mut self,
        from: NodeIndex,
        path: &[NodeId],
        class: TrafficClass,
        units: u64,
    ) -> Result<Trip, Box<Refusal>> {
        let quoted = self.quote(from, path, class, units, Buying::WhereNeeded)?;
        let opened = self.open(from, &quoted, Self::from_the_wallet())?;
        Ok(Trip {
            session: opened.session,
            path: opened.path.clone(),
            quoted,
            opened,
            attempts: 1,
        })
    }

    /// Sends one packet that may take ten seconds.
    pub fn send(
        &mut self,
        from: NodeIndex,
        session: SessionId,
        protocol_id: &str,
        payload: &[u8],
    ) -> Result<PacketId, Box<Refusal>> {
        let command = Command::Send {
            session,
            protocol_id: protocol_id.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            ttl: Duration::from_secs(10),
        };
        match self.ask(from, command)? {
            Answer::Sent { packet_id, .. } => Ok(packet_id),
            other => unexpected(&other),
        }
    }
}

#[allow(clippy::panic)] // the core broke its contract
fn unexpected<T>(answer: &Answer) -> T {
    panic!("an answer of another kind than its command: {answer:?}")
}
