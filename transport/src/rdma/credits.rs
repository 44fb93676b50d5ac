//! Who may send how much: [`Grants`] shares a device's posted receives among its connections, and a
//! [`Grant`] is one connection's part of them. Nothing here posts or sends anything.
//!
//! A peer holds credits, each for one send, which takes one posted receive. When that has been
//! handed up and another is posted in its place, the credit is owed, and goes back with the next
//! send, or with one made for it. Such a send takes a credit itself; so that there always is one,
//! the last is kept for that, and returning needs at least two that are owed. It follows that of
//! two ends that wait for each other, one has the credit to end it.
//!
//! That an offer was read is told beside all this: who offers keeps a receive for it.
//!
//! A peer of Ceph's knows no credits. What would be granted to it is posted to its queue pair alone,
//! and whatever it sends beyond that waits at its own device.

/// The fewest receives a connection works with: two may be under way while two come back.
pub(super) const LEAST: u32 = 4;
/// The last credit is for giving back credits, and for the end.
pub(super) const RESERVE: u32 = 1;

/// The receives that are posted, and how many of them are granted.
#[derive(Debug)]
pub(super) struct Grants {
    posted: u32,
    granted: u32,
    /// The most that one connection is granted.
    most: u32,
}

/// A peer has sent more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overrun;

impl Grants {
    pub(super) fn new(posted: u32, most: u32) -> Self {
        Self {
            posted,
            granted: 0,
            most: most.clamp(LEAST, u32::from(u16::MAX)),
        }
    }

    /// What a new connection gets, if there is any left.
    pub(super) fn open(&mut self) -> Option<Grant> {
        if self.free() < LEAST {
            return None;
        }
        self.granted += LEAST;
        Some(Grant {
            share: LEAST,
            outstanding: LEAST,
            owed: 0,
        })
    }

    /// Takes back what a connection had, when nothing more can arrive on it.
    pub(super) fn close(&mut self, grant: &Grant) {
        self.granted -= grant.share;
    }

    /// Keeps a receive for the word that an offer was read, if one is left.
    pub(super) fn promise(&mut self) -> bool {
        let possible = self.free() > 0;
        self.granted += u32::from(possible);
        possible
    }

    /// So many offers were read, or will not be.
    pub(super) fn fulfil(&mut self, offers: usize) {
        self.granted -= offers as u32;
    }

    /// The most that one connection is granted.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    fn free(&self) -> u32 {
        self.posted - self.granted
    }
}

/// One connection's share of the posted receives.
#[derive(Debug)]
pub(super) struct Grant {
    /// All of it.
    share: u32,
    /// What the peer has not used, as far as we know.
    outstanding: u32,
    /// What is posted again and not given back to the peer yet.
    owed: u32,
}

impl Grant {
    /// What a new connection's peer begins with.
    pub(super) fn initial(&self) -> u16 {
        self.outstanding as u16
    }

    /// The peer has used a credit.
    pub(super) fn use_one(&mut self) -> Result<(), Overrun> {
        self.outstanding = self.outstanding.checked_sub(1).ok_or(Overrun)?;
        Ok(())
    }

    /// A receive is posted in the place of one that was used.
    pub(super) fn replace_one(&mut self) {
        self.owed += 1;
    }

    /// Whether so much is owed that it is worth a send of its own.
    pub(super) fn is_due(&self) -> bool {
        self.owed >= self.share / 2
    }

    /// What to give back now. A share that is used up quickly grows as long as a quarter of all
    /// receives stays free for others, and shrinks when there is little left.
    pub(super) fn give_back(&mut self, grants: &mut Grants) -> u16 {
        let free = grants.free();
        if self.is_due() && free > grants.posted / 4 {
            let room = grants.most.saturating_sub(self.share);
            let more = self.share.min(room).min(free - grants.posted / 4);
            self.share += more;
            self.owed += more;
            grants.granted += more;
        } else if free < grants.posted / 8 {
            let less = self.owed.min(self.share - LEAST);
            self.share -= less;
            self.owed -= less;
            grants.granted -= less;
        }
        let back = std::mem::take(&mut self.owed);
        self.outstanding += back;
        back as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_grants_together_never_exceed_what_is_posted() {
        let mut grants = Grants::new(64, 32);
        let mut open: Vec<Grant> = Vec::new();
        while let Some(grant) = grants.open() {
            open.push(grant);
            // Each is as busy as it may be.
            for grant in &mut open {
                while grant.use_one().is_ok() {
                    grant.replace_one();
                }
                assert!(grant.give_back(&mut grants) > 0);
            }
            let granted: u32 = open.iter().map(|grant| grant.share).sum();
            assert_eq!(granted, grants.granted);
            assert!(granted <= 64);
        }
        assert!(open.len() >= 4, "the first does not take everything");
        for grant in &open {
            grants.close(grant);
        }
        assert_eq!(grants.granted, 0);
    }

    #[test]
    fn a_busy_share_grows_and_gives_way_again() {
        let mut grants = Grants::new(256, 64);
        let mut busy = grants.open().expect("the first");
        for expected in [8, 16, 32, 64, 64] {
            while busy.use_one().is_ok() {
                busy.replace_one();
            }
            busy.give_back(&mut grants);
            assert_eq!(busy.share, expected);
        }
        let others: Vec<_> = std::iter::from_fn(|| grants.open()).collect();
        assert_eq!(others.len() as u32, (256 - 64) / LEAST);
        while busy.use_one().is_ok() {
            busy.replace_one();
        }
        assert_eq!(busy.give_back(&mut grants), LEAST as u16);
        assert_eq!(busy.share, LEAST);
    }

    #[test]
    fn a_peer_that_sends_more_than_it_may_is_noticed() {
        let mut grants = Grants::new(8, 8);
        let mut grant = grants.open().expect("the first");
        for _ in 0..grant.initial() {
            assert_eq!(grant.use_one(), Ok(()));
        }
        assert_eq!(grant.use_one(), Err(Overrun));
    }

    /// Two ends that only return credits to each other come to rest.
    #[test]
    fn returning_credits_comes_to_an_end() {
        let mut grants = Grants::new(8, LEAST);
        let mut ends = [(); 2].map(|()| (grants.open().expect("room"), LEAST));
        // One has used all but the reserve, and everything is posted again.
        for _ in 0..LEAST - RESERVE {
            ends[0].0.use_one().expect("granted");
            ends[0].0.replace_one();
            ends[1].1 -= 1;
        }
        let (mut at, mut sends) = (0, 0);
        for _ in 0..2 {
            while ends[at].0.is_due() {
                assert!(ends[at].1 >= 1, "the credit to return credits is there");
                ends[at].1 -= 1;
                let back = ends[at].0.give_back(&mut grants);
                let other = 1 - at;
                ends[other].1 += u32::from(back);
                ends[other].0.use_one().expect("granted");
                ends[other].0.replace_one();
                at = other;
                sends += 1;
                assert!(sends < 10, "for ever");
            }
            at = 1 - at;
        }
        assert!(ends.iter().all(|(_, credits)| *credits > RESERVE));
    }
}
