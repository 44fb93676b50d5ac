//! [`Wheel`]: many deadlines, at the cost of few. A timer wheel of one lap; what is due later than
//! a lap from now is looked at once a lap.
//!
//! Deadlines are put off all the time, and brought forward and put off again with each message on a
//! connection that is quiet in between. So what is in the wheel is only when to look next: a
//! connection has a few entries, for what is due soon and what is due late, and hardly ever is one
//! removed because of a new deadline. What was put off is found out when the wheel comes by, without
//! a look at the connection itself, which is in no cache by then.

use super::time::Time;
use crate::ConnId;

/// The number of ticks in a lap.
const SLOTS: usize = 1024;
/// So many entries a slot has room for without giving memory back.
const SPARE: usize = 64;

/// The most entries of a connection: a late acknowledgement, one that is waited for, a sign of life.
const ENTRIES: usize = 3;

/// A time, in milliseconds.
type Tick = u64;

/// The length of a tick, in nanoseconds.
const TICK: u64 = 1_000_000;

const NEVER: Tick = Tick::MAX;

#[derive(Debug)]
pub(super) struct Wheel {
    /// All ticks before this one are over.
    next: Tick,
    /// When that one is.
    next_at: Time,
    slots: Vec<Vec<(Tick, ConnId)>>,
    /// A bit for each slot that is not empty.
    occupied: [u64; SLOTS / 64],
    /// By the slot of the connection.
    alarms: Vec<Alarm>,
    /// Those that were put off, while the wheel is turned.
    late: Vec<ConnId>,
}

/// What a connection waits for. Within one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Alarm {
    due: Tick,
    /// Its entries, earliest first.
    entries: [Tick; ENTRIES],
}

impl Alarm {
    const NONE: Self = Self {
        due: NEVER,
        entries: [NEVER; ENTRIES],
    };
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            next: 0,
            next_at: Time::default(),
            slots: vec![Vec::new(); SLOTS],
            occupied: [0; SLOTS / 64],
            alarms: Vec::new(),
            late: Vec::new(),
        }
    }
}

fn slot(tick: Tick) -> usize {
    (tick % SLOTS as Tick) as usize
}

impl Wheel {
    /// Sets the deadline of a connection, in place of the one that it has. What is due already is due
    /// at the next turn.
    pub(super) fn set(&mut self, conn: ConnId, due: Time) {
        // The first tick that is not before it.
        let due = due.nanos().div_ceil(TICK).max(self.next);
        if self.alarms.len() <= conn.slot() {
            self.alarms.resize(conn.slot() + 1, Alarm::NONE);
        }
        self.alarms[conn.slot()].due = due;
        self.enter(conn);
    }

    /// Sees to it that the wheel looks at a connection in time.
    fn enter(&mut self, conn: ConnId) {
        let Alarm { due, entries } = &mut self.alarms[conn.slot()];
        let (due, first) = (*due, entries[0]);
        if first <= due {
            return;
        }
        let is_full = entries[ENTRIES - 1] != NEVER;
        if !is_full {
            entries.copy_within(..ENTRIES - 1, 1);
        }
        entries[0] = due;
        if is_full {
            self.take_out(first, conn);
        }
        let at = slot(due);
        self.slots[at].push((due, conn));
        self.occupied[at / 64] |= 1 << (at % 64);
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, conn: ConnId) {
        let Some(alarm) = self.alarms.get_mut(conn.slot()) else {
            return;
        };
        let entries = std::mem::replace(alarm, Alarm::NONE).entries;
        for entry in entries.into_iter().filter(|entry| *entry != NEVER) {
            self.take_out(entry, conn);
        }
    }

    fn take_out(&mut self, entry: Tick, conn: ConnId) {
        let at = slot(entry);
        let entries = &mut self.slots[at];
        if let Some(found) = entries.iter().position(|one| *one == (entry, conn)) {
            entries.swap_remove(found);
            self.tidy(at);
        }
    }

    fn tidy(&mut self, at: usize) {
        if self.slots[at].is_empty() {
            self.occupied[at / 64] &= !(1 << (at % 64));
        }
    }

    /// Appends the connections that are due at `now`. They have no deadline then.
    pub(super) fn expire(&mut self, now: Time, due: &mut Vec<ConnId>) {
        if now < self.next_at {
            return;
        }
        let over = now.nanos() / TICK;
        let last = over.min(self.next + SLOTS as Tick - 1);
        for tick in self.next..=last {
            let at = slot(tick);
            if self.occupied[at / 64] & 1 << (at % 64) == 0 {
                continue;
            }
            let Self { alarms, late, .. } = self;
            self.slots[at].retain(|&(tick, conn)| {
                if tick > over {
                    return true;
                }
                let alarm = &mut alarms[conn.slot()];
                if let Some(at) = alarm.entries.iter().position(|entry| *entry == tick) {
                    alarm.entries.copy_within(at + 1.., at);
                    alarm.entries[ENTRIES - 1] = NEVER;
                }
                if alarm.due <= over {
                    alarm.due = NEVER;
                    due.push(conn);
                } else {
                    late.push(conn);
                }
                false
            });
            // Many deadlines may have met here that will not meet again.
            let left = self.slots[at].len().max(SPARE);
            if self.slots[at].capacity() > 4 * left {
                self.slots[at].shrink_to(left);
            }
            self.tidy(at);
        }
        self.next = over + 1;
        self.next_at = Time::from_nanos(self.next * TICK);
        while let Some(conn) = self.late.pop() {
            self.enter(conn);
        }
    }

    /// When there is something to do next, at the latest. May be too early, by whole laps.
    pub(super) fn next_timeout(&self) -> Option<Time> {
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
        Some(Time::from_nanos(tick * TICK))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    /// Random deadlines that are brought forward and put off come out once, never early, and no later
    /// than a turn after they are due.
    #[test]
    fn deadlines_come_out_when_they_are_due() {
        let start = Time::default();
        let mut random = fastrand::Rng::with_seed(7);
        let mut wheel = Wheel::default();
        let mut waiting: HashMap<ConnId, Time> = HashMap::new();
        let mut now = start;
        let mut over = Vec::new();
        let mut came = 0;
        for _ in 0..40_000 {
            let conn = ConnId::from_u64(random.u64(..200));
            if random.u8(..) < 240 {
                let most = random.choice([5_000, 200_000, 5_000_000]).expect("one");
                let due = now + Duration::from_micros(random.u64(0..most));
                wheel.set(conn, due);
                waiting.insert(conn, due);
            } else {
                wheel.remove(conn);
                waiting.remove(&conn);
            }
            let next = wheel.next_timeout();
            if let Some(earliest) = waiting.values().min() {
                let late = (*earliest).max(now) + Duration::from_millis(1);
                assert!(next.is_some_and(|next| next <= late));
            }
            now += Duration::from_micros(random.u64(0..3_000));
            wheel.expire(now, &mut over);
            came += over.len();
            for conn in over.drain(..) {
                assert!(waiting.remove(&conn).is_some_and(|due| due <= now), "early");
            }
            let late = |due: &Time| *due + Duration::from_millis(2) <= now;
            assert!(!waiting.values().any(late), "late");
            let entries = wheel.slots.iter().map(Vec::len).sum::<usize>();
            assert!(entries <= ENTRIES * 200, "{entries}");
        }
        assert!(came > 1000, "{came}");
    }

    /// Messages on a quiet connection do not add to what the wheel holds for it.
    #[test]
    fn what_is_put_off_stays_where_it_is() {
        let mut now = Time::default();
        let mut wheel = Wheel::default();
        let conn = ConnId::from_u64(3);
        let mut over = Vec::new();
        wheel.expire(now, &mut over);
        wheel.set(conn, now + Duration::from_secs(10));
        for _ in 0..500 {
            wheel.set(conn, now + Duration::from_millis(5));
            wheel.set(conn, now + Duration::from_secs(10));
            assert_eq!(wheel.slots.iter().map(Vec::len).sum::<usize>(), 2);
            now += Duration::from_millis(10);
            wheel.expire(now, &mut over);
            assert!(over.is_empty(), "early");
            assert_eq!(wheel.slots.iter().map(Vec::len).sum::<usize>(), 1);
        }
        wheel.expire(now + Duration::from_secs(10), &mut over);
        assert_eq!(over, [conn]);
        assert!(wheel.next_timeout().is_none(), "it is still there");
    }
}
