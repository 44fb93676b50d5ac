//! [`Inbox`]: the receive queue of a port, which the other ports put frames into.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use super::frame::Raw;
use super::lock;

/// What waits at a port, and is under way to it.
///
/// Whoever delivers first says that there is news, and looks last whether the owner sleeps; the
/// owner first says that it will sleep, and looks last whether there is news. With a sequentially
/// consistent fence between the two steps on each side, one of them sees the other.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The most frames in it.
    room: usize,
    waiting: Mutex<Waiting>,
    /// Whether frames have arrived, or set out, that the owner does not know of. Written only
    /// under the lock, read without: a look at an empty inbox costs no more.
    news: AtomicBool,
    /// Whether the owner sleeps on `wake`. Whoever clears it owes the owner one write.
    parked: AtomicBool,
    /// There is none if the process has run out of descriptors.
    wake: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Waiting {
    arrived: VecDeque<Raw>,
    /// Since when something has been waiting.
    since: Option<Instant>,
    /// What is under way, by the time of arrival and the order of departure.
    under_way: BTreeMap<(Instant, u64), Raw>,
    departures: u64,
    missed: u64,
}

impl Inbox {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            waiting: Mutex::default(),
            news: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).ok(),
        }
    }

    /// Has `frames` arrive now. Those for which there is no room stay in the list. Returns whether
    /// a system call was needed to wake the owner.
    pub(super) fn deliver(&self, frames: &mut Vec<Raw>, now: Instant) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.promote(now);
        let fit = self.room.saturating_sub(waiting.len()).min(frames.len());
        waiting.missed += (frames.len() - fit) as u64;
        waiting.arrived.extend(frames.drain(..fit));
        waiting.since.get_or_insert(now);
        self.news.store(true, Ordering::Relaxed);
        drop(waiting);
        self.wake()
    }

    /// Has `frames` arrive each at its time, otherwise as [`deliver`](Self::deliver).
    pub(super) fn deliver_at(&self, frames: &mut Vec<(Instant, Raw)>, now: Instant) -> bool {
        let mut waiting = lock(&self.waiting);
        let fit = self.room.saturating_sub(waiting.len()).min(frames.len());
        waiting.missed += (frames.len() - fit) as u64;
        for (at, frame) in frames.drain(..fit) {
            let departure = waiting.departures;
            waiting.departures += 1;
            waiting.under_way.insert((at, departure), frame);
        }
        waiting.promote(now);
        self.news.store(true, Ordering::Relaxed);
        drop(waiting);
        self.wake()
    }

    fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        let asleep =
            self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel);
        match &self.wake {
            Some(wake) if asleep => {
                // It fails only if the counter is full, and then the owner is awake.
                let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
                true
            }
            _ => false,
        }
    }

    /// Whether there is something that the owner does not know of.
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Hands over at most `most` of the frames that have arrived. Returns when to come again.
    pub(super) fn take(
        &self,
        now: Instant,
        most: usize,
        hand_over: impl FnMut(Raw),
    ) -> Option<Instant> {
        let mut waiting = lock(&self.waiting);
        waiting.promote(now);
        let count = waiting.arrived.len().min(most);
        waiting.arrived.drain(..count).for_each(hand_over);
        if waiting.arrived.is_empty() {
            waiting.since = None;
            self.news.store(false, Ordering::Relaxed);
        }
        waiting.next()
    }

    /// When something arrives, or since when something has been waiting.
    pub(super) fn next(&self) -> Option<Instant> {
        lock(&self.waiting).next()
    }

    /// How many frames found no room.
    pub(super) fn missed(&self) -> u64 {
        lock(&self.waiting).missed
    }

    /// Says that the owner will sleep, unless what it looks at after this call keeps it awake.
    pub(super) fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the owner is awake. Returns whether somebody has written, or is about to.
    pub(super) fn unpark(&self) -> bool {
        !self.parked.swap(false, Ordering::AcqRel) && self.wake.is_some()
    }

    /// How many have written since the last call.
    pub(super) fn take_wakes(&self) -> u64 {
        let mut count = [0; 8];
        match &self.wake {
            Some(wake) if rustix::io::read(wake, &mut count).is_ok() => u64::from_ne_bytes(count),
            _ => 0,
        }
    }

    /// What becomes readable when somebody writes.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(AsFd::as_fd)
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.arrived.len() + self.under_way.len()
    }

    /// Has arrive what is due.
    fn promote(&mut self, now: Instant) {
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), frame) = first.remove_entry();
            self.arrived.push_back(frame);
            self.since.get_or_insert(at);
        }
    }

    fn next(&self) -> Option<Instant> {
        let first = self.under_way.first_key_value();
        self.since.or_else(|| first.map(|(&(at, _), _)| at))
    }
}
