//! `[payments]`: the caps of auto-pay, and which of them contradict each other.
//!
//! A cap that is not in the file follows the one that bounds it when that is lowered, so that lowering one is enough to
//! spend less. Raising one above a cap that bounds it is refused, whether that one is in the file or not: what may be
//! spent in a day grows only when the operator says so.

use mesh_core::spending::{SpendingCap, SpendingCaps};

use super::PaymentsConfig;
use super::reader::{Located, Problems, Section, boolean, number};
use super::sections::{MAX_MSAT, or};

pub(super) fn read_payments(mut section: Section<'_>, problems: &mut Problems<'_>) -> PaymentsConfig {
    let default = PaymentsConfig::default();
    let auto_pay = section.value("auto_pay", problems, boolean);
    let max_fee = section.value("max_fee_msat", problems, number(0..=MAX_MSAT, "msat"));
    let caps = Caps::read(&mut section, problems).resolve(&default.caps, problems);
    section.finish(problems);
    if let Some(auto_pay) = auto_pay
        && auto_pay.value
        && let Some(zero) = never_pays(&caps)
    {
        problems.add(
            auto_pay.offset,
            format!("auto_pay = true with {zero} = 0 can never pay; raise that cap or turn auto_pay off"),
        );
    }
    PaymentsConfig {
        auto_pay: or(auto_pay, default.auto_pay),
        caps: SpendingCaps {
            max_fee_msat: or(max_fee, default.caps.max_fee_msat),
            ..caps
        },
    }
}

/// The cap that forbids every payment of every caller, if there is one. No budget for unidentified callers, or none but
/// theirs, may be what the operator wants.
fn never_pays(caps: &SpendingCaps) -> Option<&'static str> {
    let of_all = [
        (SpendingCap::Day, caps.per_day_msat),
        (SpendingCap::Hour, caps.per_hour_msat),
        (SpendingCap::Total, caps.max_total_msat),
        (SpendingCap::Packet, caps.per_packet_msat),
        (SpendingCap::Destination, caps.per_destination_day_msat),
    ];
    let zero = of_all.into_iter().find(|(_, msat)| *msat == 0);
    zero.map(|(cap, _)| cap.as_str())
}

/// The caps as they are in the file.
struct Caps {
    day: Option<Located<u64>>,
    hour: Option<Located<u64>>,
    total: Option<Located<u64>>,
    packet: Option<Located<u64>>,
    destination: Option<Located<u64>>,
    caller: Option<Located<u64>>,
    unidentified: Option<Located<u64>>,
}

impl Caps {
    fn read(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Self {
        let mut cap = |cap: SpendingCap| section.value(cap.as_str(), problems, number(0..=MAX_MSAT, "msat"));
        Self {
            packet: cap(SpendingCap::Packet),
            total: cap(SpendingCap::Total),
            hour: cap(SpendingCap::Hour),
            day: cap(SpendingCap::Day),
            destination: cap(SpendingCap::Destination),
            caller: cap(SpendingCap::Caller),
            unidentified: cap(SpendingCap::Unidentified),
        }
    }

    /// From the widest to the narrowest, each within the one that bounds it.
    fn resolve(self, default: &SpendingCaps, problems: &mut Problems<'_>) -> SpendingCaps {
        let per_day_msat = or(self.day, default.per_day_msat);
        let day = (SpendingCap::Day, per_day_msat);
        let mut within = |(cap, found, default): (SpendingCap, Option<Located<u64>>, u64), (above, most)| {
            let Some(found) = found else {
                return default.min(most);
            };
            if found.value > most {
                let (cap, above) = (cap.as_str(), SpendingCap::as_str(above));
                problems.add(
                    found.offset,
                    format!("{cap} is above {above} = {most}, which bounds it; lower {cap} or raise {above}"),
                );
            }
            found.value
        };
        let per_hour_msat = within((SpendingCap::Hour, self.hour, default.per_hour_msat), day);
        let hour = (SpendingCap::Hour, per_hour_msat);
        let max_total_msat = within((SpendingCap::Total, self.total, default.max_total_msat), hour);
        let total = (SpendingCap::Total, max_total_msat);
        SpendingCaps {
            per_packet_msat: within((SpendingCap::Packet, self.packet, default.per_packet_msat), total),
            max_total_msat,
            per_hour_msat,
            per_day_msat,
            per_destination_day_msat: within(
                (
                    SpendingCap::Destination,
                    self.destination,
                    default.per_destination_day_msat,
                ),
                day,
            ),
            per_caller_day_msat: within(
                (SpendingCap::Caller, self.caller, default.per_caller_day_msat),
                day,
            ),
            unidentified_day_msat: within(
                (
                    SpendingCap::Unidentified,
                    self.unidentified,
                    default.unidentified_day_msat,
                ),
                day,
            ),
            max_fee_msat: default.max_fee_msat,
        }
    }
}
