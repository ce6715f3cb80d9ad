//! The mesh called through a node's socket.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_module::mesh_api::{
    CallError, ClientError, GetNodeIdResponse, MeshClient, RegisterProtocolRequest, RegisterProtocolResponse,
    decode, encode,
};
use mesh_module::node_ipc::testing::{FakeAnswer, FakeNode};
use mesh_module::node_ipc::{Event, EventPayload, Incoming, NodeClient, Options, Request, Response};
use mesh_module::{NotRegistered, ThroughNode, has_come_up, register};
use tempfile::TempDir;

async fn stage(
    answer: impl Fn(&str, &[u8]) -> FakeAnswer + Send + Sync + 'static,
) -> (MeshClient<ThroughNode>, FakeNode, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let node = FakeNode::bind(&socket).unwrap();
    node.answer_with(move |request| match request {
        Request::CallModule {
            target,
            method,
            params,
        } => {
            assert_eq!(target.as_deref(), Some("blvm-mesh"));
            Some(answer(method, params))
        }
        _ => None,
    });
    let (client, mut incoming) = NodeClient::start(Options::new(socket, "chat", "chat_1", "1.0.0"));
    assert!(matches!(incoming.recv().await, Some(Incoming::Connected { .. })));
    // What comes is of no interest here, and a client whose receiver is gone still asks.
    (MeshClient::new(ThroughNode::new(client)), node, directory)
}

fn answered(answer: Vec<u8>) -> FakeAnswer {
    FakeAnswer::Reply(Response::ModuleApiResponse(answer))
}

#[tokio::test]
async fn a_call_goes_to_the_mesh_module_and_its_answer_comes_back_typed() {
    let (mesh, _node, _directory) = stage(|method, _| {
        assert_eq!(method, "get_node_id");
        answered(encode(&GetNodeIdResponse { node_id: [5; 32] }).unwrap())
    })
    .await;
    assert_eq!(mesh.get_node_id().await.unwrap(), [5; 32]);
}

#[tokio::test]
async fn a_refusal_and_a_lost_connection_are_told_apart() {
    let (mesh, node, _directory) =
        stage(|_, _| FakeAnswer::Refuse("Module 'blvm-mesh' not found".to_owned())).await;
    let refused = mesh.get_node_id().await.unwrap_err();
    assert!(
        matches!(
            refused,
            ClientError::Call {
                source: CallError::Refused { .. },
                ..
            }
        ),
        "{refused}"
    );
    node.answer_with(|request| matches!(request, Request::CallModule { .. }).then_some(FakeAnswer::Close));
    let lost = mesh.get_node_id().await.unwrap_err();
    assert!(
        matches!(
            lost,
            ClientError::Call {
                source: CallError::Unreachable { .. },
                ..
            }
        ),
        "{lost}"
    );
}

#[tokio::test]
async fn registering_waits_for_a_mesh_that_starts_later() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let (mesh, _node, _directory) = stage(move |method, params| {
        assert_eq!(method, "register_protocol_handler");
        let asked: RegisterProtocolRequest = decode(params).unwrap();
        assert_eq!(
            (asked.protocol_id.as_str(), asked.handler_method.as_str()),
            ("messaging-v1", "on_message")
        );
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => FakeAnswer::Refuse("Module 'blvm-mesh' not found or has no API registered".to_owned()),
            _ => answered(encode(&RegisterProtocolResponse { success: true }).unwrap()),
        }
    })
    .await;
    register(&mesh, "messaging-v1", "on_message").await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_protocol_that_another_has_is_not_asked_for_again_and_again() {
    let (mesh, _node, _directory) =
        stage(|_, _| answered(encode(&RegisterProtocolResponse { success: false }).unwrap())).await;
    let taken = register(&mesh, "messaging-v1", "on_message").await.unwrap_err();
    assert!(matches!(taken, NotRegistered::Taken { .. }), "{taken}");
    let impossible = register(&mesh, &"x".repeat(1000), "on_message")
        .await
        .unwrap_err();
    assert!(matches!(impossible, NotRegistered::Impossible(_)), "{impossible}");
}

#[test]
fn a_module_is_told_when_to_register() {
    let loaded = |module: &str| {
        Incoming::Event(Event::from(EventPayload::ModuleLoaded {
            module_name: module.to_owned(),
            version: "0.1.0".to_owned(),
        }))
    };
    assert!(has_come_up(
        "blvm-mesh",
        &Incoming::Connected {
            node_version: "0.1.83".to_owned()
        }
    ));
    assert!(has_come_up("blvm-mesh", &loaded("blvm-mesh")));
    assert!(!has_come_up("blvm-mesh", &loaded("chat")));
    assert!(!has_come_up(
        "blvm-mesh",
        &Incoming::Disconnected {
            reason: String::new()
        }
    ));
}
