//! [`FrameWriter`]: segments in, bytes to send out; small ones copied together, large ones linked.

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::preamble::SegmentDescriptor;
use super::{
    Layout, MAX_EPILOGUE_LEN, MAX_SEGMENTS, PREAMBLE_LEN, Preamble, Revision, late_status,
};
use crate::payload::Payload;
use crate::wire::Tag;

/// Bytes to send, in order.
pub type TxQueue = VecDeque<Bytes>;

/// Where a [`FrameWriter`] gets the memory that it writes into.
pub trait Blocks {
    /// Takes back a used-up block and returns an empty one with room for `len` bytes or more.
    fn exchange(&mut self, used_up: BytesMut, len: usize) -> BytesMut;
}

/// [`Blocks`] from the heap, for tests and tools.
#[derive(Debug, Default)]
pub struct HeapBlocks;

impl Blocks for HeapBlocks {
    fn exchange(&mut self, _: BytesMut, len: usize) -> BytesMut {
        BytesMut::with_capacity(len.max(4096))
    }
}

/// Control segments and a message's header want 8 byte alignment, data a page: Ceph's
/// `segment_t::DEFAULT_ALIGNMENT` and `PAGE_SIZE_ALIGNMENT` in `src/msg/async/frames_v2.h`.
const ALIGNMENT: [u16; MAX_SEGMENTS] = [8, 8, 8, 4096];

/// Appends a frame of one segment to `out`.
pub fn write_control(layout: Layout, tag: Tag, segment: &[u8], out: &mut BytesMut) {
    out.reserve(PREAMBLE_LEN + segment.len() + size_of::<u32>() + MAX_EPILOGUE_LEN);
    let none = Payload::new();
    // With room for the whole frame, neither another block nor the queue is ever needed.
    let mut queue = TxQueue::new();
    FrameWriter::new(usize::MAX, out, &mut HeapBlocks, &mut queue).frame(
        layout,
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
    block: &'a mut BytesMut,
    blocks: &'a mut dyn Blocks,
    queue: &'a mut TxQueue,
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

    /// Appends a frame: its first segment, and the rest as payloads. Returns its size in bytes.
    pub fn frame(
        &mut self,
        layout: Layout,
        tag: Tag,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> usize {
        self.frame_as(
            late_status::complete(layout.revision),
            layout,
            tag,
            first,
            rest,
        )
    }

    /// Appends a message frame of which only the header counts; `front` must not be empty.
    pub(crate) fn aborted_message(
        &mut self,
        layout: Layout,
        header: &[u8],
        front: &Payload,
    ) -> usize {
        let none = Payload::new();
        let status = late_status::aborted(layout.revision, true)
            .unwrap_or(late_status::complete(layout.revision));
        self.frame_as(status, layout, Tag::Message, header, [front, &none, &none])
    }

    /// The same as [`frame`](Self::frame), with a late status of its own.
    pub(super) fn frame_as(
        &mut self,
        status: u8,
        layout: Layout,
        tag: Tag,
        first: &[u8],
        rest: [&Payload; MAX_SEGMENTS - 1],
    ) -> usize {
        let lens = [first.len(), rest[0].len(), rest[1].len(), rest[2].len()];
        let mut descriptors = [SegmentDescriptor::default(); MAX_SEGMENTS];
        for ((descriptor, len), alignment) in descriptors.iter_mut().zip(lens).zip(ALIGNMENT) {
            descriptor.len = u32::try_from(len).expect("segments are limited before they get here");
            descriptor.alignment = alignment;
        }
        let preamble = Preamble::new(tag, descriptors);
        let count = preamble.segments().len();

        self.make_room(PREAMBLE_LEN + first.len() + size_of::<u32>() + MAX_EPILOGUE_LEN);
        self.block.put_slice(&preamble.encode());
        self.block.put_slice(first);
        let mut crcs = [0; MAX_SEGMENTS];
        crcs[0] = layout.crc(layout.empty_crc(), first);
        if layout.revision == Revision::Rev1 && !first.is_empty() {
            self.block.put_u32_le(crcs[0]);
        }
        for (payload, crc) in rest.iter().zip(&mut crcs[1..]).take(count - 1) {
            *crc = self.payload(payload, layout);
        }
        self.epilogue(status, layout.revision, count, &crcs);
        preamble.frame_len(layout.revision)
    }

    /// Hands what was written since the last call to the queue.
    pub fn finish(&mut self) {
        if !self.block.is_empty() {
            self.queue.push_back(self.block.split().freeze());
        }
    }

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
        let first = match revision {
            Revision::Rev0 => 0,
            Revision::Rev1 => 1,
        };
        let mut wire = [status; MAX_EPILOGUE_LEN];
        for (slot, crc) in wire[1..].as_chunks_mut().0.iter_mut().zip(&crcs[first..]) {
            *slot = crc.to_le_bytes();
        }
        self.block.put_slice(&wire[..revision.epilogue_len(count)]);
    }

    #[inline]
    fn make_room(&mut self, len: usize) {
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
