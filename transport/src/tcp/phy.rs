//! [`Phy`]: what smoltcp takes for its device. Brings one packet in at a time, to the connection
//! that it is for, and puts Ethernet headers on what goes out.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use smoltcp::phy::{Checksum, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};

use super::cut::{Cut, Part};
use super::link::{
    ControlFrame, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Input, Link, Resolved, write_ethernet_header,
};
use super::segment::{self, Acknowledgement, Ends};
use super::sender::Sender;
use super::{Device, DeviceCaps, ETHERNET_HEADER_LEN, Frame, Mac, Offload};

/// So many frames of a long run are handed over at once, so that the peer takes them in while the rest is
/// being made.
const EARLY: usize = 16;

pub(super) struct Phy<D: Device> {
    pub(super) device: D,
    pub(super) link: Link<D::Frame>,
    pub(super) caps: DeviceCaps,
    pub(super) now: Instant,
    /// The packet that the next call is about.
    incoming: Option<Incoming<D::Frame>>,
    /// Packets to ourselves.
    pub(super) looped: VecDeque<D::Frame>,
    /// Frames transmitted since the device was told to hand them over early.
    unflushed: usize,
    /// Whether something could not be transmitted for want of room.
    pub(super) exhausted: bool,
    /// Whether something had nowhere to go.
    pub(super) unreachable: bool,
    /// What smoltcp has made.
    cut: Cut,
    /// Where a packet is made for which there is no room.
    scratch: Vec<u8>,
    /// What the link layer has to say, on its way out.
    control: Vec<ControlFrame>,
}

impl<D: Device> Phy<D> {
    pub(super) fn new(device: D, link: Link<D::Frame>, now: Instant) -> Self {
        Self {
            caps: device.caps(),
            device,
            link,
            now,
            incoming: None,
            looped: VecDeque::new(),
            unflushed: 0,
            exhausted: false,
            unreachable: false,
            cut: Cut::default(),
            scratch: Vec::new(),
            control: Vec::new(),
        }
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
            while let Some((mac, frame)) = self.link.take_resolved() {
                self.output_to(mac, frame);
            }
        }
        input
    }

    /// Asks for neighbours that packets wait for, or may soon.
    pub(super) fn keep_neighbours(&mut self) {
        if self.link.next_timeout().is_some_and(|due| due <= self.now) {
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

    /// Has the next call to smoltcp find this packet.
    pub(super) fn bring(&mut self, packet: Incoming<D::Frame>) {
        self.incoming = Some(packet);
    }

    /// Has the next call to smoltcp find an acknowledgement of our own making.
    pub(super) fn bring_acknowledgement(&mut self, ends: &Ends, what: Acknowledgement) {
        self.incoming = Some(Incoming::Made(segment::make(ends, what)));
    }

    /// Passes on what smoltcp has made, as far as there is room. Whether nothing is left.
    pub(super) fn output_cut(&mut self) -> bool {
        while let Some((destination, len)) = self.cut.next() {
            let Some(mut frame) = self.device.allocate(ETHERNET_HEADER_LEN + len) else {
                return false;
            };
            let device_sums = self.caps.computes_checksums;
            let packet = &mut frame[ETHERNET_HEADER_LEN..];
            let part = self.cut.write_next(packet, device_sums);
            if let Some(Part { segment, by_device }) = part.filter(|_| device_sums) {
                frame.offload(Offload {
                    ip_header_len: segment.ip_header_len,
                    is_ipv6: destination.is_ipv6(),
                    tcp_header_len: segment.tcp_header_len,
                    segment: by_device.map(|size| size.get().into()),
                });
            }
            self.forward(frame, destination);
        }
        true
    }

    /// Passes on a frame, complete but for its Ethernet header.
    fn forward(&mut self, frame: D::Frame, destination: IpAddr) {
        if self.link.is_own(destination) {
            self.looped.push_back(frame);
            return;
        }
        let Some(hop) = self.link.next_hop(destination) else {
            self.unreachable = true;
            return;
        };
        match self.link.resolve(hop, self.now) {
            Resolved::Mac(mac) => self.output_to(mac, frame),
            Resolved::Pending => self.link.enqueue(hop, frame),
            Resolved::Unreachable => self.unreachable = true,
        }
    }

    fn output_to(&mut self, mac: Mac, mut frame: D::Frame) {
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

/// A [`Phy`] while smoltcp is at work on one connection.
pub(super) struct Attached<'a, D: Device> {
    pub(super) phy: &'a mut Phy<D>,
    /// Of the connection.
    pub(super) sender: &'a mut Sender,
}

impl<D: Device> Attached<'_, D> {
    fn outgoing(&mut self) -> Outgoing<'_, D> {
        Outgoing {
            phy: self.phy,
            sender: self.sender,
            cut: None,
        }
    }
}

impl<D: Device> smoltcp::phy::Device for Attached<'_, D> {
    type RxToken<'a>
        = Incoming<D::Frame>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a, D>
    where
        Self: 'a;

    fn receive(
        &mut self,
        _: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let incoming = self.phy.incoming.take()?;
        Some((incoming, self.outgoing()))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        if !self.phy.output_cut() || !self.phy.device.may_transmit() {
            self.phy.exhausted = true;
            return None;
        }
        Some(self.outgoing())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.phy.caps.mtu;
        // What comes in has been looked at, and what goes out gets one when it is complete.
        caps.checksum.tcp = Checksum::None;
        let segmented = self.phy.caps.segments_tcp4;
        let segmented = segmented.unwrap_or_else(|| Cut::most(self.phy.caps.mtu));
        caps.segmentation.tcpv4 = NonZeroUsize::new(segmented);
        caps
    }
}

/// A packet that smoltcp is to find.
pub(super) enum Incoming<F> {
    /// That has arrived, and where in its frame it is.
    Frame(F, Range<usize>),
    /// Several that have arrived, put together.
    Together(Arc<Vec<u8>>),
    Made(Vec<u8>),
}

impl<F: Frame> RxToken for Incoming<F> {
    fn consume<R, G: FnOnce(&[u8]) -> R>(self, read: G) -> R {
        match self {
            Self::Frame(frame, packet) => read(&frame[packet]),
            Self::Together(packet) => read(&packet),
            Self::Made(packet) => read(&packet),
        }
    }
}

/// A packet that is to go out.
pub(super) struct Outgoing<'a, D: Device> {
    phy: &'a mut Phy<D>,
    sender: &'a mut Sender,
    cut: Option<NonZeroU16>,
}

impl<D: Device> TxToken for Outgoing<'_, D> {
    fn consume<R, G: FnOnce(&mut [u8]) -> R>(self, len: usize, write: G) -> R {
        let Self { phy, sender, cut } = self;
        if !phy.output_cut() {
            // Lost, as on a wire: an answer to a packet, for which nobody has made sure of room.
            phy.scratch.resize(len, 0);
            return write(&mut phy.scratch);
        }
        let result = write(phy.cut.buffer(len));
        let device_cuts = phy.caps.segments_tcp4.is_some();
        if let Some(segment) = phy.cut.begin(cut, device_cuts)
            && let Some(number) = sender.on_output(segment, phy.now)
        {
            phy.cut.renumber(number);
        }
        phy.output_cut();
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.cut = meta.segmentation_offload_size;
    }
}
