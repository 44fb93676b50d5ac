//! [`Connection`]: one queue pair, what is to be sent on it and what has come, and how far its end
//! is. Nothing here sets a connection up; nothing here calls the device but by way of a queue pair.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use msgr_rdma_sys::ibv_sge;

use super::Setup;
use super::adapter::{Adapter, CONTROL};
use super::arena::Block;
use super::ceph::Channel;
use super::cm::CmId;
use super::completion::Completion;
use super::credits::{Grant, RESERVE};
use super::loan::Loan;
use super::queue_pair::QueuePair;
use super::wire::{Hello, Immediate, OFFERS, Offer};
use crate::{BufferPool, CloseReason, Cost, ListenerId, TxQueue};

/// Marks the completion of a send; that of a receive has the number of a block.
pub(super) const SEND: u64 = 1 << 63;
/// Of sends that nobody waits for, every such one says when it is over.
const SIGNAL_EVERY: usize = 16;
/// From this size on bytes that lie in registered memory are sent from there: below, a copy costs
/// less than a send.
const LINK_FROM: usize = 8 << 10;

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

/// A message that will be posted at the next flush.
#[derive(Debug)]
enum Message {
    /// So many bytes, copied.
    Copied(Block, usize),
    /// Bytes that lie in registered memory.
    Linked(Bytes, ibv_sge),
    /// An offer, of the last loan but so many.
    Offer(Block),
}

/// What a work request that was posted keeps until it is over.
#[derive(Debug)]
enum Posted {
    /// A send without any, or that took it along.
    Nothing,
    Block(Block),
    Bytes(#[allow(dead_code)] Bytes),
    /// A read of so many bytes.
    Read(Block, usize),
}

/// What the peer has sent and the caller has not got yet.
#[derive(Debug)]
pub(super) enum Held {
    Received(Block, usize),
    /// The next of its offers.
    Offered,
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
    /// Whether the peer is one of Ceph's: it has sends but no immediate data, hence no credits, and
    /// what is granted to it is posted to its queue pair.
    is_plain: bool,
    /// The most bytes of a send.
    chunk: usize,
    /// The most bytes of an offer, and from how many on we make them.
    offer_size: usize,
    offer_from: usize,
    /// Filled by `send`, posted by `flush`; the last may have room. Each has its credit and slot.
    staged: VecDeque<Message>,
    /// Posted, in order.
    posted: VecDeque<Posted>,
    /// What the peer may read, in the order of our offers.
    loans: VecDeque<Loan>,
    /// The peer's offers: those that are not being read yet; what was read of others and is not
    /// handed up; how many are read and the peer does not know; and all that it counts.
    offers: VecDeque<Offer>,
    landed: VecDeque<Bytes>,
    read: u8,
    open_offers: usize,
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
    /// Over which two of Ceph's messengers set it up, and which lives as long as it.
    pub(super) channel: Option<Channel>,
    /// Why it has ended, once that is known.
    pub(super) failed: Option<CloseReason>,
    /// The peer, or the manager, has ended it. What was received before still counts.
    pub(super) disconnected: bool,
    /// Received while the caller wanted nothing.
    pub(super) held: VecDeque<Held>,
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
            channel: None,
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

    /// Whether it waits for what only the peer can do, and nobody but us gives up.
    pub(super) fn awaits_peer(&self) -> bool {
        let unmet = self.is_attempt() || matches!(self.phase, Phase::Accepting(_));
        self.phase == Phase::Crossed || (unmet && self.channel.is_some())
    }

    /// Notes why it has ended. The first reason counts.
    pub(super) fn fail(&mut self, reason: CloseReason) {
        self.failed.get_or_insert(reason);
    }

    /// Whether everything is out, the end included, and acknowledged by the peer's device.
    pub(super) fn is_drained(&self) -> bool {
        self.said_last
            && self.link.as_ref().is_none_or(|link| {
                link.is_idle() && link.staged.is_empty() && link.loans.is_empty()
            })
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
    pub(super) fn new(queue_pair: QueuePair, adapter: usize, grant: Grant, setup: Setup) -> Self {
        Self {
            queue_pair,
            adapter,
            is_plain: setup == Setup::Ceph,
            is_ready: false,
            grant,
            credits: 0,
            chunk: 0,
            offer_size: 0,
            offer_from: usize::MAX,
            staged: VecDeque::new(),
            posted: VecDeque::new(),
            loans: VecDeque::new(),
            offers: VecDeque::new(),
            landed: VecDeque::new(),
            read: 0,
            open_offers: 0,
            completed: 0,
            unsignalled: 0,
            unsignalled_block: false,
        }
    }

    /// Takes note of what the peer has offered.
    pub(super) fn begin(&mut self, hello: Hello, offer_from: usize, adapter: &Adapter) {
        self.credits = hello.credits.into();
        let block_size = hello.block_size as usize;
        self.chunk = adapter.send_arena.block_size().min(block_size);
        if hello.reads > 0 && hello.read_size > 0 && adapter.reads > 0 {
            self.offer_size = adapter.landing_size().min(hello.read_size as usize);
            self.offer_from = offer_from;
        }
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
        self.credits > RESERVE
            && self.posted.len() + self.staged.len() < adapter.depth()
            && self.loans.len() < OFFERS
    }

    /// What a send that has come says beside its bytes; nothing if it is not one of ours.
    pub(super) fn hear(&self, completion: &Completion) -> Option<Immediate> {
        if self.is_plain {
            return Some(Immediate {
                last: completion.len() == 0,
                ..Immediate::default()
            });
        }
        completion.immediate().map(Immediate::decode)
    }

    /// What goes along with a send.
    fn immediate(&self, immediate: Immediate) -> Option<u32> {
        (!self.is_plain).then(|| immediate.encode())
    }

    /// Grants what is owed to the peer: so many credits are to go to it. One of Ceph's gets the
    /// receives themselves.
    pub(super) fn give_back(&mut self, adapter: &mut Adapter) -> Result<u16, CloseReason> {
        let back = self.grant.give_back(&mut adapter.grants);
        if self.is_plain {
            let supplied = adapter.supply(&self.queue_pair, back);
            return supplied
                .map(|()| 0)
                .map_err(|error| CloseReason::from(&error));
        }
        Ok(back)
    }

    /// Whether receives are owed to a peer that knows no credits.
    pub(super) fn is_short_of_receives(&self) -> bool {
        self.is_plain && self.grant.is_due()
    }

    /// Whether the peer may leave sends waiting as long as it likes, which is no sign of its death.
    pub(super) fn may_wait(&self) -> bool {
        self.is_plain
    }

    pub(super) fn is_idle(&self) -> bool {
        self.posted.is_empty()
    }

    /// Whether what is under way will say when it is over.
    pub(super) fn is_signalled(&self) -> bool {
        self.unsignalled == 0
    }

    /// Takes segments, as many as there is room for; returns how many bytes.
    pub(super) fn stage(
        &mut self,
        queue: &mut TxQueue,
        adapter: &mut Adapter,
        cost: &mut Cost,
    ) -> usize {
        let mut bytes = 0;
        while let Some(segment) = queue.front_mut() {
            if segment.is_empty() {
                queue.pop_front();
                continue;
            }
            let mut some = 0;
            if segment.len() >= self.offer_from {
                some = self.stage_offer(segment, adapter);
            } else if segment.len() >= LINK_FROM {
                some = self.stage_link(segment, adapter);
            }
            if some == 0 {
                some = self.stage_copy(segment, adapter);
                cost.bytes_copied += some as u64;
            }
            if some == 0 {
                break;
            }
            bytes += some;
            segment.advance(some);
        }
        bytes
    }

    /// Copies the beginning of a segment into a block, as much as fits.
    fn stage_copy(&mut self, segment: &Bytes, adapter: &mut Adapter) -> usize {
        let has_room =
            |message: &Message| matches!(message, Message::Copied(_, len) if *len < self.chunk);
        if !self.staged.back().is_some_and(has_room) {
            let Some(block) = self.open_message(adapter) else {
                return 0;
            };
            self.staged.push_back(Message::Copied(block, 0));
        }
        let Some(Message::Copied(block, len)) = self.staged.back_mut() else {
            return 0;
        };
        let some = segment.len().min(self.chunk - *len);
        adapter.send_arena.bytes_mut(block)[*len..*len + some].copy_from_slice(&segment[..some]);
        *len += some;
        some
    }

    /// Has the beginning of a segment sent from where it is, if that is registered memory.
    fn stage_link(&mut self, segment: &Bytes, adapter: &mut Adapter) -> usize {
        let some = segment.len().min(self.chunk);
        let Some(element) = adapter.find(&segment[..some]) else {
            return 0;
        };
        if !self.has_room(adapter) || adapter.slots == 0 {
            return 0;
        }
        adapter.slots -= 1;
        self.use_credit();
        let bytes = segment.slice(..some);
        self.staged.push_back(Message::Linked(bytes, element));
        some
    }

    /// Lends the beginning of a segment to the peer, and offers it.
    fn stage_offer(&mut self, segment: &Bytes, adapter: &mut Adapter) -> usize {
        let some = segment.len().min(self.offer_size);
        if !self.has_room(adapter) || !adapter.grants.promise() {
            return 0;
        }
        let Some(mut block) = self.open_message(adapter) else {
            adapter.grants.fulfil(1);
            return 0;
        };
        match adapter.lend(segment.slice(..some)) {
            Ok(loan) => {
                let bytes = adapter.send_arena.bytes_mut(&mut block);
                bytes[..Offer::LEN].copy_from_slice(&loan.offer().encode());
                self.staged.push_back(Message::Offer(block));
                self.loans.push_back(loan);
                some
            }
            Err(error) => {
                let device = adapter.device.name();
                tracing::warn!(device, %error, "large data is copied: it cannot be registered");
                self.offer_from = usize::MAX;
                adapter.grants.fulfil(1);
                self.staged.push_back(Message::Copied(block, 0));
                0
            }
        }
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

    fn open_message(&mut self, adapter: &mut Adapter) -> Option<Block> {
        if !self.has_room(adapter) || adapter.slots == 0 {
            return None;
        }
        let block = adapter.send_arena.take()?;
        adapter.slots -= 1;
        self.use_credit();
        Some(block)
    }

    fn use_credit(&mut self) {
        self.credits -= u32::from(!self.is_plain);
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
        let mut immediate = Immediate {
            credits: self.give_back(adapter)?,
            read: self.tell_read(),
            ..Immediate::default()
        };
        let short = adapter.is_short();
        let mut staged = std::mem::take(&mut self.staged);
        for (index, message) in staged.drain(..).enumerate() {
            immediate.offer = matches!(message, Message::Offer(_));
            let (element, keeps) = match message {
                Message::Copied(block, len) => (
                    adapter.send_arena.element(&block, len),
                    Posted::Block(block),
                ),
                Message::Linked(bytes, element) => (element, Posted::Bytes(bytes)),
                Message::Offer(block) => (
                    adapter.send_arena.element(&block, Offer::LEN),
                    Posted::Block(block),
                ),
            };
            let is_inline = element.length as usize <= inline;
            let is_last = index + 1 == count;
            let signalled = self.signal(!is_inline, is_last, short);
            adapter.batch.send(
                self.next_request(),
                Some(element),
                self.immediate(std::mem::take(&mut immediate)),
                (is_inline, signalled),
            );
            self.posted.push_back(match keeps {
                // An inline message's block is free once it is posted.
                Posted::Block(block) if is_inline => {
                    adapter.inline.push(block);
                    Posted::Nothing
                }
                keeps => keeps,
            });
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
        let is_free = self.read > 0;
        if (self.credits == 0 && !is_free) || adapter.slots == 0 || self.posted.len() >= most {
            return Ok(false);
        }
        let immediate = Immediate {
            credits: self.give_back(adapter)?,
            read: self.tell_read(),
            offer: false,
            last,
        };
        if immediate == Immediate::default() {
            return Ok(true);
        }
        if !is_free {
            self.use_credit();
        }
        adapter.slots -= 1;
        let signalled = self.signal(false, true, last || adapter.is_short());
        let (request, immediate) = (self.next_request(), self.immediate(immediate));
        adapter
            .batch
            .send(request, None, immediate, (false, signalled));
        self.posted.push_back(Posted::Nothing);
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
        adapter.batch.probe(self.next_request());
        self.posted.push_back(Posted::Nothing);
        self.queue_pair.post(&mut adapter.batch).is_ok()
    }

    /// What the next request is called: how many there were, with it.
    fn next_request(&self) -> u64 {
        SEND | (self.completed + self.posted.len() as u64 + 1)
    }

    /// How many more offers are read, for a send that tells the peer.
    fn tell_read(&mut self) -> u8 {
        let read = std::mem::take(&mut self.read);
        self.open_offers -= usize::from(read);
        read
    }

    /// Whether the peer should be told soon what it may have again.
    pub(super) fn owes(&self) -> bool {
        self.grant.is_due() || self.read > 0
    }

    /// Takes note of an offer. False if the peer must not make it.
    pub(super) fn take_offer(&mut self, bytes: &[u8], adapter: &Adapter) -> bool {
        let Some(offer) = Offer::decode(bytes) else {
            return false;
        };
        let is_allowed = adapter.reads > 0
            && self.open_offers < OFFERS
            && (1..=adapter.landing_size()).contains(&(offer.len as usize));
        if is_allowed {
            self.open_offers += 1;
            self.offers.push_back(offer);
        }
        is_allowed
    }

    /// The peer has read so many of our offers. False if there are not so many.
    pub(super) fn end_loans(&mut self, read: u8, adapter: &mut Adapter) -> bool {
        let read = usize::from(read);
        if read > self.loans.len() {
            return false;
        }
        self.loans.drain(..read);
        adapter.grants.fulfil(read);
        true
    }

    /// What was read of the oldest offer that is not handed up, once it is.
    pub(super) fn landed(&mut self) -> Option<Bytes> {
        self.landed.pop_front()
    }

    /// Reads what is offered, as far as there is room. Whether more is to be read when others have
    /// given memory back.
    pub(super) fn read_offers(
        &mut self,
        adapter: &mut Adapter,
        cost: &mut Cost,
    ) -> Result<bool, CloseReason> {
        let most = adapter.depth() + CONTROL - 2;
        let mut any = false;
        while let Some(offer) = self.offers.front()
            && adapter.slots > 0
            && self.posted.len() < most
            && let Some(block) = adapter.open_landing()
        {
            let len = offer.len as usize;
            let element = adapter.landing(&block, len);
            adapter.batch.read(self.next_request(), element, offer);
            adapter.slots -= 1;
            self.signal(false, true, true);
            self.posted.push_back(Posted::Read(block, len));
            self.offers.pop_front();
            any = true;
        }
        if any {
            cost.doorbells += 1;
            let posted = self.queue_pair.post(&mut adapter.batch);
            posted.map_err(|error| CloseReason::from(&error))?;
        }
        Ok(!self.offers.is_empty())
    }

    /// All messages up to this one are over, and this one `well` or not.
    pub(super) fn complete(
        &mut self,
        (request, well): (u64, bool),
        adapter: &mut Adapter,
        (pool, cost): (&mut BufferPool, &mut Cost),
    ) {
        let upto = request & !SEND;
        while self.completed < upto {
            let Some(keeps) = self.posted.pop_front() else {
                break;
            };
            self.completed += 1;
            adapter.slots += 1;
            match keeps {
                Posted::Read(block, len) if well => {
                    let bytes = adapter.land(block, len, pool, cost);
                    self.landed.push_back(bytes);
                    self.read += 1;
                }
                keeps => keeps.give_back(adapter),
            }
        }
    }

    /// Gives everything back that is not the device's.
    pub(super) fn drop_staged(&mut self, adapter: &mut Adapter) {
        for message in self.staged.drain(..) {
            adapter.slots += 1;
            match message {
                Message::Copied(block, _) | Message::Offer(block) => adapter.send_arena.give(block),
                Message::Linked(..) => {}
            }
        }
    }

    /// Destroys the queue pair, and then gives back whatever it had.
    pub(super) fn release(mut self, adapter: &mut Adapter) {
        self.drop_staged(adapter);
        let number = self.queue_pair.number();
        drop(self.queue_pair);
        adapter.forget(number);
        adapter.slots += self.posted.len();
        for keeps in self.posted.drain(..) {
            keeps.give_back(adapter);
        }
        adapter.grants.fulfil(self.loans.len());
        adapter.grants.close(&self.grant);
    }
}

impl Posted {
    fn give_back(self, adapter: &mut Adapter) {
        match self {
            Self::Block(block) => adapter.send_arena.give(block),
            Self::Read(block, _) => adapter.close_landing(block),
            Self::Nothing | Self::Bytes(_) => {}
        }
    }
}
