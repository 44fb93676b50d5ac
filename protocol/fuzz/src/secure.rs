//! Secure mode: frames that the fuzzer describes, sealed by us and by the specification, sound, with
//! forged contents or damaged, and read in any pieces.

use aes_gcm::Aes128Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use bytes::{Bytes, BytesMut};
use msgr_protocol::Payload;
use msgr_protocol::auth::ConnectionSecret;
use msgr_protocol::frame::{
    Assembler, End, Frame, FrameError, FrameReader, FrameWriter, HeapBlocks, Layout, Limits,
    PREAMBLE_LEN, Revision, TxQueue, secure as keys,
};
use msgr_protocol::wire::Tag;

use super::chop::Chop;
use super::input::{Input, filler};
use super::layout;

const MAX_STREAM: usize = 64 << 10;
const INLINE_LEN: usize = 48;
const BLOCK_LEN: usize = 16;
/// Of the connection, whose connector sends.
const SECRET: [u8; ConnectionSecret::LEN] = {
    let mut secret = [0; ConnectionSecret::LEN];
    let mut i = 0;
    while i < secret.len() {
        // The first counters end in ones, so that they carry.
        secret[i] = 250 + (i % 6) as u8;
        i += 1;
    }
    secret
};

/// The specification's side of a connector: one call for a record.
struct Oracle {
    revision: Revision,
    cipher: Aes128Gcm,
    nonce: [u8; 12],
}

impl Oracle {
    fn new(revision: Revision) -> Self {
        let (key, nonce) = (&SECRET[..16], &SECRET[28..40]);
        Self {
            revision,
            cipher: Aes128Gcm::new(key.try_into().expect("16 bytes")),
            nonce: nonce.try_into().expect("12 bytes"),
        }
    }

    fn seal(&mut self, mut plain: Vec<u8>) -> Vec<u8> {
        let buffer = plain.as_mut_slice().into();
        let nonce = &self.nonce.into();
        let tag = self.cipher.encrypt_inout_detached(nonce, &[], buffer);
        plain.extend_from_slice(&tag.expect("not too long"));
        let counter = match self.revision {
            Revision::Rev0 => &mut self.nonce[..4],
            Revision::Rev1 => &mut self.nonce[4..],
        };
        for byte in counter {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        plain
    }

    /// A frame with this preamble, and these segments even if it announces others.
    fn frame(&mut self, preamble: &[u8], status: u8, segments: &[Vec<u8>]) -> Vec<u8> {
        let (first, rest) = segments.split_first().expect("one or more");
        if self.revision == Revision::Rev0 {
            let mut plain = [preamble, &padded(first)].concat();
            plain.extend(rest.iter().flat_map(|segment| padded(segment)));
            plain.extend(padded(&[status]));
            return self.seal(plain);
        }
        let (inline, more) = first.split_at(first.len().min(INLINE_LEN));
        let mut head = [preamble, inline].concat();
        head.resize(PREAMBLE_LEN + INLINE_LEN, 0);
        let mut wire = self.seal(head);
        if !more.is_empty() {
            wire.extend(self.seal(padded(more)));
        }
        if !rest.is_empty() {
            let mut body = Vec::new();
            body.extend(rest.iter().flat_map(|segment| padded(segment)));
            body.extend(padded(&[status]));
            wire.extend(self.seal(body));
        }
        wire
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
    padded
}

/// A frame that must arrive.
struct Expected {
    tag: Tag,
    segments: Vec<Vec<u8>>,
    aborted: bool,
}

/// Seals frames, breaks them, and reads them.
pub fn secure(data: &[u8]) {
    let input = &mut Input::new(data);
    let choices = input.u8();
    let revision = match choices & 1 {
        0 => Revision::Rev1,
        _ => Revision::Rev0,
    };
    let layout = Layout {
        revision,
        data_crc: true,
    };
    let slice = 1 + usize::from(input.u8()) * usize::from(choices >> 4);
    let chop = input.chop();
    let secret = ConnectionSecret::from_slice(&SECRET).expect("64 bytes");
    let mut assembler = Assembler::from(layout);
    assembler.secure(keys(&secret, End::Connector, revision).0);
    let mut reader = FrameReader::new(layout, Limits::default());
    reader.secure(keys(&secret, End::Acceptor, revision).1);
    let mut oracle = Oracle::new(revision);

    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    let (mut is_sound, mut is_authentic) = (true, true);
    while is_sound && !input.is_empty() && stream.len() < MAX_STREAM {
        let shape = input.u8();
        let (tag, count) = match shape & 0x0c {
            0x0c => (Tag::Keepalive2, 1),
            _ => (Tag::Message, 1 + shape % 4),
        };
        let mut segments: Vec<_> = (0..count).map(|i| filler(shape ^ i, input.len())).collect();
        while segments.len() > 1 && segments.last().is_some_and(Vec::is_empty) {
            segments.pop();
        }
        let mut preamble = layout::lay_out(layout, tag as u8, &segments);
        preamble.truncate(PREAMBLE_LEN);
        let complete = match revision {
            Revision::Rev0 => 0,
            Revision::Rev1 => 0x0e,
        };
        match shape >> 5 {
            // Somebody who has the key, and misuses it.
            1 => {
                let at = usize::from(input.u8()) % (PREAMBLE_LEN - 4);
                preamble[at] = input.u8();
                layout::seal(&mut preamble);
                stream.extend(oracle.frame(&preamble, complete, &segments));
                is_sound = false;
            }
            2 => {
                let status = input.u8();
                stream.extend(oracle.frame(&preamble, status, &segments));
                let has_epilogue = revision == Revision::Rev0 || segments.len() > 1;
                let aborted = match (revision, status & 0x0f) {
                    _ if !has_epilogue => false,
                    (Revision::Rev0, flags) => flags & 1 != 0,
                    (Revision::Rev1, 0x0e) => false,
                    (Revision::Rev1, 0x01) => true,
                    (Revision::Rev1, _) => {
                        is_sound = false;
                        continue;
                    }
                };
                // The writer counts on.
                let _ = written(&mut assembler, tag, &segments, slice);
                expected.push(Expected {
                    tag,
                    segments,
                    aborted,
                });
            }
            // Somebody who has not.
            3 => {
                let mut wire = oracle.frame(&preamble, complete, &segments);
                let at = usize::from(input.u16()) % wire.len();
                let flipped = input.u8().max(1);
                wire[at] ^= flipped;
                stream.extend(wire);
                (is_sound, is_authentic) = (false, false);
            }
            4 => {
                stream.extend_from_slice(input.rest());
                (is_sound, is_authentic) = (false, false);
            }
            _ => {
                let wire = written(&mut assembler, tag, &segments, slice);
                assert_eq!(wire, oracle.frame(&preamble, complete, &segments));
                stream.extend(wire);
                expected.push(Expected {
                    tag,
                    segments,
                    aborted: false,
                });
            }
        }
    }
    let sound = (is_sound, is_authentic);
    receive(&reader, &stream.into(), chop, &expected, sound);
}

/// Reads `stream`, in one piece and in several: these frames, then others only if what follows them
/// is sealed with the key, and an error only if it is not sound.
fn receive(
    reader: &FrameReader,
    stream: &Bytes,
    chop: Chop<'_>,
    expected: &[Expected],
    (is_sound, is_authentic): (bool, bool),
) {
    let whole = read(reader.clone(), stream, Chop::WHOLE);
    let cut = read(reader.clone(), stream, chop);
    assert_eq!(cut.error, whole.error);
    assert_eq!(cut.frames.len(), whole.frames.len());
    for (frame, same) in whole.frames.iter().zip(&cut.frames) {
        assert_eq!((frame.tag, frame.aborted), (same.tag, same.aborted));
        assert_eq!(frame.segments, same.segments);
    }
    compare(&whole.frames, expected);
    if !is_authentic {
        assert_eq!(whole.frames.len(), expected.len(), "a forgery was believed");
    }
    assert!(!is_sound || (whole.error.is_none() && whole.frames.len() == expected.len()));
}

/// The first frames read must be those expected.
fn compare(frames: &[Frame], expected: &[Expected]) {
    assert!(frames.len() >= expected.len());
    for (frame, expected) in frames.iter().zip(expected) {
        assert_eq!((frame.tag, frame.aborted), (expected.tag, expected.aborted));
        let absent = [const { Vec::new() }; 4];
        let segments = expected.segments.iter().chain(&absent);
        for (segment, expected) in frame.segments.iter().zip(segments) {
            assert_eq!(*segment.contiguous(), **expected);
        }
    }
}

fn written(assembler: &mut Assembler, tag: Tag, segments: &[Vec<u8>], slice: usize) -> Vec<u8> {
    let mut payloads: [Payload; 3] = Default::default();
    for (payload, segment) in payloads.iter_mut().zip(&segments[1..]) {
        *payload = segment.chunks(slice).map(Bytes::copy_from_slice).collect();
    }
    let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    let mut writer = FrameWriter::new(1024, &mut block, &mut blocks, &mut queue);
    let len = writer.frame(assembler, tag, &segments[0], payloads.each_ref());
    writer.finish();
    let wire = queue.make_contiguous().concat();
    assert_eq!(wire.len(), len);
    wire
}

#[derive(Default)]
struct Read {
    frames: Vec<Frame>,
    error: Option<FrameError>,
}

fn read(mut reader: FrameReader, stream: &Bytes, mut chop: Chop<'_>) -> Read {
    let mut read = Read::default();
    let mut to_come = stream.clone();
    while !to_come.is_empty() {
        reader.push(chop.cut(&mut to_come));
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => read.frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    read.error = Some(error);
                    return read;
                }
            }
        }
    }
    read
}
