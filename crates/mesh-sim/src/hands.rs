//! What the hands of a real node do: obey the core's outputs, in their order.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::event::{Event, Input, LinkId, Output, Record};
use mesh_core::packet::{FrameKind, PacketView, units_of};

use crate::faults::Stage;
use crate::node::{CrashPoint, Dropped, NodeIndex};
use crate::simulation::{Happening, Simulation};

/// What may be written soon is written within this time.
const WRITTEN_SOON_MICROS: u64 = 50_000;

/// How long the chain source takes to answer anything.
const CHAIN_ANSWERS_AFTER: Duration = Duration::from_millis(3);

/// The core's hands.
impl Simulation {
    pub(crate) fn feed(&mut self, node: NodeIndex, input: Input) {
        let now = self.now_at(node);
        if let Some(core) = self.nodes[node.0].core.as_mut() {
            core.handle(now, input);
            self.after_input(node);
        }
    }

    pub(crate) fn after_input(&mut self, node: NodeIndex) {
        let Some(core) = self.nodes[node.0].core.as_mut() else {
            return;
        };
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll_output()).collect();
        let timeout = core.next_timeout();
        if let Some(old) = self.nodes[node.0].wake.take() {
            self.queue.remove(&old);
        }
        self.nodes[node.0].wake = timeout.map(|at| self.schedule_at(at, Happening::Wake { node }));
        self.write_and_obey(node, outputs);
    }

    /// The records of one input are one transaction, which takes with it what was to be written soon; what stands
    /// behind the first of them waits for it.
    pub(crate) fn write_and_obey(&mut self, node: NodeIndex, outputs: Vec<Output>) {
        let records: Vec<Record> = outputs.iter().filter_map(record_in).collect();
        let must_wait = outputs.iter().any(|output| matches!(output, Output::Persist(_)));
        let state = &mut self.nodes[node.0];
        let crash = match &state.crash {
            Some((point, when)) if must_wait && records.iter().any(when) => Some(*point),
            _ => None,
        };
        if must_wait && crash != Some(CrashPoint::BeforeWriting) {
            let soon = std::mem::take(&mut state.soon);
            state.disk.extend(soon.into_iter().chain(records));
        } else if !records.is_empty() {
            state.soon.extend(records);
            let life = state.life;
            let after = Duration::from_micros(self.random.below(WRITTEN_SOON_MICROS));
            self.schedule(after, Happening::Write { node, life });
        }
        for output in outputs {
            if crash.is_some() && matches!(output, Output::Persist(_)) {
                return self.kill(node);
            }
            self.obey(node, output);
        }
        if must_wait {
            self.tell_durable(node);
        }
    }

    /// A commit is done.
    pub(crate) fn tell_durable(&mut self, node: NodeIndex) {
        let state = &self.nodes[node.0];
        let records = (state.disk.len() - state.disk_at_start) as u64;
        self.feed(node, Input::Durable { records });
    }

    pub(crate) fn obey(&mut self, node: NodeIndex, output: Output) {
        match output {
            Output::Persist(record) | Output::PersistSoon(record) => self.note(&record),
            Output::Transmit { link, frame, .. }
            | Output::Receipt { link, frame }
            | Output::Forward { link, frame } => {
                self.transmit(node, link, frame);
            }
            Output::Deliver(delivery) => {
                self.note(&delivery);
                let units = units_of(1 + delivery.protocol_id.len() + delivery.payload.len());
                *self.carried_units.entry((node, delivery.session)).or_default() += units;
                self.nodes[node.0].deliveries.push(*delivery);
            }
            Output::AskWallet { ticket, question } => {
                let (life, asked) = (self.nodes[node.0].life, self.now().unix);
                let after = self.lightning.delay(&question);
                self.schedule(
                    after,
                    Happening::Wallet {
                        node,
                        life,
                        ticket,
                        question,
                        asked,
                    },
                );
            }
            Output::AskChain { ticket, question } => {
                let life = self.nodes[node.0].life;
                let happening = Happening::Chain {
                    node,
                    life,
                    ticket,
                    question,
                };
                self.schedule(CHAIN_ANSWERS_AFTER, happening);
            }
            Output::Answer { id, answer } => self.note_answer(node, id, answer),
            Output::Event(event) => {
                self.note(&event);
                if let Event::SessionContinued {
                    by,
                    path,
                    prices_msat,
                    ..
                } = event.as_ref()
                {
                    let payees = path.iter().skip(1).copied();
                    self.note_session(node, *by, payees.zip(prices_msat.iter().copied()).collect());
                }
                self.nodes[node.0].events.push(*event);
            }
            Output::Dropped { reason, link } => {
                self.note(&reason);
                let links = &self.nodes[node.0].links;
                let from = links
                    .iter()
                    .find(|(_, id)| Some(**id) == link)
                    .map(|(peer, _)| *peer);
                let at = self.now().unix;
                self.nodes[node.0].dropped.push(Dropped { at, reason, from });
            }
        }
    }

    pub(crate) fn transmit(&mut self, node: NodeIndex, link: LinkId, frame: Bytes) {
        let peer = self.nodes[node.0]
            .links
            .iter()
            .find(|(_, id)| **id == link)
            .map(|(peer, _)| *peer);
        if let Ok(view) = PacketView::parse(&frame)
            && view.kind == FrameKind::Data
            && !view.is_close()
            && !self.own_sessions.contains(&(node, view.session))
        {
            *self.carried_units.entry((node, view.session)).or_default() += view.units();
        }
        // A frame for a link that just broke is lost with it.
        if let Some(peer) = peer {
            self.put_on_link(node, peer, frame);
        }
    }

    pub(crate) fn put_on_link(&mut self, from: NodeIndex, to: NodeIndex, frame: Bytes) {
        let Some(link) = self.nodes[from.0].links.get(&to).copied() else {
            return;
        };
        let Some(direction) = self.directions.get_mut(&(from, to)) else {
            return;
        };
        let frames = match &mut direction.tamper {
            Some(tamper) => tamper(Stage::of(&frame), &frame),
            None => vec![frame],
        };
        for frame in frames {
            let stage = Stage::of(&frame);
            let arrivals = match self.directions.get(&(from, to)) {
                Some(direction) => direction.spec.arrivals(stage, &mut self.random),
                None => return,
            };
            for after in self.plans.apply(stage, from, to, arrivals) {
                let frame = frame.clone();
                self.schedule(
                    after,
                    Happening::Frame {
                        link,
                        from,
                        to,
                        frame,
                    },
                );
            }
        }
    }

    /// Sends a frame from a node over its own link, whatever the node itself would say to that.
    pub fn inject(&mut self, from: NodeIndex, to: NodeIndex, frame: Bytes) {
        self.put_on_link(from, to, frame);
    }
}

fn record_in(output: &Output) -> Option<Record> {
    match output {
        Output::Persist(record) | Output::PersistSoon(record) => Some((**record).clone()),
        _ => None,
    }
}
