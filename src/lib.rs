//! blvm-mesh

pub mod wallet;
pub mod clock;
pub mod config;
pub mod handle;
mod manager;
pub mod node;
pub mod store;
mod workers;
