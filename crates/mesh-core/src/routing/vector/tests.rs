//! One vector, and what neighbours and origins may do to it.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::announcement::Announcement;
use crate::certificate::Price;
use crate::drop_reason::DropReason;
use crate::identity::Identity;
use crate::limits::{
    ANNOUNCEMENT_LIFETIME, CLOCK_SKEW, CONTROL_BURST, DESTINATION_MEMORY, HANDED_ON_BURST,
    HANDED_ON_REQUEST_BURST, REQUEST_BURST,
};
use crate::routing::link_cost;
use crate::routing::update::{Distance, INFINITE, RouteUpdate, RoutingUpdate, SeqnoRequest};
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);
const ORIGIN: u8 = 9;

fn identity(byte: u8) -> Identity {
    Identity::from_seed([byte; 32]).unwrap()
}

fn id(byte: u8) -> NodeId {
    identity(byte).node_id()
}

fn body(msat_per_unit: u64) -> Bytes {
    let body = Body {
        price: Price {
            msat_per_unit,
            payable: true,
        },
        operator: None,
        addresses: Vec::new(),
        neighbours: Vec::new(),
    };
    body.encode().unwrap()
}

/// Node 1 with links 2, 3, … to the nodes of these numbers. It acknowledges nothing of itself: a test does.
struct Lab {
    vector: DistanceVector,
    now: Now,
    numbers: BTreeMap<LinkId, u64>,
}

impl Lab {
    fn new(neighbours: &[u8]) -> Self {
        let start = Now {
            instant: Instant(0) + SECOND,
            unix: UnixMillis(1_000_000_000),
        };
        let mut lab = Self {
            vector: DistanceVector::new(id(1), 5),
            now: start,
            numbers: BTreeMap::new(),
        };
        for neighbour in neighbours {
            let link = LinkId(u64::from(*neighbour));
            lab.vector.link_up(link, id(*neighbour), start.instant);
        }
        lab.pass(SECOND);
        lab
    }

    fn head(&self, seqno: u64, holds: Duration, body: &[u8]) -> Head {
        Head::sign(seqno, self.now.unix + holds, body, &identity(ORIGIN))
    }

    /// Lets time pass and every update be acknowledged at once; what was sent meanwhile.
    fn pass(&mut self, span: Duration) -> Vec<(u64, ControlMessage)> {
        let (start, end) = (self.now, self.now.instant + span);
        let mut sent = Vec::new();
        loop {
            for (link, message) in self.vector.take_messages() {
                if let ControlMessage::RoutingUpdate(update) = &message {
                    self.vector.on_ack(link, update.number, self.now.instant);
                }
                sent.push((link.0, message));
            }
            let Some(at) = self.vector.next_timeout().filter(|at| *at <= end) else {
                break;
            };
            self.now.instant = at.max(self.now.instant);
            self.vector.on_timeout(self.now.instant);
        }
        self.now = start + span;
        sent
    }

    fn tell(
        &mut self,
        from: u8,
        announcements: Vec<(Head, Option<Bytes>)>,
        planes: [Option<Distance>; 2],
    ) -> Vec<DropReason> {
        let link = LinkId(u64::from(from));
        let number = self.numbers.entry(link).or_default();
        *number += 1;
        let route = RouteUpdate {
            origin: id(ORIGIN),
            planes,
        };
        let update = RoutingUpdate {
            number: *number,
            announcements: announcements
                .into_iter()
                .map(|(head, body)| Announcement { head, body })
                .collect(),
            routes: if planes == [None; 2] {
                Vec::new()
            } else {
                vec![route]
            },
        };
        self.vector.on_update(link, update, self.now)
    }

    fn hops(&self) -> Option<u32> {
        Some(self.vector.next_hop(&id(ORIGIN), Plane::Hops)?.metric)
    }
}

fn hops(seqno: u64, metric: u32) -> [Option<Distance>; 2] {
    [None, Some(Distance { seqno, metric })]
}

fn updates(sent: &[(u64, ControlMessage)], to: u64) -> Vec<&RoutingUpdate> {
    let to_him = sent.iter().filter(|(link, _)| *link == to);
    to_him
        .filter_map(|(_, message)| match message {
            ControlMessage::RoutingUpdate(update) => Some(&**update),
            _ => None,
        })
        .collect()
}

#[test]
fn an_origin_that_announces_itself_all_the_time_piles_up_no_timers() {
    let mut lab = Lab::new(&[2, 3]);
    for seqno in 1..500 {
        let holds = if seqno % 2 == 0 {
            ANNOUNCEMENT_LIFETIME
        } else {
            SECOND / 100
        };
        let head = lab.head(seqno, holds, &body(1));
        assert_eq!(lab.tell(2, vec![(head, Some(body(1)))], hops(seqno, 3)), []);
        lab.pass(SECOND / 50);
    }
    assert!(lab.vector.timers.len() < 10, "{}", lab.vector.timers.len());
}

#[test]
fn routes_that_come_and_go_pile_up_no_timers() {
    let mut lab = Lab::new(&[2, 3]);
    let head = lab.head(1, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(head, Some(body(1)))], hops(1, 2));
    for _ in 0..500 {
        // Infeasible beside nothing: node 1 wants a seqno, and then it does not.
        lab.tell(2, Vec::new(), hops(1, INFINITE));
        lab.tell(3, Vec::new(), hops(1, 5));
        lab.tell(3, Vec::new(), hops(1, INFINITE));
        lab.tell(2, Vec::new(), hops(1, 2));
        lab.now = lab.now + SECOND / 1000;
    }
    assert!(lab.vector.timers.len() < 10, "{}", lab.vector.timers.len());
}

#[test]
fn an_origin_that_announces_itself_all_the_time_is_handed_on_at_a_bounded_rate_and_its_last_word_arrives() {
    let mut lab = Lab::new(&[2, 3]);
    let mut sent = Vec::new();
    let last = 1000;
    for seqno in 1..=last {
        let head = lab.head(seqno, ANNOUNCEMENT_LIFETIME, &body(seqno));
        lab.tell(2, vec![(head, Some(body(seqno)))], [None; 2]);
        sent.extend(lab.pass(SECOND / 100));
    }
    sent.extend(lab.pass(2 * SECOND));
    let handed_on: Vec<u64> = updates(&sent, 3)
        .iter()
        .flat_map(|update| {
            update
                .announcements
                .iter()
                .map(|announcement| announcement.head.seqno)
        })
        .collect();
    assert!(
        handed_on.len() <= HANDED_ON_BURST as usize + 12,
        "{}",
        handed_on.len()
    );
    assert_eq!(handed_on.last(), Some(&last));
}

#[test]
fn what_is_said_all_the_time_is_charted_and_written_down_at_a_bounded_rate_and_not_after_it_ended() {
    let mut lab = Lab::new(&[2]);
    for seqno in 1..=1000 {
        let head = lab.head(seqno, SECOND / 100, &body(1));
        let bytes = (seqno == 1).then(|| body(1));
        lab.tell(2, vec![(head, bytes)], [None; 2]);
    }
    lab.pass(2 * SECOND);
    let news = lab.vector.take_news();
    let count = |what: fn(&News) -> bool| news.iter().filter(|news| what(news)).count();
    assert_eq!(
        count(|news| matches!(news, News::Announced { .. })),
        HANDED_ON_BURST as usize
    );
    assert_eq!(
        count(|news| matches!(news, News::Seen { .. })),
        HANDED_ON_BURST as usize
    );
    let end = News::Withdrawn { origin: id(ORIGIN) };
    assert_eq!(news.last(), Some(&end));
}

#[test]
fn what_an_earlier_life_saw_is_forgotten_on_the_disk_too_when_it_cannot_be_replayed() {
    let mut lab = Lab::new(&[]);
    lab.vector.restore_seen(id(ORIGIN), 7, lab.now.unix + SECOND);
    lab.vector.expire_seen(lab.now.unix + SECOND);
    assert_eq!(lab.vector.take_news(), []);
    lab.vector.expire_seen(lab.now.unix + 2 * SECOND + CLOCK_SKEW);
    assert_eq!(lab.vector.take_news(), [News::Forgotten { origin: id(ORIGIN) }]);
    lab.vector.expire_seen(lab.now.unix + 2 * SECOND + CLOCK_SKEW);
    assert_eq!(lab.vector.take_news(), []);
}

#[test]
fn announcement_made_anew_holds_longer_though_its_body_did_not_come_again() {
    let mut lab = Lab::new(&[2]);
    let first = lab.head(1, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(first, Some(body(1)))], hops(1, 2));
    lab.vector.take_news();
    lab.vector.take_changed();
    lab.pass(ANNOUNCEMENT_LIFETIME / 2);
    let second = lab.head(2, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(second, None)], [None; 2]);
    let news = lab.vector.take_news();
    let announced = News::Announced {
        origin: id(ORIGIN),
        body: Body::decode(&body(1), &id(ORIGIN)).unwrap(),
        expires: second.expires,
    };
    assert!(news.contains(&announced), "{news:?}");
    assert_eq!(lab.vector.take_changed(), [id(ORIGIN)]);
    lab.pass(ANNOUNCEMENT_LIFETIME / 2 + SECOND);
    assert_eq!(lab.hops(), Some(3));
}

#[test]
fn routes_that_neighbours_told_before_are_used_again_when_an_origin_announces_itself_again() {
    let mut lab = Lab::new(&[2, 3]);
    let first = lab.head(1, 10 * SECOND, &body(1));
    lab.tell(2, vec![(first, Some(body(1)))], hops(1, 2));
    lab.pass(20 * SECOND);
    assert_eq!(lab.hops(), None);
    assert_eq!(lab.vector.alternatives(&id(ORIGIN), Plane::Hops), []);
    assert_eq!(lab.vector.shown(&id(ORIGIN)), []);
    assert_eq!(lab.tell(3, Vec::new(), hops(1, 1)), []);
    assert_eq!(lab.hops(), None);
    let again = lab.head(2, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(again, None)], [None; 2]);
    assert_eq!(lab.hops(), Some(2));
    lab.tell(3, Vec::new(), hops(1, INFINITE));
    assert_eq!(lab.hops(), None, "what 2 said is kept, and not feasible any more");
}

#[test]
fn neighbour_whose_route_was_refused_without_an_announcement_is_asked_when_there_is_one() {
    let mut lab = Lab::new(&[2, 3]);
    let too_far_ahead = lab.head(1, 2 * ANNOUNCEMENT_LIFETIME, &body(1));
    let refused = lab.tell(2, vec![(too_far_ahead, Some(body(1)))], hops(1, 2));
    assert_eq!(refused, [DropReason::Expired, DropReason::Unannounced]);
    lab.pass(SECOND);
    lab.now.unix = lab.now.unix + ANNOUNCEMENT_LIFETIME;
    lab.tell(2, vec![(too_far_ahead, Some(body(1)))], [None; 2]);
    let sent = lab.pass(SECOND);
    let asked: Vec<(u64, Plane)> = sent
        .iter()
        .filter_map(|(link, message)| match message {
            ControlMessage::SeqnoRequest(request) => Some((*link, request.plane)),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [(2, Plane::Cost), (2, Plane::Hops)]);
    lab.tell(2, Vec::new(), hops(1, 2));
    let sent = lab.pass(600 * SECOND);
    let asked = |(_, message): &&(u64, ControlMessage)| match message {
        ControlMessage::SeqnoRequest(request) => request.plane == Plane::Hops,
        _ => false,
    };
    assert_eq!(
        sent.iter().filter(asked).count(),
        0,
        "it told, and is asked no more"
    );
}

#[test]
fn body_that_somebody_took_off_is_given_to_those_who_lack_it_once() {
    let mut lab = Lab::new(&[2, 3]);
    let head = lab.head(1, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(3, vec![(head, None)], [None; 2]);
    lab.tell(2, vec![(head, Some(body(1)))], hops(1, 2));
    let sent = lab.pass(5 * SECOND);
    let bodies = |sent: &[(u64, ControlMessage)]| {
        let told = updates(sent, 3);
        let announcements = told.iter().flat_map(|update| &update.announcements);
        announcements
            .filter(|announcement| announcement.body.is_some())
            .count()
    };
    assert_eq!(bodies(&sent), 1);
    // A second neighbour of that kind is told it too, but asking again and again costs nothing.
    for _ in 0..10 {
        lab.tell(3, vec![(head, None)], [None; 2]);
    }
    assert_eq!(bodies(&lab.pass(5 * SECOND)), 0);
}

#[test]
fn head_that_comes_after_a_neighbour_handed_it_on_bare_is_answered_with_the_body() {
    let mut lab = Lab::new(&[2, 3]);
    let head = lab.head(1, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(head, Some(body(1)))], hops(1, 2));
    lab.tell(3, vec![(head, None)], [None; 2]);
    let sent = lab.pass(5 * SECOND);
    let told = updates(&sent, 3);
    let mut announcements = told.iter().flat_map(|update| &update.announcements);
    assert!(announcements.any(|announcement| announcement.body.is_some()));
}

#[test]
fn origin_at_the_end_of_the_numbers_makes_nobody_ask_for_number_nought() {
    let mut lab = Lab::new(&[2, 3]);
    let head = lab.head(u64::MAX, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(head, Some(body(1)))], hops(u64::MAX, 2));
    lab.tell(3, Vec::new(), hops(u64::MAX, 5));
    lab.tell(2, Vec::new(), hops(u64::MAX, INFINITE));
    let sent = lab.pass(60 * SECOND);
    let asked = sent
        .iter()
        .any(|(_, message)| matches!(message, ControlMessage::SeqnoRequest(_)));
    assert!(!asked);
}

#[test]
fn request_for_a_number_without_end_keeps_nobody_from_being_told_at_once() {
    let mut lab = Lab::new(&[2, 3, 4]);
    let first = lab.head(1, ANNOUNCEMENT_LIFETIME, &body(1));
    lab.tell(2, vec![(first, Some(body(1)))], hops(1, 2));
    lab.pass(5 * SECOND);
    let ask = |lab: &mut Lab, from: u64, seqno: u64| {
        let request = SeqnoRequest {
            origin: id(ORIGIN),
            plane: Plane::Hops,
            seqno,
            hops: 9,
        };
        let now = lab.now.instant;
        lab.vector.on_request(LinkId(from), request, now).unwrap();
    };
    ask(&mut lab, 3, u64::MAX);
    ask(&mut lab, 4, 2);
    let second = lab.head(2, ANNOUNCEMENT_LIFETIME, &body(1));
    // 4 has the announcement from elsewhere; only the route is news for it.
    lab.tell(4, vec![(second, None)], [None; 2]);
    lab.tell(2, vec![(second, None)], hops(2, 2));
    let sent = lab.pass(SECOND / 5);
    let told = updates(&sent, 4);
    assert!(told.iter().any(|update| !update.routes.is_empty()), "{sent:?}");
}

#[test]
fn requests_of_one_neighbour_are_handed_on_at_a_bounded_rate_and_leave_room_for_others() {
    let mut lab = Lab::new(&[2, 3, 4]);
    let announced: Vec<Identity> = (0..700_u16)
        .map(|number| {
            let mut secret = [77; 32];
            secret[..2].copy_from_slice(&number.to_be_bytes());
            Identity::from_seed(secret).unwrap()
        })
        .collect();
    for (number, origin) in announced.iter().enumerate() {
        let head = Head::sign(1, lab.now.unix + ANNOUNCEMENT_LIFETIME, &body(1), origin);
        let update = RoutingUpdate {
            number: number as u64 + 1,
            announcements: vec![Announcement { head, body: None }],
            routes: vec![RouteUpdate {
                origin: head.origin,
                planes: hops(1, 2),
            }],
        };
        assert_eq!(lab.vector.on_update(LinkId(2), update, lab.now), []);
    }
    let ask = |lab: &mut Lab, from: u64, origin: &Identity| {
        let request = SeqnoRequest {
            origin: origin.node_id(),
            plane: Plane::Hops,
            seqno: 2,
            hops: 9,
        };
        let now = lab.now.instant;
        lab.vector.on_request(LinkId(from), request, now)
    };
    let refused = announced
        .iter()
        .filter(|origin| ask(&mut lab, 3, origin).is_err())
        .count();
    assert_eq!(refused, 700 - HANDED_ON_REQUEST_BURST as usize);
    lab.pass(SECOND);
    assert_eq!(ask(&mut lab, 4, &announced[699]), Ok(()));
    let sent = lab.pass(SECOND);
    let asked = |(link, message): &&(u64, ControlMessage)| {
        *link == 2 && matches!(message, ControlMessage::SeqnoRequest(_))
    };
    assert_eq!(sent.iter().filter(asked).count(), 1);
}

#[test]
fn node_that_lost_its_way_to_thousands_still_has_its_updates_taken() {
    let mut lab = Lab::new(&[2, 3]);
    for number in 0..2_000_u64 {
        let mut secret = [78; 32];
        secret[..2].copy_from_slice(&(number as u16).to_be_bytes());
        let origin = Identity::from_seed(secret).unwrap();
        let head = Head::sign(1, lab.now.unix + ANNOUNCEMENT_LIFETIME, &body(1), &origin);
        let tell = |announcements, metric| RoutingUpdate {
            number: number + 1,
            announcements,
            routes: vec![RouteUpdate {
                origin: head.origin,
                planes: hops(1, metric),
            }],
        };
        let announcement = Announcement { head, body: None };
        lab.vector
            .on_update(LinkId(2), tell(vec![announcement], 2), lab.now);
        lab.vector.on_update(LinkId(3), tell(Vec::new(), 5), lab.now);
    }
    lab.pass(60 * SECOND);
    lab.vector.link_down(LinkId(2), lab.now.instant);
    let sent = lab.pass(SECOND);
    let control = sent.iter().filter(|(link, _)| *link == 3).count() as u64;
    assert!(control < CONTROL_BURST, "{control}");
    assert!(control > u64::from(REQUEST_BURST));
}

#[test]
fn node_that_lost_its_numbers_is_told_its_last_one_though_that_announcement_expired() {
    let mut lab = Lab::new(&[2]);
    let head = lab.head(70, SECOND, &body(1));
    lab.tell(2, vec![(head, Some(body(1)))], hops(70, 2));
    lab.pass(100 * SECOND);
    assert_eq!(lab.hops(), None);
    lab.vector.link_up(LinkId(50), id(ORIGIN), lab.now.instant);
    lab.vector.link_up(LinkId(3), id(3), lab.now.instant);
    let sent = lab.pass(5 * SECOND);
    let heads = |to| -> Vec<Head> {
        let told = updates(&sent, to);
        told.iter()
            .flat_map(|update| update.announcements.iter().map(|told| told.head))
            .collect()
    };
    assert_eq!(heads(50), [head]);
    assert_eq!(heads(3), [], "nobody else is");

    // And it goes on behind it.
    let mut origin = DistanceVector::new(id(ORIGIN), 1);
    origin.link_up(LinkId(1), id(1), lab.now.instant);
    let update = updates(&sent, 50)
        .into_iter()
        .find(|update| !update.announcements.is_empty());
    assert_eq!(origin.on_update(LinkId(1), update.unwrap().clone(), lab.now), []);
    assert!(origin.take_news().contains(&News::OwnIdSeen { seqno: 70 }));
}

#[test]
fn destination_that_ended_is_forgotten_and_its_place_and_share_are_free_again() {
    let mut lab = Lab::new(&[2, 3]);
    let head = lab.head(1, SECOND, &body(1));
    lab.tell(2, vec![(head, Some(body(1)))], hops(1, 2));
    assert_eq!(lab.hops(), Some(3));
    lab.pass(2 * SECOND);
    assert_eq!((lab.hops(), lab.vector.knows(&id(ORIGIN))), (None, true));
    let revived = lab.head(2, SECOND, &body(1));
    lab.tell(2, vec![(revived, None)], hops(1, 3));
    assert_eq!(
        lab.hops(),
        None,
        "the feasible distance outlives the announcement"
    );
    lab.pass(2 * SECOND + DESTINATION_MEMORY);
    assert!(
        lab.vector.knows(&id(ORIGIN)),
        "a neighbour still tells a route there"
    );
    lab.tell(2, Vec::new(), hops(1, INFINITE));
    lab.pass(2 * SECOND + DESTINATION_MEMORY);
    assert!(!lab.vector.knows(&id(ORIGIN)));
    assert_eq!(lab.vector.introduced.len(), 0);
    assert_eq!(lab.vector.vacant.len(), 1);
}

#[test]
fn metric_that_no_honest_neighbour_has_and_number_that_nobody_signed_win_no_route() {
    let told = |from: u8, planes| {
        let mut lab = Lab::new(&[2, ORIGIN]);
        let head = lab.head(7, ANNOUNCEMENT_LIFETIME, &body(5));
        let refused = lab.tell(from, vec![(head, Some(body(5)))], planes);
        (refused, lab.hops())
    };
    let cost = |metric| [Some(Distance { seqno: 7, metric }), None];
    let impossible = vec![DropReason::ImpossibleMetric];
    assert_eq!(
        told(2, hops(7, 0)),
        (impossible.clone(), None),
        "it is not the origin"
    );
    assert_eq!(
        told(ORIGIN, hops(7, 1)),
        (impossible.clone(), None),
        "from itself it is 0"
    );
    assert_eq!(
        told(2, hops(7, 11)),
        (impossible.clone(), None),
        "no route is as long"
    );
    let least = link_cost::HOP_COST + 1;
    assert_eq!(
        told(2, cost(least - 1)).0,
        impossible,
        "less than the cheapest link"
    );
    assert_eq!(told(2, hops(8, 1)), (vec![DropReason::Unannounced], None));
    assert_eq!(told(2, hops(7, 1)), (vec![], Some(2)));
    assert_eq!(told(ORIGIN, hops(7, 0)), (vec![], Some(1)));
    assert_eq!(told(2, cost(least)).0, vec![]);
}
