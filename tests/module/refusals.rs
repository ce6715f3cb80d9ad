//! What keeps a module from running is said where its operator looks, and in the exit code.

use std::process::Output;

use crate::common::daemons::{PATIENCE, program, said};
use crate::process::{CALLER, Home, call};
use tokio::time::timeout;

async fn refused(config: &str, variables: &[(&str, &str)], words: &[&str]) -> Output {
    let home = Home::new();
    let node = home.node();
    home.configure(config);
    let output = home.run(variables).await;
    assert_eq!(output.status.code(), Some(2), "{config}: {}", said(&output));
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    for word in words {
        assert!(stderr.contains(word), "{word} is not in {stderr}");
        assert!(home.log().contains(word), "{word} is not in {}", home.log());
    }
    assert!(output.stdout.is_empty());
    assert_eq!(node.accepted(), 0, "a refused module does not occupy the node");
    output
}

#[tokio::test]
async fn an_unknown_key_is_refused_by_name_and_place() {
    refused(
        "[mesh]\nlisten_adr = \"127.0.0.1:1\"",
        &[],
        &["config.toml:2", "listen_adr", "listen_addr"],
    )
    .await;
    refused("colour = 1", &[], &["config.toml:1", "colour"]).await;
    refused("", &[("MODULE_CONFIG_COLOUR", "1")], &["MODULE_CONFIG_COLOUR"]).await;
}

#[tokio::test]
async fn a_node_that_starts_a_broken_module_again_and_again_gets_the_same_answer_until_it_is_mended() {
    const STARTS: usize = 12;
    let home = Home::new();
    let node = home.node();
    home.configure("[mesh]\nlisten_adr = \"127.0.0.1:1\"");
    for _ in 0..STARTS {
        let output = home.run(&[]).await;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("listen_adr"), "{}", said(&output));
    }
    assert_eq!(node.accepted(), 0, "the node is left alone");
    assert_eq!(home.log().matches("ERROR").count(), STARTS, "each is said once");
    let left: Vec<_> = std::fs::read_dir(home.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "config.toml" && !name.starts_with("module.log"))
        .collect();
    assert!(left.is_empty(), "nothing was begun: {left:?}");

    home.configure("[mesh]\nmode = \"open\"");
    let module = home.spawn(&[]);
    home.until_it_runs().await;
    assert_eq!(module.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_contradiction_is_refused_with_both_places() {
    refused(
        "mode = \"open\"\n[mesh]\nmode = \"bitcoin_only\"",
        &[],
        &["config.toml:1", "on line 3"],
    )
    .await;
    refused(
        "",
        &[
            ("MODULE_CONFIG_MAX_PEERS", "3"),
            ("MODULE_CONFIG_MESH.MAX_PEERS", "4"),
        ],
        &["MODULE_CONFIG_MAX_PEERS", "MODULE_CONFIG_MESH.MAX_PEERS"],
    )
    .await;
}

#[tokio::test]
async fn a_data_dir_of_its_own_contradicts_the_nodes() {
    let words = ["data_dir", "/elsewhere", "[modules] data_dir"];
    refused("[mesh]\ndata_dir = \"/elsewhere\"", &[], &words).await;
}

#[tokio::test]
async fn a_secret_in_a_variable_is_not_repeated_anywhere() {
    let secret = "feedface".repeat(8);
    let output = refused(
        "",
        &[("MODULE_CONFIG_IDENTITY_SEED_HEX", &secret)],
        &["MODULE_CONFIG_IDENTITY_SEED_HEX"],
    )
    .await;
    assert!(!said(&output).contains(&secret));
}

#[tokio::test]
async fn a_module_that_is_not_enabled_ends_without_an_error() {
    let home = Home::new();
    home.configure("enabled = false");
    let output = home.run(&[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(home.log().contains("enabled = false"));
}

#[tokio::test]
async fn half_an_environment_is_refused_with_what_is_missing() {
    let mut command = program();
    command
        .env("MODULE_NAME", "blvm-mesh")
        .env("DATA_DIR", "/nowhere");
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("MODULE_ID, SOCKET_PATH are not"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let output = home.run(&[("MODULE_CONFIG_LISTEN_ADDR", &address)]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(&address) && home.log().contains(&address),
        "{}",
        said(&output)
    );
}

#[tokio::test]
async fn a_wallet_that_is_not_up_yet_is_waited_for_and_callers_are_told_meanwhile() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let home = Home::new();
    let node = home.node();
    home.configure(&format!(
        "[wallet]\nbackend = \"lnbits\"\n[wallet.lnbits]\nurl = \"http://{address}\"\napi_key = \"{}\"",
        "ab".repeat(16)
    ));
    let module = home.spawn(&[]);
    home.until_log_says("the wallet does not answer yet").await;
    node.until("greeted", |node| node.asked("Handshake") >= 1).await;
    let refused = call(&node, CALLER, &mesh_api::GetNodeIdRequest {})
        .await
        .unwrap_err();
    assert!(refused.contains("does not run yet"), "{refused}");
    assert_eq!(module.terminate().await.code(), Some(0));
}
