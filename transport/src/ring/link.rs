//! [`Half`]: one end of a connection, with the descriptor rings between it and the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

use bytes::Bytes;
use rtrb::{Consumer, Producer, RingBuffer};

use super::RingConfig;
use super::endpoint::Endpoint;
use super::network::Claim;
use crate::{ConnId, TxQueue};

/// How an end was shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Shut {
    /// Everything it sent has been published.
    Drained = 1,
    /// What the peer has not taken yet is lost.
    Aborted = 2,
    /// Nobody listens.
    Refused = 3,
}

/// What both halves of a connection see.
#[derive(Debug)]
struct Link {
    ends: [End; 2],
    /// Given up when both halves are gone.
    _claim: Claim,
}

/// One end, as the other sees it. What is written seldom stands apart from what is written often.
#[derive(Debug)]
#[repr(align(128))]
struct End {
    endpoint: Arc<Endpoint>,
    /// The endpoint's id for its end, once it has one.
    conn: AtomicU64,
    /// Whether this end asks to be told when there is something to see. Cleared by who tells it.
    armed: AtomicBool,
    /// Whether this end waits for credits.
    starved: AtomicBool,
    /// A [`Shut`], or 0 while this end is open.
    shut: AtomicU8,
    taken: Taken,
}

/// How many bytes an end has taken out of its ring since the beginning: the other's credits.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Taken(AtomicU64);

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Half {
    link: Arc<Link>,
    side: usize,
    tx: Producer<Bytes>,
    rx: Consumer<Bytes>,
    config: RingConfig,
    /// Chunks that hold credits but are not published.
    staged: VecDeque<Bytes>,
    /// Whether the last send fell short.
    owes_room: bool,
    /// Bytes staged since the beginning.
    sent: u64,
    /// How many of them the peer had taken when last looked at.
    returned: u64,
    /// Bytes taken since the beginning.
    received: u64,
}

impl Half {
    /// The two ends of a new connection, the first at `from` and the second at `to`.
    pub(super) fn pair(
        config: RingConfig,
        from: &Arc<Endpoint>,
        to: &Arc<Endpoint>,
        claim: Claim,
    ) -> (Self, Self) {
        let ends = [from, to].map(|endpoint| End {
            endpoint: Arc::clone(endpoint),
            conn: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            shut: AtomicU8::new(0),
            taken: Taken::default(),
        });
        let link = Arc::new(Link {
            ends,
            _claim: claim,
        });
        let (there_tx, there_rx) = RingBuffer::new(config.slots);
        let (back_tx, back_rx) = RingBuffer::new(config.slots);
        let half = |side, tx, rx| Self {
            link: Arc::clone(&link),
            side,
            tx,
            rx,
            config,
            staged: VecDeque::new(),
            owes_room: false,
            sent: 0,
            returned: 0,
            received: 0,
        };
        (half(0, there_tx, back_rx), half(1, back_tx, there_rx))
    }

    fn end(&self) -> &End {
        &self.link.ends[self.side]
    }

    fn peer(&self) -> &End {
        &self.link.ends[1 - self.side]
    }

    /// Says by what name the endpoint is to be told about this end.
    pub(super) fn adopt(&self, conn: ConnId) {
        self.end().conn.store(conn.to_u64(), Ordering::Relaxed);
    }

    /// Takes segments from the front of `queue` as credits allow, in chunks, and returns how many
    /// bytes. Nothing is published. If something is left, this end asks to be told of new credits.
    pub(super) fn stage(&mut self, queue: &mut TxQueue) -> usize {
        let mut bytes = self.stage_some(queue);
        if !queue.is_empty() {
            self.end().starved.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // Credits that came back before the peer could see that they were waited for.
            bytes += self.stage_some(queue);
        }
        self.owes_room = !queue.is_empty();
        bytes
    }

    fn stage_some(&mut self, queue: &mut TxQueue) -> usize {
        let mut bytes = 0;
        while let Some(front) = queue.front_mut() {
            let want = front.len().min(self.config.chunk);
            let len = want.min(self.credit(want));
            let chunk = if len == front.len() {
                queue.pop_front().unwrap_or_default()
            } else if len == 0 {
                break;
            } else {
                front.split_to(len)
            };
            if !chunk.is_empty() {
                self.staged.push_back(chunk);
            }
            self.sent += len as u64;
            bytes += len;
        }
        bytes
    }

    /// How many bytes the next chunk may have; at least `want`, if there are so many. The peer's
    /// side is looked at only when what was seen there last is not enough.
    fn credit(&mut self, want: usize) -> usize {
        if self.tx.cached_slots() <= self.staged.len() && self.tx.slots() <= self.staged.len() {
            return 0;
        }
        let window = self.config.window as u64;
        if window - (self.sent - self.returned) < want as u64 {
            self.returned = self.peer().taken.0.load(Ordering::Acquire);
        }
        (window - (self.sent - self.returned)) as usize
    }

    /// Whether a send fell short and there is room by now.
    pub(super) fn has_room(&mut self) -> bool {
        self.owes_room && self.credit(1) > 0
    }

    /// Takes note that the caller has been told about room.
    pub(super) fn take_room(&mut self) {
        self.owes_room = false;
    }

    /// Whether something is staged.
    pub(super) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Makes everything staged visible to the peer. Returns whether there was anything.
    pub(super) fn publish(&mut self) -> bool {
        let any = self.has_staged();
        while let Some(chunk) = self.staged.pop_front() {
            let pushed = self.tx.push(chunk);
            pushed.expect("a staged chunk holds a free descriptor");
        }
        any
    }

    /// Tells the peer, if it has asked, that there is something to see. A sequentially consistent
    /// fence stands between making it visible and this call. Returns whether it took a system call.
    pub(super) fn tell_peer(&self) -> bool {
        let peer = self.peer();
        if peer.armed.load(Ordering::Relaxed) && peer.armed.swap(false, Ordering::AcqRel) {
            let conn = ConnId::from_u64(peer.conn.load(Ordering::Relaxed));
            peer.endpoint.ring(conn)
        } else {
            false
        }
    }

    /// Takes what the peer had published when the call began, at most a window. Credits go back at
    /// once. Returns how many chunks, and whether a system call was needed to tell the peer.
    pub(super) fn receive(&mut self, mut take: impl FnMut(Bytes)) -> (usize, bool) {
        let count = self.rx.slots();
        if count == 0 {
            return (0, false);
        }
        for _ in 0..count {
            let chunk = self.rx.pop().expect("it was there a moment ago");
            self.received += chunk.len() as u64;
            take(chunk);
        }
        self.end().taken.0.store(self.received, Ordering::Release);
        fence(Ordering::SeqCst);
        let starved = &self.peer().starved;
        let told = starved.load(Ordering::Relaxed)
            && starved.swap(false, Ordering::AcqRel)
            && self.tell_peer();
        (count, told)
    }

    /// Whether the peer has published something that was not taken.
    pub(super) fn is_readable(&self) -> bool {
        !self.rx.is_empty()
    }

    /// How the peer was shut, if it was. What it published before is visible after this call.
    pub(super) fn peer_shut(&self) -> Option<Shut> {
        match self.peer().shut.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Shut::Drained),
            2 => Some(Shut::Aborted),
            _ => Some(Shut::Refused),
        }
    }

    /// Asks to be told about anything new. What came before is to be looked for after a
    /// sequentially consistent fence.
    pub(super) fn arm(&self) {
        self.end().armed.store(true, Ordering::Release);
    }

    /// Asks not to be told any more, because this end is looked at anyway.
    pub(super) fn disarm(&self) {
        self.end().armed.store(false, Ordering::Relaxed);
    }

    /// Ends the connection, once. Returns whether telling the peer took a system call.
    pub(super) fn shut(&self, how: Shut) -> bool {
        self.end().shut.store(how as u8, Ordering::Release);
        fence(Ordering::SeqCst);
        self.tell_peer()
    }
}

/// An end that is merely dropped has aborted.
impl Drop for Half {
    fn drop(&mut self) {
        if self.end().shut.load(Ordering::Relaxed) == 0 {
            self.shut(Shut::Aborted);
        }
    }
}
