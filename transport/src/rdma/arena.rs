//! [`Arena`]: one run of memory registered with a device, cut into blocks of one size.
//!
//! A [`Block`] has one owner: whoever fills or reads it, the device, or a [`Lease`] inside the
//! `Bytes` that an application holds. Blocks come back from any thread, without a lock. Nothing
//! here knows what is in a block.

#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use msgr_rdma_sys as sys;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::device::{Domain, check};

/// Memory that a device may read and write, and nobody from outside.
#[derive(Debug)]
struct Region {
    domain: Arc<Domain>,
    memory: NonNull<u8>,
    len: usize,
    mr: NonNull<sys::ibv_mr>,
}

// SAFETY: plain memory, and a registration that any thread may end.
unsafe impl Send for Region {}
// SAFETY: as above. Who may touch which part of the memory is a matter of blocks.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the registration is ours. Requests that are still posted will fail.
        unsafe { (self.domain.device().verbs.ibv_dereg_mr)(self.mr.as_ptr()) };
        // SAFETY: the mapping is ours, and no reference into it is left: each kept the arena.
        // It cannot fail for a whole mapping.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.len) };
    }
}

impl Region {
    fn new(domain: &Arc<Domain>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping touches nothing that exists.
        let memory = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let verbs = domain.device().verbs;
        let access = sys::IBV_ACCESS_LOCAL_WRITE.cast_signed();
        // SAFETY: the domain exists, and so much memory was just mapped.
        let mr = unsafe { (verbs.ibv_reg_mr)(domain.pd(), memory, len, access) };
        let Some(mr) = NonNull::new(mr) else {
            let error = io::Error::last_os_error();
            // SAFETY: nobody has seen it.
            check(unsafe { munmap(memory, len) }.map_or(-1, |()| 0))?;
            return Err(error);
        };
        let memory = NonNull::new(memory.cast()).expect("a mapping is not at 0");
        Ok(Self {
            domain: Arc::clone(domain),
            memory,
            len,
            mr,
        })
    }
}

/// A block of an [`Arena`], by its number. Whoever has it may use its memory.
#[derive(Debug)]
pub(super) struct Block(u32);

impl Block {
    /// The block with this number.
    ///
    /// Only for who gave it away by number, to the device, and got that number back.
    pub(super) fn returned(number: u32) -> Self {
        Self(number)
    }

    /// Its number, by which it comes back.
    pub(super) fn give_away(self) -> u32 {
        self.0
    }
}

/// Registered memory in blocks.
#[derive(Debug)]
pub(super) struct Arena {
    region: Region,
    block_size: usize,
    blocks: usize,
    free: ArrayQueue<u32>,
}

impl Arena {
    /// `blocks` blocks of `block_size` bytes, all of them free.
    pub(super) fn new(domain: &Arc<Domain>, blocks: usize, block_size: usize) -> io::Result<Self> {
        let len = blocks.checked_mul(block_size);
        let len = len.ok_or(io::ErrorKind::InvalidInput)?;
        let free = ArrayQueue::new(blocks);
        for block in 0..blocks as u32 {
            free.push(block).expect("as many places as blocks");
        }
        Ok(Self {
            region: Region::new(domain, len)?,
            block_size,
            blocks,
            free,
        })
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn block_size(&self) -> usize {
        self.block_size
    }

    /// A free block, if there is one.
    pub(super) fn take(&self) -> Option<Block> {
        self.free.pop().map(Block)
    }

    /// How many blocks are free now.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Gives a block back.
    pub(super) fn give(&self, block: Block) {
        let full = self.free.push(block.give_away()).is_err();
        debug_assert!(!full, "more blocks than there are");
    }

    fn address(&self, block: &Block) -> *mut u8 {
        let at = block.0 as usize * self.block_size;
        assert!(at < self.region.len, "a block of this arena");
        // SAFETY: inside the mapping, as was just seen.
        unsafe { self.region.memory.as_ptr().add(at) }
    }

    /// The first `len` bytes of a block, or all of it.
    pub(super) fn bytes(&self, block: &Block, len: usize) -> &[u8] {
        let len = len.min(self.block_size);
        // SAFETY: inside the block, whose owner lends it; a mapping is initialised with zeros.
        unsafe { slice::from_raw_parts(self.address(block), len) }
    }

    /// A block to be written to.
    #[allow(clippy::mut_from_ref)] // The exclusive loan is that of the block.
    pub(super) fn bytes_mut(&self, block: &mut Block) -> &mut [u8] {
        // SAFETY: as above, and whoever has the block exclusively has its memory so.
        unsafe { slice::from_raw_parts_mut(self.address(block), self.block_size) }
    }

    /// The first `len` bytes of a block, as the device is told about them.
    pub(super) fn element(&self, block: &Block, len: usize) -> sys::ibv_sge {
        sys::ibv_sge {
            addr: self.address(block) as u64,
            length: len.min(self.block_size) as u32,
            lkey: self.lkey(),
        }
    }

    /// What the device is told about bytes that lie in this memory, or None if they do not.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<sys::ibv_sge> {
        let start = self.region.memory.as_ptr() as usize;
        let at = bytes.as_ptr() as usize;
        let within = at >= start && at + bytes.len() <= start + self.region.len;
        within.then(|| sys::ibv_sge {
            addr: at as u64,
            length: bytes.len() as u32,
            lkey: self.lkey(),
        })
    }

    fn lkey(&self) -> u32 {
        // SAFETY: the registration is valid as long as we are.
        unsafe { (*self.region.mr.as_ptr()).lkey }
    }

    /// Hands a block's first `len` bytes out. It is free again when the last slice of them is
    /// dropped, wherever that is.
    pub(super) fn lease(self: &Arc<Self>, block: Block, len: usize) -> Bytes {
        Bytes::from_owner(Lease {
            arena: Arc::clone(self),
            block,
            len,
        })
    }
}

/// What the slices of a received block have in common.
struct Lease {
    arena: Arc<Arena>,
    block: Block,
    len: usize,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.arena.bytes(&self.block, self.len)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.arena.give(Block(self.block.0));
    }
}
