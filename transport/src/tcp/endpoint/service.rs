//! Serving a connection that something has happened to: what it tells its owner, what it sends, when it
//! is looked at next, and how it ends.

use std::time::Instant;

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;

use super::super::Device;
use super::super::flow::Phase;
use super::super::phy::Attached;
use super::super::sender::Verdict;
use super::{BLOCK, FIN_TIMEOUT, LEAST_READ, LINGER, Tcp};
use crate::{CloseReason, ConnId, Event};

impl<D: Device> Tcp<D> {
    /// Does for one connection what can be done now.
    pub(super) fn serve(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.listed = false;
        if let Some(reason) = flow.hopeless.take() {
            return self.end(id, reason, events);
        }
        self.establish(id, events);
        if self.block.capacity() - self.block.len() < LEAST_READ && !self.block.try_reclaim(BLOCK) {
            let used_up = std::mem::replace(&mut self.block, self.pool.take(BLOCK));
            self.pool.give(used_up, BLOCK);
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        match flow.phase {
            Phase::Open => {
                if let Some(bytes) = flow.receive(&mut self.block, &mut self.cost) {
                    events.push(Event::Data { conn: id, bytes });
                }
            }
            Phase::Draining | Phase::Shut | Phase::HalfClosed => flow.discard(),
            Phase::Connecting | Phase::Accepting(_) => {}
        }
        match flow.sender.probe(self.phy.now, self.config.timeout) {
            Verdict::Fine => {}
            Verdict::Lost => self.insist(id),
            Verdict::Stalled => {
                let reason = CloseReason::TimedOut;
                return self.end(id, reason, events);
            }
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let more = flow.phase == Phase::Open && flow.receiving && flow.socket().can_recv();
        match flow.phase {
            Phase::Open => {
                if flow.queue.take_room() {
                    events.push(Event::Room { conn: id });
                }
                if flow.is_at_end() && flow.receiving {
                    let reason = flow.reason();
                    return self.end(id, reason, events);
                }
            }
            // An attempt that has just timed out.
            Phase::Connecting | Phase::Accepting(_) => {
                if flow.state() == State::Closed {
                    return self.establish(id, events);
                }
            }
            Phase::Draining | Phase::Shut | Phase::HalfClosed => {
                if flow.state() == State::Closed {
                    return self.remove(id);
                }
            }
        }
        if more {
            self.list(id);
        }
        self.unsettle(id);
    }

    /// Finds out what has become of an attempt.
    fn establish(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let (state, ends) = (flow.state(), flow.ends);
        match flow.phase {
            Phase::Connecting => match state {
                State::SynSent | State::SynReceived => {}
                State::Closed | State::Listen => {
                    let reason = if flow.was_reset {
                        CloseReason::Refused
                    } else {
                        CloseReason::TimedOut
                    };
                    self.end(id, reason, events);
                }
                _ => {
                    flow.phase = Phase::Open;
                    let local = ends.local;
                    events.push(Event::Connected { conn: id, local });
                }
            },
            Phase::Accepting(listener) => match state {
                State::SynReceived => {}
                State::Closed | State::Listen => self.remove(id),
                _ => {
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
            },
            _ => {}
        }
    }

    /// Has TCP send what it can.
    pub(super) fn transmit(&mut self, id: ConnId) {
        let Self {
            interface,
            phy,
            flows,
            clock,
            cost,
            ..
        } = self;
        let at = clock.at();
        let Some(flow) = flows.get_mut(id) else {
            return;
        };
        let mut has_news = flow.fill(cost, phy.now);
        if flow.phase == Phase::Draining && flow.queue.is_empty() {
            flow.socket().close();
            flow.phase = Phase::Shut;
            has_news = true;
        }
        let is_due = |due: smoltcp::time::Instant| due <= at;
        if !has_news && !interface.poll_at(at, &flow.sockets).is_some_and(is_due) {
            return;
        }
        let before = flow.state();
        phy.exhausted = false;
        phy.unreachable = false;
        loop {
            let (sender, sockets) = (&mut flow.sender, &mut flow.sockets);
            let result = interface.poll_egress(at, &mut Attached { phy, sender }, sockets);
            let has_sent = result == PollResult::SocketStateChanged;
            let recv_queue = flow.socket().recv_queue();
            if let Some(acknowledgement) = flow.sender.confine(recv_queue) {
                phy.bring_acknowledgement(&flow.ends, acknowledgement);
                let (sender, sockets) = (&mut flow.sender, &mut flow.sockets);
                interface.poll_ingress_single(at, &mut Attached { phy, sender }, sockets);
            }
            if !has_sent || !flow.has_more_to_send() {
                break;
            }
        }
        flow.take_note();
        if phy.unreachable && flow.phase == Phase::Connecting {
            flow.hopeless = Some(CloseReason::Unreachable);
        }
        let is_over = flow.state() == State::Closed && before != State::Closed;
        if phy.exhausted || flow.hopeless.is_some() || is_over || flow.queue.has_room() {
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
        self.phy.output_cut();
        self.phy.device.flush(self.phy.now);
    }

    /// Has the wheel bring a connection up when TCP has something to do.
    fn arm(&mut self, id: ConnId) {
        let at = self.clock.at();
        let Some(mut flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.unsettled = false;
        let mut due = self.interface.poll_at(at, &flow.sockets);
        // One segment may have another come after it, of another kind.
        if due.is_some_and(|due| due <= at) {
            self.transmit(id);
            self.flush_device();
            let Some(again) = self.flows.get_mut(id) else {
                return;
            };
            flow = again;
            due = self.interface.poll_at(at, &flow.sockets);
        }
        let due = due.map(|due| self.clock.when(due));
        let Some(due) = due.into_iter().chain(flow.sender.probe_at()).min() else {
            return;
        };
        self.deadlines.set(id, due);
    }

    /// Ends a connection: tells its owner, and sees to it that the peer gets to know.
    fn end(&mut self, id: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.is_owned() {
            events.push(Event::Closed { conn: id, reason });
        }
        if flow.state() == State::Closed {
            return self.remove(id);
        }
        flow.queue.clear();
        flow.drain();
        self.linger(id);
        self.transmit(id);
        self.unsettle(id);
    }

    pub(super) fn linger(&mut self, id: ConnId) {
        self.lingering.insert((self.phy.now + LINGER, id));
    }

    /// Ends a connection with a reset.
    pub(super) fn abort(&mut self, id: ConnId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.socket().abort();
            flow.queue.clear();
            self.transmit(id);
        }
        self.remove(id);
    }

    /// Drops connections that have lingered long enough. Whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(&(until, id)) = self.lingering.first() {
            let flow = self.flows.get_mut(id);
            if flow.is_some() && now < until {
                break;
            }
            self.lingering.pop_first();
            let Some(flow) = flow else {
                continue;
            };
            any = true;
            match flow.state() {
                // The time after the end is TCP's own affair.
                State::TimeWait => {}
                // The peer has everything, and may take its time.
                State::FinWait2 if flow.phase == Phase::Shut => {
                    flow.phase = Phase::HalfClosed;
                    self.lingering.insert((now + FIN_TIMEOUT, id));
                }
                _ => self.abort(id),
            }
        }
        any
    }
}
