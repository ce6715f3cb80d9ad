//! The parameters of the JSON-RPC methods, as they are documented, each checked.

use mesh_api::limits::{MAX_DELIVERIES_PER_POLL, MAX_HOPS, MAX_LISTED_SHARES, MAX_PAYLOAD_BYTES};
use mesh_api::{QuoteRouteRequest, SendPacketRequest};
use mesh_core::identity::NodeId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{METHOD, RpcError};
use crate::admin::MAX_UNITS;

/// Longest encoded request in hexadecimal digits: the largest payload and its proofs.
const MAX_REQUEST_HEX: usize = 4 * MAX_PAYLOAD_BYTES;

/// Packets fetched unless told otherwise, as documented.
const USUAL_PACKETS: u64 = 16;

/// The least and most seconds an invoice may be asked to live: a year.
const EXPIRY: std::ops::RangeInclusive<u64> = 1..=31_536_000;

/// The one object of parameters, alone or in a list; nothing counts as an empty one.
pub(super) fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    let object = match params {
        Value::Array(list) if list.len() <= 1 => list.into_iter().next().unwrap_or(Value::Null),
        other => other,
    };
    let object = match object {
        Value::Null => Value::Object(serde_json::Map::new()),
        object @ Value::Object(_) => object,
        _ => return Err(bad("parameters are one object")),
    };
    serde_json::from_value(object).map_err(|error| bad(error.to_string()))
}

fn bad(what: impl Into<String>) -> RpcError {
    RpcError::InvalidParams(what.into())
}

fn node_id(name: &str, digits: &str) -> Result<NodeId, RpcError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits.trim(), &mut bytes)
        .map_err(|_| bad(format!("{name} is a node's id, 64 hexadecimal digits")))?;
    Ok(NodeId(bytes))
}

fn bytes(name: &str, digits: &str, most: usize) -> Result<Vec<u8>, RpcError> {
    let digits = digits.trim();
    if digits.len() > most {
        return Err(bad(format!("{name} is longer than {most} hexadecimal digits")));
    }
    hex::decode(digits).map_err(|error| bad(format!("{name} is not hexadecimal: {error}")))
}

/// `meshsendpacket`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendParams {
    request_hex: Option<String>,
    destination_hex: Option<String>,
    payload_hex: Option<String>,
    protocol_id: Option<String>,
    ttl_seconds: Option<u64>,
    /// Documented, and names the one module there is.
    #[serde(rename = "mesh_module_id")]
    _mesh_module_id: Option<String>,
}

impl SendParams {
    pub(super) fn request(self) -> Result<SendPacketRequest, RpcError> {
        let plain = self.destination_hex.is_some() || self.payload_hex.is_some();
        match (self.request_hex, self.destination_hex, self.payload_hex) {
            (Some(_), ..) if plain || self.protocol_id.is_some() || self.ttl_seconds.is_some() => Err(bad(
                "request_hex says everything; give no other parameters with it",
            )),
            (Some(request), ..) => {
                let encoded = bytes("request_hex", &request, MAX_REQUEST_HEX)?;
                mesh_api::decode(&encoded)
                    .map_err(|error| bad(format!("request_hex is no send_packet request: {error}")))
            }
            (None, Some(destination), Some(payload)) => Ok(SendPacketRequest {
                destination: node_id("destination_hex", &destination)?.0,
                payload: bytes("payload_hex", &payload, 2 * MAX_PAYLOAD_BYTES)?,
                payment_proof: None,
                protocol_id: self.protocol_id,
                ttl: self.ttl_seconds,
            }),
            _ => Err(bad("request_hex is required, or destination_hex and payload_hex")),
        }
    }
}

/// `meshpollreceived`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PollParams {
    pub(super) protocol_id: Option<String>,
    max_packets: Option<u64>,
    #[serde(rename = "mesh_module_id")]
    _mesh_module_id: Option<String>,
}

impl PollParams {
    pub(super) fn max_packets(&self) -> Result<u32, RpcError> {
        let wanted = self.max_packets.unwrap_or(USUAL_PACKETS);
        u32::try_from(wanted)
            .ok()
            .filter(|wanted| (1..=MAX_DELIVERIES_PER_POLL).contains(&(*wanted as usize)))
            .ok_or_else(|| bad(format!("max_packets is from 1 to {MAX_DELIVERIES_PER_POLL}")))
    }
}

/// `meshquoteroute`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuoteParams {
    destination_hex: String,
    units: Option<u64>,
    max_hops: Option<u8>,
    /// Documented. Prices are those that the nodes on the route signed, so there is no fee to begin from.
    #[serde(rename = "base_fee_sats")]
    _base_fee_sats: Option<u64>,
}

impl QuoteParams {
    pub(super) fn request(self, seconds: u64) -> Result<QuoteRouteRequest, RpcError> {
        let units = self.units.unwrap_or(1);
        if units == 0 || units > MAX_UNITS {
            return Err(bad(format!(
                "units is from 1 to {MAX_UNITS}; a unit is a started KiB of payload"
            )));
        }
        if self
            .max_hops
            .is_some_and(|hops| hops == 0 || usize::from(hops) > MAX_HOPS)
        {
            return Err(bad(format!("max_hops is from 1 to {MAX_HOPS}")));
        }
        let destination = node_id("destination_hex", &self.destination_hex)?;
        Ok(QuoteRouteRequest {
            max_hops: self.max_hops,
            ..quote_of(destination, units, seconds)
        })
    }
}

/// A question for a quote without any wishes.
pub(super) fn quote_of(destination: NodeId, units: u64, seconds: u64) -> QuoteRouteRequest {
    QuoteRouteRequest {
        destination: destination.0,
        max_hops: None,
        timeout_seconds: Some(seconds),
        units: units.min(MAX_UNITS),
        max_fee_msat: None,
        avoid: Vec::new(),
        method: METHOD,
    }
}

/// `meshgetconcentration`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConcentrationParams {
    max_shares: Option<u64>,
    #[serde(rename = "mesh_module_id")]
    _mesh_module_id: Option<String>,
}

impl ConcentrationParams {
    pub(super) fn max_shares(&self) -> Result<usize, RpcError> {
        let Some(wanted) = self.max_shares else {
            return Ok(MAX_LISTED_SHARES);
        };
        usize::try_from(wanted)
            .ok()
            .filter(|wanted| (1..=MAX_LISTED_SHARES).contains(wanted))
            .ok_or_else(|| bad(format!("max_shares is from 1 to {MAX_LISTED_SHARES}")))
    }
}

/// `meshrequesthopinvoice`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HopInvoiceParams {
    destination_hex: String,
    amount_msats: u64,
    expiry_seconds: Option<u64>,
}

impl HopInvoiceParams {
    pub(super) fn destination(&self) -> Result<NodeId, RpcError> {
        node_id("destination_hex", &self.destination_hex)
    }

    pub(super) fn amount_msats(&self) -> Result<u64, RpcError> {
        match self.amount_msats {
            0 => Err(bad("amount_msats is at least 1")),
            amount => Ok(amount),
        }
    }

    /// How long an invoice lives is the payee's to say; the answer says until when. A wish must at least be one.
    pub(super) fn check_expiry(&self) -> Result<(), RpcError> {
        match self.expiry_seconds {
            Some(wish) if !EXPIRY.contains(&wish) => Err(bad(format!(
                "expiry_seconds is from {} to {}; the payee decides, and expires_at tells",
                EXPIRY.start(),
                EXPIRY.end()
            ))),
            _ => Ok(()),
        }
    }
}
