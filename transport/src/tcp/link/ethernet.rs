//! Ethernet II framing (RFC 894, RFC 2464), and the short frames that this layer makes itself.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Deref;

use super::{ETHERNET_HEADER_LEN, Mac};

/// The `EtherType` of an IPv4 packet (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// The `EtherType` of an ARP packet (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// The `EtherType` of an IPv6 packet (RFC 2464, section 3).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(super) const BROADCAST: Mac = [0xff; 6];
const UNKNOWN: Mac = [0; 6];

/// Writes an Ethernet header to the first [`ETHERNET_HEADER_LEN`] bytes of a frame.
///
/// # Panics
/// If the frame is shorter than that.
pub fn write_ethernet_header(frame: &mut [u8], destination: Mac, source: Mac, ethertype: u16) {
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    frame[12..ETHERNET_HEADER_LEN].copy_from_slice(&ethertype.to_be_bytes());
}

/// Whether an address names one station: neither a group nor nobody.
pub(super) fn is_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != UNKNOWN
}

/// Where a multicast IPv6 packet goes (RFC 2464, section 7).
pub(super) fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// An ARP or neighbour discovery frame to be transmitted, complete with its Ethernet header.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; Self::MAX_LEN],
    len: usize,
}

impl ControlFrame {
    /// The longest, in bytes: a neighbour discovery message with one option.
    pub const MAX_LEN: usize = ETHERNET_HEADER_LEN + 40 + 32;

    /// `packet` is at most [`Self::MAX_LEN`] less the header.
    pub(super) fn new(destination: Mac, source: Mac, ethertype: u16, packet: &[u8]) -> Self {
        let mut bytes = [0; Self::MAX_LEN];
        write_ethernet_header(&mut bytes, destination, source, ethertype);
        let len = ETHERNET_HEADER_LEN + packet.len();
        bytes[ETHERNET_HEADER_LEN..len].copy_from_slice(packet);
        Self { bytes, len }
    }
}

impl Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
