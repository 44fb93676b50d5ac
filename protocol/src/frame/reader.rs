//! [`FrameReader`]: received bytes in, frames out; segments are slices of what was received.

use std::collections::VecDeque;
use std::{iter, mem};

use bytes::{Buf, Bytes};

use super::preamble::SegmentDescriptor;
use super::{
    FrameError, Layout, Limits, MAX_EPILOGUE_LEN, MAX_SEGMENTS, PREAMBLE_LEN, Preamble, Revision,
    late_status,
};
use crate::payload::Payload;
use crate::wire::Tag;

/// A frame whose checksums were right.
#[derive(Debug)]
pub struct Frame {
    /// The frame's type.
    pub tag: Tag,
    /// Its segments; those it does not have are empty. All but the first are slices of what was
    /// received.
    pub segments: [Payload; MAX_SEGMENTS],
    /// The sender gave up in the middle: what follows the first segment is filler.
    pub aborted: bool,
}

/// What is known of a whole frame besides its segments, which are still in the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) tag: Tag,
    pub(crate) aborted: bool,
}

/// Cuts a stream of received bytes into frames.
///
/// Segments are checked and collected as their bytes come in, so that a long one is summed while
/// its bytes are still in the cache, and nothing is set aside for what has not arrived yet.
#[derive(Debug, Clone)]
pub struct FrameReader {
    layout: Layout,
    limits: Limits,
    input: Input,
    stage: Stage,
    /// Of the frame being read.
    preamble: Preamble,
    /// A preamble's bytes, and what they say: most frames look like the one before.
    preamble_wire: [u8; PREAMBLE_LEN],
    /// A control frame's payload or a message's header: small, and read by ourselves.
    first: Vec<u8>,
    /// What the application gets, never copied.
    rest: [Payload; MAX_SEGMENTS - 1],
    crcs: [u32; MAX_SEGMENTS],
}

/// What the next bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preamble,
    Segment(usize),
    FirstCrc,
    Epilogue,
    /// Nothing: the frame is whole.
    Done,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new(layout: Layout, limits: Limits) -> Self {
        // Any preamble will do, as long as it and its bytes say the same.
        let preamble = Preamble::new(Tag::Wait, [SegmentDescriptor::default(); MAX_SEGMENTS]);
        Self {
            layout,
            limits,
            input: Input::default(),
            stage: Stage::Preamble,
            preamble,
            preamble_wire: preamble.encode(),
            first: Vec::new(),
            rest: Default::default(),
            crcs: [layout.empty_crc(); MAX_SEGMENTS],
        }
    }

    /// Appends the next received bytes.
    pub fn push(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// How many bytes of the segment being received are still to come; 0 between segments.
    /// A transport may be asked to place that many in one run.
    pub fn missing(&self) -> usize {
        match self.stage {
            Stage::Segment(segment) => self.segment_missing(segment),
            _ => 0,
        }
    }

    /// Whether the bytes received so far end within a frame.
    pub fn is_mid_frame(&self) -> bool {
        !matches!(self.stage, Stage::Preamble) || self.input.len > 0
    }

    /// Takes `n` bytes that are not part of a frame: the banner's.
    pub(crate) fn take_raw(&mut self, buffer: &mut [u8]) -> bool {
        self.input.copy_to(buffer)
    }

    /// Copies the bytes at the front, as many as there are, without taking them.
    pub(crate) fn peek_raw<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        let mut filled = 0;
        for slice in self.input.slices() {
            let n = slice.len().min(buffer.len() - filled);
            buffer[filled..filled + n].copy_from_slice(&slice[..n]);
            filled += n;
        }
        &buffer[..filled]
    }

    /// Changes the layout of the frames to come, once the banners have agreed on one.
    pub(crate) fn set_layout(&mut self, layout: Layout) {
        debug_assert!(matches!(self.stage, Stage::Preamble));
        self.layout = layout;
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`FrameError`]; the stream cannot be read any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let head = self.next_head()?;
        Ok(head.map(|Head { tag, aborted }| Frame {
            tag,
            segments: self.take_segments(),
            aborted,
        }))
    }

    fn take_segments(&mut self) -> [Payload; MAX_SEGMENTS] {
        let first = Bytes::copy_from_slice(&self.first).into();
        let [front, middle, data] = mem::take(&mut self.rest);
        [first, front, middle, data]
    }

    /// The first segment of the frame whose head was returned last.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// The same, to keep.
    pub(crate) fn take_first(&mut self) -> Vec<u8> {
        mem::take(&mut self.first)
    }

    /// The other segments of that frame, to be taken before the next.
    pub(crate) fn rest(&mut self) -> &mut [Payload; MAX_SEGMENTS - 1] {
        &mut self.rest
    }

    /// As [`next_frame`](Self::next_frame), but leaves the segments where they are: a frame is
    /// large, and moving it costs as much as reading it.
    pub(crate) fn next_head(&mut self) -> Result<Option<Head>, FrameError> {
        let mut aborted = false;
        loop {
            match self.stage {
                Stage::Preamble => {
                    if !self.receive_preamble()? {
                        return Ok(None);
                    }
                }
                Stage::Segment(segment) => {
                    if !self.receive_segment(segment) {
                        return Ok(None);
                    }
                    self.stage = self.after_segment(segment);
                }
                Stage::FirstCrc => {
                    let Some(wire) = self.input.take_array() else {
                        return Ok(None);
                    };
                    self.check_segment(0, u32::from_le_bytes(wire))?;
                    self.stage = self.next_segment(0);
                }
                Stage::Epilogue => {
                    let mut wire = [0; MAX_EPILOGUE_LEN];
                    let count = self.preamble.segments().len();
                    let wire = &mut wire[..self.layout.revision.epilogue_len(count)];
                    if !self.input.copy_to(wire) {
                        return Ok(None);
                    }
                    aborted = self.check_epilogue(wire)?;
                    self.stage = Stage::Done;
                }
                Stage::Done => {
                    self.stage = Stage::Preamble;
                    return Ok(Some(Head {
                        tag: self.preamble.tag,
                        aborted,
                    }));
                }
            }
        }
    }

    /// The type of the next frame, as soon as its preamble is there.
    #[inline]
    pub(crate) fn next_tag(&mut self) -> Result<Option<Tag>, FrameError> {
        if self.stage == Stage::Preamble && !self.receive_preamble()? {
            return Ok(None);
        }
        Ok(Some(self.preamble.tag))
    }

    /// The sum of the lengths of all segments but the first, of the frame whose preamble is there.
    pub(crate) fn payload_len(&self) -> usize {
        let rest = 1..MAX_SEGMENTS;
        rest.map(|segment| self.preamble.segment_len(segment)).sum()
    }

    #[inline]
    fn receive_preamble(&mut self) -> Result<bool, FrameError> {
        let Some(wire) = self.input.take_array() else {
            return Ok(false);
        };
        if wire != self.preamble_wire {
            self.preamble = Preamble::decode(&wire, &self.limits)?;
            self.preamble_wire = wire;
        }
        self.first.clear();
        self.crcs = [self.layout.empty_crc(); MAX_SEGMENTS];
        self.stage = Stage::Segment(0);
        Ok(true)
    }

    fn segment_missing(&self, segment: usize) -> usize {
        let received = match segment {
            0 => self.first.len(),
            _ => self.rest[segment - 1].len(),
        };
        self.preamble.segment_len(segment) - received
    }

    /// Collects what has come of a segment; returns whether that is all of it.
    fn receive_segment(&mut self, segment: usize) -> bool {
        let mut missing = self.segment_missing(segment);
        let crc = &mut self.crcs[segment];
        while missing > 0 {
            if segment == 0 {
                let Some(bytes) = self.input.front(missing) else {
                    return false;
                };
                let len = bytes.len();
                *crc = self.layout.crc(*crc, bytes);
                self.first.extend_from_slice(bytes);
                self.input.advance(len);
                missing -= len;
            } else {
                let Some(slice) = self.input.take_slice(missing) else {
                    return false;
                };
                *crc = self.layout.crc(*crc, &slice);
                missing -= slice.len();
                self.rest[segment - 1].push(slice);
            }
        }
        true
    }

    fn after_segment(&self, segment: usize) -> Stage {
        let len = self.preamble.segment_len(segment);
        if segment == 0 && self.layout.revision.first_crc_len(len) > 0 {
            return Stage::FirstCrc;
        }
        self.next_segment(segment)
    }

    fn next_segment(&self, segment: usize) -> Stage {
        let count = self.preamble.segments().len();
        if segment + 1 < count {
            Stage::Segment(segment + 1)
        } else if self.layout.revision.epilogue_len(count) > 0 {
            Stage::Epilogue
        } else {
            Stage::Done
        }
    }

    fn check_segment(&self, segment: usize, received: u32) -> Result<(), FrameError> {
        let computed = self.crcs[segment];
        if self.layout.data_crc && received != computed {
            return Err(FrameError::SegmentCrc {
                segment,
                received,
                computed,
            });
        }
        Ok(())
    }

    /// Checks the segments' checksums, then returns whether the frame was aborted.
    fn check_epilogue(&self, wire: &[u8]) -> Result<bool, FrameError> {
        let first = match self.layout.revision {
            Revision::Rev0 => 0,
            Revision::Rev1 => 1,
        };
        let (status, crcs) = wire.split_at(1);
        let segments = first..self.preamble.segments().len();
        for (segment, crc) in segments.zip(crcs.as_chunks().0) {
            self.check_segment(segment, u32::from_le_bytes(*crc))?;
        }
        late_status::is_aborted(self.layout.revision, status[0])
            .ok_or(FrameError::LateStatus(status[0]))
    }
}

/// Received bytes that no frame has claimed yet.
#[derive(Debug, Clone, Default)]
struct Input {
    /// The run that comes next; empty only if there is none.
    front: Bytes,
    /// The runs behind it.
    later: VecDeque<Bytes>,
    len: usize,
}

impl Input {
    fn push(&mut self, slice: Bytes) {
        if slice.is_empty() {
            return;
        }
        self.len += slice.len();
        if self.front.is_empty() {
            self.front = slice;
        } else {
            self.later.push_back(slice);
        }
    }

    fn slices(&self) -> impl Iterator<Item = &Bytes> {
        iter::once(&self.front).chain(&self.later)
    }

    /// Up to `most` bytes that lie in one run, without taking them.
    fn front(&self, most: usize) -> Option<&[u8]> {
        let front = &self.front;
        (!front.is_empty()).then(|| &front[..front.len().min(most)])
    }

    /// Takes bytes off the first run, which has as many.
    #[inline]
    fn advance(&mut self, n: usize) {
        self.len -= n;
        self.front.advance(n);
        if self.front.is_empty() {
            self.next_run();
        }
    }

    /// Takes what is left of the first run.
    fn next_run(&mut self) -> Bytes {
        mem::replace(&mut self.front, self.later.pop_front().unwrap_or_default())
    }

    /// Up to `most` bytes that lie in one run.
    fn take_slice(&mut self, most: usize) -> Option<Bytes> {
        if self.front.is_empty() {
            return None;
        }
        let slice = if self.front.len() > most {
            self.front.split_to(most)
        } else {
            self.next_run()
        };
        self.len -= slice.len();
        Some(slice)
    }

    /// The next `N` bytes, or nothing if there are not enough.
    #[inline]
    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if let Some(array) = self.front.first_chunk().copied() {
            self.advance(N);
            return Some(array);
        }
        let mut array = [0; N];
        self.copy_to(&mut array).then_some(array)
    }

    /// Fills `buffer`, or does nothing if there are not enough bytes.
    fn copy_to(&mut self, buffer: &mut [u8]) -> bool {
        if self.len < buffer.len() {
            return false;
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let n = self.front.len().min(buffer.len() - filled);
            buffer[filled..filled + n].copy_from_slice(&self.front[..n]);
            filled += n;
            self.advance(n);
        }
        true
    }
}
