//! kill -9 while a process commits as fast as it can: the entries and the records beside them stay equal.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use blvm_mesh::ledger::audit::audit;
use blvm_mesh::store::{Store, StoreReader};

use crate::{sale, write};

const DATABASE: &str = "LEDGER_TEST_DATABASE";

/// Run by the test below in a process of its own.
#[test]
#[ignore = "the process that is killed; does nothing by itself"]
fn books_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let path = Path::new(&path);
    let (store, _) = Store::open(path).unwrap();
    let booked = store.reader().books().unwrap();
    let earned = -booked.balance(&mesh_core::ledger::LedgerAccount::Earned);
    for number in u64::try_from(earned / 2000).unwrap() + 1.. {
        write(&store, sale(number));
        println!("durable {number}");
    }
}

#[test]
fn process_killed_while_it_commits_leaves_books_that_agree_and_loses_nothing_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.redb");
    let mut durable = 0;
    for life in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "killed::books_until_it_is_killed",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(DATABASE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A different number of commits in each life, and then in the middle of the next.
        let told = lines.by_ref().map(Result::unwrap).filter_map(|line| {
            let number = line.split_once("durable ")?.1.trim().parse::<u64>();
            number.ok()
        });
        durable = told
            .take(1 + (life * 7 % 13) as usize)
            .last()
            .unwrap()
            .max(durable);
        child.kill().unwrap();
        child.wait().unwrap();
        let reader = StoreReader::open(&path).unwrap();
        let found = reader.read(audit).unwrap();
        assert_eq!(found.findings, [], "life {life}");
        assert!(
            found.entries >= 3 * durable,
            "life {life}: {} of {durable}",
            found.entries
        );
        assert_eq!(
            found.entries % 3,
            0,
            "a batch is durable as a whole or not at all"
        );
    }
    assert!(durable > 12);
}
