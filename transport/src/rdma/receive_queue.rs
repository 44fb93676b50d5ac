//! [`ReceiveQueue`]: the blocks that all connections of a device receive into.

#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use msgr_rdma_sys as sys;

use super::arena::{Arena, Block};
use super::counts::Counts;
use super::device::{Domain, check};

/// So many receives are posted with one call.
const BATCH: usize = 64;

/// The queue itself, which exists as long as a queue pair takes from it.
#[derive(Debug)]
pub(super) struct RawQueue {
    domain: Arc<Domain>,
    srq: NonNull<sys::ibv_srq>,
}

// SAFETY: as for the device.
unsafe impl Send for RawQueue {}
// SAFETY: as above.
unsafe impl Sync for RawQueue {}

impl Drop for RawQueue {
    fn drop(&mut self) {
        // SAFETY: the queue pairs that took from it kept us, and are gone.
        unsafe { (self.domain.device().verbs.ibv_destroy_srq)(self.srq.as_ptr()) };
    }
}

impl RawQueue {
    pub(super) fn srq(&self) -> *mut sys::ibv_srq {
        self.srq.as_ptr()
    }
}

/// A shared receive queue and the blocks in it.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    raw: Arc<RawQueue>,
    arena: Arc<Arena>,
    /// By block: whether the device has it.
    posted: Vec<bool>,
    /// What the next doorbell posts.
    next: Vec<(sys::ibv_recv_wr, sys::ibv_sge)>,
    pub(super) counts: Counts,
}

// SAFETY: the pointers in `next` are null, or set for the length of a call.
unsafe impl Send for ReceiveQueue {}

impl ReceiveQueue {
    /// A queue with room for `most` blocks of `arena`.
    pub(super) fn new(domain: &Arc<Domain>, arena: &Arc<Arena>, most: u32) -> io::Result<Self> {
        let mut attributes = sys::ibv_srq_init_attr::default();
        attributes.attr.max_wr = most;
        attributes.attr.max_sge = 1;
        // SAFETY: the domain exists.
        let srq =
            unsafe { (domain.device().verbs.ibv_create_srq)(domain.pd(), &raw mut attributes) };
        let srq = NonNull::new(srq).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            raw: Arc::new(RawQueue {
                domain: Arc::clone(domain),
                srq,
            }),
            arena: Arc::clone(arena),
            posted: vec![false; arena.blocks()],
            next: Vec::with_capacity(BATCH),
            counts: Counts::default(),
        })
    }

    pub(super) fn raw(&self) -> &Arc<RawQueue> {
        &self.raw
    }

    /// Gives a block to the device, at the next [`flush`](Self::flush) at the latest.
    pub(super) fn post(&mut self, block: Block) -> io::Result<()> {
        let element = self.arena.element(&block, self.arena.block_size());
        let number = block.give_away();
        self.posted[number as usize] = true;
        let request = sys::ibv_recv_wr {
            wr_id: u64::from(number),
            num_sge: 1,
            ..sys::ibv_recv_wr::default()
        };
        self.next.push((request, element));
        if self.next.len() < BATCH {
            return Ok(());
        }
        self.flush()
    }

    /// Makes what was posted visible to the device.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.next.is_empty() {
            return Ok(());
        }
        let mut chain = ptr::null_mut();
        for (request, element) in self.next.iter_mut().rev() {
            request.sg_list = element;
            request.next = chain;
            chain = request;
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queue exists; the chain was just made; its memory belongs to blocks that are
        // the device's until they come back, of an arena that we keep.
        let result = check(unsafe { sys::post_srq_recv(self.raw.srq(), chain, &mut bad) });
        self.counts.receives += self.next.len() as u64;
        self.counts.doorbells += 1;
        self.next.clear();
        result
    }

    /// The block that a completion has brought back.
    pub(super) fn take(&mut self, request: u64) -> Option<Block> {
        let number = u32::try_from(request).ok()?;
        let posted = self.posted.get_mut(number as usize)?;
        std::mem::take(posted).then(|| Block::returned(number))
    }
}
