//! blvm-mesh

pub mod wallet;
