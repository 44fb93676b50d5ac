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
    seq: u32,
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

    /// Of a segment that we send: sees to it that one without anything in it is numbered behind all
    /// that was ever sent, which `sent_up_to` keeps.
    ///
    /// Such a segment carries SND.NXT (RFC 9293, section 3.10.7.4). smoltcp goes back to the first
    /// byte that is not acknowledged when a retransmission timer expires, and numbers also its
    /// acknowledgements from there. The peer takes them for old and ignores what they acknowledge.
    /// If both ends have gone back, neither ever gets on.
    pub(super) fn number_behind(&self, sent_up_to: &mut Option<u32>, packet: &mut [u8]) {
        let numbered = self.flags & (SYN | FIN) != 0;
        let end = self
            .seq
            .wrapping_add(self.payload_len as u32 + u32::from(numbered));
        let sent = *sent_up_to.get_or_insert(end);
        let behind = sent.wrapping_sub(end).cast_signed();
        if behind <= 0 {
            *sent_up_to = Some(end);
        } else if self.payload_len == 0 && !numbered && self.flags & ACK != 0 && behind > 1 {
            // One byte may be a probe of a window without room, and what is behind that the peer
            // ignores, too.
            self.renumber(sent, packet);
        }
    }

    /// Changes the sequence number, and the checksum with it (RFC 1624, equation 3).
    fn renumber(&self, seq: u32, packet: &mut [u8]) {
        let header = &mut packet[self.ip_header_len..];
        let words = |number: u32| [number >> 16, number & 0xffff];
        let mut sum = u32::from(!u16::from_be_bytes([header[16], header[17]]));
        for (old, new) in words(self.seq).into_iter().zip(words(seq)) {
            sum += (!old & 0xffff) + new;
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        header[4..8].copy_from_slice(&seq.to_be_bytes());
        header[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
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
