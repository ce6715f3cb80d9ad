//! Modules whose node died before they could look who it was: nobody tells them any more, and nobody else stops them.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::common::daemons::PATIENCE;
use crate::process::Home;

/// A module that has lost its node, and what the node would have read of it.
struct Orphan {
    id: String,
    /// Its output and its errors; none when they are not read any more.
    said: Option<(BufReader<ChildStdout>, ChildStderr)>,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // Nobody else would end what the test has found not to end by itself.
        if std::thread::panicking() {
            let _ = std::process::Command::new("kill").args(["-9", &self.id]).status();
        }
    }
}

/// A shell in the node's place, behind these words, that has begun to spawn a module and is dead before the module runs.
/// It runs as soon as something is written.
async fn dead_node(home: &Home, words: &[&str]) -> (Orphan, ChildStdin) {
    // What a shell puts into the background reads nothing, unless it is told from where.
    let script = "exec 3<&0; (read go <&3; exec 3<&-; exec \"$0\") & echo $!";
    let (program, arguments) = words.split_first().unwrap();
    let mut node = Command::new(program);
    let mut node = home
        .environment(&mut node)
        .args(arguments)
        .args(["-c", script, env!("CARGO_BIN_EXE_blvm-mesh")])
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let go = node.stdin.take().unwrap();
    let mut orphan = Orphan {
        id: String::new(),
        said: None,
    };
    let mut output = BufReader::new(node.stdout.take().unwrap());
    let told = output.read_line(&mut orphan.id);
    timeout(PATIENCE, told).await.unwrap().unwrap();
    orphan.id.truncate(orphan.id.trim_end().len());
    orphan.said = Some((output, node.stderr.take().unwrap()));
    let ended = timeout(PATIENCE, node.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    (orphan, go)
}

fn never_ran(home: &Home) {
    let log = home.log();
    assert!(log.contains("is gone already"), "{log}");
    assert!(!log.contains("the mesh is running"), "{log}");
}

#[tokio::test]
async fn a_module_whose_parent_is_of_another_session_is_no_nodes_any_more_and_ends() {
    let home = Home::new();
    let (mut orphan, mut go) = dead_node(&home, &["setsid", "sh"]).await;
    go.write_all(b"go\n").await.unwrap();
    // What it says has a reader, so it is not by that that the module knows.
    let mut said = Vec::new();
    let (output, _errors) = orphan.said.as_mut().unwrap();
    let ended = output.read_to_end(&mut said);
    timeout(PATIENCE, ended).await.expect("it ends").unwrap();
    never_ran(&home);
}

#[tokio::test]
async fn a_module_whose_words_nobody_reads_any_more_ends_and_leaves_its_directory_to_the_next() {
    let home = Home::new();
    let (mut orphan, mut go) = dead_node(&home, &["sh"]).await;
    orphan.said = None;
    go.write_all(b"go\n").await.unwrap();
    home.until_log_says("is gone already").await;
    never_ran(&home);
    let next = home.spawn(&[]);
    home.until_it_runs().await;
    next.kill().await;
}
