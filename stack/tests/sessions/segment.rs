//! [`Segment`]: a TCP segment in an IPv4 packet in an Ethernet frame, as far as [`super::cable`] must
//! know it, and the one that ends its connection.

use std::net::{Ipv4Addr, SocketAddr};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const TCP: usize = 20;
const RST_ACK: u8 = 0x14;

/// What is in a frame (RFC 791, section 3.1; RFC 9293, section 3.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    /// The hardware addresses: destination and source.
    macs: [[u8; 6]; 2],
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    seq: u32,
    pub(crate) ack: u32,
    len: u32,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    acknowledges: bool,
}

impl Segment {
    /// Nothing if it is anything else.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let header: &[u8; ETHERNET + IPV4 + TCP] = frame.first_chunk()?;
        let (ethernet, rest) = header.split_at(ETHERNET);
        let (ip, tcp) = rest.split_at(IPV4);
        // IPv4 without options, and TCP in it.
        if ethernet[12..] != [8, 0] || ip[0] != 0x45 || ip[9] != 6 {
            return None;
        }
        let socket = |address: usize, port: usize| {
            let address: [u8; 4] = *ip[address..].first_chunk()?;
            let port = u16::from_be_bytes(*tcp[port..].first_chunk()?);
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port))
        };
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let flags = tcp[13];
        Some(Self {
            macs: [*ethernet.first_chunk()?, *ethernet[6..].first_chunk()?],
            source: socket(12, 0)?,
            destination: socket(16, 2)?,
            seq: u32::from_be_bytes(*tcp[4..].first_chunk()?),
            ack: u32::from_be_bytes(*tcp[8..].first_chunk()?),
            len: total.checked_sub(IPV4 + usize::from(tcp[12] >> 4) * 4)? as u32,
            fin: flags & 1 != 0,
            syn: flags & 2 != 0,
            rst: flags & 4 != 0,
            acknowledges: flags & 0x10 != 0,
        })
    }

    /// Whether it asks for a connection.
    pub(crate) fn opens(&self) -> bool {
        self.syn && !self.acknowledges
    }

    /// The sequence number behind it.
    pub(crate) fn end(&self) -> u32 {
        let flags = u32::from(self.syn) + u32::from(self.fin);
        self.seq.wrapping_add(self.len + flags)
    }
}

/// A frame that tells the sender of `of` that its connection is gone, so numbered.
pub(crate) fn reset(of: &Segment, seq: u32, ack: u32) -> Vec<u8> {
    let [destination, source] = of.macs;
    let address = |socket: SocketAddr| match socket {
        SocketAddr::V4(socket) => socket.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    };
    let addresses = [address(of.destination), address(of.source)].concat();
    let mut ip = vec![0x45, 0, 0, (IPV4 + TCP) as u8, 0, 0, 0, 0, 64, 6, 0, 0];
    ip.extend(&addresses);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = [of.destination.port(), of.source.port()]
        .map(u16::to_be_bytes)
        .concat();
    tcp.extend([seq, ack].map(u32::to_be_bytes).concat());
    tcp.extend([(TCP as u8 / 4) << 4, RST_ACK, 0, 0, 0, 0, 0, 0]);
    let pseudo = [&addresses[..], &[0, 6, 0, TCP as u8], &tcp].concat();
    tcp[16..18].copy_from_slice(&checksum(&pseudo));
    [&source[..], &destination, &[8, 0], &ip, &tcp].concat()
}

/// The ones' complement of the ones' complement sum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}
