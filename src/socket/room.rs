//! Room for the requests that are being read or answered: a share of it for each client, all of it for all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::{MAX_REQUEST_BYTES, MAX_REQUEST_BYTES_PER_CLIENT, SMALL_FRAME_BYTES};
use crate::api::Client;
use crate::handle::lock;

/// All of it. A permit is a byte.
pub(super) struct Rooms {
    all: Arc<Semaphore>,
    /// Of each client that is connected or has calls under way.
    shares: Mutex<BTreeMap<Client, Weak<Semaphore>>>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_REQUEST_BYTES)),
            shares: Mutex::default(),
        }
    }
}

/// A client's share.
#[derive(Clone)]
pub(super) struct Share {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// What a request takes, until it is dropped; nothing for a small one.
pub(super) struct Room {
    _held: Option<[OwnedSemaphorePermit; 2]>,
}

impl Room {
    /// That of a message which is read whoever sends it; none if it is too long for that.
    pub(super) fn of_small(bytes: u32) -> Option<Self> {
        (bytes as usize <= SMALL_FRAME_BYTES).then_some(Self { _held: None })
    }
}

impl Rooms {
    /// The share of a client: the same for all of its connections.
    pub(super) fn share(&self, client: &Client) -> Share {
        let mut shares = lock(&self.shares);
        let known = shares.get(client).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            // As few as there are clients: whoever is gone leaves nothing behind.
            shares.retain(|_, share| share.strong_count() > 0);
            let own = Arc::new(Semaphore::new(MAX_REQUEST_BYTES_PER_CLIENT));
            shares.insert(client.clone(), Arc::downgrade(&own));
            own
        });
        Share {
            all: self.all.clone(),
            own,
        }
    }
}

impl Share {
    /// Waits for room within the share first, so that who is beyond it does not stand in the others' line.
    pub(super) async fn take(&self, bytes: u32) -> Result<Room, AcquireError> {
        if let Some(small) = Room::of_small(bytes) {
            return Ok(small);
        }
        let own = self.own.clone().acquire_many_owned(bytes).await?;
        let all = self.all.clone().acquire_many_owned(bytes).await?;
        Ok(Room {
            _held: Some([own, all]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::spending::ModuleName;

    const LONG: u32 = 512 << 10;

    fn client(name: &str) -> Client {
        Client::over_socket(ModuleName::new(name).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_fills_its_share_and_leaves_room_for_the_others_and_for_what_is_small() {
        let rooms = Rooms::default();
        let mut held = Vec::new();
        // Over two connections, which are one client's.
        let (greedy, again) = (rooms.share(&client("greedy")), rooms.share(&client("greedy")));
        for _ in 0..MAX_REQUEST_BYTES_PER_CLIENT / LONG as usize / 2 {
            held.push(greedy.take(LONG).await.unwrap());
            held.push(again.take(LONG).await.unwrap());
        }
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, again.take(LONG)).await.is_err());
        assert!(again.take(SMALL_FRAME_BYTES as u32).await.is_ok());
        let modest = rooms.share(&client("modest"));
        assert!(tokio::time::timeout(second, modest.take(LONG)).await.is_ok());
        held.pop();
        assert!(again.take(LONG).await.is_ok());
    }

    #[tokio::test]
    async fn shares_of_clients_that_are_gone_are_forgotten_and_those_with_calls_under_way_are_not() {
        let rooms = Rooms::default();
        let held = rooms.share(&client("busy")).take(LONG).await.unwrap();
        for number in 0..1_000 {
            rooms.share(&client(&number.to_string()));
        }
        assert_eq!(lock(&rooms.shares).len(), 2, "the busy one and the last");
        let same = rooms.share(&client("busy"));
        assert_eq!(
            same.own.available_permits(),
            MAX_REQUEST_BYTES_PER_CLIENT - LONG as usize
        );
        drop(held);
    }
}
