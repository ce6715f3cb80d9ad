//! The honest part: A finds E, pays everybody on the way, and sends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_core::event::{Buying, Delivery, Event, Funding, QuotedSlice, RouteInfo};
use mesh_core::limits::MAX_HOPS;
use mesh_core::open::Receipt;
use mesh_core::routing_policy::TrafficClass;
use tokio::sync::{broadcast, mpsc};

use super::DemoError;
use super::stage::{Stage, wait_for};

/// Packets after the first.
pub(super) const PACKETS: u64 = 10_000;

/// Every payload is one unit.
pub(super) const PAYLOAD_BYTES: usize = 1024;

/// Packets sent one at a time, to measure how long one takes when nothing else is on the way.
const ALONE: u64 = 500;

/// Packets on the way at once in the stream: fewer than a reader of deliveries may fall behind.
const IN_FLIGHT: usize = 128;

const PATIENCE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(30);
const PROTOCOL: &str = "demo";

/// What happened in the honest part.
pub(super) struct Honest {
    pub(super) routes: Vec<RouteInfo>,
    pub(super) slice: QuotedSlice,
    pub(super) lightning_fees_msat: u64,
    pub(super) balances_before: Vec<u64>,
    pub(super) balances_after: Vec<u64>,
    pub(super) discovery: Duration,
    pub(super) quotes: Duration,
    pub(super) payment_and_open: Duration,
    pub(super) first_packet: Duration,
    /// One at a time, sorted.
    pub(super) alone: Vec<Duration>,
    pub(super) streamed: u64,
    pub(super) stream: Duration,
    pub(super) delivered: u64,
    pub(super) first_receipt: Receipt,
    pub(super) last_receipt: Receipt,
    pub(super) credit_left_msat: Vec<u64>,
    pub(super) treasury_owed_msat: u64,
    pub(super) booked_msat: Vec<u64>,
}

pub(super) async fn run(stage: &Stage, progress: &dyn Fn(&str)) -> Result<Honest, DemoError> {
    let payer = stage.payer().handle();
    let destination = stage.destination();
    let mut arrivals = destination.handle().deliveries(Some(PROTOCOL.to_owned()));
    let mut events = payer.events();
    let balances_before = stage.balances().await?;

    progress("A looks for routes to E");
    let started = Instant::now();
    let routes = payer
        .discover(destination.id(), MAX_HOPS as u8, PATIENCE, true)
        .await?;
    let discovery = started.elapsed();
    let Some(cheapest) = routes.first() else {
        return Err(DemoError::TooSlow {
            what: "a route",
            seconds: PATIENCE.as_secs(),
        });
    };

    progress("A asks every node on the cheapest route for a signed quote");
    let asked = Instant::now();
    let path = cheapest.path.clone();
    let slice = payer
        .quote(
            path,
            TrafficClass::Paid,
            PACKETS + 1,
            Buying::Everywhere,
            PATIENCE,
        )
        .await?;
    let quotes = asked.elapsed();

    progress("A pays every invoice over Lightning and opens the session");
    let paying = Instant::now();
    let funding = Funding::Wallet {
        proofs: Vec::new(),
        max_total_msat: slice.total_msat,
        max_fee_msat: slice.total_msat / 10,
        keep_funded: false,
    };
    let opened = payer.open(slice.id, funding).await?;
    let payment_and_open = paying.elapsed();

    progress("A sends the first packet");
    let sent = Instant::now();
    payer.send(opened.session, PROTOCOL, payload(0), TTL).await?;
    expect(&mut arrivals, 0).await?;
    let first_packet = sent.elapsed();
    let first_receipt = receipt_covering(&mut events, 1).await?;

    let alone = one_at_a_time(stage, &opened.session, &mut arrivals, progress).await?;
    progress("A streams the rest");
    let streaming = Instant::now();
    let streamed = PACKETS - ALONE;
    stream(stage, &opened.session, &mut arrivals).await?;
    let stream = streaming.elapsed();
    let last_receipt = receipt_covering(&mut events, PACKETS + 1).await?;

    progress("comparing what the Lightning balances really gained");
    let balances_after = stage.balances().await?;
    let (mut credit_left_msat, mut booked_msat) = (Vec::new(), Vec::new());
    for actor in &stage.actors {
        let status = actor.status().await?;
        credit_left_msat.push(status.payers_credit_msat);
        booked_msat.push(status.earned_msat);
    }
    Ok(Honest {
        lightning_fees_msat: opened.paid.iter().map(|(_, _, fee)| fee).sum(),
        treasury_owed_msat: destination.status().await?.treasury_owed_msat,
        routes,
        slice,
        balances_before,
        balances_after,
        discovery,
        quotes,
        payment_and_open,
        first_packet,
        alone,
        streamed,
        stream,
        // Every delivery was waited for and compared, the first included.
        delivered: PACKETS + 1,
        first_receipt,
        last_receipt,
        credit_left_msat,
        booked_msat,
    })
}

async fn one_at_a_time(
    stage: &Stage,
    session: &mesh_core::keys::SessionId,
    arrivals: &mut mpsc::Receiver<Delivery>,
    progress: &dyn Fn(&str),
) -> Result<Vec<Duration>, DemoError> {
    progress("A sends packets one at a time");
    let mut alone = Vec::new();
    for number in 1..=ALONE {
        let sent = Instant::now();
        stage
            .payer()
            .handle()
            .send(*session, PROTOCOL, payload(number), TTL)
            .await?;
        expect(arrivals, number).await?;
        alone.push(sent.elapsed());
    }
    alone.sort();
    Ok(alone)
}

async fn stream(
    stage: &Stage,
    session: &mesh_core::keys::SessionId,
    arrivals: &mut mpsc::Receiver<Delivery>,
) -> Result<(), DemoError> {
    let window = std::sync::Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT));
    let (handle, session, permits) = (stage.payer().handle().clone(), *session, window.clone());
    let sender = tokio::spawn(async move {
        for number in ALONE + 1..=PACKETS {
            // The window is never closed.
            if let Ok(permit) = permits.acquire().await {
                permit.forget();
            }
            handle.send(session, PROTOCOL, payload(number), TTL).await?;
        }
        Ok::<(), DemoError>(())
    });
    for number in ALONE + 1..=PACKETS {
        if let Err(error) = expect(arrivals, number).await {
            sender.abort();
            return Err(error);
        }
        window.add_permits(1);
    }
    sender.await.map_err(|_| DemoError::TooSlow {
        what: "the sender",
        seconds: 0,
    })?
}

/// A payload that tells its number and is different everywhere.
fn payload(number: u64) -> Bytes {
    let mut bytes = vec![0; PAYLOAD_BYTES];
    blake3::Hasher::new()
        .update(&number.to_be_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes.into()
}

/// The next delivery must be just this payload: in order, unaltered, none missing, none twice.
async fn expect(arrivals: &mut mpsc::Receiver<Delivery>, number: u64) -> Result<(), DemoError> {
    let late = DemoError::TooSlow {
        what: "a delivery",
        seconds: PATIENCE.as_secs(),
    };
    match tokio::time::timeout(PATIENCE, arrivals.recv()).await {
        Ok(Some(delivery)) if delivery.payload == payload(number) => Ok(()),
        Ok(_) => Err(DemoError::TooSlow {
            what: "the right payload (another one came)",
            seconds: 0,
        }),
        Err(_) => Err(late),
    }
}

async fn receipt_covering(
    events: &mut broadcast::Receiver<std::sync::Arc<Event>>,
    packets: u64,
) -> Result<Receipt, DemoError> {
    let mut newest = None;
    wait_for("the destination's signed receipt", || {
        loop {
            match events.try_recv() {
                Ok(event) => {
                    if let Event::Receipt(receipt) = event.as_ref() {
                        newest = Some(receipt.clone());
                    }
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        let covering = newest.clone().filter(|receipt| receipt.packets >= packets);
        async move { Ok(covering) }
    })
    .await
}
