//! Calls of other modules.

use node_ipc::{Incoming, InvocationAnswer, InvocationKind, NodeClient};

use crate::stage::{Stage, connected, next, stage};

#[tokio::test]
async fn calls_of_others_are_answered_and_a_forgotten_one_is_an_error() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (_client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let call = |method: &str| InvocationKind::ModuleApi {
        method: method.to_owned(),
        params: vec![1, 2],
        caller_module_id: "chat".to_owned(),
    };
    let module = async {
        for _ in 0..2 {
            match next(&mut incoming).await {
                Incoming::Invocation(invocation) if invocation.kind == call("echo") => {
                    invocation.answer(Ok(InvocationAnswer::ModuleApi(vec![2, 1])));
                }
                Incoming::Invocation(forgotten) => drop(forgotten),
                other => panic!("{other:?}"),
            }
        }
    };
    let callers = async {
        assert_eq!(
            node.invoke(call("echo")).await,
            Ok(InvocationAnswer::ModuleApi(vec![2, 1]))
        );
        assert_eq!(
            node.invoke(call("forget")).await,
            Err("the module did not answer".to_owned())
        );
    };
    tokio::join!(module, callers);
}
