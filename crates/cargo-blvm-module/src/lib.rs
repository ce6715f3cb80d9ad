//! Installs modules of `blvm-node`: programs that the node finds in its modules directory and spawns.
//!
//! # How a module lies on disk
//!
//! ```text
//! MODULES_DIR/
//!   blvm-mesh/
//!     module.toml                      what the node reads; its entry_point leads into one release
//!     config.toml                      the operator's; never written, never removed
//!     releases/0.1.0-4f0c81d2a9b3/     one installed build
//!       module.toml                    the manifest as its author wrote it
//!       blvm-mesh                      the program
//!       installed.toml                 where it came from, its SHA-256
//! ```
//!
//! A build is laid down in full under a name that nothing points to. One rename of `module.toml` then makes it the
//! module. Before that rename the node finds the old build, after it the new one, and there is nothing in between:
//! neither a full disk nor a power cut leaves a manifest of one version with the program of another. The build before it
//! stays for `rollback`. A module that runs keeps the file it was started from.
//!
//! The module's data (`[modules] data_dir`) is another directory, which only `remove --purge-data` touches.
//!
//! # Who does what
//!
//! [`cli`] reads the command line and runs a command; [`node`] finds the node's directories; [`source`] turns a crate, a
//! directory or an archive into a [`source::Package`]; [`manifest`] holds the node's rules for `module.toml`; [`store`]
//! puts packages in place over [`disk`]; [`inspect`] tells whether what is in place is whole. The network is cargo's:
//! nothing here opens a socket.

pub mod capabilities;
pub mod cli;
pub mod disk;
pub mod error;
pub mod inspect;
pub mod manifest;
pub mod node;
pub mod source;
pub mod store;

pub use cli::main;
