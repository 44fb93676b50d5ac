//! [`Adapter`]: what all connections over one device share: queues, registered memory, credits.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use msgr_rdma_sys as sys;

use super::arena::{Arena, Block};
use super::cm::CmId;
use super::completion::{Completion, CompletionQueue};
use super::counts::Counts;
use super::credits::Grants;
use super::device::{Device, Domain, Libraries};
use super::loan::Loan;
use super::queue_pair::{self, QueuePair, SendBatch};
use super::receive_queue::{OwnReceives, ReceiveQueue};
use super::wire::OFFERS;
use super::{RdmaConfig, Setup};
use crate::{BufferPool, ConnId, Cost};

/// Completions taken with one call.
const BATCH: usize = 64;
/// Work requests of a queue pair beside those with data: credits, the end, probes.
pub(super) const CONTROL: usize = 8;
/// Received messages up to so many bytes are copied: that costs less than keeping a whole block.
const COPY_UP: usize = 1 << 10;
/// What received bytes are copied into, until it is used up.
const COPY_BLOCK: usize = 256 << 10;
/// Blocks to read into that the application never gets: what lands there when it has all others is
/// copied out of them, so that somebody who holds on to bytes stops nobody.
const KEEP: usize = 2;

/// Where connections receive.
enum Receives {
    /// All in one queue.
    Shared(ReceiveQueue),
    /// Each for itself.
    Own(OwnReceives),
}

/// A device in use.
pub(super) struct Adapter {
    pub(super) device: Arc<Device>,
    domain: Arc<Domain>,
    pub(super) completions: CompletionQueue,
    receives: Receives,
    receive_arena: Arc<Arena>,
    pub(super) send_arena: Arc<Arena>,
    /// What peers offer is read into there.
    landing: Arc<Arena>,
    /// Blocks of it that are being read into.
    reading: usize,
    /// How many reads a queue pair may have under way; 0 is none at all.
    pub(super) reads: u8,
    pub(super) grants: Grants,
    /// How many more sends there is room for in the completion queue.
    pub(super) slots: usize,
    all_slots: usize,
    depth: usize,
    /// Whose a queue pair is, by its number.
    pub(super) owners: HashMap<u32, ConnId, BuildHasherDefault<NumberHasher>>,
    /// What is posted next, reused.
    pub(super) batch: SendBatch,
    /// Completions taken, reused, and how many of them are still to be looked at.
    pub(super) taken: Box<[Completion]>,
    pub(super) ahead: usize,
    /// Blocks of messages that go out inline, reused.
    pub(super) inline: Vec<Block>,
    copies: BytesMut,
    /// Whether its descriptors are watched.
    pub(super) is_watched: bool,
    /// Why nothing works here any more.
    pub(super) failed: Option<&'static str>,
}

impl Adapter {
    /// Opens the device that `id` is bound to, and posts all receives.
    pub(super) fn open(libraries: Libraries, id: &CmId, config: &RdmaConfig) -> io::Result<Self> {
        let device = Arc::new(id.open_device(libraries)?);
        let limits = device.limits();
        let receives = config.receive_blocks.min(limits.shared_receives as usize);
        let depth = config.depth.min(limits.work_requests as usize - CONTROL);
        // A send without data takes a completion, too, but no block.
        let slots = 2 * config.send_blocks + CONTROL;
        let entries = (receives + slots).min(limits.completions as usize);
        let slots = entries.saturating_sub(receives);
        if slots < CONTROL {
            let message = format!(
                "{} has completion queues of {entries} entries, too few for {receives} receives",
                device.name()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let domain = Arc::new(Domain::new(Arc::clone(&device))?);
        let completions = CompletionQueue::new(&device, entries as u32)?;
        let arena = |blocks, size| match Arena::new(&domain, blocks, size) {
            Ok(arena) => Ok(Arc::new(arena)),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "{} bytes cannot be registered with {}: {error} (see ulimit -l)",
                    blocks * size,
                    device.name()
                ),
            )),
        };
        let receive_arena = arena(receives + config.spare_blocks, config.block_size)?;
        let send_arena = arena(config.send_blocks, config.block_size)?;
        let landing = arena(config.landing_blocks, config.landing_size)?;
        let mut blocks = (0..receives).map_while(|_| receive_arena.take());
        let shared = match config.setup {
            Setup::ConnectionManager => {
                let mut queue = ReceiveQueue::new(&domain, &receive_arena, receives as u32)?;
                blocks.try_for_each(|block| queue.post(block))?;
                queue.flush()?;
                Receives::Shared(queue)
            }
            Setup::Ceph => {
                let mut own = OwnReceives::new(&receive_arena);
                blocks.for_each(|block| own.put(block));
                Receives::Own(own)
            }
        };
        Ok(Self {
            completions,
            receives: shared,
            receive_arena,
            send_arena,
            landing,
            reading: 0,
            reads: limits.reads.min(OFFERS as u32) as u8,
            grants: Grants::new(receives as u32, config.share as u32),
            slots,
            all_slots: slots,
            depth,
            owners: HashMap::default(),
            batch: SendBatch::default(),
            taken: vec![Completion::default(); BATCH].into(),
            ahead: 0,
            inline: Vec::new(),
            copies: BytesMut::new(),
            is_watched: false,
            failed: None,
            domain,
            device,
        })
    }

    /// What was asked of the device.
    pub(super) fn counts(&self) -> Counts {
        let receives = match &self.receives {
            Receives::Shared(queue) => &queue.next,
            Receives::Own(own) => &own.batch,
        };
        self.batch.counts + receives.counts + self.completions.counts
    }

    /// A queue pair for a new connection.
    pub(super) fn queue_pair(&self) -> io::Result<QueuePair> {
        QueuePair::new(
            &self.domain,
            self.completions.raw(),
            match &self.receives {
                Receives::Shared(queue) => queue_pair::Receives::Shared(Arc::clone(queue.raw())),
                Receives::Own(_) => queue_pair::Receives::Own(self.grants.most()),
            },
            [&self.send_arena, &self.receive_arena, &self.landing],
            (self.depth + CONTROL) as u32,
        )
    }

    /// How many sends with data a connection may have under way.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether so few sends are left that each should say when it is over.
    pub(super) fn is_short(&self) -> bool {
        self.slots < self.all_slots / 4
    }

    /// The block that a completion has brought back.
    pub(super) fn take_receive(&mut self, completion: &Completion) -> Option<Block> {
        let request = completion.request();
        match &mut self.receives {
            Receives::Shared(queue) => queue.take(request),
            Receives::Own(own) => own.take(request, completion.queue_pair()),
        }
    }

    /// The first `len` bytes of such a block.
    pub(super) fn received(&self, block: &Block, len: usize) -> &[u8] {
        self.receive_arena.bytes(block, len)
    }

    /// Posts a block whose bytes nobody needs, or again; where each connection has its own, when
    /// one is next [supplied](Self::supply).
    pub(super) fn post_receive(&mut self, block: Block) {
        let posted = match &mut self.receives {
            Receives::Shared(queue) => queue.post(block),
            Receives::Own(own) => {
                own.put(block);
                Ok(())
            }
        };
        if let Err(error) = posted {
            self.fail(&error);
        }
    }

    /// Makes what was posted visible to the device.
    pub(super) fn flush_receives(&mut self) {
        if let Receives::Shared(queue) = &mut self.receives
            && let Err(error) = queue.flush()
        {
            self.fail(&error);
        }
    }

    /// Posts so many receives to a queue pair that has its own.
    pub(super) fn supply(&mut self, queue_pair: &QueuePair, count: u16) -> io::Result<()> {
        match &mut self.receives {
            Receives::Shared(_) => Ok(()),
            Receives::Own(own) => own.supply(queue_pair, count.into()),
        }
    }

    /// Takes back what a queue pair of this number had that is gone.
    pub(super) fn forget(&mut self, queue_pair: u32) {
        self.owners.remove(&queue_pair);
        if let Receives::Own(own) = &mut self.receives {
            own.reclaim(queue_pair);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!(device = self.device.name(), %error, "receives cannot be posted");
        self.failed.get_or_insert("receives cannot be posted");
    }

    /// Hands up the first `len` bytes of a received block, and posts another one, or the same:
    /// what is short, or all if the application holds every spare block, is copied out of it.
    pub(super) fn hand_up(
        &mut self,
        block: Block,
        len: usize,
        pool: &mut BufferPool,
        cost: &mut Cost,
    ) -> Bytes {
        if len > COPY_UP
            && let Some(spare) = self.receive_arena.take()
        {
            self.post_receive(spare);
            return self.receive_arena.lease(block, len);
        }
        if self.copies.capacity() - self.copies.len() < len
            && !self.copies.try_reclaim(COPY_BLOCK.max(len))
        {
            let size = COPY_BLOCK.max(len);
            let used_up = std::mem::replace(&mut self.copies, pool.take(size));
            if used_up.capacity() > 0 {
                pool.give(used_up, COPY_BLOCK);
            }
        }
        let bytes = self.receive_arena.bytes(&block, len);
        cost.bytes_copied += bytes.len() as u64;
        self.copies.extend_from_slice(bytes);
        self.post_receive(block);
        self.copies.split().freeze()
    }

    /// A block to read into, if there is one.
    pub(super) fn open_landing(&mut self) -> Option<Block> {
        let block = self.landing.take();
        self.reading += usize::from(block.is_some());
        block
    }

    /// The first `len` bytes of such a block, as the device is told about them.
    pub(super) fn landing(&self, block: &Block, len: usize) -> sys::ibv_sge {
        self.landing.element(block, len)
    }

    /// The most bytes of one read.
    pub(super) fn landing_size(&self) -> usize {
        self.landing.block_size()
    }

    /// What was read into a block, which is copied out of it if the application has too many.
    pub(super) fn land(
        &mut self,
        block: Block,
        len: usize,
        pool: &mut BufferPool,
        cost: &mut Cost,
    ) -> Bytes {
        let held = self.landing.blocks() - self.landing.free() - self.reading;
        if held + KEEP < self.landing.blocks() {
            self.reading -= 1;
            return self.landing.lease(block, len);
        }
        let mut bytes = pool.take_exact(len);
        bytes.extend_from_slice(self.landing.bytes(&block, len));
        cost.bytes_copied += len as u64;
        self.close_landing(block);
        bytes.freeze()
    }

    /// Gives such a block back.
    pub(super) fn close_landing(&mut self, block: Block) {
        self.reading -= 1;
        self.landing.give(block);
    }

    /// Lends bytes to a peer.
    pub(super) fn lend(&self, bytes: Bytes) -> io::Result<Loan> {
        Loan::new(&self.domain, bytes)
    }

    /// What the device is told about bytes that came from here, and so lie in registered memory.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<sys::ibv_sge> {
        let arenas = [&self.landing, &self.receive_arena];
        arenas.into_iter().find_map(|arena| arena.find(bytes))
    }

    /// Takes more completions, unless some are waiting to be looked at. Whether there are any.
    pub(super) fn look(&mut self) -> bool {
        if self.ahead == 0 {
            match self.completions.poll(&mut self.taken) {
                Ok(count) => self.ahead = count,
                Err(error) => {
                    tracing::error!(device = self.device.name(), %error, "completions are lost");
                    self.failed.get_or_insert("completions are lost");
                }
            }
        }
        self.ahead > 0
    }
}

/// Hashes numbers that devices have chosen.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing: consecutive numbers end up far apart (Knuth, volume 3, section 6.4).
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
