//! Handlers of the host's modules, and polls.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::{AwaitDeliveriesRequest, CallError, PollDeliveriesRequest};

use crate::common::{PATIENCE, eventually};
use crate::stage::{FakeHost, Stage, poll, register};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_handler_is_called_with_what_arrived_once_and_in_order() {
    let stage = Stage::new(10).await;
    let host = Arc::new(FakeHost::default());
    stage.api.call_modules_through(host.clone());
    let chat = stage.module("chat_00112233445566778899aabbccddeeff");
    assert!(register(&chat, "messaging-v1", "on_message").await);

    let mut sent = Vec::new();
    for number in 0..20u8 {
        sent.push(stage.send(Some("messaging-v1"), vec![number]).await);
    }
    eventually("handled packets", async || {
        (stage.api.delivery_counters().pushed == 20).then_some(())
    })
    .await;
    let calls = host.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 20);
    for (number, (module, method, delivery)) in calls.iter().enumerate() {
        assert_eq!((module.as_str(), method.as_str()), ("chat", "on_message"));
        assert_eq!(
            delivery.packet_id, sent[number],
            "the id that the sender was told"
        );
        assert_eq!(delivery.payload, [number as u8]);
        assert_eq!(delivery.source, Some(stage.sender.id().0));
        assert_eq!(delivery.protocol_id.as_deref(), Some("messaging-v1"));
    }
    assert!(poll(&chat, Some("messaging-v1")).await.is_empty());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_modules_that_want_a_protocol_the_second_is_refused_and_gets_nothing() {
    let stage = Stage::new(12).await;
    let host = Arc::new(FakeHost::default());
    stage.api.call_modules_through(host.clone());
    let (first, second) = (stage.module("first"), stage.module("second"));
    assert!(register(&first, "p", "on").await);
    assert!(!register(&second, "p", "steal").await);
    stage.send(Some("p"), vec![1]).await;
    eventually("the call", async || (!host.payloads().is_empty()).then_some(())).await;
    assert_eq!(host.calls.lock().unwrap()[0].0, "first");
    assert!(poll(&second, Some("p")).await.is_empty());

    assert!(!second.unregister_protocol_handler("p").await.unwrap().success);
    assert!(first.unregister_protocol_handler("p").await.unwrap().success);
    assert!(register(&second, "p", "on").await);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_fails_once_is_asked_again_and_nothing_is_lost_or_twice_after_success() {
    let stage = Stage::new(14).await;
    let host = FakeHost::answering([
        Err(CallError::Refused {
            reason: "busy".into(),
        }),
        Ok(()),
    ]);
    stage.api.call_modules_through(host.clone());
    assert!(register(&stage.module("m"), "p", "on").await);
    stage.send(Some("p"), vec![1]).await;
    stage.send(Some("p"), vec![2]).await;
    eventually("both handled", async || {
        (stage.api.delivery_counters().pushed == 2).then_some(())
    })
    .await;
    assert_eq!(host.payloads(), [vec![1], vec![1], vec![2]]);
    assert_eq!(stage.api.delivery_counters().push_failures, 1);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_cannot_be_called_polls_all_of_it_in_order_and_nothing_twice() {
    let stage = Stage::new(16).await;
    let module = stage.module("m");
    assert!(register(&module, "p", "on").await);
    for number in 0..150u8 {
        stage.send(Some("p"), vec![number; 100]).await;
    }
    eventually("all of them", async || {
        (stage.api.delivery_counters().waiting == 150).then_some(())
    })
    .await;
    let mut got = Vec::new();
    loop {
        let request = PollDeliveriesRequest {
            protocol_id: Some("p".into()),
            max_deliveries: 64,
        };
        let polled = module.poll_deliveries(request).await.unwrap();
        assert_eq!(polled.dropped, 0);
        got.extend(polled.deliveries.iter().map(|delivery| delivery.payload[0]));
        if !polled.more {
            break;
        }
    }
    assert_eq!(got, (0..150).collect::<Vec<u8>>());
    assert!(poll(&module, Some("p")).await.is_empty());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_packets_fill_a_poll_to_its_limit_and_the_rest_comes_with_the_next() {
    let stage = Stage::new(18).await;
    let module = stage.module("m");
    assert!(register(&module, "p", "").await);
    for number in 0..20u8 {
        stage.send(Some("p"), vec![number; 256 * 1024]).await;
        // One after the other: all at once they may be more than a link's queue holds.
        eventually("it to arrive", async || {
            (stage.api.delivery_counters().waiting == u64::from(number) + 1).then_some(())
        })
        .await;
    }
    let first = poll(&module, Some("p")).await;
    assert_eq!(first.len(), 15, "sixteen would be over 4 MiB");
    let second = poll(&module, Some("p")).await;
    let all: Vec<u8> = first
        .iter()
        .chain(&second)
        .map(|delivery| delivery.payload[0])
        .collect();
    assert_eq!(all, (0..20).collect::<Vec<u8>>());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_is_answered_by_the_first_packet_and_by_the_end_of_its_time() {
    let stage = Stage::new(20).await;
    let module = stage.module("m");
    assert!(register(&module, "p", "").await);
    let wait = |timeout_seconds| AwaitDeliveriesRequest {
        protocol_id: Some("p".into()),
        max_deliveries: 64,
        timeout_seconds,
    };
    let empty = module.await_deliveries(wait(0)).await.unwrap();
    assert!(empty.deliveries.is_empty() && !empty.more);
    let (waited, _) = tokio::join!(module.await_deliveries(wait(60)), async {
        tokio::task::yield_now().await;
        stage.send(Some("p"), vec![9]).await
    });
    assert_eq!(waited.unwrap().deliveries[0].payload, [9]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_its_module_waits_for_it_and_what_names_no_protocol_for_whoever_asks() {
    let stage = Stage::new(22).await;
    stage.send(Some("early"), vec![1]).await;
    stage.send(None, vec![2]).await;
    eventually("both", async || {
        (stage.api.delivery_counters().unclaimed == 2).then_some(())
    })
    .await;
    let host = Arc::new(FakeHost::default());
    stage.api.call_modules_through(host.clone());
    assert!(register(&stage.module("late"), "early", "on").await);
    eventually("the call", async || (!host.payloads().is_empty()).then_some(())).await;
    assert_eq!(host.payloads(), [vec![1]]);
    let unnamed = poll(&stage.module("anybody"), None).await;
    assert_eq!((unnamed.len(), unnamed[0].protocol_id.as_ref()), (1, None));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_right_after_the_meshs_restart_reaches_the_module_that_registered_before_it() {
    let mut stage = Stage::new(24).await;
    assert!(register(&stage.module("chat"), "p", "on").await);
    stage.restart_api().await;
    let host = Arc::new(FakeHost::default());
    stage.api.call_modules_through(host.clone());
    stage.send(Some("p"), vec![3]).await;
    eventually("the call", async || (!host.payloads().is_empty()).then_some(())).await;
    assert_eq!(host.calls.lock().unwrap()[0].0, "chat");
    assert!(!register(&stage.module("thief"), "p", "on").await);

    // A file that a disk damaged costs the registrations and not the start.
    let file = stage
        .receiver
        .directory
        .path()
        .join(blvm_mesh::api::REGISTRATIONS_FILE);
    std::fs::write(&file, b"[{\"protocol\":").unwrap();
    stage.restart_api().await;
    assert!(register(&stage.module("other"), "p", "on").await);
    assert!(file.with_extension("damaged").exists());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_makes_a_registration_fail_and_not_lie() {
    let stage = Stage::new(26).await;
    let unfinished = stage
        .receiver
        .directory
        .path()
        .join(format!("{}.new", blvm_mesh::api::REGISTRATIONS_FILE));
    // A directory where the file would be written.
    std::fs::create_dir(&unfinished).unwrap();
    let module = stage.module("m");
    assert!(!register(&module, "p", "on").await);
    std::fs::remove_dir(&unfinished).unwrap();
    assert!(register(&module, "p", "on").await);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_pushed_at_fifty_a_second_at_the_most_and_the_poll_gets_the_rest() {
    let stage = Stage::new(28).await;
    let host = Arc::new(FakeHost::default());
    stage.api.call_modules_through(host.clone());
    let module = stage.module("m");
    assert!(register(&module, "p", "on").await);
    let begun = tokio::time::Instant::now();
    for number in 0..200u8 {
        stage.send(Some("p"), vec![number]).await;
    }
    eventually("a full second's pushes", async || {
        (host.payloads().len() >= 50).then_some(())
    })
    .await;
    let mut got: Vec<u8> = Vec::new();
    let polling = async {
        while got.len() + host.payloads().len() < 200 {
            got.extend(
                poll(&module, Some("p"))
                    .await
                    .iter()
                    .map(|delivery| delivery.payload[0]),
            );
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap();
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let pushed = host.payloads();
    assert!(pushed.len() <= 50 * seconds, "{} in {seconds} s", pushed.len());
    let mut all: Vec<u8> = pushed
        .iter()
        .map(|payload| payload[0])
        .chain(got.clone())
        .collect();
    assert!(got.is_sorted() && pushed.is_sorted());
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<u8>>(), "each once");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_is_gone_is_found_again_when_it_calls() {
    let stage = Stage::new(30).await;
    let gone = || {
        Err(CallError::Unreachable {
            reason: "not loaded".into(),
        })
    };
    let host = FakeHost::answering([gone()]);
    stage.api.call_modules_through(host.clone());
    let module = stage.module("m");
    assert!(register(&module, "p", "on").await);
    stage.send(Some("p"), vec![1]).await;
    eventually("the failure", async || {
        (stage.api.delivery_counters().push_failures == 1).then_some(())
    })
    .await;
    // It need not wait for the pause to be over.
    module.get_node_id().await.unwrap();
    let handled = eventually("the packet", async || {
        (stage.api.delivery_counters().pushed == 1).then_some(())
    });
    tokio::time::timeout(Duration::from_secs(20), handled)
        .await
        .unwrap();
    stage.stop().await;
}

/// A carrier that is broken in the worst way.
struct Panics;

#[async_trait::async_trait]
impl blvm_mesh::api::ModuleCalls for Panics {
    async fn call_module(&self, _: &str, _: &str, _: Vec<u8>) -> Result<Vec<u8>, CallError> {
        panic!("a defect of the host's carrier");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_that_panics_costs_attempts_and_not_the_packet() {
    let stage = Stage::new(32).await;
    stage.api.call_modules_through(Arc::new(Panics));
    let module = stage.module("m");
    assert!(register(&module, "p", "on").await);
    stage.send(Some("p"), vec![1]).await;
    eventually("the failure", async || {
        (stage.api.delivery_counters().push_failures >= 1).then_some(())
    })
    .await;
    let got = eventually("the packet", async || {
        Some(poll(&module, Some("p")).await).filter(|got| !got.is_empty())
    })
    .await;
    assert_eq!(got[0].payload, [1]);
    stage.stop().await;
}
