//! PROTOCOL.md says what the code does: its table of reasons and its limits are compared with the code.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a panic is how a test says no

use mesh_core::drop_reason::DropReason;
use mesh_core::{limits, packet, routing_policy};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../PROTOCOL.md");
    std::fs::read_to_string(path).expect("PROTOCOL.md lies at the root of the repository")
}

#[test]
fn every_reason_has_its_row_and_every_row_its_reason() {
    let rows: Vec<String> = DropReason::ALL
        .iter()
        .map(|reason| {
            format!(
                "| {} | `{}` | {} | {} |",
                reason.code(),
                reason.as_str(),
                reason.meaning(),
                reason.advice()
            )
        })
        .collect();
    let document = document();
    let (_, after) = document
        .split_once("| code | name | when | what to do |\n|---|---|---|---|\n")
        .expect("the table of reasons");
    let written: Vec<&str> = after.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(written, rows, "PROTOCOL.md should read:\n{}", rows.join("\n"));
}

#[test]
fn limits_are_written_as_they_are() {
    let document = document();
    let bytes = |name: &str, value: usize| (name.to_owned(), format!("{value} bytes"));
    let count = |name: &str, value: u64| (name.to_owned(), value.to_string());
    let time =
        |name: &str, value: std::time::Duration| (name.to_owned(), format!("{} ms", value.as_millis()));
    let msat = |name: &str, value: u64| (name.to_owned(), format!("{value} msat"));
    let written = [
        count("MAX_HOPS", limits::MAX_HOPS as u64),
        bytes("MAX_PAYLOAD_BYTES", limits::MAX_PAYLOAD_BYTES),
        bytes("MAX_FRAME_BYTES", limits::MAX_FRAME_BYTES),
        bytes("MAX_CONTROL_BYTES", limits::MAX_CONTROL_BYTES),
        bytes("UNIT_BYTES", limits::UNIT_BYTES),
        bytes("MAX_PROTOCOL_ID_BYTES", limits::MAX_PROTOCOL_ID_BYTES),
        bytes("MAX_INNER_HEADER_BYTES", limits::MAX_INNER_HEADER_BYTES),
        bytes("HEADER_BYTES", packet::HEADER_BYTES),
        time("DISCOVERY_TIMEOUT", limits::DISCOVERY_TIMEOUT),
        time("RELAY_MEMORY", limits::RELAY_MEMORY),
        time("DISCOVERY_GATHER", limits::DISCOVERY_GATHER),
        time("RETRY_INTERVAL", limits::RETRY_INTERVAL),
        time("ROUTE_LIFETIME", limits::ROUTE_LIFETIME),
        count("MAX_COPIES_PER_REQUEST", limits::MAX_COPIES_PER_REQUEST as u64),
        count("MAX_ANSWERS_PER_REQUEST", limits::MAX_ANSWERS_PER_REQUEST as u64),
        count("MAX_BRANCHES", limits::MAX_BRANCHES as u64),
        count("MAX_AVOIDED_NODES", limits::MAX_AVOIDED_NODES as u64),
        count(
            "DISCOVERIES_PASSED_PER_SECOND",
            limits::DISCOVERIES_PASSED_PER_SECOND,
        ),
        count("DISCOVERIES_PASSED_BURST", limits::DISCOVERIES_PASSED_BURST),
        time("QUOTE_TIMEOUT", limits::QUOTE_TIMEOUT),
        time("OPEN_TIMEOUT", limits::OPEN_TIMEOUT),
        time("SETTLEMENT_WAIT", limits::SETTLEMENT_WAIT),
        time("PAY_BY", limits::PAY_BY),
        time("REDEEM_AFTER_PAY_BY", limits::REDEEM_AFTER_PAY_BY),
        time("REPLAY_MEMORY", limits::REPLAY_MEMORY),
        time("SESSION_LIFETIME", limits::SESSION_LIFETIME),
        time("CLOCK_SKEW", limits::CLOCK_SKEW),
        count("SEQUENCE_WINDOW", limits::SEQUENCE_WINDOW),
        msat("MIN_SHARE_MSAT", limits::MIN_SHARE_MSAT),
        msat("ACCOUNT_LEASE_MSAT", limits::ACCOUNT_LEASE_MSAT),
        msat("CRASH_LOSS_MSAT", limits::CRASH_LOSS_MSAT),
        time("SESSION_IDLE", limits::SESSION_IDLE),
        time("CLOSE_LINGER", limits::CLOSE_LINGER),
        time("PURCHASE_TIMEOUT", limits::PURCHASE_TIMEOUT),
        time("PROBE_TIMEOUT", limits::PROBE_TIMEOUT),
        count(
            "MAX_PAYMENT_CLTV_BLOCKS",
            u64::from(limits::MAX_PAYMENT_CLTV_BLOCKS),
        ),
        bytes(
            "BACK_ALLOWANCE_BASE_BYTES",
            limits::BACK_ALLOWANCE_BASE_BYTES as usize,
        ),
        bytes(
            "BACK_ALLOWANCE_BYTES_PER_UNIT",
            limits::BACK_ALLOWANCE_BYTES_PER_UNIT as usize,
        ),
        count("RECEIPT_EVERY_PACKETS", limits::RECEIPT_EVERY_PACKETS),
        time("RECEIPT_INTERVAL", limits::RECEIPT_INTERVAL),
        time("HOP_ERROR_INTERVAL", limits::HOP_ERROR_INTERVAL),
        time("SESSION_SILENT_AFTER", limits::SESSION_SILENT_AFTER),
        count("BREAK_ERRORS_AT_ONCE", limits::BREAK_ERRORS_AT_ONCE as u64),
        count("CONTROL_MESSAGES_PER_SECOND", limits::CONTROL_MESSAGES_PER_SECOND),
        count("CONTROL_BURST", limits::CONTROL_BURST),
        count(
            "MAX_OPEN_QUOTES_PER_NEIGHBOUR",
            limits::MAX_OPEN_QUOTES_PER_NEIGHBOUR as u64,
        ),
        count(
            "MAX_FREE_SESSIONS_PER_NEIGHBOUR",
            limits::MAX_FREE_SESSIONS_PER_NEIGHBOUR as u64,
        ),
        time("ANNOUNCEMENT_LIFETIME", limits::ANNOUNCEMENT_LIFETIME),
        time("ANNOUNCEMENT_REFRESH", limits::ANNOUNCEMENT_REFRESH),
        time("ANNOUNCEMENT_INTERVAL", limits::ANNOUNCEMENT_INTERVAL),
        time("ANNOUNCEMENT_SETTLING", limits::ANNOUNCEMENT_SETTLING),
        time("SEQNO_INTERVAL", limits::SEQNO_INTERVAL),
        time("UPDATE_DELAY", limits::UPDATE_DELAY),
        time("UPDATE_JITTER", limits::UPDATE_JITTER),
        time("LAZY_UPDATE_DELAY", limits::LAZY_UPDATE_DELAY),
        time("UPDATE_TIMEOUT", limits::UPDATE_TIMEOUT),
        time("UPDATE_TIMEOUT_MOST", limits::UPDATE_TIMEOUT_MOST),
        time("STARVING_DELAY", limits::STARVING_DELAY),
        time("DETOUR_DELAY", limits::DETOUR_DELAY),
        time("REQUEST_INTERVAL", limits::REQUEST_INTERVAL),
        time("REQUEST_INTERVAL_MOST", limits::REQUEST_INTERVAL_MOST),
        time("DETOUR_INTERVAL_MOST", limits::DETOUR_INTERVAL_MOST),
        time("REQUEST_SUPPRESSION", limits::REQUEST_SUPPRESSION),
        msat("MIN_CHAIN_SHARE_MSAT", limits::MIN_CHAIN_SHARE_MSAT),
        time("CHAIN_PAY_BY", limits::CHAIN_PAY_BY),
        time("CHAIN_REDEEM_AFTER_PAY_BY", limits::CHAIN_REDEEM_AFTER_PAY_BY),
        count("FINAL_DEPTH", u64::from(limits::FINAL_DEPTH)),
        bytes("MAX_SCRIPT_BYTES", mesh_core::chain::MAX_SCRIPT_BYTES),
        count(
            "MAX_OUTPUT_QUOTES_PER_NEIGHBOUR",
            limits::MAX_OUTPUT_QUOTES_PER_NEIGHBOUR as u64,
        ),
        time("STABLE_LINK", limits::STABLE_LINK),
        time("FLAP_PAUSE", limits::FLAP_PAUSE),
        time("FLAP_PAUSE_MOST", limits::FLAP_PAUSE_MOST),
        time("HANDED_ON_INTERVAL", limits::HANDED_ON_INTERVAL),
        count("HANDED_ON_BURST", u64::from(limits::HANDED_ON_BURST)),
        time("REQUEST_PACE", limits::REQUEST_PACE),
        count("REQUEST_BURST", u64::from(limits::REQUEST_BURST)),
        time("HANDED_ON_REQUEST_PACE", limits::HANDED_ON_REQUEST_PACE),
        count(
            "HANDED_ON_REQUEST_BURST",
            u64::from(limits::HANDED_ON_REQUEST_BURST),
        ),
        time("DESTINATION_MEMORY", limits::DESTINATION_MEMORY),
        count("MAX_LISTED_NEIGHBOURS", limits::MAX_LISTED_NEIGHBOURS as u64),
        count("MAX_ANNOUNCED_ADDRESSES", limits::MAX_ANNOUNCED_ADDRESSES as u64),
        count(
            "MAX_ANNOUNCEMENTS_PER_UPDATE",
            limits::MAX_ANNOUNCEMENTS_PER_UPDATE as u64,
        ),
        count("MAX_ROUTES_PER_UPDATE", limits::MAX_ROUTES_PER_UPDATE as u64),
        count("MAX_COST", u64::from(limits::MAX_COST)),
        count("MAX_REQUEST_HOPS", u64::from(limits::MAX_REQUEST_HOPS)),
        count("SEQNO_BURST", u64::from(limits::SEQNO_BURST)),
        bytes("MAX_ADDRESS_BYTES", limits::MAX_ADDRESS_BYTES),
        bytes("BITCOIN_P2P_MAX_BYTES", routing_policy::BITCOIN_P2P_MAX_BYTES),
        count(
            "BITCOIN_P2P_MAX_MESSAGES",
            routing_policy::BITCOIN_P2P_MAX_MESSAGES as u64,
        ),
        bytes("GOVERNANCE_MAX_BYTES", routing_policy::GOVERNANCE_MAX_BYTES),
        bytes("STRATUM_SETUP_MAX_BYTES", routing_policy::STRATUM_SETUP_MAX_BYTES),
    ];
    for (name, value) in written {
        let row = format!("| `{name}` | {value} |");
        assert!(
            document.contains(&row),
            "PROTOCOL.md should have a row that begins with: {row}"
        );
    }
}
