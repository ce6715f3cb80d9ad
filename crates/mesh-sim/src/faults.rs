//! What links do to frames: by rates, or to one frame by plan.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_core::keys::TAG_BYTES;
use mesh_core::message::ControlMessage;
use mesh_core::packet::{FrameKind, PacketView, Preamble};

use crate::node::NodeIndex;
use crate::random::Random;

/// What a frame is for: faults can be told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A discovery request.
    DiscoveryRequest,
    /// A discovery's answer.
    DiscoveryResponse,
    /// A request for quotes.
    QuoteRequest,
    /// A quote, or the refusal of one.
    QuoteResponse,
    /// An open on its way.
    Open,
    /// The destination's word that the session is open.
    Ack,
    /// A packet.
    Data,
    /// The destination's word on what arrived.
    Receipt,
    /// A hop's error for the source.
    HopError,
    /// The undifferentiated refusal between neighbours.
    Refused,
    /// What changed of a neighbour's routes.
    RoutingUpdate,
    /// The word that an update was taken in.
    RoutingAck,
    /// A request for a fresher route.
    SeqnoRequest,
    /// Nothing a node would send.
    Garbage,
}

impl Stage {
    /// Everything that happens between looking for a way and the receipt.
    pub const ALL_OF_A_TRIP: [Self; 8] = [
        Self::DiscoveryRequest,
        Self::DiscoveryResponse,
        Self::QuoteRequest,
        Self::QuoteResponse,
        Self::Open,
        Self::Ack,
        Self::Data,
        Self::Receipt,
    ];

    /// What a frame is for.
    pub fn of(frame: &[u8]) -> Self {
        let Ok(preamble) = Preamble::parse(frame) else {
            return Self::Garbage;
        };
        match preamble.kind {
            FrameKind::Data => Self::Data,
            FrameKind::HopError => Self::HopError,
            FrameKind::Open => Self::Open,
            // Both are sealed; only the ack is a single byte inside.
            FrameKind::Back => match PacketView::parse(frame) {
                Ok(view) if view.sealed().len() == TAG_BYTES + 1 => Self::Ack,
                Ok(_) => Self::Receipt,
                Err(_) => Self::Garbage,
            },
            FrameKind::Control => match ControlMessage::decode(frame) {
                Ok(ControlMessage::DiscoveryRequest(_)) => Self::DiscoveryRequest,
                Ok(ControlMessage::DiscoveryResponse(_)) => Self::DiscoveryResponse,
                Ok(ControlMessage::QuoteRequest(_)) => Self::QuoteRequest,
                Ok(ControlMessage::QuoteResponse(_)) => Self::QuoteResponse,
                Ok(ControlMessage::Refused) => Self::Refused,
                Ok(ControlMessage::RoutingUpdate(_)) => Self::RoutingUpdate,
                Ok(ControlMessage::RoutingAck { .. }) => Self::RoutingAck,
                Ok(ControlMessage::SeqnoRequest(_)) => Self::SeqnoRequest,
                Err(_) => Self::Garbage,
            },
        }
    }
}

/// How often what goes wrong, in parts per million of the frames. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// Frames lost.
    pub loss: u32,
    /// Frames that arrive twice; the second one up to a second later.
    pub duplicate: u32,
    /// Frames held back long enough to be overtaken.
    pub reorder: u32,
    /// Each frame is late by up to this.
    pub jitter: Duration,
}

/// One direction of a link.
#[derive(Debug, Clone, Default)]
pub struct LinkSpec {
    /// How long a frame takes at the least; 10 ms when zero.
    pub latency: Duration,
    /// Faults of every frame…
    pub rates: FaultRates,
    /// …unless its stage has its own.
    pub by_stage: BTreeMap<Stage, FaultRates>,
}

impl LinkSpec {
    /// A link with these rates for every frame.
    pub fn faulty(rates: FaultRates) -> Self {
        Self {
            rates,
            ..Self::default()
        }
    }

    fn rates_of(&self, stage: Stage) -> FaultRates {
        self.by_stage.get(&stage).copied().unwrap_or(self.rates)
    }

    /// After how long each copy of a frame arrives: no copy, one, or two.
    pub(crate) fn arrivals(&self, stage: Stage, random: &mut Random) -> Vec<Duration> {
        let rates = self.rates_of(stage);
        let base = if self.latency.is_zero() {
            LATENCY
        } else {
            self.latency
        };
        if random.chance(rates.loss) {
            return Vec::new();
        }
        let mut late = base + up_to(rates.jitter, random);
        if random.chance(rates.reorder) {
            late += HELD_BACK + up_to(HELD_BACK, random);
        }
        let mut arrivals = vec![late];
        if random.chance(rates.duplicate) {
            arrivals.push(base + up_to(Duration::from_secs(1), random));
        }
        arrivals
    }
}

const LATENCY: Duration = Duration::from_millis(10);

/// Longer than several hops take, so that what is held back is overtaken; shorter than any timeout.
const HELD_BACK: Duration = Duration::from_millis(120);

fn up_to(most: Duration, random: &mut Random) -> Duration {
    Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
}

/// What happens to one frame by plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It arrives twice, the second time 300 ms later.
    Duplicated,
    /// It is held back for 300 ms, so that later ones overtake it.
    HeldBack,
}

/// One planned fault: the `nth` frame of a stage (0 is the first), on one directed link or on any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Which frames are counted.
    pub stage: Stage,
    /// Which of them it happens to.
    pub nth: usize,
    /// What happens.
    pub fate: Fate,
    /// Only frames from and to these; any when none.
    pub on: Option<(NodeIndex, NodeIndex)>,
}

/// Plans with how many frames each has counted.
#[derive(Debug, Default)]
pub(crate) struct Plans(Vec<(Plan, usize)>);

impl Plans {
    pub(crate) fn add(&mut self, plan: Plan) {
        self.0.push((plan, 0));
    }

    /// Counts a frame and changes its arrivals if a plan says so.
    pub(crate) fn apply(
        &mut self,
        stage: Stage,
        from: NodeIndex,
        to: NodeIndex,
        mut arrivals: Vec<Duration>,
    ) -> Vec<Duration> {
        let later = Duration::from_millis(300);
        for (plan, counted) in &mut self.0 {
            if plan.stage != stage || plan.on.is_some_and(|on| on != (from, to)) {
                continue;
            }
            if *counted == plan.nth {
                match plan.fate {
                    Fate::Lost => arrivals.clear(),
                    Fate::Duplicated => {
                        let second = arrivals.first().map(|first| *first + later);
                        arrivals.extend(second);
                    }
                    Fate::HeldBack => arrivals.iter_mut().for_each(|arrival| *arrival += later),
                }
            }
            *counted += 1;
        }
        arrivals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_touches_only_the_frame_it_names() {
        let (a, b) = (NodeIndex(0), NodeIndex(1));
        let mut plans = Plans::default();
        plans.add(Plan {
            stage: Stage::Open,
            nth: 1,
            fate: Fate::Lost,
            on: Some((a, b)),
        });
        let one = || vec![LATENCY];
        assert_eq!(plans.apply(Stage::Open, a, b, one()), one());
        assert_eq!(plans.apply(Stage::Open, b, a, one()), one());
        assert_eq!(plans.apply(Stage::Data, a, b, one()), one());
        assert!(plans.apply(Stage::Open, a, b, one()).is_empty());
        assert_eq!(plans.apply(Stage::Open, a, b, one()), one());
    }

    #[test]
    fn rates_of_a_stage_stand_instead_of_the_links_own() {
        let always = FaultRates {
            loss: crate::random::MILLION,
            ..FaultRates::default()
        };
        let mut spec = LinkSpec::faulty(always);
        spec.by_stage.insert(Stage::Data, FaultRates::default());
        let mut random = Random::new(1);
        assert!(spec.arrivals(Stage::Open, &mut random).is_empty());
        assert_eq!(spec.arrivals(Stage::Data, &mut random), [LATENCY]);
    }
}
