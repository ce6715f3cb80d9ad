//! What a restart finds: after a stop in order, a kill, and disks that refuse or are damaged.

use super::*;
use crate::store::full_disk::Disk;

fn packet(number: u64, bytes: usize) -> Delivery {
    Delivery {
        source: Some(NodeId([3; 32])),
        session: SessionId([4; 16]),
        sequence: number,
        packet_id: [number as u8; 32],
        protocol_id: "chat".to_owned(),
        payload: Bytes::from(vec![number as u8; bytes]),
    }
}

fn came(number: u64) -> Move {
    Move::Came(number, packet(number, 100))
}

fn note(journal: &Journal, moves: Vec<Move>) {
    journal.note(moves, 0);
}

type Left = Vec<(u64, Delivery)>;

fn open(directory: &Path) -> (Journal, Left) {
    let mut left = Vec::new();
    let journal = Journal::open(directory, |number, delivery| left.push((number, delivery)));
    (journal.unwrap(), left)
}

fn open_on(disk: &Disk) -> (Journal, Left) {
    let disk = disk.clone();
    let open = move || Ok(Database::builder().create_with_backend(disk.clone())?);
    let mut left = Vec::new();
    let journal = Journal::open_with(Path::new("a disk"), Box::new(open), |number, delivery| {
        left.push((number, delivery));
    });
    (journal.unwrap(), left)
}

/// As a kill ends it: nothing more is written, and the file is free again.
fn kill(journal: &Journal) {
    lock(&journal.written.as_ref().unwrap().disk).take();
}

async fn until(journal: &Journal, on_disk: u64) {
    let there = async {
        while journal.on_disk() != on_disk {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, there)
        .await
        .expect("it is written");
}

#[tokio::test]
async fn what_was_noted_is_there_after_a_stop_in_order_as_it_was_and_what_went_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, left) = open(directory.path());
    assert_eq!(left, []);
    let large = packet(3, mesh_core::limits::MAX_PAYLOAD_BYTES);
    note(
        &journal,
        vec![came(1), came(2), Move::Came(3, large.clone()), Move::Went(2)],
    );
    let second = Journal::open(directory.path(), |_, _| {});
    assert!(matches!(second, Err(JournalError::InUse { .. })));
    journal.close().await;
    note(&journal, vec![came(4)]);

    let (journal, left) = open(directory.path());
    assert_eq!(left, [(1, packet(1, 100)), (3, large)]);
    assert_eq!(journal.on_disk(), 2);
    note(&journal, vec![Move::Went(3)]);
    journal.close().await;
    let (_journal, left) = open(directory.path());
    assert_eq!(left, [(1, packet(1, 100))]);
}

#[tokio::test]
async fn a_kill_costs_what_was_not_written_yet_and_nothing_else() {
    let disk = Disk::new();
    let (journal, _) = open_on(&disk);
    let writer = tokio::spawn(journal.clone().run());
    note(&journal, vec![came(1), came(2)]);
    until(&journal, 2).await;
    note(&journal, vec![Move::Went(1)]);
    until(&journal, 1).await;
    writer.abort();
    note(&journal, vec![came(3)]);
    kill(&journal);
    let (_journal, left) = open_on(&disk);
    assert_eq!(left, [(2, packet(2, 100))]);
}

#[tokio::test]
async fn a_packet_that_is_handled_at_once_costs_no_write() {
    let disk = Disk::new();
    let (journal, _) = open_on(&disk);
    let written = journal.written.clone().unwrap();
    disk.set_full(true);
    for number in 0..1_000 {
        note(&journal, vec![came(number), Move::Went(number)]);
    }
    assert!(lock(&written.noted).changes.is_empty());
    assert!(written.clone().attempt().await, "the full disk was not asked");
    disk.set_full(false);
    note(&journal, vec![came(5_000)]);
    assert!(written.attempt().await);
    assert_eq!(journal.on_disk(), 1);
}

#[tokio::test]
async fn many_at_once_are_written_without_waiting_for_more() {
    let disk = Disk::new();
    let (journal, _) = open_on(&disk);
    let written = journal.written.clone().unwrap();
    note(&journal, (1..WRITE_TOGETHER as u64).map(came).collect());
    let waits = tokio::time::timeout(Duration::ZERO, written.many.notified());
    assert!(waits.await.is_err());
    note(&journal, vec![came(1_000)]);
    let at_once = tokio::time::timeout(Duration::from_secs(1), written.many.notified());
    assert!(at_once.await.is_ok());
}

#[tokio::test]
async fn a_full_disk_is_asked_again_and_what_went_meanwhile_does_not_come_back() {
    let disk = Disk::new();
    let (journal, _) = open_on(&disk);
    let written = journal.written.clone().unwrap();
    note(&journal, vec![came(1), came(2)]);
    assert!(written.clone().attempt().await);
    disk.set_full(true);
    note(&journal, vec![came(3), came(4), Move::Went(1)]);
    assert!(!written.clone().attempt().await);
    assert!(written.refuses.load(Ordering::Relaxed));
    note(&journal, vec![Move::Went(3), came(5), Move::Went(2)]);
    assert!(!written.clone().attempt().await);
    disk.set_full(false);
    assert!(written.clone().attempt().await);
    assert!(!written.refuses.load(Ordering::Relaxed));
    kill(&journal);
    let (_journal, left) = open_on(&disk);
    assert_eq!(left, [(4, packet(4, 100)), (5, packet(5, 100))]);
}

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_the_mesh_goes_on_and_a_packet_that_makes_no_sense_costs_itself()
{
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DELIVERIES_FILE);
    std::fs::write(&path, vec![7; 10_000]).unwrap();
    let (journal, left) = open(directory.path());
    assert_eq!(left, []);
    assert!(path.with_extension("damaged").exists());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "payloads are nobody else's business");
    note(&journal, vec![came(1), came(2)]);
    journal.close().await;

    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let nonsense: &[u8] = &[9; 3];
    transaction
        .open_table(WAITING)
        .unwrap()
        .insert(1, nonsense)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (journal, left) = open(directory.path());
    assert_eq!(left, [(2, packet(2, 100))]);
    journal.close().await;
    let (journal, _) = open(directory.path());
    assert_eq!(journal.on_disk(), 1, "and is not read for ever");
}

#[tokio::test]
async fn arrivals_are_safe_when_they_are_written_or_gone_and_not_before() {
    let disk = Disk::new();
    let (journal, _) = open_on(&disk);
    let written = journal.written.clone().unwrap();
    let (safe, heard) = Safe::for_tests();
    journal.tell(safe);
    let heard = || *heard.borrow();
    journal.note(Vec::new(), 2);
    assert_eq!(heard(), 2, "nobody owns them: there is nothing to write");
    journal.note(vec![came(1)], 3);
    assert_eq!(heard(), 2, "it waits in memory");
    journal.note(vec![Move::Went(1)], 3);
    assert_eq!(heard(), 3, "its module has it");
    disk.set_full(true);
    journal.note(vec![came(2), came(3)], 5);
    assert!(!written.clone().attempt().await);
    assert_eq!(heard(), 3, "the disk refused");
    disk.set_full(false);
    assert!(written.clone().attempt().await);
    assert_eq!(heard(), 5);
    // What is only to be forgotten holds back nothing, not even while the disk refuses that.
    disk.set_full(true);
    journal.note(vec![Move::Went(3)], 5);
    assert!(!written.clone().attempt().await);
    journal.note(Vec::new(), 6);
    assert_eq!(heard(), 6, "nobody owns it");
    disk.set_full(false);
    journal.note(vec![Move::Went(2), came(4)], 7);
    assert_eq!(heard(), 6);
    assert!(written.attempt().await);
    assert_eq!(heard(), 7);
}

#[tokio::test]
async fn a_database_that_panics_is_one_that_refuses_and_costs_no_packet_and_no_receipt_too_early() {
    let disk = Disk::new();
    let panics = Arc::new(AtomicBool::new(false));
    let (under, panicking) = (disk.clone(), panics.clone());
    let open = move || {
        assert!(!panicking.load(Ordering::Relaxed), "as the database might");
        Ok(Database::builder().create_with_backend(under.clone())?)
    };
    let journal = Journal::open_with(Path::new("a disk"), Box::new(open), |_, _| {}).unwrap();
    let written = journal.written.clone().unwrap();
    let (safe, heard) = Safe::for_tests();
    journal.tell(safe);
    kill(&journal);
    panics.store(true, Ordering::Relaxed);
    journal.note(vec![came(1)], 1);
    assert!(!written.clone().attempt().await);
    journal.note(vec![came(2)], 2);
    assert_eq!(*heard.borrow(), 0);
    panics.store(false, Ordering::Relaxed);
    assert!(written.attempt().await);
    assert_eq!(*heard.borrow(), 2);
    kill(&journal);
    let (_journal, left) = open_on(&disk);
    assert_eq!(left, [(1, packet(1, 100)), (2, packet(2, 100))]);
}

#[tokio::test]
async fn the_file_does_not_grow_with_what_passes_through_it() {
    const PACKETS: u64 = 64;
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path());
    let written = journal.written.clone().unwrap();
    let bytes = mesh_core::limits::MAX_PAYLOAD_BYTES;
    for round in 0..5 {
        let numbers = round * PACKETS..(round + 1) * PACKETS;
        let come = numbers
            .clone()
            .map(|number| Move::Came(number, packet(number, bytes)));
        note(&journal, come.collect());
        assert!(written.clone().attempt().await);
        assert_eq!(journal.on_disk(), PACKETS);
        note(&journal, numbers.map(Move::Went).collect());
        assert!(written.clone().attempt().await);
    }
    let file = directory.path().join(DELIVERIES_FILE).metadata().unwrap().len();
    let most = PACKETS * bytes as u64;
    assert!(file <= 2 * most + (8 << 20), "{file} bytes for {most}");
}
