//! Receive-side scaling: which queue of a port a connection belongs to. The hash is the one that
//! Ethernet hardware computes (Toeplitz), with a key that gives both directions of a connection the
//! same, so that every queue can tell where a connection is. Nothing here knows who owns a queue.

use std::net::IpAddr;

use super::ETHERNET_HEADER_LEN;
use super::segment::{Ends, Segment};

/// The most queues of a port.
pub(crate) const MOST_QUEUES: usize = 64;

/// The key of the hash: these two bytes, repeated (Woo and Park, "Scalable TCP Session Monitoring
/// with Symmetric Receive-side Scaling", 2012). The DPDK shim has it, too.
const KEY: u16 = 0x6d5a;

/// Entries of the indirection table, which takes a hash to a queue.
const ENTRIES: u16 = 128;

/// The queue of a connection, on a port with so many.
pub(super) fn queue(ends: &Ends, queues: usize) -> usize {
    usize::from(hash(ends) % ENTRIES) % queues
}

/// The queue that a frame goes to if the port does as it is told. What is not TCP goes to the first.
pub(super) fn queue_of_frame(frame: &[u8], queues: usize) -> usize {
    let segment = frame.get(ETHERNET_HEADER_LEN..).and_then(Segment::peek);
    segment.map_or(0, |segment| queue(&segment.ends, queues))
}

/// One half of the hash; the other is the same. As the key repeats after 16 bits, it depends only on
/// the sum of all words of addresses and ports, without carry.
fn hash(ends: &Ends) -> u16 {
    let sum = [ends.local, ends.remote].into_iter().fold(0, |sum, end| {
        let address = match end.ip() {
            IpAddr::V4(ip) => fold(ip.to_bits().into()),
            IpAddr::V6(ip) => fold((ip.to_bits() >> 64) as u64) ^ fold(ip.to_bits() as u64),
        };
        sum ^ address ^ end.port()
    });
    let bits = (0..16).filter(|bit| sum << bit & 0x8000 != 0);
    bits.fold(0, |hash, bit| hash ^ KEY.rotate_left(bit))
}

fn fold(words: u64) -> u16 {
    (words ^ words >> 16 ^ words >> 32 ^ words >> 48) as u16
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// The hash as hardware computes it, bit by bit ("RSS hashing functions", Microsoft).
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let window = |at: usize| {
            let bytes = key[at / 8..].iter().chain(&[0; 5]).take(5);
            let bits = bytes.fold(0, |bits, byte| bits << 8 | u64::from(*byte));
            (bits >> (8 - at % 8)) as u32
        };
        let bits = (0..input.len() * 8).filter(|bit| input[bit / 8] << (bit % 8) & 0x80 != 0);
        bits.fold(0, |hash, bit| hash ^ window(bit))
    }

    fn input(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let bytes = |ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [from.port(), to.port()].map(u16::to_be_bytes).concat();
        [bytes(from.ip()), bytes(to.ip()), ports].concat()
    }

    fn examples() -> [(SocketAddr, SocketAddr, u32); 4] {
        let example = |from: &str, to: &str, hash| {
            let parse = |text: &str| text.parse().expect("an address");
            (parse(from), parse(to), hash)
        };
        // From "Verifying the RSS hash calculation", Microsoft.
        [
            example("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178),
            example("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea),
            example(
                "[3ffe:2501:200:1fff::7]:2794",
                "[3ffe:2501:200:3::1]:1766",
                0x4020_7d3d,
            ),
            example(
                "[3ffe:501:8::260:97ff:fe40:efab]:14230",
                "[ff02::1]:4739",
                0xdde5_1bbf,
            ),
        ]
    }

    #[test]
    fn it_is_what_hardware_computes_with_this_key() {
        let published = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        for (from, to, expected) in examples() {
            assert_eq!(toeplitz(&published, &input(from, to)), expected);
            let ours = toeplitz(&KEY.to_be_bytes().repeat(20), &input(from, to));
            let (local, remote) = (to, from);
            let half = u32::from(hash(&Ends { local, remote }));
            assert_eq!(half << 16 | half, ours);
        }
    }

    #[test]
    fn both_directions_have_the_same_queue_and_connections_spread() {
        let (mut remote, local, _) = examples()[0];
        for queues in [2, 3, 8] {
            let mut counts = vec![0; queues];
            for port in 32768..32768 + 3000 {
                remote.set_port(port);
                let there = queue(&Ends { local, remote }, queues);
                let (local, remote) = (remote, local);
                assert_eq!(there, queue(&Ends { local, remote }, queues));
                counts[there] += 1;
            }
            let fair = 3000_usize / queues;
            assert!(
                counts.iter().all(|&count| fair.abs_diff(count) < fair / 10),
                "{counts:?}"
            );
        }
    }
}
