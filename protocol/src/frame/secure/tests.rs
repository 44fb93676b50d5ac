//! Sealed frames in both revisions: lengths, known bytes, every way to cut a stream, every way to
//! break it.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::frame::SegmentDescriptor;
use crate::frame::tests::{bytes, read_in_pieces};
use crate::frame::{
    Assembler, Frame, FrameError, FrameReader, FrameWriter, HeapBlocks, Layout, Limits, TxQueue,
    write_control,
};
use crate::payload::Payload;
use crate::wire::Tag;

const REVISIONS: [Revision; 2] = [Revision::Rev0, Revision::Rev1];

fn secret() -> ConnectionSecret {
    let bytes: [u8; ConnectionSecret::LEN] = std::array::from_fn(|i| i as u8);
    ConnectionSecret::from_slice(&bytes).unwrap()
}

fn layout(revision: Revision) -> Layout {
    Layout {
        revision,
        data_crc: true,
    }
}

/// What the connector sends with.
fn assembler(revision: Revision) -> Assembler {
    let mut assembler = Assembler::from(layout(revision));
    assembler.secure(secure(&secret(), End::Connector, revision).0);
    assembler
}

/// What the acceptor receives with.
fn reader(revision: Revision) -> FrameReader {
    let mut reader = FrameReader::new(layout(revision), Limits::default());
    reader.secure(secure(&secret(), End::Acceptor, revision).1);
    reader
}

/// A payload in slices of up to `slice` bytes.
fn payload(size: usize, slice: usize) -> Payload {
    let bytes = bytes(size);
    bytes.chunks(slice).map(Bytes::copy_from_slice).collect()
}

/// One message on the wire.
fn lay_out(assembler: &mut Assembler, segments: [usize; 4], slice: usize) -> Vec<u8> {
    let first = bytes(segments[0]);
    let rest = [1, 2, 3].map(|segment| payload(segments[segment], slice));
    let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
    let mut blocks = HeapBlocks;
    let mut writer = FrameWriter::new(1, &mut block, &mut blocks, &mut queue);
    let len = writer.frame(assembler, Tag::Message, &first, rest.each_ref());
    writer.finish();
    let wire = queue.make_contiguous().concat();
    assert_eq!(wire.len(), len);
    wire
}

fn read_one(revision: Revision, wire: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut reader = reader(revision);
    reader.push(Bytes::copy_from_slice(wire));
    reader.next_frame()
}

fn check(frame: &Frame, segments: [usize; 4]) {
    for (segment, size) in frame.segments.iter().zip(segments) {
        assert_eq!(*segment.contiguous(), *bytes(size));
    }
}

#[test]
fn lengths_on_the_wire() {
    // Segment lengths, then the frame's length in revision 0 and 1: computed from the
    // specification.
    for (segments, rev0, rev1) in [
        ([0, 0, 0, 0], 64, 96),
        ([16, 0, 0, 0], 80, 96),
        ([48, 0, 0, 0], 112, 96),
        ([49, 0, 0, 0], 128, 128),
        ([41, 10, 0, 4096], 4224, 4240),
        ([48, 101, 202, 303], 736, 752),
    ] {
        for (revision, expected) in [(Revision::Rev0, rev0), (Revision::Rev1, rev1)] {
            let wire = lay_out(&mut assembler(revision), segments, usize::MAX);
            assert_eq!(wire.len(), expected, "{segments:?} in {revision:?}");
            check(&read_one(revision, &wire).unwrap().unwrap(), segments);
        }
    }
}

#[test]
fn a_known_frame() {
    let keepalive = [1u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
    let mut wire = BytesMut::new();
    write_control(
        &mut assembler(Revision::Rev1),
        Tag::Keepalive2,
        &keepalive,
        &mut wire,
    );
    let hex: Vec<_> = wire.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex.concat(),
        "4be816477793cc7cbb381480b30cc69431dabdf879b50b483d403cfd6bc7a481\
         47c636fdd14ff7965036a3b4f02908ecd7f8cc4f2688a28ab01f761aeee6fdba\
         01654a9d4a848c689172d4521fcf8108c68c65a45d0ca54d2da119880bb6360f"
    );
    let frame = read_one(Revision::Rev1, &wire).unwrap().unwrap();
    assert_eq!(frame.tag, Tag::Keepalive2);
    assert_eq!(*frame.segments[0].contiguous(), *keepalive);
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_frames() {
    let shapes = [
        [41, 100, 0, 300],
        [8, 0, 0, 0],
        [100, 0, 0, 0],
        [41, 0, 33, 0],
        [0, 0, 0, 0],
        [64, 16, 16, 17],
    ];
    for revision in REVISIONS {
        let mut assembler = assembler(revision);
        let wire = shapes
            .map(|shape| lay_out(&mut assembler, shape, 64))
            .concat();
        for cut in 1..=wire.len() {
            let mut reader = reader(revision);
            let frames = read_in_pieces(&mut reader, &wire, cut);
            assert!(!reader.is_mid_frame());
            assert_eq!(frames.len(), shapes.len());
            for (frame, shape) in frames.iter().zip(shapes) {
                check(frame, shape);
            }
        }
    }
}

#[test]
fn the_slices_of_a_payload_make_no_difference() {
    let shape = [41, 1000, 77, 5000];
    for revision in REVISIONS {
        let whole = lay_out(&mut assembler(revision), shape, usize::MAX);
        for slice in [1, 3, 15, 16, 17, 64, 999] {
            assert_eq!(lay_out(&mut assembler(revision), shape, slice), whole);
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for revision in REVISIONS {
        let good = lay_out(&mut assembler(revision), [60, 10, 0, 30], usize::MAX);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = read_one(revision, &bad);
            // In revision 0 a preamble is looked at before its tag has come.
            if revision == Revision::Rev0 && bit / 8 < PREAMBLE_LEN {
                assert!(matches!(error, Err(FrameError::PreambleCrc { .. })));
            } else {
                assert_eq!(error.unwrap_err(), FrameError::TagMismatch);
            }
        }
    }
}

#[test]
fn nonces_run_out() {
    for (revision, all) in [(Revision::Rev0, 1 << 32), (Revision::Rev1, u64::MAX)] {
        let mut assembler = Assembler::from(layout(revision));
        let mut reader = FrameReader::new(layout(revision), Limits::default());
        let (mut sealer, mut opener) = (
            secure(&secret(), End::Connector, revision).0,
            secure(&secret(), End::Acceptor, revision).1,
        );
        // So many that a frame of the most records is left, and what one of fewer would take.
        let left = if revision == Revision::Rev0 { 2 } else { 5 };
        sealer.skip(all - left);
        opener.skip(all - left);
        assembler.secure(sealer);
        reader.secure(opener);
        let shape = [60, 10, 0, 30];
        let mut read = 0;
        while !assembler.is_exhausted() {
            reader.push(lay_out(&mut assembler, shape, usize::MAX).into());
            check(&reader.next_frame().unwrap().unwrap(), shape);
            read += 1;
        }
        assert_eq!(read, if revision == Revision::Rev0 { 2 } else { 1 });
        assert!(lay_out(&mut assembler, shape, usize::MAX).is_empty());
        let mut control = BytesMut::new();
        write_control(&mut assembler, Tag::Ack, &[0; 8], &mut control);
        assert!(control.is_empty());

        // A peer that goes on regardless is not believed.
        let mut peer = secure(&secret(), End::Acceptor, revision).1;
        peer.skip(all);
        let mut reader = FrameReader::new(layout(revision), Limits::default());
        reader.secure(peer);
        reader.push(vec![0; 96].into());
        assert_eq!(
            reader.next_frame().unwrap_err(),
            FrameError::NoncesExhausted
        );
    }
}

#[test]
fn nonces_count_up() {
    let first: [u8; NONCE_LEN] = [0xfe, 0xff, 0xff, 0xff, 0xfe, 0xff, 2, 3, 4, 5, 6, 7];
    let mut rev0 = Nonce::new(Revision::Rev0, first);
    let mut rev1 = Nonce::new(Revision::Rev1, first);
    for (low, high, counter) in [
        (0xffff_fffe_u32, 0x0706_0504_0302_fffe_u64, 0),
        (0xffff_ffff, 0x0706_0504_0302_ffff, 1),
        (0, 0x0706_0504_0303_0000, 2),
        (1, 0x0706_0504_0303_0001, 3),
    ] {
        assert_eq!(rev0.left(), (1 << 32) - counter);
        let nonce = rev0.next().unwrap();
        assert_eq!(nonce[..4], low.to_le_bytes());
        assert_eq!(nonce[4..], first[4..]);
        let nonce = rev1.next().unwrap();
        assert_eq!(nonce[..4], first[..4]);
        assert_eq!(nonce[4..], high.to_le_bytes());
    }
}

/// A preamble as an attacker with the key would send it, sealed.
fn forged(revision: Revision, preamble: &[u8; PREAMBLE_LEN]) -> Vec<u8> {
    let key = secret().bytes()[..16].try_into().unwrap();
    let nonce = secret().bytes()[28..40].try_into().unwrap();
    let mut cipher = msgr_gcm::Sealer::new(&key);
    let mut out = BytesMut::new();
    cipher.start(&nonce);
    cipher.update(preamble, &mut out);
    if revision == Revision::Rev1 {
        cipher.update(&[0; INLINE_LEN], &mut out);
        cipher.finish(&mut out);
    }
    out.into()
}

#[test]
fn lengths_are_checked_before_anything_is_collected() {
    let limits = Limits::default();
    let descriptor = |len| SegmentDescriptor { len, alignment: 8 };
    for revision in REVISIONS {
        for (segment, limit) in [limits.control, limits.front, limits.middle, limits.data]
            .into_iter()
            .enumerate()
        {
            for len in [limit + 1, u32::MAX] {
                let mut descriptors = [descriptor(1); MAX_SEGMENTS];
                descriptors[segment] = descriptor(len);
                let preamble = Preamble::new(Tag::Message, descriptors).encode();
                let error = read_one(revision, &forged(revision, &preamble)).unwrap_err();
                assert_eq!(
                    error,
                    FrameError::SegmentTooLong {
                        segment,
                        len,
                        limit
                    }
                );
            }
        }
        let mut preamble = Preamble::new(Tag::Message, [descriptor(1); MAX_SEGMENTS]).encode();
        preamble[28] ^= 1;
        let error = read_one(revision, &forged(revision, &preamble)).unwrap_err();
        assert!(matches!(error, FrameError::PreambleCrc { .. }));
    }
}

#[test]
fn an_aborted_message_is_told_apart() {
    for revision in REVISIONS {
        let mut assembler = assembler(revision);
        let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
        let mut blocks = HeapBlocks;
        let mut writer = FrameWriter::new(1, &mut block, &mut blocks, &mut queue);
        writer.aborted_message(&mut assembler, &bytes(41), &payload(10, 10));
        writer.finish();
        let wire = queue.make_contiguous().concat();
        let frame = read_one(revision, &wire).unwrap().unwrap();
        assert!(frame.aborted);
        check(&frame, [41, 10, 0, 0]);
    }
}

#[test]
fn long_payloads_come_in_few_slices() {
    let shape = [41, 0, 0, 9 << 20];
    for revision in REVISIONS {
        let wire = lay_out(&mut assembler(revision), shape, 1 << 20);
        let mut reader = reader(revision);
        let mut frame = None;
        for piece in wire.chunks(64 << 10) {
            reader.push(Bytes::copy_from_slice(piece));
            frame = reader.next_frame().unwrap();
        }
        let frame = frame.unwrap();
        check(&frame, shape);
        assert_eq!(
            frame.segments[3].slices().len(),
            3,
            "of 4 MiB each, and the rest"
        );
    }
}

#[test]
fn nothing_secret_is_shown() {
    let (sealer, opener) = secure(&secret(), End::Connector, Revision::Rev1);
    assert_eq!(format!("{sealer:?}"), "Sealer { .. }");
    assert_eq!(format!("{opener:?}"), "Opener { .. }");
}
