//! The pure heart of blvm-mesh.

pub mod drop_reason;
pub mod fees;
pub mod identity;
pub mod limits;
pub mod replay;
pub mod routing_policy;
pub mod time;
