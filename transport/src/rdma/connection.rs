//! [`Connection`]: one queue pair, what is to be sent on it and what has come, and how far its end
//! is. Nothing here sets a connection up; nothing here calls the device but by way of a queue pair.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Buf;

use super::adapter::{Adapter, CONTROL};
use super::arena::Block;
use super::cm::CmId;
use super::credits::{Grant, RESERVE};
use super::queue_pair::QueuePair;
use super::wire::Immediate;
use crate::{CloseReason, Cost, ListenerId, TxQueue};

/// Marks the completion of a send; that of a receive has the number of a block.
pub(super) const SEND: u64 = 1 << 63;
/// Of sends that nobody waits for, every such one says when it is over.
const SIGNAL_EVERY: usize = 16;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Looking for the device, and the way to the peer.
    Resolving,
    /// The peer is asked.
    Requesting,
    /// The peer prefers its own attempt, which is under way, to ours.
    Crossed,
    /// We have accepted; the peer may not know yet.
    Accepting(ListenerId),
    Open,
    /// The caller has left; what it queued is still going out.
    Draining,
    /// The caller has left, or was told the end. What the device still has of it comes back.
    Ending,
}

/// A message that was posted, or will be at the next flush.
#[derive(Debug)]
struct Message {
    block: Option<Block>,
    len: usize,
}

/// The queue pair of a connection and what is under way on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) queue_pair: QueuePair,
    /// Which [`Adapter`].
    pub(super) adapter: usize,
    /// Whether it has been ready to send, so that what is posted completes.
    pub(super) is_ready: bool,
    pub(super) grant: Grant,
    /// How many sends we may make.
    credits: u32,
    /// The most bytes of a send.
    chunk: usize,
    /// Filled by `send`, posted by `flush`; the last may have room. Each has its credit and slot.
    staged: VecDeque<Message>,
    /// Posted, in order.
    posted: VecDeque<Option<Block>>,
    /// How many messages have completed, ever.
    pub(super) completed: u64,
    /// How many of the last posted do not say when they are over.
    unsignalled: usize,
    /// Whether blocks are among them.
    unsignalled_block: bool,
}

/// One connection.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent conditions, each read where it matters.
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) local: Option<SocketAddr>,
    /// The port it originates from, if its id is bound to another.
    pub(super) port: u16,
    pub(super) remote: SocketAddr,
    /// Dropped behind the queue pair.
    pub(super) link: Option<Link>,
    pub(super) id: Option<CmId>,
    /// Why it has ended, once that is known.
    pub(super) failed: Option<CloseReason>,
    /// The peer, or the manager, has ended it. What was received before still counts.
    pub(super) disconnected: bool,
    /// Received while the caller wanted nothing.
    pub(super) held: VecDeque<(Block, usize)>,
    /// The peer's last byte is received.
    pub(super) ended: bool,
    /// Our end is announced to the peer.
    said_last: bool,
    pub(super) receiving: bool,
    /// Credits were owed at the last look already: nothing has taken them along since.
    pub(super) owes_credits: bool,
    pub(super) owes_room: bool,
    /// Whether it is among those that wait for what all share.
    pub(super) starved: bool,
    pub(super) touched: bool,
    pub(super) listed: bool,
    /// Anything received since the last look of the keepalive.
    pub(super) heard: bool,
    /// Looks of the keepalive without any progress.
    pub(super) silent: u32,
    /// What had completed at its last look.
    pub(super) seen: u64,
}

impl Connection {
    pub(super) fn new(phase: Phase, remote: SocketAddr) -> Self {
        Self {
            phase,
            local: None,
            port: 0,
            remote,
            link: None,
            id: None,
            failed: None,
            disconnected: false,
            held: VecDeque::new(),
            ended: false,
            said_last: false,
            receiving: true,
            owes_credits: false,
            owes_room: false,
            starved: false,
            touched: false,
            listed: false,
            heard: false,
            silent: 0,
            seen: 0,
        }
    }

    /// Whether the caller still has it.
    pub(super) fn is_owned(&self) -> bool {
        !matches!(self.phase, Phase::Draining | Phase::Ending)
    }

    /// Whether we connect, and are not connected yet.
    pub(super) fn is_attempt(&self) -> bool {
        matches!(
            self.phase,
            Phase::Resolving | Phase::Requesting | Phase::Crossed
        )
    }

    /// Notes why it has ended. The first reason counts.
    pub(super) fn fail(&mut self, reason: CloseReason) {
        self.failed.get_or_insert(reason);
    }

    /// Whether everything is out, the end included, and acknowledged by the peer's device.
    pub(super) fn is_drained(&self) -> bool {
        self.said_last
            && self
                .link
                .as_ref()
                .is_none_or(|link| link.posted.is_empty() && link.staged.is_empty())
    }

    /// Announces the end behind the last byte, if that is possible now.
    pub(super) fn say_last(&mut self, adapter: &mut Adapter, cost: &mut Cost) {
        if let Some(link) = &mut self.link
            && !self.said_last
        {
            let posted = link.post(adapter, cost);
            match posted.and_then(|()| link.control(true, adapter, cost)) {
                Ok(said) => self.said_last = said,
                Err(reason) => self.fail(reason),
            }
        }
    }
}

impl Link {
    pub(super) fn new(queue_pair: QueuePair, adapter: usize, grant: Grant) -> Self {
        Self {
            queue_pair,
            adapter,
            is_ready: false,
            grant,
            credits: 0,
            chunk: 0,
            staged: VecDeque::new(),
            posted: VecDeque::new(),
            completed: 0,
            unsignalled: 0,
            unsignalled_block: false,
        }
    }

    /// Takes note of what the peer has offered.
    pub(super) fn begin(&mut self, credits: u16, block_size: u32, adapter: &Adapter) {
        self.credits = credits.into();
        self.chunk = adapter.send_arena.block_size().min(block_size as usize);
        self.staged.reserve(adapter.depth());
        self.posted.reserve(adapter.depth() + CONTROL);
        self.is_ready = true;
    }

    /// The peer has given back so many credits.
    pub(super) fn add_credits(&mut self, credits: u16) {
        self.credits = self.credits.saturating_add(credits.into());
    }

    /// Whether another message may be staged, as far as this connection is concerned.
    pub(super) fn has_room(&self, adapter: &Adapter) -> bool {
        self.credits > RESERVE && self.posted.len() + self.staged.len() < adapter.depth()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.posted.is_empty()
    }

    /// Whether what is under way will say when it is over.
    pub(super) fn is_signalled(&self) -> bool {
        self.unsignalled == 0
    }

    /// Copies segments into blocks, as many as there is room for; returns how many bytes.
    pub(super) fn stage(&mut self, queue: &mut TxQueue, adapter: &mut Adapter) -> usize {
        let mut bytes = 0;
        while let Some(segment) = queue.front_mut() {
            if segment.is_empty() {
                queue.pop_front();
                continue;
            }
            let is_full = |message: &Message| message.len == self.chunk;
            if self.staged.back().is_none_or(is_full) {
                let Some(message) = self.open_message(adapter) else {
                    break;
                };
                self.staged.push_back(message);
            }
            let Some(Message {
                block: Some(block),
                len,
            }) = self.staged.back_mut()
            else {
                break;
            };
            let some = segment.len().min(self.chunk - *len);
            adapter.send_arena.bytes_mut(block)[*len..*len + some]
                .copy_from_slice(&segment[..some]);
            *len += some;
            bytes += some;
            segment.advance(some);
        }
        bytes
    }

    /// Whether the next send is to say when it is over: the last one behind blocks, which are
    /// wanted back, one of many, and any if that is wanted.
    fn signal(&mut self, has_block: bool, is_last: bool, wanted: bool) -> bool {
        self.unsignalled += 1;
        self.unsignalled_block |= has_block;
        let signalled =
            wanted || (is_last && self.unsignalled_block) || self.unsignalled >= SIGNAL_EVERY;
        if signalled {
            self.unsignalled = 0;
            self.unsignalled_block = false;
        }
        signalled
    }

    fn open_message(&mut self, adapter: &mut Adapter) -> Option<Message> {
        if !self.has_room(adapter) || adapter.slots == 0 {
            return None;
        }
        let block = adapter.send_arena.take()?;
        adapter.slots -= 1;
        self.credits -= 1;
        Some(Message {
            block: Some(block),
            len: 0,
        })
    }

    /// Posts what is staged, with one doorbell.
    pub(super) fn post(
        &mut self,
        adapter: &mut Adapter,
        cost: &mut Cost,
    ) -> Result<(), CloseReason> {
        let count = self.staged.len();
        if count == 0 {
            return Ok(());
        }
        let inline = self.queue_pair.inline();
        let mut credits = self.grant.give_back(&mut adapter.grants);
        let short = adapter.is_short();
        let mut staged = std::mem::take(&mut self.staged);
        for (index, message) in staged.drain(..).enumerate() {
            let is_inline = message.len <= inline;
            let is_last = index + 1 == count;
            let signalled = self.signal(!is_inline, is_last, short);
            let immediate = Immediate {
                credits: std::mem::take(&mut credits),
                last: false,
            };
            let request = SEND | (self.completed + self.posted.len() as u64 + 1);
            adapter.batch.send(
                request,
                (&adapter.send_arena, message.block.as_ref(), message.len),
                immediate.encode(),
                (is_inline, signalled),
            );
            // An inline message's block is free once it is posted.
            self.posted.push_back(message.block);
            if is_inline && let Some(block) = self.posted.back_mut() {
                adapter.inline.extend(block.take());
            }
        }
        self.staged = staged;
        cost.doorbells += 1;
        let result = self.queue_pair.post(&mut adapter.batch);
        for block in adapter.inline.drain(..) {
            adapter.send_arena.give(block);
        }
        result.map_err(|error| CloseReason::from(&error))
    }

    /// Gives back what is owed to the peer, and says that nothing follows, if that is so. False if
    /// there is no room for it now.
    pub(super) fn control(
        &mut self,
        last: bool,
        adapter: &mut Adapter,
        cost: &mut Cost,
    ) -> Result<bool, CloseReason> {
        let most = adapter.depth() + CONTROL - 2;
        if self.credits == 0 || adapter.slots == 0 || self.posted.len() >= most {
            return Ok(false);
        }
        let credits = self.grant.give_back(&mut adapter.grants);
        if credits == 0 && !last {
            return Ok(true);
        }
        self.credits -= 1;
        adapter.slots -= 1;
        let signalled = self.signal(false, true, last || adapter.is_short());
        let request = SEND | (self.completed + self.posted.len() as u64 + 1);
        adapter.batch.send(
            request,
            (&adapter.send_arena, None, 0),
            Immediate { credits, last }.encode(),
            (false, signalled),
        );
        self.posted.push_back(None);
        cost.doorbells += 1;
        let posted = self.queue_pair.post(&mut adapter.batch);
        posted
            .map(|()| true)
            .map_err(|error| CloseReason::from(&error))
    }

    /// Posts a request that takes no credit and brings nothing to the peer, and completes behind
    /// all others. False if there is no room for it now.
    pub(super) fn probe(&mut self, adapter: &mut Adapter) -> bool {
        if adapter.slots == 0 || self.posted.len() >= adapter.depth() + CONTROL {
            return false;
        }
        adapter.slots -= 1;
        self.signal(false, true, true);
        let request = SEND | (self.completed + self.posted.len() as u64 + 1);
        adapter.batch.probe(request);
        self.posted.push_back(None);
        self.queue_pair.post(&mut adapter.batch).is_ok()
    }

    /// All messages up to this one are over.
    pub(super) fn complete(&mut self, request: u64, adapter: &mut Adapter) {
        let upto = request & !SEND;
        while self.completed < upto {
            let Some(block) = self.posted.pop_front() else {
                break;
            };
            self.completed += 1;
            adapter.slots += 1;
            if let Some(block) = block {
                adapter.send_arena.give(block);
            }
        }
    }

    /// Gives everything back that is not the device's.
    pub(super) fn drop_staged(&mut self, adapter: &mut Adapter) {
        for message in self.staged.drain(..) {
            adapter.slots += 1;
            if let Some(block) = message.block {
                adapter.send_arena.give(block);
            }
        }
    }

    /// Destroys the queue pair, and then gives back whatever it had.
    pub(super) fn release(mut self, adapter: &mut Adapter) {
        self.drop_staged(adapter);
        adapter.owners.remove(&self.queue_pair.number());
        drop(self.queue_pair);
        adapter.slots += self.posted.len();
        for block in self.posted.drain(..).flatten() {
            adapter.send_arena.give(block);
        }
        adapter.grants.close(&self.grant);
    }
}
