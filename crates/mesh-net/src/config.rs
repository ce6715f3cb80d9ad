//! The settings of an endpoint, each with the reason for its default.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_core::identity::NodeId;

/// The length to give the event channel. One event holds at most one read of a socket or one long frame: 256 KiB, or,
/// if a neighbour sends nothing but one-byte frames, half a megabyte of handles on them. So a consumer that stands
/// still costs 64 MiB here at the very worst.
pub const RECOMMENDED_EVENT_QUEUE: usize = 128;

/// The settings of an [`Endpoint`](crate::Endpoint).
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Where to listen; `None` only dials. Port 0 takes any free one.
    pub listen_addr: Option<SocketAddr>,
    /// Neighbours at once, in both directions. Each costs two file descriptors.
    pub max_peers: usize,
    /// If given, only these nodes and those added by `add_peer` may connect.
    pub allowed_peers: Option<BTreeSet<NodeId>>,
    /// Unfinished inbound connections at once, from everywhere: bounds what a flood from many addresses can hold.
    pub max_handshakes: usize,
    /// Unfinished inbound connections at once from one address (IPv6: one /64). A neighbour needs two.
    pub max_handshakes_per_address: usize,
    /// Inbound connections a minute from one address (IPv6: one /64).
    pub accepts_per_minute_per_address: u32,
    /// Whether the two limits above bind loopback too. Off, because all neighbours that come through an onion
    /// service or a local proxy share that address; the limit for all addresses together binds always.
    pub limit_loopback: bool,
    /// From the TCP connection to the finished hello.
    pub handshake_timeout: Duration,
    /// A keep-alive is sent on each connection that was silent this long. Must not be zero.
    pub keepalive_interval: Duration,
    /// A link from which nothing came this long is closed. Measured in whole keep-alive intervals, rounded up.
    pub idle_timeout: Duration,
    /// Bytes waiting to be sent on one link's data connection before the newest are dropped.
    pub data_queue_bytes: usize,
    /// Bytes waiting on all data connections together: 128 slow neighbours must not hold 128 full queues.
    pub total_data_queue_bytes: usize,
    /// Bytes waiting on one link's control connection before the link is closed.
    pub control_queue_bytes: usize,
    /// Batches waiting on one connection, whatever their size.
    pub queue_batches: usize,
    /// The pause after the first failed attempt to dial; doubled after each further one.
    pub initial_backoff: Duration,
    /// The longest pause between attempts to dial.
    pub max_backoff: Duration,
    /// Seed of the jitter in those pauses; `None` draws one. A fleet that restarts together must not dial together.
    pub jitter_seed: Option<u64>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            listen_addr: None,
            max_peers: 128,
            allowed_peers: None,
            max_handshakes: 256,
            max_handshakes_per_address: 8,
            accepts_per_minute_per_address: 60,
            limit_loopback: false,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(45),
            data_queue_bytes: 4 << 20,
            total_data_queue_bytes: 64 << 20,
            control_queue_bytes: 1 << 20,
            queue_batches: 1024,
            initial_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(60),
            jitter_seed: None,
        }
    }
}
