use bytes::Bytes;

use super::super::BURST;
use super::super::scarce::Scarce;
use super::super::segment::{Ends, Options, Segment, flags};
use super::super::wire::{Wire, WireConfig};
use super::*;
use crate::TxQueue;

const MSS: usize = 1000;

/// The segments that have arrived, with their bytes.
type Arrived = Vec<(Segment, Vec<u8>)>;

/// Sends a run of 40 segments and a half with its end behind. Returns for how many bytes there was room.
fn send_run(is_v6: bool, frames: usize) -> (Result<usize, Exhausted>, Arrived) {
    let ip = |last: u8| {
        if is_v6 {
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()])
        } else {
            IpAddr::from([10, 0, 0, last])
        }
    };
    let now = Instant::now();
    let wire = Wire::new(WireConfig::default());
    let (device, mut peer) = (wire.port(), wire.port());
    let link = Link::new(device.mac(), &[(ip(1), 24)], &[]).expect("an address of ours");
    let mut port = Port::new(Scarce::new(device, frames), link, now);
    let bytes: Vec<u8> = (0..41 * MSS as u32).map(|at| (at / 7) as u8).collect();
    let mut outgoing = Outgoing::default();
    outgoing.take(&mut TxQueue::from([Bytes::from(bytes.clone())]));
    outgoing.flush();
    let output = Output {
        seq: u32::MAX - 3000,
        flags: flags::ACK | flags::FIN,
        offset: MSS / 2,
        len: bytes.len() - MSS / 2,
    };
    let header = Header {
        ends: Ends {
            local: (ip(1), 1).into(),
            remote: (ip(2), 2).into(),
        },
        flags: output.flags,
        seq: output.seq,
        ack: 5,
        window: 6,
        options: Options::default(),
    };
    let mut headers = header.write(output.len);
    let way = Way::Neighbour(peer.mac());
    let sent = port.send(&mut headers, &output, MSS as u16, Some(&mut outgoing), way);
    port.device.flush(now);
    let mut arrived = Vec::with_capacity(BURST);
    peer.receive(now, &mut arrived);
    let segments = arrived.iter().map(|frame| {
        let packet = &frame[ETHERNET_HEADER_LEN..];
        let segment = Segment::peek(packet).expect("a segment");
        assert!(segment.is_intact(packet));
        let payload = packet[segment.payload(0..packet.len())].to_vec();
        (segment, payload)
    });
    let segments: Vec<_> = segments.collect();
    let together: Vec<u8> = segments
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    assert_eq!(together, bytes[output.offset..][..sent.unwrap_or(0)]);
    (sent, segments)
}

#[test]
fn a_run_leaves_as_whole_segments_with_its_end_behind_the_last() {
    for is_v6 in [false, true] {
        let (sent, segments) = send_run(is_v6, usize::MAX);
        assert_eq!((sent, segments.len()), (Ok(40 * MSS + MSS / 2), 41));
        let mut seq = u32::MAX - 3000;
        for (at, (segment, bytes)) in segments.iter().enumerate() {
            let is_last = at == 40;
            assert_eq!((segment.seq, segment.ack, segment.window), (seq, 5, 6));
            assert_eq!(segment.has(flags::FIN), is_last, "{at}");
            assert_eq!(bytes.len(), if is_last { MSS / 2 } else { MSS });
            seq = seq.wrapping_add(bytes.len() as u32);
        }
    }
}

#[test]
fn what_there_is_no_room_for_has_not_left() {
    let (sent, segments) = send_run(false, 40);
    assert_eq!((sent, segments.len()), (Ok(40 * MSS), 40));
    assert!(segments.iter().all(|(segment, _)| !segment.has(flags::FIN)));
    assert_eq!(send_run(true, 1).0, Ok(MSS));
    assert_eq!(send_run(false, 0).0, Err(Exhausted));
}
