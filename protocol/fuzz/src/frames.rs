//! Frames: any bytes, in any pieces, read by the reader and by the specification, and written again.

use std::mem;

use bytes::{Bytes, BytesMut};
use msgr_protocol::frame::{
    Blocks, Frame, FrameError, FrameReader, FrameWriter, Layout, Limits, PREAMBLE_LEN, Revision,
    TxQueue, write_control,
};
use msgr_protocol::wire::Tag;

use super::chop::Chop;
use super::input::{Input, filler};
use super::layout::{self, Parsed, Start};

const SMALL: Limits = Limits {
    handshake: 100,
    control: 100,
    front: 200,
    middle: 300,
    data: 400,
};
const MAX_STREAM: usize = 64 << 10;

/// Reads a stream of frames in one piece and in several, and writes every frame again.
pub fn frames(data: &[u8]) {
    let input = &mut Input::new(data);
    let choices = input.u8();
    let layout = Layout {
        revision: if choices & 1 == 0 {
            Revision::Rev1
        } else {
            Revision::Rev0
        },
        data_crc: choices & 2 == 0,
    };
    let limits = if choices & 4 == 0 {
        Limits::default()
    } else {
        SMALL
    };
    let link_from = [usize::MAX, 256, 16, 0][usize::from(choices >> 4) % 4];
    let chop = input.chop();
    let stream = if choices & 8 == 0 {
        Bytes::copy_from_slice(input.rest())
    } else {
        described(layout, input).into()
    };

    let whole = read(layout, limits, &stream, Chop::WHOLE);
    let cut = read(layout, limits, &stream, chop);
    assert_eq!(cut.error, whole.error);
    assert_eq!(cut.frames.len(), whole.frames.len());
    let mut rest = &stream[..];
    for (frame, same) in whole.frames.iter().zip(&cut.frames) {
        assert_eq!(frame.tag, same.tag);
        assert_eq!(frame.segments, same.segments);
        assert_eq!(frame.aborted, same.aborted);
        for segment in &frame.segments {
            assert!(segment.slices().len() <= 1, "copied or cut: {segment:?}");
        }
        let Start::Frame(parsed) = layout::parse(layout, &limits, rest) else {
            panic!("no frame where one was read");
        };
        write_again(layout, link_from, frame, &parsed);
        rest = &rest[parsed.wire.len()..];
    }
}

/// Frames as the fuzzer describes them: sound, with a forged preamble, or damaged.
fn described(layout: Layout, input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < MAX_STREAM {
        let shape = input.u8();
        let tag = match shape & 0x0c {
            0x0c => input.u8(),
            _ => Tag::Message as u8,
        };
        let count = if shape & 0x0c == 0x08 {
            1
        } else {
            1 + shape % 4
        };
        let segments: Vec<_> = (0..count).map(|i| filler(shape ^ i, input.len())).collect();
        let mut wire = layout::lay_out(layout, tag, &segments);
        if shape & 0x10 != 0 {
            let at = usize::from(input.u8()) % PREAMBLE_LEN;
            wire[at] = input.u8();
            layout::seal(&mut wire);
        }
        if shape & 0x20 != 0 {
            let at = usize::from(input.u16()) % wire.len();
            wire[at] ^= input.u8();
        }
        stream.extend(wire);
    }
    stream
}

#[derive(Default)]
struct Read {
    frames: Vec<Frame>,
    error: Option<FrameError>,
}

/// Reads `stream` in pieces. After each, the reader must be where the specification is.
fn read(layout: Layout, limits: Limits, stream: &Bytes, mut chop: Chop<'_>) -> Read {
    let mut reader = FrameReader::new(layout, limits);
    let mut read = Read::default();
    let mut to_come = stream.clone();
    let mut taken = 0;
    while !to_come.is_empty() {
        reader.push(chop.cut(&mut to_come));
        reader.push(Bytes::new());
        let pushed = stream.len() - to_come.len();
        loop {
            let next = reader.next_frame();
            match layout::parse(layout, &limits, &stream[taken..pushed]) {
                Start::Frame(expected) => {
                    let frame = next.expect("a sound frame").expect("a whole frame");
                    assert_eq!(frame.tag, expected.tag);
                    assert_eq!(frame.aborted, expected.aborted);
                    let absent = [&[][..]; 4];
                    let segments = expected.segments.iter().chain(&absent);
                    for (segment, expected) in frame.segments.iter().zip(segments) {
                        assert_eq!(&*segment.contiguous(), *expected);
                        assert_eq!(segment.len(), expected.len());
                    }
                    taken += expected.wire.len();
                    read.frames.push(frame);
                }
                Start::Partial { missing, .. } => {
                    assert!(matches!(next, Ok(None)), "{next:?} from part of a frame");
                    assert_eq!(reader.missing(), missing);
                    assert_eq!(reader.is_mid_frame(), pushed > taken);
                    break;
                }
                Start::Refused(reasons) => {
                    let error = next.expect_err("a frame that must be refused");
                    assert!(reasons.contains(&error), "{error}, expected {reasons:?}");
                    read.error = Some(error);
                    return read;
                }
            }
        }
    }
    read
}

/// Blocks with room for what is asked and not one byte more.
struct TightBlocks;

impl Blocks for TightBlocks {
    fn exchange(&mut self, _: BytesMut, len: usize) -> BytesMut {
        BytesMut::with_capacity(len)
    }
}

/// What was read must be written as the specification says: as it was, but for what is ignored.
fn write_again(layout: Layout, link_from: usize, frame: &Frame, parsed: &Parsed<'_>) {
    let [first, rest @ ..] = &frame.segments;
    let first = first.contiguous();
    let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
    let mut blocks = TightBlocks;
    let mut writer = FrameWriter::new(link_from, &mut block, &mut blocks, &mut queue);
    let len = writer.frame(&mut layout.into(), frame.tag, &first, rest.each_ref());
    writer.finish();
    assert!(queue.iter().all(|slice| !slice.is_empty()));
    let written: Vec<_> = mem::take(&mut queue).into_iter().flatten().collect();
    assert_eq!(written.len(), len);

    let segments: Vec<_> = parsed.segments.iter().map(|s| s.to_vec()).collect();
    let specified = layout::lay_out(layout, frame.tag as u8, &segments);
    assert_eq!(written, specified);

    let mut same = parsed.wire.to_vec();
    for range in layout::ignored(layout, parsed) {
        same[range.clone()].copy_from_slice(&written[range]);
    }
    assert_eq!(written, same);

    if frame.tag != Tag::Message {
        let mut control = BytesMut::from(&b"in front"[..]);
        write_control(&mut layout.into(), frame.tag, &first, &mut control);
        assert_eq!(control[8..], written);
    }
}
