//! [`Cut`]: the packet that smoltcp has just made, on its way into frames: several, if it is a long
//! one, for a device that does not cut it itself. smoltcp is asked once for many segments then,
//! which costs less than to be asked for each.
//!
//! Headers are completed here, and a frame is only written. Whoever had its memory last was another
//! core, and to read it back would be to wait for that.

use std::net::IpAddr;
use std::num::NonZeroU16;

use super::segment::{self, Segment, TCP_HEADER_LEN};

/// The most bytes that are cut at a time. They stay in the nearest cache meanwhile, and the peer
/// takes in the first segments while the others are being made.
const MOST: usize = 32 << 10;
const IPV4_HEADER_LEN: usize = 20;
/// As long as headers get (RFC 791, section 3.1; RFC 9293, section 3.1).
const LONGEST_HEADERS: usize = 60 + 60;

#[derive(Debug, Default)]
pub(super) struct Cut {
    /// The packet, in memory that is kept.
    packet: Vec<u8>,
    len: usize,
    /// Where it goes, if there is anything left of it.
    destination: Option<IpAddr>,
    /// What is in it, if that is TCP.
    segment: Option<Segment>,
    /// How many bytes of payload each segment has, but for the last.
    size: usize,
    /// The same, if the device is to do it.
    by_device: Option<NonZeroU16>,
    /// How many bytes of payload are gone.
    done: usize,
}

/// What is in a frame.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) segment: Segment,
    /// Into how long ones the device is to cut it.
    pub(super) by_device: Option<NonZeroU16>,
}

impl Cut {
    /// How long a packet of IPv4 may be that is to be cut into some of `mtu` bytes: into whole ones.
    pub(super) fn most(mtu: usize) -> usize {
        let headers = IPV4_HEADER_LEN + TCP_HEADER_LEN;
        let size = mtu.saturating_sub(headers).max(1);
        headers + (MOST / size).max(1) * size
    }

    /// Where a packet goes. What was left of the one before it is gone.
    pub(super) fn buffer(&mut self, len: usize) -> &mut [u8] {
        if self.packet.len() < len {
            self.packet.resize(len, 0);
        }
        self.len = len;
        &mut self.packet[..len]
    }

    /// What is in the buffer is to be cut into segments with so many bytes of payload, if that is
    /// given, by the device if it can.
    pub(super) fn begin(
        &mut self,
        size: Option<NonZeroU16>,
        device_cuts: bool,
    ) -> Option<&Segment> {
        let packet = &self.packet[..self.len];
        self.destination = segment::destination(packet);
        self.segment = Segment::peek(packet);
        self.by_device = size.filter(|_| device_cuts);
        let size = size.filter(|_| !device_cuts);
        self.size = size.map_or(usize::MAX, |size| size.get().into());
        self.done = 0;
        self.segment.as_ref()
    }

    /// Changes the sequence number.
    pub(super) fn renumber(&mut self, number: u32) {
        if let Some(segment) = &self.segment {
            segment.renumber(number, &mut self.packet[..self.len]);
        }
    }

    /// Where the next packet goes, if there is one, and how long it is.
    pub(super) fn next(&self) -> Option<(IpAddr, usize)> {
        let headers = self.segment.as_ref().map_or(0, Segment::headers_len);
        let left = self.len - headers - self.done;
        Some((self.destination?, headers + self.size.min(left)))
    }

    /// Writes the next packet, with all checksums, or without that of the payload if the device
    /// `sums`.
    pub(super) fn write_next(&mut self, into: &mut [u8], device_sums: bool) -> Option<Part> {
        let packet = &self.packet[..self.len];
        let Some(whole) = &self.segment else {
            into.copy_from_slice(packet);
            self.destination = None;
            return None;
        };
        let (headers, payload) = packet.split_at(whole.headers_len());
        let mut memory = [0; LONGEST_HEADERS];
        memory[..headers.len()].copy_from_slice(headers);
        let headers = &mut memory[..headers.len()];

        let size = into.len() - headers.len();
        let is_last = self.done + size == payload.len();
        let segment = whole.part(self.done, size, is_last);
        let payload = &payload[self.done..self.done + size];
        if size < whole.len() {
            segment.write_part(headers, is_last);
        }
        if !device_sums {
            segment.write_checksum(headers, payload);
        } else if self.by_device.is_some() {
            segment.write_pseudo_header_sum(headers, 0);
        } else {
            segment.write_pseudo_header_sum(headers, segment.tcp_header_len + size);
        }
        into[..headers.len()].copy_from_slice(headers);
        into[headers.len()..].copy_from_slice(payload);
        self.done += size;
        if is_last {
            self.destination = None;
        }
        Some(Part {
            segment,
            by_device: self.by_device,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    };

    use super::*;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const FIRST: TcpSeqNumber = TcpSeqNumber(-1000);
    const ACK: Option<TcpSeqNumber> = Some(TcpSeqNumber(77));
    const WINDOW: u16 = 1234;

    /// A packet as smoltcp makes it.
    pub(crate) fn packet(control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control,
            seq_number: FIRST,
            ack_number: ACK,
            window_len: WINDOW,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: FROM,
            dst_addr: TO,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let sums = ChecksumCapabilities::default();
        let mut made = vec![0; IPV4_HEADER_LEN + tcp.buffer_len()];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut made), &sums);
        let mut segment = TcpPacket::new_unchecked(&mut made[IPV4_HEADER_LEN..]);
        tcp.emit(&mut segment, &FROM.into(), &TO.into(), &sums);
        made
    }

    /// The packets that a long one is cut into.
    pub(crate) fn cut(long: &[u8], size: u16) -> Vec<Vec<u8>> {
        let mut cut = Cut::default();
        cut.buffer(long.len()).copy_from_slice(long);
        cut.begin(NonZeroU16::new(size), false).expect("a segment");
        let mut packets = Vec::new();
        while let Some((_, len)) = cut.next() {
            let mut packet = vec![0xee; len];
            let part = cut.write_next(&mut packet, false).expect("TCP");
            assert_eq!(Segment::peek(&packet), Some(part.segment));
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn segments_continue_each_other_and_only_the_last_ends_anything() {
        let payload: Vec<u8> = (0..3500u32).map(|at| (at * 7 / 3) as u8).collect();
        let mut seen = Vec::new();
        for made in cut(&packet(TcpControl::Fin, &payload), 1460) {
            let ip = Ipv4Packet::new_checked(&made[..]).expect("a packet");
            assert!(ip.verify_checksum());
            let tcp = TcpPacket::new_checked(ip.payload()).expect("a segment");
            let sums = ChecksumCapabilities::default();
            let read = TcpRepr::parse(&tcp, &FROM.into(), &TO.into(), &sums).expect("intact");
            assert_eq!(read.seq_number, FIRST + seen.len());
            assert_eq!((read.ack_number, read.window_len), (ACK, WINDOW));
            seen.extend_from_slice(read.payload);
            let is_last = seen.len() == payload.len();
            assert_eq!(read.control == TcpControl::Fin, is_last);
        }
        assert_eq!(seen, payload);
    }

    #[test]
    fn long_packets_are_a_multiple_of_short_ones() {
        for mtu in [41, 576, 1280, 1500, 9000, 65535] {
            let most = Cut::most(mtu) - 40;
            assert_eq!(most % (mtu - 40), 0);
            assert!(most <= MOST.max(mtu));
        }
    }
}
