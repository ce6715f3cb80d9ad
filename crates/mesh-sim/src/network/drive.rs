//! Driving the cores: inputs in, outputs obeyed, wake-ups kept.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::check::check;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Command, CommandId, Input, LinkId, Output, Record, Ticket, WalletAnswer, WalletQuestion,
};
use mesh_core::identity::SignatureVerifier;
use mesh_core::packet::{FrameKind, Preamble};
use mesh_core::verifier::Settlement;

use super::links::Direction;
use super::{Happening, Network};

/// How long after the core asked for something to be written soon it is on the disk.
const WRITE_SOON: Duration = Duration::from_millis(20);

impl Network {
    pub(super) fn schedule(&mut self, after: Duration, happening: Happening) {
        let at = self.now + u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 2);
        self.queue.push(at, happening);
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        self.totals.events += 1;
        match happening {
            Happening::Frame {
                direction,
                generation,
                frame,
            } => self.arrive(direction, generation, frame),
            Happening::LinkUp { link, generation } => self.links_ends_notice(link as usize, generation),
            Happening::LinkDown { node, link } => self.feed(node as usize, Input::LinkDown { link }),
            Happening::Wake { node } => self.wake(node as usize),
            Happening::Write { node, life } => {
                let node = &mut self.nodes[node as usize];
                if node.life == life {
                    for record in std::mem::take(&mut node.soon) {
                        node.disk.write(record);
                    }
                }
            }
            Happening::Wallet {
                node,
                life,
                ticket,
                answer,
            } => {
                if self.nodes[node as usize].life == life {
                    let answer = *answer;
                    self.feed(node as usize, Input::Wallet { ticket, answer });
                }
            }
            Happening::PacketWanted { pair } => self.packet_wanted(pair as usize),
            Happening::TrafficGoesOn { pair } => self.go_on(pair as usize),
            Happening::VillainActs { node } => self.villain_acts(node as usize),
            Happening::LinkBreaks { link, down_ms } => self.break_link(link, down_ms),
            Happening::LinkHeals { link } => self.heal_link(link as usize),
        }
    }

    fn links_ends_notice(&mut self, link: usize, generation: u32) {
        let state = &self.links.all[link];
        if !state.up || state.generation != generation {
            return;
        }
        let (ends, id) = (state.ends, self.links.id(link));
        for (end, peer) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let peer = self.nodes[peer as usize].id;
            self.feed(end as usize, Input::LinkUp { link: id, peer });
        }
    }

    /// A timer may have been put off since: then the node is woken when it is due.
    fn wake(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.wake_at != self.now {
            return;
        }
        state.wake_at = u64::MAX;
        let due = state.core.as_ref().and_then(|core| core.next_timeout());
        if due.is_some_and(|at| at.0 <= self.now) {
            self.feed(node, Input::Timeout);
        } else {
            self.sleep(node);
        }
    }

    /// Sees to it that the node is woken when its core wants to be. A wake-up that is no longer wanted stays in the
    /// queue, where taking it out would cost more than skipping it.
    fn sleep(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(at) = state.core.as_ref().and_then(|core| core.next_timeout()) else {
            return;
        };
        let at = at.0.max(self.now);
        if at < state.wake_at {
            state.wake_at = at;
            self.queue.push(at, Happening::Wake { node: node as u32 });
        }
    }

    fn arrive(&mut self, direction: Direction, generation: u32, frame: Bytes) {
        let link = &self.links.all[direction.link()];
        if !link.up || link.generation != generation {
            self.totals.lost += 1;
            return;
        }
        let (from, to) = self.links.ends(direction);
        self.note_frame(from, to, &frame);
        let id = self.links.id(direction.link());
        if !self.villain_hears(to, id, &frame) {
            return;
        }
        let input = self.input_of(id, to, frame);
        self.feed(to, input);
    }

    fn note_frame(&mut self, from: usize, to: usize, frame: &[u8]) {
        self.totals.frames += 1;
        self.totals.bytes += frame.len() as u64;
        let mut head = [0; 16];
        head[..8].copy_from_slice(&self.now.to_be_bytes());
        head[8..12].copy_from_slice(&(from as u32).to_be_bytes());
        head[12..].copy_from_slice(&(to as u32).to_be_bytes());
        self.hash.update(&head).update(frame);
    }

    fn input_of(&self, link: LinkId, to: usize, frame: Bytes) -> Input {
        let is_control = Preamble::parse(&frame).is_ok_and(|preamble| preamble.kind == FrameKind::Control);
        if !is_control {
            return Input::Frame { link, frame };
        }
        let verifier: &dyn SignatureVerifier = self.signatures.as_ref();
        match check(&frame, &self.nodes[to].id, verifier) {
            Ok(message) => Input::Message {
                link,
                message: Box::new(message),
            },
            Err(reason) => Input::Rejected { link, reason },
        }
    }

    /// Gives a node a command; its answer is there at once or later, or never when the node dies.
    pub fn command(&mut self, node: usize, command: Command) -> CommandId {
        let id = self.next_command_id();
        self.give_command(node, id, command);
        id
    }

    pub(super) fn next_command_id(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId(self.next_command)
    }

    pub(super) fn give_command(&mut self, node: usize, id: CommandId, command: Command) {
        self.feed(node, Input::Command { id, command });
    }

    /// One input, and all that follows from it; nothing when the node is down.
    pub(super) fn feed(&mut self, node: usize, input: Input) {
        let now = self.now_at(node);
        let Some(core) = self.nodes[node].core.as_mut() else {
            return;
        };
        core.handle(now, input);
        self.obey_outputs(node);
    }

    pub(super) fn obey_outputs(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].core.as_mut().and_then(|core| core.poll_output()) {
            self.obey(node, output);
        }
        self.watch_changes(node);
        self.sleep(node);
    }

    fn obey(&mut self, node: usize, output: Output) {
        match output {
            Output::Transmit { link, frame, .. } | Output::Receipt { link, frame } => {
                self.send_control(node, link, frame);
            }
            Output::Forward { link, frame } => {
                let villain = self.nodes[node].villain.as_ref();
                if villain.is_none_or(|villain| villain.carries_packets()) {
                    self.send_frame(node, link, frame);
                }
            }
            Output::Answer { id, answer } => {
                if !self.traffic_answered(id, &answer) {
                    self.answers.insert(id, answer);
                }
            }
            Output::Deliver(delivery) => self.traffic_delivered(&delivery),
            Output::Event(event) => self.traffic_heard(&event),
            Output::Persist(record) => self.nodes[node].disk.write(*record),
            Output::PersistSoon(record) => self.write_soon(node, *record),
            Output::Dropped { reason, .. } => *self.dropped.entry(reason).or_default() += 1,
            Output::AskWallet { ticket, question } => self.refuse_payment(node, ticket, &question),
            // Nobody in these networks is paid on the chain, so nobody asks.
            Output::AskChain { .. } => {}
        }
    }

    fn send_control(&mut self, node: usize, link: LinkId, frame: Bytes) {
        let villain = self.nodes[node].villain.as_mut();
        let instead = villain.and_then(|villain| villain.instead_of(&frame));
        self.send_frame(node, link, instead.unwrap_or(frame));
    }

    pub(super) fn send_frame(&mut self, node: usize, link: LinkId, frame: Bytes) {
        let Some(direction) = self.links.direction(link, node) else {
            self.totals.lost += 1;
            return;
        };
        let generation = self.links.all[direction.link()].generation;
        let Some(at) = self.links.arrival(direction, self.now) else {
            self.totals.lost += 1;
            return;
        };
        if let Some(later) = self.links.repeated_after() {
            let again = Happening::Frame {
                direction,
                generation,
                frame: frame.clone(),
            };
            self.queue.push(at + later, again);
        }
        let happening = Happening::Frame {
            direction,
            generation,
            frame,
        };
        self.queue.push(at, happening);
    }

    /// Nobody has a wallet here, and nobody in mode `open` should ask for one; it is said when somebody does.
    fn refuse_payment(&mut self, node: usize, ticket: Ticket, question: &WalletQuestion) {
        let reason = DropReason::PaymentsUnavailable;
        *self.dropped.entry(reason).or_default() += 1;
        let answer = match question {
            WalletQuestion::CreateInvoice { .. } => WalletAnswer::Invoice(Err(reason)),
            WalletQuestion::CheckProof { .. } => WalletAnswer::Proof(Err(reason)),
            WalletQuestion::Settlement { .. } => WalletAnswer::Settlement(Settlement::Unknown),
            WalletQuestion::Probe { .. } => WalletAnswer::Probed(Err(reason)),
            WalletQuestion::TreasuryBill { .. } => WalletAnswer::TreasuryBill(Err(reason)),
            WalletQuestion::LookUp { .. } | WalletQuestion::Pay { .. } | WalletQuestion::PayOffer { .. } => {
                WalletAnswer::Paid(Err(reason))
            }
        };
        let life = self.nodes[node].life;
        let happening = Happening::Wallet {
            node: node as u32,
            life,
            ticket,
            answer: Box::new(answer),
        };
        self.schedule(Duration::ZERO, happening);
    }

    fn write_soon(&mut self, node: usize, record: Record) {
        let state = &mut self.nodes[node];
        state.soon.push(record);
        if state.soon.len() == 1 {
            let life = state.life;
            let node = node as u32;
            self.schedule(WRITE_SOON, Happening::Write { node, life });
        }
    }
}
