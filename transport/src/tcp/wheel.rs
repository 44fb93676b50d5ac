//! [`Wheel`]: many deadlines, at the cost of few. A timer wheel of one lap; what is due later than
//! a lap from now is looked at once a lap.

use std::time::{Duration, Instant};

use crate::ConnId;

/// The number of ticks in a lap.
const SLOTS: usize = 1024;
/// So many entries a slot has room for without giving memory back.
const SPARE: usize = 64;

/// When an entry is due, in milliseconds since the wheel was made.
pub(super) type Tick = u64;

#[derive(Debug)]
pub(super) struct Wheel {
    start: Option<Instant>,
    /// All ticks before this one are over.
    next: Tick,
    /// When that one is over, if any is.
    next_tick: Option<Instant>,
    slots: Vec<Vec<(Tick, ConnId)>>,
    /// A bit for each slot that is not empty.
    occupied: [u64; SLOTS / 64],
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            start: None,
            next: 0,
            next_tick: None,
            slots: vec![Vec::new(); SLOTS],
            occupied: [0; SLOTS / 64],
        }
    }
}

fn slot(tick: Tick) -> usize {
    (tick % SLOTS as Tick) as usize
}

impl Wheel {
    /// The first tick that is not before `at`.
    pub(super) fn tick(&mut self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(*self.start.get_or_insert(at));
        since.as_secs() * 1000 + u64::from(since.subsec_nanos().div_ceil(1_000_000))
    }

    /// Adds an entry. What is due already is due at the next turn: returns when.
    pub(super) fn insert(&mut self, due: Tick, conn: ConnId) -> Tick {
        let due = due.max(self.next);
        let at = slot(due);
        self.slots[at].push((due, conn));
        self.occupied[at / 64] |= 1 << (at % 64);
        due
    }

    /// Removes an entry that [`insert`](Self::insert) has added.
    pub(super) fn remove(&mut self, due: Tick, conn: ConnId) {
        let at = slot(due);
        let entries = &mut self.slots[at];
        if let Some(found) = entries.iter().position(|entry| *entry == (due, conn)) {
            entries.swap_remove(found);
            self.tidy(at);
        }
    }

    fn tidy(&mut self, at: usize) {
        if self.slots[at].is_empty() {
            self.occupied[at / 64] &= !(1 << (at % 64));
        }
    }

    /// Takes out what is due at `now`.
    pub(super) fn expire(&mut self, now: Instant, mut due: impl FnMut(ConnId)) {
        if self.next_tick.is_some_and(|at| now < at) {
            return;
        }
        let start = *self.start.get_or_insert(now);
        let over = now.saturating_duration_since(start).as_millis() as Tick;
        let last = over.min(self.next + SLOTS as Tick - 1);
        for tick in self.next..=last {
            let at = slot(tick);
            if self.occupied[at / 64] & 1 << (at % 64) == 0 {
                continue;
            }
            self.slots[at].retain(|&(tick, conn)| {
                if tick <= over {
                    due(conn);
                }
                tick > over
            });
            // Many deadlines may have met here that will not meet again.
            let left = self.slots[at].len().max(SPARE);
            if self.slots[at].capacity() > 4 * left {
                self.slots[at].shrink_to(left);
            }
            self.tidy(at);
        }
        self.next = over + 1;
        self.next_tick = Some(start + Duration::from_millis(self.next));
    }

    /// When there is something to do next, at the latest. May be too early, by whole laps.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let start = self.start?;
        let first = slot(self.next);
        let ahead = (0..=SLOTS / 64).find_map(|word| {
            let at = (first / 64 + word) % (SLOTS / 64);
            let mut bits = self.occupied[at];
            if word == 0 {
                bits &= u64::MAX << (first % 64);
            }
            (bits != 0).then(|| {
                let found = at * 64 + bits.trailing_zeros() as usize;
                (found + SLOTS - first) % SLOTS
            })
        })?;
        let tick = self.next + ahead as Tick;
        Some(start + Duration::from_millis(tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random deadlines come out once, never early, and no later than a turn after they are due.
    #[test]
    fn deadlines_come_out_when_they_are_due() {
        let start = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut wheel = Wheel::default();
        wheel.tick(start);
        let mut waiting = Vec::new();
        let mut now = start;
        for round in 0..20_000u64 {
            if random.u8(..) < 128 {
                let conn = ConnId::from_u64(round);
                let due = wheel.tick(now + Duration::from_micros(random.u64(0..5_000_000)));
                waiting.push((wheel.insert(due, conn), conn));
            } else if !waiting.is_empty() && random.bool() {
                let (due, conn) = waiting.swap_remove(random.usize(..waiting.len()));
                wheel.remove(due, conn);
            }
            let next = wheel.next_timeout();
            let earliest = waiting.iter().map(|(due, _)| *due).min();
            assert_eq!(next.is_none(), earliest.is_none());
            if let (Some(next), Some(earliest)) = (next, earliest) {
                assert!(
                    next <= (start + Duration::from_millis(earliest))
                        .max(now + Duration::from_millis(1))
                );
            }
            now += Duration::from_micros(random.u64(0..30_000));
            let over = (now - start).as_millis() as Tick;
            wheel.expire(now, |conn| {
                let found = waiting.iter().position(|(_, one)| *one == conn).unwrap();
                let (due, _) = waiting.swap_remove(found);
                assert!(due <= over, "early");
            });
            assert!(waiting.iter().all(|(due, _)| *due > over), "late");
        }
    }
}
