//! Frames: a preamble, up to four segments, and what proves that they arrived intact.
//!
//! [`Preamble`] is the fixed head; [`FrameReader`] turns received bytes into frames without copying
//! their segments; [`FrameWriter`] turns segments into bytes to send. What the segments of a frame
//! mean is not known here.
//!
//! Source: msgr2 specification, "Frame format"; Ceph's `src/msg/async/frames_v2.{h,cc}`.

mod abort;
mod assembler;
mod compress;
mod error;
mod input;
mod preamble;
mod reader;
mod secure;
#[cfg(test)]
mod tests;
mod writer;

use crate::crc;
use crate::wire::Tag;

pub(crate) use abort::{Position, abort};
pub use assembler::Assembler;
pub use compress::FrameCompressor;
pub use error::FrameError;
pub use preamble::{MAX_SEGMENTS, PREAMBLE_LEN, Preamble, SegmentDescriptor};
pub(crate) use reader::Head;
pub use reader::{Frame, FrameReader};
pub use secure::{End, Opener, Sealer, secure};
pub use writer::{Blocks, FrameWriter, HeapBlocks, TxQueue, write_control};

/// Which layout the frames of a connection have, agreed on by the banners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// msgr2.0: all checksums in a 17 byte epilogue that every frame has.
    Rev0,
    /// msgr2.1: the first segment's checksum right behind it, the others' in a 13 byte epilogue
    /// that only a frame of several segments has.
    Rev1,
}

impl Revision {
    /// The size of the checksum behind a first segment of `len` bytes, in bytes.
    const fn first_crc_len(self, len: usize) -> usize {
        match self {
            Self::Rev1 if len > 0 => size_of::<u32>(),
            Self::Rev0 | Self::Rev1 => 0,
        }
    }

    /// The size of the epilogue behind a frame of `segments` segments, in bytes.
    const fn epilogue_len(self, segments: usize) -> usize {
        match self {
            Self::Rev0 => 1 + 4 * MAX_SEGMENTS,
            Self::Rev1 if segments > 1 => 1 + 4 * (MAX_SEGMENTS - 1),
            Self::Rev1 => 0,
        }
    }
}

/// How the frames of one connection are laid out and protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Where the checksums are.
    pub revision: Revision,
    /// Whether segments have checksums (Ceph's `ms_crc_data`); without, the fields are 0 and are
    /// not looked at. The two ends must agree, nothing negotiates it.
    pub data_crc: bool,
}

impl Layout {
    /// The checksum of an empty segment.
    const fn empty_crc(self) -> u32 {
        if self.data_crc { crc::SEGMENT } else { 0 }
    }

    /// Appends the whole of a segment to `to`, and returns its checksum.
    #[inline]
    fn collect(self, segment: &[u8], to: &mut Vec<u8>) -> u32 {
        to.extend_from_slice(segment);
        self.crc(self.empty_crc(), segment)
    }

    /// Continues the checksum of a segment.
    #[inline]
    fn crc(self, crc: u32, bytes: &[u8]) -> u32 {
        if self.data_crc {
            crc::crc32c(crc, bytes)
        } else {
            crc
        }
    }
}

/// The longest epilogue of any revision, in bytes.
const MAX_EPILOGUE_LEN: usize = Revision::Rev0.epilogue_len(MAX_SEGMENTS);

/// The first byte of an epilogue: whether the sender completed the frame or gave up on it.
mod late_status {
    use super::Revision;

    /// Revision 0: bit 0 of the late flags.
    const REV0_ABORTED: u8 = 1;
    /// Revision 1: the low nibble; values far apart, so that a flipped bit is noticed.
    const REV1_MASK: u8 = 0x0f;
    const REV1_ABORTED: u8 = 0x01;
    const REV1_COMPLETE: u8 = 0x0e;

    pub(super) const fn complete(revision: Revision) -> u8 {
        match revision {
            Revision::Rev0 => 0,
            Revision::Rev1 => REV1_COMPLETE,
        }
    }

    /// `None` if a frame of this revision has no place to say so.
    pub(super) const fn aborted(revision: Revision, has_payload: bool) -> Option<u8> {
        match (revision, has_payload) {
            (Revision::Rev0, _) => Some(REV0_ABORTED),
            (Revision::Rev1, true) => Some(REV1_ABORTED),
            (Revision::Rev1, false) => None,
        }
    }

    /// Whether the frame was aborted; `None` for a value that says neither.
    pub(super) const fn is_aborted(revision: Revision, status: u8) -> Option<bool> {
        match (revision, status & REV1_MASK) {
            (Revision::Rev0, _) => Some(status & REV0_ABORTED != 0),
            (Revision::Rev1, REV1_COMPLETE) => Some(false),
            (Revision::Rev1, REV1_ABORTED) => Some(true),
            (Revision::Rev1, _) => None,
        }
    }
}

/// The most bytes that each segment of a received frame may have, compressed or not, and a handshake
/// as a whole. They are checked before any memory is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All that a peer may send until it is authenticated.
    pub handshake: u32,
    /// The only segment of a control frame.
    pub control: u32,
    /// A message's front.
    pub front: u32,
    /// A message's middle.
    pub middle: u32,
    /// A message's data.
    pub data: u32,
}

impl Limits {
    /// The most bytes that this segment of such a frame may have; a message's header is a control
    /// segment by its size.
    const fn of(&self, tag: Tag, segment: usize) -> u32 {
        match (tag, segment) {
            (Tag::Message, 1) => self.front,
            (Tag::Message, 2) => self.middle,
            (Tag::Message, 3) => self.data,
            _ => self.control,
        }
    }
}

impl Default for Limits {
    /// 256 KiB for a handshake, 64 KiB for control frames, and what the Linux kernel's client takes of a message
    /// (`include/linux/ceph/libceph.h`): 16 MiB front, 16 MiB middle, 64 MiB data.
    fn default() -> Self {
        Self {
            handshake: 256 << 10,
            control: 64 << 10,
            front: 16 << 20,
            middle: 16 << 20,
            data: 64 << 20,
        }
    }
}
