//! What a node tells of its peers and modules, and what a module tells of itself.

use crate::codec::{choice, record};

record! {
    /// A peer of the node's own network.
    #[derive(Eq)]
    pub struct PeerInfo {
        /// Its address.
        pub addr: String,
        /// "tcp" and the like.
        pub transport_type: String,
        /// Service bits.
        pub services: u64,
        /// Protocol version.
        pub version: u32,
        /// Seconds since 1970.
        pub connected_since: u64,
    }
}

record! {
    /// The node's network in a few numbers.
    pub struct NetworkStats {
        /// Connected peers.
        pub peer_count: u64,
        /// Hashes per second of the whole network, estimated.
        pub hash_rate: f64,
        /// Bytes sent.
        pub bytes_sent: u64,
        /// Bytes received.
        pub bytes_received: u64,
    }
}

choice! {
    /// What a module is doing.
    #[derive(Eq)]
    pub enum ModuleState as "module state" {
        /// It does not run.
        0 => Stopped,
        /// It starts.
        1 => Initializing,
        /// It runs.
        2 => Running,
        /// It ends.
        3 => Stopping,
        /// It died, with what is known of why.
        4 => Error(reason: String),
    }
}

record! {
    /// A loaded module.
    #[derive(Eq)]
    pub struct ModuleInfo {
        /// `name_<32 hex>`.
        pub module_id: String,
        /// Its name.
        pub module_name: String,
        /// Its version.
        pub version: String,
        /// What its manifest asks for.
        pub capabilities: Vec<String>,
        /// What it is doing.
        pub status: ModuleState,
        /// The version of its API.
        pub api_version: u32,
    }
}

choice! {
    /// A metric's value.
    pub enum MetricValue as "metric value" {
        /// Only grows.
        0 => Counter(value: u64),
        /// Goes up and down.
        1 => Gauge(value: f64),
        /// Observations.
        2 => Histogram(values: Vec<f64>),
    }
}

record! {
    /// A metric that a module reports.
    pub struct Metric {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: MetricValue,
        /// Its labels; the node takes any order, each name once.
        pub labels: Vec<(String, String)>,
        /// Seconds since 1970.
        pub timestamp: u64,
    }
}

choice! {
    /// A module's health, as it says itself.
    #[derive(Eq)]
    pub enum ModuleHealth as "module health" {
        /// All is well.
        0 => Healthy,
        /// It cannot answer now.
        1 => Unresponsive,
        /// It died.
        2 => Crashed(reason: String),
    }
}

choice! {
    /// How loud a log line is.
    #[derive(Copy, Eq)]
    pub enum LogLevel as "log level" {
        /// Everything.
        0 => Trace,
        /// For developers.
        1 => Debug,
        /// For operators.
        2 => Info,
        /// Something to look at.
        3 => Warn,
        /// Something is broken.
        4 => Error,
    }
}

record! {
    /// One log line for the node's log.
    #[derive(Eq)]
    pub struct LogLine {
        /// How loud.
        pub level: LogLevel,
        /// Who.
        pub module_id: String,
        /// What.
        pub message: String,
        /// Which part of the module.
        pub target: String,
        /// Seconds since 1970.
        pub timestamp: u64,
    }
}
