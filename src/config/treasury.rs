//! `[treasury]`: whither the treasury's part goes, and when.

use super::reader::{Problems, Section, number, text};
use super::sections::{MAX_MSAT, or};
use crate::treasury::{TreasuryConfig, TreasuryDestination};

/// What a payment to the treasury may cost in Lightning fees unless told otherwise, in msat.
const MAX_FEE_MSAT: u64 = 10_000;

/// None when no treasury is named: what is collected for it then stays owed.
pub(super) fn read_treasury(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<TreasuryConfig> {
    let address = section.value("address", problems, text(TreasuryDestination::address));
    let offer = section.value("offer", problems, text(TreasuryDestination::offer));
    let threshold = section.value("threshold_msat", problems, number(0..=MAX_MSAT, "msat"));
    let max_fee = section.value("max_fee_msat", problems, number(0..=MAX_MSAT, "msat"));
    section.finish(problems);
    if let (Some(_), Some(offer)) = (&address, &offer) {
        problems.add(
            offer.offset,
            "`offer` beside `address`: the treasury is paid in one place; remove one of the two",
        );
    }
    if let (Some(threshold), None, None) = (&threshold, &address, &offer)
        && threshold.value > 0
    {
        problems.add(
            threshold.offset,
            "`threshold_msat` without `address` or `offer`: there is nobody to pay; add one of them",
        );
    }
    let destination = address.or(offer)?.value;
    Some(TreasuryConfig {
        destination,
        threshold_msat: or(threshold, 0),
        max_fee_msat: or(max_fee, MAX_FEE_MSAT),
    })
}
