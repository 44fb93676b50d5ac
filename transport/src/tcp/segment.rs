//! [`Segment`]: what the demultiplexer must know of an IP packet before anybody has parsed it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber};

use super::checksum;

/// The IP protocol number of TCP.
const TCP: u8 = 6;
/// The shortest TCP header.
pub(super) const TCP_HEADER_LEN: usize = 20;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// The two ends of a connection (the 4-tuple of RFC 9293, section 4), seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// What a segment without anything in it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) seq: u32,
    /// All before this number has arrived.
    pub(super) number: u32,
    /// As in the header: scaled.
    pub(super) window: u16,
}

/// A TCP segment in an IP packet: where it belongs, and what its flags say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The sender is `remote`.
    pub(super) ends: Ends,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    /// The lengths of the two headers and of what is behind them, in bytes.
    pub(super) ip_header_len: usize,
    pub(super) tcp_header_len: usize,
    payload_len: usize,
}

impl Segment {
    /// The segment in a packet; nothing if there is none, or only a fragment. Checksums are not
    /// looked at. IPv6 extension headers are not followed: TCP peers send none.
    pub(super) fn peek(packet: &[u8]) -> Option<Self> {
        let (source, destination, ip_header_len) = match packet.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = packet.first_chunk()?;
                let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
                if header[9] != TCP || fragment {
                    return None;
                }
                let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
                let (source, destination) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
                let len = usize::from(header[0] & 0xf) * 4;
                let ends = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
                (IpAddr::V4(ends.0), IpAddr::V4(ends.1), len)
            }
            6 => {
                let header: &[u8; 40] = packet.first_chunk()?;
                if header[6] != TCP {
                    return None;
                }
                let source: [u8; 16] = *header[8..].first_chunk()?;
                let destination: [u8; 16] = *header[24..].first_chunk()?;
                let ends = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
                (IpAddr::V6(ends.0), IpAddr::V6(ends.1), 40)
            }
            _ => return None,
        };
        let header: &[u8; TCP_HEADER_LEN] = packet.get(ip_header_len..)?.first_chunk()?;
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let tcp_header_len = usize::from(header[12] >> 4) * 4;
        Some(Self {
            ends: Ends {
                local: SocketAddr::new(destination, port(2)),
                remote: SocketAddr::new(source, port(0)),
            },
            flags: header[13] & (FIN | SYN | RST | ACK),
            seq: u32::from_be_bytes(*header[4..].first_chunk()?),
            ack: u32::from_be_bytes(*header[8..].first_chunk()?),
            window: u16::from_be_bytes([header[14], header[15]]),
            ip_header_len,
            tcp_header_len,
            payload_len: packet.len().saturating_sub(ip_header_len + tcp_header_len),
        })
    }

    /// Whether somebody asks for a connection.
    pub(super) fn opens(&self) -> bool {
        self.flags == SYN
    }

    pub(super) fn resets(&self) -> bool {
        self.flags & RST != 0
    }

    /// Whether it is the first of either end.
    pub(super) fn synchronizes(&self) -> bool {
        self.flags & SYN != 0
    }

    pub(super) fn window(&self) -> u16 {
        self.window
    }

    pub(super) fn ack(&self) -> u32 {
        self.ack
    }

    pub(super) fn seq(&self) -> u32 {
        self.seq
    }

    /// The length of the headers in front of its bytes.
    pub(super) fn headers_len(&self) -> usize {
        self.ip_header_len + self.tcp_header_len
    }

    /// How many bytes there are in it.
    pub(super) fn len(&self) -> usize {
        self.payload_len
    }

    /// The sequence number behind it.
    pub(super) fn end(&self) -> u32 {
        let numbered = self.flags & (SYN | FIN) != 0;
        self.seq
            .wrapping_add(self.payload_len as u32 + u32::from(numbered))
    }

    /// Whether it takes up no sequence numbers.
    pub(super) fn is_empty(&self) -> bool {
        self.end() == self.seq
    }

    /// What it acknowledges, unless it opens or resets the connection.
    pub(super) fn acknowledgement(&self) -> Option<Acknowledgement> {
        (self.flags & (SYN | RST | ACK) == ACK).then_some(Acknowledgement {
            seq: self.seq,
            number: self.ack,
            window: self.window,
        })
    }

    fn options<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = TcpOption<'a>> {
        let options = self.ip_header_len + TCP_HEADER_LEN..self.ip_header_len + self.tcp_header_len;
        let mut left = packet.get(options).unwrap_or_default();
        std::iter::from_fn(move || {
            if left.is_empty() {
                return None;
            }
            let (rest, option) = TcpOption::parse(left).ok()?;
            left = rest;
            Some(option)
        })
    }

    /// How many bytes behind what it acknowledges the peer has (RFC 2018, section 3), as far as it
    /// says.
    pub(super) fn sacked(&self, packet: &[u8]) -> u32 {
        let ranges = self.options(packet).filter_map(|option| match option {
            TcpOption::SackRange(ranges) => Some(ranges),
            _ => None,
        });
        let lengths = ranges.flatten().flatten().map(|(start, end)| {
            let is_behind = start.wrapping_sub(self.ack).cast_signed() > 0;
            if is_behind {
                end.wrapping_sub(start)
            } else {
                0
            }
        });
        lengths.fold(0, u32::saturating_add)
    }

    /// The longest segment that the sender of this SYN takes, and by how much it scales its windows
    /// (RFC 9293, section 3.7.1; RFC 7323, section 2.2).
    pub(super) fn announces(&self, packet: &[u8]) -> (Option<u16>, Option<u8>) {
        let mut announced = (None, None);
        for option in self.options(packet) {
            match option {
                TcpOption::MaxSegmentSize(size) => announced.0 = Some(size),
                TcpOption::WindowScale(shift) => announced.1 = Some(shift),
                _ => {}
            }
        }
        announced
    }

    /// Whether there is nothing to it but bytes and an acknowledgement.
    pub(super) fn is_plain(&self) -> bool {
        let ip_header_len = if self.ends.local.is_ipv6() { 40 } else { 20 };
        let has_options = self.headers_len() > ip_header_len + TCP_HEADER_LEN;
        self.flags == ACK && !has_options && self.payload_len > 0
    }

    /// Whether another segment has the next bytes, so that the two might as well be one.
    pub(super) fn is_continued_by(&self, next: &Self) -> bool {
        self.ends == next.ends && self.end() == next.seq && self.is_plain() && next.is_plain()
    }

    /// Makes this one what both of them would be.
    pub(super) fn absorb(&mut self, next: &Self) {
        self.payload_len += next.payload_len;
        // What is sent once more may stand in front of what was sent before it.
        if next.ack.wrapping_sub(self.ack).cast_signed() >= 0 {
            (self.ack, self.window) = (next.ack, next.window);
        }
    }

    /// Makes a packet, the headers of whose first part are there, say what all of it is. The
    /// checksum of TCP is wrong then.
    pub(super) fn write_whole(&self, packet: &mut [u8]) {
        let at = self.ip_header_len + 8;
        packet[at..at + 4].copy_from_slice(&self.ack.to_be_bytes());
        self.rewrite_window(packet, self.window);
        self.write_length(packet);
    }

    /// Some of the bytes of this one, as a segment of its own.
    pub(super) fn part(&self, from: usize, len: usize, is_last: bool) -> Self {
        Self {
            seq: self.seq.wrapping_add(from as u32),
            payload_len: len,
            flags: if is_last {
                self.flags
            } else {
                self.flags & !FIN
            },
            ..*self
        }
    }

    /// Makes the headers of the whole those of this part of it. The checksum of TCP is wrong then.
    pub(super) fn write_part(&self, headers: &mut [u8], is_last: bool) {
        self.renumber(self.seq, headers);
        if !is_last {
            headers[self.ip_header_len + 13] &= !(FIN | PSH);
        }
        self.write_length(headers);
    }

    /// Makes the IP header say how long the packet is (RFC 791, section 3.1; RFC 8200, section 3).
    fn write_length(&self, headers: &mut [u8]) {
        let len = (self.headers_len() + self.payload_len) as u16;
        if self.ends.local.is_ipv6() {
            headers[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            return;
        }
        headers[2..4].copy_from_slice(&len.to_be_bytes());
        headers[10..12].fill(0);
        let sum = checksum::fold(checksum::sum(&headers[..self.ip_header_len]));
        headers[10..12].copy_from_slice(&(!sum).to_ne_bytes());
    }

    /// Changes the window. The checksum is wrong then.
    pub(super) fn rewrite_window(&self, packet: &mut [u8], window: u16) {
        let at = self.ip_header_len + 14;
        packet[at..at + 2].copy_from_slice(&window.to_be_bytes());
    }

    /// Changes the sequence number of a segment of ours. The checksum is wrong then.
    pub(super) fn renumber(&self, seq: u32, packet: &mut [u8]) {
        let at = self.ip_header_len + 4;
        packet[at..at + 4].copy_from_slice(&seq.to_be_bytes());
    }
}

/// The packet in which the peer would say this.
pub(super) fn make(ends: &Ends, what: Acknowledgement) -> Vec<u8> {
    let segment = TcpRepr {
        src_port: ends.remote.port(),
        dst_port: ends.local.port(),
        control: TcpControl::None,
        seq_number: TcpSeqNumber(what.seq.cast_signed()),
        ack_number: Some(TcpSeqNumber(what.number.cast_signed())),
        window_len: what.window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (remote, local) = (ends.remote.ip().into(), ends.local.ip().into());
    let packet = IpRepr::new(remote, local, IpProtocol::Tcp, segment.header_len(), 1);
    // Nobody checks our own.
    let mut sums = ChecksumCapabilities::ignored();
    sums.ipv4 = Checksum::Both;
    let header_len = packet.header_len();
    let mut made = vec![0; header_len + segment.header_len()];
    packet.emit(&mut made[..], &sums);
    let mut tcp = TcpPacket::new_unchecked(&mut made[header_len..]);
    segment.emit(&mut tcp, &remote, &local, &sums);
    made
}

/// The destination of an IP packet that we have made.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            Some(IpAddr::V4(address.into()))
        }
        6 => {
            let address: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            Some(IpAddr::V6(address.into()))
        }
        _ => None,
    }
}

impl Segment {
    /// Whether the checksum is right. `packet` is the one that this segment was found in.
    pub(super) fn is_intact(&self, packet: &[u8]) -> bool {
        let tcp = &packet[self.ip_header_len..];
        let sum = self.pseudo_header_sum(packet, tcp.len()) + checksum::sum(tcp);
        checksum::fold(sum) == 0xffff
    }

    /// Puts the checksum of a segment with this payload where it goes.
    pub(super) fn write_checksum(&self, headers: &mut [u8], payload: &[u8]) {
        self.write_pseudo_header_sum(headers, self.tcp_header_len + payload.len());
        let sum = checksum::sum(&headers[self.ip_header_len..]) + checksum::sum(payload);
        self.write(!checksum::fold(sum), headers);
    }

    /// Puts the sum of the pseudo header where the checksum goes, for a device that adds the rest.
    /// `len` is that of the segment, or 0 if the device is to add the lengths, too.
    pub(super) fn write_pseudo_header_sum(&self, headers: &mut [u8], len: usize) {
        let sum = checksum::fold(self.pseudo_header_sum(headers, len));
        self.write(sum, headers);
    }

    fn write(&self, sum: u16, packet: &mut [u8]) {
        let at = self.ip_header_len + 16;
        packet[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }

    /// Source: RFC 9293, section 3.1; RFC 8200, section 8.1.
    fn pseudo_header_sum(&self, packet: &[u8], len: usize) -> u64 {
        let addresses = if self.ends.local.is_ipv6() {
            8..40
        } else {
            12..20
        };
        checksum::sum(&packet[addresses])
            + u64::from(u16::from(TCP).to_be())
            + u64::from((len as u16).to_be())
    }
}
