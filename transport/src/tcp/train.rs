//! [`Train`]: frames of a connection come in rows, with headers that hardly differ. What follows a frame
//! is known by that, and nobody needs to look again what it is and for whom.

use std::ops::Range;

use super::ETHERNET_HEADER_LEN;
use super::segment::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, Segment, TCP_HEADER_LEN, flags};
use crate::ConnId;

const IPV4: usize = ETHERNET_HEADER_LEN + IPV4_HEADER_LEN;
const IPV6: usize = ETHERNET_HEADER_LEN + IPV6_HEADER_LEN;
/// How long the headers are, without options.
const HEADERS_4: usize = IPV4 + TCP_HEADER_LEN;
const HEADERS_6: usize = IPV6 + TCP_HEADER_LEN;

/// What must be the same: all but the traffic class, lengths, the identification, how many routers may
/// be passed, the sequence number, PSH, checksums and the urgent pointer. Nobody looks at the others.
const SAME_4: [u8; HEADERS_4] = {
    let mut same = [0xff; HEADERS_4];
    clear(&mut same, ETHERNET_HEADER_LEN + 1..ETHERNET_HEADER_LEN + 6);
    clear(&mut same, ETHERNET_HEADER_LEN + 8..ETHERNET_HEADER_LEN + 9);
    clear(
        &mut same,
        ETHERNET_HEADER_LEN + 10..ETHERNET_HEADER_LEN + 12,
    );
    clear_tcp(&mut same, IPV4);
    same
};
const SAME_6: [u8; HEADERS_6] = {
    let mut same = [0xff; HEADERS_6];
    same[ETHERNET_HEADER_LEN] = 0xf0;
    clear(&mut same, ETHERNET_HEADER_LEN + 1..ETHERNET_HEADER_LEN + 6);
    clear(&mut same, ETHERNET_HEADER_LEN + 7..ETHERNET_HEADER_LEN + 8);
    clear_tcp(&mut same, IPV6);
    same
};

const fn clear(same: &mut [u8], range: Range<usize>) {
    let mut at = range.start;
    while at < range.end {
        same[at] = 0;
        at += 1;
    }
}

const fn clear_tcp(same: &mut [u8], at: usize) {
    clear(same, at + 4..at + 8);
    same[at + 13] = !flags::PSH;
    clear(same, at + 16..at + 20);
}

/// The headers of a frame, and what it was.
#[derive(Debug)]
pub(super) struct Train {
    id: ConnId,
    segment: Segment,
    headers: [u8; HEADERS_6],
}

impl Train {
    /// What may follow a frame that brought this segment for a connection. Nothing if its headers are
    /// of an unusual length, or if it does more than to bring bytes.
    pub(super) fn new(id: ConnId, segment: &Segment, frame: &[u8]) -> Option<Self> {
        let len = if segment.ends.local.is_ipv6() {
            HEADERS_6
        } else {
            HEADERS_4
        };
        if segment.flags != flags::ACK || segment.payload(ETHERNET_HEADER_LEN..len).start != len {
            return None;
        }
        let mut headers = [0; HEADERS_6];
        headers[..len].copy_from_slice(frame.get(..len)?);
        Some(Self {
            id,
            segment: *segment,
            headers,
        })
    }

    /// The segment in a frame, where its packet is, and which connection it is for: if its headers are
    /// the same.
    pub(super) fn follow(&self, frame: &[u8]) -> Option<(ConnId, Segment, Range<usize>)> {
        let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (ip_end, packet_len) = if self.segment.ends.local.is_ipv6() {
            is_same(&self.headers, frame, &SAME_6).then_some(())?;
            let payload_len = number(ETHERNET_HEADER_LEN + 4);
            (IPV6, IPV6_HEADER_LEN + usize::from(payload_len))
        } else {
            is_same(&self.headers, frame, &SAME_4).then_some(())?;
            let len = number(ETHERNET_HEADER_LEN + 2);
            (IPV4, usize::from(len))
        };
        let packet = ETHERNET_HEADER_LEN..ETHERNET_HEADER_LEN + packet_len;
        let seq = u32::from_be_bytes(*frame[ip_end + 4..].first_chunk()?);
        let payload_len = packet.end.checked_sub(ip_end + TCP_HEADER_LEN)?;
        let segment = self.segment.with(seq, payload_len);
        (packet.end <= frame.len()).then_some((self.id, segment, packet))
    }
}

/// Whether a frame begins with the same `N` bytes, as far as `same` tells.
fn is_same<const N: usize>(headers: &[u8], frame: &[u8], same: &[u8; N]) -> bool {
    let (Some(headers), Some(frame)) = (headers.first_chunk::<N>(), frame.first_chunk::<N>())
    else {
        return false;
    };
    // Without a branch for each byte.
    (0..N).fold(0, |all, at| all | (headers[at] ^ frame[at]) & same[at]) == 0
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use fastrand::Rng;

    use super::super::link::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Input, Link, write_ethernet_header};
    use super::super::segment::{Ends, Header, Options};
    use super::*;
    use crate::Slots;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// A frame for us with so many bytes.
    fn frame(is_v6: bool, seq: u32, len: usize) -> Vec<u8> {
        let end = |last: u8| {
            let ip = if is_v6 {
                IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()])
            } else {
                IpAddr::from([10, 0, 0, last])
            };
            SocketAddr::new(ip, 5000 + u16::from(last))
        };
        let header = Header {
            ends: Ends {
                local: end(2),
                remote: end(1),
            },
            flags: flags::ACK,
            seq,
            ack: 77,
            window: 1000,
            options: Options::default(),
        };
        let headers = header.write(len);
        let mut frame = vec![0; ETHERNET_HEADER_LEN];
        let ethertype = if is_v6 {
            ETHERTYPE_IPV6
        } else {
            ETHERTYPE_IPV4
        };
        write_ethernet_header(&mut frame, MAC, [2, 0, 0, 0, 0, 2], ethertype);
        [&frame, headers.bytes(), &vec![7; len]].concat()
    }

    /// What a frame is to whoever looks at all of it.
    fn looked_at(frame: &[u8]) -> Option<(Segment, Range<usize>)> {
        let addresses = [
            ("10.0.0.1".parse().expect("an address"), 24),
            ("fd00::1".parse().expect("an address"), 64),
        ];
        let mut link = Link::<()>::new(MAC, &addresses, &[]).expect("addresses of ours");
        match link.input(frame, std::time::Instant::now(), &mut Vec::new()) {
            Input::Ip(packet) => {
                let segment = Segment::peek(&frame[packet.clone()])?;
                Some((segment, packet))
            }
            _ => None,
        }
    }

    fn train(frame: &[u8]) -> Option<Train> {
        let (segment, _) = looked_at(frame)?;
        let id = Slots::<crate::slots::Conn, ()>::default().insert(());
        Train::new(id, &segment, frame)
    }

    #[test]
    fn what_follows_is_what_it_would_be_by_itself() {
        let mut random = Rng::with_seed(1);
        let (mut followed, mut not) = (0, 0);
        for _ in 0..20_000 {
            let is_v6 = random.bool();
            let train = train(&frame(is_v6, 1, 10)).expect("the usual headers");
            let (seq, len) = (random.u32(..), random.usize(..100));
            let mut frame = frame(is_v6 ^ (random.u8(..) == 0), seq, len);
            // Padding, or something cut off; and something else than it was.
            frame.resize((frame.len() + 3).saturating_sub(random.usize(..6)), 0);
            if random.bool() {
                let bit = random.usize(..8 * frame.len().min(HEADERS_6));
                frame[bit / 8] ^= 1 << (bit % 8);
            }
            match train.follow(&frame) {
                Some((id, segment, packet)) => {
                    assert_eq!(id, train.id);
                    assert_eq!(Some((segment, packet)), looked_at(&frame), "{frame:02x?}");
                    followed += 1;
                }
                None => not += 1,
            }
        }
        assert!(followed > 5000 && not > 5000, "{followed} and {not}");
    }

    #[test]
    fn unusual_headers_have_no_followers() {
        for is_v6 in [false, true] {
            let tcp = if is_v6 { IPV6 } else { IPV4 };
            let usual = frame(is_v6, 1, 40);
            assert!(train(&usual).is_some());
            for flags in [flags::SYN, flags::FIN | flags::ACK, flags::RST] {
                let mut unusual = usual.clone();
                unusual[tcp + 13] = flags;
                assert!(train(&unusual).is_none(), "{flags:02x}");
            }
            let mut unusual = usual.clone();
            unusual[tcp + 12] = 6 << 4;
            assert!(train(&unusual).is_none(), "with an option");
        }
        let mut unusual = frame(false, 1, 40);
        unusual[ETHERNET_HEADER_LEN] = 0x46;
        assert!(train(&unusual).is_none(), "with an option of IPv4");
    }
}
