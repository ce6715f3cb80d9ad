//! Neighbours whose address is a name: looked up at the start and again and again, because home connections change theirs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_core::event::{Answer, Command};
use mesh_core::identity::NodeId;
use mesh_net::CloseReason;
use tokio::sync::{mpsc, watch};

use crate::config::Peer;
use crate::handle::NodeHandle;
use crate::host::events::ReloadPeers;

/// How long one name may take to be looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the names of configured neighbours are looked up again, because home connections change their address.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(300);

/// The same while some name is not known yet: name servers come up later than this program after a power cut.
const LOOKUP_RETRY: Duration = Duration::from_secs(15);

/// Addresses found that wait to be dialled; the look-up waits when it is full.
const FOUND_QUEUE: usize = 16;

/// The configured neighbours of a running node, which may change.
pub(super) struct Kept {
    node: NodeHandle,
    /// Those whose names are looked up.
    named: watch::Sender<Vec<Peer>>,
}

impl Kept {
    pub(super) fn new(node: NodeHandle, named: Vec<Peer>) -> Self {
        let named = watch::Sender::new(named);
        Self { node, named }
    }

    /// Looks names up and keeps links to what is found, for ever.
    pub(super) async fn run(&self) {
        let mut named = self.named.subscribe();
        loop {
            // Anew with each list: what was found for the old one may no longer be wanted.
            let (found_in, mut found) = mpsc::channel(FOUND_QUEUE);
            let peers = named.borrow_and_update().clone();
            let lookups = look_up_for_ever(peers, found_in.clone());
            tokio::pin!(lookups);
            loop {
                tokio::select! {
                    () = &mut lookups => {}
                    Some((address, peer)) = found.recv() => self.keep_link(address, peer),
                    // This holds the sender, so there is always somebody to say so.
                    _ = named.changed() => break,
                }
            }
        }
    }

    fn keep_link(&self, address: SocketAddr, peer: NodeId) {
        if let Err(error) = self.node.transport.add_peer(address, peer) {
            tracing::warn!(peer = %peer.short(), %address, %error, "cannot keep a link to this neighbour");
        }
    }
}

impl ReloadPeers for Kept {
    fn change(&self, added: Vec<Peer>, removed: Vec<NodeId>) {
        let (fixed, named) = split_peers(&added);
        for (address, peer) in fixed {
            self.keep_link(address, peer);
        }
        for peer in &removed {
            self.node.transport.remove_peer(peer);
        }
        self.named.send_modify(|known| {
            let changed = |id: &NodeId| removed.contains(id) || added.iter().any(|peer| peer.node_id == *id);
            known.retain(|peer| !changed(&peer.node_id));
            known.extend(named);
        });
        if !removed.is_empty() {
            tokio::spawn(unlink(self.node.clone(), removed));
        }
    }
}

/// Ends the links that stand to neighbours who are no longer wanted.
async fn unlink(node: NodeHandle, unwanted: Vec<NodeId>) {
    let Ok(Answer::Status(status)) = node.command(Command::Status).await else {
        return;
    };
    for (link, peer) in status.neighbours {
        if unwanted.contains(&peer) {
            node.transport.disconnect(link, CloseReason::Requested);
        }
    }
}

/// Looks the names of neighbours up, again and again; tells each address that is new. Never ends.
async fn look_up_for_ever(peers: Vec<Peer>, found: mpsc::Sender<(SocketAddr, NodeId)>) {
    let mut known = BTreeMap::new();
    loop {
        for peer in &peers {
            let Some(address) = look_up(peer).await else {
                continue;
            };
            if known.insert(peer.node_id, address) != Some(address) {
                tracing::info!(host = %peer.address, %address, peer = %peer.node_id.short(), "neighbour's address");
                // Nobody receives any more only when the daemon stops.
                let _ = found.send((address, peer.node_id)).await;
            }
        }
        let all_known = known.len() == peers.len();
        let pause = if all_known { LOOKUP_INTERVAL } else { LOOKUP_RETRY };
        tokio::time::sleep(pause).await;
    }
}

async fn look_up(peer: &Peer) -> Option<SocketAddr> {
    let looked_up = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(&peer.address)).await;
    let why = match looked_up {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => return Some(address),
            None => "the name has no address".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the name server does not answer".to_owned(),
    };
    tracing::warn!(host = %peer.address, peer = %peer.node_id.short(), why, "neighbour not found; trying again");
    None
}

/// Neighbours whose address is written out, and those whose name must be looked up.
pub(super) fn split_peers(peers: &[Peer]) -> (Vec<(SocketAddr, NodeId)>, Vec<Peer>) {
    let mut fixed = Vec::new();
    let mut named = Vec::new();
    for peer in peers {
        match peer.address.parse() {
            Ok(address) => fixed.push((address, peer.node_id)),
            Err(_) => named.push(peer.clone()),
        }
    }
    (fixed, named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.into(),
            node_id: NodeId([1; 32]),
        }
    }

    #[test]
    fn addresses_are_dialled_at_once_and_names_are_looked_up() {
        let peers = ["127.0.0.1:1", "[::1]:2", "localhost:3", "mesh.example.org:4"].map(peer);
        let (fixed, named) = split_peers(&peers);
        assert_eq!(fixed.len(), 2);
        assert_eq!(named, peers[2..]);
    }

    #[tokio::test]
    async fn a_name_that_is_found_is_told_once() {
        let (found_in, mut found) = mpsc::channel(4);
        tokio::select! {
            () = look_up_for_ever(vec![peer("localhost:3")], found_in) => {}
            told = found.recv() => {
                let (address, id) = told.unwrap();
                assert!(address.ip().is_loopback() && address.port() == 3);
                assert_eq!(id, NodeId([1; 32]));
            }
        }
    }
}
