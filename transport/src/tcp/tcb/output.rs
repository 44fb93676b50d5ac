//! [`Output`]: what is to go out next.

use super::super::segment::flags;

/// A segment, or several in a row, that are to go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) seq: u32,
    pub(crate) flags: u8,
    /// Where its bytes are in what is queued, and how many.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Output {
    pub(super) fn end(&self) -> u32 {
        let end = self.seq.wrapping_add(self.len as u32);
        end.wrapping_add(u32::from(self.flags & (flags::SYN | flags::FIN) != 0))
    }

    /// At most `len` bytes of it, from there on. Only the last part ends anything.
    pub(crate) fn part(&self, from: usize, len: usize) -> Self {
        let rest = self.len - from;
        let is_last = rest <= len;
        Self {
            seq: self.seq.wrapping_add(from as u32),
            flags: if is_last { self.flags } else { flags::ACK },
            offset: self.offset + from,
            len: rest.min(len),
        }
    }
}
