//! [`Input`]: received bytes that no frame has claimed yet.

use std::collections::VecDeque;
use std::{iter, mem};

use bytes::{Buf, Bytes};

/// Received bytes that no frame has claimed yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Input {
    /// The run that comes next; empty only if there is none.
    front: Bytes,
    /// The runs behind it.
    later: VecDeque<Bytes>,
    len: usize,
}

impl Input {
    #[inline]
    pub(super) fn push(&mut self, slice: Bytes) {
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

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = &Bytes> {
        iter::once(&self.front).chain(&self.later)
    }

    /// The bytes of the first run, without taking them.
    pub(super) fn run(&self) -> &[u8] {
        &self.front
    }

    /// Up to `most` bytes that lie in one run, without taking them.
    pub(super) fn front(&self, most: usize) -> Option<&[u8]> {
        let front = &self.front;
        (!front.is_empty()).then(|| &front[..front.len().min(most)])
    }

    /// Takes bytes off the first run, which has as many.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        self.len -= n;
        self.front.advance(n);
        if self.front.is_empty() {
            self.next_run();
        }
    }

    /// Takes what is left of the first run.
    #[inline]
    fn next_run(&mut self) -> Bytes {
        mem::replace(&mut self.front, self.later.pop_front().unwrap_or_default())
    }

    /// Takes `len` bytes and drops the `skipped` behind them, all of which lie in the first run.
    #[inline]
    pub(super) fn take_within(&mut self, len: usize, skipped: usize) -> Bytes {
        if len + skipped < self.front.len() {
            let slice = self.front.split_to(len);
            self.advance(skipped);
            self.len -= len;
            return slice;
        }
        // What is left of the run is not needed any more, so that it need not be shared.
        let mut slice = self.next_run();
        self.len -= slice.len();
        slice.truncate(len);
        slice
    }

    /// Up to `most` bytes that lie in one run.
    pub(super) fn take_slice(&mut self, most: usize) -> Option<Bytes> {
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
    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if let Some(array) = self.front.first_chunk().copied() {
            self.advance(N);
            return Some(array);
        }
        let mut array = [0; N];
        self.copy_to(&mut array).then_some(array)
    }

    /// Fills `buffer`, or does nothing if there are not enough bytes.
    pub(super) fn copy_to(&mut self, buffer: &mut [u8]) -> bool {
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
