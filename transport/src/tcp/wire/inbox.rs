//! [`Inbox`]: the receive queue of a port, which the other ports put frames into.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::frame::Raw;
use super::lock;
use crate::tcp::doorbell::Doorbell;

/// What waits at a queue of a port, and is under way to it.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The most frames in it.
    room: usize,
    waiting: Mutex<Waiting>,
    /// Whether frames have arrived, or set out, that the owner does not know of. Written only
    /// under the lock, read without: a look at an empty inbox costs no more.
    news: AtomicBool,
    /// Rung behind each delivery.
    pub(super) bell: Doorbell,
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
            bell: Doorbell::new(),
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
        self.bell.ring()
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
        self.bell.ring()
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
