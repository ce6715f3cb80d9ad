use std::collections::BTreeSet;

use blvm_node::module::ipc::protocol::{
    InvocationMessage, InvocationResultMessage, InvocationResultPayload, InvocationType, ModuleMessage,
};
use node_ipc::message::{Decoded, decode, encode};
use node_ipc::{InvocationAnswer, InvocationKind, Message};
use serde_json::json;

use super::{same, text};

fn invocation(invocation_type: InvocationType) -> ModuleMessage {
    ModuleMessage::Invocation(InvocationMessage {
        correlation_id: 7,
        invocation_type,
    })
}

fn result(payload: Option<InvocationResultPayload>, error: Option<String>) -> ModuleMessage {
    let success = payload.is_some();
    ModuleMessage::InvocationResult(InvocationResultMessage {
        correlation_id: 7,
        success,
        payload,
        error,
    })
}

#[test]
fn calls_of_the_command_line_and_of_other_modules() {
    same(
        &Message::Invocation(
            7,
            InvocationKind::Cli {
                subcommand: text("send"),
                args: vec![text("--to"), text("x")],
            },
        ),
        &invocation(InvocationType::Cli {
            subcommand: text("send"),
            args: vec![text("--to"), text("x")],
        }),
    );
    same(
        &Message::Invocation(
            7,
            InvocationKind::ModuleApi {
                method: text("send_packet"),
                params: vec![1, 2],
                caller_module_id: text("chat"),
            },
        ),
        &invocation(InvocationType::ModuleApi {
            method: text("send_packet"),
            params: vec![1, 2],
            caller_module_id: text("chat"),
        }),
    );
}

#[test]
fn answers_to_them_and_refusals() {
    let cli = (text("out"), text("err"), -1);
    same(
        &Message::InvocationResult(
            7,
            Ok(InvocationAnswer::Cli {
                stdout: cli.0.clone(),
                stderr: cli.1.clone(),
                exit_code: cli.2,
            }),
        ),
        &result(
            Some(InvocationResultPayload::Cli {
                stdout: cli.0.clone(),
                stderr: cli.1.clone(),
                exit_code: cli.2,
            }),
            None,
        ),
    );
    same(
        &Message::InvocationResult(7, Ok(InvocationAnswer::ModuleApi(vec![5; 70]))),
        &result(Some(InvocationResultPayload::ModuleApi(vec![5; 70])), None),
    );
    same(
        &Message::InvocationResult(7, Err(text("no"))),
        &result(None, Some(text("no"))),
    );
}

/// The published node writes parameters that nobody can read, itself included; a call with them is refused, not lost. A JSON
/// string alone has the bytes of the text that a repaired node sends, but is no JSON.
#[test]
fn json_rpc_parameters_of_the_published_node_are_unreadable_but_their_call_is_known() {
    for params in [
        json!(["a", 1]),
        json!({"a": 1}),
        json!("text"),
        json!(true),
        json!(1),
    ] {
        let bytes = bincode::serialize(&invocation(InvocationType::Rpc {
            method: text("meshsendpacket"),
            params,
        }))
        .unwrap();
        assert!(
            bincode::deserialize::<ModuleMessage>(&bytes).is_err(),
            "the node can read its own parameters now"
        );
        assert!(matches!(decode(&bytes), Ok(Decoded::UnreadableInvocation(7, _))));
    }
}

/// The repaired node puts JSON as text where the published one has the value; the rest of the layout is the same. So a string
/// that is JSON stands for the value.
#[test]
fn json_rpc_with_a_repaired_node_is_json_text() {
    let value = json!({"to": "abc", "count": 3});
    let as_text = json!(value.to_string());
    let call = invocation(InvocationType::Rpc {
        method: text("meshsendpacket"),
        params: as_text.clone(),
    });
    let ours = Message::Invocation(
        7,
        InvocationKind::Rpc {
            method: text("meshsendpacket"),
            params: value.clone(),
        },
    );
    assert_eq!(encode(&ours), bincode::serialize(&call).unwrap());
    assert_eq!(decode(&encode(&ours)), Ok(Decoded::Known(ours)));
    let answer = Message::InvocationResult(7, Ok(InvocationAnswer::Rpc(value)));
    let theirs = result(Some(InvocationResultPayload::Rpc(as_text)), None);
    assert_eq!(encode(&answer), bincode::serialize(&theirs).unwrap());
}

#[test]
fn no_kind_of_call_is_untested() {
    assert_eq!(
        BTreeSet::from_iter(InvocationKind::NUMBERS.iter().copied()),
        BTreeSet::from([0, 1, 2])
    );
    assert_eq!(
        BTreeSet::from_iter(InvocationAnswer::NUMBERS.iter().copied()),
        BTreeSet::from([0, 1, 2])
    );
    // And the node has no more of them.
    for number in [3_u32, 4] {
        assert!(bincode::deserialize::<InvocationType>(&number.to_le_bytes()).is_err());
    }
}
