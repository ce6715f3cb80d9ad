//! Times calls of the mesh through a node: modules in programs of their own, as on an operator's machine.

use std::cell::RefCell;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::blvm_node::program;
use crate::trio::{Trio, identity};

const STOPWATCH: &str = "stopwatch";

const MANIFEST: &str = include_str!("../../node/stopwatch/module.toml");

#[tokio::test]
#[ignore = "measures: BLVM_STOPWATCH names node/stopwatch, built like the host and this with --release"]
async fn a_call_through_a_node_is_timed() {
    let (Some(mut trio), Some(stopwatch)) = (Trio::new(), program("BLVM_STOPWATCH")) else {
        return;
    };
    trio.a.install(STOPWATCH, MANIFEST, Path::new(&stopwatch));
    trio.configure("mode = \"open\"\n", "");
    trio.start().await;
    trio.ends_know_each_other().await;
    trio.say("the session is open").await;
    for arguments in [json!([400]), json!([400, identity(3)])] {
        let said = RefCell::new(Value::Null);
        trio.a
            .until("the stopwatch to be served", async || {
                let answer = trio.a.try_rpc(STOPWATCH, arguments.clone()).await;
                said.replace(answer.unwrap_or_default()).is_object() || said.borrow().is_object()
            })
            .await;
        println!("{arguments}: {}", said.borrow());
    }
}
