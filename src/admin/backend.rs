//! What answers the requests: a node, seen through a small trait, and what the daemon knows of itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use mesh_core::chain::PaymentMethod;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Buying, Command, Delivery, NetworkPage, QuotedSlice, RouteInfo, Status};
use mesh_core::identity::NodeId;
use mesh_core::limits::{MAX_HOPS, MAX_NETWORK_PAGE, MAX_PROTOCOL_ID_BYTES};
use mesh_core::spending::Caller;
use mesh_net::CounterSnapshot;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use super::books::NodeBooks;
use super::wire::{
    AdminError, DiscoverParams, DoneReply, ListenParams, NetworkParams, QuoteParams, Request, SendParams,
    SendReply, SetPriceParams, Text, codes,
};
use super::{LOOKUP_GUARD, MAX_TIMEOUT, MAX_TTL, MAX_UNITS, SEND_GUARD, convert, wallet};
use crate::config::PaymentsConfig;
use crate::handle::{CommandError, NodeHandle, SendRequest, SentPacket};
use crate::wallet::Wallet;
use crate::wallet::none::NoWallet;

/// A node as the admin socket sees it: [`NodeHandle`], or a stand-in in tests.
#[async_trait]
pub trait Backend: Send + Sync {
    /// See [`NodeHandle::command`].
    async fn command(&self, command: Command) -> Result<Answer, CommandError>;
    /// See [`NodeHandle::send_packet`].
    async fn send_packet(&self, request: SendRequest) -> Result<SentPacket, CommandError>;
    /// See [`NodeHandle::deliveries`].
    fn deliveries(&self, protocol: Option<String>) -> mpsc::Receiver<Delivery>;
    /// See [`NodeHandle::undelivered`].
    fn undelivered(&self) -> u64;
    /// See [`NodeHandle::link_counters`].
    fn link_counters(&self) -> CounterSnapshot;
}

#[async_trait]
impl Backend for NodeHandle {
    async fn command(&self, command: Command) -> Result<Answer, CommandError> {
        Self::command(self, command).await
    }

    async fn send_packet(&self, request: SendRequest) -> Result<SentPacket, CommandError> {
        Self::send_packet(self, request).await
    }

    fn deliveries(&self, protocol: Option<String>) -> mpsc::Receiver<Delivery> {
        Self::deliveries(self, protocol)
    }

    fn undelivered(&self) -> u64 {
        Self::undelivered(self)
    }

    fn link_counters(&self) -> CounterSnapshot {
        Self::link_counters(self)
    }
}

/// What `status` says beyond what the core knows.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Where the node listens.
    pub listen_addr: Option<SocketAddr>,
    /// The Bitcoin network of its invoices.
    pub network: String,
    /// The wallet's backend.
    pub wallet: String,
    /// When it started.
    pub started: Instant,
}

/// Answers requests.
pub struct AdminService {
    backend: Arc<dyn Backend>,
    info: NodeInfo,
    payments: PaymentsConfig,
    wallet: Arc<dyn Wallet>,
    books: Option<NodeBooks>,
}

impl AdminService {
    /// A service for a node; `payments` says what Lightning fees may cost when a `send` does not.
    pub fn new(backend: Arc<dyn Backend>, info: NodeInfo, payments: PaymentsConfig) -> Self {
        Self {
            backend,
            info,
            payments,
            wallet: Arc::new(NoWallet),
            books: None,
        }
    }

    /// The same with the node's wallet, for whom it is asked about.
    #[must_use]
    pub fn with_wallet(self, wallet: Arc<dyn Wallet>) -> Self {
        Self { wallet, ..self }
    }

    /// The service, with the node's books to be read.
    #[must_use]
    pub fn with_books(mut self, books: NodeBooks) -> Self {
        self.books = Some(books);
        self
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    pub(super) fn books(&self) -> Result<&NodeBooks, AdminError> {
        self.books.as_ref().ok_or_else(convert::unexpected)
    }

    /// Answers everything but `listen`, within a bounded time.
    pub(crate) async fn answer(&self, request: Request) -> Result<Value, AdminError> {
        match request {
            Request::Status => {
                let status = self.status().await?;
                let links = self.backend.link_counters();
                to_json(convert::status(
                    status,
                    &self.info,
                    self.backend.undelivered(),
                    &links,
                ))
            }
            Request::Peers => to_json(convert::peers(&self.status().await?)),
            Request::Routes => to_json(convert::routes(self.routes(Command::Routes, LOOKUP_GUARD).await?)),
            Request::Explain(params) => to_json(self.explain(params).await?),
            Request::Shares => to_json(self.shares().await?),
            Request::Network(params) => to_json(convert::network(self.network(params).await?)),
            Request::SetPrice(params) => to_json(self.set_price(params).await?),
            Request::Discover(params) => to_json(convert::routes(self.discover(params).await?)),
            Request::Quote(params) => to_json(convert::quote(self.quote(params).await?)),
            Request::Send(params) => to_json(self.send(params).await?),
            Request::Wallet(params) => wallet::answer(self.wallet.as_ref(), params).await,
            Request::Ledger(params) => to_json(self.books()?.page(params).await?),
            Request::Fees => to_json(self.books()?.fees(&self.status().await?).await?),
            Request::Audit => to_json(self.books()?.audit().await?),
            Request::Treasury => to_json(self.treasury().await?),
            Request::PayTreasury(params) => to_json(self.pay_treasury(params).await?),
            Request::Listen(_) => Err(convert::unexpected()),
        }
    }

    /// Subscribes to what arrives.
    pub(super) fn listen(&self, params: ListenParams) -> Result<mpsc::Receiver<Delivery>, AdminError> {
        check_protocol(params.protocol.as_deref().unwrap_or_default())?;
        Ok(self.backend.deliveries(params.protocol))
    }

    async fn status(&self) -> Result<Status, AdminError> {
        match guarded(LOOKUP_GUARD, self.backend.command(Command::Status)).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(convert::unexpected()),
        }
    }

    async fn routes(&self, command: Command, guard: Duration) -> Result<Vec<RouteInfo>, AdminError> {
        match guarded(guard, self.backend.command(command)).await? {
            Answer::Routes(routes) => Ok(routes),
            _ => Err(convert::unexpected()),
        }
    }

    async fn network(&self, params: NetworkParams) -> Result<NetworkPage, AdminError> {
        if params.max_nodes == 0 || params.max_nodes > MAX_NETWORK_PAGE {
            return Err(AdminError::bad_request(format!(
                "max_nodes must be from 1 to {MAX_NETWORK_PAGE}"
            )));
        }
        let command = Command::Network {
            after: params.after.map(|Text(after)| after),
            most: params.max_nodes,
        };
        match guarded(LOOKUP_GUARD, self.backend.command(command)).await? {
            Answer::Network(page) => Ok(*page),
            _ => Err(convert::unexpected()),
        }
    }

    async fn set_price(&self, params: SetPriceParams) -> Result<DoneReply, AdminError> {
        let command = Command::SetPrice {
            msat_per_unit: params.msat_per_unit,
        };
        match guarded(LOOKUP_GUARD, self.backend.command(command)).await {
            Ok(Answer::Done) => Ok(DoneReply {}),
            Ok(_) => Err(convert::unexpected()),
            Err(error) if error.code == DropReason::BadCommand.as_str() => Err(AdminError::new(
                DropReason::BadCommand.as_str(),
                "this node carries for free, so it has no price to change",
                "set mode = \"payment_gated\" in [mesh] and restart it",
            )),
            Err(error) => Err(error),
        }
    }

    async fn discover(&self, params: DiscoverParams) -> Result<Vec<RouteInfo>, AdminError> {
        let timeout = checked_timeout(params.timeout_ms)?;
        let command = Command::Discover {
            destination: params.destination.0,
            max_hops: checked_hops(params.max_hops)?,
            timeout,
            refresh: params.refresh,
        };
        self.routes(command, timeout.saturating_add(LOOKUP_GUARD)).await
    }

    async fn quote(&self, params: QuoteParams) -> Result<QuotedSlice, AdminError> {
        if params.units == 0 || params.units > MAX_UNITS {
            return Err(AdminError::bad_request(format!(
                "units must be from 1 to {MAX_UNITS}; a unit is a started KiB of payload"
            )));
        }
        let timeout = checked_timeout(params.timeout_ms)?;
        let path = self.cheapest_path(&params).await?;
        let command = Command::Quote {
            path,
            class: params.class,
            units: params.units,
            buying: Buying::WhereNeeded,
            method: PaymentMethod::Lightning,
            timeout,
        };
        let guard = timeout.saturating_add(LOOKUP_GUARD);
        match guarded(guard, self.backend.command(command)).await? {
            Answer::Quoted(slice) => Ok(*slice),
            _ => Err(convert::unexpected()),
        }
    }

    async fn cheapest_path(&self, params: &QuoteParams) -> Result<Vec<NodeId>, AdminError> {
        let discover = DiscoverParams {
            destination: params.destination,
            max_hops: params.max_hops,
            timeout_ms: params.timeout_ms,
            refresh: false,
        };
        let routes = self.discover(discover).await?;
        let cheapest = routes.into_iter().next().ok_or_else(convert::unexpected)?;
        Ok(cheapest.path)
    }

    async fn send(&self, params: SendParams) -> Result<SendReply, AdminError> {
        let request = self.send_request(params)?;
        let packet = guarded(SEND_GUARD, self.backend.send_packet(request)).await?;
        Ok(convert::sent(packet))
    }

    fn send_request(&self, params: SendParams) -> Result<SendRequest, AdminError> {
        check_protocol(&params.protocol)?;
        let payload = hex::decode(&params.payload_hex)
            .map_err(|error| AdminError::bad_request(format!("payload_hex is not hexadecimal: {error}")))?;
        let limit = params.class.max_payload_bytes();
        if payload.len() > limit {
            return Err(AdminError::bad_request(format!(
                "the payload has {} bytes and one packet of class {} carries at most {limit}; split it",
                payload.len(),
                params.class
            )));
        }
        let ttl = Duration::from_millis(params.ttl_ms);
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(AdminError::bad_request(format!(
                "ttl_ms must be from 1 to {}",
                MAX_TTL.as_millis()
            )));
        }
        // Who names a limit decides by himself; who does not asks for what the caps allow.
        let auto_pay = params.max_total_msat.is_none().then_some(Caller::Operator);
        Ok(SendRequest {
            destination: params.destination.0,
            payload: Bytes::from(payload),
            protocol_id: params.protocol,
            ttl,
            max_hops: checked_hops(params.max_hops)?,
            timeout: checked_timeout(params.timeout_ms)?,
            class: params.class,
            max_total_msat: params.max_total_msat.unwrap_or(u64::MAX),
            max_fee_msat: params.max_fee_msat.unwrap_or(self.payments.caps.max_fee_msat),
            auto_pay,
        })
    }
}

/// The node answers every command within what the command allows; should it not, the client must not wait for ever.
pub(super) async fn guarded<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, AdminError> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AdminError::new(
            codes::NO_ANSWER,
            format!("the node did not answer within {} s", limit.as_secs()),
            "look at its log and at `status`; what was asked may still happen",
        )),
    }
}

fn checked_hops(hops: u8) -> Result<u8, AdminError> {
    match usize::from(hops) {
        1..=MAX_HOPS => Ok(hops),
        _ => Err(AdminError::bad_request(format!(
            "max_hops must be from 1 to {MAX_HOPS}"
        ))),
    }
}

fn checked_timeout(milliseconds: u64) -> Result<Duration, AdminError> {
    let timeout = Duration::from_millis(milliseconds);
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        return Err(AdminError::bad_request(format!(
            "timeout_ms must be from 1 to {}",
            MAX_TIMEOUT.as_millis()
        )));
    }
    Ok(timeout)
}

fn check_protocol(protocol: &str) -> Result<(), AdminError> {
    if protocol.len() <= MAX_PROTOCOL_ID_BYTES {
        return Ok(());
    }
    Err(AdminError::bad_request(format!(
        "a protocol's name has at most {MAX_PROTOCOL_ID_BYTES} bytes"
    )))
}

pub(super) fn to_json(reply: impl Serialize) -> Result<Value, AdminError> {
    serde_json::to_value(reply).map_err(|_| convert::unexpected())
}
