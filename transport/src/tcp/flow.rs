//! [`Flow`]: a connection and its owner: what waits to be handed up, and how far it is with its end.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::config::TcpConfig;
use super::prefetch::prefetch;
use super::segment::{Header, Options, Segment};
use super::tcb::{Ended, Tcb};
use super::time::Time;
use crate::{CloseReason, Cost, ListenerId};

/// How long it takes until a quiet connection is taken to be at rest.
const REST: Duration = Duration::from_secs(1);

#[allow(clippy::struct_excessive_bools)] // Independent conditions, each read where it matters.
pub(super) struct Flow {
    pub(super) tcb: Tcb,
    pub(super) phase: Phase,
    /// In order, and not handed up yet: as it came, then what is kept in memory of its own.
    received: VecDeque<Bytes>,
    stash: BytesMut,
    /// Whether the caller wants data.
    pub(super) receiving: bool,
    /// Whether the next flush is for this connection.
    pub(super) touched: bool,
    /// Whether it is listed as one to be served.
    pub(super) listed: bool,
    /// Whether it is to be armed at the end of this turn.
    pub(super) unsettled: bool,
    /// Whether the wheel has just brought it up.
    pub(super) is_due: bool,
    /// Why there is no way to the peer, if that is known already.
    pub(super) hopeless: Option<CloseReason>,
    /// Whether it may have memory that it does not need at rest.
    filled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// A peer has asked this listener for it.
    Accepting(ListenerId),
    Open,
    /// The caller has left; what it queued is still going out, with the end behind it.
    Draining,
    /// The peer has all, and our end, and has not ended yet.
    HalfClosed,
}

/// The bytes of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Somebody else's, to be copied.
    Borrowed(&'a [u8]),
    /// To be kept as they are.
    Lent(&'a Bytes),
}

impl Payload<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Lent(bytes) => bytes,
        }
    }

    /// The same bytes to keep, if they are of what is lent.
    fn slice(&self, bytes: &[u8]) -> Option<Bytes> {
        match self {
            Self::Lent(lent) if lent.as_ptr_range().contains(&bytes.as_ptr()) => {
                Some(lent.slice_ref(bytes))
            }
            _ => None,
        }
    }
}

impl Flow {
    pub(super) fn new(tcb: Tcb, phase: Phase) -> Self {
        Self {
            tcb,
            phase,
            received: VecDeque::new(),
            stash: BytesMut::new(),
            receiving: true,
            touched: false,
            listed: false,
            unsettled: false,
            is_due: false,
            hopeless: None,
            filled: false,
        }
    }

    /// Has the memory fetched that a segment is taken in with: one wait instead of ten, if it is in
    /// no cache.
    pub(super) fn prefetch(&self) {
        prefetch(self);
    }

    /// Takes in a segment. If its owner wants its bytes now, they are kept as `lent`, if they are; else
    /// they go behind what is in `block`, which holds nobody else's. Returns what is answered by itself.
    pub(super) fn on_segment(
        &mut self,
        segment: &Segment,
        (options, payload): (&Options, Payload),
        config: &TcpConfig,
        now: Time,
        (block, cost): (&mut BytesMut, &mut Cost),
    ) -> Option<Header> {
        let Self {
            tcb,
            phase,
            received,
            stash,
            receiving,
            ..
        } = self;
        let is_wanted = !matches!(phase, Phase::Draining | Phase::HalfClosed);
        let mut read = 0;
        let deliver = |bytes: &[u8]| {
            let is_now = *receiving && stash.is_empty();
            let fits = bytes.len() <= block.capacity() - block.len();
            if !is_wanted {
                read += bytes.len();
                return;
            }
            let lent = payload.slice(bytes).filter(|_| is_now);
            if lent.is_none() {
                cost.bytes_copied += bytes.len() as u64;
                if is_now && fits {
                    block.extend_from_slice(bytes);
                    return;
                }
            }
            if !block.is_empty() {
                received.push_back(block.split().freeze());
            }
            match lent {
                Some(lent) => received.push_back(lent),
                // It may stay for long, and is not to keep all of the block.
                None => stash.extend_from_slice(bytes),
            }
        };
        let header = tcb.on_segment(segment, (options, payload.bytes()), config, now, deliver);
        tcb.on_read(read);
        self.filled = true;
        header
    }

    /// Takes what it has in `block`.
    pub(super) fn collect(&mut self, block: &mut BytesMut) {
        self.received.push_back(block.split().freeze());
    }

    /// What is to be handed up next.
    pub(super) fn receive(&mut self) -> Option<Bytes> {
        if !self.receiving {
            return None;
        }
        let bytes = match self.received.pop_front() {
            Some(bytes) => bytes,
            None if self.stash.is_empty() => return None,
            None => std::mem::take(&mut self.stash).freeze(),
        };
        self.tcb.on_read(bytes.len());
        Some(bytes)
    }

    /// Whether something could be handed up.
    pub(super) fn has_received(&self) -> bool {
        !self.received.is_empty() || !self.stash.is_empty()
    }

    /// Notes that the wheel has brought it up. A connection that nothing has gone through for a while
    /// lets go of memory.
    pub(super) fn brought_up(&mut self, now: Time) {
        self.is_due = true;
        let is_quiet = now >= self.tcb.heard_at() + REST;
        if self.filled && is_quiet && !self.has_received() && self.tcb.is_at_rest() {
            self.tcb.shrink();
            self.received = VecDeque::new();
            self.filled = false;
        }
    }

    /// Whether the caller still has it.
    pub(super) fn is_owned(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open)
    }

    /// Why it is over, if it is, and all was handed up.
    pub(super) fn end(&self) -> Option<CloseReason> {
        let is_over = self.tcb.has_all() && !self.has_received();
        is_over.then_some(match self.tcb.ended() {
            Some(Ended::Reset) if self.phase == Phase::Connecting => CloseReason::Refused,
            Some(Ended::Reset) => CloseReason::Reset,
            Some(Ended::TimedOut) => CloseReason::TimedOut,
            Some(Ended::InOrder) | None => CloseReason::PeerClosed,
        })
    }

    /// From now on only what is queued goes out; whatever comes in is thrown away.
    pub(super) fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.touched = false;
        self.receiving = true;
        while self.receive().is_some() {}
        if let Some(queue) = self.tcb.queue() {
            queue.flush();
            queue.forget_room();
        }
        self.tcb.end();
    }
}
