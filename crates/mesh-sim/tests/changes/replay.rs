//! A neighbour shows announcements again that it heard, and others that it made of them.

use bytes::Bytes;
use mesh_core::announcement::{Announcement, Body, Head};
use mesh_core::drop_reason::DropReason;
use mesh_core::message::{ControlMessage, RoutingUpdate};
use mesh_sim::{LinkSpec, NodeIndex, Simulation};

use super::*;

/// A row A-V-X, where X's price has changed since the villain, who hangs at V, heard of it.
struct Scene {
    sim: Simulation,
    victim: NodeIndex,
    origin: NodeIndex,
    villain: NodeIndex,
    /// X's announcement before it changed its price.
    old: Announcement,
    updates: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut sim = network(seed, 3, &[(0, 1), (1, 2)]);
        let (victim, origin) = (n(1), n(2));
        let villain = sim.add_villain();
        sim.connect(villain, victim, LinkSpec::default());
        sim.run_for(SECOND);
        let heard = sim.inbox(villain);
        let old = heard
            .iter()
            .find_map(|(_, frame)| announced(frame, sim.id(origin)))
            .unwrap();
        set_price(&mut sim, origin, 77);
        sim.run_for(TOLD);
        let mut scene = Self {
            sim,
            victim,
            origin,
            villain,
            old,
            updates: 0,
        };
        assert_eq!(scene.price_believed(), Some(77));
        assert!(
            scene.old.head.expires > scene.sim.now().unix,
            "it could still be believed"
        );
        scene.sim.inbox(villain);
        scene
    }

    /// The villain tells the victim.
    fn tell(&mut self, announcement: &Announcement) {
        self.updates += 1;
        let update = RoutingUpdate {
            number: self.updates,
            announcements: vec![announcement.clone()],
            routes: Vec::new(),
        };
        let frame = ControlMessage::RoutingUpdate(Box::new(update)).encode().unwrap();
        self.sim.inject(self.villain, self.victim, frame);
        self.sim.run_for(SECOND);
    }

    fn refusals(&self, reason: DropReason) -> usize {
        let dropped = self.sim.dropped(self.victim).iter();
        let of_villain = dropped.filter(|dropped| dropped.from == Some(self.villain));
        of_villain.filter(|dropped| dropped.reason == reason).count()
    }

    fn price_believed(&self) -> Option<u64> {
        let facts = self
            .sim
            .routing(self.victim)?
            .graph
            .facts(&self.sim.id(self.origin))?;
        Some(facts.price.msat_per_unit)
    }

    /// The victim dies and comes back, and hears nothing of X but from the villain.
    fn restart_victim_without_origin(&mut self) {
        self.sim.cut(self.victim, self.origin);
        self.sim.kill(self.victim);
        self.sim.run_for(SECOND);
        self.sim.restart(self.victim);
        self.sim.cut(n(0), self.victim);
        self.sim.run_for(SECOND);
        self.updates = 0;
        assert_eq!(self.price_believed(), None);
    }
}

/// The complete announcement of `origin` in a frame.
fn announced(frame: &Bytes, origin: NodeId) -> Option<Announcement> {
    let Ok(ControlMessage::RoutingUpdate(update)) = ControlMessage::decode(frame) else {
        return None;
    };
    let mut announcements = update.announcements.into_iter();
    announcements.find(|announcement| announcement.head.origin == origin && announcement.body.is_some())
}

#[test]
fn old_announcement_is_stale_and_changes_nothing() {
    let mut scene = Scene::new(1);
    let old = scene.old.clone();
    scene.tell(&old);
    scene.tell(&Announcement { body: None, ..old });
    assert_eq!(scene.refusals(DropReason::StaleAnnouncement), 2);
    assert_eq!(scene.price_believed(), Some(77));
}

#[test]
fn old_announcement_is_stale_for_a_victim_that_was_killed_in_between() {
    let mut scene = Scene::new(2);
    scene.restart_victim_without_origin();
    let old = scene.old.clone();
    scene.tell(&old);
    assert_eq!(scene.refusals(DropReason::StaleAnnouncement), 1);
    assert_eq!(scene.price_believed(), None);
    scene.sim.heal(scene.victim, scene.origin);
    scene.sim.run_for(TOLD);
    assert_eq!(scene.price_believed(), Some(77));
}

#[test]
fn victim_that_lost_what_it_wrote_down_believes_it_until_it_hears_better() {
    let mut scene = Scene::new(3);
    scene.sim.cut(scene.victim, scene.origin);
    scene.sim.cut(n(0), scene.victim);
    scene.sim.kill(scene.victim);
    scene.sim.lose_disk(scene.victim);
    scene.sim.restart(scene.victim);
    scene.sim.run_for(SECOND);
    let old = scene.old.clone();
    scene.tell(&old);
    assert_eq!(
        scene.price_believed(),
        Some(5),
        "so the record is what protects the others"
    );
    scene.sim.heal(scene.victim, scene.origin);
    scene.sim.run_for(TOLD);
    assert_eq!(scene.price_believed(), Some(77));
}

#[test]
fn forged_announcements_are_refused_each_by_its_name() {
    let mut scene = Scene::new(4);
    let mut fresher = scene.old.clone();
    fresher.head.seqno += 100;
    scene.tell(&fresher);
    assert_eq!(scene.refusals(DropReason::BadSignature), 1);

    let mut longer = scene.old.clone();
    longer.head.expires = longer.head.expires + SECOND;
    scene.tell(&longer);
    assert_eq!(scene.refusals(DropReason::BadSignature), 2);

    let id = scene.sim.id(scene.origin);
    let mut cheap = Body::decode(scene.old.body.as_ref().unwrap(), &id).unwrap();
    cheap.price.msat_per_unit = 0;
    let body = cheap.encode().unwrap();
    let swapped = Announcement {
        head: scene.old.head,
        body: Some(body.clone()),
    };
    scene.tell(&swapped);
    assert_eq!(scene.refusals(DropReason::Malformed), 1);

    let villain = scene.sim.identity(scene.villain);
    let mut head = Head::sign(
        scene.old.head.seqno + 100,
        scene.old.head.expires,
        &body,
        &villain,
    );
    head.origin = id;
    scene.tell(&Announcement {
        head,
        body: Some(body),
    });
    assert_eq!(scene.refusals(DropReason::BadSignature), 3);
    assert_eq!(scene.price_believed(), Some(77));
}

#[test]
fn old_announcement_is_refused_as_expired_when_its_hour_is_over() {
    let mut scene = Scene::new(5);
    scene.sim.run_for(62 * MINUTE);
    let old = scene.old.clone();
    scene.tell(&old);
    assert_eq!(scene.refusals(DropReason::Expired), 1);
    assert_eq!(scene.price_believed(), Some(77), "it was announced anew twice");
}
