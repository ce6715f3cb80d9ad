//! Whole mesh networks in one process and in virtual time: the real [`mesh_core::core::Core`] of every node, between them
//! links that lose, repeat, delay and overtake, under them disks that outlive a kill -9 and a Lightning network made of
//! one ledger, and all around them villains.
//!
//! # Contract
//!
//! A simulation is a pure function of its seed and of what is done to it: no clock, no thread, no randomness but its own,
//! no iteration in hash order. [`Simulation::event_hash`] is the proof: two runs of the same script under the same seed
//! agree in it, which covers every frame, output, record and payment in their order.
//!
//! Each core is treated as its contract says: one input, all outputs drained and obeyed in their order, the records that
//! followed from one input written down together before anything behind the first of them is seen elsewhere, and a
//! timeout when it asked for one. A killed node keeps what it wrote down and nothing else.
//!
//! Routing is proved in networks of thousands of nodes, which have a world of their own: [`network`].
//!
//! After any scenario [`Simulation::audit`] goes over the books of everybody: no msat may be lost, made up or counted
//! twice, whatever happened on the links.
//!
//! ```
//! use mesh_core::routing_policy::TrafficClass;
//! use mesh_sim::{LinkSpec, NodeSpec, Simulation};
//!
//! let mut sim = Simulation::new(7);
//! let [a, b, c] = [0, 3, 5].map(|price| sim.add_node(NodeSpec::paid(price)));
//! sim.connect(a, b, LinkSpec::default());
//! sim.connect(b, c, LinkSpec::default());
//! let trip = sim.establish(a, c, TrafficClass::Paid, 1000).expect("a way is found and paid");
//! sim.send(a, trip.session, "chat", b"hello").expect("credit is there");
//! sim.settle();
//! assert_eq!(&sim.deliveries(c)[0].payload[..], b"hello");
//! sim.audit().expect("the books balance");
//! ```

mod audit;
mod chain;
mod commands;
mod driver;
mod faults;
mod hands;
mod ledger_audit;
mod lightning;
pub mod market;
pub mod network;
mod node;
mod random;
mod simulation;
mod verifier;
mod villain;
mod world;

pub use audit::{Books, Discrepancy};
pub use chain::{Chain, Transaction};
pub use driver::Trip;
pub use faults::{Fate, FaultRates, LinkSpec, Plan, Stage};
pub use lightning::{Lightning, SettledPayment, WalletSpec};
pub use node::{CrashPoint, Dropped, NodeIndex, NodeSpec};
pub use random::Random;
pub use simulation::{CommandOutcome, Simulation, Tamper};
pub use verifier::MemoisingVerifier;
pub use villain::{RawPayer, RawSession};
