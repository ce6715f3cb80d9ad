//! What anybody may send must cost nothing, and what we send must come back the same.

use proptest::prelude::*;

use crate::codec::{CodecError, decode, encode, encoded_len};
use crate::frames::{FromMesh, ToMesh};
use crate::samples::{Sample, for_every_type};
use crate::*;

fn comes_back<T: Sample>(value: &T) {
    let bytes = encode(value).unwrap();
    assert_eq!(encoded_len(value).unwrap(), bytes.len() as u64);
    assert_eq!(
        bincode::serialize(value).unwrap(),
        bytes,
        "not the layout of bincode 1.3"
    );
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
}

/// Whatever decodes must encode to the same bytes: no message has two spellings.
fn has_one_spelling<T: Sample>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        assert_eq!(encode(&value).unwrap(), bytes, "{} has two spellings", T::NAME);
    }
}

/// The same properties for every type.
macro_rules! properties {
    ($($type:ident),*) => {
        #[allow(non_snake_case)]
        mod round_trip {
            use super::*;
            $(proptest! {
                #![proptest_config(ProptestConfig::with_cases(64))]
                #[test]
                fn $type(value in <$type as Sample>::any()) {
                    comes_back(&value);
                }
            })*
        }

        #[allow(non_snake_case)]
        mod bent_messages_are_refused_or_mean_what_they_say {
            use super::*;
            $(proptest! {
                #![proptest_config(ProptestConfig::with_cases(64))]
                #[test]
                fn $type(
                    value in <$type as Sample>::any(),
                    at in any::<prop::sample::Index>(),
                    flip in 1..=255u8,
                    announced in prop_oneof![Just(u64::MAX), Just(1 << 63), Just(1 << 32), 0..1u64 << 20],
                ) {
                    bend::<$type>(&encode(&value).unwrap(), at, flip, announced);
                }
            })*
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(2000))]
            #[test]
            fn arbitrary_bytes_are_harmless_to_every_decoder(bytes in prop::collection::vec(mostly_small(), 0..600)) {
                $(has_one_spelling::<$type>(&bytes);)*
            }
        }

        #[test]
        fn the_largest_legal_value_is_exactly_as_long_as_its_type_allows() {
            $(
                let largest = <$type as Sample>::largest();
                assert_eq!(encoded_len(&largest).unwrap(), <$type as Wire>::MAX_ENCODED_BYTES as u64, stringify!($type));
                comes_back(&largest);
                let too_long = vec![0; <$type as Wire>::MAX_ENCODED_BYTES + 1];
                assert!(matches!(decode::<$type>(&too_long), Err(CodecError::TooLarge { .. })));
            )*
        }
    };
}
for_every_type!(properties);

/// Zeros and ones are what tags, options and lengths are made of; uniform bytes would fail at the first of them.
fn mostly_small() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0u8), 2 => 1..5u8, 1 => any::<u8>()]
}

/// Breaks a good message in the ways that decoders die of: a wrong byte, a wrong end, a length that lies.
fn bend<T: Sample>(good: &[u8], at: prop::sample::Index, flip: u8, announced: u64) {
    let longer: Vec<u8> = good.iter().copied().chain([flip]).collect();
    assert!(decode::<T>(&longer).is_err(), "a trailing byte was overlooked");
    if good.is_empty() {
        return;
    }
    let at = at.index(good.len());
    assert!(
        decode::<T>(&good[..at]).is_err(),
        "{at} bytes of {} were enough",
        good.len()
    );
    let mut bent = good.to_vec();
    bent[at] ^= flip;
    has_one_spelling::<T>(&bent);
    let mut bent = good.to_vec();
    for (byte, lie) in bent.iter_mut().skip(at).zip(announced.to_le_bytes()) {
        *byte = lie;
    }
    has_one_spelling::<T>(&bent);
}

#[test]
fn a_list_that_announces_more_than_its_limit_is_refused_before_an_item_is_read() {
    let mut bytes = vec![1];
    bytes.extend(u64::MAX.to_le_bytes());
    let refused = decode::<DiscoverRouteResponse>(&bytes).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("18446744073709551615 items exceed the limit of 11"),
        "{refused}"
    );
}

#[test]
fn an_eloquent_refusal_is_cut_and_still_an_answer() {
    let refused = SendPacketResponse::refused("no route ".repeat(1000));
    assert_eq!(
        decode::<SendPacketResponse>(&encode(&refused).unwrap()).unwrap(),
        refused
    );
}

/// The writer is somebody else's program, so the reader must hold every limit by itself.
#[test]
fn a_field_one_longer_than_its_limit_is_refused_by_the_reader_alone() {
    fn refuses<T: Sample>(problem: &str, bytes: bincode::Result<Vec<u8>>) {
        let refused = decode::<T>(&bytes.unwrap()).unwrap_err().to_string();
        assert!(refused.contains(problem), "{}: {refused}", T::NAME);
    }
    let text = |length: usize| "x".repeat(length);
    let text_over = |limit: usize| format!("{} bytes of text exceed the limit of {limit}", limit + 1);

    let (names, ids) = (text_over(64), "12 items exceed the limit of 11");
    refuses::<RegisterProtocolRequest>(&names, bincode::serialize(&(text(65), "")));
    refuses::<RegisterProtocolRequest>(&names, bincode::serialize(&("", text(65))));
    refuses::<PollDeliveriesRequest>(&names, bincode::serialize(&Some(text(65))));
    refuses::<SendPacketRequest>(
        &names,
        bincode::serialize(&([0u8; 32], "", None::<u8>, Some(text(65)), None::<u8>)),
    );
    refuses::<DiscoverRouteResponse>(ids, bincode::serialize(&Some(12u64)));
    refuses::<QuoteRouteResponse>(&text_over(1024), bincode::serialize(&(1u32, text(1025))));
    refuses::<OpenSessionResponse>(&text_over(1024), bincode::serialize(&(1u32, text(1025), 0u64)));

    let split_of = |proof: (u32, String)| (3u32, 1u64, [0u8; 32], proof);
    refuses::<PaymentProof>(&text_over(7089), bincode::serialize(&(0u32, text(7090))));
    refuses::<PaymentProof>(&text_over(7089), bincode::serialize(&split_of((0, text(7090)))));
    refuses::<PaymentProof>(&text_over(128), bincode::serialize(&(1u32, text(129))));
    refuses::<PaymentProof>(&text_over(128), bincode::serialize(&split_of((1, text(129)))));
    let covenant = "16385 bytes exceed the limit of 16384";
    refuses::<PaymentProof>(covenant, bincode::serialize(&(2u32, text(16_385))));
    refuses::<PaymentProof>(covenant, bincode::serialize(&split_of((2, text(16_385)))));
    let path = "33 items exceed the limit of 32";
    refuses::<PaymentProof>(path, bincode::serialize(&(2u32, "", 0u32, 33u64)));
    refuses::<PaymentProof>(
        path,
        bincode::serialize(&(3u32, 1u64, [0u8; 32], 2u32, "", 0u32, 33u64)),
    );
    refuses::<PaymentProof>(
        "11 items exceed the limit of 10",
        bincode::serialize(&(3u32, 11u64)),
    );
}
