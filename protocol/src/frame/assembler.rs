//! [`Assembler`]: how the frames that one end sends are put together.

use std::fmt;

use super::preamble::SegmentDescriptor;
use super::{FrameCompressor, Layout, MAX_SEGMENTS, PREAMBLE_LEN, Preamble, Sealer};
use crate::wire::Tag;

/// Control segments and a message's header want 8 byte alignment, data a page: Ceph's
/// `segment_t::DEFAULT_ALIGNMENT` and `PAGE_SIZE_ALIGNMENT` in `src/msg/async/frames_v2.h`.
const ALIGNMENT: [u16; MAX_SEGMENTS] = [8, 8, 8, 4096];

/// How the frames of one stream are put together, as far as its handshake has come: the layout,
/// what compresses them if that was agreed on, and what seals them in secure mode.
#[derive(Debug, Clone)]
pub struct Assembler {
    pub(super) layout: Layout,
    pub(super) compressor: Option<Box<FrameCompressor>>,
    pub(super) sealer: Option<Box<Sealer>>,
    /// Of the last frame.
    pub(super) head: Head,
}

/// A preamble, its bytes, and what it was made for: most frames look like the one before.
#[derive(Clone, Copy)]
pub(super) struct Head {
    shape: Shape,
    pub(super) preamble: Preamble,
    pub(super) wire: [u8; PREAMBLE_LEN],
    /// The size of the whole frame in bytes, unless it is sealed.
    pub(super) frame_len: usize,
}

/// A frame's type, the lengths of its segments, and whether they are compressed.
type Shape = (Tag, [usize; MAX_SEGMENTS], bool);

impl Head {
    fn new(shape: Shape, layout: Layout) -> Self {
        let (tag, lens, compressed) = shape;
        let mut descriptors = [SegmentDescriptor::default(); MAX_SEGMENTS];
        for ((descriptor, len), alignment) in descriptors.iter_mut().zip(lens).zip(ALIGNMENT) {
            descriptor.len = u32::try_from(len).expect("segments are limited before they get here");
            descriptor.alignment = alignment;
        }
        let mut preamble = Preamble::new(tag, descriptors);
        if compressed {
            preamble = preamble.compressed();
        }
        Self {
            shape,
            preamble,
            wire: preamble.encode(),
            frame_len: preamble.frame_len(layout.revision),
        }
    }
}

impl fmt::Debug for Head {
    /// Nothing: what was sent before makes no difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").finish_non_exhaustive()
    }
}

impl From<Layout> for Assembler {
    fn from(layout: Layout) -> Self {
        Self {
            layout,
            compressor: None,
            sealer: None,
            head: Head::new((Tag::Wait, [0; MAX_SEGMENTS], false), layout),
        }
    }
}

impl Assembler {
    /// The layout of frames that are not sealed.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Makes `head` that of a frame of this shape.
    #[inline]
    pub(super) fn prepare(&mut self, tag: Tag, lens: [usize; MAX_SEGMENTS], compressed: bool) {
        let shape = (tag, lens, compressed);
        if self.head.shape != shape {
            self.head = Head::new(shape, self.layout);
        }
    }

    /// From the next frame on, frames are sealed by `sealer`, which knows their layout.
    pub fn secure(&mut self, sealer: Sealer) {
        self.sealer = Some(Box::new(sealer));
    }

    /// From the next frame on, frames are compressed by `compressor`, before they are sealed.
    pub fn compress(&mut self, compressor: FrameCompressor) {
        self.compressor = Some(Box::new(compressor));
    }

    /// Whether the stream has used up what it can send: no frame is laid out any more.
    pub fn is_exhausted(&self) -> bool {
        self.sealer
            .as_ref()
            .is_some_and(|sealer| sealer.is_exhausted())
    }

    /// Whether a frame that was laid out can still be taken back. A sealed one cannot: what would
    /// take its place would have to be sealed with the same nonce. Nor can a compressed one:
    /// filler in the middle of compressed bytes is none.
    pub(crate) fn can_abort(&self) -> bool {
        self.sealer.is_none() && self.compressor.is_none()
    }

    /// Uses up what there is to seal with.
    #[cfg(test)]
    pub(crate) fn exhaust(&mut self) {
        self.sealer.as_mut().expect("in secure mode").exhaust();
    }
}
