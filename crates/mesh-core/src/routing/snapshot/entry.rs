//! What a snapshot tells about one destination, in 48 bytes.

use std::fmt;

use crate::limits::MAX_ALTERNATIVES;
use crate::time::UnixMillis;

/// A neighbour that a route leads over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Successor {
    /// The neighbour's number; [`RouteSnapshot::neighbour`](super::RouteSnapshot::neighbour) knows its id.
    pub neighbour: u32,
    /// The route's metric in the cost plane.
    pub cost: u32,
    /// Links from here to the destination, at least 1.
    pub hops: u8,
}

/// Why there is no route entry of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRouteEntry {
    /// A destination nobody leads to is not in the table: remove it instead.
    #[error("a route entry needs at least one successor")]
    NoSuccessor,
    /// Only a node itself is no hop away, and it needs no route to itself.
    #[error("a successor is at least one hop away from the destination")]
    ZeroHops,
}

/// The routes to one destination: one to [`MAX_ALTERNATIVES`] successors, best first, the price, and until when they
/// hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RouteEntry {
    msat_per_unit: u64,
    /// Since 1970. Seconds fit into 32 bits until 2106.
    expires_seconds: u32,
    neighbours: [u32; MAX_ALTERNATIVES],
    costs: [u32; MAX_ALTERNATIVES],
    /// 0 where there is no successor.
    hops: [u8; MAX_ALTERNATIVES],
}

impl RouteEntry {
    /// An entry of the first [`MAX_ALTERNATIVES`] of `successors`, which come best first; the rest is left out.
    /// `msat_per_unit` is the price of the best one, in msat per started [`UNIT_BYTES`](crate::limits::UNIT_BYTES).
    /// `expires` is rounded down to seconds, so that nobody relies on a route for longer than it holds, and to 2106.
    pub fn new(
        successors: &[Successor],
        msat_per_unit: u64,
        expires: UnixMillis,
    ) -> Result<Self, InvalidRouteEntry> {
        if successors.is_empty() {
            return Err(InvalidRouteEntry::NoSuccessor);
        }
        let mut entry = Self {
            msat_per_unit,
            expires_seconds: u32::try_from(expires.seconds()).unwrap_or(u32::MAX),
            ..Self::VACANT
        };
        for (place, successor) in successors.iter().take(MAX_ALTERNATIVES).enumerate() {
            if successor.hops == 0 {
                return Err(InvalidRouteEntry::ZeroHops);
            }
            entry.neighbours[place] = successor.neighbour;
            entry.costs[place] = successor.cost;
            entry.hops[place] = successor.hops;
        }
        Ok(entry)
    }

    /// What fills an unused place of a shard; readers never see it.
    pub(super) const VACANT: Self = Self {
        msat_per_unit: 0,
        expires_seconds: 0,
        neighbours: [0; MAX_ALTERNATIVES],
        costs: [0; MAX_ALTERNATIVES],
        hops: [0; MAX_ALTERNATIVES],
    };

    /// The best successor.
    pub fn best(&self) -> Successor {
        self.successor(0)
    }

    /// One to [`MAX_ALTERNATIVES`] successors, best first.
    pub fn successors(&self) -> impl Iterator<Item = Successor> + '_ {
        (0..MAX_ALTERNATIVES)
            .map(|place| self.successor(place))
            .take_while(|successor| successor.hops > 0)
    }

    /// Price over the best successor, in msat per started [`UNIT_BYTES`](crate::limits::UNIT_BYTES).
    pub fn msat_per_unit(&self) -> u64 {
        self.msat_per_unit
    }

    /// From when on the routes no longer hold.
    pub fn expires(&self) -> UnixMillis {
        UnixMillis(u64::from(self.expires_seconds) * 1000)
    }

    fn successor(&self, place: usize) -> Successor {
        Successor {
            neighbour: self.neighbours[place],
            cost: self.costs[place],
            hops: self.hops[place],
        }
    }
}

impl fmt::Debug for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteEntry")
            .field("successors", &self.successors().collect::<Vec<_>>())
            .field("msat_per_unit", &self.msat_per_unit)
            .field("expires", &self.expires())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn successor(number: u32) -> Successor {
        Successor {
            neighbour: number,
            cost: number * 10,
            hops: 1,
        }
    }

    #[test]
    fn fifth_successor_is_left_out_and_the_order_kept() {
        let given: Vec<_> = [5, 1, 4, 2, 3].map(successor).to_vec();
        let entry = RouteEntry::new(&given, 7, UnixMillis(0)).unwrap();
        assert_eq!(entry.successors().collect::<Vec<_>>(), given[..4]);
        assert_eq!(entry.best(), given[0]);
    }

    #[test]
    fn entry_that_leads_nowhere_is_refused() {
        let here = Successor {
            hops: 0,
            ..successor(1)
        };
        assert_eq!(
            RouteEntry::new(&[], 7, UnixMillis(0)),
            Err(InvalidRouteEntry::NoSuccessor)
        );
        assert_eq!(
            RouteEntry::new(&[successor(2), here], 7, UnixMillis(0)),
            Err(InvalidRouteEntry::ZeroHops)
        );
    }

    #[test]
    fn route_is_never_shown_as_valid_for_longer_than_it_is() {
        let expires = |at| RouteEntry::new(&[successor(1)], 7, UnixMillis(at)).map(|entry| entry.expires());
        assert_eq!(expires(1_700_000_000_999), Ok(UnixMillis(1_700_000_000_000)));
        assert_eq!(expires(u64::MAX), Ok(UnixMillis(u64::from(u32::MAX) * 1000)));
    }

    #[test]
    fn entry_fits_into_48_bytes() {
        assert_eq!(size_of::<RouteEntry>(), 48);
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(
            given in proptest::collection::vec((any::<u32>(), any::<u32>(), 1..=u8::MAX), 1..=MAX_ALTERNATIVES),
            price: u64,
            seconds: u32,
        ) {
            let given: Vec<_> = given
                .into_iter()
                .map(|(neighbour, cost, hops)| Successor { neighbour, cost, hops })
                .collect();
            let expires = UnixMillis(u64::from(seconds) * 1000);
            let entry = RouteEntry::new(&given, price, expires).unwrap();
            prop_assert_eq!(entry.successors().collect::<Vec<_>>(), given);
            prop_assert_eq!((entry.msat_per_unit(), entry.expires()), (price, expires));
        }
    }
}
