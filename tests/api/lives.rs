//! What waits outlives the mesh, and calls that wait do not outlive their module.

use std::time::Duration;

use mesh_api::{AwaitDeliveriesRequest, PollDeliveriesResponse};
use tokio::task::JoinHandle;

use crate::common::{PATIENCE, eventually};
use crate::stage::{ModuleClient, Stage, poll, register};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_when_the_mesh_stops_is_there_when_it_starts_and_what_was_polled_is_not() {
    let mut stage = Stage::new(120).await;
    assert!(register(&stage.module("m"), "p", "").await);
    let mut sent = Vec::new();
    for number in 0..70u8 {
        sent.push(stage.send(Some("p"), vec![number]).await);
    }
    eventually("all of them", async || {
        (stage.api.delivery_counters().waiting == 70).then_some(())
    })
    .await;
    let first = poll(&stage.module("m"), Some("p")).await;
    assert_eq!(first.len(), 64);
    let stale = stage.module("m");
    stage.restart_api().await;
    assert!(
        poll(&stale, Some("p")).await.is_empty(),
        "the mesh that stopped gives nothing away"
    );
    let counters = stage.api.delivery_counters();
    assert_eq!((counters.restored, counters.waiting, counters.on_disk), (6, 6, 6));
    assert!(
        poll(&stage.module("thief"), Some("p")).await.is_empty(),
        "they are still their owner's"
    );
    let rest = poll(&stage.module("m"), Some("p")).await;
    let got: Vec<_> = first.iter().chain(&rest).map(|one| one.packet_id).collect();
    assert_eq!(got, sent, "each once, in order");
    assert_eq!(rest[5].source, Some(stage.sender.id().0));

    stage.restart_api().await;
    assert_eq!(stage.api.delivery_counters().restored, 0);
    assert!(poll(&stage.module("m"), Some("p")).await.is_empty());
    stage.stop().await;
}

/// A call that waits, of a life of the module that ends meanwhile; comes back when the mesh has it.
async fn waiting(stage: &Stage, module: &ModuleClient) -> JoinHandle<PollDeliveriesResponse> {
    let wait = AwaitDeliveriesRequest {
        protocol_id: Some("p".into()),
        max_deliveries: 64,
        timeout_seconds: 40,
    };
    let module = module.clone();
    let waiting = tokio::spawn(async move { module.await_deliveries(wait).await.unwrap() });
    eventually("the wait", async || {
        (stage.api.waiting_calls() == 1).then_some(())
    })
    .await;
    waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_killed_module_left_waiting_takes_nothing_from_its_next_life() {
    let stage = Stage::new(122).await;
    let module = stage.module("m_00112233445566778899aabbccddeeff");
    assert!(register(&module, "p", "").await);
    let ends: [(&str, &dyn Fn()); 2] = [
        ("the host says it is gone", &|| stage.api.module_went("m")),
        ("the host says it is here again", &|| stage.api.module_came("m")),
    ];
    for (what, end) in ends {
        let stale = waiting(&stage, &module).await;
        end();
        let answer = tokio::time::timeout(Duration::from_secs(20), stale).await;
        let answer = answer.expect(what).unwrap();
        assert!(answer.deliveries.is_empty(), "{what}");
    }
    // It starts again before the host says anything, and registers as modules do.
    let stale = waiting(&stage, &module).await;
    let again = stage.module("m_ffeeddccbbaa99887766554433221100");
    assert!(register(&again, "p", "").await);
    let answer = tokio::time::timeout(Duration::from_secs(20), stale).await;
    assert!(answer.unwrap().unwrap().deliveries.is_empty());
    stage.send(Some("p"), vec![8]).await;
    let got = eventually("the packet", async || {
        Some(poll(&again, Some("p")).await).filter(|got| !got.is_empty())
    })
    .await;
    assert_eq!(got[0].payload, [8]);

    // The new life's calls wait as ever.
    let live = waiting(&stage, &again).await;
    stage.send(Some("p"), vec![9]).await;
    let answer = tokio::time::timeout(PATIENCE, live).await.unwrap().unwrap();
    assert_eq!(answer.deliveries[0].payload, [9]);
    stage.stop().await;
}
