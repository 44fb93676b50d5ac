//! [`Port`]: the device with its link layer. Puts packets into frames, finds out where they go, and keeps
//! those that are for ourselves.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::checksum::Pieces;
use super::link::{
    ControlFrame, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Input, Link, Resolved, write_ethernet_header,
};
use super::segment::{Header, Headers, IPV4_HEADER_LEN, IPV6_HEADER_LEN, TCP_HEADER_LEN};
use super::tcb::{Outgoing, Output};
use super::{Device, DeviceCaps, ETHERNET_HEADER_LEN, Frame, Mac, Offload};

/// So many frames of a long run are handed over at once, so that the peer takes them in while the rest is
/// being made.
const EARLY: usize = 16;

/// So many bytes are sent at a time where the device does not cut them.
const RUN: u32 = 64 << 10;

/// How long the link layer is not asked again where a neighbour is: it asks those that are in use.
const KNOWN: Duration = Duration::from_secs(1);

pub(super) struct Port<D: Device> {
    pub(super) device: D,
    pub(super) link: Link<D::Frame>,
    pub(super) caps: DeviceCaps,
    pub(super) now: Instant,
    /// Packets to ourselves.
    pub(super) looped: VecDeque<D::Frame>,
    /// Frames transmitted since the device was told to hand them over early.
    unflushed: usize,
    /// What the link layer has to say, on its way out.
    control: Vec<ControlFrame>,
    /// The neighbour that takes packets to this address, and as of when that is known.
    known: Option<(IpAddr, Mac, Instant)>,
}

/// Where packets to some address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Ourselves,
    Neighbour(Mac),
    /// To this neighbour, once it has said where it is.
    Later(IpAddr),
    Nowhere,
}

/// There is no room for a frame now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl<D: Device> Port<D> {
    pub(super) fn new(device: D, link: Link<D::Frame>, now: Instant) -> Self {
        Self {
            caps: device.caps(),
            device,
            link,
            now,
            looped: VecDeque::new(),
            unflushed: 0,
            control: Vec::new(),
            known: None,
        }
    }

    /// The longest segment that fits a frame, to or from such an address.
    pub(super) fn mss(&self, address: IpAddr) -> u16 {
        let ip = if address.is_ipv6() {
            IPV6_HEADER_LEN
        } else {
            IPV4_HEADER_LEN
        };
        let mss = self.caps.mtu.saturating_sub(ip + TCP_HEADER_LEN);
        mss.clamp(1, u16::MAX.into()) as u16
    }

    /// How many bytes may be sent at a time to such an address.
    pub(super) fn most(&self, address: IpAddr) -> u32 {
        let most = self.cut_by_device(address.is_ipv6());
        most.map_or(RUN, |most| (most - IPV4_HEADER_LEN - TCP_HEADER_LEN) as u32)
    }

    /// How long a packet may be that the device cuts into segments, if it does.
    fn cut_by_device(&self, is_ipv6: bool) -> Option<usize> {
        self.caps.segments_tcp4.filter(|_| !is_ipv6)
    }

    /// Tells the neighbours who we are.
    pub(super) fn announce(&mut self) {
        self.link.announce(&mut self.control);
        self.output_control();
    }

    /// What a frame is. The link layer keeps what is for it.
    pub(super) fn input(&mut self, frame: &[u8]) -> Input {
        let input = self.note(frame);
        self.output_control();
        input
    }

    /// Learns from a frame that somebody else has answered, if that was due.
    pub(super) fn overhear(&mut self, frame: &[u8]) {
        self.note(frame);
        self.control.clear();
    }

    fn note(&mut self, frame: &[u8]) -> Input {
        let input = self.link.input(frame, self.now, &mut self.control);
        if input == Input::Handled {
            self.known = None;
            while let Some((mac, frame)) = self.link.take_resolved() {
                self.pass(frame, Way::Neighbour(mac));
            }
        }
        input
    }

    /// Asks for neighbours that packets wait for, or may soon.
    pub(super) fn keep_neighbours(&mut self) {
        if self.link.next_timeout().is_some_and(|due| due <= self.now) {
            self.known = None;
            self.link.poll(self.now, &mut self.control);
            self.output_control();
        }
    }

    fn output_control(&mut self) {
        for control in self.control.drain(..) {
            // Who gets no answer asks again.
            if let Some(mut frame) = self.device.allocate(control.len()) {
                frame.copy_from_slice(&control);
                self.device.transmit(frame);
            }
        }
    }

    /// Where packets to this address go.
    pub(super) fn way_to(&mut self, destination: IpAddr) -> Way {
        match self.known {
            Some((ip, mac, at)) if ip == destination && self.now < at + KNOWN => {
                Way::Neighbour(mac)
            }
            _ => self.find_way_to(destination),
        }
    }

    fn find_way_to(&mut self, destination: IpAddr) -> Way {
        if self.link.is_own(destination) {
            return Way::Ourselves;
        }
        let Some(hop) = self.link.next_hop(destination) else {
            return Way::Nowhere;
        };
        match self.link.resolve(hop, self.now) {
            Resolved::Mac(mac) => {
                self.known = Some((destination, mac, self.now));
                Way::Neighbour(mac)
            }
            Resolved::Pending => Way::Later(hop),
            Resolved::Unreachable => Way::Nowhere,
        }
    }

    /// Sends what there is of `queue` behind those headers, in segments of at most `mss` bytes: cut by
    /// the device if it can. Returns how many bytes there was room for.
    pub(super) fn send(
        &mut self,
        headers: &mut Headers,
        output: &Output,
        mss: u16,
        mut queue: Option<&mut Outgoing>,
        way: Way,
    ) -> Result<usize, Exhausted> {
        let mss = usize::from(mss);
        if output.len <= mss || self.cut_by_device(headers.is_ipv6()).is_some() {
            self.send_frame(headers, output, mss, queue, way)?;
            return Ok(output.len);
        }
        let mut sent = 0;
        while sent < output.len {
            let part = output.part(sent, mss);
            headers.place(part.seq, part.flags, part.len);
            match self.send_frame(headers, &part, mss, queue.as_deref_mut(), way) {
                Ok(()) => sent += part.len,
                Err(Exhausted) if sent > 0 => break,
                Err(exhausted) => return Err(exhausted),
            }
        }
        Ok(sent)
    }

    fn send_frame(
        &mut self,
        headers: &mut Headers,
        output: &Output,
        mss: usize,
        queue: Option<&mut Outgoing>,
        way: Way,
    ) -> Result<(), Exhausted> {
        // Where a frame's memory was last another core's, every access may have to wait for that
        // core. So headers are completed here, and the frame is only written.
        let start = ETHERNET_HEADER_LEN + headers.bytes().len();
        let frame = self.device.allocate(start + output.len);
        let mut frame = frame.ok_or(Exhausted)?;
        let device_sums = self.caps.computes_checksums;
        let mut at = start;
        let mut sum = Pieces::default();
        if let Some(queue) = queue.filter(|_| output.len > 0) {
            queue.read(output.offset, output.len, |piece| {
                frame[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
                if !device_sums {
                    sum.add(piece);
                }
            });
        }
        if device_sums {
            let segment = (output.len > mss).then_some(mss);
            let len = headers.tcp_len + output.len;
            headers.prepare(if segment.is_some() { 0 } else { len });
            frame.offload(Offload {
                ip_header_len: headers.ip_len,
                is_ipv6: headers.is_ipv6(),
                tcp_header_len: headers.tcp_len,
                segment,
            });
        } else {
            headers.complete(sum.sum(), output.len);
        }
        frame[ETHERNET_HEADER_LEN..start].copy_from_slice(headers.bytes());
        self.pass(frame, way);
        Ok(())
    }

    /// Sends a segment that belongs to no connection, if there is room.
    pub(super) fn answer(&mut self, header: &Header) {
        let output = Output {
            seq: header.seq,
            flags: header.flags,
            offset: 0,
            len: 0,
        };
        let way = self.way_to(header.ends.remote.ip());
        let _ = self.send(&mut header.write(0), &output, u16::MAX, None, way);
    }

    /// Sends an IP packet, if there is room.
    pub(super) fn send_packet(&mut self, packet: &[u8], destination: IpAddr) {
        let way = self.way_to(destination);
        if let Some(mut frame) = self.device.allocate(ETHERNET_HEADER_LEN + packet.len()) {
            frame[ETHERNET_HEADER_LEN..].copy_from_slice(packet);
            self.pass(frame, way);
        }
    }

    /// Passes on a frame, complete but for its Ethernet header.
    fn pass(&mut self, mut frame: D::Frame, way: Way) {
        match way {
            Way::Ourselves => self.looped.push_back(frame),
            Way::Later(hop) => self.link.enqueue(hop, frame),
            Way::Nowhere => {}
            Way::Neighbour(mac) => {
                let ethertype = match frame[ETHERNET_HEADER_LEN] >> 4 {
                    6 => ETHERTYPE_IPV6,
                    _ => ETHERTYPE_IPV4,
                };
                write_ethernet_header(&mut frame, mac, self.caps.mac, ethertype);
                self.device.transmit(frame);
                self.unflushed += 1;
                if self.unflushed >= EARLY {
                    self.unflushed = 0;
                    self.device.flush(self.now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
