//! The packet path: what happens to every packet of every session, cheap before dear.

use bytes::Bytes;

use crate::drop_reason::DropReason;
use crate::event::{Channel, Delivery, LinkId, Output};
use crate::identity::Signature;
use crate::keys::{SessionId, TAG_BYTES};
use crate::limits::{
    CLOCK_SKEW, HOP_ERROR_INTERVAL, LEASES_PER_STEP, RECEIPT_EVERY_PACKETS, RECEIPT_INTERVAL,
};
use crate::open::{BackMessage, HopErrorView, HopRefusal, Receipt, build_hop_error, split_content};
use crate::packet::{self, FrameKind, PacketParts, PacketView};
use crate::time::Now;

use super::{Core, Timer};

impl Core {
    /// A packet on its way to the destination.
    pub(super) fn on_data(&mut self, now: Now, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        let from = self.neighbours.on_link(link).ok_or(DropReason::Unsolicited)?;
        let view = PacketView::parse(&frame)?;
        let session = self
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        if session.previous != from || session.hops != view.hops {
            return Err(DropReason::WrongHop);
        }
        if view.expiry + CLOCK_SKEW < now.unix || session.expires < now.unix {
            return Err(DropReason::Expired);
        }
        session.window.check(view.sequence)?;
        if !view.tag_matches(session.index, &session.tag_key) {
            return Err(DropReason::BadTag);
        }
        if view.is_close() {
            return self.on_close(now, &view, &frame);
        }
        // From here on the packet is the source's own, so a refusal is told to the source.
        match self.carry(now, &view, &frame) {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.tell_source(now, &view.session, reason);
                Err(reason)
            }
        }
    }

    fn carry(&mut self, now: Now, view: &PacketView<'_>, frame: &Bytes) -> Result<(), DropReason> {
        let session = self
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        let next = match session.next {
            Some(next) => Some(self.neighbours.link_of(next).ok_or(DropReason::NextHopGone)?),
            None => None,
        };
        if session.class.is_in_clear() {
            let content = view
                .sealed()
                .split_last_chunk::<TAG_BYTES>()
                .ok_or(DropReason::ContentMismatch)?
                .0;
            // The source sealed it this way; the neighbour that brought it has only passed it on.
            let payload = split_content(content).map_err(|_| DropReason::ContentMismatch)?.1;
            self.policy.check_content(session.class, payload)?;
        }
        let content = match &session.end {
            Some(end) => Some(view.open(&end.payload).ok_or(DropReason::PayloadAltered)?),
            None => None,
        };
        let units = view.units();
        let mut lease_due = None;
        // Credit and window go together: a packet marked but not drawn would be carried for nothing, one drawn but
        // not marked could be drawn again.
        match session.account {
            Some(account) => {
                let cost = session
                    .price_msat
                    .checked_mul(units)
                    .ok_or(DropReason::CreditSpent)?;
                match self.accounts.draw(account, cost) {
                    Ok(due) => lease_due = due.then_some(account),
                    Err(reason) => {
                        if reason == DropReason::DiskBehind {
                            // What stands in the way may be draws so small that nobody has written them down yet.
                            self.write_oldest_leases(now.unix, LEASES_PER_STEP);
                        }
                        return Err(reason);
                    }
                }
            }
            None => {
                let neighbour = self
                    .neighbours
                    .get_mut(session.previous)
                    .ok_or(DropReason::WrongHop)?;
                if !neighbour.free_bytes.take(frame.len() as u64, now.instant) {
                    return Err(DropReason::FreeQuotaSpent);
                }
            }
        }
        session.window.mark(view.sequence);
        session.last_packet = now.instant;
        session.packets += 1;
        session.units = session.units.saturating_add(units);
        session.grant_back(units);
        if let Some(account) = lease_due {
            self.write_due_leases(now.unix, account);
        }
        match (next, content) {
            (Some(link), _) => self.outputs.push_back(Output::Forward {
                link,
                frame: frame.clone(),
            }),
            (None, Some(content)) => self.deliver(now, view, content),
            // A session has a next hop or an end.
            (None, None) => return Err(DropReason::BadRoute),
        }
        Ok(())
    }

    fn deliver(&mut self, now: Now, view: &PacketView<'_>, content: Vec<u8>) {
        let content = Bytes::from(content);
        // The source sealed it, so a broken inner header is its own doing: the payload is delivered to no protocol.
        let (protocol_id, payload) = match split_content(&content) {
            Ok((name, payload)) => (name.to_owned(), content.slice_ref(payload)),
            Err(_) => (String::new(), content.clone()),
        };
        let Some(session) = self.sessions.get_mut(&view.session) else {
            return;
        };
        let Some(end) = session.end.as_mut() else { return };
        end.bytes = end.bytes.saturating_add(payload.len() as u64);
        end.highest_sequence = end.highest_sequence.max(view.sequence);
        let delivery = Delivery {
            source: end.source,
            session: view.session,
            sequence: view.sequence,
            packet_id: view.packet_id(),
            protocol_id,
            payload,
        };
        let first = end.receipted == 0;
        let many = session.packets - end.receipted >= RECEIPT_EVERY_PACKETS;
        let start_timer = !(first || many || end.receipt_due);
        end.receipt_due |= start_timer;
        self.outputs.push_back(Output::Deliver(Box::new(delivery)));
        if first || many {
            self.send_receipt(&view.session);
        } else if start_timer {
            self.set_timer(now.instant + RECEIPT_INTERVAL, Timer::ReceiptDue(view.session));
        }
    }

    pub(super) fn receipt_due(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(end) = session.end.as_mut() else { return };
        end.receipt_due = false;
        if session.packets > end.receipted {
            self.send_receipt(id);
        }
    }

    pub(super) fn send_receipt(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(end) = session.end.as_mut() else { return };
        let receipt = Receipt {
            session: *id,
            packets: session.packets,
            bytes: end.bytes,
            units: session.units,
            highest_sequence: end.highest_sequence,
            signature: Signature([0; 64]),
        };
        let packets = session.packets;
        let receipt = receipt.sign(&self.identity);
        let built = self.build_back(id, &BackMessage::Receipt(receipt));
        let Some((link, frame)) = built else { return };
        self.outputs.push_back(Output::Receipt { link, frame });
        if let Some(end) = self.sessions.get_mut(id).and_then(|session| session.end.as_mut()) {
            end.receipted = packets;
        }
    }

    /// As the destination: seals a message for the source and sends it back along the route.
    pub(super) fn send_back(&mut self, id: &SessionId, message: &BackMessage) {
        if let Some((link, frame)) = self.build_back(id, message) {
            self.transmit(link, Channel::Data, frame);
        }
    }

    /// Whither, and what; none if the message cannot go out.
    fn build_back(&mut self, id: &SessionId, message: &BackMessage) -> Option<(LinkId, Bytes)> {
        let session = self.sessions.get_mut(id)?;
        let end = session.end.as_mut()?;
        let parts = PacketParts {
            kind: FrameKind::Back,
            session: *id,
            sequence: end.back_sequence,
            expiry: session.expires,
            tag_keys: &end.back_tag_keys,
            seal: &end.back,
        };
        end.back_sequence += 1;
        let built = postcard::to_stdvec(message)
            .map_err(|_| DropReason::Malformed)
            .and_then(|content| packet::build(&parts, &[&content]));
        let outcome = built.and_then(|(frame, _)| {
            session.spend_back(frame.len())?;
            let link = self
                .neighbours
                .link_of(session.previous)
                .ok_or(DropReason::NextHopGone)?;
            Ok((link, frame))
        });
        match outcome {
            Ok(built) => Some(built),
            Err(reason) => {
                self.count(reason);
                None
            }
        }
    }

    /// A packet on its way back to the source.
    pub(super) fn on_back(&mut self, now: Now, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        let from = self.neighbours.on_link(link).ok_or(DropReason::Unsolicited)?;
        let view = PacketView::parse(&frame)?;
        if self.payer.sessions.contains_key(&view.session) {
            return self.on_own_back(now, from, &view);
        }
        let session = self
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        if session.next != Some(from) || session.hops != view.hops + 1 {
            return Err(DropReason::WrongHop);
        }
        session.back_window.check(view.sequence)?;
        if !view.tag_matches(session.index, &session.back_tag_key) {
            return Err(DropReason::BadTag);
        }
        session.spend_back(frame.len())?;
        session.back_window.mark(view.sequence);
        let link = self
            .neighbours
            .link_of(session.previous)
            .ok_or(DropReason::NextHopGone)?;
        self.transmit(link, Channel::Data, frame);
        Ok(())
    }

    /// A hop's error on its way back to the source. Routers on the way cannot read it; they pass on what comes from
    /// the session's next hop, within its allowance.
    pub(super) fn on_hop_error(&mut self, now: Now, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        let from = self.charge_control(now, link)?;
        let view = HopErrorView::parse(&frame)?;
        if self.payer.sessions.contains_key(&view.session) {
            return self.on_own_error(now, from, &view);
        }
        let session = self
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        if session.next != Some(from) || view.hop <= session.index {
            return Err(DropReason::WrongHop);
        }
        session.spend_back(frame.len())?;
        let link = self
            .neighbours
            .link_of(session.previous)
            .ok_or(DropReason::NextHopGone)?;
        self.transmit(link, Channel::Control, frame);
        Ok(())
    }

    /// Tells the source, and nobody else, why its packet ended here, or would.
    pub(super) fn tell_source(&mut self, now: Now, id: &SessionId, reason: DropReason) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session
            .last_error
            .is_some_and(|last| now.instant - last < HOP_ERROR_INTERVAL)
        {
            return;
        }
        session.last_error = Some(now.instant);
        let credit_msat = session
            .account
            .map_or(0, |account| self.accounts.balance_msat(account));
        let counter = self.entropy.u64();
        let frame = build_hop_error(
            id,
            session.index,
            &session.errors,
            counter,
            &HopRefusal { reason, credit_msat },
        );
        if session.spend_back(frame.len()).is_ok()
            && let Some(link) = self.neighbours.link_of(session.previous)
        {
            self.transmit(link, Channel::Control, frame);
        }
    }
}
