//! Whether a payment proof is money to me.
//!
//! An invoice and its preimage prove that *some* key signed an invoice and that whoever shows it knows the preimage:
//! anybody can issue an invoice to himself, and everybody on a payment's way learns its preimage. So a payee believes
//! only its own wallet. It honours a Lightning proof iff the invoice is its own, on its network, the preimage matches,
//! its wallet reports it settled with at least the quoted amount, it was not redeemed before, it is within redeem-by,
//! and the open that shows it is keyed by the account key the invoice's description hash commits to.

use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::limits::REDEEM_AFTER_PAY_BY;
use crate::time::UnixMillis;

/// The Bitcoin network that invoices must belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitcoinNetwork {
    /// The network with real money.
    Mainnet,
    /// Testnet 3 and 4 (BOLT11 does not tell them apart).
    Testnet,
    /// Signet.
    Signet,
    /// Regtest, as used by tests and the devnet.
    Regtest,
}

/// What an invoice says, read once by a worker: parsing and the signature check cost 56 µs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceFacts {
    /// The network in its prefix.
    pub network: BitcoinNetwork,
    /// The Lightning node it pays (compressed secp256k1 key).
    pub payee: [u8; 33],
    /// What the preimage hashes to.
    pub payment_hash: [u8; 32],
    /// The commitment to the quote's terms; `None` when it carries a text instead.
    pub description_hash: Option<[u8; 32]>,
    /// The amount in msat; `None` when the payer may choose.
    pub amount_msat: Option<u64>,
    /// When it can no longer be paid.
    pub expires: UnixMillis,
}

/// Reads a BOLT11 invoice and checks its signature.
pub fn read_invoice(text: &str) -> Result<InvoiceFacts, DropReason> {
    let invoice: Bolt11Invoice = text.parse().map_err(|_| DropReason::InvoiceInvalid)?;
    let network = match invoice.currency() {
        Currency::Bitcoin => BitcoinNetwork::Mainnet,
        Currency::BitcoinTestnet => BitcoinNetwork::Testnet,
        Currency::Signet => BitcoinNetwork::Signet,
        Currency::Regtest => BitcoinNetwork::Regtest,
        Currency::Simnet => return Err(DropReason::WrongNetwork),
    };
    let description_hash = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Hash(hash) => Some(AsRef::<[u8; 32]>::as_ref(&hash.0).to_owned()),
        Bolt11InvoiceDescriptionRef::Direct(_) => None,
    };
    let expires = invoice.expires_at().map_or(UnixMillis(u64::MAX), |at| {
        UnixMillis(at.as_secs().saturating_mul(1000))
    });
    Ok(InvoiceFacts {
        network,
        payee: invoice.get_payee_pub_key().serialize(),
        payment_hash: *AsRef::<[u8; 32]>::as_ref(invoice.payment_hash()),
        description_hash,
        amount_msat: invoice.amount_milli_satoshis(),
        expires,
    })
}

/// What the description hash of a quoted invoice commits to.
///
/// It is a text, because a wallet may hold the hash itself for nothing and want to see what is hashed: Core Lightning
/// makes invoices with a description hash from UTF-8 descriptions only. Whoever runs such a wallet can read what was
/// sold, too.
#[derive(Debug, Clone, Copy)]
pub struct Commitment<'a> {
    /// The mesh node that is paid.
    pub payee: &'a NodeId,
    /// The payer's account key at this payee.
    pub account: &'a [u8; 32],
    /// The amount, in msat.
    pub amount_msat: u64,
    /// The digest of the quote request: route, class, units, fee.
    pub terms: &'a [u8; 32],
    /// Until when it may be paid.
    pub pay_by: UnixMillis,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
    /// The quote's nonce.
    pub nonce: &'a [u8; 16],
}

impl Commitment<'_> {
    /// The text that is hashed. Every field is there by name and in one way only, so that no two commitments share one.
    pub fn description(&self) -> String {
        let Self {
            payee,
            account,
            amount_msat,
            terms,
            pay_by,
            redeem_by,
            nonce,
        } = self;
        format!(
            "blvm-mesh/1 invoice payee={} account={} amount_msat={amount_msat} request={} pay_by={} redeem_by={} nonce={}",
            Digits(&payee.0),
            Digits(*account),
            Digits(*terms),
            pay_by.0,
            redeem_by.0,
            Digits(*nonce)
        )
    }

    /// SHA-256 of the text (BOLT 11 field `h`).
    pub fn description_hash(&self) -> [u8; 32] {
        Sha256::digest(self.description()).into()
    }
}

/// Bytes shown as lower-case hexadecimal digits.
struct Digits<'a>(&'a [u8]);

impl std::fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the wallet says of an invoice of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The wallet never issued it.
    Unknown,
    /// Not paid, or not irrevocably.
    Open,
    /// Paid, with this many msat.
    Settled {
        /// What arrived, in msat.
        amount_msat: u64,
    },
    /// It can no longer be paid and was not.
    Dead,
}

/// What a payee remembers of an invoice that it quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotedInvoice {
    /// The account key the description hash commits to.
    pub account: [u8; 32],
    /// The amount quoted, in msat.
    pub amount_msat: u64,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
}

/// A Lightning proof as it was shown, with what was found out about it.
#[derive(Debug)]
pub struct ShownProof<'a> {
    /// The invoice's facts.
    pub facts: &'a InvoiceFacts,
    /// The preimage shown.
    pub preimage: &'a [u8; 32],
    /// The account key that keys the open it came in.
    pub account: &'a [u8; 32],
    /// What this payee remembers of the payment hash.
    pub quoted: Option<&'a QuotedInvoice>,
    /// Whether the payment hash was redeemed before.
    pub redeemed: bool,
    /// What the wallet says.
    pub settlement: Settlement,
}

/// Judges payment proofs for one payee.
#[derive(Debug, Clone)]
pub struct PaymentVerifier {
    network: BitcoinNetwork,
    lightning_key: Option<[u8; 33]>,
}

impl PaymentVerifier {
    /// For a payee whose wallet lives on `network` and receives at `lightning_key` (`None`: it cannot be paid).
    pub fn new(network: BitcoinNetwork, lightning_key: Option<[u8; 33]>) -> Self {
        Self {
            network,
            lightning_key,
        }
    }

    /// The network that invoices must belong to.
    pub fn network(&self) -> BitcoinNetwork {
        self.network
    }

    /// Whether this node can be paid at all.
    pub fn payable(&self) -> bool {
        self.lightning_key.is_some()
    }

    /// `Ok` iff the proof is money to this payee that has not been credited yet. The order goes from what a stranger
    /// could get wrong to what only the wallet knows, so that the reason names the first thing to mend.
    pub fn judge(&self, proof: &ShownProof<'_>, now: UnixMillis) -> Result<(), DropReason> {
        if proof.facts.network != self.network {
            return Err(DropReason::WrongNetwork);
        }
        if Some(proof.facts.payee) != self.lightning_key {
            return Err(DropReason::InvoiceNotMine);
        }
        let Some(quoted) = proof.quoted else {
            // The quote was redeemed, has been forgotten after redeem-by, or never was. A quoted invoice expires at
            // pay-by at the latest, so its own expiry tells a late payer from a stranger.
            let reason = if proof.redeemed {
                DropReason::AlreadyRedeemed
            } else if now > proof.facts.expires + REDEEM_AFTER_PAY_BY {
                DropReason::ProofExpired
            } else {
                DropReason::InvoiceNotMine
            };
            return Err(reason);
        };
        if quoted.account != *proof.account {
            return Err(DropReason::WrongAccountKey);
        }
        if proof.redeemed {
            return Err(DropReason::AlreadyRedeemed);
        }
        if now > quoted.redeem_by {
            return Err(DropReason::ProofExpired);
        }
        if <[u8; 32]>::from(Sha256::digest(proof.preimage)) != proof.facts.payment_hash {
            return Err(DropReason::WrongPreimage);
        }
        match proof.settlement {
            Settlement::Settled { amount_msat } if amount_msat >= quoted.amount_msat => Ok(()),
            Settlement::Settled { .. } => Err(DropReason::Underpaid),
            Settlement::Unknown => Err(DropReason::InvoiceNotMine),
            Settlement::Open | Settlement::Dead => Err(DropReason::NotSettled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: [u8; 33] = [2; 33];
    const NOW: UnixMillis = UnixMillis(5000);

    fn facts() -> InvoiceFacts {
        InvoiceFacts {
            network: BitcoinNetwork::Regtest,
            payee: ME,
            payment_hash: Sha256::digest([1; 32]).into(),
            description_hash: None,
            amount_msat: Some(1000),
            expires: UnixMillis(9000),
        }
    }

    fn quoted() -> QuotedInvoice {
        QuotedInvoice {
            account: [7; 32],
            amount_msat: 1000,
            redeem_by: UnixMillis(6000),
        }
    }

    fn judge_with(
        change: impl FnOnce(&mut InvoiceFacts, &mut ShownProof<'_>, &mut UnixMillis),
    ) -> Result<(), DropReason> {
        let quoted = quoted();
        let base = facts();
        let mut changed = facts();
        let mut now = NOW;
        let mut proof = ShownProof {
            facts: &base,
            preimage: &[1; 32],
            account: &[7; 32],
            quoted: Some(&quoted),
            redeemed: false,
            settlement: Settlement::Settled { amount_msat: 1000 },
        };
        change(&mut changed, &mut proof, &mut now);
        let proof = ShownProof {
            facts: &changed,
            ..proof
        };
        PaymentVerifier::new(BitcoinNetwork::Regtest, Some(ME)).judge(&proof, now)
    }

    #[test]
    fn a_settled_invoice_of_mine_is_money() {
        assert_eq!(judge_with(|_, _, _| {}), Ok(()));
    }

    #[test]
    fn each_crime_has_its_own_reason() {
        assert_eq!(
            judge_with(|f, _, _| f.network = BitcoinNetwork::Mainnet),
            Err(DropReason::WrongNetwork)
        );
        assert_eq!(
            judge_with(|f, _, _| f.payee = [3; 33]),
            Err(DropReason::InvoiceNotMine)
        );
        assert_eq!(
            judge_with(|_, p, _| p.quoted = None),
            Err(DropReason::InvoiceNotMine)
        );
        assert_eq!(
            judge_with(|_, p, _| p.account = &[8; 32]),
            Err(DropReason::WrongAccountKey)
        );
        assert_eq!(
            judge_with(|_, p, _| p.redeemed = true),
            Err(DropReason::AlreadyRedeemed)
        );
        assert_eq!(
            judge_with(|_, _, now| *now = UnixMillis(6001)),
            Err(DropReason::ProofExpired)
        );
        assert_eq!(
            judge_with(|_, p, _| p.preimage = &[2; 32]),
            Err(DropReason::WrongPreimage)
        );
        assert_eq!(
            judge_with(|_, p, _| p.settlement = Settlement::Open),
            Err(DropReason::NotSettled)
        );
        assert_eq!(
            judge_with(|_, p, _| p.settlement = Settlement::Dead),
            Err(DropReason::NotSettled)
        );
        let short = Settlement::Settled { amount_msat: 999 };
        assert_eq!(
            judge_with(|_, p, _| p.settlement = short),
            Err(DropReason::Underpaid)
        );
    }

    #[test]
    fn forgotten_quote_of_a_redeemed_payment_is_still_refused_as_redeemed() {
        let shown_again = judge_with(|_, p, _| {
            p.quoted = None;
            p.redeemed = true;
        });
        assert_eq!(shown_again, Err(DropReason::AlreadyRedeemed));
    }

    #[test]
    fn proof_shown_after_its_quote_was_forgotten_is_late_and_not_a_strangers() {
        let shown_at = |shift: u64| {
            judge_with(|f, p, now| {
                p.quoted = None;
                *now = f.expires + REDEEM_AFTER_PAY_BY + std::time::Duration::from_millis(shift);
            })
        };
        assert_eq!(shown_at(0), Err(DropReason::InvoiceNotMine));
        assert_eq!(shown_at(1), Err(DropReason::ProofExpired));
    }

    #[test]
    fn node_without_wallet_honours_nothing() {
        let facts = facts();
        let proof = ShownProof {
            facts: &facts,
            preimage: &[1; 32],
            account: &[7; 32],
            quoted: None,
            redeemed: false,
            settlement: Settlement::Settled { amount_msat: 1000 },
        };
        let verifier = PaymentVerifier::new(BitcoinNetwork::Regtest, None);
        assert_eq!(verifier.judge(&proof, NOW), Err(DropReason::InvoiceNotMine));
    }

    #[test]
    fn description_hash_changes_with_every_term() {
        let base = Commitment {
            payee: &NodeId([1; 32]),
            account: &[2; 32],
            amount_msat: 3,
            terms: &[4; 32],
            pay_by: UnixMillis(5),
            redeem_by: UnixMillis(6),
            nonce: &[7; 16],
        };
        let hash = base.description_hash();
        assert_ne!(
            hash,
            Commitment {
                payee: &NodeId([9; 32]),
                ..base
            }
            .description_hash()
        );
        assert_ne!(
            hash,
            Commitment {
                account: &[9; 32],
                ..base
            }
            .description_hash()
        );
        assert_ne!(
            hash,
            Commitment {
                amount_msat: 9,
                ..base
            }
            .description_hash()
        );
        assert_ne!(
            hash,
            Commitment {
                terms: &[9; 32],
                ..base
            }
            .description_hash()
        );
        assert_ne!(
            hash,
            Commitment {
                pay_by: UnixMillis(9),
                ..base
            }
            .description_hash()
        );
        assert_ne!(
            hash,
            Commitment {
                redeem_by: UnixMillis(9),
                ..base
            }
            .description_hash()
        );
        assert_ne!(
            hash,
            Commitment {
                nonce: &[9; 16],
                ..base
            }
            .description_hash()
        );
    }

    #[test]
    fn what_is_committed_to_is_a_text_that_any_wallet_can_hold() {
        let commitment = Commitment {
            payee: &NodeId([0xa1; 32]),
            account: &[0xb2; 32],
            amount_msat: u64::MAX,
            terms: &[0xc3; 32],
            pay_by: UnixMillis(u64::MAX),
            redeem_by: UnixMillis(u64::MAX),
            nonce: &[0xd4; 16],
        };
        let text = commitment.description();
        assert!(text.is_ascii() && !text.chars().any(|c| c.is_ascii_control() || "\"\\".contains(c)));
        assert!(text.len() < 512, "{} bytes", text.len());
        assert!(text.starts_with("blvm-mesh/1 invoice payee=a1a1"), "{text}");
        assert_eq!(
            commitment.description_hash(),
            <[u8; 32]>::from(Sha256::digest(&text))
        );
    }

    #[test]
    fn text_that_is_no_invoice_is_refused() {
        assert_eq!(read_invoice("lnbc1nonsense"), Err(DropReason::InvoiceInvalid));
        assert_eq!(read_invoice(""), Err(DropReason::InvoiceInvalid));
    }
}
