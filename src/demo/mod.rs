//! The demo: five complete nodes on this machine, real Lightning payments, ten thousand paid packets, and ten crimes.
//!
//! ```text
//!   A ── B ── C ── D ── E        every letter is a whole node: its own key, data directory, TLS listener
//!        └─────────┘             and Lightning node; the lines are links and funded channels
//! ```
//! Only the Bitcoin chain under the Lightning nodes is simulated. The report is true or the demo fails: every sum is
//! checked to the millisatoshi, every crime must be refused under its own name.

mod crimes;
mod honest;
mod report;
mod stage;
mod villain;

use std::net::SocketAddr;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::Refusal;

use crate::handle::CommandError;
use crate::node::StartError;
use crate::wallet::WalletError;
use crate::wallet::devnet::DevnetError;

pub use report::Report;

/// Every server of the demo listens on a free port of the loopback address only.
pub(crate) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Why the demo could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The Lightning network.
    #[error(transparent)]
    Devnet(#[from] DevnetError),
    /// A node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Links.
    #[error(transparent)]
    Net(#[from] mesh_net::NetError),
    /// A wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// A command that should succeed did not.
    #[error("an honest command was refused: {0}")]
    Command(#[from] CommandError),
    /// A refusal where none was expected.
    #[error("refused: {0}")]
    Refused(Box<Refusal>),
    /// The core refused to build something.
    #[error("refused: {0}")]
    Dropped(#[from] DropReason),
    /// A directory could not be made.
    #[error("the demo's data directory cannot be made: {0}; check TMPDIR and the free space there")]
    Directory(#[from] std::io::Error),
    /// A wallet without a Lightning key.
    #[error("a devnet wallet has no Lightning key; please report this")]
    NoLightningKey,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The villain has left.
    #[error("the villain left the stage too early; please report this")]
    VillainGone,
    /// Something took far too long.
    #[error("waited {seconds} s in vain for {what}; the machine may be overloaded")]
    TooSlow {
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
}

/// Plays the demo. `progress` is told what happens, one line at a time.
pub async fn play(progress: &dyn Fn(&str)) -> Result<Report, DemoError> {
    progress("starting five Lightning nodes and one villain's, opening channels");
    let stage = stage::Stage::set(progress).await?;
    let honest = honest::run(&stage, progress).await?;
    let crimes = crimes::run(&stage, progress).await?;
    let report = Report::new(&stage, honest, crimes);
    progress("stopping");
    stage.clear().await;
    Ok(report)
}
