//! Frames that the fuzzer need not invent, and the judgement of those that come back. Shares no code
//! with what it judges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use msgr_transport::tcp::Mac;

/// Where the endpoint is, and the one who sends it what the fuzzer likes.
pub(super) const OWN_MAC: Mac = [2, 0, 0, 0, 0, 0x0b];
pub(super) const OWN: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
];
const OWN_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0b);
pub(super) const PEER_MAC: Mac = [2, 0, 0, 0, 0, 0x0a];
pub(super) const PEER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
];

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// What [`arp`] makes.
pub(super) const REQUEST: u8 = 1;
pub(super) const REPLY: u8 = 2;
/// What [`neighbour_discovery`] makes.
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;

/// The peer asks for the endpoint's address, or gives its own.
pub(super) fn arp(operation: u8) -> Vec<u8> {
    let (to, target) = match operation {
        REQUEST => ([0xff; 6], [0; 6]),
        _ => (OWN_MAC, OWN_MAC),
    };
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    let pairs = [&PEER_MAC[..], &octets(PEER[0]), &target, &octets(OWN[0])].concat();
    [&to[..], &PEER_MAC, &ARP, &fixed, &pairs].concat()
}

/// The same for IPv6.
pub(super) fn neighbour_discovery(kind: u8) -> Vec<u8> {
    let (flags, target, option) = match kind {
        SOLICITATION => (0, OWN[1], 1),
        _ => (0x60, PEER[1], 2),
    };
    let fixed = [kind, 0, 0, 0, flags, 0, 0, 0];
    let message = [&fixed[..], &octets(target), &[option, 1], &PEER_MAC].concat();
    let mut frame = packet(PEER[1], OWN[1], ICMPV6, &message);
    complete(&mut frame);
    frame
}

/// A packet to the endpoint, without the checksum of what is in it.
pub(super) fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let (ethertype, header) = if to.is_ipv4() {
        let [high, low] = (len + 20).to_be_bytes();
        let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header.extend(octets(from));
        header.extend(octets(to));
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        (IPV4, header)
    } else {
        let [high, low] = len.to_be_bytes();
        let fixed = [0x60, 0, 0, 0, high, low, protocol, 255];
        (IPV6, [&fixed[..], &octets(from), &octets(to)].concat())
    };
    [&OWN_MAC[..], &PEER_MAC, &ethertype, &header, payload].concat()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The ones' complement sum (RFC 1071). All parts but the last are of even length.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// An IP packet in a frame, as far as the frame has one.
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    hop_limit: u8,
    /// Where it begins in the frame.
    at: usize,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let bytes = frame.get(14..)?;
        if frame[12..14] == IPV4 {
            let header: &[u8; 20] = bytes.first_chunk()?;
            let at = usize::from(header[0] & 0xf) * 4;
            let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let ip = |at: usize| -> [u8; 4] { std::array::from_fn(|i| header[at + i]) };
            Some(Self {
                source: ip(12).into(),
                destination: ip(16).into(),
                protocol: header[9],
                hop_limit: header[8],
                at: 14 + at,
                payload: bytes.get(at..end)?,
            })
        } else if frame[12..14] == IPV6 {
            let header: &[u8; 40] = bytes.first_chunk()?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let ip = |at: usize| -> [u8; 16] { std::array::from_fn(|i| header[at + i]) };
            Some(Self {
                source: ip(8).into(),
                destination: ip(24).into(),
                protocol: header[6],
                hop_limit: header[7],
                at: 54,
                payload: bytes.get(40..40 + len)?,
            })
        } else {
            None
        }
    }

    /// The sum over payload and pseudo header, or without that where there is none.
    fn sum(&self) -> u16 {
        if self.protocol == ICMP {
            return sum(&[self.payload]);
        }
        let [source, destination] = [octets(self.source), octets(self.destination)];
        let rest = [
            &[0, self.protocol][..],
            &(self.payload.len() as u16).to_be_bytes(),
        ]
        .concat();
        sum(&[&source, &destination, &rest, self.payload])
    }

    /// Where the checksum is in the payload.
    fn checksum_at(&self) -> Option<usize> {
        let at = match self.protocol {
            ICMP | ICMPV6 => 2,
            TCP => 16,
            _ => return None,
        };
        (self.payload.len() >= at + 2).then_some(at)
    }

    /// Where the bytes of a TCP segment are in the frame, and the number of the first.
    fn data(&self) -> Option<(Range<usize>, u32)> {
        let header: &[u8; 20] = self.payload.first_chunk()?;
        let number = u32::from_be_bytes(std::array::from_fn(|i| header[4 + i]));
        let takes_one = u32::from(header[13] >> 1 & 1);
        let start = usize::from(header[12] >> 4) * 4;
        let is_data = self.protocol == TCP && (20..self.payload.len()).contains(&start);
        let range = self.at + start..self.at + self.payload.len();
        is_data.then_some((range, number.wrapping_add(takes_one)))
    }
}

/// Puts what is in an IP packet right: the bytes of a TCP segment become their numbers, so that it can be
/// told whether they are handed up in order; and then the checksum, if there is one.
pub(super) fn complete(frame: &mut [u8]) {
    if let Some((range, number)) = Packet::parse(frame).and_then(|packet| packet.data()) {
        for (at, byte) in frame[range].iter_mut().enumerate() {
            *byte = (number as u8).wrapping_add(at as u8);
        }
    }
    let place = |frame: &[u8]| {
        let packet = Packet::parse(frame)?;
        Some(packet.at + packet.checksum_at()?)
    };
    if let Some(at) = place(frame) {
        frame[at..at + 2].fill(0);
        let checksum = !Packet::parse(frame).expect("as before").sum();
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Panics unless a frame is one that a station with our addresses may send.
pub(super) fn judge(frame: &[u8]) {
    assert!(frame.len() >= 14, "no Ethernet header: {frame:02x?}");
    assert_eq!(frame[6..12], OWN_MAC, "not from us: {frame:02x?}");
    assert_ne!(frame[..6], OWN_MAC, "to ourselves: {frame:02x?}");
    assert_ne!(frame[..6], [0; 6], "to nobody: {frame:02x?}");
    if frame[12..14] == ARP {
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[14..21], [0, 1, 8, 0, 6, 4, 0]);
        assert!(matches!(frame[21], REQUEST | REPLY));
        assert_eq!(frame[22..28], OWN_MAC);
        assert_eq!(frame[28..32], octets(OWN[0]));
        return;
    }
    let packet = Packet::parse(frame).unwrap_or_else(|| panic!("neither IP nor ARP: {frame:02x?}"));
    let end = packet.at + packet.payload.len();
    assert_eq!(end, frame.len(), "a wrong length: {frame:02x?}");
    let is_own = OWN.contains(&packet.source) || packet.source == OWN_LINK_LOCAL;
    assert!(is_own, "from {}: {frame:02x?}", packet.source);
    if packet.source.is_ipv4() {
        assert_eq!(
            sum(&[&frame[14..packet.at]]),
            !0,
            "IPv4 checksum: {frame:02x?}"
        );
    }
    assert!(
        packet.checksum_at().is_some(),
        "neither TCP nor ICMP: {frame:02x?}"
    );
    assert_eq!(packet.sum(), !0, "checksum: {frame:02x?}");
    if packet.protocol == ICMPV6 && matches!(packet.payload[0], SOLICITATION | ADVERTISEMENT) {
        assert_eq!(packet.hop_limit, 255);
        assert_eq!(packet.payload.len(), 32);
        assert_eq!(packet.payload[26..], OWN_MAC);
    }
}
