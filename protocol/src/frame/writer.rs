//! [`FrameWriter`]: segments in, bytes to send out; small ones copied together, large ones linked.

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Assembler, Layout, MAX_EPILOGUE_LEN, MAX_SEGMENTS, PREAMBLE_LEN, Revision, late_status,
};
use crate::message::HEADER_LEN;
use crate::payload::Payload;
use crate::wire::Tag;

/// Bytes to send, in order.
pub type TxQueue = VecDeque<Bytes>;

/// Where a [`FrameWriter`] gets the memory that it writes into.
pub trait Blocks {
    /// Takes back a used-up block and returns an empty one with room for `len` bytes or more.
    fn exchange(&mut self, used_up: BytesMut, len: usize) -> BytesMut;

    /// A block with room for `len` bytes that nobody gives back: when the last slice of it is gone,
    /// it may be used again.
    fn exact(&mut self, len: usize) -> BytesMut {
        BytesMut::with_capacity(len)
    }
}

/// [`Blocks`] from the heap, for tests and tools.
#[derive(Debug, Default)]
pub struct HeapBlocks;

impl Blocks for HeapBlocks {
    fn exchange(&mut self, _: BytesMut, len: usize) -> BytesMut {
        BytesMut::with_capacity(len.max(4096))
    }
}

/// What a frame of one segment has besides it, at most: in secure mode padding and a record's tag
/// for each of preamble, segment and epilogue.
const MAX_OVERHEAD: usize = PREAMBLE_LEN + 3 * 32 + MAX_EPILOGUE_LEN;

/// Appends a frame of one segment to `out`.
pub fn write_control(assembler: &mut Assembler, tag: Tag, segment: &[u8], out: &mut BytesMut) {
    out.reserve(segment.len() + MAX_OVERHEAD);
    let none = Payload::new();
    // With room for the whole frame, neither another block nor the queue is ever needed.
    let mut queue = TxQueue::new();
    FrameWriter::new(usize::MAX, out, &mut HeapBlocks, &mut queue).frame(
        assembler,
        tag,
        segment,
        [&none, &none, &none],
    );
    debug_assert!(queue.is_empty());
}

/// Lays out frames back to back.
///
/// Everything written goes to one block, from which [`finish`](Self::finish) cuts a single slice,
/// however many frames it holds; a slice of `link_from` bytes or more is linked instead of copied.
pub struct FrameWriter<'a> {
    link_from: usize,
    pub(super) block: &'a mut BytesMut,
    pub(super) blocks: &'a mut dyn Blocks,
    pub(super) queue: &'a mut TxQueue,
}

impl fmt::Debug for FrameWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("link_from", &self.link_from)
            .finish_non_exhaustive()
    }
}

impl<'a> FrameWriter<'a> {
    /// Writes into `block`, exchanged at `blocks` when it is full, and appends to `queue`.
    pub fn new(
        link_from: usize,
        block: &'a mut BytesMut,
        blocks: &'a mut dyn Blocks,
        queue: &'a mut TxQueue,
    ) -> Self {
        Self {
            link_from,
            block,
            blocks,
            queue,
        }
    }

    /// Appends bytes that are not a frame, or frames laid out before.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.block.put_slice(bytes);
    }

    /// Appends a frame: its first segment, and the rest as payloads. Returns its size in bytes; 0 if
    /// the assembler is [exhausted](Assembler::is_exhausted).
    pub fn frame(
        &mut self,
        assembler: &mut Assembler,
        tag: Tag,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> usize {
        let status = late_status::complete(assembler.layout.revision);
        self.frame_as(status, assembler, tag, first, rest)
    }

    /// Appends a message frame of which only the header counts; `front` must not be empty.
    pub(crate) fn aborted_message(
        &mut self,
        assembler: &mut Assembler,
        header: &[u8],
        front: &Payload,
    ) -> usize {
        let none = Payload::new();
        let revision = assembler.layout.revision;
        let status =
            late_status::aborted(revision, true).unwrap_or(late_status::complete(revision));
        self.frame_as(
            status,
            assembler,
            Tag::Message,
            header,
            [front, &none, &none],
        )
    }

    /// The same as [`frame`](Self::frame), with a late status of its own.
    #[inline]
    pub(super) fn frame_as(
        &mut self,
        status: u8,
        assembler: &mut Assembler,
        tag: Tag,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> usize {
        if assembler.compressor.is_some()
            && let Some(len) = self.compressed(status, assembler, tag, first, rest)
        {
            return len;
        }
        self.lay_out(status, assembler, tag, false, first, rest)
    }

    /// The same, if it is worth compressing.
    #[inline(never)]
    fn compressed(
        &mut self,
        status: u8,
        assembler: &mut Assembler,
        tag: Tag,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> Option<usize> {
        if status != late_status::complete(assembler.layout.revision) {
            return None;
        }
        let [first, rest @ ..] = assembler.compressor.as_mut()?.compress(first, rest)?;
        let [front, middle, data] = &rest.map(Payload::from);
        Some(self.lay_out(status, assembler, tag, true, &first, [front, middle, data]))
    }

    /// The same for segments that are compressed already, if they are to be.
    pub(super) fn lay_out(
        &mut self,
        status: u8,
        assembler: &mut Assembler,
        tag: Tag,
        compressed: bool,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> usize {
        let lens = [first.len(), rest[0].len(), rest[1].len(), rest[2].len()];
        assembler.prepare(tag, lens, compressed);
        let Assembler {
            layout,
            sealer,
            head,
            ..
        } = assembler;
        if let Some(sealer) = sealer {
            return self.sealed(sealer, status, &head.preamble, first, rest);
        }
        let layout = *layout;
        let count = head.preamble.segments().len();

        let mut crcs = [0; MAX_SEGMENTS];
        crcs[0] = match <&[u8; HEADER_LEN]>::try_from(first) {
            // Written in line, because the length is known.
            Ok(header) => self.begin(&head.wire, header, layout),
            Err(_) => self.begin(&head.wire, first, layout),
        };
        for (payload, crc) in rest.into_iter().zip(&mut crcs[1..count]) {
            *crc = self.payload(payload, layout);
        }
        self.epilogue(status, layout.revision, count, &crcs);
        head.frame_len
    }

    /// Hands what was written since the last call to the queue.
    pub fn finish(&mut self) {
        if !self.block.is_empty() {
            self.queue.push_back(self.block.split().freeze());
        }
    }

    /// Writes a preamble and the first segment; returns the segment's checksum.
    #[inline]
    fn begin(&mut self, preamble: &[u8; PREAMBLE_LEN], first: &[u8], layout: Layout) -> u32 {
        self.make_room(PREAMBLE_LEN + first.len() + size_of::<u32>() + MAX_EPILOGUE_LEN);
        let crc = layout.crc(layout.empty_crc(), first);
        self.block.put_slice(preamble);
        self.block.put_slice(first);
        if layout.revision.first_crc_len(first.len()) > 0 {
            self.block.put_u32_le(crc);
        }
        crc
    }

    #[inline]
    fn payload(&mut self, payload: &Payload, layout: Layout) -> u32 {
        let mut crc = layout.empty_crc();
        for slice in payload.slices() {
            crc = layout.crc(crc, slice);
            if slice.len() >= self.link_from {
                self.finish();
                self.queue.push_back(slice.clone());
            } else {
                self.make_room(slice.len());
                self.block.put_slice(slice);
            }
        }
        crc
    }

    fn epilogue(
        &mut self,
        status: u8,
        revision: Revision,
        count: usize,
        crcs: &[u32; MAX_SEGMENTS],
    ) {
        if revision.epilogue_len(count) == 0 {
            return;
        }
        self.make_room(MAX_EPILOGUE_LEN);
        let mut wire = [status; MAX_EPILOGUE_LEN];
        for (slot, crc) in wire[1..].as_chunks_mut().0.iter_mut().zip(crcs) {
            *slot = crc.to_le_bytes();
        }
        match revision {
            Revision::Rev0 => self.block.put_slice(&wire),
            // The first segment's is right behind it already.
            Revision::Rev1 => {
                wire[4] = status;
                self.block.put_slice(&wire[4..]);
            }
        }
    }

    #[inline]
    pub(super) fn make_room(&mut self, len: usize) {
        if self.block.capacity() - self.block.len() < len {
            self.exchange(len);
        }
    }

    #[cold]
    fn exchange(&mut self, len: usize) {
        self.finish();
        *self.block = self.blocks.exchange(std::mem::take(self.block), len);
    }
}
