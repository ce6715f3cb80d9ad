//! `ledger`, `fees`, `audit` and `treasury` of a node that runs and of one that does not.

use std::path::PathBuf;

use blvm_mesh::data_dir::DATABASE_FILE;
use blvm_mesh::ledger::export::CSV_HEADER;
use blvm_mesh::store::Store;
use serde_json::Value;

use crate::common::daemons::{Daemon, Home, said};
use crate::{sale, write};

const SALES: u64 = 50;

fn database(home: &Home) -> PathBuf {
    home.path().join(DATABASE_FILE)
}

/// The data directory of a node that has sold some and does not run.
async fn sold() -> Home {
    let home = Home::new();
    home.configure("127.0.0.1:0", &[]);
    // Its first life makes the directory as a node makes it.
    Daemon::start(&home).await.terminate().await;
    let (store, _) = Store::open(&database(&home)).unwrap();
    for number in 1..=SALES {
        write(&store, sale(number));
    }
    home
}

async fn lines(home: &Home, arguments: &[&str]) -> Vec<String> {
    let output = home.ask(arguments).await;
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What scripts rely on; the same from a node that runs and from the database of one that does not.
async fn answers(home: &Home) {
    let session = "03".repeat(16);
    let newest = lines(home, &["ledger", "--json", "--limit", "2"]).await;
    let newest: Vec<Value> = newest
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (newest[0]["number"].as_u64(), newest[1]["number"].as_u64()),
        (Some(149), Some(150))
    );
    assert_eq!(newest[1]["kind"], "proof_brought");
    assert_eq!(newest[1]["postings"][0]["party"], "02".repeat(32));

    let all = lines(home, &["ledger", "--csv", "--limit", "0"]).await;
    assert_eq!(all[0], CSV_HEADER);
    assert_eq!(all.len() as u64, 1 + SALES * 7, "one row for each posting");
    assert!(
        all[1].starts_with("1,2023-11-14T22:13:20.001Z,1700000000001,credited,,,wallet,,7000,"),
        "{}",
        all[1]
    );

    let of_session = lines(home, &["ledger", "--json", "--limit", "0", "--session", &session]).await;
    assert_eq!(of_session.len() as u64, SALES);
    let of_payee = lines(
        home,
        &["ledger", "--json", "--limit", "0", "--payee", &"02".repeat(32)],
    )
    .await;
    assert_eq!(of_payee.len() as u64, SALES);
    let late = lines(home, &["ledger", "--json", "--since", "2023-11-14T22:13:20.049Z"]).await;
    assert_eq!(late.len(), 6);
    assert!(
        lines(home, &["ledger", "--json", "--since", "1h"])
            .await
            .is_empty()
    );

    let fees: Value = serde_json::from_str(&lines(home, &["fees", "--json"]).await[0]).unwrap();
    assert_eq!(fees["earned_msat"], 2000 * SALES);
    assert_eq!(fees["payers_credit_msat"], 4000 * SALES);
    assert_eq!(fees["sold_as_destination_msat"], 6000 * SALES);
    assert_eq!(fees["treasury_owed_msat"], 1000 * SALES);
    let treasury = lines(home, &["treasury", "show"]).await.join("\n");
    assert!(
        treasury.contains("50 000 msat") && treasury.contains("names none"),
        "{treasury}"
    );

    let audit = lines(home, &["audit"]).await.join("\n");
    assert!(
        audit.contains("150 entries from 2023-11-14") && audit.contains("clean"),
        "{audit}"
    );
}

#[tokio::test]
async fn books_are_told_alike_by_a_node_that_runs_and_from_the_database_of_one_that_does_not() {
    let home = sold().await;
    answers(&home).await;
    let node = Daemon::start(&home).await;
    answers(&home).await;
    let refused = home.ask(&["treasury", "pay"]).await;
    assert!(
        !refused.status.success() && said(&refused).contains("no treasury is configured"),
        "{}",
        said(&refused)
    );
    node.terminate().await;
}

#[tokio::test]
async fn audit_of_altered_books_says_what_and_how_much_and_exits_with_1() {
    let home = sold().await;
    {
        // A record without its entry: what a defect or a hand in the database would leave.
        let (store, _) = Store::open(&database(&home)).unwrap();
        write(&store, vec![mesh_core::event::Record::TreasuryOwed(7)]);
    }
    let stopped = home.ask(&["audit"]).await;
    let node = Daemon::start(&home).await;
    let running = home.ask(&["audit"]).await;
    for output in [&stopped, &running] {
        let shown = said(output);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(
            shown.contains("finding: record_differs: what is owed to the treasury is 7 msat"),
            "{shown}"
        );
        assert!(shown.contains("49993 msat apart"), "{shown}");
    }
    node.terminate().await;
}

#[tokio::test]
async fn books_of_a_node_that_never_ran_are_not_made_up() {
    let home = Home::new();
    let output = home.ask(&["ledger"]).await;
    assert!(
        !output.status.success() && said(&output).contains("no daemon answers"),
        "{}",
        said(&output)
    );
    assert!(!database(&home).exists());
}
