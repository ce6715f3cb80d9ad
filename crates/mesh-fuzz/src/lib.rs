//! What fuzzing does with every decoder that meets the network, the module interface or a file.
//!
//! A **target** is a function from arbitrary bytes to nothing: it panics when a promise is broken. That a decoder does not
//! panic is the least of them; what it accepts must also be within its limits, come back the same when it is encoded and
//! decoded again, and say the same as any second way to read it. Each module says what its targets promise.
//!
//! Two programs run them. `cargo fuzz` (the workspace in `fuzz/`, nightly, see `.ci/fuzz`) looks for new inputs; the test
//! `corpus` of this crate plays the committed inputs under `fuzz/corpus` on any toolchain. Those are what [`seeds`] makes,
//! from the same code that speaks on the wire, and what fuzzing found.

#![forbid(unsafe_code)]
// A panic is how a target says that a promise is broken.
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod admin;
pub mod api;
mod cast;
pub mod files;
pub mod links;
pub mod machine;
pub mod money;
pub mod node;
pub mod replay;
pub mod seeds;
pub mod wire;

/// A decoder, or several that belong together, and what is promised of them.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of the binary in `fuzz/` and of the folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("admin", admin::admin),
    target("announcement", wire::announcement),
    target("api", api::api),
    target("back", wire::back),
    target("carrier", links::carrier),
    target("config", files::config),
    target("content", wire::content),
    target("control", wire::control),
    target("core", machine::core),
    #[cfg(feature = "ctv")]
    target("covenant", money::covenant),
    target("frames", links::frames),
    target("invoice", money::invoice),
    target("node", node::node),
    target("open", wire::open),
    target("packet", wire::packet),
    target("proof", money::proof),
    target("records", files::records),
    target("replay", replay::replay),
    target("scenario", files::scenario),
    target("socket", api::socket),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The target of that name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
