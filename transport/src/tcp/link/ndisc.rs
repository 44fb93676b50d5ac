//! Neighbour solicitations and advertisements (RFC 4861, sections 4.3 and 4.4) over Ethernet. What
//! they mean is the link's affair.

use std::net::Ipv6Addr;

use super::ethernet::{ControlFrame, ETHERTYPE_IPV6, is_station, multicast};
use super::{Ignored, Mac};
use crate::tcp::checksum;

const IPV6_HEADER_LEN: usize = 40;
const ICMPV6: u8 = 58;
/// What a packet has that no router has passed on (section 7.1).
const HOP_LIMIT: u8 = 255;

/// The `ICMPv6` types of neighbour discovery: router solicitation to redirect.
const FIRST_TYPE: u8 = 133;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const LAST_TYPE: u8 = 137;

/// Up to the options: type, code, checksum, flags, target.
const MESSAGE_LEN: usize = 24;
/// One link-layer address option, the only one that we send.
const OPTION_LEN: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group of those whose address ends like this one (RFC 4291, section 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Solicitation,
    Advertisement { solicited: bool, overrides: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) target: Ipv6Addr,
    /// The sender's link-layer address, or the target's.
    pub(super) mac: Option<Mac>,
}

impl Message {
    /// The message in a whole IPv6 packet; nothing if it is a packet for somebody else. Extension
    /// headers are not followed: neighbour discovery has none.
    pub(super) fn parse(packet: &[u8]) -> Result<Option<Self>, Ignored> {
        let (header, message): (&[u8; IPV6_HEADER_LEN], _) =
            packet.split_first_chunk().ok_or(Ignored::Truncated)?;
        let kind = match message.first() {
            Some(&kind @ FIRST_TYPE..=LAST_TYPE) if header[6] == ICMPV6 => kind,
            _ => return Ok(None),
        };
        let source = address(header, 8);
        let destination = address(header, 24);
        if header[7] != HOP_LIMIT {
            return Err(Ignored::HopLimit);
        }
        if sum(source, destination, message) != !0 {
            return Err(Ignored::Checksum);
        }
        if kind != SOLICITATION && kind != ADVERTISEMENT {
            return Err(Ignored::NotForUs);
        }
        let (fixed, options): (&[u8; MESSAGE_LEN], _) =
            message.split_first_chunk().ok_or(Ignored::Truncated)?;
        let (kind, wanted) = if kind == SOLICITATION {
            (Kind::Solicitation, SOURCE_LINK_LAYER)
        } else {
            let kind = Kind::Advertisement {
                solicited: fixed[4] & SOLICITED != 0,
                overrides: fixed[4] & OVERRIDE != 0,
            };
            (kind, TARGET_LINK_LAYER)
        };
        let message = Self {
            kind,
            source,
            destination,
            target: address(fixed, 8),
            mac: link_layer_address(options, wanted)?,
        };
        let is_valid = fixed[1] == 0 && message.is_valid();
        is_valid.then_some(Some(message)).ok_or(Ignored::Malformed)
    }

    /// The rest of sections 7.1.1 and 7.1.2.
    fn is_valid(&self) -> bool {
        let Self {
            source,
            destination,
            target,
            ..
        } = self;
        let addresses =
            !source.is_multicast() && !target.is_multicast() && !target.is_unspecified();
        let rest = match self.kind {
            Kind::Solicitation if source.is_unspecified() => {
                destination.is_multicast() && self.mac.is_none()
            }
            Kind::Solicitation => true,
            Kind::Advertisement { solicited, .. } => {
                !(source.is_unspecified() || solicited && destination.is_multicast())
            }
        };
        addresses && rest
    }
}

fn address<const N: usize>(bytes: &[u8; N], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(std::array::from_fn(|i| bytes[at + i]))
}

/// The address in the first option of a kind. All options must have a length (section 4.6).
fn link_layer_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Ignored> {
    let mut found = None;
    while let [kind, len, ..] = *options {
        let len = usize::from(len) * 8;
        if len == 0 {
            return Err(Ignored::Malformed);
        }
        let (option, rest) = options.split_at_checked(len).ok_or(Ignored::Truncated)?;
        if kind == wanted && found.is_none() {
            let mac = option[2..].first_chunk().copied();
            let mac = mac.filter(|&mac| len == OPTION_LEN && is_station(mac));
            found = Some(mac.ok_or(Ignored::Malformed)?);
        }
        options = rest;
    }
    match options {
        [] => Ok(found),
        _ => Err(Ignored::Truncated),
    }
}

/// The sum over the message and its pseudo header (RFC 8200, section 8.1), in the order of this machine.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let addresses = checksum::words(&source.octets()) + checksum::words(&destination.octets());
    let fixed = checksum::protocol_and_len(ICMPV6, message.len());
    checksum::fold(addresses + fixed + checksum::sum(message))
}

/// A station's two addresses.
pub(super) type Pair = (Mac, Ipv6Addr);

/// A message about `target`, with our link-layer address.
fn frame(kind: u8, flags: u8, from: Pair, to: Pair, target: Ipv6Addr) -> ControlFrame {
    let (mac, source) = from;
    let (to_mac, destination) = to;
    let mut packet = [0; IPV6_HEADER_LEN + MESSAGE_LEN + OPTION_LEN];
    let (header, message) = packet.split_at_mut(IPV6_HEADER_LEN);
    header[0] = 6 << 4;
    header[5] = message.len() as u8;
    header[6] = ICMPV6;
    header[7] = HOP_LIMIT;
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&destination.octets());
    message[0] = kind;
    message[4] = flags;
    message[8..MESSAGE_LEN].copy_from_slice(&target.octets());
    message[MESSAGE_LEN] = if kind == SOLICITATION {
        SOURCE_LINK_LAYER
    } else {
        TARGET_LINK_LAYER
    };
    message[MESSAGE_LEN + 1] = (OPTION_LEN / 8) as u8;
    message[MESSAGE_LEN + 2..].copy_from_slice(&mac);
    let checksum = !sum(source, destination, message);
    message[2..4].copy_from_slice(&checksum.to_ne_bytes());
    ControlFrame::new(to_mac, mac, ETHERTYPE_IPV6, &packet)
}

fn group(group: Ipv6Addr) -> Pair {
    (multicast(group), group)
}

/// Asks who has `target`: its group, or the one who had it (section 7.2.2).
pub(super) fn solicitation(from: Pair, target: Ipv6Addr, at: Option<Mac>) -> ControlFrame {
    let to = match at {
        Some(mac) => (mac, target),
        None => group(solicited_node(target)),
    };
    frame(SOLICITATION, 0, from, to, target)
}

/// Answers a solicitation (section 7.2.4).
pub(super) fn advertisement(from: Pair, to: Pair) -> ControlFrame {
    frame(ADVERTISEMENT, SOLICITED | OVERRIDE, from, to, from.1)
}

/// Tells everybody who we are (section 7.2.6).
pub(super) fn announcement(from: Pair) -> ControlFrame {
    frame(ADVERTISEMENT, OVERRIDE, from, group(ALL_NODES), from.1)
}
