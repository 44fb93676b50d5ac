//! [`FrameReader`]: received bytes in, frames out; segments are slices of what was received.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf, Bytes};

use super::preamble::SegmentDescriptor;
use super::{
    FrameError, Layout, Limits, MAX_EPILOGUE_LEN, MAX_SEGMENTS, PREAMBLE_LEN, Preamble, Revision,
    late_status,
};
use crate::crc;
use crate::payload::Payload;
use crate::wire::Tag;

/// A frame whose checksums were right.
#[derive(Debug)]
pub struct Frame {
    /// The frame's type.
    pub tag: Tag,
    /// Its segments; those it does not have are empty.
    pub segments: [Payload; MAX_SEGMENTS],
    /// The sender gave up in the middle: what follows the first segment is filler.
    pub aborted: bool,
}

/// Cuts a stream of received bytes into frames.
///
/// Segments are checked and collected as their bytes come in, so that a long one is summed while
/// its bytes are still in the cache, and nothing is set aside for what has not arrived yet.
#[derive(Debug)]
pub struct FrameReader {
    layout: Layout,
    limits: Limits,
    input: Input,
    stage: Stage,
    segments: [Payload; MAX_SEGMENTS],
    crcs: [u32; MAX_SEGMENTS],
}

/// What the next bytes belong to.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Preamble,
    Segment(Preamble, usize),
    FirstCrc(Preamble),
    Epilogue(Preamble),
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new(layout: Layout, limits: Limits) -> Self {
        Self {
            layout,
            limits,
            input: Input::default(),
            stage: Stage::Preamble,
            segments: Default::default(),
            crcs: [crc::SEGMENT; MAX_SEGMENTS],
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
            Stage::Segment(preamble, segment) => self.segment_missing(&preamble, segment),
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
        for slice in &self.input.slices {
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
        loop {
            self.stage = match self.stage {
                Stage::Preamble => {
                    let mut wire = [0; PREAMBLE_LEN];
                    if !self.input.copy_to(&mut wire) {
                        return Ok(None);
                    }
                    let preamble = Preamble::decode(&wire, &self.limits)?;
                    self.crcs = [crc::SEGMENT; MAX_SEGMENTS];
                    Stage::Segment(preamble, 0)
                }
                Stage::Segment(preamble, segment) => {
                    self.receive_segment(&preamble, segment);
                    if self.segment_missing(&preamble, segment) > 0 {
                        return Ok(None);
                    }
                    match self.after_segment(preamble, segment) {
                        Some(stage) => stage,
                        None => return Ok(Some(self.finish(&preamble, false))),
                    }
                }
                Stage::FirstCrc(preamble) => {
                    let mut wire = [0; 4];
                    if !self.input.copy_to(&mut wire) {
                        return Ok(None);
                    }
                    self.check_segment(0, u32::from_le_bytes(wire))?;
                    match self.next_segment(preamble, 0) {
                        Some(stage) => stage,
                        None => return Ok(Some(self.finish(&preamble, false))),
                    }
                }
                Stage::Epilogue(preamble) => {
                    let mut wire = [0; MAX_EPILOGUE_LEN];
                    let wire =
                        &mut wire[..self.layout.revision.epilogue_len(preamble.segments().len())];
                    if !self.input.copy_to(wire) {
                        return Ok(None);
                    }
                    let aborted = self.check_epilogue(&preamble, wire)?;
                    return Ok(Some(self.finish(&preamble, aborted)));
                }
            };
        }
    }

    fn segment_missing(&self, preamble: &Preamble, segment: usize) -> usize {
        preamble.segments()[segment].len as usize - self.segments[segment].len()
    }

    fn receive_segment(&mut self, preamble: &Preamble, segment: usize) {
        let mut missing = self.segment_missing(preamble, segment);
        while missing > 0 {
            let Some(slice) = self.input.take_slice(missing) else {
                break;
            };
            missing -= slice.len();
            if self.layout.data_crc {
                self.crcs[segment] = crc::crc32c(self.crcs[segment], &slice);
            }
            self.segments[segment].push(slice);
        }
    }

    fn after_segment(&self, preamble: Preamble, segment: usize) -> Option<Stage> {
        let SegmentDescriptor { len, .. } = preamble.segments()[segment];
        if self.layout.revision == Revision::Rev1 && segment == 0 && len > 0 {
            return Some(Stage::FirstCrc(preamble));
        }
        self.next_segment(preamble, segment)
    }

    fn next_segment(&self, preamble: Preamble, segment: usize) -> Option<Stage> {
        let count = preamble.segments().len();
        if segment + 1 < count {
            return Some(Stage::Segment(preamble, segment + 1));
        }
        (self.layout.revision.epilogue_len(count) > 0).then_some(Stage::Epilogue(preamble))
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
    fn check_epilogue(&self, preamble: &Preamble, wire: &[u8]) -> Result<bool, FrameError> {
        let first = match self.layout.revision {
            Revision::Rev0 => 0,
            Revision::Rev1 => 1,
        };
        let (status, crcs) = wire.split_at(1);
        for (segment, crc) in (first..preamble.segments().len()).zip(crcs.chunks_exact(4)) {
            self.check_segment(
                segment,
                u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]),
            )?;
        }
        late_status::is_aborted(self.layout.revision, status[0])
            .ok_or(FrameError::LateStatus(status[0]))
    }

    fn finish(&mut self, preamble: &Preamble, aborted: bool) -> Frame {
        self.stage = Stage::Preamble;
        Frame {
            tag: preamble.tag,
            segments: mem::take(&mut self.segments),
            aborted,
        }
    }
}

/// Received bytes that no frame has claimed yet.
#[derive(Debug, Default)]
struct Input {
    slices: VecDeque<Bytes>,
    len: usize,
}

impl Input {
    fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.push_back(slice);
        }
    }

    /// Up to `most` bytes that lie in one run.
    fn take_slice(&mut self, most: usize) -> Option<Bytes> {
        let front = self.slices.front_mut()?;
        let slice = if front.len() > most {
            front.split_to(most)
        } else {
            self.slices.pop_front().unwrap_or_default()
        };
        self.len -= slice.len();
        Some(slice)
    }

    /// Fills `buffer`, or does nothing if there are not enough bytes.
    fn copy_to(&mut self, buffer: &mut [u8]) -> bool {
        if self.len < buffer.len() {
            return false;
        }
        self.len -= buffer.len();
        let mut filled = 0;
        while filled < buffer.len() {
            let Some(front) = self.slices.front_mut() else {
                break;
            };
            let n = front.len().min(buffer.len() - filled);
            buffer[filled..filled + n].copy_from_slice(&front[..n]);
            filled += n;
            if n == front.len() {
                self.slices.pop_front();
            } else {
                front.advance(n);
            }
        }
        true
    }
}
