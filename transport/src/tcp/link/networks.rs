//! [`Networks`]: our own addresses, which others are on the link, and who forwards to the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Mac;
use super::ndisc::{ALL_NODES, solicited_node};

/// Addresses that a link cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The port's hardware address is a group's, or nobody's.
    #[error("{0:02x?} is not the hardware address of a station")]
    Mac(Mac),
    /// Only a unicast address can be somebody's.
    #[error("{0} cannot be an interface's address")]
    Address(IpAddr),
    /// A prefix is at most 32 bits of an IPv4 address, 128 of an IPv6 address.
    #[error("{0} has no prefix of {1} bits")]
    Prefix(IpAddr, u8),
    /// An address is given twice.
    #[error("{0} is given twice")]
    Duplicate(IpAddr),
    /// A gateway must be on the link, and not be us.
    #[error("gateway {0} is not in any of the interface's networks")]
    Gateway(IpAddr),
    /// There is at most one gateway for IPv4, and one for IPv6.
    #[error("gateway {0}: there is already one for its address family")]
    Gateways(IpAddr),
}

#[derive(Debug)]
pub(super) struct Networks {
    /// Our addresses, with the length of the prefix that they share with their neighbours.
    addresses: Vec<(IpAddr, u8)>,
    /// At most one for each address family.
    gateways: Vec<IpAddr>,
}

impl Networks {
    pub(super) fn new(
        mac: Mac,
        addresses: &[(IpAddr, u8)],
        gateways: &[IpAddr],
    ) -> Result<Self, LinkError> {
        let mut networks = Self {
            addresses: Vec::new(),
            gateways: Vec::new(),
        };
        for &(ip, prefix_len) in addresses {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            if prefix_len > bits {
                return Err(LinkError::Prefix(ip, prefix_len));
            }
            if !is_unicast(ip) || is_broadcast((ip, prefix_len), ip) {
                return Err(LinkError::Address(ip));
            }
            if networks.is_own(ip) {
                return Err(LinkError::Duplicate(ip));
            }
            networks.addresses.push((ip, prefix_len));
        }
        let of_ipv6 = || addresses.iter().filter(|(ip, _)| ip.is_ipv6());
        if of_ipv6().next().is_some() && !of_ipv6().any(|&(ip, _)| is_link_local(ip)) {
            networks.addresses.push((link_local(mac).into(), 64));
        }
        for &ip in gateways {
            if networks.is_own(ip) || networks.next_hop(ip) != Some(ip) {
                return Err(LinkError::Gateway(ip));
            }
        }
        for &ip in gateways {
            if networks.gateway_for(ip).is_some() {
                return Err(LinkError::Gateways(ip));
            }
            networks.gateways.push(ip);
        }
        Ok(networks)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.addresses.iter().copied()
    }

    pub(super) fn own_v6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses().filter_map(|(ip, _)| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip),
        })
    }

    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|&(own, _)| own == ip)
    }

    /// Whether we are in a group: only those that neighbour discovery needs.
    pub(super) fn is_own_group(&self, group: Ipv6Addr) -> bool {
        let mut own = self.own_v6().peekable();
        (own.peek().is_some() && group == ALL_NODES) || own.any(|ip| group == solicited_node(ip))
    }

    fn gateway_for(&self, ip: IpAddr) -> Option<IpAddr> {
        let mut gateways = self.gateways.iter().copied();
        gateways.find(|gateway| gateway.is_ipv4() == ip.is_ipv4())
    }

    /// Who takes a packet for `ip`: itself, a gateway, or nobody.
    pub(super) fn next_hop(&self, ip: IpAddr) -> Option<IpAddr> {
        if !is_unicast(ip) {
            return None;
        }
        match self.addresses().find(|&network| contains(network, ip)) {
            Some(network) if is_broadcast(network, ip) => None,
            Some(_) => Some(ip),
            // Not to be forwarded (RFC 4291, section 2.5.6).
            None if is_link_local(ip) => None,
            None => self.gateway_for(ip),
        }
    }

    /// Which of our addresses to use towards another (after RFC 6724): the one in its network, that
    /// in the gateway's, or any from which an answer can come back.
    pub(super) fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        if self.is_own(remote) {
            return Some(remote);
        }
        let gateway = self.gateway_for(remote);
        let usable = self.addresses().filter(|&(ip, _)| {
            ip.is_ipv4() == remote.is_ipv4() && is_link_local(ip) == is_link_local(remote)
        });
        // Of equals the first one, which `max_by_key` would not give.
        let best = usable.min_by_key(|&network| {
            let (_, prefix_len) = network;
            let via = gateway.is_some_and(|gateway| contains(network, gateway));
            match (contains(network, remote), via) {
                (true, _) => (0, 128 - prefix_len),
                (false, true) => (1, 128 - prefix_len),
                (false, false) => (2, 0),
            }
        });
        best.map(|(ip, _)| ip)
    }
}

fn contains((network, prefix_len): (IpAddr, u8), ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(prefix_len)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(prefix_len)
        }
        _ => false,
    }
}

/// Whether an address in a network stands for all in it (RFC 1122, section 3.2.1.3). There is no
/// such address where there is only room for two (RFC 3021).
fn is_broadcast((_, prefix_len): (IpAddr, u8), ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
            prefix_len < 31 && ip.to_bits() & host == host
        }
        IpAddr::V6(_) => false,
    }
}

/// Whether an address can be somebody's on a network: not a group's, everybody's or nobody's.
fn is_unicast(ip: IpAddr) -> bool {
    let is_special = ip.is_multicast() || ip.is_unspecified() || ip.is_loopback();
    // 0.0.0.0/8, and 240.0.0.0/4 with the broadcast address (RFC 6890, section 2.2.2).
    let is_reserved = |ip: Ipv4Addr| ip.octets()[0] == 0 || ip.octets()[0] >= 240;
    match ip {
        IpAddr::V4(ip) => !is_special && !is_reserved(ip),
        IpAddr::V6(_) => !is_special,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The link-local address made from a hardware address (RFC 2464, sections 4 and 5).
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [m0, m1, m2, m3, m4, m5] = mac;
    let identifier = u64::from_be_bytes([m0 ^ 2, m1, m2, 0xff, 0xfe, m3, m4, m5]);
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(identifier))
}
