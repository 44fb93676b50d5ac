//! Compression: any bytes decompressed within a limit, bytes compressed and back, damaged on the
//! way, and frames that are compressed or say so.

use bytes::{Bytes, BytesMut};
use msgr_protocol::Payload;
use msgr_protocol::compression::{Algorithm, Compressor, Decompressor, max_compressed_len};
use msgr_protocol::frame::{
    Assembler, FrameCompressor, FrameReader, FrameWriter, HeapBlocks, Layout, Limits, Revision,
    TxQueue,
};
use msgr_protocol::wire::Tag;

use super::chop::Chop;
use super::input::{Input, filler};
use super::layout;

const LIMITS: Limits = Limits {
    handshake: 1000,
    control: 1000,
    front: 5000,
    middle: 3000,
    data: 100_000,
};
/// Where a preamble has its flags.
const FLAGS: usize = 26;
const MAX_FRAMES: usize = 20;

/// One algorithm; in which way the rest of the input is used depends on the first byte.
pub fn compression(data: &[u8]) {
    let input = &mut Input::new(data);
    let choices = input.u8();
    let algorithm = Algorithm::ALL[usize::from(choices % 4)];
    let limit = [100, 4096, 65_536, 1 << 20][usize::from(choices >> 4) % 4];
    match choices >> 2 & 3 {
        0 => {
            decompress(algorithm, input.rest(), limit);
        }
        1 => round_trip(algorithm, input),
        2 => frames(algorithm, choices & 0x40 != 0, input),
        _ => claimed(algorithm, input),
    }
}

/// Never more than `limit`, always the same, and as much as was told.
fn decompress(algorithm: Algorithm, bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let decompressor = &mut Decompressor::new(algorithm);
    let told = decompressor.uncompressed_len(bytes, limit);
    let out = decompressor.decompress(bytes, limit);
    assert_eq!(decompressor.decompress(bytes, limit), out);
    if let Ok(out) = &out {
        assert!(out.len() <= limit);
        assert_eq!(told, Ok(out.len()));
    } else {
        assert!(told.is_err() || told.is_ok_and(|told| told <= limit));
    }
    out.ok()
}

fn round_trip(algorithm: Algorithm, input: &mut Input<'_>) {
    let (at, flips) = (usize::from(input.u16()), input.u8());
    let mut bytes = filler(input.u8(), input.len() * 20);
    bytes.extend_from_slice(input.rest());
    let mut out = Vec::new();
    Compressor::new(algorithm)
        .compress(&bytes, &mut out)
        .expect("not that many");
    assert!(out.len() <= max_compressed_len(bytes.len()));
    assert_eq!(
        decompress(algorithm, &out, bytes.len()).as_ref(),
        Some(&bytes)
    );
    if !bytes.is_empty() {
        assert_eq!(decompress(algorithm, &out, bytes.len() - 1), None);
    }
    let at = at % out.len();
    let mut damaged = out.clone();
    damaged[at] ^= flips;
    decompress(algorithm, &damaged, bytes.len());
    out.truncate(at);
    decompress(algorithm, &out, bytes.len());
}

fn layout(input: &mut Input<'_>) -> Layout {
    Layout {
        revision: if input.u8() & 1 == 0 {
            Revision::Rev1
        } else {
            Revision::Rev0
        },
        data_crc: true,
    }
}

/// Frames of every shape, compressed if they are large enough, come out as they went in.
fn frames(algorithm: Algorithm, compresses: bool, input: &mut Input<'_>) {
    let layout = layout(input);
    let min_size = input.len();
    let mut chop = input.chop();
    let mut assembler = Assembler::from(layout);
    if compresses {
        assembler.compress(FrameCompressor::new(algorithm, min_size));
    }
    let mut reader = FrameReader::new(layout, LIMITS);
    reader.decompress(algorithm);
    for _ in 0..MAX_FRAMES {
        if input.is_empty() {
            return;
        }
        let seed = input.u8();
        let first = filler(seed, 1 + input.len() % 100);
        let noise = input.len() % 100;
        let noise = input.bytes(noise).to_vec();
        let front = vec![seed; input.len()];
        let rest: [Payload; 3] = [front, noise, filler(seed, input.len())].map(Payload::from);
        let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
        let mut writer = FrameWriter::new(500, &mut block, &mut blocks, &mut queue);
        let len = writer.frame(&mut assembler, Tag::Message, &first, rest.each_ref());
        writer.finish();
        let mut wire = Bytes::from(queue.make_contiguous().concat());
        assert_eq!(wire.len(), len);
        let mut frame = None;
        while !wire.is_empty() {
            assert!(frame.is_none());
            reader.push(chop.cut(&mut wire));
            frame = reader.next_frame().expect("sound");
        }
        let frame = frame.expect("whole");
        assert_eq!(*frame.segments[0].contiguous(), first);
        assert_eq!(frame.segments[1..], rest);
        assert!(!frame.aborted && !reader.is_mid_frame());
    }
}

/// Frames whose segments are any bytes, or the compressed ones of something else.
fn claimed(algorithm: Algorithm, input: &mut Input<'_>) {
    let layout = layout(input);
    let mut reader = FrameReader::new(layout, LIMITS);
    reader.decompress(algorithm);
    let mut chop = Chop::WHOLE;
    for _ in 0..MAX_FRAMES {
        if input.is_empty() {
            return;
        }
        let shape = input.u8();
        let segments: Vec<Vec<u8>> = (0..=shape % 4)
            .map(|segment| {
                if shape >> 4 & 1 << segment == 0 {
                    let mut out = Vec::new();
                    let bytes = filler(shape, input.len() * 5);
                    let done = Compressor::new(algorithm).compress(&bytes, &mut out);
                    done.expect("not that many");
                    out
                } else {
                    let len = input.len();
                    input.bytes(len).to_vec()
                }
            })
            .collect();
        let mut wire = layout::lay_out(layout, Tag::Message as u8, &segments);
        wire[FLAGS] |= 1;
        layout::seal(&mut wire);
        reader.push(chop.cut(&mut wire.into()));
        match reader.next_frame() {
            Ok(None) => panic!("it was whole"),
            Ok(Some(frame)) => {
                let limits = [LIMITS.control, LIMITS.front, LIMITS.middle, LIMITS.data];
                for (segment, limit) in frame.segments.iter().zip(limits) {
                    assert!(segment.len() <= limit as usize);
                }
            }
            Err(_) => return,
        }
    }
}
