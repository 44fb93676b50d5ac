//! Deadlines of connections, one for each at most.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::connection::ConnectionId;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: BTreeSet<(Instant, ConnectionId)>,
    /// The first of them, which is asked for all the time.
    next: Option<Instant>,
}

impl Timers {
    /// Moves the deadline of `id` from `old` to `new`; `old` is the caller's to keep.
    pub(crate) fn reset(
        &mut self,
        id: ConnectionId,
        old: &mut Option<Instant>,
        new: Option<Instant>,
    ) {
        if let Some(at) = old.take() {
            self.deadlines.remove(&(at, id));
        }
        if let Some(at) = new {
            self.deadlines.insert((at, id));
        }
        *old = new;
        self.look_ahead();
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    fn look_ahead(&mut self) {
        self.next = self.deadlines.first().map(|(at, _)| *at);
    }

    /// A connection whose deadline has come. It has none afterwards.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<ConnectionId> {
        if self.next()? > now {
            return None;
        }
        let expired = self.deadlines.pop_first();
        self.look_ahead();
        expired.map(|(_, id)| id)
    }
}
