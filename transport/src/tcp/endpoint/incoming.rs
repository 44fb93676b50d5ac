//! What comes in: which connection a packet is for, and who is welcome.

use std::ops::Range;
use std::time::Instant;

use smoltcp::socket::tcp::State;

use super::super::flow::{Flow, Phase};
use super::super::link::{Ignored, Input};
use super::super::phy::Attached;
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
            any |= !burst.is_empty();
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
        if let Some(steering) = &mut self.steering {
            self.cost.system_calls += steering.wake();
        }
        any
    }

    /// Takes in an IP packet.
    fn take_in(&mut self, mut frame: D::Frame, packet: Range<usize>, origin: Origin) {
        let at = self.clock.at();
        let Some(segment) = Segment::peek(&frame[packet.clone()]) else {
            self.phy.bring(frame, packet);
            let Self {
                interface,
                phy,
                nobody,
                ..
            } = self;
            let sender = &mut Sender::default();
            interface.poll_ingress_single(at, &mut Attached { phy, sender }, nobody);
            return;
        };
        let unchecked = origin == Origin::Port && frame.checksums() == Checksums::Unknown;
        if unchecked && !segment.is_intact(&frame[packet.clone()]) {
            return;
        }
        let known = self.by_ends.get(&segment.ends).copied();
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
        // Nothing answers a SYN that has not gone out yet. To smoltcp 0.14 such a SYN is a window
        // that was overrun, and it panics.
        let flow = id.and_then(|id| self.flows.get(id));
        if flow.is_some_and(|flow| flow.phase == Phase::Connecting && !flow.sender.has_sent()) {
            return;
        }
        let Self {
            interface,
            phy,
            nobody,
            flows,
            config,
            ..
        } = self;
        let Some((id, flow)) = id.and_then(|id| Some((id, flows.get_mut(id)?))) else {
            phy.bring(frame, packet);
            let sender = &mut Sender::default();
            interface.poll_ingress_single(at, &mut Attached { phy, sender }, nobody);
            return;
        };
        flow.hear(&segment);
        let before = flow.state();
        let verdict = flow
            .sender
            .on_segment(&segment, &mut frame[packet.clone()], phy.now);
        if segment.synchronizes() && matches!(before, State::Listen | State::SynSent) {
            flow.sender.on_syn(
                &segment,
                &mut frame[packet.clone()],
                phy.caps.mtu,
                config.window,
                phy.now,
            );
        }
        phy.bring(frame, packet);
        let sender = &mut flow.sender;
        interface.poll_ingress_single(at, &mut Attached { phy, sender }, &mut flow.sockets);
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
        let mut flow = Flow::new(ends, phase, window, &self.config, &self.clock);
        flow.socket().listen(ends.local).ok()?;
        if let Some(listener) = self.names.get_mut(listener) {
            listener.half_open += 1;
        }
        Some(self.add(flow))
    }
}
