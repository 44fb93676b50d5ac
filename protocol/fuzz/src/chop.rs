//! [`Chop`]: how a stream is cut into pieces on its way.

use bytes::Bytes;

/// Sizes of pieces, over and over again; no sizes leave the stream whole.
#[derive(Clone, Copy)]
pub(super) struct Chop<'a> {
    sizes: &'a [u8],
    next: usize,
}

impl<'a> Chop<'a> {
    pub(super) const WHOLE: Self = Self::new(&[]);

    pub(super) const fn new(sizes: &'a [u8]) -> Self {
        Self { sizes, next: 0 }
    }

    /// Cuts the next piece off `stream`; empty at its end only.
    pub(super) fn cut(&mut self, stream: &mut Bytes) -> Bytes {
        let size = self.size().min(stream.len());
        stream.split_to(size)
    }

    /// The next size in bytes, at least 1.
    pub(super) fn size(&mut self) -> usize {
        if self.sizes.is_empty() {
            return usize::MAX;
        }
        let size = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        let size = match usize::from(size) {
            short @ ..128 => short + 1,
            long => (long - 126) * 64,
        };
        // A long stream must not take for ever.
        size << (self.next / 256).min(16)
    }
}
