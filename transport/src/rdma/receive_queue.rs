//! The blocks that are received into: [`ReceiveQueue`] is what all connections of a device take
//! from; with [`OwnReceives`] each queue pair is supplied.

#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use msgr_rdma_sys as sys;

use super::arena::{Arena, Block};
use super::counts::Counts;
use super::device::{Domain, check};
use super::queue_pair::QueuePair;

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
    pub(super) next: ReceiveBatch,
}

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
            next: ReceiveBatch::default(),
        })
    }

    pub(super) fn raw(&self) -> &Arc<RawQueue> {
        &self.raw
    }

    /// Gives a block to the device, at the next [`flush`](Self::flush) at the latest.
    pub(super) fn post(&mut self, block: Block) -> io::Result<()> {
        let number = self.next.add(&self.arena, block);
        self.posted[number as usize] = true;
        if self.next.requests.len() < BATCH {
            return Ok(());
        }
        self.flush()
    }

    /// Makes what was posted visible to the device.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(chain) = self.next.link() else {
            return Ok(());
        };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue exists; the chain was just made; its memory belongs to blocks that are
        // the device's until they come back, of an arena that we keep.
        let result = check(unsafe { sys::post_srq_recv(self.raw.srq(), chain, &mut bad) });
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

/// Receives to be posted together. It is reused: posting allocates nothing.
#[derive(Debug, Default)]
pub(super) struct ReceiveBatch {
    requests: Vec<(sys::ibv_recv_wr, sys::ibv_sge)>,
    pub(super) counts: Counts,
}

// SAFETY: the pointers in it are null, or set for the length of a call.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Adds a receive into a block, whose number it returns.
    fn add(&mut self, arena: &Arena, block: Block) -> u32 {
        let element = arena.element(&block, arena.block_size());
        let number = block.give_away();
        let request = sys::ibv_recv_wr {
            wr_id: u64::from(number),
            num_sge: 1,
            ..sys::ibv_recv_wr::default()
        };
        self.requests.push((request, element));
        number
    }

    /// Empties it, once it was posted.
    fn clear(&mut self) {
        self.counts.receives += self.requests.len() as u64;
        self.counts.doorbells += 1;
        self.requests.clear();
    }

    fn link(&mut self) -> Option<*mut sys::ibv_recv_wr> {
        let mut chain = ptr::null_mut();
        for (request, element) in self.requests.iter_mut().rev() {
            request.sg_list = element;
            request.next = chain;
            chain = request;
        }
        (!chain.is_null()).then_some(chain)
    }
}

/// The blocks of queue pairs without a shared queue.
#[derive(Debug)]
pub(super) struct OwnReceives {
    arena: Arc<Arena>,
    /// What no queue pair has.
    stock: Vec<Block>,
    /// By block: the number of the queue pair that has it; 0 is none.
    holders: Vec<u32>,
    pub(super) batch: ReceiveBatch,
}

impl OwnReceives {
    /// Nothing in stock yet; at most all blocks of `arena`.
    pub(super) fn new(arena: &Arc<Arena>) -> Self {
        Self {
            arena: Arc::clone(arena),
            stock: Vec::new(),
            holders: vec![0; arena.blocks()],
            batch: ReceiveBatch::default(),
        }
    }

    /// Takes a block into stock.
    pub(super) fn put(&mut self, block: Block) {
        self.stock.push(block);
    }

    /// Posts so many blocks to a queue pair, or as many as there are.
    pub(super) fn supply(&mut self, queue_pair: &QueuePair, count: usize) -> io::Result<()> {
        let rest = self.stock.len().saturating_sub(count);
        for block in self.stock.drain(rest..) {
            let number = self.batch.add(&self.arena, block);
            self.holders[number as usize] = queue_pair.number();
        }
        let Some(chain) = self.batch.link() else {
            return Ok(());
        };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair exists; the chain was just made; its memory belongs to blocks that
        // are the device's until they come back, of an arena that we and the queue pair keep.
        let result = check(unsafe { sys::post_recv(queue_pair.raw(), chain, &mut bad) });
        self.batch.clear();
        result
    }

    /// The block that a completion of this queue pair has brought back.
    pub(super) fn take(&mut self, request: u64, queue_pair: u32) -> Option<Block> {
        let number = u32::try_from(request).ok()?;
        let holder = self.holders.get_mut(number as usize)?;
        (*holder == queue_pair).then(|| {
            *holder = 0;
            Block::returned(number)
        })
    }

    /// Takes back what a queue pair still had that is gone.
    pub(super) fn reclaim(&mut self, queue_pair: u32) {
        for (number, holder) in self.holders.iter_mut().enumerate() {
            if *holder == queue_pair {
                *holder = 0;
                self.stock.push(Block::returned(number as u32));
            }
        }
    }
}
