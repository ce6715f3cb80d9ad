//! Covenants (BIP-119) that are shown as payments.

use mesh_core::chain::{ChainQuestion, OutputQuote};
use mesh_core::ctv;
use mesh_core::drop_reason::DropReason;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::time::UnixMillis;

use crate::cast;

/// The quote that covenants are shown for.
pub fn covenant_quote() -> OutputQuote {
    OutputQuote {
        bill: Default::default(),
        // A witness program of version 0 with 20 bytes (BIP-141).
        script: [&[0, 20][..], &[7; 20]].concat(),
        account: [1; 32],
        credit_msat: 6_000_000,
        treasury_msat: 1_000_000,
        redeem_by: UnixMillis(u64::MAX),
        previous: cast::node(0),
        split: vec![3_000, 7_000],
        place: 1,
    }
}

/// A covenant's bytes: either the payee's chain source is asked about exactly the funding that was named, or the proof is
/// refused for what it says.
pub fn covenant(data: &[u8]) {
    let proof = PaymentProof::InstantSettlement {
        covenant_proof: data.to_vec(),
        output_index: 1,
        merkle_proof: Vec::new(),
        amount_sats: 10_000,
        timestamp: 0,
    };
    match ctv::question(&proof, &covenant_quote()) {
        Ok(ChainQuestion::Covenant { funding, .. }) => assert_eq!(funding.vout, 1),
        Ok(other) => panic!("{other:?}"),
        Err(reason) => assert!(matches!(
            reason,
            DropReason::TemplateMismatch | DropReason::OutputMismatch
        )),
    }
}
