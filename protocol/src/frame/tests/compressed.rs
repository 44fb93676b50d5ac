//! Compressed frames: mixed with plain ones, in every revision and mode, and every way to break them.

use super::*;
use crate::auth::ConnectionSecret;
use crate::compression::{Algorithm, CompressionError, Compressor};

const MIN_SIZE: usize = 1024;
const LIMITS: Limits = Limits {
    handshake: 2000,
    control: 2000,
    front: 5000,
    middle: 5000,
    data: 100_000,
};

/// A sender and a receiver that agreed on `algorithm`, and perhaps on secure mode.
fn ends(layout: Layout, algorithm: Algorithm, is_secure: bool) -> (Assembler, FrameReader) {
    let mut assembler = Assembler::from(layout);
    let mut reader = FrameReader::new(layout, LIMITS);
    assembler.compress(FrameCompressor::new(algorithm, MIN_SIZE));
    reader.decompress(algorithm);
    if is_secure {
        let secret = ConnectionSecret::from_slice(&[7; ConnectionSecret::LEN]).unwrap();
        assembler.secure(secure(&secret, End::Connector, layout.revision).0);
        reader.secure(secure(&secret, End::Acceptor, layout.revision).1);
    }
    (assembler, reader)
}

fn write(write: impl FnOnce(&mut FrameWriter<'_>) -> usize) -> Vec<u8> {
    let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    let mut writer = FrameWriter::new(64, &mut block, &mut blocks, &mut queue);
    let len = write(&mut writer);
    writer.finish();
    let wire = queue.make_contiguous().concat();
    assert_eq!(wire.len(), len);
    wire
}

fn send(assembler: &mut Assembler, segments: &[Vec<u8>; 4]) -> Vec<u8> {
    let [first, rest @ ..] = segments;
    let rest = rest.clone().map(Payload::from);
    let [front, middle, data] = &rest;
    write(|writer| writer.frame(assembler, Tag::Message, first, [front, middle, data]))
}

/// A frame that says that its segments are compressed.
fn claimed(layout: Layout, status: u8, segments: [Vec<u8>; 4]) -> Vec<u8> {
    let [first, rest @ ..] = segments;
    let [front, middle, data] = &rest.map(Payload::from);
    let payloads = [front, middle, data];
    let assembler = &mut layout.into();
    write(|writer| writer.lay_out(status, assembler, Tag::Message, true, &first, payloads))
}

fn complete(segments: [Vec<u8>; 4]) -> Vec<u8> {
    claimed(REV1, late_status::complete(Revision::Rev1), segments)
}

fn compressed(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(algorithm)
        .compress(bytes, &mut out)
        .unwrap();
    out
}

fn read(reader: &mut FrameReader, wire: &[u8]) -> Result<Option<Frame>, FrameError> {
    reader.push(Bytes::copy_from_slice(wire));
    reader.next_frame()
}

/// Bytes that do not get smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn compressed_frames_among_plain_ones() {
    let shapes = [
        [41, 100, 0, 0],
        [41, 982, 0, 0],
        [41, 983, 0, 0],
        [41, 0, 0, 50_000],
        [41, 4000, 300, 0],
        [41, 0, 0, 0],
        [1500, 0, 0, 0],
        [41, 2000, 2000, 100_000],
    ];
    for algorithm in Algorithm::ALL {
        for (layout, is_secure) in [(REV0, false), (REV1, false), (REV0, true), (REV1, true)] {
            for cut in [1, 7, 61, 1000, usize::MAX] {
                let (mut assembler, mut reader) = ends(layout, algorithm, is_secure);
                for shape in shapes {
                    let segments = shape.map(bytes);
                    let wire = send(&mut assembler, &segments);
                    let len: usize = shape.iter().sum();
                    let shorter = wire.len() < len;
                    assert_eq!(shorter, len >= MIN_SIZE, "{algorithm}: {shape:?}");
                    let mut frames = Vec::new();
                    for piece in wire.chunks(cut) {
                        frames.extend(read(&mut reader, piece).unwrap());
                    }
                    let [frame] = &frames[..] else {
                        panic!("one frame was sent");
                    };
                    for (received, sent) in frame.segments.iter().zip(&segments) {
                        assert_eq!(*received.contiguous(), **sent);
                    }
                    assert!(!frame.aborted && !reader.is_mid_frame());
                }
            }
        }
    }
}

#[test]
fn what_would_not_get_smaller_goes_as_it_is() {
    for algorithm in Algorithm::ALL {
        let (mut assembler, _) = ends(REV1, algorithm, false);
        let segments = [bytes(41), vec![], vec![], noise(50_000)];
        let wire = send(&mut assembler, &segments);
        let plain = read_one(REV1, &wire).unwrap().unwrap();
        assert_eq!(*plain.segments[3].contiguous(), segments[3]);
    }
}

#[test]
fn nothing_is_compressed_unless_agreed_on() {
    let header = compressed(Algorithm::Snappy, &bytes(41));
    let wire = complete([header, vec![], vec![], vec![]]);
    // Said by the preamble: nothing more is waited for.
    for len in [PREAMBLE_LEN, wire.len()] {
        assert_eq!(
            read_one(REV1, &wire[..len]).unwrap_err(),
            FrameError::Compressed
        );
    }
}

#[test]
fn limits_hold_for_what_comes_out() {
    for algorithm in Algorithm::ALL {
        let header = || compressed(algorithm, &bytes(41));
        for (segment, limit) in [2000, 5000, 5000, 100_000].into_iter().enumerate() {
            for len in [limit, limit + 1, 16 << 20] {
                let mut segments = [header(), vec![], vec![], vec![]];
                segments[segment] = compressed(algorithm, &vec![3; len]);
                let (_, mut reader) = ends(REV1, algorithm, false);
                let frame = read(&mut reader, &complete(segments));
                if len <= limit {
                    let frame = frame.unwrap().unwrap();
                    assert_eq!(frame.segments[segment].len(), len);
                    continue;
                }
                let too_long = FrameError::Decompression {
                    segment,
                    error: CompressionError::TooLong { limit },
                };
                match frame.unwrap_err() {
                    // The bomb is that big even compressed.
                    FrameError::SegmentTooLong { .. } => assert!(len > 1 << 20),
                    error => assert_eq!(error, too_long, "{algorithm}"),
                }
            }
        }
    }
}

#[test]
fn limits_hold_for_what_comes_in() {
    // What does not get smaller may be a little longer than the limit, and no more.
    let (_, mut reader) = ends(REV1, Algorithm::Lz4, false);
    let data = compressed(Algorithm::Lz4, &noise(100_000));
    assert!(data.len() > 100_000);
    let header = compressed(Algorithm::Lz4, &bytes(41));
    let wire = complete([header.clone(), vec![], vec![], data]);
    let frame = read(&mut reader, &wire).unwrap().unwrap();
    assert_eq!(*frame.segments[3].contiguous(), noise(100_000));

    let wire = complete([header, vec![], vec![], noise(116_731)]);
    assert_eq!(
        read(&mut reader, &wire[..PREAMBLE_LEN]).unwrap_err(),
        FrameError::SegmentTooLong {
            segment: 3,
            len: 116_731,
            limit: 116_730,
        }
    );
}

#[test]
fn every_flipped_bit_of_a_compressed_frame_is_noticed() {
    for algorithm in Algorithm::ALL {
        let (mut assembler, _) = ends(REV1, algorithm, false);
        let segments = [bytes(41), vec![5; 1000], vec![], vec![6; 1000]];
        let good = send(&mut assembler, &segments);
        let status = good.len() - REV1.revision.epilogue_len(4);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (_, mut reader) = ends(REV1, algorithm, false);
            match read(&mut reader, &bad) {
                Err(_) => {}
                // Reserved bits.
                Ok(Some(_)) if bit / 8 == status && bit % 8 >= 4 => {}
                other => panic!("bit {bit} went unnoticed: {other:?}"),
            }
        }
    }
}

#[test]
fn segments_that_are_not_what_they_should_be() {
    for algorithm in Algorithm::ALL {
        let header = compressed(algorithm, &bytes(41));
        let front = compressed(algorithm, &bytes(900));
        for len in 1..front.len() {
            let wire = complete([header.clone(), front[..len].to_vec(), vec![], vec![]]);
            let (_, mut reader) = ends(REV1, algorithm, false);
            let error = read(&mut reader, &wire).unwrap_err();
            let expected = matches!(error, FrameError::Decompression { segment: 1, .. });
            assert!(expected, "{algorithm} cut to {len}: {error}");
        }
        let wire = complete([bytes(41), front, vec![], vec![]]);
        let (_, mut reader) = ends(REV1, algorithm, false);
        let error = read(&mut reader, &wire).unwrap_err();
        let expected = matches!(error, FrameError::Decompression { segment: 0, .. });
        assert!(expected, "{algorithm} with a plain header: {error}");
    }
}

#[test]
fn filler_of_an_aborted_frame_is_not_decompressed() {
    for layout in [REV0, REV1] {
        let status = late_status::aborted(layout.revision, true).unwrap();
        let header = compressed(Algorithm::Zstd, &bytes(41));
        let wire = claimed(layout, status, [header, vec![0; 300], vec![], vec![]]);
        let (_, mut reader) = ends(layout, Algorithm::Zstd, false);
        let frame = read(&mut reader, &wire).unwrap().unwrap();
        assert!(frame.aborted);
        assert_eq!(*frame.segments[0].contiguous(), bytes(41));
        assert!(frame.segments[1..].iter().all(Payload::is_empty));
    }
}

#[test]
fn the_size_of_a_payload_is_known_before_it_is_there() {
    for algorithm in Algorithm::ALL {
        let (mut assembler, mut reader) = ends(REV1, algorithm, false);
        let segments = [41, 4000, 0, 60_000].map(bytes);
        let wire = send(&mut assembler, &segments);
        let (start, end) = wire.split_at(wire.len() - 1);
        reader.push(Bytes::copy_from_slice(start));
        assert_eq!(reader.next_tag(), Ok(Some(Tag::Message)));
        assert!(reader.is_compressed() && reader.payload_len() < 10_000);
        assert_eq!(reader.uncompressed_payload_len(), Ok(None));
        reader.push(Bytes::copy_from_slice(end));
        for _ in 0..2 {
            assert_eq!(reader.uncompressed_payload_len(), Ok(Some(64_000)));
        }
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(frame.segments[3].len(), 60_000);
        assert_eq!(reader.next_tag(), Ok(None));
    }
}
