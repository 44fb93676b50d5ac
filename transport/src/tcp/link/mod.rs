//! [`Link`]: what lies between IP packets and an Ethernet port. Which frames are for us, who has
//! which hardware address (ARP and neighbour discovery), and which neighbour takes a packet. Works
//! on byte slices and passed time: it has no port, and knows nothing of what is in an IP packet.
//!
//! Addresses are configured, so there is no duplicate address detection and no router discovery; a
//! conflict is reported. Groups are not reported to multicast routers either.

mod arp;
mod ethernet;
mod ndisc;
mod neighbours;
mod networks;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use self::ethernet::{BROADCAST, is_station, multicast};
use self::neighbours::{Claim, Neighbours};
use self::networks::Networks;
use super::{ETHERNET_HEADER_LEN, Mac};

pub use self::ethernet::{
    ControlFrame, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, write_ethernet_header,
};
pub use self::neighbours::Resolved;
pub use self::networks::LinkError;

/// What an Ethernet frame was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An IP packet to our hardware address: where in the frame it is, without padding. Of its
    /// header only the version and the lengths have been checked.
    Ip(Range<usize>),
    /// ARP or neighbour discovery, of which note was taken.
    Handled,
    /// Of no use.
    Ignored(Ignored),
}

/// Why a frame was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It, or what is in it, ends before it should.
    #[error("truncated")]
    Truncated,
    /// A field has a value that its specification rules out.
    #[error("malformed")]
    Malformed,
    /// It is for another station, or a group that we are not in.
    #[error("not for us")]
    NotForUs,
    /// It is neither IP nor ARP, or has a VLAN tag.
    #[error("unknown EtherType {0:#06x}")]
    EtherType(u16),
    /// Neighbour discovery that has come through a router (RFC 4861, section 7.1).
    #[error("neighbour discovery from another network")]
    HopLimit,
    /// An `ICMPv6` checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// An answer from a neighbour that we did not ask.
    #[error("an answer that nobody asked for")]
    Unsolicited,
    /// What we sent ourselves has come back.
    #[error("our own frame came back")]
    Reflected,
    /// Another station uses an address of ours.
    #[error("{0} is also used by another station")]
    Conflict(IpAddr),
}

/// The link layer of one Ethernet port. `P` is what packets wait in for their neighbour to answer.
pub struct Link<P> {
    mac: Mac,
    networks: Networks,
    neighbours: Neighbours<P>,
}

impl<P> Link<P> {
    /// The most neighbours that it remembers.
    pub const NEIGHBOURS: usize = neighbours::CAPACITY;
    /// The most packets that wait for one neighbour.
    pub const WAITING_FOR_ONE: usize = neighbours::WAITING_FOR_ONE;
    /// The most packets that wait.
    pub const WAITING: usize = neighbours::WAITING;

    /// A link with these addresses, each with the length of its network's prefix in bits. If there
    /// are IPv6 addresses, but none for this link only, it is given one (RFC 4291, section 2.8).
    /// There is at most one gateway for each address family.
    ///
    /// # Errors
    /// [`LinkError`] if an address cannot be what it is to be.
    pub fn new(
        mac: Mac,
        addresses: &[(IpAddr, u8)],
        gateways: &[IpAddr],
    ) -> Result<Self, LinkError> {
        if !is_station(mac) {
            return Err(LinkError::Mac(mac));
        }
        Ok(Self {
            mac,
            networks: Networks::new(mac, addresses, gateways)?,
            neighbours: Neighbours::default(),
        })
    }

    /// Our addresses, each with the length of its network's prefix in bits.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.networks.addresses()
    }

    /// Whether an address is ours.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.networks.is_own(ip)
    }

    /// Which of our addresses to use towards another, if any will do.
    pub fn source_for(&self, remote: IpAddr) -> Option<IpAddr> {
        self.networks.source_for(remote)
    }

    /// Which neighbour takes packets to a destination: itself, a gateway, or nobody.
    pub fn next_hop(&self, destination: IpAddr) -> Option<IpAddr> {
        self.networks.next_hop(destination)
    }

    /// Where frames for a neighbour go. While that is [pending](Resolved::Pending) packets may
    /// wait [here](Self::enqueue). [`poll`](Self::poll) must be called afterwards.
    pub fn resolve(&mut self, next_hop: IpAddr, now: Instant) -> Resolved {
        self.neighbours.resolve(next_hop, now)
    }

    /// Keeps a packet until its neighbour has answered. If it never does, or too many wait, packets
    /// are dropped, the oldest first.
    pub fn enqueue(&mut self, next_hop: IpAddr, packet: P) {
        self.neighbours.enqueue(next_hop, packet);
    }

    /// The next packet that need not wait any longer, and where it goes. There may be some after
    /// each [`input`](Self::input).
    pub fn take_resolved(&mut self) -> Option<(Mac, P)> {
        self.neighbours.take_resolved()
    }

    /// How many neighbours are remembered.
    pub fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    /// Tells all neighbours who we are, so that none sends to a port that had our addresses before:
    /// to be called when the port comes up.
    pub fn announce(&self, out: &mut Vec<ControlFrame>) {
        out.extend(self.addresses().map(|(ip, _)| match ip {
            IpAddr::V4(ip) => arp::announcement((self.mac, ip)),
            IpAddr::V6(ip) => ndisc::announcement((self.mac, ip)),
        }));
    }

    /// Asks for neighbours, repeatedly if need be, and forgets those that are gone.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<ControlFrame>) {
        let Self {
            mac,
            networks,
            neighbours,
        } = self;
        neighbours.poll(now, |ip, at| {
            out.extend(match (networks.source_for(ip), ip) {
                (Some(IpAddr::V4(own)), IpAddr::V4(ip)) => Some(arp::request((*mac, own), ip, at)),
                (Some(IpAddr::V6(own)), IpAddr::V6(ip)) => {
                    Some(ndisc::solicitation((*mac, own), ip, at))
                }
                _ => None,
            });
        });
    }

    /// Whether packets wait for a neighbour.
    pub fn is_waited_for(&self) -> bool {
        self.neighbours.is_waited_for()
    }

    /// When [`poll`](Self::poll) must be called next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.neighbours.next_timeout()
    }

    /// Takes in a frame, and appends to `out` what answers it: one frame at most.
    pub fn input(&mut self, frame: &[u8], now: Instant, out: &mut Vec<ControlFrame>) -> Input {
        match self.dispatch(frame, now, out) {
            Ok(input) => input,
            Err(reason) => Input::Ignored(reason),
        }
    }

    fn dispatch(
        &mut self,
        frame: &[u8],
        now: Instant,
        out: &mut Vec<ControlFrame>,
    ) -> Result<Input, Ignored> {
        let (header, payload): (&[u8; ETHERNET_HEADER_LEN], _) =
            frame.split_first_chunk().ok_or(Ignored::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let destination = [d0, d1, d2, d3, d4, d5];
        let source = [s0, s1, s2, s3, s4, s5];
        let to_us = destination == self.mac;
        match u16::from_be_bytes([t0, t1]) {
            // RFC 1122, section 3.3.6: not if it came in a frame for everybody.
            ETHERTYPE_IPV4 if to_us => Ok(Input::Ip(within_frame(ipv4_len(payload)?))),
            ETHERTYPE_IPV6 if to_us || self.is_own_group(destination) => {
                let len = ipv6_len(payload)?;
                match ndisc::Message::parse(&payload[..len])? {
                    Some(message) => self.neighbour_discovery(&message, source, now, out),
                    None if to_us => Ok(Input::Ip(within_frame(len))),
                    None => Err(Ignored::NotForUs),
                }
            }
            ETHERTYPE_ARP if to_us || destination == BROADCAST => {
                self.address_resolution(&arp::Packet::parse(payload)?, now, out)
            }
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_ARP => Err(Ignored::NotForUs),
            other => Err(Ignored::EtherType(other)),
        }
    }

    fn is_own_group(&self, mac: Mac) -> bool {
        // Groups whose addresses end alike share a hardware address.
        let [0x33, 0x33, ..] = mac else {
            return false;
        };
        let mut own = self.networks.own_v6().peekable();
        own.peek().is_some() && mac == multicast(ndisc::ALL_NODES)
            || own.any(|ip| mac == multicast(ndisc::solicited_node(ip)))
    }

    fn address_resolution(
        &mut self,
        packet: &arp::Packet,
        now: Instant,
        out: &mut Vec<ControlFrame>,
    ) -> Result<Input, Ignored> {
        let (mac, ip) = packet.sender;
        let (target_mac, target) = packet.target;
        let asks_us = packet.operation == arp::Operation::Request && self.is_own(target.into());
        if mac == self.mac {
            return Err(Ignored::Reflected);
        }
        if self.is_own(ip.into()) {
            return Err(Ignored::Conflict(ip.into()));
        }
        let claim = Claim {
            mac: Some(mac),
            solicited: packet.operation == arp::Operation::Reply
                && target_mac == self.mac
                && self.is_own(target.into()),
            overrides: true,
            introduces: asks_us,
        };
        let learnt = self.learn(ip.into(), claim, now);
        if asks_us {
            let answer = arp::Packet {
                operation: arp::Operation::Reply,
                sender: (self.mac, target),
                target: packet.sender,
            };
            out.push(answer.frame(mac));
        }
        match packet.operation {
            _ if learnt || asks_us => Ok(Input::Handled),
            arp::Operation::Request => Err(Ignored::NotForUs),
            arp::Operation::Reply => Err(Ignored::Unsolicited),
        }
    }

    fn neighbour_discovery(
        &mut self,
        message: &ndisc::Message,
        from: Mac,
        now: Instant,
        out: &mut Vec<ControlFrame>,
    ) -> Result<Input, Ignored> {
        let &ndisc::Message {
            kind,
            source,
            destination,
            target,
            mac,
        } = message;
        if from == self.mac || mac == Some(self.mac) {
            return Err(Ignored::Reflected);
        }
        if !self.is_own(destination.into()) && !self.networks.is_own_group(destination) {
            return Err(Ignored::NotForUs);
        }
        let conflict = match kind {
            ndisc::Kind::Solicitation => source,
            ndisc::Kind::Advertisement { .. } => target,
        };
        if self.is_own(conflict.into()) {
            return Err(Ignored::Conflict(conflict.into()));
        }
        match kind {
            ndisc::Kind::Solicitation if self.is_own(target.into()) => {
                let own = (self.mac, target);
                if source.is_unspecified() {
                    // Somebody wants the address that we have (RFC 4862, section 5.4.3).
                    out.push(ndisc::announcement(own));
                    return Ok(Input::Handled);
                }
                let claim = Claim {
                    mac,
                    solicited: false,
                    overrides: true,
                    introduces: true,
                };
                self.learn(source.into(), claim, now);
                let mac = mac.unwrap_or(from);
                if !is_station(mac) {
                    return Err(Ignored::Malformed);
                }
                out.push(ndisc::advertisement(own, (mac, source)));
                Ok(Input::Handled)
            }
            ndisc::Kind::Solicitation => Err(Ignored::NotForUs),
            ndisc::Kind::Advertisement {
                solicited,
                overrides,
            } => {
                let claim = Claim {
                    mac,
                    solicited,
                    overrides,
                    introduces: false,
                };
                let learnt = self.learn(target.into(), claim, now);
                learnt.then_some(Input::Handled).ok_or(Ignored::Unsolicited)
            }
        }
    }

    /// Only those that we would send to: others are no neighbours.
    fn learn(&mut self, ip: IpAddr, claim: Claim, now: Instant) -> bool {
        self.next_hop(ip) == Some(ip) && self.neighbours.learn(ip, claim, now)
    }
}

fn within_frame(len: usize) -> Range<usize> {
    ETHERNET_HEADER_LEN..ETHERNET_HEADER_LEN + len
}

/// The length of the IPv4 packet that some bytes begin with (RFC 791, section 3.1).
fn ipv4_len(bytes: &[u8]) -> Result<usize, Ignored> {
    let header: &[u8; 20] = bytes.first_chunk().ok_or(Ignored::Truncated)?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < header.len() || len < header_len {
        return Err(Ignored::Malformed);
    }
    (len <= bytes.len())
        .then_some(len)
        .ok_or(Ignored::Truncated)
}

/// The length of the IPv6 packet that some bytes begin with (RFC 8200, section 3).
fn ipv6_len(bytes: &[u8]) -> Result<usize, Ignored> {
    let header: &[u8; 40] = bytes.first_chunk().ok_or(Ignored::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Ignored::Malformed);
    }
    let len = header.len() + usize::from(u16::from_be_bytes([header[4], header[5]]));
    (len <= bytes.len())
        .then_some(len)
        .ok_or(Ignored::Truncated)
}
