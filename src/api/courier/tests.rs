//! Who is alive though nobody heard of him.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use mesh_api::CallError;
use mesh_core::spending::ModuleName;

use super::*;
use crate::api::desk::LAPSES_AFTER;

struct NeverCalled;

#[async_trait]
impl Door for NeverCalled {
    async fn hand_over(&self, _: &str, _: mesh_api::Delivery) -> Result<(), CallError> {
        unreachable!("nothing arrives in these tests")
    }
}

/// A host that runs this module and no other.
struct Runs(&'static str);

#[async_trait]
impl ModuleCalls for Runs {
    async fn call_module(&self, _: &str, _: &str, _: Vec<u8>) -> Result<Vec<u8>, CallError> {
        unreachable!("nothing arrives in these tests")
    }

    async fn is_running(&self, module: &str) -> Option<bool> {
        Some(module == self.0)
    }
}

fn front(owner: &Client, registered: Instant) -> Arc<Front> {
    let front = Arc::new(Front::new(Desk::new(), Journal::default()));
    front.desk(|desk| desk.register(registered, owner.clone(), "chat", "on".into()));
    front
}

/// Whether somebody else may have the protocol then, asking as a registration does.
fn may_be_taken(front: &Arc<Front>, then: Instant) -> bool {
    let other = Client::module("other").unwrap();
    front.look_for_owner(then, &other, "chat");
    front.desk(|desk| desk.may_register(then, &other, "chat")).is_ok()
}

#[tokio::test]
async fn a_quiet_client_keeps_its_protocol_as_long_as_its_connection_is_open() {
    let owner = Client::over_socket(ModuleName::new("tool").unwrap());
    let start = Instant::now();
    let front = front(&owner, start);
    let open = front.open_door(owner, Arc::new(NeverCalled));
    assert!(!may_be_taken(&front, start + LAPSES_AFTER * 3));
    drop(open);
    assert!(
        !may_be_taken(&front, start + LAPSES_AFTER * 3),
        "heard of just now"
    );
    assert!(may_be_taken(&front, start + LAPSES_AFTER * 5));
}

#[tokio::test(start_paused = true)]
async fn the_host_is_asked_about_a_silent_module_before_its_protocol_is_another_s() {
    for (running, taken) in [("quiet", false), ("others", true)] {
        let owner = Client::module("quiet").unwrap();
        let start = Instant::now();
        let front = front(&owner, start);
        front.call_modules_through(Arc::new(Runs(running)));
        let late = start + LAPSES_AFTER * 3;
        assert!(!may_be_taken(&front, late), "not before the host has answered");
        tokio::time::sleep(ASK_AFTER + ASKING_TIME).await;
        assert_eq!(may_be_taken(&front, late), taken, "{running}");
    }
}
