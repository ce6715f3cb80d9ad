//! What was sent on of one request, and whether an answer fits it.

use crate::drop_reason::DropReason;
use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::{DISCOVERY_TIMEOUT, MAX_ANSWERS_PER_REQUEST};
use crate::message::{DiscoveryMode, DiscoveryRequest, RouteCertificate};
use crate::time::Instant;

/// Sixteen bytes stand for a list of nodes: nobody finds two lists with the same.
type PathDigest = [u8; 16];

fn digest(path: &[NodeId]) -> PathDigest {
    let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh/1 discovery path");
    for node in path {
        hasher.update(&node.0);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// One copy of a request that was sent on or, at the destination, answered.
#[derive(Debug)]
pub(super) struct Sent {
    /// Of the path as far as this node; of the whole path when the request named it.
    pub(super) path: PathDigest,
    /// Whence it came, and over which link; none when it is this node's own.
    pub(super) back: Option<(NodeId, LinkId)>,
    /// To whom it went; none if to all.
    pub(super) next: Option<NodeId>,
    /// What goes to one node is answered once.
    answered: bool,
}

impl Sent {
    /// A copy of `request`, which this node has added itself to.
    pub(super) fn new(
        request: &DiscoveryRequest,
        back: Option<(NodeId, LinkId)>,
        next: Option<NodeId>,
    ) -> Self {
        let path = match &request.mode {
            DiscoveryMode::Route { ahead } => digest(&[&request.path[..], ahead].concat()),
            DiscoveryMode::Branch { .. } | DiscoveryMode::Ring { .. } => digest(&request.path),
        };
        Self {
            path,
            back,
            next,
            answered: false,
        }
    }
}

/// What was sent on of one request, and what may therefore come back.
#[derive(Debug)]
pub(super) struct Passed {
    destination: NodeId,
    max_hops: usize,
    whole: bool,
    seen: Instant,
    pub(super) sent: Vec<Sent>,
    /// The paths answered to a request that went to all, and over whom.
    answers: Vec<(NodeId, PathDigest)>,
}

impl Passed {
    /// Nothing was sent on yet.
    pub(super) fn new(request: &DiscoveryRequest, seen: Instant) -> Self {
        Self {
            destination: request.destination,
            max_hops: request.most_hops(),
            whole: matches!(request.mode, DiscoveryMode::Route { .. }),
            seen,
            sent: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Whether this is the same question.
    pub(super) fn is_about(&self, request: &DiscoveryRequest) -> bool {
        self.destination == request.destination && self.max_hops == request.most_hops()
    }

    /// Takes an answer that came from `from` to the node at `place`, if it is one to what was sent on, and was not given
    /// before; says whither it goes.
    pub(super) fn take(
        &mut self,
        certificate: &RouteCertificate,
        place: usize,
        from: &NodeId,
        now: Instant,
    ) -> Result<Option<(NodeId, LinkId)>, DropReason> {
        let path = &certificate.path;
        let fits =
            certificate.destination() == Some(&self.destination) && certificate.hops() <= self.max_hops;
        let asked_over = if self.whole { path.len() } else { place + 1 };
        let asked_over = digest(path.get(..asked_over).ok_or(DropReason::BadRoute)?);
        let sent = self
            .sent
            .iter_mut()
            .find(|sent| fits && sent.path == asked_over && sent.next.is_none_or(|next| next == *from))
            .ok_or(DropReason::Unsolicited)?;
        if now - self.seen > DISCOVERY_TIMEOUT {
            return Err(DropReason::Expired);
        }
        if sent.next.is_some() {
            if std::mem::replace(&mut sent.answered, true) {
                return Err(DropReason::Unsolicited);
            }
            return Ok(sent.back);
        }
        let answer = (*from, digest(path));
        if self.answers.contains(&answer) {
            return Err(DropReason::Unsolicited);
        }
        // Half for one neighbour: behind it one villain with many names would else use up the honest answers. It is no
        // fault of the neighbour's, who may have counted by other neighbours of its own.
        let over_it = self.answers.iter().filter(|(over, _)| over == from).count();
        if self.answers.len() >= MAX_ANSWERS_PER_REQUEST || over_it >= MAX_ANSWERS_PER_REQUEST / 2 {
            return Err(DropReason::AlreadyRelayed);
        }
        self.answers.push(answer);
        Ok(sent.back)
    }
}
