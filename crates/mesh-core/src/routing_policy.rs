//! routing_policy
