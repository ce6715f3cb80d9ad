//! The pure heart of blvm-mesh: everything a mesh node decides, without a clock, socket, file, task or randomness of
//! its own. The contract is told at [`core`].

pub mod account;
pub mod announcement;
pub mod back;
pub mod bucket;
pub mod certificate;
pub mod check;
pub mod command;
pub mod core;
pub mod discovery;
pub mod drop_reason;
pub mod entropy;
pub mod event;
pub mod fair_share;
pub mod fees;
pub mod identity;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod neighbours;
pub mod open;
pub mod packet;
pub mod payer;
pub mod payment_proof;
pub mod quotes;
pub mod receipt_watch;
pub mod relays;
pub mod replay;
pub mod routing;
pub mod routing_policy;
pub mod session;
pub mod source_session;
pub mod time;
pub mod treasury;
pub mod verifier;
