//! Busy polling: while one connection is all that is going on, reading it unasked finds its next
//! bytes sooner than asking epoll first, and what epoll does not watch costs its wake-up call
//! less. On loopback this makes 16 % of a small round trip.

use crate::ConnId;

/// So many receptions in a row by the same connection mean that it is all that is going on.
const IN_A_ROW: u32 = 64;
/// How many reads in vain it may cost until epoll watches the connection again: some 50 us.
const PATIENCE: u32 = 256;
/// One in so many polls asks epoll nevertheless, for everything else's sake.
const ASK_EVERY: u32 = 32;

/// Watches who receives, and suggests whom to poll.
#[derive(Debug, Default)]
pub(super) struct BusyPoll {
    last: Option<ConnId>,
    in_a_row: u32,
    patience: u32,
    polls: u32,
}

impl BusyPoll {
    /// Notes that `conn` has received.
    pub(super) fn received(&mut self, conn: ConnId) {
        if self.last != Some(conn) {
            self.last = Some(conn);
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.patience = PATIENCE;
    }

    /// The connection worth polling, if there is one.
    pub(super) fn suggestion(&self) -> Option<ConnId> {
        let worthwhile = self.in_a_row >= IN_A_ROW && self.patience > 0;
        self.last.filter(|_| worthwhile)
    }

    /// Whether this poll may do without epoll.
    pub(super) fn may_skip_epoll(&mut self) -> bool {
        self.patience = self.patience.saturating_sub(1);
        self.polls = self.polls.wrapping_add(1);
        !self.polls.is_multiple_of(ASK_EVERY)
    }

    /// Begins to count anew.
    pub(super) fn forget(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_alone_is_suggested() {
        let (one, other) = (ConnId::from_u64(1), ConnId::from_u64(2));
        let mut busy = BusyPoll::default();
        for _ in 0..1000 {
            busy.received(one);
            busy.received(other);
        }
        assert_eq!(busy.suggestion(), None);
        for _ in 0..IN_A_ROW {
            busy.received(one);
        }
        assert_eq!(busy.suggestion(), Some(one));
        busy.received(other);
        assert_eq!(busy.suggestion(), None);
    }

    #[test]
    fn epoll_is_asked_again_and_again_and_in_the_end_always() {
        let one = ConnId::from_u64(1);
        let mut busy = BusyPoll::default();
        for _ in 0..IN_A_ROW {
            busy.received(one);
        }
        let mut skipped = 0;
        let mut asked = 0;
        while busy.suggestion().is_some() {
            if busy.may_skip_epoll() {
                skipped += 1;
            } else {
                asked += 1;
            }
        }
        assert_eq!(skipped + asked, PATIENCE);
        assert_eq!(asked, PATIENCE / ASK_EVERY);
        busy.received(one);
        assert_eq!(busy.suggestion(), Some(one), "until it is forgotten");
        busy.forget();
        assert_eq!(busy.suggestion(), None);
    }
}
