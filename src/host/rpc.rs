//! JSON-RPC through the Bitcoin node, for programs that speak nothing else: `meshsendpacket`, `meshpollreceived`,
//! `meshquoteroute`, `meshrequesthopinvoice` and `meshgetconcentration`.
//!
//! They are the ModuleAPI for one caller of its own name ([`CALLER`]): who may call the node's JSON-RPC has one budget, one set
//! of quotes and sessions, and polls what is for nobody else. Parameters are one object, alone or as the only element of a
//! list; what is missing, unknown or out of range is refused by name.

mod params;

use std::sync::Arc;
use std::time::Duration;

use mesh_api::{
    CallError, ClientError, Delivery, MeshClient, PayeeQuote, PaymentMethod, PollDeliveriesRequest,
    QuoteRouteRequest, QuoteRouteResponse, RouteQuote, SendPacketRequest, SendPacketResponse,
};
use mesh_core::identity::NodeId;
use mesh_core::spending::{Caller, ModuleName};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::admin::shares;
use crate::api::{CallerApi, MeshModuleApi};
use crate::handle::CommandError;
use params::{ConcentrationParams, HopInvoiceParams, PollParams, QuoteParams, SendParams};

/// Whose budget JSON-RPC spends. No module can be called so: its name is that of a directory.
pub const CALLER: &str = "rpc/";

/// The methods, each with what the node's `help` says of it.
pub const METHODS: [(&str, &str); 5] = [
    (
        "meshsendpacket",
        "Send one packet over the mesh: {\"request_hex\"} (an encoded send_packet request), or {\"destination_hex\", \
         \"payload_hex\", \"protocol_id\", \"ttl_seconds\"}",
    ),
    (
        "meshpollreceived",
        "Fetch packets that arrived: {\"protocol_id\", \"max_packets\": 1 to 64}",
    ),
    (
        "meshquoteroute",
        "What carrying packets to a node costs: {\"destination_hex\", \"units\", \"max_hops\"}",
    ),
    (
        "meshrequesthopinvoice",
        "An invoice of a node for credit with it: {\"destination_hex\", \"amount_msats\", \"expiry_seconds\"}",
    ),
    (
        "meshgetconcentration",
        "Who earns what this node pays, and what follows from it: {\"max_shares\": 1 to 256}",
    ),
];

/// Calls worked on at once; one may wait for a payment.
const MAX_CALLS: usize = 16;

/// How long a call may take: the node gives up after thirty seconds, and what it is told then nobody hears.
const PATIENCE: Duration = Duration::from_secs(25);

/// How quotes asked for here are paid.
const METHOD: PaymentMethod = PaymentMethod::Lightning;

/// How long quotes are waited for, in seconds: within [`PATIENCE`].
const QUOTE_SECONDS: u64 = 15;

/// Why a call has no result. Told as `code: what to do`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// There is no such method.
    #[error(
        "method_not_found: this module has no JSON-RPC method {0}; it has {names}",
        names = names()
    )]
    UnknownMethod(String),
    /// The parameters.
    #[error("invalid_params: {0}")]
    InvalidParams(String),
    /// The mesh refused.
    #[error("refused: {0}")]
    Refused(String),
    /// Too many calls.
    #[error("busy: {MAX_CALLS} JSON-RPC calls are under way; try again when some are answered")]
    Busy,
    /// It takes too long.
    #[error("timeout: not done within {} s; it may still take effect, so look before you pay or send again", PATIENCE.as_secs())]
    TimedOut,
}

fn names() -> String {
    METHODS.map(|(name, _)| name).join(", ")
}

impl From<ClientError> for RpcError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Request { source, .. } => Self::InvalidParams(source.to_string()),
            ClientError::TimedOut { .. } => Self::TimedOut,
            ClientError::Call {
                source: CallError::Refused { reason },
                ..
            } => Self::Refused(reason),
            error => Self::Refused(error.to_string()),
        }
    }
}

/// Answers JSON-RPC calls. Cheap to clone.
#[derive(Clone)]
pub struct RpcDoor {
    api: Arc<MeshModuleApi>,
    client: MeshClient<CallerApi>,
    places: Arc<Semaphore>,
}

impl RpcDoor {
    /// The door to a node's API.
    ///
    /// # Errors
    /// None that can be: [`CALLER`] is a name.
    pub fn new(api: Arc<MeshModuleApi>) -> Result<Self, mesh_core::spending::BadModuleName> {
        let caller = Caller::Module(ModuleName::new(CALLER)?);
        Ok(Self {
            client: MeshClient::new(api.for_caller(caller)),
            api,
            places: Arc::new(Semaphore::new(MAX_CALLS)),
        })
    }

    /// Answers one call. What takes too long goes on by itself, in its place: a payment must not be given up half-way.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn answer(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(RpcError::Busy);
        };
        let (door, method) = (self.clone(), method.to_owned());
        let work = tokio::spawn(async move {
            let answered = door.dispatch(&method, params).await;
            drop(place);
            answered
        });
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(RpcError::Refused(
                "the call ended badly; see this module's log".to_owned(),
            )),
            Err(_) => Err(RpcError::TimedOut),
        }
    }

    async fn dispatch(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "meshsendpacket" => self.send_packet(params::read(params)?).await,
            "meshpollreceived" => self.poll_received(params::read(params)?).await,
            "meshquoteroute" => self.quote_route(params::read(params)?).await,
            "meshrequesthopinvoice" => self.request_hop_invoice(params::read(params)?).await,
            "meshgetconcentration" => self.get_concentration(params::read(params)?).await,
            other => Err(RpcError::UnknownMethod(other.chars().take(64).collect())),
        }
    }

    async fn send_packet(&self, params: SendParams) -> Result<Value, RpcError> {
        let request: SendPacketRequest = params.request()?;
        let sent = self.client.send_packet(request).await?;
        Ok(sent_json(&sent))
    }

    async fn poll_received(&self, params: PollParams) -> Result<Value, RpcError> {
        let polled = self
            .client
            .poll_deliveries(PollDeliveriesRequest {
                max_deliveries: params.max_packets()?,
                protocol_id: params.protocol_id,
            })
            .await?;
        Ok(json!({
            "packets": polled.deliveries.iter().map(delivery_json).collect::<Vec<_>>(),
            "more": polled.more,
            "dropped": polled.dropped,
        }))
    }

    async fn quote_route(&self, params: QuoteParams) -> Result<Value, RpcError> {
        let quote = self.quote(params.request(QUOTE_SECONDS)?).await?;
        Ok(json!({
            "fee_sats": quote.total_fee_msat.div_ceil(1000),
            "fee_msats": quote.total_fee_msat,
            "quote_id": hex::encode(quote.quote_id),
            "route": quote.route.iter().map(hex::encode).collect::<Vec<_>>(),
            "payees": quote.payees.iter().map(payee_json).collect::<Vec<_>>(),
        }))
    }

    /// An invoice over as much as was asked for, or the next less that is a whole number of units.
    async fn request_hop_invoice(&self, params: HopInvoiceParams) -> Result<Value, RpcError> {
        let destination = params.destination()?;
        let most_msat = params.amount_msats()?;
        params.check_expiry()?;
        let price_msat = self.price_of(destination).await?;
        let mut units = (most_msat / price_msat).max(1);
        // Quotes are rounded to what payees can be paid, so the first guess may be a little too much.
        for _ in 0..2 {
            let quote = self
                .quote(params::quote_of(destination, units, QUOTE_SECONDS))
                .await?;
            let payee = quote.payees.iter().find(|payee| payee.payee == destination.0);
            let payee = payee
                .ok_or_else(|| RpcError::Refused("the node asks for nothing on this route".to_owned()))?;
            let invoice = payee.invoice.as_deref().ok_or_else(|| {
                RpcError::Refused(
                    "credit with that node covers this already; nothing is to be paid".to_owned(),
                )
            })?;
            if payee.amount_msat <= most_msat {
                return Ok(json!({
                    "invoice": invoice,
                    "amount_msats": payee.amount_msat,
                    "expires_at": payee.pay_by_unix_ms / 1000,
                    "quote_id": hex::encode(quote.quote_id),
                    "units": units,
                }));
            }
            let fits = u128::from(units) * u128::from(most_msat) / u128::from(payee.amount_msat);
            units = u64::try_from(fits).unwrap_or(units);
            if units == 0 {
                break;
            }
        }
        Err(RpcError::InvalidParams(format!(
            "amount_msats: no invoice of that node is for {most_msat} msat or less; ask for more"
        )))
    }

    /// What `blvm-mesh shares --json` prints, with at most so many shares.
    async fn get_concentration(&self, params: ConcentrationParams) -> Result<Value, RpcError> {
        let most = params.max_shares()?;
        let report = self.api.shares().await;
        let mut told = shares(&report.map_err(|error| RpcError::Refused(error.to_string()))?);
        told.entities.truncate(most);
        told.groups.truncate(most);
        serde_json::to_value(told).map_err(|error| RpcError::Refused(error.to_string()))
    }

    /// What a node charges per unit, in msat.
    async fn price_of(&self, destination: NodeId) -> Result<u64, RpcError> {
        let patience = Duration::from_secs(QUOTE_SECONDS / 2);
        let routes =
            self.api
                .node()
                .discover(destination, mesh_core::limits::MAX_HOPS as u8, patience, false);
        let routes = routes
            .await
            .map_err(|error: CommandError| RpcError::Refused(error.to_string()))?;
        let price = routes.first().and_then(|route| route.prices.last());
        match price {
            Some(price) if price.payable && price.msat_per_unit > 0 => Ok(price.msat_per_unit),
            Some(price) if price.msat_per_unit == 0 => Err(RpcError::Refused(
                "that node carries for nothing; there is nothing to pay".to_owned(),
            )),
            _ => Err(RpcError::Refused(
                "that node cannot be paid; it has no wallet".to_owned(),
            )),
        }
    }

    async fn quote(&self, request: QuoteRouteRequest) -> Result<RouteQuote, RpcError> {
        match self.client.quote_route(request).await? {
            QuoteRouteResponse::Quoted(quote) => Ok(quote),
            QuoteRouteResponse::Refused { reason } => Err(RpcError::Refused(reason)),
        }
    }
}

fn sent_json(sent: &SendPacketResponse) -> Value {
    json!({
        "success": sent.success,
        "packet_id": hex::encode(sent.packet_id),
        "route_length": sent.route_length,
        "estimated_cost_sats": sent.estimated_cost_sats,
        "error": sent.error,
        "required_quote_id": sent.required_quote().map(hex::encode),
    })
}

fn delivery_json(delivery: &Delivery) -> Value {
    json!({
        "protocol_id": delivery.protocol_id,
        "payload_hex": hex::encode(&delivery.payload),
        "source_hex": delivery.source.map(hex::encode),
        "packet_id": hex::encode(delivery.packet_id),
        "session_id": hex::encode(delivery.session_id),
        "sequence": delivery.sequence,
    })
}

fn payee_json(payee: &PayeeQuote) -> Value {
    json!({
        "payee": hex::encode(payee.payee),
        "amount_msats": payee.amount_msat,
        "invoice": payee.invoice,
        "pay_by_unix_ms": payee.pay_by_unix_ms,
        "redeem_by_unix_ms": payee.redeem_by_unix_ms,
    })
}

#[cfg(test)]
mod tests;
