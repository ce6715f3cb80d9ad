//! Discovery's messages: the request that looks for a path, and the certificate that is one.
//!
//! A request goes one of three ways ([`DiscoveryMode`]); its answer is the same whichever way it went.
//!
//! A certificate is a path in which everybody signed its own place and price. What a requester gains from a route, and a
//! payee from a quote request, rests on these signatures and on nothing else.

use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::limits::{MAX_AVOIDED_NODES, MAX_BRANCHES, MAX_HOPS};
use crate::message::RequestId;
use crate::time::UnixMillis;

/// How a request finds its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryMode {
    /// Along a path that the requester names, to have it confirmed and priced.
    Route {
        /// The rest of the path, the receiver first, the destination last.
        ahead: Vec<NodeId>,
    },
    /// Along each router's best feasible successor for the destination.
    Branch {
        /// Which of the requester's branches it is (0 to 3): a router that sees two leads them apart if it can.
        tag: u8,
        /// Nodes to go around, at most 8.
        avoid: Vec<NodeId>,
    },
    /// To all neighbours, as far as `max_hops`: for who knows nothing of where the destination is.
    Ring {
        /// Nodes to leave out, at most 8.
        avoid: Vec<NodeId>,
    },
}

impl DiscoveryMode {
    /// The nodes it must not pass. The destination is never among those that count.
    pub fn avoid(&self) -> &[NodeId] {
        match self {
            Self::Route { .. } => &[],
            Self::Branch { avoid, .. } | Self::Ring { avoid } => avoid,
        }
    }
}

/// Looks for paths from `path[0]` to `destination`. Unsigned: it proves nothing and promises nothing, every fact that
/// counts is signed in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryRequest {
    /// The requester's nonce; the destination signs it, so an old answer cannot be replayed.
    pub nonce: RequestId,
    /// Whom to find.
    pub destination: NodeId,
    /// Longest path wanted, in hops (1 to 10).
    pub max_hops: u8,
    /// When the requester stops listening.
    pub deadline: UnixMillis,
    /// The nodes it passed, requester first.
    pub path: Vec<NodeId>,
    /// How it finds its way.
    pub mode: DiscoveryMode,
}

impl DiscoveryRequest {
    /// The longest path that may come of it, in hops: what it asks for, and never more than ten.
    pub fn most_hops(&self) -> usize {
        usize::from(self.max_hops).min(MAX_HOPS)
    }

    /// Checks what any receiver can: lists within their bounds, nobody on the path twice, not longer than it may be. A
    /// path that circles would be signed by the destination and refused further back, at an honest neighbour's cost.
    pub fn check_shape(&self) -> Result<(), DropReason> {
        let sound = match &self.mode {
            DiscoveryMode::Route { ahead } => self.is_whole_with(ahead),
            DiscoveryMode::Branch { tag, avoid } => {
                usize::from(*tag) < MAX_BRANCHES && avoid.len() <= MAX_AVOIDED_NODES
            }
            DiscoveryMode::Ring { avoid } => avoid.len() <= MAX_AVOIDED_NODES,
        };
        if sound && (1..=self.most_hops()).contains(&self.path.len()) && all_differ(&self.path) {
            Ok(())
        } else {
            Err(DropReason::BadRoute)
        }
    }

    /// Whether the nodes passed and those ahead make one path to the destination, within the hops asked for.
    fn is_whole_with(&self, ahead: &[NodeId]) -> bool {
        let hops = (self.path.len() + ahead.len()).saturating_sub(1);
        ahead.last() == Some(&self.destination)
            && hops <= self.most_hops()
            && ahead
                .iter()
                .enumerate()
                .all(|(place, node)| !self.path.contains(node) && !ahead[place + 1..].contains(node))
    }
}

/// What a node charges, as it signs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Millisatoshi per unit (a started KiB of payload); 0 is free.
    pub msat_per_unit: u64,
    /// Whether the node has a wallet that can be paid.
    pub payable: bool,
}

/// A router's signed place and price in a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterAttestation {
    /// What the router charges on this path.
    pub price: Price,
    /// The operator key the router claims; claims only ever merge nodes into one entity.
    pub operator: Option<NodeId>,
    /// The network group the router knows itself to be in; 0 when unknown.
    pub network_group: u32,
    /// Until when the price holds.
    pub expires: UnixMillis,
    /// The router's signature over all of this, its neighbours in the path and the destination's signature.
    pub signature: Signature,
}

/// A path, priced and signed by everybody on it: the answer to a discovery, and what a quote request shows payees so
/// that each can recompute the fee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCertificate {
    /// The nonce of the request it answers.
    pub nonce: RequestId,
    /// All nodes, requester first, destination last: 2 to 11, all different.
    pub path: Vec<NodeId>,
    /// What the destination charges.
    pub destination_price: Price,
    /// Until when the destination's price holds.
    pub expires: UnixMillis,
    /// The destination's signature over nonce, path, price and expiry.
    pub destination_signature: Signature,
    /// The routers' attestations in the order they were made: the destination's neighbour first.
    pub attestations: Vec<RouterAttestation>,
}

impl RouteCertificate {
    /// As the destination: confirms that `path` leads here.
    pub fn sign(
        nonce: RequestId,
        path: Vec<NodeId>,
        price: Price,
        expires: UnixMillis,
        destination: &Identity,
    ) -> Self {
        let message = destination_bytes(&nonce, &path, price, expires);
        let destination_signature = destination.sign(SignatureContext::DestinationPath, &message);
        Self {
            nonce,
            path,
            destination_price: price,
            expires,
            destination_signature,
            attestations: Vec::new(),
        }
    }

    /// As the router whose turn it is on the way back: adds its place and price.
    pub fn attest(
        &mut self,
        price: Price,
        operator: Option<NodeId>,
        expires: UnixMillis,
        router: &Identity,
    ) -> Result<(), DropReason> {
        let place = self.next_attester().ok_or(DropReason::BadRoute)?;
        let mut attestation = RouterAttestation {
            price,
            operator,
            network_group: 0,
            expires,
            signature: Signature([0; 64]),
        };
        let message = self
            .router_bytes(place, &attestation)
            .ok_or(DropReason::BadRoute)?;
        attestation.signature = router.sign(SignatureContext::RouterAttestation, &message);
        self.attestations.push(attestation);
        Ok(())
    }

    /// The place in the path of the router that signs next; `None` when all have signed.
    pub fn next_attester(&self) -> Option<usize> {
        self.path
            .len()
            .checked_sub(2 + self.attestations.len())
            .filter(|place| *place > 0)
    }

    /// Hops of the route: routers and destination.
    pub fn hops(&self) -> usize {
        self.path.len().saturating_sub(1)
    }

    /// The requester.
    pub fn requester(&self) -> Option<&NodeId> {
        self.path.first()
    }

    /// The destination.
    pub fn destination(&self) -> Option<&NodeId> {
        self.path.last()
    }

    /// What the payee at `place` charges (1 is the first router, the last the destination).
    pub fn price_at(&self, place: usize) -> Option<Price> {
        if place > 0 && place == self.hops() {
            return Some(self.destination_price);
        }
        self.attestation(place).map(|attestation| attestation.price)
    }

    /// Who runs each router, first router first: the operator it claims, or itself. Two routers with the same answer
    /// count as one when diversity is asked for; a claim can only ever merge.
    pub fn entities(&self) -> impl Iterator<Item = NodeId> + '_ {
        (1..self.hops()).filter_map(|place| {
            let operator = self.attestation(place)?.operator;
            operator.or_else(|| self.path.get(place).copied())
        })
    }

    /// Who runs each payee, first router first: as [`RouteCertificate::entities`], and the destination itself last.
    pub fn sellers(&self) -> Vec<NodeId> {
        self.entities().chain(self.path.last().copied()).collect()
    }

    /// The attestation of the router at `place` (1 is the first router).
    fn attestation(&self, place: usize) -> Option<&RouterAttestation> {
        let routers = self.path.len().checked_sub(2)?;
        self.attestations
            .get(routers.checked_sub(place).filter(|_| place > 0)?)
    }

    /// The prices of all payees, first router first, destination last.
    pub fn prices(&self) -> Vec<Price> {
        let routers = (1..self.hops())
            .filter_map(|place| self.attestation(place))
            .map(|attestation| attestation.price);
        routers.chain([self.destination_price]).collect()
    }

    /// Until when every price in it holds.
    pub fn valid_until(&self) -> UnixMillis {
        self.attestations
            .iter()
            .map(|attestation| attestation.expires)
            .fold(self.expires, UnixMillis::min)
    }

    /// Checks what needs no signature: 2 to 11 different nodes, and an attestation of each router.
    pub fn check_shape(&self) -> Result<(), DropReason> {
        check_path(&self.path)?;
        if self.attestations.len() + 2 == self.path.len() {
            Ok(())
        } else {
            Err(DropReason::BadRoute)
        }
    }

    /// Checks every signature: the destination's and each router's. What a requester gains from a route, and a payee
    /// from a quote request, rests on this; with one signature unchecked a relay could lower another's price.
    pub fn verify(&self, verifier: &dyn SignatureVerifier) -> Result<(), DropReason> {
        self.check_shape()?;
        self.verify_so_far(verifier)
    }

    /// Checks the signatures that are there: the destination's and those of the routers it passed on its way back. Each
    /// router does so before it adds its own, so that a bad one is always the fault of the neighbour it came from; else
    /// a villain could have an honest router blamed for handing on what it forged.
    pub fn verify_so_far(&self, verifier: &dyn SignatureVerifier) -> Result<(), DropReason> {
        check_path(&self.path)?;
        if self.attestations.len() + 2 > self.path.len() {
            return Err(DropReason::BadRoute);
        }
        let destination = self.destination().ok_or(DropReason::BadRoute)?;
        let message = destination_bytes(&self.nonce, &self.path, self.destination_price, self.expires);
        let signed = verifier.verify(
            destination,
            SignatureContext::DestinationPath,
            &message,
            &self.destination_signature,
        );
        let first_signed = self.hops() - self.attestations.len();
        let routers_signed = (first_signed..self.hops()).all(|place| self.router_signed(place, verifier));
        if signed && routers_signed {
            Ok(())
        } else {
            Err(DropReason::BadSignature)
        }
    }

    fn router_signed(&self, place: usize, verifier: &dyn SignatureVerifier) -> bool {
        let (Some(router), Some(attestation)) = (self.path.get(place), self.attestation(place)) else {
            return false;
        };
        self.router_bytes(place, attestation).is_some_and(|message| {
            verifier.verify(
                router,
                SignatureContext::RouterAttestation,
                &message,
                &attestation.signature,
            )
        })
    }

    fn router_bytes(&self, place: usize, attestation: &RouterAttestation) -> Option<Vec<u8>> {
        let previous = self.path.get(place.checked_sub(1)?)?;
        let next = self.path.get(place + 1)?;
        let RouterAttestation {
            price,
            operator,
            network_group,
            expires,
            ..
        } = attestation;
        let facts = (
            &self.destination_signature,
            previous,
            next,
            price,
            operator,
            network_group,
            expires,
        );
        // Serialising plain integers and arrays to a vector cannot fail; `None` makes the check fail closed anyway.
        postcard::to_stdvec(&facts).ok()
    }
}

fn destination_bytes(nonce: &RequestId, path: &[NodeId], price: Price, expires: UnixMillis) -> Vec<u8> {
    let mut message = nonce.to_vec();
    message.push(path.len() as u8);
    for node in path {
        message.extend_from_slice(&node.0);
    }
    message.extend_from_slice(&price.msat_per_unit.to_be_bytes());
    message.push(u8::from(price.payable));
    message.extend_from_slice(&expires.0.to_be_bytes());
    message
}

/// 2 to 11 nodes (requester and at most ten hops), all different.
pub fn check_path(path: &[NodeId]) -> Result<(), DropReason> {
    if (2..=MAX_HOPS + 1).contains(&path.len()) && all_differ(path) {
        Ok(())
    } else {
        Err(DropReason::BadRoute)
    }
}

/// Whether no node is named twice.
pub fn all_differ(path: &[NodeId]) -> bool {
    path.iter()
        .enumerate()
        .all(|(place, node)| path.iter().skip(place + 1).all(|other| other != node))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::identity::Ed25519Verifier;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn price(msat_per_unit: u64) -> Price {
        Price {
            msat_per_unit,
            payable: true,
        }
    }

    /// Requester 1, routers 2 and 3, destination 4.
    pub(crate) fn certificate() -> RouteCertificate {
        let path = (1..=4).map(|byte| identity(byte).node_id()).collect();
        let mut certificate = RouteCertificate::sign([7; 16], path, price(4), UnixMillis(1000), &identity(4));
        certificate
            .attest(price(3), None, UnixMillis(1000), &identity(3))
            .unwrap();
        certificate
            .attest(price(2), None, UnixMillis(900), &identity(2))
            .unwrap();
        certificate
    }

    #[test]
    fn certificate_signed_by_all_verifies_and_lists_prices_in_route_order() {
        let certificate = certificate();
        certificate.verify(&Ed25519Verifier).unwrap();
        assert_eq!(
            certificate
                .prices()
                .iter()
                .map(|p| p.msat_per_unit)
                .collect::<Vec<_>>(),
            [2, 3, 4]
        );
        assert_eq!(certificate.valid_until(), UnixMillis(900));
    }

    #[test]
    fn lowered_price_swapped_node_or_missing_router_is_refused() {
        let mut lowered = certificate();
        lowered.attestations[0].price.msat_per_unit = 1;
        let mut swapped = certificate();
        swapped.path[1] = identity(9).node_id();
        let mut cheap_destination = certificate();
        cheap_destination.destination_price.msat_per_unit = 0;
        for forged in [lowered, swapped, cheap_destination] {
            assert_eq!(forged.verify(&Ed25519Verifier), Err(DropReason::BadSignature));
        }
        let mut missing = certificate();
        missing.attestations.pop();
        assert_eq!(missing.verify(&Ed25519Verifier), Err(DropReason::BadRoute));
        let mut looping = certificate();
        looping.path[2] = looping.path[1];
        assert_eq!(looping.verify(&Ed25519Verifier), Err(DropReason::BadRoute));
    }
}
