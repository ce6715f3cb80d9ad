//! The table of docs/REFUSALS.md cannot rot: what it names exists, and no refusal that must be shown is missing.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a panic is how a test says no

use std::path::{Path, PathBuf};

use mesh_core::drop_reason::DropReason;

/// What must be refused by a name of its own.
const REFUSED: &[&str] = &[
    "invoice not mine",
    "wrong network",
    "expired",
    "wrong preimage",
    "not settled",
    "underpaid",
    "wrong account key",
    "already redeemed",
    "credit spent",
    "sequence seen",
    "too old",
    "unknown session",
    "differing open",
    "wrong hop",
    "share too small",
    "limit reached",
];

struct Row {
    refused: String,
    reason: DropReason,
    tests: Vec<(PathBuf, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of all tables: | refused | `reason` | because | `file::test`, … |
fn rows() -> Vec<Row> {
    let document = std::fs::read_to_string(root().join("docs/REFUSALS.md")).unwrap();
    let cells = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| refused |"))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
        });
    cells.map(|cells| row(&cells)).collect()
}

fn row(cells: &[&str]) -> Row {
    let [refused, reason, because, tests] = cells else {
        panic!("a row has four cells: {cells:?}");
    };
    assert!(!because.is_empty(), "{refused}: say why");
    let reason = reason.trim_matches('`');
    let known = DropReason::ALL.iter().find(|known| known.as_str() == reason);
    let tests = tests.split(", ").map(|test| {
        let (file, name) = test.trim_matches('`').rsplit_once("::").expect(test);
        (root().join(file), name.to_owned())
    });
    Row {
        refused: (*refused).to_owned(),
        reason: *known.unwrap_or_else(|| panic!("{refused}: there is no reason `{reason}`")),
        tests: tests.collect(),
    }
}

#[test]
fn every_refusal_is_listed_once_under_a_reason_of_its_own() {
    let rows = rows();
    let refused: Vec<_> = rows.iter().map(|row| row.refused.as_str()).collect();
    for wanted in REFUSED {
        let times = refused.iter().filter(|refused| *refused == wanted).count();
        assert_eq!(times, 1, "{wanted}");
    }
    for (place, row) in rows.iter().enumerate() {
        let shared = rows[..place].iter().find(|other| other.reason == row.reason);
        assert!(
            shared.is_none(),
            "{} and {} share a reason",
            row.refused,
            shared.unwrap().refused
        );
    }
}

#[test]
fn every_test_that_is_named_exists_and_speaks_of_the_reason() {
    for row in rows() {
        assert!(!row.tests.is_empty(), "{}: shown by nothing", row.refused);
        for (file, name) in row.tests {
            let source = std::fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{}: {}: {error}", row.refused, file.display()));
            let test = format!("fn {name}(");
            let at = source
                .find(&test)
                .unwrap_or_else(|| panic!("{}: no `{test}` in {}", row.refused, file.display()));
            let above: Vec<_> = source[..at].lines().rev().take(4).collect();
            let is_test = |line: &&str| line.contains("#[test]") || line.contains("#[tokio::test");
            assert!(above.iter().any(is_test), "{name} is not a test");
            // Its own body or a helper of the same file.
            let reason = format!("DropReason::{:?}", row.reason);
            assert!(
                source.contains(&reason),
                "{} does not speak of {reason}",
                file.display()
            );
        }
    }
}
