//! [`Doorbell`]: wakes the one owner of a queue that others, on any threads, put something into.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
/// Somebody has written to the descriptor, or is about to.
const RUNG: u8 = 2;

/// Whoever puts something in rings afterwards; the owner first [parks](Self::park) and then looks
/// once more whether there is something. With a sequentially consistent fence between the two steps
/// on each side, one of them sees the other.
#[derive(Debug)]
pub(super) struct Doorbell {
    state: AtomicU8,
    /// Writes to the descriptor that are known of and not yet read. Only the owner's.
    owed: AtomicU64,
    /// There is none if the process has run out of descriptors.
    wake: Option<OwnedFd>,
}

impl Doorbell {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU8::new(AWAKE),
            owed: AtomicU64::new(0),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).ok(),
        }
    }

    /// Wakes the owner, if it sleeps. Returns whether that took a system call.
    pub(super) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let is_asleep = self.state.load(Ordering::Relaxed) == ASLEEP;
        let Some(wake) = self.wake.as_ref().filter(|_| is_asleep) else {
            return false;
        };
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let first = self
            .state
            .compare_exchange(ASLEEP, RUNG, success, failure)
            .is_ok();
        if first {
            // It fails only if the counter is full, and then the owner is awake.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
        first
    }

    /// Says that the owner will sleep, unless what it looks at after this call keeps it awake.
    pub(super) fn park(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the owner is awake. Returns whether that took a system call.
    pub(super) fn unpark(&self) -> bool {
        if self.state.load(Ordering::Relaxed) == AWAKE {
            return false;
        }
        let mut owed = self.owed.load(Ordering::Relaxed);
        owed += u64::from(self.state.swap(AWAKE, Ordering::AcqRel) == RUNG);
        if owed > 0 {
            // Who has rung may not have written yet; then it is read another time.
            self.owed
                .store(owed.saturating_sub(self.take()), Ordering::Relaxed);
        }
        owed > 0
    }

    /// How many have written since the last call.
    fn take(&self) -> u64 {
        let mut count = [0; 8];
        match &self.wake {
            Some(wake) if rustix::io::read(wake, &mut count).is_ok() => u64::from_ne_bytes(count),
            _ => 0,
        }
    }

    /// What becomes readable when somebody rings.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(AsFd::as_fd)
    }
}
