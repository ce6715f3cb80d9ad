//! What the operating system lets this process have, and a daemon that fits into it.
//!
//! A node starts its modules with tight limits (512 MiB of addresses, 256 file descriptors, 10 threads of its user). What
//! was configured beyond them would fail at the worst moment: a link that cannot be accepted, a commit without memory.
//! So the daemon is made smaller at the start and says so, or refuses with the limit's name.

use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::store::DEFAULT_CACHE_BYTES;

/// File descriptors that are neither links nor handshakes: standard streams, lock, log and database (8), the runtime (8),
/// the admin socket and that of programs (32), wallet, chain, node and name look-ups (16).
const OTHER_DESCRIPTORS: u64 = 64;

/// A link is two connections, one for data and one for control.
const DESCRIPTORS_PER_NEIGHBOUR: u64 = 2;

/// Fewest neighbours that make a mesh.
const FEWEST_NEIGHBOURS: u64 = 2;

/// Fewest unfinished connections at once; one neighbour needs two.
const FEWEST_HANDSHAKES: u64 = 8;

/// The share of the address space that the database's cache, and that all queues of packets together, may have: with what
/// control queues and unchecked frames of a full house can come to, and the program itself, all of it then fits.
const SHARE_OF_MEMORY: u64 = 16;

/// Fewest bytes of addresses that a daemon runs in; measured with links and traffic, see docs/MODULE.md.
const FEWEST_ADDRESSES: u64 = 256 << 20;

/// Smallest cache and queue that are of use, in bytes.
const SMALLEST_SHARE: usize = 4 << 20;

/// The soft limits of this process; none where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of address space (`RLIMIT_AS`).
    pub address_space: Option<u64>,
    /// Open file descriptors (`RLIMIT_NOFILE`).
    pub descriptors: Option<u64>,
    /// Threads of this user, in all of its processes together (`RLIMIT_NPROC`).
    pub processes: Option<u64>,
}

impl Limits {
    /// Those that hold now.
    pub fn of_this_process() -> Self {
        Self {
            address_space: getrlimit(Resource::As).current,
            descriptors: getrlimit(Resource::Nofile).current,
            processes: getrlimit(Resource::Nproc).current,
        }
    }
}

/// Who set the limits, and so can raise them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// The shell or the service manager.
    System,
    /// The node that spawned us.
    Node,
}

impl SetBy {
    fn descriptors(self) -> &'static str {
        match self {
            Self::System => "raise it with `ulimit -n` or LimitNOFILE",
            Self::Node => {
                "raise `default_max_file_descriptors` in [module_resource_limits] of the node's configuration"
            }
        }
    }

    fn address_space(self) -> &'static str {
        match self {
            Self::System => "raise it with `ulimit -v` or LimitAS",
            Self::Node => {
                "raise `default_max_memory_bytes` in [module_resource_limits] of the node's configuration"
            }
        }
    }
}

/// Why no daemon fits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooTight {
    /// File descriptors.
    #[error(
        "this process may open {limit} files and connections (RLIMIT_NOFILE), and {wanted} neighbours need at least \
         {least}; {advice}"
    )]
    Descriptors {
        /// The limit.
        limit: u64,
        /// What is needed.
        least: u64,
        /// How many neighbours must fit.
        wanted: u64,
        /// What to do.
        advice: &'static str,
    },
    /// Address space.
    #[error(
        "this process may use {limit} bytes of addresses (RLIMIT_AS) and needs at least {FEWEST_ADDRESSES}; {advice}"
    )]
    AddressSpace {
        /// The limit.
        limit: u64,
        /// What to do.
        advice: &'static str,
    },
}

/// What a daemon was made to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// Bytes of the database that are kept in memory.
    pub database_cache_bytes: usize,
    /// What was made smaller than configured, each a sentence for the log.
    pub warnings: Vec<String>,
}

/// Makes what is configured fit into the limits.
///
/// # Errors
/// [`TooTight`]: not even the neighbours that are named would fit.
pub fn fit(config: &mut Config, limits: &Limits, set_by: SetBy) -> Result<Fitted, TooTight> {
    let mut warnings = Vec::new();
    if let Some(limit) = limits.descriptors {
        fit_descriptors(config, limit, set_by, &mut warnings)?;
    }
    let database_cache_bytes = match limits.address_space {
        Some(limit) => fit_memory(config, limit, set_by, &mut warnings)?,
        None => DEFAULT_CACHE_BYTES,
    };
    Ok(Fitted {
        database_cache_bytes,
        warnings,
    })
}

fn fit_descriptors(
    config: &mut Config,
    limit: u64,
    set_by: SetBy,
    warnings: &mut Vec<String>,
) -> Result<(), TooTight> {
    let mesh = &mut config.mesh;
    let wanted = mesh.max_peers as u64 * DESCRIPTORS_PER_NEIGHBOUR + mesh.limits.max_handshakes as u64;
    let free = limit.saturating_sub(OTHER_DESCRIPTORS);
    if wanted <= free {
        return Ok(());
    }
    let handshakes = (free / 6)
        .max(FEWEST_HANDSHAKES)
        .min(mesh.limits.max_handshakes as u64);
    let fitting = free.saturating_sub(handshakes) / DESCRIPTORS_PER_NEIGHBOUR;
    let fewest = (mesh.peers.len() as u64).max(FEWEST_NEIGHBOURS.min(mesh.max_peers as u64));
    if fitting < fewest {
        return Err(TooTight::Descriptors {
            limit,
            least: OTHER_DESCRIPTORS + FEWEST_HANDSHAKES + fewest * DESCRIPTORS_PER_NEIGHBOUR,
            wanted: fewest,
            advice: set_by.descriptors(),
        });
    }
    let max_peers = usize::try_from(fitting).unwrap_or(usize::MAX).min(mesh.max_peers);
    let max_handshakes = usize::try_from(handshakes).unwrap_or(usize::MAX);
    warnings.push(format!(
        "this process may open {limit} files and connections (RLIMIT_NOFILE): max_peers is {max_peers} instead of {}, \
         and max_handshakes {max_handshakes} instead of {}; for more, {}",
        mesh.max_peers,
        mesh.limits.max_handshakes,
        set_by.descriptors()
    ));
    mesh.max_peers = max_peers;
    mesh.limits.max_handshakes = max_handshakes;
    mesh.limits.max_handshakes_per_address = mesh.limits.max_handshakes_per_address.min(max_handshakes);
    Ok(())
}

/// Answers with the size of the database's cache.
fn fit_memory(
    config: &mut Config,
    limit: u64,
    set_by: SetBy,
    warnings: &mut Vec<String>,
) -> Result<usize, TooTight> {
    let advice = set_by.address_space();
    if limit < FEWEST_ADDRESSES {
        return Err(TooTight::AddressSpace { limit, advice });
    }
    let share = usize::try_from(limit / SHARE_OF_MEMORY)
        .unwrap_or(usize::MAX)
        .max(SMALLEST_SHARE);
    let limits = &mut config.mesh.limits;
    if limits.total_data_queue_bytes > share {
        warnings.push(format!(
            "this process may use {limit} bytes of addresses (RLIMIT_AS): total_data_queue_bytes is {share} instead of \
             {}; for more, {advice}",
            limits.total_data_queue_bytes
        ));
        limits.total_data_queue_bytes = share;
        limits.data_queue_bytes = limits.data_queue_bytes.min(share);
    }
    Ok(share.min(DEFAULT_CACHE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Peer;
    use mesh_core::identity::NodeId;

    fn limits(address_space: u64, descriptors: u64) -> Limits {
        Limits {
            address_space: Some(address_space),
            descriptors: Some(descriptors),
            processes: None,
        }
    }

    #[test]
    fn a_usual_shell_changes_nothing() {
        let mut config = Config::default();
        let unlimited = Limits {
            descriptors: Some(1024),
            ..Limits::default()
        };
        let fitted = fit(&mut config, &unlimited, SetBy::System).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(
            (fitted.warnings.len(), fitted.database_cache_bytes),
            (0, DEFAULT_CACHE_BYTES)
        );
    }

    #[test]
    fn under_the_nodes_limits_the_daemon_is_smaller_and_names_the_limits() {
        let mut config = Config::default();
        let fitted = fit(&mut config, &limits(512 << 20, 256), SetBy::Node).unwrap();
        assert_eq!(
            (config.mesh.max_peers, config.mesh.limits.max_handshakes),
            (80, 32)
        );
        assert_eq!(config.mesh.limits.total_data_queue_bytes, 32 << 20);
        assert_eq!(fitted.database_cache_bytes, 32 << 20);
        let said = fitted.warnings.join("\n");
        for name in [
            "RLIMIT_NOFILE",
            "max_peers is 80 instead of 128",
            "default_max_file_descriptors",
            "RLIMIT_AS",
            "default_max_memory_bytes",
        ] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn neighbours_that_are_named_must_fit_or_the_start_is_refused() {
        let mut config = Config::default();
        config.mesh.peers = (1..=90)
            .map(|number| Peer {
                address: "192.0.2.1:8334".into(),
                node_id: NodeId([number; 32]),
            })
            .collect();
        let refused = fit(&mut config, &limits(512 << 20, 256), SetBy::Node).unwrap_err();
        assert!(matches!(
            refused,
            TooTight::Descriptors {
                limit: 256,
                wanted: 90,
                ..
            }
        ));
        assert!(refused.to_string().contains("default_max_file_descriptors"));
        let TooTight::Descriptors { least, .. } = refused else {
            panic!("{refused}")
        };
        fit(&mut config, &limits(512 << 20, least + 40), SetBy::Node).unwrap();
    }

    #[test]
    fn too_little_of_anything_is_refused_by_name() {
        let refusal = |limits| {
            fit(&mut Config::default(), &limits, SetBy::System)
                .unwrap_err()
                .to_string()
        };
        let said = refusal(limits(64 << 20, 1024));
        assert!(said.contains("RLIMIT_AS") && said.contains("ulimit -v"), "{said}");
        let said = refusal(limits(1 << 30, 70));
        assert!(
            said.contains("RLIMIT_NOFILE") && said.contains("ulimit -n"),
            "{said}"
        );
    }

    #[test]
    fn what_is_fitted_is_a_configuration_that_would_be_taken() {
        for descriptors in 76..600 {
            let mut config = Config::default();
            fit(&mut config, &limits(256 << 20, descriptors), SetBy::Node).unwrap();
            let (mesh, limits) = (&config.mesh, &config.mesh.limits);
            let used = mesh.max_peers * 2 + limits.max_handshakes + 64;
            assert!(used as u64 <= descriptors, "{descriptors}");
            assert!(mesh.max_peers >= 2 && limits.max_handshakes_per_address <= limits.max_handshakes);
            assert!(limits.data_queue_bytes <= limits.total_data_queue_bytes);
        }
    }
}
