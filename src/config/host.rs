//! `[host]`: what the node makes of the machine and the Bitcoin node it lives with.

use super::reader::{Located, Problems, Section, boolean, number};
use super::sections::or;
use crate::pricing::FeeRatePricing;

/// Most room that can be asked for, in MiB: 16 TiB.
const MAX_FREE_MIB: u64 = 16 << 20;

/// Highest fee rate that can be called usual, in satoshi per virtual byte.
const MAX_REFERENCE: u64 = 100_000;

/// `[host]`: what the node makes of the machine and the Bitcoin node it lives with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Below so much room on the data directory's disk no new sessions are taken, in MiB; 0 never looks.
    pub least_free_disk_mib: u64,
    /// How the price follows the fee rate of the chain; none when it does not.
    pub pricing: Option<FeeRatePricing>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            // A year of a busy ledger is some tens of MiB; what shares the disk writes more.
            least_free_disk_mib: 256,
            pricing: None,
        }
    }
}

pub(super) fn read_host(mut section: Section<'_>, problems: &mut Problems<'_>) -> HostConfig {
    let default = FeeRatePricing::default();
    let least_free = section.value("least_free_disk_mib", problems, number(0..=MAX_FREE_MIB, "MiB"));
    let follows = section.value("price_follows_fee_rate", problems, boolean);
    let reference = section.value(
        "price_reference_sat_per_vbyte",
        problems,
        number(1..=MAX_REFERENCE, "satoshi per virtual byte"),
    );
    let least = section.value("price_least_percent", problems, number(1..=100, "percent"));
    let most = section.value("price_most_percent", problems, number(100..=10_000, "percent"));
    section.finish(problems);
    let follows = or(follows, false);
    for (name, set) in [
        ("price_reference_sat_per_vbyte", &reference),
        ("price_least_percent", &least),
        ("price_most_percent", &most),
    ] {
        if let (false, Some(Located { offset, .. })) = (follows, set) {
            problems.add(
                *offset,
                format!(
                    "`{name}` without `price_follows_fee_rate = true` changes nothing; add that or remove it"
                ),
            );
        }
    }
    HostConfig {
        least_free_disk_mib: or(least_free, HostConfig::default().least_free_disk_mib),
        pricing: follows.then(|| FeeRatePricing {
            reference_sat_per_vbyte: or(reference, default.reference_sat_per_vbyte),
            least_percent: or(least, default.least_percent),
            most_percent: or(most, default.most_percent),
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn bounds_of_a_price_that_follows_nothing_are_refused_by_name() {
        let read = |text: &str| Config::parse(text, "f").map_err(|error| error.to_string());
        let told = read("[host]\nprice_most_percent = 200").unwrap_err();
        assert!(told.starts_with("f:2: `price_most_percent` without"), "{told}");
        let followed = read("[host]\nprice_follows_fee_rate = true\nprice_most_percent = 200").unwrap();
        assert_eq!(followed.host.pricing.unwrap().most_percent, 200);
        for wrong in [
            "price_least_percent = 0",
            "price_most_percent = 99",
            "price_reference_sat_per_vbyte = 0",
        ] {
            assert!(
                read(&format!("[host]\nprice_follows_fee_rate = true\n{wrong}")).is_err(),
                "{wrong}"
            );
        }
    }
}
