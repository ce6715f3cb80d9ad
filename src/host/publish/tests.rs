use super::*;
use mesh_core::drop_reason::DropReason;
use mesh_core::identity::NodeId;
use std::sync::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Keeps what it is told, with the moment.
#[derive(Default)]
struct Kept(Mutex<Vec<(Instant, EventPayload)>>);

#[async_trait]
impl Publisher for Kept {
    async fn publish(&self, payload: EventPayload) -> bool {
        self.0.lock().unwrap().push((Instant::now(), payload));
        true
    }
}

struct Stage {
    events: broadcast::Sender<Arc<Event>>,
    kept: Arc<Kept>,
    counts: Arc<PublishCounts>,
}

impl Stage {
    fn new() -> Self {
        let (events, receiver) = broadcast::channel(1024);
        let (kept, counts) = (Arc::new(Kept::default()), Arc::new(PublishCounts::default()));
        tokio::spawn(publish_for_ever(receiver, kept.clone(), counts.clone()));
        Self { events, kept, counts }
    }

    fn happens(&self, event: Event) {
        self.events.send(Arc::new(event)).unwrap();
    }

    fn told(&self) -> Vec<EventPayload> {
        let kept = self.kept.0.lock().unwrap();
        kept.iter().map(|(_, payload)| payload.clone()).collect()
    }

    fn counted(&self, name: &str) -> u64 {
        let all = self.counts.all();
        all.iter().find(|(found, _)| *found == name).unwrap().1
    }
}

fn failed(to: u8) -> Event {
    Event::RouteFailed {
        destination: NodeId([to; 32]),
        reason: DropReason::NoRoute,
    }
}

fn paid(number: u8) -> Event {
    Event::PaymentVerified {
        payment_hash: [number; 32],
        invoice: Some("lnbcrt1".to_owned()),
        credit_msat: 90,
        treasury_msat: 10,
    }
}

#[tokio::test(start_paused = true)]
async fn others_are_told_what_happened_and_nothing_else() {
    let stage = Stage::new();
    stage.happens(Event::RouteDiscovered {
        path: vec![NodeId([1; 32]), NodeId([2; 32])],
        msat_per_unit: 30,
    });
    stage.happens(failed(3));
    stage.happens(paid(4));
    stage.happens(Event::OwnIdSeen { seqno: 1 });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        stage.told(),
        [
            EventPayload::RouteDiscovered {
                destination: vec![2; 32],
                route_path: vec!["01".repeat(32), "02".repeat(32)],
                route_cost: 30,
            },
            EventPayload::RouteFailed {
                destination: vec![3; 32],
                reason: "no_route".to_owned(),
            },
            EventPayload::PaymentVerified {
                payment_id: "04".repeat(32),
                amount_msats: 100,
                invoice: "lnbcrt1".to_owned(),
            },
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_storm_leaves_at_most_twenty_a_second_and_payments_before_routes() {
    let stage = Stage::new();
    for number in 0..250 {
        stage.happens(failed(number));
    }
    stage.happens(paid(1));
    for number in 0..250 {
        stage.happens(failed(number));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first_second = stage.told().len();
    assert!((19..=21).contains(&first_second), "{first_second}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let told = stage.told();
    assert!(told.len() <= MAX_WAITING + 1);
    assert!(
        told.iter()
            .any(|payload| matches!(payload, EventPayload::PaymentVerified { .. }))
    );
    assert_eq!(
        told.len() as u64 + stage.counted("dropped: too many") + stage.counted("overtaken by newer ones"),
        501
    );
}

#[tokio::test(start_paused = true)]
async fn of_the_same_news_only_the_newest_is_told() {
    let stage = Stage::new();
    stage.happens(paid(1));
    for _ in 0..100 {
        stage.happens(failed(7));
        stage.happens(Event::RouteDiscovered {
            path: vec![NodeId([7; 32])],
            msat_per_unit: 1,
        });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stage.told().len() <= 5, "{}", stage.told().len());
}
