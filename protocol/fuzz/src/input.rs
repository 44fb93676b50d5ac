//! [`Input`]: a fuzzer's bytes, taken one number at a time.

use super::chop::Chop;

/// A fuzzer's bytes. Behind their end come zeros, so that every input means something.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// The next `n` bytes, or as many as there are.
    pub(super) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// The length of something: mostly short, 3584 at most.
    pub(super) fn len(&mut self) -> usize {
        match usize::from(self.u8()) {
            short @ ..200 => short,
            long => (long - 199) * 64,
        }
    }

    /// How to cut a stream: up to 7 sizes, which then repeat.
    pub(super) fn chop(&mut self) -> Chop<'a> {
        let n = self.u8() % 8;
        Chop::new(self.bytes(n.into()))
    }
}

/// `len` bytes that depend on their place and on `seed`.
pub(super) fn filler(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 256) as u8 ^ seed).collect()
}
