//! [`Landing`]: the memory that opened bytes land in, and are handed out of.

use std::mem;

use bytes::BytesMut;

/// What is made room for at once, at most: somebody who announces more has to send it first.
const MOST: usize = 4 << 20;
const SMALLEST: usize = 4 << 10;
/// Up to here blocks become larger if they are still in use when they are full: some hundred small
/// messages that the application has not dropped yet.
const GROW_TO: usize = 256 << 10;

/// Two blocks that take turns. Slices are split off the front; a block whose last slice is gone is
/// used again, so that nothing is allocated in a steady state.
#[derive(Debug, Clone, Default)]
pub(super) struct Landing {
    pub(super) block: BytesMut,
    /// Its size in bytes.
    size: usize,
    other: BytesMut,
    other_size: usize,
}

impl Landing {
    /// Sees to it that the block, which is empty, has room for `len` bytes, or for so many that it
    /// is worth going on behind them.
    pub(super) fn make_room(&mut self, len: usize) -> &mut BytesMut {
        debug_assert!(self.block.is_empty());
        let len = len.min(MOST);
        if self.block.capacity() < len && !self.block.try_reclaim(len) {
            let size = self.size;
            mem::swap(&mut self.block, &mut self.other);
            mem::swap(&mut self.size, &mut self.other_size);
            if self.size < size.max(len) {
                self.allocate(size.max(len));
            } else if !self.block.try_reclaim(len) {
                self.allocate((2 * self.size).min(GROW_TO).max(self.size));
            }
        }
        &mut self.block
    }

    fn allocate(&mut self, size: usize) {
        self.size = size.max(SMALLEST);
        self.block = BytesMut::with_capacity(self.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_when_nobody_holds_it() {
        let mut landing = Landing::default();
        let mut land = |len: usize| {
            let block = landing.make_room(len);
            block.resize(len, 7);
            block.split().freeze()
        };
        let addresses: Vec<_> = (0..10).map(|_| land(SMALLEST).as_ptr()).collect();
        assert!(
            addresses[1..]
                .iter()
                .all(|address| *address == addresses[0])
        );

        // Somebody who always holds the last few.
        let mut held: std::collections::VecDeque<_> = (0..20).map(|_| land(1000)).collect();
        let mut blocks = std::collections::HashSet::new();
        for _ in 0..10_000 {
            held.pop_front();
            let slice = land(1000);
            blocks.insert(slice.as_ptr());
            held.push_back(slice);
        }
        assert!(blocks.len() <= 2 * GROW_TO / 1000, "{}", blocks.len());
    }

    #[test]
    fn a_long_announcement_takes_little() {
        let mut landing = Landing::default();
        assert_eq!(landing.make_room(1 << 30).capacity(), MOST);
    }
}
