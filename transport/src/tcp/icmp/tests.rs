use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr,
};

use super::*;

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const US_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn v4(message: &Icmpv4Repr<'_>) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: US,
        next_header: IpProtocol::Icmp,
        payload_len: message.buffer_len(),
        hop_limit: 3,
    };
    let checksums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len() + message.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &checksums);
    let to = &mut bytes[ip.buffer_len()..];
    message.emit(&mut Icmpv4Packet::new_unchecked(to), &checksums);
    bytes
}

fn v6(message: &Icmpv6Repr<'_>) -> Vec<u8> {
    let ip = Ipv6Repr {
        src_addr: PEER_V6,
        dst_addr: US_V6,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 3,
    };
    let mut bytes = vec![0; ip.buffer_len() + message.buffer_len()];
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
    let mut to = Icmpv6Packet::new_unchecked(&mut bytes[ip.buffer_len()..]);
    message.emit(&PEER_V6, &US_V6, &mut to, &ChecksumCapabilities::default());
    bytes
}

/// Of any length.
fn requests() -> impl Iterator<Item = (Vec<u8>, Vec<u8>, Vec<u8>)> {
    [0, 1, 2, 7, 56, 57, 1452].into_iter().map(|len| {
        let data: Vec<u8> = (0..len).map(|at: u32| (at * 7 / 3) as u8).collect();
        let (ident, seq_no) = (0x1234, 0xfedc);
        let first = v4(&Icmpv4Repr::EchoRequest {
            ident,
            seq_no,
            data: &data,
        });
        let second = v6(&Icmpv6Repr::EchoRequest {
            ident,
            seq_no,
            data: &data,
        });
        (data, first, second)
    })
}

#[test]
fn a_request_is_answered_with_what_it_brought() {
    let checksums = ChecksumCapabilities::default();
    for (data, first, second) in requests() {
        let (ident, seq_no, data) = (0x1234, 0xfedc, &data[..]);
        let (reply, _, to) = answer(&first).expect("a reply");
        let packet = Ipv4Packet::new_checked(&reply[..]).expect("IPv4");
        let ip = Ipv4Repr::parse(&packet, &checksums).expect("all is well");
        let ends = (ip.src_addr, ip.dst_addr, ip.hop_limit, ip.next_header);
        assert_eq!(ends, (US, PEER, HOPS, IpProtocol::Icmp));
        let message = Icmpv4Packet::new_checked(packet.payload()).expect("a message");
        let message = Icmpv4Repr::parse(&message, &checksums).expect("all is well");
        assert_eq!(
            message,
            Icmpv4Repr::EchoReply {
                ident,
                seq_no,
                data
            }
        );
        assert_eq!(to, IpAddr::from(PEER));

        let (reply, _, to) = answer(&second).expect("a reply");
        let packet = Ipv6Packet::new_checked(&reply[..]).expect("IPv6");
        let ip = Ipv6Repr::parse(&packet).expect("all is well");
        let ends = (ip.src_addr, ip.dst_addr, ip.hop_limit, ip.next_header);
        assert_eq!(ends, (US_V6, PEER_V6, HOPS, IpProtocol::Icmpv6));
        let message = Icmpv6Packet::new_checked(packet.payload()).expect("a message");
        let message = Icmpv6Repr::parse(&US_V6, &PEER_V6, &message, &checksums);
        let message = message.expect("all is well");
        assert_eq!(
            message,
            Icmpv6Repr::EchoReply {
                ident,
                seq_no,
                data
            }
        );
        assert_eq!(to, IpAddr::from(PEER_V6));
    }
}

#[test]
fn other_messages_are_not_answered() {
    let (ident, seq_no, data) = (1, 2, &b"bytes"[..]);
    let reply = v4(&Icmpv4Repr::EchoReply {
        ident,
        seq_no,
        data,
    });
    assert_eq!(answer(&reply), None);
    let reply = v6(&Icmpv6Repr::EchoReply {
        ident,
        seq_no,
        data,
    });
    assert_eq!(answer(&reply), None);
}

#[test]
fn damaged_requests_are_not_answered() {
    let mut random = Rng::with_seed(1);
    for (_, first, second) in requests() {
        for request in [first, second] {
            // Of an IPv6 header, only addresses are protected.
            let headers = if request[0] >> 4 == 6 { 48 } else { 28 };
            assert_eq!(answer(&request[..headers - 1]), None);
            let protected = if request[0] >> 4 == 6 { 8 } else { 0 };
            for _ in 0..500 {
                let mut damaged = request.clone();
                let bit = random.usize(protected * 8..request.len() * 8);
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(answer(&damaged), None, "{bit}");
                answer(&request[..random.usize(..request.len())]);
            }
        }
    }
}

#[test]
fn no_bytes_are_too_absurd() {
    let mut random = Rng::with_seed(2);
    for _ in 0..100_000 {
        let mut bytes = vec![0; random.usize(..80)];
        random.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = first.wrapping_rem(16) | if random.bool() { 0x40 } else { 0x60 };
        }
        answer(&bytes);
    }
}
