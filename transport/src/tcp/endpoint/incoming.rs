//! What comes in: which connection a packet is for, and who is welcome.

use std::ops::Range;
use std::time::{Duration, Instant};

use smoltcp::socket::tcp::State;

use super::super::flow::{Flow, Phase};
use super::super::link::{Ignored, Input};
use super::super::phy::{Attached, Incoming};
use super::super::segment::Segment;
use super::super::sender::{Sender, Verdict};
use super::super::steering::{Handed, Steering};
use super::super::{BURST, Checksums, Device, ETHERNET_HEADER_LEN, Frame};
use super::{BURSTS, Tcp};
use crate::ConnId;

/// Where a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Port,
    /// Ourselves.
    Loop,
    /// Another queue of the port, which has looked at its checksums.
    Queue,
}

impl<D: Device> Tcp<D> {
    /// Takes in what has arrived. Whether anything has.
    pub(super) fn receive(&mut self, now: Instant) -> bool {
        let mut any = false;
        for _ in 0..BURSTS {
            let mut burst = std::mem::take(&mut self.burst);
            burst.extend(self.phy.looped.drain(..));
            let looped = burst.len();
            self.phy.device.receive(now, &mut burst);
            if burst.is_empty() {
                self.burst = burst;
                break;
            }
            any = true;
            let is_full = burst.len() - looped >= BURST;
            for (at, frame) in burst.drain(..).enumerate() {
                if at < looped {
                    let packet = ETHERNET_HEADER_LEN..frame.len();
                    self.take_in(frame, packet, Origin::Loop);
                } else if frame.checksums() != Checksums::Bad {
                    match self.phy.input(&frame) {
                        Input::Ip(packet) => self.take_in(frame, packet, Origin::Port),
                        // Another queue may have asked.
                        Input::Handled | Input::Ignored(Ignored::Unsolicited) => {
                            if let Some(steering) = &mut self.steering {
                                steering.tell(&frame);
                            }
                        }
                        Input::Ignored(_) => {}
                    }
                }
            }
            self.burst = burst;
            self.deliver();
            if !is_full {
                break;
            }
        }
        if self.steering.is_some() {
            any |= self.take_over();
        }
        any
    }

    /// Takes in what other queues of the port got for us, and wakes those that got something from
    /// us. Whether there was anything.
    fn take_over(&mut self) -> bool {
        let mut any = false;
        for _ in 0..BURSTS * BURST {
            match self.steering.as_ref().and_then(Steering::take) {
                Some(Handed::Packet(frame, packet)) => self.take_in(frame, packet, Origin::Queue),
                Some(Handed::Neighbours(frame)) => self.phy.overhear(&frame),
                None => break,
            }
            any = true;
        }
        self.deliver();
        if let Some(steering) = &mut self.steering {
            self.cost.system_calls += steering.wake();
        }
        any
    }

    /// Takes in an IP packet. Segments that others may continue are delivered with the next packet at
    /// the latest, or by [`deliver`](Self::deliver).
    fn take_in(&mut self, frame: D::Frame, packet: Range<usize>, origin: Origin) {
        let Some(segment) = Segment::peek(&frame[packet.clone()]) else {
            self.deliver();
            return self.deliver_to_nobody(frame, packet);
        };
        let unchecked = origin == Origin::Port && frame.checksums() == Checksums::Unknown;
        if unchecked && !segment.is_intact(&frame[packet.clone()]) {
            return;
        }
        if self.coalescer.append(&segment, &frame[packet.clone()]) {
            return;
        }
        self.deliver();
        let known = self.by_ends.find(&segment.ends, &self.flows);
        if known.is_none()
            && let Some(steering) = &mut self.steering
            && let Some(queue) = steering.other_owner(&segment, origin == Origin::Queue)
        {
            return steering.hand_over(queue, frame, packet);
        }
        let id = match known {
            Some(id) if segment.opens() && self.may_begin_anew(id) => {
                self.remove(id);
                self.welcome(&segment)
            }
            None if segment.opens() => self.welcome(&segment),
            known => known,
        };
        // Who is not answered asks again; who asks where nobody listens is told so.
        if id.is_none() && segment.opens() && self.names.is_listened_at(segment.ends.local) {
            return;
        }
        let Some(id) = id else {
            return self.deliver_to_nobody(frame, packet);
        };
        self.coalescer.hold(id, segment, frame, packet);
        if !segment.is_plain() {
            self.deliver();
        }
    }

    fn deliver_to_nobody(&mut self, frame: D::Frame, packet: Range<usize>) {
        let Self {
            interface,
            phy,
            nobody,
            ..
        } = self;
        phy.bring(Incoming::Frame(frame, packet));
        let sender = &mut Sender::default();
        interface.poll_ingress_single(self.clock.at(), &mut Attached { phy, sender }, nobody);
    }

    /// Delivers the segment at hand to its connection.
    fn deliver(&mut self) {
        let Self {
            coalescer,
            interface,
            phy,
            flows,
            config,
            clock,
            ..
        } = self;
        let Some((id, segment, packet)) = coalescer.held() else {
            return;
        };
        // Nothing answers a SYN that has not gone out yet. To smoltcp 0.14 such a SYN is a window
        // that was overrun, and it panics.
        let has_begun =
            |flow: &&mut Flow| flow.phase != Phase::Connecting || flow.sender.has_sent();
        let Some(flow) = flows.get_mut(id).filter(has_begun) else {
            coalescer.take();
            return;
        };
        flow.prefetch(!segment.is_empty());
        flow.hear(&segment, phy.now);
        let before = flow.state();
        let verdict = flow.sender.on_segment(&segment, packet, phy.now);
        if segment.synchronizes() && matches!(before, State::Listen | State::SynSent) {
            let (mtu, window) = (phy.caps.mtu, config.window);
            flow.sender.on_syn(&segment, packet, mtu, window, phy.now);
        }
        let Some(packet) = coalescer.take() else {
            return;
        };
        // Several segments are acknowledged at once (RFC 9293, section 3.8.6.3). To smoltcp they are one.
        let is_several = matches!(packet, Incoming::Together(_));
        if is_several {
            flow.socket().set_ack_delay(Some(Duration::ZERO.into()));
        }
        phy.bring(packet);
        let at = clock.at();
        let sender = &mut flow.sender;
        interface.poll_ingress_single(at, &mut Attached { phy, sender }, &mut flow.sockets);
        if is_several {
            let delay = clock.scaled(config.ack_delay);
            flow.socket().set_ack_delay(Some(delay));
        }
        flow.take_note();
        if verdict == Verdict::Lost {
            self.insist(id);
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if segment.resets() && matches!(flow.state(), State::Closed | State::Listen) {
            flow.was_reset |= before != flow.state();
        }
        self.list(id);
    }

    /// Has smoltcp send the first segment that is not acknowledged once more.
    pub(super) fn insist(&mut self, id: ConnId) {
        let at = self.clock.at();
        let Self {
            interface,
            phy,
            flows,
            ..
        } = self;
        let Some(flow) = flows.get_mut(id) else {
            return;
        };
        let recv_queue = flow.socket().recv_queue();
        let acknowledgements = flow.sender.insist(recv_queue);
        for acknowledgement in acknowledgements {
            phy.bring_acknowledgement(&flow.ends, acknowledgement);
            let sender = &mut flow.sender;
            interface.poll_ingress_single(at, &mut Attached { phy, sender }, &mut flow.sockets);
        }
        flow.take_note();
    }

    /// Whether a connection that is over may give way to a new one between the same ends (RFC 9293,
    /// section 3.10.7.4; RFC 6191).
    fn may_begin_anew(&self, id: ConnId) -> bool {
        let flow = self.flows.get(id);
        flow.is_some_and(|flow| !flow.is_owned() && flow.state() == State::TimeWait)
    }

    /// Makes a connection for somebody who asks for one, if anybody accepts it.
    fn welcome(&mut self, segment: &Segment) -> Option<ConnId> {
        let ends = segment.ends;
        let listener = self.names.listener_for(ends.local)?;
        if !self.claim(ends) {
            return None;
        }
        let Ok(window) = self.windows.take() else {
            self.release(&ends);
            return None;
        };
        let phase = Phase::Accepting(listener);
        let mut flow = Flow::new(ends, phase, window, &self.config, &self.clock, self.phy.now);
        flow.socket().listen(ends.local).ok()?;
        if let Some(listener) = self.names.get_mut(listener) {
            listener.half_open += 1;
        }
        Some(self.add(flow))
    }
}
