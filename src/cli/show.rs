//! Answers as a person reads them.
//!
//! What other nodes sent is hostile until shown otherwise: a payload or a protocol's name with terminal control
//! characters could rewrite what the operator sees, so it is shown as text only when every character is visible.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, Table, presets};
use mesh_core::identity::NodeId;
use mesh_core::time::UnixMillis;

use crate::admin::{
    DeliveryReply, NetworkReply, PeersReply, QuoteReply, RouteReply, RoutesReply, SendReply, StatusReply,
    Text,
};

use crate::ledger::EntryJson;
use crate::ledger::export::rfc3339;

/// Most bytes of a payload that are shown; `--json` shows all.
const SHOWN_BYTES: usize = 4096;

/// How node ids are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    full: bool,
}

impl Ids {
    pub(crate) fn new(full: bool) -> Self {
        Self { full }
    }

    pub(crate) fn show(self, id: &Text<NodeId>) -> String {
        if self.full { id.0.to_string() } else { id.0.short() }
    }

    pub(crate) fn path(self, path: &[Text<NodeId>]) -> String {
        let names: Vec<String> = path.iter().map(|id| self.show(id)).collect();
        names.join(" → ")
    }
}

fn new_sessions(refused_because: &[String]) -> String {
    match refused_because {
        [] => "taken".to_owned(),
        causes => format!("refused: {}", causes.join(", ")),
    }
}

pub(crate) fn status(reply: &StatusReply) -> String {
    let listening = reply
        .listen_addr
        .map_or_else(|| "nowhere".to_owned(), |address| address.to_string());
    let mut table = table(&[], &[]);
    let rows = [
        ("node id", reply.node_id.0.to_string()),
        ("version", reply.version.clone()),
        ("listening", listening),
        ("mode", reply.mode.to_string()),
        ("new sessions", new_sessions(&reply.refuses_new)),
        ("price per unit", msat(reply.price_msat_per_unit)),
        ("network", reply.network.clone()),
        ("wallet", reply.wallet.clone()),
        ("running", span(Duration::from_secs(reply.uptime_seconds))),
        ("peers", reply.peers.to_string()),
        ("nodes announced", reply.announced_nodes.to_string()),
        ("nodes reachable", reply.reachable_nodes.to_string()),
        ("routes", reply.routes.to_string()),
        (
            "sessions",
            format!("{} carried, {} own", reply.sessions, reply.own_sessions),
        ),
        ("earned", msat(reply.earned_msat)),
        ("owed to the treasury", msat(reply.treasury_owed_msat)),
        ("payers' credit here", msat(reply.payers_credit_msat)),
        ("own credit elsewhere", msat(reply.own_credit_msat)),
        ("payments remembered", reply.redeemed_payments.to_string()),
        (
            "packets in / out",
            format!("{} / {}", reply.links.data_received.0, reply.links.data_sent.0),
        ),
        (
            "bytes in / out",
            format!("{} / {}", reply.links.data_received.1, reply.links.data_sent.1),
        ),
        ("undelivered", reply.undelivered.to_string()),
    ];
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    for (reason, count) in &reply.dropped {
        table.add_row([format!("dropped: {}", visible(reason)), count.to_string()]);
    }
    for (reason, count) in &reply.links.closed {
        table.add_row([format!("links closed: {}", visible(reason)), count.to_string()]);
    }
    table.to_string()
}

/// Ids in full: a neighbour's id is what one copies from here.
pub(crate) fn peers(reply: &PeersReply) -> String {
    if reply.peers.is_empty() {
        return "no neighbours; add some as [[mesh.peers]] to the configuration, or wait to be connected"
            .into();
    }
    let mut table = table(&["node id", "link"], &[1]);
    for peer in &reply.peers {
        table.add_row([peer.node_id.0.to_string(), peer.link.to_string()]);
    }
    table.to_string()
}

/// One row for each node; who is next to whom is left to `--json`.
pub(crate) fn network(reply: &NetworkReply, ids: Ids) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let (nodes, links) = (reply.total_nodes, reply.total_links);
    let head = format!("{nodes} node{}, {links} link{}", plural(nodes), plural(links));
    if reply.nodes.is_empty() {
        return head;
    }
    let mut table = table(
        &["node", "hops", "cost", "msat per unit", "links", "over"],
        &[1, 2, 3, 4],
    );
    let number = |metric: Option<u32>| metric.map_or_else(|| "-".to_owned(), |metric| metric.to_string());
    for node in &reply.nodes {
        let over: Vec<String> = node.over.iter().map(|over| ids.show(over)).collect();
        table.add_row([
            ids.show(&node.node_id),
            number(node.hops),
            number(node.cost),
            node.price_msat.to_string(),
            node.neighbours.len().to_string(),
            over.join(", "),
        ]);
    }
    let more = reply.next.map_or_else(String::new, |next| {
        format!("\nmore with `blvm-mesh network --after {}`", next.0)
    });
    format!("{head}\n{table}{more}")
}

pub(crate) fn routes(reply: &RoutesReply, ids: Ids) -> String {
    if reply.routes.is_empty() {
        return "no routes known; find some with `blvm-mesh discover`".into();
    }
    let mut table = table(&["route", "hops", "msat per unit", "kept for"], &[1, 2, 3]);
    for route in &reply.routes {
        let RouteReply {
            path,
            msat_per_unit,
            expires_unix_ms,
            ..
        } = route;
        table.add_row([
            ids.path(path),
            path.len().saturating_sub(1).to_string(),
            msat_per_unit.to_string(),
            until(*expires_unix_ms),
        ]);
    }
    table.to_string()
}

pub(crate) fn quote(reply: &QuoteReply, ids: Ids) -> String {
    let mut table = table(
        &[
            "payee",
            "to pay (msat)",
            "of it treasury",
            "msat per unit",
            "pay within",
        ],
        &[1, 2, 3, 4],
    );
    for payee in &reply.payees {
        table.add_row([
            ids.show(&payee.node_id),
            payee.amount_msat.to_string(),
            payee.treasury_msat.to_string(),
            payee.price_msat.to_string(),
            until(payee.pay_by_unix_ms),
        ]);
    }
    format!(
        "{} units over {}: {}\n{table}",
        reply.units,
        ids.path(&reply.path),
        msat(reply.total_msat)
    )
}

/// One row for each posting, and one for a session that ended.
pub(crate) fn ledger(entries: &[EntryJson], ids: Ids) -> String {
    let mut table = table(
        &[
            "no", "time", "kind", "account", "party", "msat", "session", "payment",
        ],
        &[0, 5],
    );
    let short = |id: &Option<String>| match id {
        Some(id) if ids.full => id.clone(),
        Some(id) => id.chars().take(8).collect(),
        None => String::new(),
    };
    for entry in entries {
        let head = [
            entry.number.to_string(),
            rfc3339(UnixMillis(entry.at_unix_ms)),
            entry.kind.clone(),
        ];
        let ids = [short(&entry.session), short(&entry.payment)];
        for posting in &entry.postings {
            let row = [
                posting.account.clone(),
                short(&posting.party),
                signed_msat(posting.msat),
            ];
            table.add_row(head.iter().chain(&row).chain(&ids));
        }
        if let Some(memo) = entry.memo {
            let row = [
                format!(
                    "{} packets, {} units, {} receipted",
                    memo.packets, memo.units, memo.receipted
                ),
                format!("spent {}, left {}", memo.spent_msat, memo.left_msat),
                String::new(),
            ];
            table.add_row(head.iter().chain(&row).chain(&ids));
        }
    }
    table.to_string()
}

/// An amount in msat with its thousands apart and its sign, without its unit.
pub(super) fn signed_msat(amount: i64) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(amount.unsigned_abs()))
}

/// The total is what the session was quoted at, not a bill for this packet.
pub(crate) fn sent(reply: &SendReply, ids: Ids) -> String {
    format!(
        "sent packet {} over {} (session {}, quoted at {})",
        visible(&reply.packet_id),
        ids.path(&reply.path),
        visible(&reply.session),
        msat(reply.total_msat)
    )
}

/// One line about it, then the payload, each line of it set in: no payload can pass for the next delivery's line.
pub(super) fn delivery(reply: &DeliveryReply, ids: Ids) -> String {
    let source = match &reply.source {
        Some(source) => ids.show(source),
        None => "somebody unproven".to_owned(),
    };
    let protocol = match reply.protocol.as_str() {
        "" => String::new(),
        name => format!(", protocol {}", visible(name)),
    };
    let payload = hex::decode(&reply.payload_hex).unwrap_or_default();
    let (kind, shown) = payload_lines(&payload);
    format!(
        "from {source}{protocol}, session {}, packet {}, {} bytes{kind}\n{shown}",
        visible(&reply.session),
        reply.sequence,
        payload.len()
    )
}

fn payload_lines(payload: &[u8]) -> (&'static str, String) {
    let set_in = |lines: Vec<String>| lines.iter().map(|line| format!("  {line}\n")).collect();
    if let Ok(text) = std::str::from_utf8(payload)
        && payload.len() <= SHOWN_BYTES
        && text.chars().all(|c| c == '\n' || is_visible(c))
    {
        return ("", set_in(text.lines().map(str::to_owned).collect()));
    }
    let shown = payload.get(..SHOWN_BYTES).unwrap_or(payload);
    let kind = if shown.len() < payload.len() {
        " (beginning, in hex; --json shows all)"
    } else {
        " (in hex)"
    };
    (kind, set_in(shown.chunks(32).map(hex::encode).collect()))
}

/// Text with everything escaped that is not plainly visible.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = (!is_visible(c)).then(|| c.escape_unicode());
            let plain = is_visible(c).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// Neither a control character nor one of the invisible ones that reorder or join what stands around them (Unicode's
/// bidirectional controls, zero-width characters, line separators, tags).
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// An amount in msat with its thousands apart.
fn msat(amount: u64) -> String {
    grouped(amount) + " msat"
}

pub(crate) fn grouped(amount: u64) -> String {
    let digits = amount.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

fn until(unix_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match Duration::from_millis(unix_ms).checked_sub(now) {
        Some(left) => span(left),
        None => "over".to_owned(),
    }
}

/// The two largest units of a time: nobody reads seconds behind days.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

pub(crate) fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header);
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Ids = Ids { full: false };

    fn arrived(protocol: &str, payload: &[u8]) -> String {
        let reply = DeliveryReply {
            source: None,
            session: "08".repeat(16),
            sequence: 4,
            packet_id: "07".repeat(32),
            protocol: protocol.into(),
            payload_hex: hex::encode(payload),
        };
        delivery(&reply, SHORT)
    }

    #[test]
    fn text_is_shown_as_text_and_bytes_as_hex() {
        assert!(arrived("chat", "grüß dich\nzwei".as_bytes()).ends_with("\n  grüß dich\n  zwei\n"));
        assert!(arrived("", &[0, 255]).ends_with("(in hex)\n  00ff\n"));
        assert!(arrived("chat", b"x").starts_with("from somebody unproven, protocol chat, session 0808"));
    }

    #[test]
    fn no_payload_or_name_can_control_the_terminal() {
        for hostile in [
            "\u{1b}[2J",
            "a\rb",
            "\u{202e}cod",
            "\u{9b}31m",
            "a\u{200b}b",
            "\u{7}",
        ] {
            let shown = arrived(hostile, hostile.as_bytes());
            assert!(shown.contains("(in hex)"), "{hostile:?} gave {shown:?}");
            assert!(
                shown.chars().all(|c| c == '\n' || is_visible(c)),
                "{hostile:?} gave {shown:?}"
            );
        }
    }

    #[test]
    fn a_payload_cannot_pass_for_another_delivery() {
        let shown = arrived("", b"hello\nfrom abcdef01, session 00");
        assert_eq!(shown.lines().filter(|line| line.starts_with("from ")).count(), 1);
    }

    #[test]
    fn a_long_payload_is_shown_in_part_and_says_so() {
        let shown = arrived("", &[b'x'; 10_000]);
        assert!(shown.contains("10000 bytes (beginning, in hex; --json shows all)"));
        assert!(shown.len() < 3 * SHOWN_BYTES);
    }

    #[test]
    fn ids_are_short_unless_asked_for_in_full() {
        let path = [Text(NodeId([0xab; 32])), Text(NodeId([0xcd; 32]))];
        assert_eq!(SHORT.path(&path), "abababab → cdcdcdcd");
        assert!(Ids::new(true).path(&path).starts_with(&"ab".repeat(32)));
    }

    #[test]
    fn amounts_and_times_are_easy_to_read() {
        assert_eq!(
            (msat(0), msat(999), msat(1_234_567)),
            ("0 msat".into(), "999 msat".into(), "1 234 567 msat".into())
        );
        let shown = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [shown(5), shown(65), shown(3_660), shown(90_000)],
            ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]
        );
        assert_eq!(until(0), "over");
    }

    #[test]
    fn columns_are_aligned() {
        let route = |msat_per_unit| RouteReply {
            path: vec![Text(NodeId([1; 32])), Text(NodeId([2; 32]))],
            msat_per_unit,
            prices_msat: vec![msat_per_unit],
            expires_unix_ms: 0,
        };
        let shown = routes(
            &RoutesReply {
                routes: vec![route(1), route(10_000)],
            },
            SHORT,
        );
        let ends: Vec<_> = shown
            .lines()
            .map(|line| line.trim_end().chars().count())
            .collect();
        assert_eq!(ends.len(), 3);
        assert!(ends.iter().all(|end| *end == ends[0]), "{shown}");
    }
}
