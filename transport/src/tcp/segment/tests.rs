use fastrand::Rng;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::*;

fn ends(is_v6: bool) -> Ends {
    let ip = |last: u8| {
        if is_v6 {
            IpAddr::from([0xfd00, 0, 0, 7, 0, 0, 0, last.into()])
        } else {
            IpAddr::from([10, 9, 8, last])
        }
    };
    Ends {
        local: SocketAddr::new(ip(1), 40_000),
        remote: SocketAddr::new(ip(2), 6789),
    }
}

/// As many of each option as fit into a header, and none.
fn any_options(random: &mut Rng) -> Options {
    let mut options = Options::default();
    if random.bool() {
        options.mss = Some(random.u16(..));
        options.window_scale = random.bool().then(|| random.u8(..=14));
        options.sack_permitted = random.bool();
    } else {
        // smoltcp reads no more than three.
        for sack in options.sacks.iter_mut().take(random.usize(..4)) {
            *sack = Some((random.u32(..), random.u32(..)));
        }
    }
    options
}

fn any_header(random: &mut Rng) -> Header {
    let flags = [
        SYN,
        SYN | ACK,
        ACK,
        flags::PSH | ACK,
        FIN | ACK,
        RST,
        RST | ACK,
    ];
    Header {
        ends: ends(random.bool()),
        flags: flags[random.usize(..flags.len())],
        seq: random.u32(..),
        ack: random.u32(..),
        window: random.u16(..),
        options: any_options(random),
    }
}

fn any_bytes(random: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// The whole packet.
fn packet(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut headers = header.write(payload.len());
    headers.complete(checksum::sum(payload), payload.len());
    [headers.bytes(), payload].concat()
}

/// What smoltcp finds in a packet, checksums looked at: its ends, and the segment in it.
fn tcp_of(packet: &[u8]) -> (IpAddress, IpAddress, &[u8]) {
    if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).expect("IPv4");
        assert!(ip.verify_checksum() && ip.dont_frag() && !ip.more_frags());
        assert_eq!(ip.next_header(), IpProtocol::Tcp);
        assert_eq!(
            (ip.hop_limit(), usize::from(ip.total_len())),
            (HOPS, packet.len())
        );
        (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
    } else {
        let ip = Ipv6Packet::new_checked(packet).expect("IPv6");
        assert_eq!(ip.next_header(), IpProtocol::Tcp);
        assert_eq!((ip.hop_limit(), ip.total_len()), (HOPS, packet.len()));
        (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
    }
}

#[test]
fn smoltcp_reads_our_headers_as_they_were_meant() {
    let mut random = Rng::with_seed(1);
    for _ in 0..5000 {
        let header = any_header(&mut random);
        let len = random.usize(..1500);
        let payload = any_bytes(&mut random, len);
        let bytes = packet(&header, &payload);
        let (from, to, tcp) = tcp_of(&bytes);
        assert_eq!(from, header.ends.local.ip().into());
        assert_eq!(to, header.ends.remote.ip().into());
        let tcp = TcpPacket::new_checked(tcp).expect("TCP");
        let checksums = ChecksumCapabilities::default();
        let repr = TcpRepr::parse(&tcp, &from, &to, &checksums).expect("all is well");
        let control = match header.flags & !ACK {
            SYN => TcpControl::Syn,
            FIN => TcpControl::Fin,
            RST => TcpControl::Rst,
            flags::PSH => TcpControl::Psh,
            _ => TcpControl::None,
        };
        let options = header.options;
        let [sacks @ .., _] = options.sacks;
        let ack = (header.flags & ACK != 0).then_some(TcpSeqNumber(header.ack.cast_signed()));
        let expected = TcpRepr {
            src_port: header.ends.local.port(),
            dst_port: header.ends.remote.port(),
            control,
            seq_number: TcpSeqNumber(header.seq.cast_signed()),
            ack_number: ack,
            window_len: header.window,
            window_scale: options.window_scale,
            max_seg_size: options.mss,
            sack_permitted: options.sack_permitted,
            sack_ranges: sacks,
            timestamp: None,
            payload: &payload,
        };
        assert_eq!(repr, expected);
    }
}

/// And so do we, from the other end.
#[test]
fn we_read_our_headers_as_they_were_meant() {
    let mut random = Rng::with_seed(2);
    for _ in 0..5000 {
        let mut header = any_header(&mut random);
        if header.options.mss.is_none() && header.options.sacks[2].is_some() {
            header.options.sacks[3] = Some((random.u32(..), random.u32(..)));
        }
        let len = random.usize(..1500);
        let payload = any_bytes(&mut random, len);
        let bytes = packet(&header, &payload);
        let segment = Segment::peek(&bytes).expect("a segment");
        let Ends { local, remote } = segment.ends;
        assert_eq!((remote, local), (header.ends.local, header.ends.remote));
        assert_eq!(segment.flags, header.flags & !flags::PSH);
        assert_eq!((segment.seq, segment.ack), (header.seq, header.ack));
        assert_eq!(segment.window, header.window);
        assert_eq!(bytes[segment.payload(0..bytes.len())], *payload);
        assert_eq!(segment.options(&bytes), header.options);
        assert!(segment.is_intact(&bytes));
    }
}

/// Whatever bit is flipped, but for those in front of which it says how long all is.
#[test]
fn damage_is_noticed() {
    let mut random = Rng::with_seed(3);
    for _ in 0..5000 {
        let header = any_header(&mut random);
        let mut bytes = packet(&header, b"some bytes");
        // In an IPv6 header, only addresses are protected.
        let first = if header.ends.local.is_ipv6() { 8 } else { 0 };
        let bit = random.usize(first * 8..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let is_longer = bit < 8 && !header.ends.local.is_ipv6();
        let segment = Segment::peek(&bytes).filter(|_| !is_longer);
        assert!(
            segment.is_none_or(|segment| !segment.is_intact(&bytes)),
            "{bit}"
        );
    }
}

#[test]
fn we_read_the_options_of_smoltcp() {
    let mut random = Rng::with_seed(4);
    for _ in 0..5000 {
        let mut header = any_header(&mut random);
        header.options = any_options(&mut random);
        let Options {
            mss,
            window_scale,
            sack_permitted,
            sacks,
        } = header.options;
        let [three @ .., _] = sacks;
        let repr = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(5),
            ack_number: Some(TcpSeqNumber(6)),
            window_len: 7,
            window_scale,
            max_seg_size: mss,
            sack_permitted,
            sack_ranges: three,
            timestamp: None,
            payload: b"bytes",
        };
        let mut tcp = vec![0; repr.buffer_len()];
        let addresses = (IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2));
        let mut to = TcpPacket::new_unchecked(&mut tcp);
        let checksums = ChecksumCapabilities::default();
        repr.emit(&mut to, &addresses.0, &addresses.1, &checksums);
        let ip = Header {
            ends: ends(false),
            options: Options::default(),
            ..header
        }
        .write(0);
        let bytes = [&ip.bytes()[..IPV4_HEADER_LEN], &tcp].concat();
        let segment = Segment::peek(&bytes).expect("a segment");
        assert_eq!(segment.options(&bytes), header.options);
        assert_eq!(bytes[segment.payload(0..bytes.len())], *b"bytes");
        assert_eq!((segment.seq, segment.ack, segment.window), (5, 6, 7));
    }
}

#[test]
fn what_makes_no_sense_ends_the_options() {
    let mss = Options {
        mss: Some(1460),
        ..Options::default()
    };
    for (bytes, expected) in [
        (&[2, 4, 5, 180][..], mss),
        (&[1, 1, 2, 4, 5, 180, 0, 9], mss),
        // Unknown ones are passed over.
        (&[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 5, 180, 1, 1], mss),
        (&[2, 4, 5, 180, 99, 0, 4, 2], mss),
        (&[2, 4, 5, 180, 99, 1, 4, 2], mss),
        (&[2, 4, 5, 180, 99, 5, 4, 2], mss),
        (&[2, 4, 5, 180, 1, 1, 1, 3], mss),
        (&[2, 4, 5, 180, 0, 1, 4, 2], mss),
        // As long as they should not be.
        (&[2, 3, 5, 1, 3, 4, 5, 6], Options::default()),
        (&[4, 3, 5, 1, 2, 4, 5, 180], mss),
        (&[5, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1], Options::default()),
        (&[5, 14, 0, 0, 0, 1, 0, 0, 0], Options::default()),
    ] {
        let mut header = any_header(&mut Rng::with_seed(5));
        (header.ends, header.options) = (ends(false), Options::default());
        let padded = bytes.len().next_multiple_of(4);
        let mut packet = [header.write(0).bytes(), bytes].concat();
        packet.resize(IPV4_HEADER_LEN + TCP_HEADER_LEN + padded, 0);
        packet[IPV4_HEADER_LEN + 12] = ((TCP_HEADER_LEN + padded) as u8 / 4) << 4;
        let segment = Segment::peek(&packet).expect("a segment");
        assert_eq!(segment.options(&packet), expected, "{bytes:?}");
    }
}

#[test]
fn no_bytes_are_too_absurd() {
    let mut random = Rng::with_seed(6);
    for _ in 0..50_000 {
        let header = any_header(&mut random);
        let mut bytes = packet(&header, &[0; 8]);
        let headers = if header.ends.local.is_ipv6() {
            IPV6_HEADER_LEN
        } else {
            IPV4_HEADER_LEN
        };
        match random.u8(..3) {
            0 => {
                let tcp = headers + random.usize(..=TCP_HEADER_LEN);
                random.fill(&mut bytes[tcp..]);
            }
            1 => bytes[headers + 12] = random.u8(..),
            _ => {}
        }
        let len = random.usize(..=bytes.len());
        let bytes = if random.bool() {
            &bytes[..len]
        } else {
            &bytes[..]
        };
        if let Some(segment) = Segment::peek(bytes) {
            segment.options(bytes);
            segment.is_intact(bytes);
            assert!(bytes.get(segment.payload(0..bytes.len())).is_some());
        }
    }
}

/// RFC 9293, section 3.5.2.
#[test]
fn a_reset_is_where_it_is_believed() {
    let mut header = any_header(&mut Rng::with_seed(7));
    (header.seq, header.ack, header.options) = (100, 200, Options::default());
    for (flags, len, expected) in [
        (SYN, 0, Some((RST | ACK, 0, 101))),
        (FIN, 10, Some((RST | ACK, 0, 111))),
        (ACK, 10, Some((RST, 200, 0))),
        (SYN | ACK, 0, Some((RST, 200, 0))),
        (RST, 0, None),
        (RST | ACK, 0, None),
    ] {
        let bytes = packet(&Header { flags, ..header }, &vec![0; len]);
        let reset = Header::reset(&Segment::peek(&bytes).expect("a segment"));
        assert_eq!(
            reset.map(|reset| (reset.flags, reset.seq, reset.ack)),
            expected
        );
    }
}
