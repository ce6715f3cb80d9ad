//! Samples of what gives up and what waits.

use super::*;

sample!(
    UnregisterProtocolRequest,
    text().prop_map(|protocol_id| UnregisterProtocolRequest { protocol_id }),
    UnregisterProtocolRequest {
        protocol_id: full(MAX_PROTOCOL_ID_BYTES)
    }
);
sample!(
    UnregisterProtocolResponse,
    any::<bool>().prop_map(|success| UnregisterProtocolResponse { success }),
    UnregisterProtocolResponse { success: true }
);
sample!(
    AwaitDeliveriesRequest,
    (option::of(text()), any::<u32>(), any::<u64>()).prop_map(
        |(protocol_id, max_deliveries, timeout_seconds)| AwaitDeliveriesRequest {
            protocol_id,
            max_deliveries,
            timeout_seconds
        }
    ),
    AwaitDeliveriesRequest {
        protocol_id: Some(full(MAX_PROTOCOL_ID_BYTES)),
        max_deliveries: 1,
        timeout_seconds: 2
    }
);
sample!(
    AwaitNetworkChangeRequest,
    any::<[u64; 2]>().prop_map(|[generation, timeout_seconds]| AwaitNetworkChangeRequest {
        generation,
        timeout_seconds
    }),
    AwaitNetworkChangeRequest {
        generation: 1,
        timeout_seconds: 2
    }
);
sample!(
    AwaitNetworkChangeResponse,
    any::<(bool, [u64; 4])>().prop_map(
        |(changed, [generation, neighbours, announced_nodes, reachable_nodes])| {
            AwaitNetworkChangeResponse {
                generation,
                changed,
                neighbours,
                announced_nodes,
                reachable_nodes,
            }
        }
    ),
    AwaitNetworkChangeResponse {
        generation: 1,
        changed: true,
        neighbours: 2,
        announced_nodes: 3,
        reachable_nodes: 4
    }
);
