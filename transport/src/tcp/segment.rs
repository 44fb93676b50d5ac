//! [`Segment`]: what the demultiplexer must know of an IP packet before anybody has parsed it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The IP protocol number of TCP.
const TCP: u8 = 6;
/// The shortest TCP header.
const TCP_HEADER_LEN: usize = 20;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The two ends of a connection (the 4-tuple of RFC 9293, section 4), seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A TCP segment in an IP packet: where it belongs, and what its flags say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The sender is `remote`.
    pub(super) ends: Ends,
    flags: u8,
    /// The lengths of the two headers, in bytes.
    pub(super) ip_header_len: usize,
    pub(super) tcp_header_len: usize,
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
        Some(Self {
            ends: Ends {
                local: SocketAddr::new(destination, port(2)),
                remote: SocketAddr::new(source, port(0)),
            },
            flags: header[13] & (FIN | SYN | RST | ACK),
            ip_header_len,
            tcp_header_len: usize::from(header[12] >> 4) * 4,
        })
    }

    /// Whether somebody asks for a connection.
    pub(super) fn opens(&self) -> bool {
        self.flags == SYN
    }

    pub(super) fn resets(&self) -> bool {
        self.flags & RST != 0
    }
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
    /// Puts the sum of the pseudo header (RFC 9293, section 3.1) where the checksum goes, for a
    /// device that adds the rest. `packet` is the one that this segment was found in.
    pub(super) fn write_pseudo_header_sum(&self, packet: &mut [u8]) {
        let tcp_len = packet.len() - self.ip_header_len;
        let addresses = if self.ends.local.is_ipv6() {
            8..40
        } else {
            12..20
        };
        let words = packet[addresses].chunks_exact(2);
        let sum: u64 = words
            .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        let mut sum = sum + u64::from(TCP) + tcp_len as u64;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let at = self.ip_header_len + 16;
        packet[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    }
}
