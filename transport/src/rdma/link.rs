//! [`Link`]: the queue pair of a connection, what is under way on it, and who may send how much.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Setup;
use super::adapter::{Adapter, CONTROL};
use super::arena::Block;
use super::credits::{Grant, RESERVE};
use super::loan::Loan;
use super::offers::Offers;
use super::queue_pair::QueuePair;
use super::staging::Message;
use super::wire::{Hello, Immediate, OFFERS, Offer};
use crate::{BufferPool, CloseReason, Cost};

/// Marks the completion of a send; that of a receive has the number of a block.
pub(super) const SEND: u64 = 1 << 63;
/// Of sends that nobody waits for, every such one says when it is over.
const SIGNAL_EVERY: usize = 16;
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
    /// What it has agreed on with the peer.
    pub(super) setup: Setup,
    /// The most bytes of a send.
    pub(super) chunk: usize,
    /// The most bytes of an offer, and from how many on we make them.
    pub(super) offer_size: usize,
    pub(super) offer_from: usize,
    /// Filled by `send`, posted by `flush`; the last may have room. Each has its credit and slot.
    pub(super) staged: VecDeque<Message>,
    /// Posted, in order.
    posted: VecDeque<Posted>,
    /// What the peer may read, in the order of our offers.
    pub(super) loans: VecDeque<Loan>,
    pub(super) offers: Offers,
    /// How many messages have completed, ever.
    pub(super) completed: u64,
    /// How many of the last posted do not say when they are over.
    unsignalled: usize,
    /// Whether blocks are among them.
    unsignalled_block: bool,
}

impl Link {
    pub(super) fn new(queue_pair: QueuePair, adapter: usize, grant: Grant, setup: Setup) -> Self {
        Self {
            queue_pair,
            adapter,
            setup,
            is_ready: false,
            grant,
            credits: 0,
            chunk: 0,
            offer_size: 0,
            offer_from: usize::MAX,
            staged: VecDeque::new(),
            posted: VecDeque::new(),
            loans: VecDeque::new(),
            offers: Offers::default(),
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

    /// Grants what is owed to the peer: so many credits are to go to it. One that does not know any
    /// gets the receives themselves.
    fn give_back(&mut self, adapter: &mut Adapter) -> Result<u16, CloseReason> {
        let back = self.grant.give_back(&mut adapter.grants);
        if self.setup.has_credits() {
            return Ok(back);
        }
        let supplied = adapter.supply(&self.queue_pair, back);
        supplied
            .map(|()| 0)
            .map_err(|error| CloseReason::from(&error))
    }

    /// The same, for a peer that need not be told.
    pub(super) fn supply(&mut self, adapter: &mut Adapter) -> Result<(), CloseReason> {
        if !self.setup.has_credits() && self.grant.is_due() {
            self.give_back(adapter)?;
        }
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.posted.is_empty()
    }

    /// Whether everything has left and is acknowledged, or read.
    pub(super) fn is_drained(&self) -> bool {
        self.is_idle() && self.staged.is_empty() && self.loans.is_empty()
    }

    /// Whether what is under way will say when it is over.
    pub(super) fn is_signalled(&self) -> bool {
        self.unsignalled == 0
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

    pub(super) fn use_credit(&mut self) {
        self.credits -= u32::from(self.setup.has_credits());
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
            read: self.offers.tell_read(),
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
                self.setup.encode(std::mem::take(&mut immediate)),
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
        let is_free = self.offers.owes();
        if (self.credits == 0 && !is_free) || adapter.slots == 0 || self.posted.len() >= most {
            return Ok(false);
        }
        let immediate = Immediate {
            credits: self.give_back(adapter)?,
            read: self.offers.tell_read(),
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
        let (request, immediate) = (self.next_request(), self.setup.encode(immediate));
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

    /// Whether it is reading from the peer's memory.
    pub(super) fn is_reading(&self) -> bool {
        let mut posted = self.posted.iter();
        posted.any(|posted| matches!(posted, Posted::Read(..)))
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

    /// Whether the peer should be told soon what it may have again.
    pub(super) fn owes(&self) -> bool {
        self.grant.is_due() || self.offers.owes()
    }

    /// Takes note of an offer, which has come in a block. False if the peer must not make it.
    pub(super) fn take_offer(&mut self, block: &Block, len: usize, adapter: &Adapter) -> bool {
        let bytes = adapter.received(block, len);
        adapter.reads > 0 && self.offers.take(bytes, adapter.landing_size())
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

    /// Reads what is offered, as far as there is room. Whether more is to be read when others have
    /// given memory back.
    pub(super) fn read_offers(
        &mut self,
        adapter: &mut Adapter,
        cost: &mut Cost,
    ) -> Result<bool, CloseReason> {
        let most = adapter.depth() + CONTROL - 2;
        let mut any = false;
        while let Some(offer) = self.offers.next()
            && adapter.slots > 0
            && self.posted.len() < most
            && let Some(block) = adapter.open_landing()
        {
            let len = offer.len as usize;
            let element = adapter.landing(&block, len);
            adapter.batch.read(self.next_request(), element, &offer);
            adapter.slots -= 1;
            self.signal(false, true, true);
            self.posted.push_back(Posted::Read(block, len));
            self.offers.begin();
            any = true;
        }
        if any {
            cost.doorbells += 1;
            let posted = self.queue_pair.post(&mut adapter.batch);
            posted.map_err(|error| CloseReason::from(&error))?;
        }
        Ok(self.offers.next().is_some())
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
                    self.offers.land(bytes);
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
