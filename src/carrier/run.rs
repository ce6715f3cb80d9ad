//! The carrier's one task: what came, what is due, and one frame at a time to the node.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mesh_net::{CarriedDial, CarrierPort, CloseReason, DialError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::budget::Budget;
use super::counters::count;
use super::frame::{Frame, Token};
use super::inbox::Heard;
use super::peers::{Dial, Peers};
use super::{FramesError, MeshFrames, Shared};

/// How often the node is asked whom it is connected to: events about it may be lost, and one request a minute is cheap.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// How long the node may take over one request. A frame that takes longer is as good as lost, and others wait behind it.
const NODE_PATIENCE: Duration = Duration::from_secs(10);

/// How long the task may sleep without looking whether anybody still wants it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, FramesError>> + Send>>;

struct Carrier {
    shared: Arc<Shared>,
    port: CarrierPort,
    frames: Arc<dyn MeshFrames>,
    peers: Peers,
    budget: Budget,
    dials: JoinSet<(SocketAddr, Token, CarriedDial)>,
    list_at: Instant,
}

/// Runs until the endpoint is gone and its neighbours were told, or the task is aborted.
pub(super) async fn run(shared: Arc<Shared>, port: CarrierPort, frames: Arc<dyn MeshFrames>) {
    let now = Instant::now();
    let peers = Peers::new(port.clone(), shared.counters.clone(), shared.work.clone());
    let mut carrier = Carrier {
        shared,
        port,
        frames,
        peers,
        budget: Budget::new(now),
        dials: JoinSet::new(),
        list_at: now,
    };
    carrier.run().await;
}

impl Carrier {
    async fn run(&mut self) {
        let shared = self.shared.clone();
        let mut sending: Option<(SocketAddr, Asked<()>)> = None;
        let mut listing: Option<Asked<Vec<SocketAddr>>> = None;
        while !(self.port.is_closed() && sending.is_none() && self.peers.have_said_all()) {
            let now = Instant::now();
            self.hear_all(now);
            let mut wake_at = now + LONGEST_SLEEP;
            wake_at = wake_at.min(self.peers.tend(now).unwrap_or(wake_at));
            if listing.is_none() {
                if now >= self.list_at {
                    self.list_at = now + LIST_EVERY;
                    listing = Some(self.list());
                }
                wake_at = wake_at.min(self.list_at);
            }
            if sending.is_none() {
                match self.budget.ready_at() {
                    ready if ready > now => wake_at = wake_at.min(ready),
                    _ => sending = self.send_next(now),
                }
            }
            tokio::select! {
                biased;
                result = wait(listing.as_mut()) => {
                    listing = None;
                    self.listed(result);
                }
                result = wait(sending.as_mut().map(|(_, asked)| asked)) => {
                    if let Some((peer, _)) = sending.take() {
                        self.sent(peer, result);
                    }
                }
                Some(done) = self.dials.join_next() => self.dialled(done),
                () = shared.work.notified() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn hear_all(&mut self, now: Instant) {
        for heard in self.shared.inbox.take() {
            match heard {
                Heard::Came(peer) => self.peers.came(peer, now),
                Heard::Went(peer) => self.peers.went(peer),
                Heard::NodeBack => {
                    self.peers.forget_conversations(now);
                    self.list_at = now;
                }
                Heard::Frame(peer, frame) => self.hear(peer, &frame, now),
            }
        }
    }

    fn hear(&mut self, peer: SocketAddr, frame: &Bytes, now: Instant) {
        let counters = &self.shared.counters;
        match Frame::decode(frame) {
            Ok(read) => {
                count(&counters.frames_received);
                counters
                    .bytes_received
                    .fetch_add(frame.len() as u64, Ordering::Relaxed);
                if let Some(dial) = self.peers.hear(peer, read, now) {
                    self.dial(dial);
                }
            }
            Err(error) => {
                debug!(%peer, %error, "unreadable frame");
                count(&counters.unreadable);
                self.port.count(CloseReason::BadCarrierFrame);
            }
        }
    }

    fn dial(&mut self, dial: Dial) {
        let port = self.port.clone();
        self.dials.spawn(async move {
            let dialled = port.dial(dial.pair, dial.expected).await;
            (dial.peer, dial.mine, dialled)
        });
    }

    fn dialled(&mut self, done: Result<(SocketAddr, Token, CarriedDial), tokio::task::JoinError>) {
        let Ok((address, mine, dialled)) = done else {
            return;
        };
        if let Err(error) = &dialled.outcome {
            debug!(%address, %error, "no link over the node");
            if matches!(error, DialError::WrongIdentity { .. }) {
                self.peers.unlearn(address);
            }
        }
        if let Some(found) = dialled.peer {
            self.peers.learn(address, mine, found);
        }
    }

    fn send_next(&mut self, now: Instant) -> Option<(SocketAddr, Asked<()>)> {
        let (peer, frame) = self.peers.next_frame()?;
        self.budget.spend(now);
        let frame = frame.encode();
        count(&self.shared.counters.frames_sent);
        self.shared
            .counters
            .bytes_sent
            .fetch_add(frame.len() as u64, Ordering::Relaxed);
        let message = self.shared.envelope.wrap(&frame);
        let frames = self.frames.clone();
        let asked = async move { in_time(frames.send(peer, message)).await };
        Some((peer, Box::pin(asked)))
    }

    fn sent(&mut self, peer: SocketAddr, result: Result<(), FramesError>) {
        if let Err(error) = result {
            debug!(%peer, %error, "frame not sent");
            self.peers.was_refused(peer, Instant::now());
        }
    }

    fn list(&self) -> Asked<Vec<SocketAddr>> {
        let frames = self.frames.clone();
        Box::pin(async move { in_time(frames.peers()).await })
    }

    fn listed(&mut self, result: Result<Vec<SocketAddr>, FramesError>) {
        match result {
            Ok(connected) => self.peers.are(&connected, Instant::now()),
            Err(error) => warn!(%error, "the node does not say whom it is connected to"),
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, FramesError>>) -> Result<T, FramesError> {
    let late = || FramesError("it does not answer in time".into());
    timeout(NODE_PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// Waits for what was asked, for ever if nothing was.
async fn wait<T>(asked: Option<&mut Asked<T>>) -> Result<T, FramesError> {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}
