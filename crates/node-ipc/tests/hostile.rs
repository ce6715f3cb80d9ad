//! Bytes that no node sends: nothing panics, nothing grows beyond the bytes there are, and what we write we read.
#![allow(missing_docs, clippy::unwrap_used)]

use node_ipc::message::{Decoded, decode, encode};
use node_ipc::{
    Block, BlockHeader, CliSpec, CliSubcommand, Event, EventKind, EventPayload, InvocationAnswer,
    InvocationKind, Message, Metric, MetricValue, OutPoint, Request, Response, Transaction, TransactionInput,
    TransactionOutput, Utxo,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let input = (any::<[u8; 32]>(), any::<u32>(), any::<u64>(), bytes()).prop_map(
        |(hash, index, sequence, script_sig)| TransactionInput {
            prevout: OutPoint { hash, index },
            sequence,
            script_sig,
        },
    );
    let output =
        (any::<i64>(), bytes()).prop_map(|(value, script_pubkey)| TransactionOutput { value, script_pubkey });
    (any::<u64>(), vec(input, 0..4), vec(output, 0..4), any::<u64>()).prop_map(
        |(version, inputs, outputs, lock_time)| Transaction {
            version,
            inputs,
            outputs,
            lock_time,
        },
    )
}

fn block() -> impl Strategy<Value = Block> {
    let header = (any::<i64>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>()).prop_map(
        |(version, prev_block_hash, merkle_root, timestamp)| BlockHeader {
            version,
            prev_block_hash,
            merkle_root,
            timestamp,
            bits: timestamp ^ 1,
            nonce: timestamp ^ 2,
        },
    );
    (header, vec(transaction(), 0..3)).prop_map(|(header, transactions)| Block { header, transactions })
}

fn payload() -> impl Strategy<Value = EventPayload> {
    prop_oneof![
        (any::<[u8; 32]>(), any::<u64>())
            .prop_map(|(block_hash, height)| EventPayload::NewBlock { block_hash, height }),
        (bytes(), any::<String>()).prop_map(|(packet_data, peer_addr)| EventPayload::MeshPacketReceived {
            packet_data,
            peer_addr
        }),
        (bytes(), vec(any::<String>(), 0..5), any::<u64>()).prop_map(
            |(destination, route_path, route_cost)| {
                EventPayload::RouteDiscovered {
                    destination,
                    route_path,
                    route_cost,
                }
            }
        ),
        (vec(any::<String>(), 0..5), option::of(any::<String>())).prop_map(
            |(changed_sections, config_json)| {
                EventPayload::ConfigLoaded {
                    changed_sections,
                    config_json,
                }
            }
        ),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<String>(), any::<String>(), any::<String>()).prop_map(|(module_id, module_name, version)| {
            Request::Handshake {
                module_id,
                module_name,
                version,
            }
        }),
        vec(any::<prop::sample::Index>(), 0..200).prop_map(|indices| Request::SubscribeEvents {
            event_types: indices.iter().map(|index| *index.get(&EventKind::ALL)).collect(),
        }),
        payload().prop_map(|payload| Request::PublishEvent { payload }),
        (option::of(any::<String>()), any::<String>(), bytes()).prop_map(|(target, method, params)| {
            Request::CallModule {
                target,
                method,
                params,
            }
        }),
        (transaction(), option::of(vec(vec(bytes(), 0..3), 0..3)))
            .prop_map(|(tx, witnesses)| Request::SubmitMempoolTransaction { tx, witnesses }),
        (
            any::<String>(),
            vec(any::<i32>(), 0..9),
            vec((any::<String>(), any::<String>()), 0..3)
        )
            .prop_map(|(name, values, labels)| {
                let value = MetricValue::Histogram(values.into_iter().map(f64::from).collect());
                Request::ReportMetric {
                    metric: Metric {
                        name,
                        value,
                        labels,
                        timestamp: 1,
                    },
                }
            }),
        (any::<String>(), option::of(any::<String>())).prop_map(|(name, about)| Request::RegisterCliSpec {
            spec: CliSpec {
                version: 1,
                name: name.clone(),
                about: about.clone(),
                subcommands: vec![CliSubcommand {
                    name,
                    about,
                    args: Vec::new()
                }],
            },
        }),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        option::of(block()).prop_map(Response::BlockByHeight),
        option::of(transaction()).prop_map(Response::Transaction),
        (any::<i64>(), bytes(), any::<u64>(), any::<bool>()).prop_map(
            |(value, script_pubkey, height, is_coinbase)| {
                Response::Utxo(Some(Utxo {
                    value,
                    script_pubkey,
                    height,
                    is_coinbase,
                }))
            }
        ),
        bytes().prop_map(Response::ModuleApiResponse),
        any::<[u8; 32]>().prop_map(Response::Hash),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let id = any::<u64>();
    prop_oneof![
        (id, request()).prop_map(|(id, request)| Message::Request(id, request)),
        (
            id,
            prop_oneof![response().prop_map(Ok), any::<String>().prop_map(Err)]
        )
            .prop_map(|(id, answer)| Message::Response(id, answer)),
        payload().prop_map(|payload| Message::Event(Event::from(payload))),
        (id, any::<String>(), json())
            .prop_map(|(id, method, params)| Message::Invocation(id, InvocationKind::Rpc { method, params })),
        (id, any::<String>(), any::<String>(), any::<i32>()).prop_map(|(id, stdout, stderr, exit_code)| {
            Message::InvocationResult(
                id,
                Ok(InvocationAnswer::Cli {
                    stdout,
                    stderr,
                    exit_code,
                }),
            )
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message()) {
        prop_assert_eq!(decode(&encode(&message)), Ok(Decoded::Known(message)));
    }

    #[test]
    fn nothing_that_is_cut_short_is_taken_for_whole(message in message(), cut in any::<prop::sample::Index>()) {
        let whole = encode(&message);
        let part = &whole[..cut.index(whole.len())];
        if let Ok(Decoded::Known(read)) = decode(part) {
            prop_assert!(false, "read {read:?} from a part");
        }
    }

    #[test]
    fn a_changed_byte_breaks_at_most_its_own_message(
        message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = encode(&message);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Decoded::Known(read)) = decode(&bytes) {
            // What is understood is understood fully: written again, it reads the same. (As text: a number may be none.)
            let again = format!("{:?}", decode(&encode(&read)));
            prop_assert_eq!(again, format!("{:?}", Ok::<_, ()>(Decoded::Known(read))));
        }
    }

    #[test]
    fn noise_is_no_more_than_noise(noise in vec(any::<u8>(), 0..500), kind in 0..6_u32, inner in 0..130_u32) {
        let _ = decode(&noise);
        // With a beginning that leads far into the decoder.
        let event = [&2_u32.to_le_bytes()[..], &inner.to_le_bytes(), &inner.to_le_bytes(), &noise].concat();
        let other = [&kind.to_le_bytes()[..], &[1; 8], &[1, 1], &inner.to_le_bytes(), &noise].concat();
        let _ = (decode(&event), decode(&other));
    }
}

#[test]
fn a_length_that_lies_costs_nothing() {
    // A response to `DiscoverModules`, `NetworkPeers`, `ModuleApiResponse` with 2^60 elements and none there.
    for number in [36_u32, 13, 40] {
        let lie = [
            &1_u32.to_le_bytes()[..],
            &7_u64.to_le_bytes(),
            &[1, 1],
            &number.to_le_bytes(),
            &(1_u64 << 60).to_le_bytes(),
        ]
        .concat();
        assert!(matches!(decode(&lie), Ok(Decoded::UnreadableResponse(7, _))));
    }
}

#[test]
fn json_as_deep_as_the_sea_is_refused() {
    let deep = "[".repeat(1 << 20);
    let call = [
        &4_u32.to_le_bytes()[..],
        &7_u64.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &1_u64.to_le_bytes(),
        b"m",
        &(1_u64 << 20).to_le_bytes(),
        deep.as_bytes(),
    ]
    .concat();
    assert!(matches!(decode(&call), Ok(Decoded::UnreadableInvocation(7, _))));
}

#[test]
fn every_kind_is_found_by_its_number_and_its_name() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::from_number(kind.number()), Some(kind));
        assert_eq!(EventKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(EventKind::from_number(118), None);
}
