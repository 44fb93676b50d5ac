//! The preamble: 32 bytes, the same in both revisions.
//!
//! | offset | size | |
//! |---|---|---|
//! | 0 | 1 | tag |
//! | 1 | 1 | number of segments |
//! | 2 | 4 x 6 | segment length (4), alignment (2) |
//! | 26 | 1 | flags |
//! | 27 | 1 | reserved |
//! | 28 | 4 | CRC-32C of bytes 0..28 |

use super::{FrameError, Limits, Revision};
use crate::compression::max_compressed_len;
use crate::crc;
use crate::wire::Tag;

/// The size of a preamble in bytes.
pub const PREAMBLE_LEN: usize = 32;
/// The most segments a frame has.
pub const MAX_SEGMENTS: usize = 4;

const DESCRIPTORS: usize = 2;
const DESCRIPTOR_LEN: usize = 6;
const FLAGS: usize = 26;
const CRC: usize = 28;
const _: () = assert!(DESCRIPTORS + MAX_SEGMENTS * DESCRIPTOR_LEN == FLAGS);
const _: () = assert!(CRC + size_of::<u32>() == PREAMBLE_LEN);

/// Flags bit 0: the segments are compressed.
const FLAG_COMPRESSED: u8 = 1;

/// Length and alignment of one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentDescriptor {
    /// In bytes.
    pub len: u32,
    /// What the receiver's buffer should be aligned to, in bytes: a hint.
    pub alignment: u16,
}

/// The head of a frame: its type and the shape of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// The frame's type.
    pub tag: Tag,
    count: u8,
    compressed: bool,
    descriptors: [SegmentDescriptor; MAX_SEGMENTS],
}

impl Preamble {
    /// The preamble of a frame with these segments, without the empty ones at the end.
    pub fn new(tag: Tag, mut descriptors: [SegmentDescriptor; MAX_SEGMENTS]) -> Self {
        let used = descriptors
            .iter()
            .rposition(|segment| segment.len > 0)
            .unwrap_or(0);
        descriptors[used + 1..].fill(SegmentDescriptor::default());
        Self {
            tag,
            count: used as u8 + 1,
            compressed: false,
            descriptors,
        }
    }

    /// The same of a frame whose segments, not the empty ones, are compressed; the lengths are those
    /// of the compressed segments.
    #[must_use]
    pub fn compressed(self) -> Self {
        Self {
            compressed: true,
            ..self
        }
    }

    /// Whether the segments are compressed.
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// The segments that the frame has, one to four.
    pub fn segments(&self) -> &[SegmentDescriptor] {
        &self.descriptors[..usize::from(self.count)]
    }

    /// The size of the whole frame in bytes.
    pub fn frame_len(&self, revision: Revision) -> usize {
        let first_crc = revision.first_crc_len(self.segment_len(0));
        let segments: usize = (0..MAX_SEGMENTS).map(|at| self.segment_len(at)).sum();
        PREAMBLE_LEN + first_crc + segments + revision.epilogue_len(self.count.into())
    }

    /// The size of a segment in bytes; 0 for one that the frame does not have.
    pub(super) fn segment_len(&self, segment: usize) -> usize {
        self.descriptors[segment].len as usize
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; PREAMBLE_LEN] {
        let mut wire = [0; PREAMBLE_LEN];
        wire[0] = self.tag as u8;
        wire[1] = self.count;
        let slots = wire[DESCRIPTORS..FLAGS].chunks_exact_mut(DESCRIPTOR_LEN);
        for (slot, segment) in slots.zip(&self.descriptors) {
            slot[..4].copy_from_slice(&segment.len.to_le_bytes());
            slot[4..].copy_from_slice(&segment.alignment.to_le_bytes());
        }
        if self.compressed {
            wire[FLAGS] = FLAG_COMPRESSED;
        }
        let crc = crc::crc32c(crc::PREAMBLE, &wire[..CRC]);
        wire[CRC..].copy_from_slice(&crc.to_le_bytes());
        wire
    }

    /// Parses and checks a preamble.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are damaged, announce something that no frame has, or a segment
    /// longer than `limits`, or than they can become when they are compressed.
    pub fn decode(wire: &[u8; PREAMBLE_LEN], limits: &Limits) -> Result<Self, FrameError> {
        let computed = crc::crc32c(crc::PREAMBLE, &wire[..CRC]);
        let received = u32::from_le_bytes([wire[28], wire[29], wire[30], wire[31]]);
        if received != computed {
            return Err(FrameError::PreambleCrc { received, computed });
        }
        let tag = Tag::try_from(wire[0]).map_err(|_| FrameError::UnknownTag(wire[0]))?;
        let compressed = wire[FLAGS] & FLAG_COMPRESSED != 0;
        let count = wire[1];
        let most = if tag == Tag::Message {
            MAX_SEGMENTS as u8
        } else {
            1
        };
        if count == 0 || count > most {
            return Err(FrameError::SegmentCount(count));
        }
        let mut descriptors = [SegmentDescriptor::default(); MAX_SEGMENTS];
        let slots = wire[DESCRIPTORS..FLAGS]
            .chunks_exact(DESCRIPTOR_LEN)
            .take(count.into());
        for (segment, (descriptor, slot)) in descriptors.iter_mut().zip(slots).enumerate() {
            descriptor.len = u32::from_le_bytes([slot[0], slot[1], slot[2], slot[3]]);
            descriptor.alignment = u16::from_le_bytes([slot[4], slot[5]]);
            let mut limit = limits.of(tag, segment);
            if compressed {
                limit = u32::try_from(max_compressed_len(limit as usize)).unwrap_or(u32::MAX);
            }
            check(segment, *descriptor, limit)?;
        }
        if count > 1 && descriptors[usize::from(count) - 1].len == 0 {
            return Err(FrameError::LastSegmentEmpty(count));
        }
        Ok(Self {
            tag,
            count,
            compressed,
            descriptors,
        })
    }
}

fn check(
    segment: usize,
    SegmentDescriptor { len, alignment }: SegmentDescriptor,
    limit: u32,
) -> Result<(), FrameError> {
    if len > limit {
        return Err(FrameError::SegmentTooLong {
            segment,
            len,
            limit,
        });
    }
    if len > 0 && !alignment.is_power_of_two() {
        return Err(FrameError::Alignment { segment, alignment });
    }
    Ok(())
}
