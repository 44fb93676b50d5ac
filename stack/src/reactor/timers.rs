//! Deadlines of connections. A connection has one; ending it does not remove it, its id then
//! names nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::connection::ConnectionId;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, id: ConnectionId) {
        self.heap.push(Reverse((at, id)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn expired(&mut self, now: Instant) -> Option<ConnectionId> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, id))| id)
    }
}
