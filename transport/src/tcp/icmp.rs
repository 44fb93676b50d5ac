//! Echo requests (ping(8)) and what answers them: RFC 792; RFC 4443, section 4.

use std::net::IpAddr;

use super::checksum::{self, fold};
use super::segment::HOPS;

/// The IP protocol numbers of ICMP and `ICMPv6`.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The packet that answers an echo request, whom that was for, and where the answer goes; `None` if this is
/// none, is only a fragment, or is damaged.
pub(super) fn answer(packet: &[u8]) -> Option<(Vec<u8>, IpAddr, IpAddr)> {
    let (header_len, request, reply) = match packet.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = packet.first_chunk()?;
            let header_len = usize::from(header[0] & 0xf) * 4;
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            let is_intact = fold(checksum::sum(packet.get(..header_len)?)) == 0xffff;
            if header[9] != ICMP || is_fragment || !is_intact {
                return None;
            }
            (header_len, 8, 0)
        }
        6 => {
            let header: &[u8; 40] = packet.first_chunk()?;
            if header[6] != ICMPV6 {
                return None;
            }
            (40, 128, 129)
        }
        _ => return None,
    };
    let is_v6 = header_len == 40 && packet[0] >> 4 == 6;
    let message = packet.get(header_len..)?;
    let pseudo_header = |packet: &[u8]| {
        if is_v6 {
            let fixed = checksum::protocol_and_len(ICMPV6, packet.len() - header_len);
            checksum::sum(&packet[8..40]) + fixed
        } else {
            0
        }
    };
    let is_intact = fold(pseudo_header(packet) + checksum::sum(message)) == 0xffff;
    if message.len() < 8 || message[0] != request || message[1] != 0 || !is_intact {
        return None;
    }
    let mut answer = packet.to_vec();
    answer[header_len] = reply;
    answer[header_len + 2..header_len + 4].fill(0);
    let (own, to) = if is_v6 {
        answer[8..24].copy_from_slice(&packet[24..40]);
        answer[24..40].copy_from_slice(&packet[8..24]);
        answer[7] = HOPS;
        let address = |at: usize| Some(IpAddr::from(*packet[at..].first_chunk::<16>()?));
        (address(24)?, address(8)?)
    } else {
        answer[12..16].copy_from_slice(&packet[16..20]);
        answer[16..20].copy_from_slice(&packet[12..16]);
        answer[8] = HOPS;
        answer[10..12].fill(0);
        let sum = fold(checksum::sum(&answer[..header_len]));
        answer[10..12].copy_from_slice(&(!sum).to_ne_bytes());
        let address = |at: usize| Some(IpAddr::from(*packet[at..].first_chunk::<4>()?));
        (address(16)?, address(12)?)
    };
    let sum = fold(pseudo_header(&answer) + checksum::sum(&answer[header_len..]));
    answer[header_len + 2..header_len + 4].copy_from_slice(&(!sum).to_ne_bytes());
    Some((answer, own, to))
}

#[cfg(test)]
mod tests;
