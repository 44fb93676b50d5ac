//! [`FrameReader`]: received bytes in, frames out; segments are slices of what was received.

use std::mem;

use bytes::Bytes;

use super::input::Input;
use super::preamble::SegmentDescriptor;
use super::{
    FrameError, Layout, Limits, MAX_EPILOGUE_LEN, MAX_SEGMENTS, Opener, PREAMBLE_LEN, Preamble,
    Revision, late_status,
};
use crate::compression::{Algorithm, CompressionError, Decompressor};
use crate::message::HEADER_LEN;
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
    /// In secure mode.
    opener: Option<Box<Opener>>,
    /// If compression was agreed on.
    decompressor: Option<Box<Decompressor>>,
    /// Whether the sender gave up on the frame being read, known at its end.
    aborted: bool,
    /// What its payloads decompress to, in bytes, once somebody has asked.
    uncompressed: Option<usize>,
}

/// What the next bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preamble,
    Segment(usize),
    FirstCrc,
    Epilogue,
    /// What follows a preamble in secure mode.
    Sealed,
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
            opener: None,
            decompressor: None,
            aborted: false,
            uncompressed: None,
        }
    }

    /// From the next byte on, frames are opened by `opener`, which knows their layout.
    pub fn secure(&mut self, opener: Opener) {
        debug_assert!(matches!(self.stage, Stage::Preamble));
        self.opener = Some(Box::new(opener));
    }

    /// From the next frame on, frames may be compressed by this algorithm.
    pub fn decompress(&mut self, algorithm: Algorithm) {
        self.decompressor = Some(Box::new(Decompressor::new(algorithm)));
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
        !matches!(self.stage, Stage::Preamble) || self.input.len() > 0
    }

    /// How many bytes were pushed that belong to none of the frames returned so far.
    pub(crate) fn unread(&self) -> usize {
        self.input.len()
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
        if !self.collect()? {
            return Ok(None);
        }
        if self.preamble.is_compressed() {
            self.decompress_segments()?;
        }
        self.stage = Stage::Preamble;
        Ok(Some(Head {
            tag: self.preamble.tag,
            aborted: self.aborted,
        }))
    }

    /// Receives what has come of a frame; returns whether it is whole.
    #[inline]
    fn collect(&mut self) -> Result<bool, FrameError> {
        if self.next_tag()?.is_none() {
            return Ok(false);
        }
        if self.stage == Stage::Segment(0) && self.receive_run()? {
            self.stage = Stage::Done;
            return Ok(true);
        }
        self.collect_by_stages()
    }

    #[inline(never)]
    fn collect_by_stages(&mut self) -> Result<bool, FrameError> {
        loop {
            match self.stage {
                Stage::Preamble => {
                    if !self.receive_preamble()? {
                        return Ok(false);
                    }
                }
                Stage::Segment(segment) => {
                    if !self.receive_segment(segment) {
                        return Ok(false);
                    }
                    self.stage = self.after_segment(segment);
                }
                Stage::FirstCrc => {
                    let Some(wire) = self.input.take_array() else {
                        return Ok(false);
                    };
                    self.check_segment(0, u32::from_le_bytes(wire))?;
                    self.stage = self.next_segment(0);
                }
                Stage::Epilogue => {
                    let mut wire = [0; MAX_EPILOGUE_LEN];
                    let count = self.preamble.segments().len();
                    let wire = &mut wire[..self.layout.revision.epilogue_len(count)];
                    if !self.input.copy_to(wire) {
                        return Ok(false);
                    }
                    self.aborted = self.check_epilogue(wire)?;
                    self.stage = Stage::Done;
                }
                Stage::Sealed => {
                    let opener = self.opener.as_mut().expect("in secure mode");
                    if !opener.receive(&mut self.input, &mut self.first, &mut self.rest)? {
                        return Ok(false);
                    }
                    self.aborted = opener.is_aborted()?;
                    self.stage = Stage::Done;
                }
                Stage::Done => return Ok(true),
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

    /// Whether the frame whose preamble is there is compressed.
    #[inline]
    pub(crate) fn is_compressed(&self) -> bool {
        self.preamble.is_compressed()
    }

    /// What [`payload_len`](Self::payload_len) will be when that frame is decompressed; `None` until
    /// it is whole.
    pub(crate) fn uncompressed_payload_len(&mut self) -> Result<Option<usize>, FrameError> {
        if !self.collect()? || self.uncompressed.is_some() {
            return Ok(self.uncompressed);
        }
        let mut sum = 0;
        if !self.aborted {
            for segment in 1..MAX_SEGMENTS {
                sum += self.with_payload(segment, Decompressor::uncompressed_len)?;
            }
        }
        self.uncompressed = Some(sum);
        Ok(Some(sum))
    }

    #[cold]
    fn decompress_segments(&mut self) -> Result<(), FrameError> {
        self.uncompressed = None;
        let decompressor = self.decompressor.as_mut().expect("checked by its preamble");
        if !self.first.is_empty() {
            let limit = self.limits.of(self.preamble.tag, 0) as usize;
            self.first = decompressor
                .decompress(&self.first, limit)
                .map_err(|error| FrameError::Decompression { segment: 0, error })?;
        }
        for segment in 1..MAX_SEGMENTS {
            // What follows the first segment of an aborted frame is filler.
            self.rest[segment - 1] = if self.aborted {
                Payload::new()
            } else {
                self.with_payload(segment, Decompressor::decompress)?.into()
            };
        }
        Ok(())
    }

    /// What `take` makes of a compressed segment, within its limit; nothing of an empty one.
    fn with_payload<T: Default>(
        &mut self,
        segment: usize,
        take: impl FnOnce(&mut Decompressor, &[u8], usize) -> Result<T, CompressionError>,
    ) -> Result<T, FrameError> {
        let payload = &self.rest[segment - 1];
        if payload.is_empty() {
            return Ok(T::default());
        }
        let decompressor = self.decompressor.as_mut().expect("checked by its preamble");
        let limit = self.limits.of(self.preamble.tag, segment) as usize;
        take(decompressor, &payload.contiguous(), limit)
            .map_err(|error| FrameError::Decompression { segment, error })
    }

    /// The sum of the lengths of all segments but the first, of the frame whose preamble is there;
    /// of the compressed ones, if it is.
    pub(crate) fn payload_len(&self) -> usize {
        let rest = 1..MAX_SEGMENTS;
        rest.map(|segment| self.preamble.segment_len(segment)).sum()
    }

    #[inline]
    fn receive_preamble(&mut self) -> Result<bool, FrameError> {
        if self.opener.is_some() {
            return self.receive_sealed_preamble();
        }
        let Some(wire) = self.input.take_array() else {
            return Ok(false);
        };
        if wire != self.preamble_wire {
            self.preamble = Preamble::decode(&wire, &self.limits)?;
            self.check_compression()?;
            self.preamble_wire = wire;
        }
        self.aborted = false;
        self.first.clear();
        self.crcs = [self.layout.empty_crc(); MAX_SEGMENTS];
        self.stage = Stage::Segment(0);
        Ok(true)
    }

    #[inline(never)]
    fn receive_sealed_preamble(&mut self) -> Result<bool, FrameError> {
        let opener = self.opener.as_mut().expect("in secure mode");
        let Some(preamble) = opener.preamble(&mut self.input, &self.limits, &mut self.first)?
        else {
            return Ok(false);
        };
        self.preamble = preamble;
        self.check_compression()?;
        self.aborted = false;
        self.stage = Stage::Sealed;
        Ok(true)
    }

    fn check_compression(&self) -> Result<(), FrameError> {
        if self.preamble.is_compressed() && self.decompressor.is_none() {
            return Err(FrameError::Compressed);
        }
        Ok(())
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

    /// Receives all that follows the preamble of a message, if it lies in one run, as it mostly does.
    /// The same as going through the stages one by one.
    #[inline]
    fn receive_run(&mut self) -> Result<bool, FrameError> {
        const EPILOGUE_LEN: usize = Revision::Rev1.epilogue_len(MAX_SEGMENTS);
        let count = self.preamble.segments().len();
        let first_len = self.preamble.segment_len(0);
        let received = self.first.len();
        if self.layout.revision != Revision::Rev1 || count == 1 || first_len == 0 || received > 0 {
            return Ok(false);
        }
        let run = self.input.run();
        let Some((first, run)) = run.split_at_checked(first_len) else {
            return Ok(false);
        };
        let Some((first_crc, run)) = run.split_first_chunk() else {
            return Ok(false);
        };
        let Some((mut payload, run)) = run.split_at_checked(self.payload_len()) else {
            return Ok(false);
        };
        let Some([status, crcs @ ..]) = run.first_chunk::<EPILOGUE_LEN>() else {
            return Ok(false);
        };
        let layout = self.layout;
        self.crcs[0] = match <&[u8; HEADER_LEN]>::try_from(first) {
            // Copied and summed in line, because the length is known.
            Ok(header) => layout.collect(header, &mut self.first),
            Err(_) => layout.collect(first, &mut self.first),
        };
        self.check_segment(0, u32::from_le_bytes(*first_crc))?;
        for (segment, crc) in (1..count).zip(crcs.as_chunks().0) {
            let (bytes, rest) = payload.split_at(self.preamble.segment_len(segment));
            self.crcs[segment] = self.layout.crc(self.crcs[segment], bytes);
            self.check_segment(segment, u32::from_le_bytes(*crc))?;
            payload = rest;
        }
        self.aborted = self.late_status(*status)?;
        self.input.advance(first_len + size_of::<u32>());
        for segment in 1..count {
            let len = self.preamble.segment_len(segment);
            if len > 0 {
                // The last one is never empty.
                let skipped = if segment + 1 == count {
                    EPILOGUE_LEN
                } else {
                    0
                };
                let slice = self.input.take_within(len, skipped);
                self.rest[segment - 1] = slice.into();
            }
        }
        Ok(true)
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
        self.late_status(status[0])
    }

    fn late_status(&self, status: u8) -> Result<bool, FrameError> {
        late_status::is_aborted(self.layout.revision, status).ok_or(FrameError::LateStatus(status))
    }
}
