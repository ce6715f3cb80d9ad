use std::collections::{BTreeSet, HashMap};

use blvm_node::module::ipc::protocol::{
    CliArgSpec, CliSpec as TheirSpec, CliSubcommandSpec, EventPayload as TheirPayload,
    LogLevel as TheirLevel, LogMessage, MessageType, ModuleMessage, RequestMessage, RequestPayload,
};
use blvm_node::module::metrics::manager::{Metric as TheirMetric, MetricValue as TheirValue};
use blvm_node::module::process::monitor::ModuleHealth as TheirHealth;
use blvm_node::module::traits::EventType;
use node_ipc::{
    CliArg, CliSpec, CliSubcommand, EventKind, EventPayload, LogLevel, LogLine, Message, Metric, MetricValue,
    ModuleHealth, OutPoint, Request, Transaction, TransactionInput, TransactionOutput,
};

use super::{hash, same, text};

type Pair = (Request, MessageType, RequestPayload);

/// A request whose fields both sides call alike.
macro_rules! alike {
    ($name:ident $({ $($field:ident: $value:expr),* })?) => {
        (
            Request::$name $({ $($field: $value),* })?,
            MessageType::$name,
            RequestPayload::$name $({ $($field: $value),* })?,
        )
    };
}

#[test]
fn every_request() {
    let mut tested = BTreeSet::new();
    for (ours, request_type, payload) in alike().into_iter().chain(chain()).chain(modules()) {
        tested.insert(ours.number());
        let theirs = RequestMessage {
            correlation_id: 0x0102_0304_0506_0708,
            request_type,
            payload,
        };
        same(
            &Message::Request(0x0102_0304_0506_0708, ours),
            &ModuleMessage::Request(theirs),
        );
    }
    assert_eq!(
        tested,
        BTreeSet::from_iter(Request::NUMBERS.iter().copied()),
        "a request is not tested"
    );
}

fn alike() -> Vec<Pair> {
    vec![
        alike!(Handshake {
            module_id: text("mesh_1"),
            module_name: text("mesh"),
            version: text("0.1.0")
        }),
        alike!(GetBlock { hash: hash(1) }),
        alike!(GetBlockHeader { hash: hash(2) }),
        alike!(GetTransaction { hash: hash(3) }),
        alike!(HasTransaction { hash: hash(4) }),
        alike!(GetChainTip),
        alike!(GetBlockHeight),
        alike!(GetMempoolTransaction { tx_hash: hash(5) }),
        alike!(GetMempoolSize),
        alike!(GetNetworkStats),
        alike!(GetNetworkPeers),
        alike!(GetChainInfo),
        alike!(GetBlockByHeight { height: 840_000 }),
        alike!(CheckTransactionInMempool { tx_hash: hash(6) }),
        alike!(GetFeeEstimate { target_blocks: 6 }),
        alike!(RegisterRpcEndpoint {
            method: text("meshsendpacket"),
            description: text("Sends ä packet.")
        }),
        alike!(UnregisterRpcEndpoint {
            method: text("meshsendpacket")
        }),
        alike!(DiscoverModules),
        alike!(GetModuleInfo {
            module_id: text("blvm-lightning")
        }),
        alike!(IsModuleAvailable {
            module_id: text("blvm-lightning")
        }),
        alike!(RegisterModuleApi {
            methods: vec![text("send_packet"), text("")],
            api_version: 1
        }),
        alike!(UnregisterModuleApi),
        alike!(SendMeshPacketToPeer {
            peer_addr: text("127.0.0.1:8333"),
            packet_data: vec![0, 1, 255]
        }),
        alike!(GetSyncStatus),
        alike!(GetTxMetadata { txid: hash(7) }),
        alike!(GetMempoolFeeRateSummary),
    ]
}

fn chain() -> Vec<Pair> {
    let out = OutPoint {
        hash: hash(9),
        index: u32::MAX,
    };
    let their_out = blvm_node::OutPoint {
        hash: hash(9),
        index: u32::MAX,
    };
    let witnesses = Some(vec![vec![vec![1, 2], vec![]], vec![]]);
    vec![
        (
            Request::GetUtxo {
                outpoint: out.clone(),
            },
            MessageType::GetUtxo,
            RequestPayload::GetUtxo { outpoint: their_out },
        ),
        (
            Request::SubmitMempoolTransaction {
                tx: transaction(),
                witnesses: witnesses.clone(),
            },
            MessageType::SubmitMempoolTransaction,
            RequestPayload::SubmitMempoolTransaction {
                tx: their_transaction(),
                witnesses,
            },
        ),
        (
            Request::SubscribeEvents {
                event_types: EventKind::ALL.to_vec(),
            },
            MessageType::SubscribeEvents,
            RequestPayload::SubscribeEvents {
                event_types: their_kinds(),
            },
        ),
        (
            Request::PublishEvent {
                payload: EventPayload::RouteFailed {
                    destination: vec![1, 2],
                    reason: text("no route"),
                },
            },
            MessageType::PublishEvent,
            RequestPayload::PublishEvent {
                event_type: EventType::RouteFailed,
                payload: TheirPayload::RouteFailed {
                    destination: vec![1, 2],
                    reason: text("no route"),
                },
            },
        ),
    ]
}

fn modules() -> Vec<Pair> {
    let call = |target: Option<&str>| {
        (
            Request::CallModule {
                target: target.map(text),
                method: text("m"),
                params: vec![9; 300],
            },
            MessageType::CallModule,
            RequestPayload::CallModule {
                target_module_id: target.map(text),
                method: text("m"),
                params: vec![9; 300],
            },
        )
    };
    let metric = |ours: MetricValue, theirs: TheirValue| {
        (
            Request::ReportMetric {
                metric: Metric {
                    name: text("packets"),
                    value: ours,
                    labels: vec![(text("class"), text("paid"))],
                    timestamp: 1_700_000_000,
                },
            },
            MessageType::ReportMetric,
            RequestPayload::ReportMetric {
                metric: TheirMetric {
                    name: text("packets"),
                    value: theirs,
                    labels: HashMap::from([(text("class"), text("paid"))]),
                    timestamp: 1_700_000_000,
                },
            },
        )
    };
    let health = |ours: ModuleHealth, theirs: TheirHealth| {
        (
            Request::ReportModuleHealth { health: ours },
            MessageType::ReportModuleHealth,
            RequestPayload::ReportModuleHealth { health: theirs },
        )
    };
    vec![
        call(None),
        call(Some("blvm-lightning")),
        metric(MetricValue::Counter(7), TheirValue::Counter(7)),
        metric(MetricValue::Gauge(-0.5), TheirValue::Gauge(-0.5)),
        metric(
            MetricValue::Histogram(vec![1.5, 2.5]),
            TheirValue::Histogram(vec![1.5, 2.5]),
        ),
        health(ModuleHealth::Healthy, TheirHealth::Healthy),
        health(ModuleHealth::Unresponsive, TheirHealth::Unresponsive),
        health(
            ModuleHealth::Crashed(text("why")),
            TheirHealth::Crashed(text("why")),
        ),
        (
            Request::RegisterCliSpec { spec: spec() },
            MessageType::RegisterCliSpec,
            RequestPayload::RegisterCliSpec { spec: their_spec() },
        ),
    ]
}

#[test]
fn log_lines_of_every_level() {
    let levels = [
        (LogLevel::Trace, TheirLevel::Trace),
        (LogLevel::Debug, TheirLevel::Debug),
        (LogLevel::Info, TheirLevel::Info),
        (LogLevel::Warn, TheirLevel::Warn),
        (LogLevel::Error, TheirLevel::Error),
    ];
    for (ours, theirs) in levels {
        let line = LogLine {
            level: ours,
            module_id: text("mesh_1"),
            message: text("a line"),
            target: text("mesh::core"),
            timestamp: 1_700_000_000,
        };
        let message = LogMessage {
            level: theirs,
            module_id: text("mesh_1"),
            message: text("a line"),
            target: text("mesh::core"),
            timestamp: 1_700_000_000,
        };
        same(&Message::Log(line), &ModuleMessage::Log(message));
    }
}

/// The node's kinds by number, as its own decoder knows them.
pub(super) fn their_kinds() -> Vec<EventType> {
    let of = |number: u32| bincode::deserialize(&number.to_le_bytes()).ok();
    (0..).map_while(of).collect()
}

pub(super) fn transaction() -> Transaction {
    let input = |index| TransactionInput {
        prevout: OutPoint {
            hash: hash(20),
            index,
        },
        sequence: 0xffff_fffe,
        script_sig: vec![0x51; 3],
    };
    let output = |value| TransactionOutput {
        value,
        script_pubkey: vec![0x6a; 40],
    };
    Transaction {
        version: 2,
        inputs: vec![input(0), input(1), input(2)],
        outputs: vec![output(0), output(21_000_000 * 100_000_000), output(-1)],
        lock_time: 500_000_000,
    }
}

pub(super) fn their_transaction() -> blvm_node::Transaction {
    let input = |index| blvm_node::TransactionInput {
        prevout: blvm_node::OutPoint {
            hash: hash(20),
            index,
        },
        sequence: 0xffff_fffe,
        script_sig: vec![0x51; 3],
    };
    let output = |value| blvm_node::TransactionOutput {
        value,
        script_pubkey: vec![0x6a; 40],
    };
    blvm_node::Transaction {
        version: 2,
        inputs: [input(0), input(1), input(2)].into_iter().collect(),
        outputs: [output(0), output(21_000_000 * 100_000_000), output(-1)]
            .into_iter()
            .collect(),
        lock_time: 500_000_000,
    }
}

fn spec() -> CliSpec {
    CliSpec {
        version: 1,
        name: text("mesh"),
        about: Some(text("The mesh.")),
        subcommands: vec![CliSubcommand {
            name: text("send"),
            about: None,
            args: vec![CliArg {
                name: text("to"),
                long_name: Some(text("destination")),
                short_name: Some(text("d")),
                required: Some(true),
                takes_value: Some(false),
                default: None,
            }],
        }],
    }
}

fn their_spec() -> TheirSpec {
    TheirSpec {
        version: 1,
        name: text("mesh"),
        about: Some(text("The mesh.")),
        subcommands: vec![CliSubcommandSpec {
            name: text("send"),
            about: None,
            args: vec![CliArgSpec {
                name: text("to"),
                long_name: Some(text("destination")),
                short_name: Some(text("d")),
                required: Some(true),
                takes_value: Some(false),
                default: None,
            }],
        }],
    }
}
