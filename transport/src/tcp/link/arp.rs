//! Address resolution packets for IPv4 over Ethernet (RFC 826). What they mean is the link's affair.

use std::net::Ipv4Addr;

use super::ethernet::{BROADCAST, ControlFrame, ETHERTYPE_ARP, is_station};
use super::{Ignored, Mac};

/// Ethernet, IPv4, and the lengths of their addresses: how every packet begins.
const PREAMBLE: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const LEN: usize = 28;

/// What a packet is (RFC 826's `ar$op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Request = 1,
    Reply = 2,
}

/// Somebody's two addresses.
pub(super) type Pair = (Mac, Ipv4Addr);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) operation: Operation,
    pub(super) sender: Pair,
    pub(super) target: Pair,
}

impl Packet {
    /// What comes behind `bytes`' 28 is padding.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Ignored> {
        let bytes: &[u8; LEN] = bytes.first_chunk().ok_or(Ignored::Truncated)?;
        let operation = match (bytes[..6] == PREAMBLE, bytes[6], bytes[7]) {
            (true, 0, 1) => Operation::Request,
            (true, 0, 2) => Operation::Reply,
            _ => return Err(Ignored::Malformed),
        };
        let pair = |at: usize| {
            let [m0, m1, m2, m3, m4, m5, a, b, c, d] = std::array::from_fn(|i| bytes[at + i]);
            ([m0, m1, m2, m3, m4, m5], Ipv4Addr::new(a, b, c, d))
        };
        let packet = Self {
            operation,
            sender: pair(8),
            target: pair(18),
        };
        // RFC 1812, section 3.3.2: no neighbour is a group.
        let is_valid = is_station(packet.sender.0);
        is_valid.then_some(packet).ok_or(Ignored::Malformed)
    }

    /// In a frame from its sender to `destination`.
    pub(super) fn frame(&self, destination: Mac) -> ControlFrame {
        let mut bytes = [0; LEN];
        bytes[..6].copy_from_slice(&PREAMBLE);
        bytes[7] = self.operation as u8;
        for (at, (mac, ip)) in [(8, self.sender), (18, self.target)] {
            bytes[at..at + 6].copy_from_slice(&mac);
            bytes[at + 6..at + 10].copy_from_slice(&ip.octets());
        }
        ControlFrame::new(destination, self.sender.0, ETHERTYPE_ARP, &bytes)
    }
}

/// Asks who has `ip`: everybody, or (RFC 1122, section 2.3.2.1) the one who had it.
pub(super) fn request(sender: Pair, ip: Ipv4Addr, at: Option<Mac>) -> ControlFrame {
    let packet = Packet {
        operation: Operation::Request,
        sender,
        target: (at.unwrap_or_default(), ip),
    };
    packet.frame(at.unwrap_or(BROADCAST))
}

/// Tells everybody who we are (an announcement, RFC 5227, section 3).
pub(super) fn announcement(sender: Pair) -> ControlFrame {
    request(sender, sender.1, None)
}
