//! Services that are spoken to over HTTP, played by a server on loopback: the client itself, Lightning addresses, and
//! the wallets LND and Core Lightning with the answers that their published documentation gives.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod cln;
mod lnd;
mod lnurl;
mod server;
mod wallets;
