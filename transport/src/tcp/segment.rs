//! [`Segment`]: a TCP segment as it was found in an IP packet, and [`Header`], what is put in front of one
//! of ours. Layouts only; what a segment means to a connection is not known here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::checksum;

/// The IP protocol number of TCP.
const TCP: u8 = 6;
/// The shortest headers of IPv4, IPv6 and TCP.
pub(super) const IPV4_HEADER_LEN: usize = 20;
pub(super) const IPV6_HEADER_LEN: usize = 40;
pub(super) const TCP_HEADER_LEN: usize = 20;
/// As many routers as Linux lets a packet pass (ip(7), `ip_default_ttl`).
pub(super) const HOPS: u8 = 64;

/// The flags of a segment (RFC 9293, section 3.1).
pub(super) mod flags {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
}
use flags::{ACK, FIN, RST, SYN};

/// The two ends of a connection (the 4-tuple of RFC 9293, section 4), seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A TCP segment in an IP packet: where it belongs, and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The sender is `remote`.
    pub(super) ends: Ends,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// As in the header: scaled, but for a SYN's.
    pub(super) window: u16,
    /// The lengths of the two headers and of what is behind them, in bytes.
    ip_header_len: usize,
    tcp_header_len: usize,
    payload_len: usize,
}

/// The most ranges that a segment has room for.
pub(super) const SACKS: usize = 4;

/// What the options of a segment say, as far as we speak them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The longest segment that its sender takes (RFC 9293, section 3.7.1).
    pub(super) mss: Option<u16>,
    /// By how much it scales its windows (RFC 7323, section 2.2).
    pub(super) window_scale: Option<u8>,
    /// Whether it knows selective acknowledgements (RFC 2018, section 2).
    pub(super) sack_permitted: bool,
    /// What has arrived behind a gap, from and up to, the latest first (RFC 2018, section 3).
    pub(super) sacks: [Option<(u32, u32)>; SACKS],
}

impl Segment {
    /// The segment in a packet; nothing if there is none, or only a fragment. Checksums are not
    /// looked at. IPv6 extension headers are not followed: TCP peers send none.
    pub(super) fn peek(packet: &[u8]) -> Option<Self> {
        let (source, destination, ip_header_len) = match packet.first()? >> 4 {
            4 => {
                let header: &[u8; IPV4_HEADER_LEN] = packet.first_chunk()?;
                let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
                if header[9] != TCP || fragment || header[0] & 0xf < 5 {
                    return None;
                }
                let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
                let (source, destination) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
                let len = usize::from(header[0] & 0xf) * 4;
                let ends = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
                (IpAddr::V4(ends.0), IpAddr::V4(ends.1), len)
            }
            6 => {
                let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk()?;
                if header[6] != TCP {
                    return None;
                }
                let source: [u8; 16] = *header[8..].first_chunk()?;
                let destination: [u8; 16] = *header[24..].first_chunk()?;
                let ends = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
                (IpAddr::V6(ends.0), IpAddr::V6(ends.1), IPV6_HEADER_LEN)
            }
            _ => return None,
        };
        let header: &[u8; TCP_HEADER_LEN] = packet.get(ip_header_len..)?.first_chunk()?;
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let tcp_header_len = usize::from(header[12] >> 4) * 4;
        if tcp_header_len < TCP_HEADER_LEN {
            return None;
        }
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
            payload_len: packet.len().checked_sub(ip_header_len + tcp_header_len)?,
        })
    }

    /// One that differs only in its bytes.
    pub(super) fn with(&self, seq: u32, payload_len: usize) -> Self {
        Self {
            seq,
            payload_len,
            ..*self
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether somebody asks for a connection.
    pub(super) fn opens(&self) -> bool {
        self.flags == SYN
    }

    /// Whether it can be answered: it comes from one station, and from a port.
    pub(super) fn has_sender(&self) -> bool {
        let ip = self.ends.remote.ip();
        let is_group = ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST;
        !is_group && self.ends.remote.port() != 0
    }

    /// How many sequence numbers it takes up.
    pub(super) fn len(&self) -> u32 {
        self.payload_len as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// Where its bytes are, if the packet that it was found in is at `packet`.
    pub(super) fn payload(&self, packet: Range<usize>) -> Range<usize> {
        packet.start + self.ip_header_len + self.tcp_header_len..packet.end
    }

    /// Whether the checksums of IPv4 and TCP are right.
    pub(super) fn is_intact(&self, packet: &[u8]) -> bool {
        let (ip, tcp) = packet.split_at(self.ip_header_len);
        let pseudo = checksum::protocol_and_len(TCP, tcp.len());
        let addresses = if self.ends.local.is_ipv6() {
            checksum::sum(&ip[8..40])
        } else {
            let fixed: &[u8; IPV4_HEADER_LEN] = ip.first_chunk().expect("it was found");
            let sum = checksum::words(fixed) + checksum::sum(&ip[IPV4_HEADER_LEN..]);
            if checksum::fold(sum) != 0xffff {
                return false;
            }
            checksum::words::<8>(fixed.last_chunk().expect("long enough"))
        };
        checksum::fold(pseudo + addresses + checksum::sum(tcp)) == 0xffff
    }

    /// What its options say. Whatever makes no sense ends them.
    pub(super) fn options(&self, packet: &[u8]) -> Options {
        let mut options = Options::default();
        let mut left = &packet[self.ip_header_len + TCP_HEADER_LEN..];
        left = &left[..self.tcp_header_len - TCP_HEADER_LEN];
        while let [kind, rest @ ..] = left {
            let body = match (kind, rest) {
                (0, _) => break,
                (1, _) => {
                    left = rest;
                    continue;
                }
                (_, [len, ..]) => left.get(2..usize::from(*len)),
                (_, []) => None,
            };
            let Some(body) = body else { break };
            left = &left[2 + body.len()..];
            match (kind, body) {
                (2, &[high, low]) => options.mss = Some(u16::from_be_bytes([high, low])),
                (3, &[shift]) => options.window_scale = Some(shift),
                (4, []) => options.sack_permitted = true,
                (5, _) => {
                    let (ranges, _) = body.as_chunks::<8>();
                    for (sack, range) in options.sacks.iter_mut().zip(ranges) {
                        let range = u64::from_be_bytes(*range);
                        *sack = Some(((range >> 32) as u32, range as u32));
                    }
                }
                _ => {}
            }
        }
        options
    }
}

/// What stands in front of the bytes of a segment of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) ends: Ends,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) options: Options,
}

/// The most bytes of the headers of IP and TCP.
const MOST_HEADERS: usize = IPV6_HEADER_LEN + 60;

/// The headers of IP and TCP, as they leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers {
    bytes: [u8; MOST_HEADERS],
    pub(super) ip_len: usize,
    pub(super) tcp_len: usize,
    /// The sums of the two addresses, and of the IP header without its length.
    addresses: u64,
    ip: u64,
}

/// What all segments between two ends have in common.
#[derive(Debug)]
pub(super) struct Template(Headers);

impl Header {
    /// Says that a segment is for nobody (RFC 9293, section 3.5.2), unless it says so itself.
    pub(super) fn reset(segment: &Segment) -> Option<Self> {
        let (flags, seq, ack) = if segment.has(ACK) {
            (RST, segment.ack, 0)
        } else {
            (RST | ACK, 0, segment.seq.wrapping_add(segment.len()))
        };
        (!segment.has(RST)).then_some(Self {
            ends: segment.ends,
            flags,
            seq,
            ack,
            window: 0,
            options: Options::default(),
        })
    }

    /// The bytes of it, in front of so many. The checksum of TCP is not there yet.
    pub(super) fn write(&self, payload_len: usize) -> Headers {
        Template::new(&self.ends).fill_in(self, payload_len)
    }

    /// Returns how many bytes they take: a multiple of four.
    fn write_options(&self, into: &mut [u8]) -> usize {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            into[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        // Those that do nothing fill up.
        let options = &self.options;
        if let Some(mss) = options.mss {
            let [high, low] = mss.to_be_bytes();
            put(&[2, 4, high, low]);
        }
        if let Some(shift) = options.window_scale {
            put(&[1, 3, 3, shift]);
        }
        if options.sack_permitted {
            put(&[1, 1, 4, 2]);
        }
        let sacks = options.sacks.iter().flatten();
        let count = sacks.clone().count();
        if count > 0 {
            put(&[1, 1, 5, 2 + 8 * count as u8]);
            for (from, up_to) in sacks {
                put(&from.to_be_bytes());
                put(&up_to.to_be_bytes());
            }
        }
        len
    }
}

impl Template {
    pub(super) fn new(ends: &Ends) -> Self {
        let Ends { local, remote } = ends;
        let mut bytes = [0; MOST_HEADERS];
        let (ip_len, addresses) = match (local.ip(), remote.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let ip: &mut [u8; IPV4_HEADER_LEN] = bytes.first_chunk_mut().expect("long enough");
                ip[0] = 0x45;
                // Not to be fragmented (RFC 791, section 3.1).
                ip[6] = 0x40;
                ip[8] = HOPS;
                ip[9] = TCP;
                ip[12..16].copy_from_slice(&from.octets());
                ip[16..20].copy_from_slice(&to.octets());
                let addresses = checksum::words::<8>(ip.last_chunk().expect("long enough"));
                (IPV4_HEADER_LEN, addresses)
            }
            (from, to) => {
                let octets = |ip| match ip {
                    IpAddr::V6(ip) => ip.octets(),
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                };
                let ip: &mut [u8; IPV6_HEADER_LEN] = bytes.first_chunk_mut().expect("long enough");
                ip[0] = 0x60;
                ip[6] = TCP;
                ip[7] = HOPS;
                ip[8..24].copy_from_slice(&octets(from));
                ip[24..40].copy_from_slice(&octets(to));
                let addresses = checksum::words::<32>(ip.last_chunk().expect("long enough"));
                (IPV6_HEADER_LEN, addresses)
            }
        };
        let tcp = &mut bytes[ip_len..];
        tcp[..2].copy_from_slice(&local.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&remote.port().to_be_bytes());
        let ip = checksum::sum(&bytes[..ip_len]);
        Self(Headers {
            bytes,
            ip_len,
            tcp_len: TCP_HEADER_LEN,
            addresses,
            ip,
        })
    }

    /// The headers in front of so many bytes. The checksum of TCP is not there yet.
    pub(super) fn fill_in(&self, header: &Header, payload_len: usize) -> Headers {
        let mut headers = self.0;
        let (tcp, options) = headers.bytes[headers.ip_len..]
            .split_first_chunk_mut::<TCP_HEADER_LEN>()
            .expect("long enough");
        headers.tcp_len = TCP_HEADER_LEN + header.write_options(options);
        tcp[8..12].copy_from_slice(&header.ack.to_be_bytes());
        tcp[12] = (headers.tcp_len as u8 / 4) << 4;
        tcp[14..16].copy_from_slice(&header.window.to_be_bytes());
        headers.place(header.seq, header.flags, payload_len);
        headers
    }
}

impl Headers {
    pub(super) fn is_ipv6(&self) -> bool {
        self.ip_len == IPV6_HEADER_LEN
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.ip_len + self.tcp_len]
    }

    /// Makes them those of so many bytes, from the one with this number on. The checksum of TCP is not
    /// there yet.
    pub(super) fn place(&mut self, seq: u32, flags: u8, payload_len: usize) {
        let len = self.tcp_len + payload_len;
        let (ip, tcp) = self.bytes.split_at_mut(self.ip_len);
        if ip.len() == IPV6_HEADER_LEN {
            ip[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        } else {
            let len = ((ip.len() + len) as u16).to_be();
            ip[2..4].copy_from_slice(&len.to_ne_bytes());
            let sum = checksum::fold(self.ip + u64::from(len));
            ip[10..12].copy_from_slice(&(!sum).to_ne_bytes());
        }
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        tcp[13] = flags;
        tcp[16..18].fill(0);
    }

    /// Puts the checksum of TCP where it goes. `payload` is the sum of so many bytes behind.
    pub(super) fn complete(&mut self, payload: u64, payload_len: usize) {
        let (fixed, options) = self.bytes[self.ip_len..self.ip_len + self.tcp_len]
            .split_first_chunk::<TCP_HEADER_LEN>()
            .expect("long enough");
        let mut sum = checksum::words(fixed) + payload;
        if !options.is_empty() {
            sum += checksum::sum(options);
        }
        let pseudo = self.pseudo_header(self.tcp_len + payload_len);
        self.put_checksum(!checksum::fold(pseudo + sum));
    }

    /// Puts the sum of the pseudo header there, for a device that adds the rest. `len` is that of what
    /// is behind the IP header, or 0 if the device is to add the lengths, too.
    pub(super) fn prepare(&mut self, len: usize) {
        self.put_checksum(checksum::fold(self.pseudo_header(len)));
    }

    fn pseudo_header(&self, len: usize) -> u64 {
        self.addresses + checksum::protocol_and_len(TCP, len)
    }

    fn put_checksum(&mut self, sum: u16) {
        let at = self.ip_len + 16;
        self.bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests;
