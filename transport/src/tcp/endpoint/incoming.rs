//! What comes in: which connection a packet is for, and who is welcome.

use std::ops::Range;

use super::super::flow::{Flow, Payload, Phase};
use super::super::icmp;
use super::super::link::{Ignored, Input};
use super::super::prefetch::prefetch;
use super::super::segment::{Ends, Header, Options, Segment};
use super::super::steering::{Handed, Steering};
use super::super::tcb::Tcb;
use super::super::train::Train;
use super::super::{BURST, Checksums, Device, ETHERNET_HEADER_LEN, Frame};
use super::{BLOCK, BURSTS, LEAST_READ, Tcp};
use crate::ConnId;

/// A frame is fetched into the cache while so many before it are looked at.
const AHEAD: usize = 2;
/// So much of it; of longer ones, the processor fetches the rest by itself.
const AHEAD_LEN: usize = 2048;

/// Where a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// And whether others came at the same time.
    Port { in_row: bool },
    /// Ourselves.
    Loop,
    /// Another queue of the port, which has looked at its checksums.
    Queue,
}

impl<D: Device> Tcp<D> {
    /// Takes in what has arrived. Whether anything has.
    pub(super) fn receive(&mut self) -> bool {
        let mut any = false;
        for _ in 0..BURSTS {
            let mut burst = std::mem::take(&mut self.burst);
            if !self.port.looped.is_empty() {
                burst.extend(self.port.looped.drain(..));
            }
            let looped = burst.len();
            self.port.device.receive(self.port.now, &mut burst);
            if burst.is_empty() {
                self.burst = burst;
                break;
            }
            any = true;
            self.train = None;
            let in_row = burst.len() > looped + 1;
            let is_full = burst.len() - looped >= BURST;
            let mut frames = burst.drain(..);
            let mut at = 0;
            while let Some(frame) = frames.next() {
                if let Some(ahead) = frames.as_slice().get(AHEAD) {
                    prefetch(ahead.get(..AHEAD_LEN).unwrap_or(ahead));
                }
                if at < looped {
                    let packet = ETHERNET_HEADER_LEN..frame.len();
                    self.take_in(frame, packet, Origin::Loop);
                } else if frame.checksums() != Checksums::Bad {
                    self.input(frame, in_row);
                }
                at += 1;
            }
            drop(frames);
            self.burst = burst;
            self.flush_device();
            if !is_full {
                break;
            }
        }
        if self.steering.is_some() {
            any |= self.take_over();
        }
        any
    }

    /// Takes in a frame from the port.
    fn input(&mut self, frame: D::Frame, in_row: bool) {
        let train = self.train.as_ref();
        if let Some((id, segment, packet)) = train.and_then(|train| train.follow(&frame)) {
            let is_good = frame.checksums() == Checksums::Good;
            if is_good || segment.is_intact(&frame[packet.clone()]) {
                self.hand_over(id, (frame, packet), &segment, &Options::default());
            }
            return;
        }
        match self.port.input(&frame) {
            Input::Ip(packet) => self.take_in(frame, packet, Origin::Port { in_row }),
            // Another queue may have asked.
            Input::Handled | Input::Ignored(Ignored::Unsolicited) => {
                if let Some(steering) = &mut self.steering {
                    steering.tell(&frame);
                }
            }
            Input::Ignored(_) => {}
        }
    }

    /// Takes in what other queues of the port got for us, and wakes those that got something from
    /// us. Whether there was anything.
    fn take_over(&mut self) -> bool {
        let mut any = false;
        for _ in 0..BURSTS * BURST {
            match self.steering.as_ref().and_then(Steering::take) {
                Some(Handed::Packet(frame, packet)) => self.take_in(frame, packet, Origin::Queue),
                Some(Handed::Neighbours(frame)) => self.port.overhear(&frame),
                None => break,
            }
            any = true;
        }
        if let Some(steering) = &mut self.steering {
            self.cost.system_calls += steering.wake();
        }
        any
    }

    /// Takes in an IP packet.
    fn take_in(&mut self, frame: D::Frame, packet: Range<usize>, origin: Origin) {
        let bytes = &frame[packet.clone()];
        let Some(segment) = Segment::peek(bytes) else {
            if let Some((answer, own, to)) = icmp::answer(bytes)
                && self.port.link.is_own(own)
            {
                self.port.send_packet(&answer, to);
            }
            return;
        };
        let last = self.found;
        let known = self.find(&segment.ends);
        let is_from_port = matches!(origin, Origin::Port { .. });
        let unchecked = is_from_port && frame.checksums() == Checksums::Unknown;
        if unchecked && !segment.is_intact(bytes) {
            return;
        }
        if known.is_none()
            && let Some(steering) = &mut self.steering
            && let Some(queue) = steering.other_owner(&segment, origin == Origin::Queue)
        {
            return steering.hand_over(queue, frame, packet);
        }
        let options = segment.options(bytes);
        if let Some(id) = known.filter(|id| !segment.opens() || !self.may_begin_anew(*id)) {
            if origin == (Origin::Port { in_row: true }) && last == Some(id) {
                self.train = Train::new(id, &segment, &frame);
            }
            return self.hand_over(id, (frame, packet), &segment, &options);
        }
        let ends = segment.ends;
        if !self.port.link.is_own(ends.local.ip()) || !segment.has_sender() {
            return;
        }
        if segment.opens() {
            if let Some(id) = known {
                self.remove(id);
            }
            // Who is not answered asks again; who asks where nobody listens is told so.
            if self.welcome(&segment, &options) || self.names.is_listened_at(ends.local) {
                return;
            }
        }
        if let Some(reset) = Header::reset(&segment) {
            self.port.answer(&reset);
        }
    }

    /// Hands a segment to its connection, in the frame that it came in, or out of it.
    fn hand_over(
        &mut self,
        id: ConnId,
        (frame, packet): (D::Frame, Range<usize>),
        segment: &Segment,
        options: &Options,
    ) {
        let range = segment.payload(packet);
        match self.lender.lend(frame, range.clone()) {
            Ok(lent) => self.deliver(id, segment, options, Payload::Lent(&lent)),
            Err(frame) => self.deliver(id, segment, options, Payload::Borrowed(&frame[range])),
        }
    }

    /// The connection between two ends: more often than not the one that was looked for last.
    fn find(&mut self, ends: &Ends) -> Option<ConnId> {
        let last = self.found.and_then(|id| self.flows.get(id));
        if last.is_none_or(|flow| flow.tcb.ends != *ends) {
            self.found = self.by_ends.find(ends, &self.flows);
            let flow = self.found.and_then(|id| self.flows.get(id));
            flow?.prefetch();
        }
        self.found
    }

    /// Delivers a segment to its connection.
    fn deliver(&mut self, id: ConnId, segment: &Segment, options: &Options, payload: Payload) {
        if self.block_of != Some(id) && !payload.bytes().is_empty() {
            if let Some(other) = self.block_of {
                self.collect(other);
            }
            self.block_of = Some(id);
        }
        self.renew_block();
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let answer = flow.on_segment(
            segment,
            (options, payload),
            &self.config,
            self.now,
            (&mut self.block, &mut self.cost),
        );
        if flow.tcb.is_pressing() {
            self.transmit(id);
        }
        if let Some(answer) = answer {
            self.port.answer(&answer);
        }
        self.list(id);
    }

    /// Sees to it that there is room in the block.
    fn renew_block(&mut self) {
        if self.block.capacity() - self.block.len() >= LEAST_READ {
            return;
        }
        if let Some(id) = self.block_of {
            self.collect(id);
            self.block_of = Some(id);
        }
        if self.block.capacity() < LEAST_READ && !self.block.try_reclaim(BLOCK) {
            let used_up = std::mem::replace(&mut self.block, self.pool.take(BLOCK));
            self.pool.give(used_up, BLOCK);
        }
    }

    /// Gives a connection what there is for it in the block.
    pub(super) fn collect(&mut self, id: ConnId) {
        if self.block_of == Some(id) {
            self.block_of = None;
            if let Some(flow) = self.flows.get_mut(id)
                && !self.block.is_empty()
            {
                flow.collect(&mut self.block);
            }
        }
    }

    /// Whether a connection that is over may give way to a new one between the same ends (RFC 9293,
    /// section 3.10.7.4; RFC 6191).
    fn may_begin_anew(&self, id: ConnId) -> bool {
        let flow = self.flows.get(id);
        flow.is_some_and(|flow| !flow.is_owned() && flow.tcb.is_in_time_wait())
    }

    /// Makes a connection for somebody who asks for one. Whether anybody accepts it.
    fn welcome(&mut self, segment: &Segment, options: &Options) -> bool {
        let ends = segment.ends;
        let Some(listener) = self.names.listener_for(ends.local) else {
            return false;
        };
        if !self.claim(ends) {
            return false;
        }
        let (initial, mss) = (self.initial(&ends), self.port.mss(ends.remote.ip()));
        let (window, now) = (self.config.window, self.now);
        let tcb = Tcb::accept((segment, options), initial, mss, window, now);
        if let Some(listener) = self.names.get_mut(listener) {
            listener.half_open += 1;
        }
        let id = self.add(Flow::new(tcb, Phase::Accepting(listener)));
        self.list(id);
        true
    }
}
