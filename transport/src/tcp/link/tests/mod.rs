//! The link layer against frames that Linux sent, against neighbours that lie, and over time. Here:
//! those frames, and a host to send them to.

mod addresses;
mod frames;
mod neighbours;

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::ethernet::ControlFrame;
use super::{Ignored, Input, Link, Mac, Resolved};

const US: Mac = [2, 0, 0, 0, 0, 0x0b];
const PEER: Mac = [2, 0, 0, 0, 0, 0x0a];
const THIEF: Mac = [2, 0, 0, 0, 0, 0x66];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

// What Linux 6.18 sent over a veth pair: the peer with 10.9.0.1 and fd00::1, and what it was
// answered by one with our addresses.
const ARP_REQUEST: &str = "ffffffffffff 02000000000a 0806
    0001 0800 06 04 0001 02000000000a 0a090001 000000000000 0a090002";
const ARP_REPLY: &str = "02000000000a 02000000000b 0806
    0001 0800 06 04 0002 02000000000b 0a090002 02000000000a 0a090001";
const SOLICITATION: &str = "3333ff000002 02000000000a 86dd 60000000 0020 3a ff
    fd000000000000000000000000000001 ff0200000000000000000001ff000002
    87 00 7d8e 00000000 fd000000000000000000000000000002 01 01 02000000000a";
const ADVERTISEMENT: &str = "02000000000a 02000000000b 86dd 60000000 0020 3a ff
    fd000000000000000000000000000002 fd000000000000000000000000000001
    88 00 1c91 60000000 fd000000000000000000000000000002 02 01 02000000000b";
// Its own announcement, and its question whether somebody has the address that it wants, which
// carries a nonce (RFC 7527).
const ANNOUNCEMENT: &str = "333300000001 02000000000b 86dd 60000000 0020 3a ff
    fe80000000000000000000fffe00000b ff020000000000000000000000000001
    88 00 597d 20000000 fe80000000000000000000fffe00000b 02 01 02000000000b";
const DUPLICATE_ADDRESS_DETECTION: &str = "3333ff00000b 02000000000a 86dd 60000000 0020 3a ff
    00000000000000000000000000000000 ff0200000000000000000001ff00000b
    87 00 2a36 00000000 fe80000000000000000000fffe00000b 0e 01 93270068b142";

fn unhex(digits: &str) -> Vec<u8> {
    let digits = digits.replace(char::is_whitespace, "");
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).expect("digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The frame with some bytes changed, and the `ICMPv6` checksum put right.
fn with(digits: &str, changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = unhex(digits);
    for &(at, bytes) in changes {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
    }
    if frame[12] == 0x86 {
        put_checksum(&mut frame);
    }
    frame
}

/// RFC 4443, section 2.3.
fn put_checksum(frame: &mut [u8]) {
    frame[56..58].fill(0);
    let mut sum = 58 + frame.len() as u32 - 54;
    for word in frame[22..].chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    frame[56..58].copy_from_slice(&(!sum as u16).to_be_bytes());
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A link and the time there.
struct Host {
    link: Link<&'static str>,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self::at(US, &[(ip("10.9.0.2"), 24), (ip("fd00::2"), 64)], &[])
    }

    /// The one that Linux was asked by.
    fn peer() -> Self {
        Self::at(PEER, &[(ip("10.9.0.1"), 24), (ip("fd00::1"), 64)], &[])
    }

    fn at(mac: Mac, addresses: &[(IpAddr, u8)], gateways: &[IpAddr]) -> Self {
        Self {
            link: Link::new(mac, addresses, gateways).expect("a link"),
            now: Instant::now(),
        }
    }

    fn input(&mut self, frame: &[u8]) -> (Input, Vec<Vec<u8>>) {
        let mut out = Vec::new();
        let input = self.link.input(frame, self.now, &mut out);
        (input, bytes(&out))
    }

    #[track_caller]
    fn ignores(&mut self, frame: &[u8], why: Ignored) {
        assert_eq!(self.input(frame), (Input::Ignored(why), vec![]));
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.link.poll(self.now, &mut out);
        bytes(&out)
    }

    fn resolve(&mut self, neighbour: &str) -> Resolved {
        self.link.resolve(ip(neighbour), self.now)
    }

    /// What is sent until something is when nothing comes in.
    fn wait(&mut self) -> Vec<Vec<u8>> {
        self.now = self.link.next_timeout().expect("a deadline");
        self.poll()
    }
}

fn bytes(out: &[ControlFrame]) -> Vec<Vec<u8>> {
    out.iter().map(|frame| frame.to_vec()).collect()
}
