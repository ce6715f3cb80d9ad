//! The filter for class `governance`, and the envelope it expects.
//!
//! No public wire format for governance messages exists, so this is the mesh protocol's own: an envelope that
//! says what kind of message it is and how long. What is inside is for the module it is addressed to.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `BGOV` |
//! | 1 | version, 1 |
//! | 1 | kind: 1 proposal, 2 vote, 3 signature, 4 veto |
//! | 4 | length of the body in bytes, little-endian, at least 1 |
//! | … | body: exactly that long, nothing behind it |

const MAGIC: [u8; 4] = *b"BGOV";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;

/// Largest governance message, in bytes with its envelope: a proposal of several pages; longer ones give the
/// hash of a document kept elsewhere.
pub const GOVERNANCE_MAX_BYTES: usize = 16 * 1024;

/// What a governance message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GovernanceKind {
    /// A change put to the vote.
    Proposal = 1,
    /// A vote on a proposal.
    Vote = 2,
    /// A maintainer's signature on a proposal.
    Signature = 3,
    /// A veto of a proposal.
    Veto = 4,
}

/// The message of this kind with this body, ready to send in class `governance`; `None` when the body is
/// empty or does not fit into [`GOVERNANCE_MAX_BYTES`].
pub fn encode_governance(kind: GovernanceKind, body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok()?;
    if body.is_empty() || body.len() > GOVERNANCE_MAX_BYTES - HEADER_BYTES {
        return None;
    }
    Some([&MAGIC[..], &[VERSION, kind as u8], &length.to_le_bytes(), body].concat())
}

/// Whether `payload` is one governance message and nothing else. Its size was checked before.
pub(super) fn is_message(payload: &[u8]) -> bool {
    let Some((header, body)) = payload.split_first_chunk::<HEADER_BYTES>() else {
        return false;
    };
    let [m0, m1, m2, m3, version, kind, l0, l1, l2, l3] = *header;
    [m0, m1, m2, m3] == MAGIC
        && version == VERSION
        && (GovernanceKind::Proposal as u8..=GovernanceKind::Veto as u8).contains(&kind)
        && usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])) == Ok(body.len())
        && !body.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [GovernanceKind; 4] = [
        GovernanceKind::Proposal,
        GovernanceKind::Vote,
        GovernanceKind::Signature,
        GovernanceKind::Veto,
    ];

    #[test]
    fn bytes_of_a_vote_are_as_documented() {
        let vote = encode_governance(GovernanceKind::Vote, b"aye").unwrap();
        assert_eq!(vote, b"BGOV\x01\x02\x03\x00\x00\x00aye");
        assert!(is_message(&vote));
    }

    #[test]
    fn unknown_magic_version_or_kind_is_refused() {
        for (at, byte) in [(0, b'X'), (4, 0), (4, 2), (5, 0), (5, 5)] {
            let mut altered = encode_governance(GovernanceKind::Veto, b"no").unwrap();
            altered[at] = byte;
            assert!(!is_message(&altered), "byte {at} as {byte}");
        }
    }

    #[test]
    fn trailing_bytes_cut_and_empty_messages_are_refused() {
        let proposal = encode_governance(GovernanceKind::Proposal, b"raise the cap").unwrap();
        assert!(!is_message(&[&proposal[..], b"x"].concat()));
        for length in 0..proposal.len() {
            assert!(!is_message(&proposal[..length]));
        }
        assert!(!is_message(b"BGOV\x01\x01\x00\x00\x00\x00"));
    }

    #[test]
    fn body_that_is_empty_or_too_long_is_not_encoded() {
        let most = GOVERNANCE_MAX_BYTES - HEADER_BYTES;
        assert_eq!(encode_governance(GovernanceKind::Vote, &[]), None);
        assert_eq!(encode_governance(GovernanceKind::Vote, &vec![1; most + 1]), None);
        assert_eq!(
            encode_governance(GovernanceKind::Vote, &vec![1; most])
                .unwrap()
                .len(),
            GOVERNANCE_MAX_BYTES
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_accepted(
            kind in 0usize..4, body in proptest::collection::vec(any::<u8>(), 1..300)
        ) {
            prop_assert!(is_message(&encode_governance(KINDS[kind], &body).unwrap()));
        }

        #[test]
        fn bytes_behind_a_true_start_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = is_message(&[&b"BGOV\x01\x01"[..], &tail].concat());
        }
    }
}
