//! Frames in both revisions: lengths, known bytes, every way to cut a stream, every way to break it.

mod compressed;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::crc;
use crate::payload::Payload;
use crate::wire::Tag;

const REV0: Layout = Layout {
    revision: Revision::Rev0,
    data_crc: true,
};
const REV1: Layout = Layout {
    revision: Revision::Rev1,
    data_crc: true,
};

/// `size` bytes that depend on their place.
pub(super) fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + i / 256) as u8).collect()
}

/// One frame on the wire; slices of `link_from` bytes or more are linked.
fn lay_out(layout: Layout, tag: Tag, segments: [usize; 4], link_from: usize) -> Vec<u8> {
    let [first, rest @ ..] = segments.map(bytes);
    let rest = rest.map(Payload::from);
    let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
    let mut blocks = HeapBlocks;
    let mut writer = FrameWriter::new(link_from, &mut block, &mut blocks, &mut queue);
    let len = writer.frame(
        &mut layout.into(),
        tag,
        &first,
        [&rest[0], &rest[1], &rest[2]],
    );
    writer.finish();
    let wire = queue
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .collect::<Vec<_>>();
    assert_eq!(wire.len(), len);
    wire
}

fn reader(layout: Layout) -> FrameReader {
    FrameReader::new(layout, Limits::default())
}

/// All frames of a stream that comes in pieces of this length.
pub(super) fn read_in_pieces(reader: &mut FrameReader, wire: &[u8], len: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for piece in wire.chunks(len) {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    frames
}

fn read_one(layout: Layout, wire: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut reader = reader(layout);
    reader.push(Bytes::copy_from_slice(wire));
    reader.next_frame()
}

#[test]
fn lengths_on_the_wire() {
    // Segment lengths, then the frame's length in revision 0 and 1: computed from the
    // specification.
    for (segments, rev0, rev1) in [
        ([0, 0, 0, 0], 49, 32),
        ([16, 0, 0, 0], 65, 52),
        ([48, 0, 0, 0], 97, 84),
        ([49, 0, 0, 0], 98, 85),
        ([41, 10, 0, 4096], 4196, 4196),
        ([48, 101, 202, 303], 703, 703),
    ] {
        for (layout, expected) in [(REV0, rev0), (REV1, rev1)] {
            let wire = lay_out(layout, Tag::Message, segments, usize::MAX);
            assert_eq!(wire.len(), expected, "{segments:?} in {layout:?}");
        }
    }
}

#[test]
fn known_control_frames() {
    let keepalive = [1u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
    for (tag, segment, expected) in [
        (
            Tag::Keepalive2,
            keepalive.as_slice(),
            "12010800000008000000000000000000000000000000000000000000d8d5f599\
             0100000002000000d3138c85",
        ),
        (
            Tag::Ack,
            &7u64.to_le_bytes(),
            "140108000000080000000000000000000000000000000000000000007374bc5b\
             070000000000000071488e89",
        ),
        (
            Tag::Wait,
            &[],
            "10010000000008000000000000000000000000000000000000000000c8e3aab0",
        ),
    ] {
        let mut wire = BytesMut::new();
        write_control(&mut REV1.into(), tag, segment, &mut wire);
        let hex: Vec<_> = wire.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.concat(), expected, "{tag}");
        let frame = read_one(REV1, &wire).unwrap().unwrap();
        assert_eq!(frame.tag, tag);
        assert_eq!(*frame.segments[0].contiguous(), *segment);
    }
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_frames() {
    let shapes = [
        [41, 100, 0, 300],
        [8, 0, 0, 0],
        [41, 0, 0, 0],
        [41, 0, 33, 0],
        [0, 0, 0, 0],
    ];
    for layout in [
        REV0,
        REV1,
        Layout {
            data_crc: false,
            ..REV1
        },
    ] {
        let wire = shapes
            .map(|shape| lay_out(layout, Tag::Message, shape, 64))
            .concat();
        for cut in 1..=wire.len() {
            let mut reader = reader(layout);
            let frames = read_in_pieces(&mut reader, &wire, cut);
            assert!(!reader.is_mid_frame());
            assert_eq!(frames.len(), shapes.len());
            for (frame, shape) in frames.iter().zip(shapes) {
                for (segment, size) in frame.segments.iter().zip(shape) {
                    assert_eq!(*segment.contiguous(), *bytes(size), "cut every {cut} bytes");
                }
            }
        }
    }
}

#[test]
fn segments_are_slices_of_the_received_buffer() {
    let wire = Bytes::from(lay_out(REV1, Tag::Message, [41, 100, 50, 8000], usize::MAX));
    let mut reader = reader(REV1);
    reader.push(wire.clone());
    let frame = reader.next_frame().unwrap().unwrap();
    let within = wire.as_ptr_range();
    for segment in &frame.segments[1..] {
        assert_eq!(segment.slices().len(), 1);
        assert!(within.contains(&segment.slices()[0].as_ptr()));
    }
}

#[test]
fn missing_tells_what_is_left_of_a_segment() {
    let wire = lay_out(REV1, Tag::Message, [41, 0, 0, 1000], usize::MAX);
    let mut reader = reader(REV1);
    assert_eq!(reader.missing(), 0);
    reader.push(Bytes::copy_from_slice(&wire[..32 + 45 + 100]));
    assert!(reader.next_frame().unwrap().is_none());
    assert_eq!(reader.missing(), 900);
    assert!(reader.is_mid_frame());
}

#[test]
fn every_flipped_bit_is_noticed() {
    for layout in [REV0, REV1] {
        let good = lay_out(layout, Tag::Message, [41, 10, 0, 30], usize::MAX);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Only the first epilogue byte has bits that say nothing: in revision 1 its reserved
            // high nibble, in revision 0 all but the aborted bit.
            let status = good.len() - layout.revision.epilogue_len(4);
            match read_one(layout, &bad) {
                Err(_) => {}
                Ok(Some(frame)) if bit / 8 == status => {
                    assert_eq!(frame.aborted, layout == REV0 && bit % 8 == 0);
                }
                other => panic!("bit {bit} of {layout:?} went unnoticed: {other:?}"),
            }
        }
    }
}

#[test]
fn an_aborted_frame_is_told_apart() {
    for (layout, aborted) in [(REV0, 0x01), (REV1, 0x01), (REV1, 0xe1)] {
        let mut wire = lay_out(layout, Tag::Message, [41, 10, 0, 30], usize::MAX);
        let status = wire.len() - layout.revision.epilogue_len(4);
        wire[status] = aborted;
        assert!(read_one(layout, &wire).unwrap().unwrap().aborted);
        wire.extend(lay_out(layout, Tag::Message, [41, 1, 0, 0], usize::MAX));
        let mut reader = reader(layout);
        reader.push(wire.into());
        assert!(reader.next_frame().unwrap().unwrap().aborted);
        assert!(
            !reader.next_frame().unwrap().unwrap().aborted,
            "the stream goes on"
        );
    }
}

/// A preamble with one field changed, and a checksum that is right again.
fn forged(change: impl Fn(&mut [u8; PREAMBLE_LEN])) -> [u8; PREAMBLE_LEN] {
    let wire = lay_out(REV1, Tag::Message, [41, 10, 0, 30], usize::MAX);
    let mut preamble = [0; PREAMBLE_LEN];
    preamble.copy_from_slice(&wire[..PREAMBLE_LEN]);
    change(&mut preamble);
    let crc = crc::crc32c(crc::PREAMBLE, &preamble[..28]);
    preamble[28..].copy_from_slice(&crc.to_le_bytes());
    preamble
}

#[test]
fn hostile_preambles() {
    let limits = Limits {
        handshake: 0,
        control: 100,
        front: 200,
        middle: 300,
        data: 400,
    };
    let check = |change: &dyn Fn(&mut [u8; PREAMBLE_LEN])| {
        Preamble::decode(&forged(change), &limits).unwrap_err()
    };
    assert_eq!(check(&|p| p[0] = 0), FrameError::UnknownTag(0));
    assert_eq!(check(&|p| p[0] = 23), FrameError::UnknownTag(23));
    assert_eq!(check(&|p| p[1] = 0), FrameError::SegmentCount(0));
    assert_eq!(check(&|p| p[1] = 5), FrameError::SegmentCount(5));
    assert_eq!(check(&|p| p[1] = 3), FrameError::LastSegmentEmpty(3));
    assert_eq!(
        check(&|p| p[0] = Tag::Ack as u8),
        FrameError::SegmentCount(4)
    );
    for (segment, limit) in [100, 200, 300, 400].into_iter().enumerate() {
        let at = 2 + 6 * segment;
        let long = |len: u32| {
            move |p: &mut [u8; PREAMBLE_LEN]| p[at..at + 4].copy_from_slice(&len.to_le_bytes())
        };
        let too_long = |len| FrameError::SegmentTooLong {
            segment,
            len,
            limit,
        };
        assert_eq!(check(&long(limit + 1)), too_long(limit + 1));
        assert_eq!(check(&long(u32::MAX)), too_long(u32::MAX));
    }
    for alignment in [0u16, 3, 4097] {
        let error = check(&|p| p[6..8].copy_from_slice(&alignment.to_le_bytes()));
        assert_eq!(
            error,
            FrameError::Alignment {
                segment: 0,
                alignment
            }
        );
    }
    let mut damaged = forged(|_| {});
    damaged[28] ^= 1;
    assert!(matches!(
        Preamble::decode(&damaged, &limits),
        Err(FrameError::PreambleCrc { .. })
    ));
}

#[test]
fn a_preamble_of_zeros_is_not_taken_for_one_seen_before() {
    assert_eq!(
        read_one(REV1, &[0; PREAMBLE_LEN]).unwrap_err(),
        FrameError::UnknownTag(0)
    );
}

#[test]
fn a_wrong_late_status_is_an_error() {
    let mut wire = lay_out(REV1, Tag::Message, [41, 10, 0, 30], usize::MAX);
    let status = wire.len() - REV1.revision.epilogue_len(4);
    wire[status] = 0x0f;
    assert_eq!(
        read_one(REV1, &wire).unwrap_err(),
        FrameError::LateStatus(0x0f)
    );
}

#[test]
fn without_data_checksums_the_fields_are_zero_and_unread() {
    let layout = Layout {
        data_crc: false,
        ..REV1
    };
    let mut wire = lay_out(layout, Tag::Message, [41, 10, 0, 30], usize::MAX);
    assert_eq!(wire[32 + 41..32 + 45], [0; 4]);
    assert_eq!(wire[wire.len() - 12..], [0; 12]);
    wire[40] ^= 0xff;
    assert!(read_one(layout, &wire).unwrap().is_some());
}
