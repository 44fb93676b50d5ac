//! [`Cut`]: a long packet of smoltcp's, cut into segments for a device that does not do that itself.
//! smoltcp is asked once for many segments, which costs less than to be asked for each.

use super::segment::{Segment, TCP_HEADER_LEN};

/// The most bytes that are cut at a time. They stay in the nearest cache meanwhile, and the peer
/// takes in the first segments while the others are being made.
const MOST: usize = 32 << 10;
const IPV4_HEADER_LEN: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Cut {
    /// The long packet, in memory that is kept.
    packet: Vec<u8>,
    len: usize,
    /// What is in the packet, if there is anything left of it.
    segment: Option<Segment>,
    /// How many bytes of payload each segment has, but for the last.
    size: usize,
    /// How many bytes of payload are gone.
    done: usize,
}

impl Cut {
    /// How long a packet of IPv4 may be that is to be cut into some of `mtu` bytes: into whole ones.
    pub(super) fn most(mtu: usize) -> usize {
        let headers = IPV4_HEADER_LEN + TCP_HEADER_LEN;
        let size = mtu.saturating_sub(headers).max(1);
        headers + (MOST / size).max(1) * size
    }

    /// Where the long packet goes.
    pub(super) fn buffer(&mut self, len: usize) -> &mut [u8] {
        if self.packet.len() < len {
            self.packet.resize(len, 0);
        }
        self.len = len;
        &mut self.packet[..len]
    }

    /// What is in the buffer is to be cut into segments with so many bytes of payload.
    pub(super) fn begin(&mut self, size: usize) -> Option<&Segment> {
        (self.size, self.done) = (size.max(1), 0);
        self.segment = Segment::peek(&self.packet[..self.len]);
        self.segment.as_ref()
    }

    /// The packet that is left, and how long the next one from it is.
    pub(super) fn next(&self) -> Option<(&[u8], usize)> {
        let segment = self.segment.as_ref()?;
        let headers = segment.headers_len();
        let size = self.size.min(self.len - headers - self.done);
        Some((&self.packet[..self.len], headers + size))
    }

    /// Writes the next packet, but for the checksum of TCP.
    pub(super) fn write_next(&mut self, into: &mut [u8]) -> Option<Segment> {
        let whole = self.segment.as_ref()?;
        let headers = whole.headers_len();
        let from = headers + self.done;
        let size = into.len() - headers;
        into[..headers].copy_from_slice(&self.packet[..headers]);
        into[headers..].copy_from_slice(&self.packet[from..from + size]);
        let is_last = from + size == self.len;
        let segment = whole.part(self.done, size, is_last);
        segment.write_part(into, is_last);
        self.done += size;
        if is_last {
            self.segment = None;
        }
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

    use super::*;

    /// Headers that smoltcp wrote, cut; what comes out is what smoltcp itself reads.
    #[test]
    fn segments_continue_each_other_and_only_the_last_ends_anything() {
        let payload: Vec<u8> = (0..3500u32).map(|at| (at * 7 / 3) as u8).collect();
        let [from, to] = [1, 2].map(|last| std::net::Ipv4Addr::new(10, 0, 0, last));
        let tcp = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control: TcpControl::Fin,
            seq_number: TcpSeqNumber(-1000),
            ack_number: Some(TcpSeqNumber(77)),
            window_len: 1234,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &payload,
        };
        let ip = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header: smoltcp::wire::IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let sums = ChecksumCapabilities::default();
        let mut cut = Cut::default();
        let buffer = cut.buffer(20 + tcp.buffer_len());
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut *buffer), &sums);
        let mut packet = TcpPacket::new_unchecked(&mut buffer[20..]);
        tcp.emit(&mut packet, &from.into(), &to.into(), &sums);
        cut.begin(1460).expect("a segment");

        let mut seen = Vec::new();
        while let Some((_, len)) = cut.next() {
            let mut made = vec![0xee; len];
            let segment = cut.write_next(&mut made).expect("there is one");
            segment.write_checksum(&mut made);
            let ip = Ipv4Packet::new_checked(&made[..]).expect("a packet");
            assert!(ip.verify_checksum());
            let tcp = TcpPacket::new_checked(ip.payload()).expect("a segment");
            let read = TcpRepr::parse(&tcp, &from.into(), &to.into(), &sums).expect("intact");
            assert_eq!(read.seq_number, TcpSeqNumber(-1000) + seen.len());
            assert_eq!(
                (read.ack_number, read.window_len),
                (Some(TcpSeqNumber(77)), 1234)
            );
            seen.extend_from_slice(read.payload);
            let is_last = seen.len() == payload.len();
            assert_eq!(read.control == TcpControl::Fin, is_last);
            assert_eq!(Segment::peek(&made), Some(segment));
        }
        assert_eq!(seen, payload);
    }

    #[test]
    fn long_packets_are_a_multiple_of_short_ones() {
        for mtu in [41, 576, 1280, 1500, 9000, 65535] {
            let most = Cut::most(mtu) - 40;
            assert_eq!(most % (mtu - 40), 0);
            assert!(most <= MOST.max(mtu));
        }
    }
}
