//! Messages with one payload, through a [`FrameWriter`] or a [`FrameReader`].

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use msgr_protocol::auth::ConnectionSecret;
use msgr_protocol::frame::{Assembler, End, FrameReader, Layout, Revision, secure};
use msgr_protocol::wire::Tag;
use msgr_protocol::{Blocks, FrameWriter, Limits, Payload, TxQueue};

const LAYOUT: Layout = Layout {
    revision: Revision::Rev1,
    data_crc: true,
};
/// A message's header.
const HEADER: [u8; 41] = [3; 41];
/// The size of a block, and the most bytes that are received at once.
const BLOCK_LEN: usize = 64 << 10;
/// Slices from here on are linked where they are not sealed, as with sockets.
const LINK_FROM: usize = 4 << 10;
/// So many bytes make the stream that is received over and over.
const STREAM_LEN: usize = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Crc,
    Secure,
}

/// Blocks as a transport's pool lends them.
#[derive(Default)]
struct Pool {
    blocks: VecDeque<BytesMut>,
}

impl Pool {
    fn take(&mut self, len: usize) -> BytesMut {
        for _ in 0..self.blocks.len() {
            let Some(mut block) = self.blocks.pop_front() else {
                break;
            };
            block.clear();
            if block.try_reclaim(len) {
                return block;
            }
            self.blocks.push_back(block);
        }
        BytesMut::with_capacity(len)
    }
}

impl Blocks for Pool {
    fn exchange(&mut self, used_up: BytesMut, len: usize) -> BytesMut {
        self.blocks.push_back(used_up);
        self.take(len.max(BLOCK_LEN))
    }

    fn exact(&mut self, len: usize) -> BytesMut {
        let mut block = self.take(len.next_power_of_two());
        let rest = block.split_off(len);
        self.blocks.push_back(rest);
        block
    }
}

pub(super) struct Frames {
    mode: Mode,
    payload: Payload,
    assembler: Assembler,
    block: BytesMut,
    pool: Pool,
    /// What is received, over and over, and how many frames it is.
    stream: Vec<Bytes>,
    count: usize,
    reader: FrameReader,
    /// Frames that the reader has left of it.
    left: usize,
}

impl Frames {
    pub(super) fn new(mode: Mode, size: usize) -> Self {
        let mut frames = Self {
            mode,
            payload: vec![7; size].into(),
            assembler: assembler(mode),
            block: BytesMut::new(),
            pool: Pool::default(),
            stream: Vec::new(),
            count: (STREAM_LEN / size).max(1),
            reader: reader(mode),
            left: 0,
        };
        let mut queue = TxQueue::new();
        for _ in 0..frames.count {
            frames.write(&mut queue);
        }
        let stream = Bytes::from(queue.make_contiguous().concat());
        let at = (0..stream.len()).step_by(BLOCK_LEN);
        frames.stream = at
            .map(|at| stream.slice(at..stream.len().min(at + BLOCK_LEN)))
            .collect();
        frames.assembler = assembler(mode);
        frames
    }

    fn write(&mut self, queue: &mut TxQueue) {
        let none = Payload::new();
        let mut writer = FrameWriter::new(LINK_FROM, &mut self.block, &mut self.pool, queue);
        let rest = [&none, &none, &self.payload];
        writer.frame(&mut self.assembler, Tag::Message, &HEADER, rest);
        writer.finish();
    }

    /// Lays out one message.
    pub(super) fn send(&mut self) {
        let mut queue = TxQueue::new();
        self.write(&mut queue);
        black_box(queue);
    }

    /// Takes in one message.
    pub(super) fn receive(&mut self) {
        if self.left == 0 {
            self.left = self.count;
            self.reader = reader(self.mode);
            for piece in &self.stream {
                self.reader.push(piece.clone());
            }
        }
        self.left -= 1;
        let frame = self.reader.next_frame().expect("what was laid out");
        black_box(frame.expect("all of it is there"));
    }
}

fn secret() -> ConnectionSecret {
    ConnectionSecret::from_slice(&[5; ConnectionSecret::LEN]).expect("as long as it has to be")
}

fn assembler(mode: Mode) -> Assembler {
    let mut assembler = Assembler::from(LAYOUT);
    if mode == Mode::Secure {
        assembler.secure(secure(&secret(), End::Connector, LAYOUT.revision).0);
    }
    assembler
}

fn reader(mode: Mode) -> FrameReader {
    let mut reader = FrameReader::new(LAYOUT, Limits::default());
    if mode == Mode::Secure {
        reader.secure(secure(&secret(), End::Acceptor, LAYOUT.revision).1);
    }
    reader
}
