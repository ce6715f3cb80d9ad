//! blvm-mesh
