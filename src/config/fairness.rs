//! `[fairness]`: how much of what this node pays anybody may earn before routes around him are worth more.
//!
//! Caps are written in percent, with up to four digits behind the point, and kept in parts per million.

use std::path::PathBuf;

use mesh_core::fairness::measures::PPM;
use mesh_core::fairness::policy::{Caps, FairnessPolicy};
use toml::de::DeValue;

use super::chain::parse_path;
use super::reader::{Located, Problems, Section, number, text};
use super::sections::{MAX_MSAT, or};

/// Most that avoiding a share can be worth, in percent of what a router is usually paid: a thousand times that.
const MAX_WORTH_PERCENT: u64 = 100_000;

/// Digits behind the point of a percentage that parts per million can tell apart.
const PERCENT_DIGITS: usize = 4;

/// Parts per million of one percent.
const PPM_OF_PERCENT: u64 = PPM / 100;

/// `[fairness]`: how much anybody may earn of what this node pays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FairnessConfig {
    /// Caps, and what they are worth; they do not contradict each other.
    pub policy: FairnessPolicy,
    /// A map from addresses to autonomous systems, in the format of Bitcoin Core; without it networks are prefixes of
    /// addresses.
    pub asmap: Option<PathBuf>,
}

/// A cap with its key, and where it was set if it was.
struct Cap {
    key: &'static str,
    ppm: u32,
    set: Option<usize>,
}

pub(super) fn read_fairness(mut section: Section<'_>, problems: &mut Problems<'_>) -> FairnessConfig {
    let default = FairnessPolicy::default();
    let mut cap = |key: &'static str, least: u32, default: u32| {
        let found: Option<Located<u32>> = section.value(key, problems, |value| percent(value, least));
        Cap {
            key,
            ppm: found.as_ref().map_or(default, |found| found.value),
            set: found.map(|found| found.offset),
        }
    };
    let entity_soft = cap("entity_soft_cap_percent", 0, default.entity.soft_ppm);
    let entity_hard = cap("entity_hard_cap_percent", 1, default.entity.hard_ppm);
    let group_soft = cap("group_soft_cap_percent", 0, default.group.soft_ppm);
    let group_hard = cap("group_hard_cap_percent", 1, default.group.hard_ppm);
    let worth = section.value(
        "worth_at_hard_cap_percent",
        problems,
        number(0..=MAX_WORTH_PERCENT, "percent"),
    );
    let sample = section.value("minimum_sample_msat", problems, number(1..=MAX_MSAT, "msat"));
    let asmap = section.value("asmap", problems, text(parse_path));
    section.finish(problems);
    let above = "avoiding somebody must be worth something before he is left out";
    check(&entity_soft, &entity_hard, true, above, problems);
    check(&group_soft, &group_hard, true, above, problems);
    let within = "a network holds whoever is in it and earns at least as much";
    check(&entity_soft, &group_soft, false, within, problems);
    check(&entity_hard, &group_hard, false, within, problems);
    let worth = or(worth, u64::from(default.price_at_hard_cap_percent));
    FairnessConfig {
        policy: FairnessPolicy {
            entity: Caps {
                soft_ppm: entity_soft.ppm,
                hard_ppm: entity_hard.ppm,
            },
            group: Caps {
                soft_ppm: group_soft.ppm,
                hard_ppm: group_hard.ppm,
            },
            // The range fits.
            price_at_hard_cap_percent: u32::try_from(worth).unwrap_or(u32::MAX),
            minimum_sample_msat: or(sample, default.minimum_sample_msat),
        },
        asmap: asmap.map(|found| found.value),
    }
}

/// Refuses a cap that is above the one that bounds it, or if `strictly` as high, by both names.
fn check(lower: &Cap, upper: &Cap, strictly: bool, why: &str, problems: &mut Problems<'_>) {
    let Some(at) = lower.set.or(upper.set) else {
        return;
    };
    let holds = if strictly {
        lower.ppm < upper.ppm
    } else {
        lower.ppm <= upper.ppm
    };
    if holds {
        return;
    }
    let told = |cap: &Cap| {
        let value = shown(cap.ppm);
        match cap.set {
            Some(_) => format!("`{}` ({value})", cap.key),
            None => format!("`{}` ({value} unless told otherwise)", cap.key),
        }
    };
    let (lower, upper) = (told(lower), told(upper));
    let relation = if strictly {
        "must be below"
    } else {
        "must not be above"
    };
    problems.add(
        at,
        format!("{lower} {relation} {upper}: {why}; lower the one or raise the other"),
    );
}

/// A share in parts per million, in percent as it is written.
pub(crate) fn shown(ppm: u32) -> String {
    let (whole, part) = (u64::from(ppm) / PPM_OF_PERCENT, u64::from(ppm) % PPM_OF_PERCENT);
    let digits = format!("{whole}.{part:0PERCENT_DIGITS$}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads a percentage up to a hundred, at least `least_ppm`, as parts per million. Its digits are read, not a floating point
/// number: 0.1 is exactly a thousandth.
fn percent(value: &DeValue<'_>, least_ppm: u32) -> Result<u32, String> {
    let digits = match value {
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str()),
        DeValue::Float(float) => Some(float.as_str()),
        _ => None,
    };
    digits
        .and_then(ppm_of)
        .filter(|ppm| (least_ppm..=1_000_000).contains(ppm))
        .ok_or_else(|| {
            let least = shown(least_ppm);
            format!(
                "a percentage from {least} to 100 with at most {PERCENT_DIGITS} digits behind the point, without quotes"
            )
        })
}

fn ppm_of(digits: &str) -> Option<u32> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if part.len() > PERCENT_DIGITS || !plain(whole) || !plain(part) {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = format!("{part:0<PERCENT_DIGITS$}").parse().ok()?;
    whole
        .checked_mul(u32::try_from(PPM_OF_PERCENT).ok()?)?
        .checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(keys: &str) -> Result<FairnessConfig, String> {
        let config = Config::parse(&format!("[fairness]\n{keys}"), "f");
        config
            .map(|config| config.fairness)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_the_default_and_what_is_said_arrives_exactly() {
        assert_eq!(read(""), Ok(FairnessConfig::default()));
        let all = read(
            "entity_soft_cap_percent = 4.5\nentity_hard_cap_percent = 10\ngroup_soft_cap_percent = 20.0001\n\
             group_hard_cap_percent = 100\nworth_at_hard_cap_percent = 1_000\nminimum_sample_msat = 7\nasmap = \"/var/asmap.dat\"",
        )
        .unwrap();
        let policy = all.policy;
        assert_eq!(
            (policy.entity.soft_ppm, policy.entity.hard_ppm),
            (45_000, 100_000)
        );
        assert_eq!(
            (policy.group.soft_ppm, policy.group.hard_ppm),
            (200_001, 1_000_000)
        );
        assert_eq!(
            (policy.price_at_hard_cap_percent, policy.minimum_sample_msat),
            (1_000, 7)
        );
        assert_eq!(all.asmap, Some(PathBuf::from("/var/asmap.dat")));
        assert_eq!(policy.check(), Ok(()), "what is taken here the node takes");
    }

    #[test]
    fn caps_that_contradict_each_other_are_refused_by_both_names() {
        let refused = read("entity_soft_cap_percent = 30").unwrap_err();
        assert!(
            refused.starts_with(
                "f:2: `entity_soft_cap_percent` (30) must be below `entity_hard_cap_percent` (30 unless told"
            ),
            "{refused}"
        );
        let refused = read("entity_hard_cap_percent = 60").unwrap_err();
        assert!(
            refused.contains(
                "`entity_hard_cap_percent` (60) must not be above `group_hard_cap_percent` (50 unless told"
            ),
            "{refused}"
        );
        let refused = read("group_soft_cap_percent = 9.5\ngroup_hard_cap_percent = 9.5").unwrap_err();
        for named in [
            "`group_soft_cap_percent` (9.5) must be below `group_hard_cap_percent` (9.5)",
            "`entity_soft_cap_percent` (10 unless told otherwise) must not be above `group_soft_cap_percent` (9.5)",
            "must not be above `group_hard_cap_percent` (9.5)",
        ] {
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn what_is_no_percentage_and_no_path_is_refused() {
        for wrong in [
            "entity_soft_cap_percent = -1",
            "entity_soft_cap_percent = 1e1",
            "entity_soft_cap_percent = 0.00001",
            "entity_soft_cap_percent = nan",
            "entity_hard_cap_percent = 0",
            "group_hard_cap_percent = 100.1",
            "group_hard_cap_percent = \"50\"",
            "group_hard_cap_percent = 0x10",
            "worth_at_hard_cap_percent = 100_001",
            "minimum_sample_msat = 0",
            "asmap = \"relative.dat\"",
            "asmap = 3",
            "soft_cap = 3",
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.starts_with("f:2: "), "{wrong}: {refused}");
        }
    }

    #[test]
    fn shares_are_shown_as_they_are_written() {
        let told = [0, 1, 45_000, 100_000, 1_000_000].map(shown);
        assert_eq!(told, ["0", "0.0001", "4.5", "10", "100"]);
    }
}
