//! [`Budget`]: how much memory received messages may hold, and who waits for room.
//!
//! A connection takes room for a message before it receives it and gives it back when the
//! application drops the message. Only who has to wait takes a lock.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crate::inbox::Inbox;

/// A limit in bytes that several connections share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    contended: AtomicBool,
    waiting: Mutex<Vec<Arc<Inbox>>>,
}

impl Budget {
    /// `None` if there is no limit.
    pub(crate) fn new(limit: usize) -> Option<Arc<Self>> {
        (limit < usize::MAX).then(|| {
            Arc::new(Self {
                limit,
                used: AtomicUsize::new(0),
                contended: AtomicBool::new(false),
                waiting: Mutex::default(),
            })
        })
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, len: usize) {
        self.used.fetch_add(len, Ordering::Relaxed);
    }

    fn try_take(&self, len: usize) -> bool {
        let more = |used: usize| used.checked_add(len).filter(|used| *used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn put_back(&self, len: usize) {
        self.used.fetch_sub(len, Ordering::Relaxed);
    }

    /// Either this sees that somebody waits, or whoever waits sees the room when it looks again:
    /// the three accesses here and in [`Charge::drop`] are sequentially consistent and in this
    /// order, and so is the fence in [`wait`](Self::wait), between its store and that look. (On x86
    /// a read-modify-write is a barrier anyway, another one would be a second.)
    fn give_back(&self, len: usize) {
        self.used.fetch_sub(len, Ordering::SeqCst);
        if self.contended.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wait(&self, inbox: &Arc<Inbox>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|there| Arc::ptr_eq(there, inbox)) {
            waiting.push(Arc::clone(inbox));
        }
        self.contended.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn wake(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.contended.store(false, Ordering::Relaxed);
        for inbox in mem::take(&mut *waiting) {
            inbox.tell_room();
        }
    }
}

/// One connection's share of the budgets that apply to it.
#[derive(Debug)]
pub(crate) struct Account {
    budgets: Vec<Arc<Budget>>,
    /// How many of the connection's messages the application holds.
    held: AtomicUsize,
}

impl Account {
    /// `None` if no budget applies.
    pub(crate) fn new(budgets: Vec<Arc<Budget>>) -> Option<Arc<Self>> {
        (!budgets.is_empty()).then(|| {
            Arc::new(Self {
                budgets,
                held: AtomicUsize::new(0),
            })
        })
    }

    /// Takes room for a message of `len` bytes. If there is none, `inbox` is told when there may be.
    pub(crate) fn charge(self: &Arc<Self>, len: usize, inbox: &Arc<Inbox>) -> Option<Charge> {
        if let Some(charge) = self.try_charge(len) {
            return Some(charge);
        }
        self.budgets.iter().for_each(|budget| budget.wait(inbox));
        self.try_charge(len)
    }

    /// The same in place of `charge`, which stays as it is if there is no room. Returns whether there
    /// is.
    pub(crate) fn charge_instead(
        self: &Arc<Self>,
        charge: &mut Option<Charge>,
        len: usize,
        inbox: &Arc<Inbox>,
    ) -> bool {
        let Some(charge) = charge else {
            *charge = self.charge(len, inbox);
            return charge.is_some();
        };
        charge.resize(len) || {
            self.budgets.iter().for_each(|budget| budget.wait(inbox));
            charge.resize(len)
        }
    }

    fn try_charge(self: &Arc<Self>, len: usize) -> Option<Charge> {
        self.try_take(len, 0).then(|| {
            self.held.fetch_add(1, Ordering::Relaxed);
            Charge {
                account: Arc::clone(self),
                len,
            }
        })
    }

    /// Takes room for a message, which itself is `own` of the connection's.
    fn try_take(&self, len: usize, own: usize) -> bool {
        if self.held.load(Ordering::Relaxed) == own {
            // However little room there is: who waits for this message may be who has to go on.
            self.budgets.iter().for_each(|budget| budget.take(len));
            return true;
        }
        for (taken, budget) in self.budgets.iter().enumerate() {
            if !budget.try_take(len) {
                // Nobody is told of this room: whoever waits holds messages, and hears of those.
                for budget in &self.budgets[..taken] {
                    budget.put_back(len);
                }
                return false;
            }
        }
        true
    }
}

/// The room that one message takes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    len: usize,
}

impl Charge {
    /// Changes it to `len` bytes; returns whether there is room for them.
    fn resize(&mut self, len: usize) -> bool {
        if len > self.len {
            if !self.account.try_take(len - self.len, 1) {
                return false;
            }
        } else {
            for budget in &self.account.budgets {
                budget.give_back(self.len - len);
            }
        }
        self.len = len;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.held.fetch_sub(1, Ordering::SeqCst);
        for budget in &self.account.budgets {
            budget.give_back(self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(budgets: &[&Arc<Budget>]) -> Arc<Account> {
        Account::new(budgets.iter().map(|budget| Arc::clone(budget)).collect()).unwrap()
    }

    #[test]
    fn room_is_taken_until_the_charge_is_dropped() {
        let (inbox, budget) = (Inbox::new(1).unwrap(), Budget::new(100).unwrap());
        let account = account(&[&budget]);
        let first = account.charge(60, &inbox).unwrap();
        assert!(account.charge(41, &inbox).is_none());
        let second = account.charge(40, &inbox).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_holds_nothing_always_gets_one() {
        let (inbox, budget) = (Inbox::new(1).unwrap(), Budget::new(100).unwrap());
        let (one, other) = (account(&[&budget]), account(&[&budget]));
        let huge = one.charge(1000, &inbox).unwrap();
        let small = other.charge(1, &inbox).unwrap();
        assert!(other.charge(1, &inbox).is_none());
        drop(small);
        assert!(other.charge(1, &inbox).is_some());
        drop(huge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_refusal_of_one_budget_takes_nothing_from_the_others() {
        let (wide, narrow) = (Budget::new(1000).unwrap(), Budget::new(10).unwrap());
        let inbox = Inbox::new(1).unwrap();
        let account = account(&[&wide, &narrow]);
        let _first = account.charge(10, &inbox).unwrap();
        assert!(account.charge(10, &inbox).is_none());
        assert_eq!((wide.used(), narrow.used()), (10, 10));
    }

    #[test]
    fn a_message_may_turn_out_larger_or_smaller() {
        let (inbox, budget) = (Inbox::new(1).unwrap(), Budget::new(100).unwrap());
        let account = account(&[&budget]);
        let mut charge = None;
        for (len, used) in [(50, 50), (20, 20), (1000, 1000), (60, 60)] {
            assert!(account.charge_instead(&mut charge, len, &inbox));
            assert_eq!(budget.used(), used, "alone, it always fits");
        }
        let other = account.charge(30, &inbox).unwrap();
        assert!(account.charge_instead(&mut charge, 70, &inbox));
        assert!(!account.charge_instead(&mut charge, 71, &inbox));
        assert_eq!(budget.used(), 100, "what it has is kept");
        assert!(!inbox.take_room());
        drop(other);
        assert!(inbox.take_room());
        assert!(account.charge_instead(&mut charge, 71, &inbox));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn whoever_waits_is_told_of_room_once() {
        let (inbox, budget) = (Inbox::new(1).unwrap(), Budget::new(100).unwrap());
        let account = account(&[&budget]);
        let charge = account.charge(100, &inbox).unwrap();
        assert!(account.charge(1, &inbox).is_none());
        assert!(!inbox.take_room());
        drop(charge);
        assert!(inbox.take_room());
        assert!(!inbox.take_room());
    }
}
