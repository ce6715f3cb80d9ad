//! The report: one structure, printed as tables for people or as one JSON document, and the checks that decide.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use serde::Serialize;

use super::crimes::Crime;
use super::honest::{Honest, PACKETS, PAYLOAD_BYTES};
use super::stage::Stage;

/// Everything the demo saw. It is good only if every check holds and every crime was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether every number and every refusal is as it must be.
    pub ok: bool,
    /// Routes A found, cheapest first.
    pub routes: Vec<Route>,
    /// The fee of the slice and its parts.
    pub fee: Fee,
    /// Who was paid.
    pub payees: Vec<Payee>,
    /// What it cost the payer.
    pub payer: Payer,
    /// How fast it was.
    pub speed: Speed,
    /// What the destination signed.
    pub receipts: Receipts,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// The crimes and their refusals.
    pub crimes: Vec<Crime>,
}

/// A route.
#[derive(Debug, Clone, Serialize)]
pub struct Route {
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// The fee per packet of 1 KiB, in msat.
    pub msat_per_packet: u64,
}

/// A slice's fee, in msat.
#[derive(Debug, Clone, Serialize)]
pub struct Fee {
    /// Packets it pays for.
    pub packets: u64,
    /// All of it.
    pub total_msat: u64,
    /// 60 %.
    pub destination_msat: u64,
    /// 30 %.
    pub routers_msat: u64,
    /// 10 %.
    pub treasury_msat: u64,
}

/// One payee's books against its Lightning node's.
#[derive(Debug, Clone, Serialize)]
pub struct Payee {
    /// Its name.
    pub name: String,
    /// Its place.
    pub role: &'static str,
    /// Its share, in msat.
    pub share_msat: u64,
    /// The treasury's part that it collects, in msat.
    pub treasury_msat: u64,
    /// What it booked as earned, in msat.
    pub booked_msat: u64,
    /// What its Lightning node gained, in msat.
    pub lightning_gain_msat: i128,
    /// What of that it earned by forwarding Lightning payments, in msat.
    pub lightning_forwarding_msat: i128,
}

/// The payer's side, in msat.
#[derive(Debug, Clone, Serialize)]
pub struct Payer {
    /// What its Lightning node lost.
    pub lightning_loss_msat: i128,
    /// What Lightning nodes took for forwarding.
    pub lightning_fees_msat: u64,
}

/// Times in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// Finding routes, gathering alternatives included.
    pub discovery_us: u128,
    /// Quotes of all payees.
    pub quotes_us: u128,
    /// Paying all invoices and opening the session.
    pub payment_and_open_us: u128,
    /// The first packet, from sending to delivery.
    pub first_packet_us: u128,
    /// Later packets, one at a time: half took no longer.
    pub later_p50_us: u128,
    /// Later packets, one at a time: 99 % took no longer.
    pub later_p99_us: u128,
    /// The stream.
    pub packets_per_second: u64,
}

/// What the destination signed.
#[derive(Debug, Clone, Serialize)]
pub struct Receipts {
    /// Packets on the first receipt.
    pub first_packets: u64,
    /// Packets on the last.
    pub last_packets: u64,
    /// Payload bytes on the last.
    pub last_bytes: u64,
}

/// Something that must hold.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// Whether it does.
    pub holds: bool,
}

impl Report {
    pub(super) fn new(stage: &Stage, honest: Honest, crimes: Vec<Crime>) -> Self {
        let gains: Vec<i128> = honest
            .balances_after
            .iter()
            .zip(&honest.balances_before)
            .map(|(after, before)| i128::from(*after) - i128::from(*before))
            .collect();
        let payees = payees(stage, &honest, &gains);
        let fee = fee(&honest);
        let payer = Payer {
            lightning_loss_msat: gains.first().map_or(0, |gain| -gain),
            lightning_fees_msat: honest.lightning_fees_msat,
        };
        let checks = checks(&honest, &fee, &payees, &payer, &gains, &crimes);
        let routes = honest.routes.iter().map(|route| Route {
            nodes: stage.names(&route.path),
            msat_per_packet: route.msat_per_unit,
        });
        Self {
            ok: checks.iter().all(|check| check.holds),
            routes: routes.collect(),
            speed: speed(&honest),
            receipts: Receipts {
                first_packets: honest.first_receipt.packets,
                last_packets: honest.last_receipt.packets,
                last_bytes: honest.last_receipt.bytes,
            },
            fee,
            payees,
            payer,
            checks,
            crimes,
        }
    }

    /// The report as tables for a person.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let section = |text: &mut String, title: &str, table: Table| {
            text.push_str(&format!("\n{title}\n{table}\n"));
        };
        section(
            &mut text,
            "Routes that A found to E (the cheapest is used)",
            self.route_table(),
        );
        section(
            &mut text,
            &format!("Fee for {} packets of 1 KiB", self.fee.packets),
            self.fee_table(),
        );
        section(
            &mut text,
            "What everybody was to get, and what the Lightning balances really gained",
            self.payee_table(),
        );
        section(&mut text, "Speed", self.speed_table());
        section(&mut text, "Crimes", self.crime_table());
        section(&mut text, "Checks", self.check_table());
        text.push_str(if self.ok {
            "\nEverything is as it must be.\n"
        } else {
            "\nSOMETHING IS WRONG: see the checks and crimes above.\n"
        });
        text
    }

    fn route_table(&self) -> Table {
        let mut table = table(&["route", "msat per packet"], &[1]);
        for route in &self.routes {
            table.add_row([route.nodes.join(" → "), route.msat_per_packet.to_string()]);
        }
        table
    }

    fn fee_table(&self) -> Table {
        let mut table = table(&["part", "msat", "of the fee"], &[1, 2]);
        let parts = [
            ("destination", self.fee.destination_msat),
            ("routers together", self.fee.routers_msat),
            ("treasury", self.fee.treasury_msat),
            ("total", self.fee.total_msat),
        ];
        for (name, msat) in parts {
            // Hundredths of a percent, in integers.
            let share = u128::from(msat) * 10_000 / u128::from(self.fee.total_msat.max(1));
            table.add_row([
                name.to_owned(),
                grouped(msat.into()),
                format!("{}.{:02} %", share / 100, share % 100),
            ]);
        }
        table
    }

    fn payee_table(&self) -> Table {
        let columns = [
            "node",
            "role",
            "share",
            "+ for the treasury",
            "Lightning fees earned",
            "Lightning balance gained",
        ];
        let mut table = table(&columns, &[2, 3, 4, 5]);
        for payee in &self.payees {
            table.add_row([
                payee.name.clone(),
                payee.role.to_owned(),
                grouped(payee.share_msat.into()),
                grouped(payee.treasury_msat.into()),
                grouped(payee.lightning_forwarding_msat),
                grouped(payee.lightning_gain_msat),
            ]);
        }
        let lost = -self.payer.lightning_loss_msat;
        table.add_row(["A", "payer", "", "", "", grouped(lost).as_str()]);
        table
    }

    fn speed_table(&self) -> Table {
        let mut table = table(&["step", "time"], &[1]);
        let rows = [
            (
                "finding routes (100 ms of it to gather alternatives)",
                self.speed.discovery_us,
            ),
            ("quotes of all payees", self.speed.quotes_us),
            (
                "paying all invoices over Lightning, opening the session",
                self.speed.payment_and_open_us,
            ),
            ("first packet", self.speed.first_packet_us),
            ("later packets, one at a time, median", self.speed.later_p50_us),
            ("later packets, one at a time, 99 %", self.speed.later_p99_us),
        ];
        for (step, micros) in rows {
            table.add_row([
                step.to_owned(),
                format!("{}.{:03} ms", micros / 1000, micros % 1000),
            ]);
        }
        table.add_row([
            "stream".to_owned(),
            format!("{} packets/s", self.speed.packets_per_second),
        ]);
        table
    }

    fn crime_table(&self) -> Table {
        let mut table = table(&["crime", "refused by", "refusal", ""], &[]);
        for crime in &self.crimes {
            let verdict = if crime.is_refused() { "ok" } else { "WRONG" };
            table.add_row([crime.crime, crime.refused_by, crime.refusal, verdict]);
        }
        table
    }

    fn check_table(&self) -> Table {
        let mut table = table(&["check", ""], &[]);
        for check in &self.checks {
            table.add_row([check.what.as_str(), if check.holds { "ok" } else { "WRONG" }]);
        }
        table
    }
}

fn payees(stage: &Stage, honest: &Honest, gains: &[i128]) -> Vec<Payee> {
    let last = honest.slice.payees.len().saturating_sub(1);
    let describe = |(place, quoted): (usize, &mesh_core::event::QuotedPayee)| {
        let index = stage.actors.iter().position(|actor| actor.id() == quoted.payee);
        let gain = index.and_then(|index| gains.get(index)).copied().unwrap_or(0);
        Payee {
            name: stage.name_of(&quoted.payee),
            role: if place == last { "destination" } else { "router" },
            share_msat: quoted.amount_msat - quoted.treasury_msat,
            treasury_msat: quoted.treasury_msat,
            booked_msat: index
                .and_then(|index| honest.booked_msat.get(index))
                .copied()
                .unwrap_or(0),
            lightning_gain_msat: gain,
            lightning_forwarding_msat: gain - i128::from(quoted.amount_msat),
        }
    };
    honest.slice.payees.iter().enumerate().map(describe).collect()
}

fn fee(honest: &Honest) -> Fee {
    let payees = &honest.slice.payees;
    let share = |payee: &mesh_core::event::QuotedPayee| payee.amount_msat - payee.treasury_msat;
    Fee {
        packets: PACKETS + 1,
        total_msat: honest.slice.total_msat,
        destination_msat: payees.last().map_or(0, share),
        routers_msat: payees.iter().rev().skip(1).map(share).sum(),
        treasury_msat: payees.last().map_or(0, |payee| payee.treasury_msat),
    }
}

fn speed(honest: &Honest) -> Speed {
    let percentile = |hundredth: usize| {
        let at = honest.alone.len().saturating_sub(1) * hundredth / 100;
        honest.alone.get(at).copied().unwrap_or_default().as_micros()
    };
    let micros = honest.stream.max(Duration::from_micros(1)).as_micros();
    Speed {
        discovery_us: honest.discovery.as_micros(),
        quotes_us: honest.quotes.as_micros(),
        payment_and_open_us: honest.payment_and_open.as_micros(),
        first_packet_us: honest.first_packet.as_micros(),
        later_p50_us: percentile(50),
        later_p99_us: percentile(99),
        packets_per_second: u64::try_from(u128::from(honest.streamed) * 1_000_000 / micros)
            .unwrap_or(u64::MAX),
    }
}

fn checks(
    honest: &Honest,
    fee: &Fee,
    payees: &[Payee],
    payer: &Payer,
    gains: &[i128],
    crimes: &[Crime],
) -> Vec<Check> {
    let routers = payees.len().saturating_sub(1);
    let split = mesh_core::fees::Split::of(fee.total_msat, routers).ok();
    let as_split = split.is_some_and(|split| {
        payees
            .iter()
            .enumerate()
            .all(|(place, payee)| split.share(place) == Some(payee.share_msat))
            && split.treasury_msat() == fee.treasury_msat
    });
    let parts = fee.destination_msat + fee.routers_msat + fee.treasury_msat;
    let is_tenths = |part: u64, tenths: u128| u128::from(part) * 10 == u128::from(fee.total_msat) * tenths;
    let prices = honest
        .slice
        .payees
        .iter()
        .map(|payee| payee.price_msat * (PACKETS + 1));
    let credit = payees.iter().map(|payee| payee.share_msat);
    let names = ["A", "B", "C", "D", "E"];
    let left = payees.iter().map(|payee| {
        let index = names.iter().position(|name| *name == payee.name);
        index
            .and_then(|index| honest.credit_left_msat.get(index))
            .copied()
            .unwrap_or(u64::MAX)
    });
    let forwarding: i128 = payees.iter().map(|payee| payee.lightning_forwarding_msat).sum();
    let check = |what: &str, holds: bool| Check {
        what: what.to_owned(),
        holds,
    };
    vec![
        check("two routes were found", honest.routes.len() >= 2),
        check("the parts sum to the fee, exactly", parts == fee.total_msat),
        check(
            "60 % destination, 30 % routers, 10 % treasury, exactly",
            is_tenths(fee.destination_msat, 6)
                && is_tenths(fee.routers_msat, 3)
                && is_tenths(fee.treasury_msat, 1),
        ),
        check("every payee's share is its part of the split, exactly", as_split),
        check(
            "every payee booked exactly its share",
            payees.iter().all(|payee| payee.booked_msat == payee.share_msat),
        ),
        check(
            "the destination booked the treasury's part as owed",
            honest.treasury_owed_msat == fee.treasury_msat,
        ),
        check(
            "no payee's Lightning balance gained less than it was paid",
            payees.iter().all(|payee| payee.lightning_forwarding_msat >= 0),
        ),
        check(
            "what payees' balances gained beyond their shares is what they took for forwarding Lightning payments, exactly",
            forwarding == i128::from(payer.lightning_fees_msat),
        ),
        check(
            "the payer's Lightning balance lost the fee and the Lightning fees, exactly",
            payer.lightning_loss_msat == i128::from(fee.total_msat) + i128::from(payer.lightning_fees_msat),
        ),
        check(
            "no millisatoshi appeared or vanished",
            gains.iter().sum::<i128>() == 0,
        ),
        check(
            "every packet drew its price at every payee, and what is left is still credit there",
            credit
                .zip(prices)
                .zip(left)
                .all(|((credit, drawn), left)| credit == drawn + left),
        ),
        check(
            "every packet arrived once, in order, unaltered",
            honest.delivered == PACKETS + 1,
        ),
        check(
            "the destination signed a receipt for the first packet",
            honest.first_receipt.packets >= 1,
        ),
        check(
            "the destination signed a receipt for all packets and bytes",
            honest.last_receipt.packets == PACKETS + 1
                && honest.last_receipt.bytes == (PACKETS + 1) * PAYLOAD_BYTES as u64,
        ),
        check(
            "every crime was refused under its own name",
            crimes.len() == 10 && crimes.iter().all(Crime::is_refused),
        ),
    ]
}

fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(header);
    for line_between_rows in [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
    ] {
        table.remove_style(line_between_rows);
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number with its thousands apart.
fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    format!("{}{}", if number < 0 { "-" } else { "" }, groups.join(" "))
}
