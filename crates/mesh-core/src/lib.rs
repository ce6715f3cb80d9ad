//! The pure heart of blvm-mesh.

pub mod identity;
pub mod time;
