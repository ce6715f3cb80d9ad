//! Samples of what goes over the socket.

use super::*;

sample!(
    ToMesh,
    prop_oneof![
        (any::<u32>(), text(), any::<bool>()).prop_map(|(version, name, takes_deliveries)| ToMesh::Hello {
            version,
            name,
            takes_deliveries
        }),
        (any::<u64>(), text(), bytes(600)).prop_map(|(id, method, payload)| ToMesh::Call {
            id,
            method,
            payload
        }),
        (any::<u64>(), option::of(text())).prop_map(|(id, error)| ToMesh::Handled { id, error }),
    ],
    ToMesh::Call {
        id: 1,
        method: full(MAX_METHOD_NAME_BYTES),
        payload: vec![2; MAX_REQUEST_BYTES]
    }
);

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![Just(Failure::Refused), Just(Failure::Busy)]
}

sample!(
    FromMesh,
    prop_oneof![
        (any::<u32>(), id()).prop_map(|(version, node_id)| FromMesh::Welcome { version, node_id }),
        (any::<u64>(), bytes(600)).prop_map(|(id, payload)| FromMesh::Answered { id, payload }),
        (any::<u64>(), failure(), text()).prop_map(|(id, failure, reason)| FromMesh::Failed {
            id,
            failure,
            reason
        }),
        (any::<u64>(), text(), Delivery::any()).prop_map(|(id, handler_method, delivery)| {
            FromMesh::Deliver {
                id,
                handler_method,
                delivery,
            }
        }),
        text().prop_map(|reason| FromMesh::Goodbye { reason }),
    ],
    FromMesh::Answered {
        id: 1,
        payload: vec![2; MAX_ANSWER_BYTES]
    }
);
