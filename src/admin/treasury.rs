//! The treasury behind the admin socket: what it is owed, and paying it.

use mesh_core::event::{Answer, Command};
use mesh_core::treasury::TreasuryState;
use serde::{Deserialize, Serialize};

use super::TREASURY_GUARD;
use super::backend::{AdminService, guarded};
use super::wire::{AdminError, codes};
use super::{LOOKUP_GUARD, convert};

/// Parameters of `pay_treasury`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayTreasuryParams {
    /// How much, in msat; left out, all that is owed, in whole satoshi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_msat: Option<u64>,
}

/// How the node stands with its treasury.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreasuryReply {
    /// Whither it is paid; none when no treasury is configured.
    pub destination: Option<String>,
    /// What is owed, in msat, with what is under way.
    pub owed_msat: u64,
    /// What was passed on since the first entry of the ledger, in msat.
    pub paid_msat: u64,
    /// From what is owed on it is paid by itself, in msat; 0 never.
    pub threshold_msat: u64,
    /// The most that Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
    /// Whether an invoice is being asked for.
    pub asking: bool,
    /// The payment whose outcome is not known.
    pub under_way: Option<UnderWayReply>,
}

/// A payment whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWayReply {
    /// How much, in msat.
    pub amount_msat: u64,
    /// When it was begun, in Unix ms.
    pub begun_unix_ms: u64,
}

/// The treasury was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreasuryPaidReply {
    /// How much, in msat.
    pub amount_msat: u64,
    /// What it cost on the way, in msat.
    pub fee_msat: u64,
}

impl AdminService {
    pub(super) async fn treasury(&self) -> Result<TreasuryReply, AdminError> {
        let state = self.treasury_state().await?;
        let paid_msat = self.books()?.treasury_paid_msat().await?;
        let policy = state.policy;
        Ok(TreasuryReply {
            destination: self
                .books()?
                .treasury()
                .map(|config| config.destination.to_string()),
            owed_msat: state.owed_msat,
            paid_msat,
            threshold_msat: policy.map_or(0, |policy| policy.threshold_msat),
            max_fee_msat: policy.map_or(0, |policy| policy.max_fee_msat),
            asking: state.asking,
            under_way: state.under_way.map(|(amount_msat, begun)| UnderWayReply {
                amount_msat,
                begun_unix_ms: begun.0,
            }),
        })
    }

    pub(super) async fn pay_treasury(
        &self,
        params: PayTreasuryParams,
    ) -> Result<TreasuryPaidReply, AdminError> {
        let amount_msat = params.amount_msat;
        check(&self.treasury_state().await?, amount_msat)?;
        let command = Command::PayTreasury { amount_msat };
        match guarded(TREASURY_GUARD, self.backend().command(command)).await? {
            Answer::TreasuryPaid {
                amount_msat,
                fee_msat,
            } => Ok(TreasuryPaidReply {
                amount_msat,
                fee_msat,
            }),
            _ => Err(convert::unexpected()),
        }
    }

    async fn treasury_state(&self) -> Result<TreasuryState, AdminError> {
        match guarded(LOOKUP_GUARD, self.backend().command(Command::Treasury)).await? {
            Answer::Treasury(state) => Ok(*state),
            _ => Err(convert::unexpected()),
        }
    }
}

/// Says why nothing can be paid now; the core refuses it too, in fewer words.
fn check(state: &TreasuryState, amount_msat: Option<u64>) -> Result<(), AdminError> {
    let refuse = |message: String, advice: &str| Err(AdminError::new(codes::TREASURY, message, advice));
    let owed = state.owed_msat;
    if state.policy.is_none() {
        return refuse(
            "no treasury is configured".into(),
            "name its Lightning address or offer in [treasury] and restart the node",
        );
    }
    if let Some((amount, begun)) = state.under_way {
        return refuse(
            format!(
                "a payment of {amount} msat to the treasury, begun at Unix ms {}, has no outcome yet",
                begun.0
            ),
            "wait: it is looked up in the wallet until it is known, and nothing else is paid meanwhile",
        );
    }
    if state.asking {
        return refuse(
            "a payment to the treasury is just beginning".into(),
            "wait for it",
        );
    }
    match amount_msat {
        None if owed < 1000 => refuse(
            format!("{owed} msat are owed, less than a satoshi"),
            "nothing to do; it is paid with the next",
        ),
        Some(0) => refuse(
            "0 msat are nothing to pay".into(),
            "name an amount, or none for all",
        ),
        Some(amount) if amount > owed => refuse(
            format!("{owed} msat are owed, {amount} msat are more"),
            "name a smaller amount, or none for all",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::time::UnixMillis;
    use mesh_core::treasury::TreasuryPolicy;

    #[test]
    fn each_reason_not_to_pay_is_told_in_its_own_words() {
        let ready = TreasuryState {
            owed_msat: 5000,
            policy: Some(TreasuryPolicy {
                threshold_msat: 0,
                max_fee_msat: 1,
            }),
            asking: false,
            under_way: None,
        };
        assert_eq!(check(&ready, None), Ok(()));
        assert_eq!(check(&ready, Some(5000)), Ok(()));
        let unset = TreasuryState {
            policy: None,
            ..ready.clone()
        };
        let busy = TreasuryState {
            under_way: Some((7, UnixMillis(1))),
            ..ready.clone()
        };
        let asking = TreasuryState {
            asking: true,
            ..ready.clone()
        };
        let little = TreasuryState {
            owed_msat: 999,
            ..ready.clone()
        };
        for (state, amount, says) in [
            (&unset, None, "no treasury is configured"),
            (&busy, None, "no outcome yet"),
            (&asking, None, "just beginning"),
            (&little, None, "less than a satoshi"),
            (&ready, Some(0), "nothing to pay"),
            (&ready, Some(5001), "5001 msat are more"),
        ] {
            let error = check(state, amount).unwrap_err();
            assert!(error.message.contains(says), "{error}");
        }
    }
}
