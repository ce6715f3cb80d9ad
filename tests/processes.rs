//! The program as an operator runs it: daemons of their own, the command line, signals and kills.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

mod common;
#[path = "processes/waiting.rs"]
mod waiting;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use mesh_core::identity::Identity;
use mesh_core::operator::DatedCertificate;
use mesh_core::time::UnixMillis;

use common::daemons::{ASK_AGAIN, Daemon, Home, PATIENCE, program, said};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// `listen --json`, line by line.
struct Listener {
    _child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    fn start(home: &Home) -> Self {
        let mut command = program();
        command.arg("--data-dir").arg(home.path());
        command.args(["--json", "listen", "--protocol", "test"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _child: child,
            stdout,
        }
    }

    /// Sends this payload until it arrives: neither a listener that just starts nor a link that just comes back gives
    /// notice.
    async fn hears(&mut self, from: &Home, sender: &Daemon, to: &Daemon, payload: &str) {
        let wanted: String = payload.bytes().map(|byte| format!("{byte:02x}")).collect();
        let heard = timeout(PATIENCE, async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            loop {
                tokio::select! {
                    line = self.stdout.next_line() => {
                        let delivery: Value = serde_json::from_str(&line.unwrap().expect("it listens")).unwrap();
                        if delivery["payload_hex"] == wanted.as_str() {
                            return delivery;
                        }
                    }
                    _ = async { again.tick().await; from.send(to, payload).await } => {}
                }
            }
        });
        let delivery = heard.await.expect("the packet arrives");
        assert_eq!(delivery["source"], sender.node_id.as_str());
        assert_eq!(delivery["protocol"], "test");
    }
}

#[tokio::test]
async fn packets_cross_three_processes_and_again_after_the_middle_one_was_killed_and_started_again() {
    let (home_a, home_b, home_c) = (Home::new(), Home::new(), Home::new());
    home_b.configure("127.0.0.1:0", &[]);
    let b = Daemon::start(&home_b).await;
    for end in [&home_a, &home_c] {
        end.configure("127.0.0.1:0", &[&b]);
    }
    let (a, c) = (Daemon::start(&home_a).await, Daemon::start(&home_c).await);
    home_b.wait_for_peers(2).await;
    let mut listener = Listener::start(&home_c);
    listener.hears(&home_a, &a, &c, "before").await;
    let sent = home_a.send(&c, "said").await;
    assert!(
        sent.status.success() && said(&sent).starts_with("sent packet"),
        "{}",
        said(&sent)
    );

    // The same port again, as a configured node has.
    home_b.configure(&b.listen_addr, &[]);
    let (id, address) = (b.node_id.clone(), b.listen_addr.clone());
    b.kill().await;
    home_a.wait_for_peers(0).await;
    let refused = home_a.send(&c, "into the void").await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(refused.stdout.is_empty());
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.starts_with("error: ") && why.contains("no_route"), "{why}");
    let in_json = home_a
        .ask(&["--json", "discover", &c.node_id, "--timeout", "1"])
        .await;
    assert_eq!(in_json.status.code(), Some(1));
    let why: Value = serde_json::from_slice(&in_json.stderr).unwrap();
    assert_eq!(why["error"]["code"], "no_route", "{why}");

    let b = Daemon::start(&home_b).await;
    assert_eq!((&b.node_id, &b.listen_addr), (&id, &address));
    home_b.wait_for_peers(2).await;
    listener.hears(&home_a, &a, &c, "after").await;

    for daemon in [a, b, c] {
        assert_eq!(daemon.terminate().await.code(), Some(0));
    }
    let asked = home_a.ask(&["status"]).await;
    assert_eq!(asked.status.code(), Some(1), "nobody is there any more");
}

#[tokio::test]
async fn keys_are_private_and_stay_and_a_second_daemon_is_refused_until_the_first_has_ended() {
    let home = Home::new();
    home.configure("127.0.0.1:0", &[]);
    let first = Daemon::start(&home).await;
    for file in ["identity.key", "account.key", "admin.sock"] {
        let mode = std::fs::metadata(home.path().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let second = home.ask(&["run"]).await;
    assert_eq!(second.status.code(), Some(2));
    assert!(said(&second).contains("another daemon"), "{}", said(&second));
    home.wait_for_peers(0).await;
    let id = first.node_id.clone();
    assert_eq!(first.terminate().await.code(), Some(0));

    // What a kill leaves behind, lock and socket, is in nobody's way.
    let killed = Daemon::start(&home).await;
    assert_eq!(killed.node_id, id);
    killed.kill().await;
    let again = Daemon::start(&home).await;
    assert_eq!(again.node_id, id);
    home.wait_for_peers(0).await;
    assert_eq!(again.terminate().await.code(), Some(0));

    let key = home.path().join("identity.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = home.ask(&["run"]).await;
    assert_eq!(open.status.code(), Some(2));
    assert!(said(&open).contains("chmod 600"), "{}", said(&open));
}

#[tokio::test]
async fn unknown_key_of_the_configuration_is_refused_with_its_name_and_line() {
    let home = Home::new();
    let config = "[mesh]\nmode = \"open\"\nlisten_adress = \"127.0.0.1:0\"\n";
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let refused = home.ask(&["run"]).await;
    assert_eq!(refused.status.code(), Some(2));
    let why = said(&refused);
    assert!(
        why.contains("listen_adress") && why.contains("config.toml:3"),
        "{why}"
    );
    assert!(!home.path().join("identity.key").exists(), "nothing was begun");
}

#[tokio::test]
async fn links_over_a_bitcoin_node_are_refused_by_name_where_there_is_none() {
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), "[mesh]\nnode_carrier = true\n").unwrap();
    let refused = home.ask(&["run"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("node_carrier"), "{}", said(&refused));
}

#[tokio::test]
async fn daemon_whose_disk_takes_nothing_does_not_start_and_says_what_to_check() {
    let home = Home::new();
    home.configure("127.0.0.1:0", &[]);
    // A limit on file sizes is a full disk that needs no privileges. The key files are shorter than it.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" --data-dir \"$1\" run";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_blvm-mesh")])
        .arg(home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let refused = timeout(PATIENCE, shell.output()).await.expect("it ends").unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let why = said(&refused);
    assert!(why.contains("mesh.redb") && why.contains("free space"), "{why}");

    let with_room = Daemon::start(&home).await;
    assert_eq!(with_room.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn certificate_of_an_operator_is_shown_to_everybody_and_one_that_does_not_hold_is_refused_by_name() {
    let (home, other) = (Home::new(), Home::new());
    other.configure("127.0.0.1:0", &[]);
    let neighbour = Daemon::start(&other).await;
    home.configure("127.0.0.1:0", &[&neighbour]);
    let node = Daemon::start(&home).await;
    let keys = tempfile::tempdir().unwrap();
    let path = |name: &str| keys.path().join(name).to_str().unwrap().to_owned();
    let (key, certificate) = (path("operator.key"), path("certificate"));
    let made = home.ask_json(&["operator", "init", "--key", &key]).await;
    let operator = made["operator"].as_str().unwrap().to_owned();
    let again = home.ask(&["operator", "init", "--key", &key]).await;
    assert!(
        !again.status.success() && said(&again).contains("not overwritten"),
        "{}",
        said(&again)
    );
    let certify = [
        "operator",
        "certify",
        &node.node_id,
        "--key",
        &key,
        "--out",
        &certificate,
    ];
    assert!(home.ask(&certify).await.status.success());

    let wrong = other.ask(&["operator", "join", &certificate]).await;
    assert!(
        !wrong.status.success() && said(&wrong).contains("wrong node"),
        "{}",
        said(&wrong)
    );
    let honest = std::fs::read_to_string(&certificate).unwrap();
    let forged = honest.replace(&operator, &neighbour.node_id);
    let refused = join(&home, &path("forged"), &forged).await;
    assert!(refused.contains("forged certificate"), "{refused}");
    let refused = join(&home, &path("expired"), &expired(&key, &node.node_id, &honest)).await;
    assert!(refused.contains("expired certificate"), "{refused}");
    assert!(
        !home.path().join("operator.json").exists(),
        "nothing of it was kept"
    );

    let joined = home.ask_json(&["operator", "join", &certificate]).await;
    assert_eq!(joined["operator"], operator);
    assert_eq!(node.terminate().await.code(), Some(0));
    let node = Daemon::start(&home).await;
    // Who hears the announcement takes it only if operator and node signed.
    shown_operator(&other, &node, &Value::from(operator.clone())).await;
    assert_eq!(node.terminate().await.code(), Some(0));

    // One that ended meanwhile is not shown; one that was changed is refused.
    let kept = home.path().join("operator.json");
    std::fs::write(&kept, expired(&key, &node_of(&honest), &honest)).unwrap();
    let node = Daemon::start(&home).await;
    shown_operator(&other, &node, &Value::Null).await;
    assert!(home.end_of_log().contains("expired certificate"));
    assert_eq!(node.terminate().await.code(), Some(0));
    std::fs::write(&kept, &forged).unwrap();
    let refused = home.ask(&["run"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said(&refused).contains("forged certificate"),
        "{}",
        said(&refused)
    );
    assert_eq!(neighbour.terminate().await.code(), Some(0));
}

/// What is said of a certificate that must be refused.
async fn join(home: &Home, file: &str, certificate: &str) -> String {
    std::fs::write(file, certificate).unwrap();
    let refused = home.ask(&["operator", "join", file]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    said(&refused)
}

/// Whom an honest certificate is for.
fn node_of(honest: &str) -> String {
    let certificate: Value = serde_json::from_str(honest).unwrap();
    certificate["node_id"].as_str().unwrap().to_owned()
}

/// The same certificate, truly signed, whose end is long past.
fn expired(key: &str, node: &str, honest: &str) -> String {
    let mut seed = [0; 32];
    hex::decode_to_slice(std::fs::read_to_string(key).unwrap().trim(), &mut seed).unwrap();
    let operator = Identity::from_seed(seed).unwrap();
    let dated = DatedCertificate::sign(node.parse().unwrap(), UnixMillis(1_000), &operator);
    let mut certificate: Value = serde_json::from_str(honest).unwrap();
    certificate["expires_unix_ms"] = 1_000.into();
    certificate["end_signature"] = hex::encode(dated.seal.0).into();
    certificate.to_string()
}

/// Waits until `home`'s node knows of this operator of another.
async fn shown_operator(home: &Home, node: &Daemon, operator: &Value) {
    let seen = timeout(PATIENCE, async {
        let mut again = tokio::time::interval(ASK_AGAIN);
        loop {
            again.tick().await;
            let network = home.ask_json(&["network"]).await;
            let found = network["nodes"].as_array().unwrap().iter();
            let mut found = found.filter(|found| found["node_id"] == node.node_id.as_str());
            if found.any(|found| found["operator"] == *operator) {
                return;
            }
        }
    });
    seen.await.expect("the announcement says who operates the node");
}

#[tokio::test]
async fn map_of_networks_that_is_missing_or_broken_stops_the_start_with_its_path() {
    let home = Home::new();
    let map = home.path().join("asmap.dat");
    home.configure("127.0.0.1:0", &[]);
    home.add_to_config(&format!("[fairness]\nasmap = \"{}\"\n", map.display()));
    let refused = home.ask(&["run"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("asmap.dat"), "{}", said(&refused));
    std::fs::write(&map, "no map").unwrap();
    let refused = home.ask(&["run"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("no asmap"), "{}", said(&refused));
    // Every address is AS1's.
    std::fs::write(&map, [0, 0, 0]).unwrap();
    assert_eq!(Daemon::start(&home).await.terminate().await.code(), Some(0));
}
