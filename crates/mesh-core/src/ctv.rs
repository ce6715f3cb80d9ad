//! Covenants (OP_CHECKTEMPLATEVERIFY, BIP-119): one output that can be spent by one transaction only, which pays every
//! payee of a route its share.
//!
//! The BIP is a draft and active on no public chain. Where it is not enforced the opcode does nothing, and anybody takes
//! what such an output holds. So a covenant is money only once the transaction that it allows is in the best chain, or on
//! a chain that its operator says enforces it ([`ChainPolicy::ctv_enforced_from`]).
//!
//! Everything here is a question of bytes. The script is not believed but made again from the template: exactly
//! `<hash> OP_CTV`, bare, as the program of a P2WSH output, or as the one leaf of a taproot output whose key nobody has
//! (the NUMS point of BIP-341). A second leaf, or a key of the payer's, would let him sweep the money after he was
//! credited.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::key::Secp256k1;
use bitcoin::opcodes::all::OP_NOP4;
use bitcoin::taproot::{LeafVersion, TaprootBuilder, TaprootSpendInfo};
use bitcoin::{
    Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, XOnlyPublicKey, absolute,
    transaction,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chain::{
    BillId, ChainPolicy, ChainQuestion, CovenantFacts, Found, FundingFacts, OutPoint, OutputQuote, Standing,
    TxOutput, WatchedAs,
};
use crate::drop_reason::DropReason;
use crate::payment_proof::PaymentProof;

/// The point of BIP-341 whose discrete logarithm nobody knows: x coordinate of the hash of the generator.
const NUMS: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e, 0x07,
    0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// The hash that BIP-119 compares: what a transaction is but for the outputs that it spends, at one of its inputs.
pub fn template_hash(transaction: &Transaction, input_index: u32) -> [u8; 32] {
    let inputs = &transaction.input;
    let mut hasher = Sha256::new();
    hasher.update(transaction.version.0.to_le_bytes());
    hasher.update(transaction.lock_time.to_consensus_u32().to_le_bytes());
    if inputs.iter().any(|input| !input.script_sig.is_empty()) {
        let mut scripts = Sha256::new();
        for input in inputs {
            scripts.update(serialize(&input.script_sig));
        }
        hasher.update(scripts.finalize());
    }
    hasher.update((inputs.len() as u32).to_le_bytes());
    let mut sequences = Sha256::new();
    for input in inputs {
        sequences.update(input.sequence.0.to_le_bytes());
    }
    hasher.update(sequences.finalize());
    hasher.update((transaction.output.len() as u32).to_le_bytes());
    let mut outputs = Sha256::new();
    for output in &transaction.output {
        outputs.update(serialize(output));
    }
    hasher.update(outputs.finalize());
    hasher.update(input_index.to_le_bytes());
    hasher.finalize().into()
}

/// How the output that funds a covenant hides its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CovenantForm {
    /// Not at all.
    Bare,
    /// By its hash (BIP-141).
    Wsh,
    /// As the one leaf of a taproot output without a usable key (BIP-341).
    Taproot,
}

/// The one transaction that a covenant allows, and how its script is hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covenant {
    form: CovenantForm,
    template: Transaction,
}

/// What travels in [`PaymentProof::InstantSettlement`] as `covenant_proof`, postcard-encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shown {
    /// In front, see [`crate::chain::bill_of`].
    bill: BillId,
    /// The transaction that funds the covenant, in internal byte order.
    funding: [u8; 32],
    form: CovenantForm,
    /// The template as a transaction travels, its input naming no output.
    template: Vec<u8>,
}

/// Made by payers.
impl Covenant {
    /// The covenant that pays exactly these outputs. A payer puts in the scripts and amounts of all quotes that he buys
    /// from, in route order, and funds [`Covenant::script`] with at least [`Covenant::least_sats`].
    pub fn paying(form: CovenantForm, outputs: &[TxOutput]) -> Self {
        let output = outputs.iter().map(|output| TxOut {
            value: Amount::from_sat(output.sats),
            script_pubkey: ScriptBuf::from_bytes(output.script.clone()),
        });
        Self {
            form,
            template: Transaction {
                version: transaction::Version::TWO,
                lock_time: absolute::LockTime::ZERO,
                input: vec![TxIn {
                    sequence: Sequence::MAX,
                    ..TxIn::default()
                }],
                output: output.collect(),
            },
        }
    }

    /// What it must hold to be mined at a feerate of so many sats per 1,000 virtual bytes.
    pub fn least_sats(&self, fee_floor: u64) -> Result<u64, DropReason> {
        let vsize = self
            .settling(&OutPoint {
                txid: [0; 32],
                vout: 0,
            })?
            .vsize() as u64;
        let fee = vsize.saturating_mul(fee_floor).div_ceil(1000);
        Ok(self.output_sats()?.saturating_add(fee))
    }

    /// The proof for one of the payees.
    pub fn proof(
        &self,
        bill: BillId,
        funding: &OutPoint,
        timestamp: u64,
    ) -> Result<PaymentProof, DropReason> {
        let shown = Shown {
            bill,
            funding: funding.txid,
            form: self.form,
            template: serialize(&self.template),
        };
        Ok(PaymentProof::InstantSettlement {
            covenant_proof: postcard::to_stdvec(&shown).map_err(|_| DropReason::Malformed)?,
            output_index: funding.vout,
            merkle_proof: Vec::new(),
            amount_sats: self.output_sats()?,
            timestamp,
        })
    }
}

/// Made again by payees.
impl Covenant {
    /// The covenant in a proof, and the output that is said to fund it.
    fn read(proof: &PaymentProof) -> Result<(Self, OutPoint), DropReason> {
        let PaymentProof::InstantSettlement {
            covenant_proof,
            output_index,
            ..
        } = proof
        else {
            return Err(DropReason::ProofKindRefused);
        };
        let (shown, rest): (Shown, _) =
            postcard::take_from_bytes(covenant_proof).map_err(|_| DropReason::TemplateMismatch)?;
        let template: Transaction = deserialize(&shown.template).map_err(|_| DropReason::TemplateMismatch)?;
        let covenant = Self {
            form: shown.form,
            template,
        };
        if !rest.is_empty() || !covenant.is_final() {
            return Err(DropReason::TemplateMismatch);
        }
        let funding = OutPoint {
            txid: shown.funding,
            vout: *output_index,
        };
        Ok((covenant, funding))
    }

    /// One input, which adds nothing of its own, and nothing to wait for: what is settled can be settled at once, by
    /// anybody.
    fn is_final(&self) -> bool {
        let [input] = self.template.input.as_slice() else {
            return false;
        };
        input.sequence == Sequence::MAX
            && self.template.lock_time == absolute::LockTime::ZERO
            && input.script_sig.is_empty()
            && input.witness.is_empty()
            && input.previous_output.is_null()
    }

    /// Whether it pays exactly the split, and this quote its part of it.
    fn pays(&self, quote: &OutputQuote) -> Result<(), DropReason> {
        let outputs = &self.template.output;
        let own = outputs
            .get(usize::from(quote.place))
            .ok_or(DropReason::OutputMismatch)?;
        let is_split = outputs.len() == quote.split.len()
            && outputs
                .iter()
                .zip(&quote.split)
                .all(|(output, sats)| output.value.to_sat() == *sats);
        if !is_split || own.script_pubkey.as_bytes() != quote.script || own.value.to_sat() < quote.sats() {
            return Err(DropReason::OutputMismatch);
        }
        let is_dust = |output: &TxOut| output.value < output.script_pubkey.minimal_non_dust();
        if outputs.iter().any(is_dust) {
            return Err(DropReason::TemplateMismatch);
        }
        Ok(())
    }

    /// What all its outputs hold together.
    fn output_sats(&self) -> Result<u64, DropReason> {
        let sum = self
            .template
            .output
            .iter()
            .try_fold(0u64, |sum, output| sum.checked_add(output.value.to_sat()));
        sum.ok_or(DropReason::TemplateMismatch)
    }
}

/// Scripts.
impl Covenant {
    /// The scriptPubKey of the output that funds it.
    pub fn script(&self) -> Result<Vec<u8>, DropReason> {
        let script = self.opened();
        Ok(match self.form {
            CovenantForm::Bare => script.into_bytes(),
            CovenantForm::Wsh => script.to_p2wsh().into_bytes(),
            CovenantForm::Taproot => ScriptBuf::new_p2tr_tweaked(self.taproot()?.output_key()).into_bytes(),
        })
    }

    /// The transaction that it allows: anybody who has it can hand it to the network.
    pub fn settling(&self, funding: &OutPoint) -> Result<Transaction, DropReason> {
        let script = self.opened();
        let mut witness = Witness::new();
        match self.form {
            CovenantForm::Bare => {}
            CovenantForm::Wsh => witness.push(script.as_bytes()),
            CovenantForm::Taproot => {
                let control = self
                    .taproot()?
                    .control_block(&(script.clone(), LeafVersion::TapScript))
                    .ok_or(DropReason::TemplateMismatch)?;
                witness.push(script.as_bytes());
                witness.push(control.serialize());
            }
        }
        let mut settling = self.template.clone();
        for input in &mut settling.input {
            input.previous_output = bitcoin::OutPoint {
                txid: Txid::from_byte_array(funding.txid),
                vout: funding.vout,
            };
            input.witness = witness.clone();
        }
        Ok(settling)
    }

    /// `<hash> OP_CTV`; the opcode is the fourth of those that do nothing where BIP-119 is not enforced.
    fn opened(&self) -> ScriptBuf {
        ScriptBuf::builder()
            .push_slice(template_hash(&self.template, 0))
            .push_opcode(OP_NOP4)
            .into_script()
    }

    fn taproot(&self) -> Result<TaprootSpendInfo, DropReason> {
        let nobodys = XOnlyPublicKey::from_slice(&NUMS).map_err(|_| DropReason::TemplateMismatch)?;
        TaprootBuilder::new()
            .add_leaf(0, self.opened())
            .map_err(|_| DropReason::TemplateMismatch)?
            .finalize(&Secp256k1::verification_only(), nobodys)
            .map_err(|_| DropReason::TemplateMismatch)
    }
}

/// What the chain source is to be asked about a covenant that is shown for a quote. Whatever its bytes alone can say
/// against it is said first.
pub(crate) fn question(proof: &PaymentProof, quote: &OutputQuote) -> Result<ChainQuestion, DropReason> {
    let (covenant, funding) = Covenant::read(proof)?;
    covenant.pays(quote)?;
    Ok(ChainQuestion::Covenant {
        funding,
        settling: covenant.settling(&funding)?.compute_txid().to_byte_array(),
    })
}

/// Whether a covenant is money: it is settled, or nothing else can become of it.
pub(crate) fn judge(
    proof: &PaymentProof,
    quote: &OutputQuote,
    policy: &ChainPolicy,
    facts: &CovenantFacts,
) -> Result<Found, DropReason> {
    let (covenant, funding) = Covenant::read(proof)?;
    covenant.pays(quote)?;
    let settling = covenant.settling(&funding)?;
    let txid = settling.compute_txid().to_byte_array();
    let own = covenant.template.output.get(usize::from(quote.place));
    let sats = own.ok_or(DropReason::OutputMismatch)?.value.to_sat();
    if let Standing::Confirmed(place) = facts.settling {
        return Ok(Found {
            outpoint: funding,
            sats,
            place,
            watched_as: WatchedAs::Paid { txid },
        });
    }
    let (output, place) = match &facts.funding {
        FundingFacts::Unspent(output, place) => (output, *place),
        FundingFacts::Unconfirmed => return Err(DropReason::Unconfirmed),
        FundingFacts::Gone => return Err(DropReason::FundingSpent),
    };
    if output.script != covenant.script()? {
        return Err(DropReason::TemplateMismatch);
    }
    if !policy.enforces_ctv(place.height) {
        return Err(DropReason::CtvNotEnforced);
    }
    if output.sats < covenant.least_sats(facts.fee_floor)? {
        return Err(DropReason::Underpaid);
    }
    Ok(Found {
        outpoint: funding,
        sats,
        place,
        watched_as: WatchedAs::Bound {
            settling: txid,
            transaction: serialize(&settling),
        },
    })
}

#[cfg(test)]
mod tests;
