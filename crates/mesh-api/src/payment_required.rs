//! "Payment required": the answer of `send_packet` when the mesh may not pay by itself what the packet costs.
//!
//! The layout of [`SendPacketResponse`] is published and has no field for a quote. So its error begins with fixed words
//! that name one, and `get_quote` tells what is in it: a module pays the invoices there and sends again with the proofs.

use crate::types::{QuoteId, SendPacketResponse};

/// What the error begins with; 32 hexadecimal digits, a colon and the explanation follow.
const PAYMENT_REQUIRED: &str = "payment required: quote ";

impl SendPacketResponse {
    /// The answer for a packet that the mesh may not pay for by itself, with the quote that the caller may pay instead.
    pub fn payment_required(quote_id: QuoteId, reason: impl AsRef<str>) -> Self {
        let digits: String = quote_id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::refused(format!("{PAYMENT_REQUIRED}{digits}: {}", reason.as_ref()))
    }

    /// The quote to pay, if the packet was not sent because the mesh may not pay for it by itself.
    ///
    /// ```
    /// # use mesh_api::SendPacketResponse;
    /// let refused = SendPacketResponse::payment_required([7; 16], "auto-pay is off");
    /// assert_eq!(refused.required_quote(), Some([7; 16]));
    /// ```
    pub fn required_quote(&self) -> Option<QuoteId> {
        let named = self.error.as_deref()?.strip_prefix(PAYMENT_REQUIRED)?;
        let (digits, _) = named.split_once(": ")?;
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quote_comes_back_however_eloquent_the_reason() {
        let id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        for reason in ["", "per_hour_msat: nothing left", &"x".repeat(5000)] {
            let refused = SendPacketResponse::payment_required(id, reason);
            assert!(!refused.success);
            assert_eq!(refused.required_quote(), Some(id));
        }
    }

    #[test]
    fn other_refusals_name_no_quote() {
        for text in [
            "no route",
            "payment required: quote ",
            "payment required: quote 00: short",
            "payment required: quote +0000000000000000000000000000001: signed",
            &format!("payment required: quote {}", "0".repeat(32)),
            &format!("payment required: quote é{}: not digits", "0".repeat(30)),
        ] {
            assert_eq!(SendPacketResponse::refused(text).required_quote(), None, "{text}");
        }
        let sent = SendPacketResponse {
            error: None,
            ..SendPacketResponse::refused("")
        };
        assert_eq!(sent.required_quote(), None);
    }
}
