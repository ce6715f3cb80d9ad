//! mesh-net
