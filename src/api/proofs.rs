//! Proofs and quotes between the two languages: that of the API and that of the core.

use mesh_api::{PayeeQuote, PaymentProof, QuotedOutput, RouteQuote};
use mesh_core::chain::{PaymentMethod, bill_of};
use mesh_core::event::QuotedSlice;
use mesh_core::identity::NodeId;
use mesh_core::payment_proof::PaymentProof as CoreProof;

/// Which payees of a slice a proof pays: a lone proof its own payee, if it is of this slice, a split everybody it
/// names.
pub(super) fn proofs_for(slice: &QuotedSlice, proof: &PaymentProof) -> Vec<(NodeId, CoreProof)> {
    match proof {
        PaymentProof::Lightning { invoice, .. } => {
            let issuer = slice
                .payees
                .iter()
                .find(|payee| payee.invoice.as_ref() == Some(invoice));
            issuer
                .and_then(|payee| Some((payee.payee, core_proof(proof)?)))
                .into_iter()
                .collect()
        }
        PaymentProof::Split { proofs } => {
            let on_route = proofs
                .iter()
                .filter(|part| slice.payees.iter().any(|payee| payee.payee.0 == part.payee));
            on_route
                .filter_map(|part| Some((NodeId(part.payee), core_proof(&part.proof)?)))
                .collect()
        }
        PaymentProof::OnChainSettlement { .. } | PaymentProof::InstantSettlement { .. } => {
            let core = core_proof(proof);
            let bill = core.as_ref().and_then(bill_of);
            let payee = slice
                .payees
                .iter()
                .find(|payee| payee.output.as_ref().map(|(quoted, _)| *quoted) == bill && bill.is_some());
            payee
                .and_then(|payee| Some((payee.payee, core?)))
                .into_iter()
                .collect()
        }
        PaymentProof::Session { .. } => Vec::new(),
    }
}

pub(super) fn core_method(method: mesh_api::PaymentMethod) -> PaymentMethod {
    match method {
        mesh_api::PaymentMethod::Lightning => PaymentMethod::Lightning,
        mesh_api::PaymentMethod::OnChain => PaymentMethod::OnChain,
        mesh_api::PaymentMethod::Ctv => PaymentMethod::Ctv,
    }
}

/// The core's form of a proof that a payee can judge by itself.
fn core_proof(proof: &PaymentProof) -> Option<CoreProof> {
    match proof.clone() {
        PaymentProof::Lightning {
            invoice,
            preimage,
            amount_msats,
            timestamp,
            expires_at,
        } => Some(CoreProof::Lightning {
            invoice,
            preimage,
            amount_msats,
            timestamp,
            expires_at,
        }),
        PaymentProof::OnChainSettlement {
            payment_request_id,
            tx_hash,
            amount_sats,
            timestamp,
        } => Some(CoreProof::OnChainSettlement {
            payment_request_id,
            tx_hash,
            amount_sats,
            timestamp,
        }),
        PaymentProof::InstantSettlement {
            covenant_proof,
            output_index,
            merkle_proof,
            amount_sats,
            timestamp,
        } => Some(CoreProof::InstantSettlement {
            covenant_proof,
            output_index,
            merkle_proof,
            amount_sats,
            timestamp,
        }),
        PaymentProof::Split { .. } | PaymentProof::Session { .. } => None,
    }
}

/// What a unit of a slice costs, the treasury's part included, in msat, rounded up.
pub(super) fn msat_per_unit(slice: &QuotedSlice) -> u64 {
    slice.total_msat.div_ceil(slice.units.max(1))
}

pub(super) fn route_quote(slice: &QuotedSlice) -> RouteQuote {
    RouteQuote {
        quote_id: slice.id,
        route: wire_path(&slice.path),
        total_fee_msat: slice.total_msat,
        payees: payee_quotes(slice, |_| true),
    }
}

pub(super) fn payee_quotes(slice: &QuotedSlice, wanted: impl Fn(&NodeId) -> bool) -> Vec<PayeeQuote> {
    let quoted = slice.payees.iter().filter(|payee| wanted(&payee.payee));
    let wire = quoted.map(|payee| PayeeQuote {
        payee: payee.payee.0,
        amount_msat: payee.amount_msat,
        invoice: payee.invoice.clone(),
        pay_by_unix_ms: payee.pay_by.0,
        redeem_by_unix_ms: payee.redeem_by.0,
        output: payee.output.as_ref().map(|(bill, output)| QuotedOutput {
            payment_request_id: hex::encode(bill),
            script: output.script.clone(),
            confirmations: output.depth,
        }),
    });
    wire.collect()
}

pub(super) fn wire_path(path: &[NodeId]) -> Vec<[u8; 32]> {
    path.iter().map(|node| node.0).collect()
}
