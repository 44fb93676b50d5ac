//! Serving a connection that something has happened to: what it tells its owner, what it sends, when it
//! is looked at next, and how it ends.

use super::super::Device;
use super::super::flow::Phase;
use super::super::port::Way;
use super::super::tcb::Outgoing;
use super::{FIN_TIMEOUT, LINGER, Tcp};
use crate::{CloseReason, ConnId, Event};

impl<D: Device> Tcp<D> {
    /// Does for one connection what can be done now.
    pub(super) fn serve(&mut self, id: ConnId, events: &mut Vec<Event>) {
        self.collect(id);
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.listed = false;
        if let Some(reason) = flow.hopeless.take() {
            return self.end(id, reason, events);
        }
        if std::mem::take(&mut flow.is_due)
            && let Some(reset) = flow.tcb.on_timer(&self.config, self.now)
        {
            self.port.answer(&reset);
        }
        if flow.phase != Phase::Open {
            self.establish(id, events);
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        match flow.phase {
            Phase::Open => {
                while let Some(bytes) = flow.receive() {
                    events.push(Event::Data { conn: id, bytes });
                }
                let has_room = flow.tcb.queue().is_some_and(Outgoing::take_room);
                if has_room {
                    events.push(Event::Room { conn: id });
                }
                if let Some(reason) = flow.end().filter(|_| flow.receiving) {
                    return self.end(id, reason, events);
                }
            }
            Phase::Draining | Phase::HalfClosed if flow.tcb.ended().is_some() => {
                return self.remove(id);
            }
            _ => {}
        }
        self.unsettle(id);
    }

    /// Finds out what has become of an attempt.
    fn establish(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let (is_open, ends) = (flow.tcb.is_synchronized(), flow.tcb.ends);
        let has_failed = flow.tcb.ended().is_some();
        match flow.phase {
            Phase::Connecting if has_failed => {
                let reason = flow.end().unwrap_or(CloseReason::TimedOut);
                self.end(id, reason, events);
            }
            Phase::Accepting(_) if has_failed => self.remove(id),
            Phase::Connecting if is_open => {
                flow.phase = Phase::Open;
                let local = ends.local;
                events.push(Event::Connected { conn: id, local });
            }
            Phase::Accepting(listener) if is_open => {
                flow.phase = Phase::Open;
                if self.is_no_longer_half_open(listener) {
                    events.push(Event::Accepted {
                        listener,
                        conn: id,
                        local: ends.local,
                        remote: ends.remote,
                    });
                } else {
                    self.abort(id);
                }
            }
            _ => {}
        }
    }

    /// Has TCP send what it can.
    pub(super) fn transmit(&mut self, id: ConnId) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let (now, remote) = (self.now, flow.tcb.ends.remote.ip());
        let (most, mss) = (self.port.most(remote), flow.tcb.mss());
        let mut way = None;
        let (mut copied, mut is_exhausted) = (0, false);
        while let Some(output) = flow.tcb.output(most, now) {
            let way = *way.get_or_insert_with(|| self.port.way_to(remote));
            if way == Way::Nowhere && flow.phase == Phase::Connecting {
                flow.hopeless = Some(CloseReason::Unreachable);
                break;
            }
            let mut headers = flow.tcb.headers(&output);
            let queue = flow.tcb.queue();
            let sent = self.port.send(&mut headers, &output, mss, queue, way);
            if let Ok(sent) = sent {
                copied += sent as u64;
                flow.tcb.on_sent(&output.part(0, sent), now);
            }
            if sent != Ok(output.len) {
                is_exhausted = true;
                break;
            }
            if !flow.tcb.has_more() {
                break;
            }
        }
        self.cost.bytes_copied += copied;
        let needs_service = is_exhausted || flow.hopeless.is_some();
        let has_room = flow.tcb.queue().is_some_and(|queue| queue.has_room());
        if needs_service || has_room {
            self.list(id);
        }
    }

    /// Has a connection be served by the end of this turn. If its owner answers what has come, no
    /// acknowledgement needs to be sent by itself.
    pub(super) fn unsettle(&mut self, id: ConnId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.unsettled
        {
            flow.unsettled = true;
            self.unsettled.push(id);
        }
    }

    /// Ends the turn of those that something has happened to. What they send leaves before anything
    /// else is looked after.
    pub(super) fn settle(&mut self) {
        if self.unsettled.is_empty() {
            // A reset may be waiting.
            return self.flush_device();
        }
        let mut unsettled = std::mem::take(&mut self.unsettled);
        for &id in &unsettled {
            self.transmit(id);
        }
        self.flush_device();
        for id in unsettled.drain(..) {
            self.arm(id);
        }
        self.unsettled = unsettled;
    }

    pub(super) fn flush_device(&mut self) {
        self.port.device.flush(self.port.now);
    }

    /// Has the wheel bring a connection up when TCP has something to do.
    fn arm(&mut self, id: ConnId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.unsettled = false;
            flow.tcb.arm(self.now);
            if let Some(due) = flow.tcb.due(&self.config) {
                self.deadlines.set(id, due);
            }
        }
    }

    /// Ends a connection: tells its owner, and sees to it that the peer gets to know.
    fn end(&mut self, id: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.is_owned() {
            events.push(Event::Closed { conn: id, reason });
        }
        if flow.tcb.ended().is_some() || !flow.tcb.is_synchronized() {
            return self.abort(id);
        }
        flow.tcb.discard_unsent();
        flow.drain();
        self.linger(id);
        self.unsettle(id);
    }

    pub(super) fn linger(&mut self, id: ConnId) {
        self.lingering.insert((self.now + LINGER, id));
    }

    /// Ends a connection with a reset.
    pub(super) fn abort(&mut self, id: ConnId) {
        let flow = self.flows.get_mut(id);
        if let Some(reset) = flow.and_then(|flow| flow.tcb.reset()) {
            self.port.answer(&reset);
        }
        self.remove(id);
    }

    /// Drops connections that have lingered long enough. Whether there were any.
    pub(super) fn expire(&mut self) -> bool {
        let mut any = false;
        while let Some(&(until, id)) = self.lingering.first() {
            let flow = self.flows.get_mut(id);
            if flow.is_some() && self.now < until {
                break;
            }
            self.lingering.pop_first();
            let Some(flow) = flow else {
                continue;
            };
            any = true;
            // The time after the end is TCP's own affair.
            if flow.tcb.is_in_time_wait() {
                continue;
            }
            // A peer that has everything may take its time.
            if flow.phase == Phase::Draining && flow.tcb.waits_for_end() {
                flow.phase = Phase::HalfClosed;
                self.lingering.insert((self.now + FIN_TIMEOUT, id));
            } else {
                self.abort(id);
            }
        }
        any
    }
}
