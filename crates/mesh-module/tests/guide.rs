//! docs/MODULE_AUTHORS.md: its files are the ones that are compiled and run here.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use mesh_module::mesh_api::{
    Delivery, RegisterProtocolRequest, RegisterProtocolResponse, SendPacketRequest, SendPacketResponse,
    decode, encode,
};
use mesh_module::node_ipc::testing::{FakeAnswer, FakeNode};
use mesh_module::node_ipc::{InvocationAnswer, InvocationKind, Request, Response};
use serde_json::json;
use tokio::process::{Child, Command};

const GUIDE: &str = include_str!("../../../docs/MODULE_AUTHORS.md");

/// The guide's blocks of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    GUIDE
        .split(&opening)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_guides_program_is_the_example_that_is_run_here() {
    assert_eq!(blocks("rust,no_run")[0], include_str!("../examples/hello.rs"));
}

#[test]
fn the_guides_package_names_what_the_example_needs() {
    let package: toml::Table = blocks("toml")[0].parse().unwrap();
    let own: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let needed: Vec<_> = package["dependencies"].as_table().unwrap().keys().collect();
    let there = |name: &str| {
        name == "mesh-module"
            || ["dependencies", "dev-dependencies"]
                .iter()
                .any(|table| own[*table].as_table().unwrap().contains_key(name))
    };
    assert!(needed.iter().all(|name| there(name)), "{needed:?}");
    // And the example uses no other.
    for used in ["hex", "mesh_module", "serde_json", "tokio"] {
        assert!(
            needed.contains(&&used.replace('_', "-").replace("serde-json", "serde_json")),
            "{used}"
        );
    }
}

#[test]
fn the_guides_manifest_asks_for_all_that_the_program_does() {
    let manifest: toml::Table = blocks("toml")[1].parse().unwrap();
    let capabilities = manifest["capabilities"].as_array().unwrap();
    let capability_of = [
        "subscribe_events",
        "call_module",
        "register_module_api",
        "register_rpc_endpoint",
    ];
    assert!(
        capability_of
            .iter()
            .all(|one| capabilities.iter().any(|there| there.as_str() == Some(one)))
    );
    assert_eq!(manifest["name"], manifest["entry_point"]);
}

/// The example's program, started as a node starts it.
fn hello(directory: &Path) -> Child {
    let mut binary = PathBuf::from(std::env::current_exe().unwrap().parent().unwrap());
    binary.set_file_name("examples");
    Command::new(binary.join("hello"))
        .env("SOCKET_PATH", directory.join("node.sock"))
        .env("DATA_DIR", directory)
        .env("MODULE_NAME", "hello")
        .env("MODULE_ID", "hello_0123456789abcdef0123456789abcdef")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn mesh(method: &str, params: &[u8]) -> Response {
    Response::ModuleApiResponse(match method {
        "register_protocol_handler" => {
            let asked: RegisterProtocolRequest = decode(params).unwrap();
            assert_eq!(
                (asked.protocol_id.as_str(), asked.handler_method.as_str()),
                ("hello-v1", "on_hello")
            );
            encode(&RegisterProtocolResponse { success: true }).unwrap()
        }
        "send_packet" => {
            let asked: SendPacketRequest = decode(params).unwrap();
            assert_eq!(
                (asked.destination, asked.payload.as_slice()),
                ([0xab; 32], b"good morning".as_slice())
            );
            encode(&SendPacketResponse {
                success: true,
                packet_id: [1; 32],
                route_length: 3,
                estimated_cost_sats: 2,
                error: None,
            })
            .unwrap()
        }
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn the_guides_module_registers_sends_and_keeps_what_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let node = FakeNode::bind(directory.path().join("node.sock")).unwrap();
    node.answer_with(|request| match request {
        Request::CallModule {
            target,
            method,
            params,
        } if target.as_deref() == Some("blvm-mesh") => Some(FakeAnswer::Reply(mesh(method, params))),
        _ => None,
    });
    let _module = hello(directory.path());
    node.until("its protocol is registered", |node| {
        node.logs()
            .iter()
            .any(|line| line.message == "hellos arrive here")
    })
    .await;
    node.until("its calls are registered", |node| {
        node.asked("RegisterModuleApi") == 1 && node.asked("RegisterRpcEndpoint") == 1
    })
    .await;

    let params = json!(["ab".repeat(32), "good morning"]);
    let sent = node
        .invoke(InvocationKind::Rpc {
            method: "hellosend".to_owned(),
            params,
        })
        .await;
    assert_eq!(sent, Ok(InvocationAnswer::Rpc(json!({ "hops": 3, "sats": 2 }))));

    let params = encode(&delivery(b"good evening")).unwrap();
    let handed = InvocationKind::ModuleApi {
        method: "on_hello".to_owned(),
        params,
        caller_module_id: "blvm-mesh".to_owned(),
    };
    assert_eq!(
        node.invoke(handed).await,
        Ok(InvocationAnswer::ModuleApi(Vec::new()))
    );
    let kept = std::fs::read_to_string(directory.path().join("hellos.txt")).unwrap();
    assert_eq!(kept, "good evening\n");

    let wrong = InvocationKind::Rpc {
        method: "hellosend".to_owned(),
        params: json!(["nobody"]),
    };
    assert!(node.invoke(wrong).await.is_err());
}

fn delivery(payload: &[u8]) -> Delivery {
    Delivery {
        source: Some([7; 32]),
        protocol_id: Some("hello-v1".to_owned()),
        payload: payload.to_vec(),
        packet_id: [8; 32],
        session_id: [9; 16],
        sequence: 1,
    }
}
