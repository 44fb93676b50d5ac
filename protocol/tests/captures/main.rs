//! Real Ceph sessions, byte for byte: read and written again, and played back to a connection that
//! stands in for the other end.
//!
//! What was captured and how is in `tests/vectors/README.md`.

#![allow(clippy::unwrap_used)] // Not only in `#[test]` functions.

mod compressed;
mod layouts;
mod replay;
mod secure;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use msgr_protocol::compression::Algorithm;
use msgr_protocol::frame::{Frame, FrameReader, Layout, Revision, write_control};
use msgr_protocol::wire::{CompressionDone, CompressionRequest, Control, Tag};
use msgr_protocol::{FrameWriter, HEADER_LEN, Header, HeapBlocks, Limits, Message, TxQueue};

const REV1: Layout = Layout {
    revision: Revision::Rev1,
    data_crc: true,
};

/// What both ends of a captured connection sent first: msgr2.1 supported, nothing required.
const BANNER: &[u8; 26] = b"ceph v2\n\x10\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The same of those between OSDs, which offer compression as well.
const COMPRESSION_BANNER: &[u8; 26] = b"ceph v2\n\x10\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// The bytes of hexadecimal digits; white space is ignored.
fn hex(digits: &str) -> Vec<u8> {
    let digits = digits.replace(char::is_whitespace, "");
    assert_eq!(digits.len() % 2, 0, "half a byte");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// All bytes that one side of a captured connection sent.
fn stream(name: &str) -> Vec<u8> {
    hex(&fs::read_to_string(vectors().join(format!("{name}.hex"))).unwrap())
}

/// The frames behind the banner, of which none is cut short.
fn frames(stream: &[u8]) -> Vec<Frame> {
    let (banner, stream) = stream.split_at(BANNER.len());
    assert!(banner == BANNER || banner == COMPRESSION_BANNER);
    let mut reader = FrameReader::new(REV1, Limits::default());
    reader.push(Bytes::copy_from_slice(stream));
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        if let Some(algorithm) = agreed(&frame) {
            reader.decompress(algorithm);
        }
        frames.push(frame);
    }
    assert!(!reader.is_mid_frame(), "bytes are left over");
    frames
}

/// What may compress the frames behind this one.
fn agreed(frame: &Frame) -> Option<Algorithm> {
    let payload = frame.segments[0].contiguous();
    let (is_compress, method) = match frame.tag {
        Tag::CompressionRequest => {
            let request = CompressionRequest::decode(&payload).unwrap();
            // They were configured with one.
            (request.is_compress, request.preferred_methods[0])
        }
        Tag::CompressionDone => {
            let done = CompressionDone::decode(&payload).unwrap();
            (done.is_compress, done.method)
        }
        _ => return None,
    };
    let algorithm = is_compress.then(|| Algorithm::from_id(method));
    algorithm.map(|known| known.expect("known"))
}

/// The first frame of its kind in a stream.
fn find<C: Control>(stream: &[u8]) -> C {
    let frames = frames(stream);
    let found = frames.iter().find(|frame| frame.tag == C::TAG).unwrap();
    C::decode(&found.segments[0].contiguous()).unwrap()
}

fn header(frame: &Frame) -> Header {
    let wire: [u8; HEADER_LEN] = frame.segments[0].contiguous()[..].try_into().unwrap();
    Header::decode(&wire)
}

fn message(frame: Frame) -> Message {
    let header = header(&frame);
    let [_, front, middle, data] = frame.segments;
    Message {
        header,
        front,
        middle,
        data,
    }
}

fn write_frame<C: Control>(frame: &C, out: &mut BytesMut) {
    let mut payload = BytesMut::new();
    frame.encode(&mut payload);
    write_control(&mut REV1.into(), C::TAG, &payload, out);
}

/// The banner and these control frames, laid out.
macro_rules! handshake {
    ($($frame:expr),* $(,)?) => {{
        let mut out = bytes::BytesMut::from(&$crate::BANNER[..]);
        $($crate::write_frame(&$frame, &mut out);)*
        out
    }};
}
use handshake;

fn message_frame(message: &Message) -> Vec<u8> {
    let payloads = [&message.front, &message.middle, &message.data];
    written(|writer| {
        writer.frame(
            &mut REV1.into(),
            Tag::Message,
            &message.header.encode(),
            payloads,
        );
        writer.finish();
    })
}

fn written(write: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
    let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    write(&mut FrameWriter::new(
        usize::MAX,
        &mut block,
        &mut blocks,
        &mut queue,
    ));
    queue.make_contiguous().concat()
}
