//! `MeshClient` on the published node's own router, called as the documentation calls it and as later modules do.
#![allow(missing_docs, clippy::unwrap_used)]

mod documented;
mod stage;

use std::time::Duration;

use blvm_mesh::api::{
    CallError, ClientError, CloseSessionResponse, GetNodeIdResponse, GetSessionResponse, Method,
    PollDeliveriesRequest, PollDeliveriesResponse, RegisterProtocolResponse, encode,
};
use blvm_mesh::{MeshClient, MeshError};
use blvm_node::module::traits::ModuleError;
use stage::{Answer, stage};

fn client(stage: &stage::Stage) -> MeshClient {
    MeshClient::new(stage.node_api.clone(), "blvm-mesh".to_string())
}

fn silent(_method: &str, _params: &[u8]) -> Answer {
    None
}

#[tokio::test]
async fn answers_come_back_typed() {
    let stage = stage(|method, _| {
        Some(Ok(match method {
            "get_node_id" => encode(&GetNodeIdResponse { node_id: [3; 32] }).unwrap(),
            "poll_deliveries" => encode(&PollDeliveriesResponse {
                deliveries: Vec::new(),
                more: false,
                dropped: 2,
            })
            .unwrap(),
            "close_session" => encode(&CloseSessionResponse {
                closed: true,
                credit_left_msat: 7,
            })
            .unwrap(),
            "get_session" => encode(&GetSessionResponse { session: None }).unwrap(),
            other => panic!("{other}"),
        }))
    })
    .await;
    let mesh = client(&stage);
    assert_eq!(mesh.get_node_id().await.unwrap(), [3; 32]);
    let polled = mesh
        .poll_deliveries(PollDeliveriesRequest {
            protocol_id: None,
            max_deliveries: 5,
        })
        .await
        .unwrap();
    assert_eq!(polled.dropped, 2);
    assert_eq!(mesh.get_session([1; 16]).await.unwrap(), None);
    assert_eq!(mesh.close_session([1; 16]).await.unwrap().credit_left_msat, 7);
}

#[tokio::test]
async fn every_method_is_called_by_its_name() {
    let stage = stage(|_, _| Some(Err(ModuleError::OperationError("not today".to_owned())))).await;
    let mesh = client(&stage);
    documented::call_all(&mesh).await;
    let mut asked = stage.asked.lock().unwrap().clone();
    asked.sort_unstable();
    let mut all = Method::ALL.map(|method| method.as_str().to_owned()).to_vec();
    all.sort_unstable();
    assert_eq!(
        asked, all,
        "a method of the mesh cannot be called, or is called twice"
    );
}

#[tokio::test]
async fn a_mesh_that_is_not_loaded_is_an_error_with_the_nodes_words() {
    let stage = stage(silent).await;
    let mesh = MeshClient::new(stage.node_api.clone(), "no-such-module".to_string());
    let error = mesh.get_node_id().await.unwrap_err();
    assert!(matches!(
        &error,
        MeshError::Client(ClientError::Call { method: Method::GetNodeId, source: CallError::Refused { reason } })
            if reason.contains("no-such-module")
    ));
}

#[tokio::test]
async fn a_protocol_that_another_module_has_is_an_error() {
    let stage = stage(|_, _| Some(Ok(encode(&RegisterProtocolResponse { success: false }).unwrap()))).await;
    let error = client(&stage)
        .register_protocol_handler("me", "messaging-v1".to_string(), "on_message".to_string())
        .await
        .unwrap_err();
    assert!(matches!(&error, MeshError::NotRegistered { protocol_id } if protocol_id == "messaging-v1"));
    assert!(matches!(ModuleError::from(error), ModuleError::OperationError(_)));
}

#[tokio::test]
async fn a_silent_mesh_is_given_up_after_the_time_set() {
    let stage = stage(silent).await;
    tokio::time::pause();
    let mesh = client(&stage).with_timeout(Duration::from_secs(3));
    let begun = tokio::time::Instant::now();
    let error = mesh.get_node_id().await.unwrap_err();
    assert!(
        matches!(error, MeshError::Client(ClientError::TimedOut { waited, .. }) if waited.as_secs() == 3)
    );
    // The paused clock counts in whole milliseconds.
    assert!(
        begun.elapsed() < Duration::from_millis(3010),
        "{:?}",
        begun.elapsed()
    );
    assert!(matches!(ModuleError::from(error), ModuleError::Timeout));
}

#[tokio::test]
async fn a_node_that_answers_nothing_does_not_gather_calls_without_end() {
    let stage = stage(silent).await;
    tokio::time::pause();
    let mesh = client(&stage).with_timeout(Duration::from_millis(1));
    let mut refused = 0;
    for _ in 0..70 {
        if let Err(MeshError::Client(ClientError::Call {
            source: CallError::Refused { .. },
            ..
        })) = mesh.get_node_id().await
        {
            refused += 1;
        }
    }
    assert_eq!((refused, stage.asked.lock().unwrap().len()), (6, 64));
}

#[tokio::test]
async fn garbage_for_an_answer_is_an_error() {
    let stage = stage(|_, _| Some(Ok(vec![1, 2, 3]))).await;
    let error = client(&stage).get_node_id().await.unwrap_err();
    assert!(matches!(error, MeshError::Client(ClientError::Response { .. })));
    assert!(matches!(
        ModuleError::from(error),
        ModuleError::SerializationError(_)
    ));
}
