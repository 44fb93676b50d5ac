//! [`BufferPool`]: blocks that are sliced, handed out, and used again once every slice is gone.

use std::collections::VecDeque;

use bytes::BytesMut;

/// The smallest block: one read of a busy socket, or some hundred small frames.
const SMALLEST: usize = 64 << 10;
/// Doubling size classes from [`SMALLEST`] up to 64 MiB; larger blocks are never kept.
const CLASSES: usize = 11;
/// How many blocks a request looks at before it allocates: the oldest are the likeliest to be free.
const LOOK_AT: usize = 4;
/// The most memory kept in each class while nobody uses it.
const KEEP_BYTES: usize = 16 << 20;

/// Hands out blocks and takes their handles back; a block is reused when its last slice is gone.
///
/// Whoever takes a block splits frozen slices off its front and gives the rest back. In a steady
/// state this allocates nothing, wherever the slices are dropped: the reference count in each
/// slice is the return path.
#[derive(Debug, Default)]
pub struct BufferPool {
    given_back: [VecDeque<BytesMut>; CLASSES],
}

impl BufferPool {
    /// An empty block with room for at least `len` bytes.
    pub fn take(&mut self, len: usize) -> BytesMut {
        let size = len.next_power_of_two().max(SMALLEST);
        if let Some(blocks) = class(size).and_then(|class| self.given_back.get_mut(class)) {
            for _ in 0..blocks.len().min(LOOK_AT) {
                let Some(mut block) = blocks.pop_front() else {
                    break;
                };
                block.clear();
                if block.try_reclaim(size) {
                    return block;
                }
                blocks.push_back(block);
            }
        }
        BytesMut::with_capacity(size)
    }

    /// A block with room for exactly `len` bytes, which finds its way back by itself.
    pub fn take_exact(&mut self, len: usize) -> BytesMut {
        let mut block = self.take(len);
        let rest = block.split_off(len);
        self.give(rest, len);
        block
    }

    /// Takes back what is left of a block after its slices were split off. `len` is what it was
    /// [taken](Self::take) for. Dropping a block instead is safe, and costs the next allocation.
    pub fn give(&mut self, rest: BytesMut, len: usize) {
        let size = len.next_power_of_two().max(SMALLEST);
        if let Some(blocks) = class(size).and_then(|class| self.given_back.get_mut(class))
            && blocks.len() < (KEEP_BYTES / size).max(2)
        {
            blocks.push_back(rest);
        }
    }
}

fn class(size: usize) -> Option<usize> {
    let class = (size / SMALLEST).ilog2() as usize;
    (class < CLASSES).then_some(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_reused_only_when_its_last_slice_is_gone() {
        let mut pool = BufferPool::default();
        let mut block = pool.take(1000);
        let address = block.as_ptr();
        block.extend_from_slice(b"held");
        let slice = block.split().freeze();
        pool.give(block, 1000);

        let other = pool.take(1000);
        assert_ne!(other.as_ptr(), address, "a slice is still alive");
        pool.give(other, 1000);
        drop(slice);
        let (first, second) = (pool.take(1000), pool.take(1000));
        assert!(first.as_ptr() == address || second.as_ptr() == address);
        assert!(first.is_empty() && first.capacity() >= SMALLEST);
    }

    #[test]
    fn an_exact_block_comes_back_by_itself() {
        let mut pool = BufferPool::default();
        for len in [SMALLEST, SMALLEST + 1, 2 * SMALLEST - 1] {
            let mut block = pool.take_exact(len);
            let address = block.as_ptr();
            assert_eq!(block.capacity(), len);
            block.resize(len, 7);
            drop(block.freeze());
            assert_eq!(pool.take(len).as_ptr(), address, "{len} bytes");
        }
    }

    #[test]
    fn a_block_beyond_the_largest_class_is_not_kept() {
        let mut pool = BufferPool::default();
        let len = (SMALLEST << CLASSES) + 1;
        let block = pool.take(len);
        assert!(block.capacity() >= len);
        pool.give(block, len);
        assert!(pool.given_back.iter().all(VecDeque::is_empty));
    }
}
