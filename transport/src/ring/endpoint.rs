//! [`Endpoint`]: what others may touch of a [`Ring`](super::Ring), to get its attention.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use crate::ConnId;

/// So many doorbells may ring between two polls before the endpoint has to look everywhere.
const DOORBELLS: usize = 1024;

/// Where the doorbells of one [`Ring`](super::Ring)'s connections and listeners ring.
///
/// Whoever rings first makes visible what it is about, and looks last whether somebody sleeps; the
/// owner first says that it will sleep, and looks last whether something is to be seen. With a
/// sequentially consistent fence between the two steps on each side, one of them sees the other.
#[derive(Debug)]
pub(super) struct Endpoint {
    doorbells: ArrayQueue<ConnId>,
    /// Whether a doorbell found no place in the queue.
    missed: AtomicBool,
    /// Whether a connection waits to be accepted.
    knocked: AtomicBool,
    /// Whether the owner sleeps on `wake`. Whoever clears it owes the owner one write.
    parked: AtomicBool,
    wake: OwnedFd,
}

impl Endpoint {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            doorbells: ArrayQueue::new(DOORBELLS),
            missed: AtomicBool::new(false),
            knocked: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    /// Asks the owner to look at its connection `conn`. Returns whether that took a system call.
    pub(super) fn ring(&self, conn: ConnId) -> bool {
        if self.doorbells.push(conn).is_err() {
            self.missed.store(true, Ordering::Release);
        }
        self.wake()
    }

    /// Asks the owner to accept. Returns whether that took a system call.
    pub(super) fn knock(&self) -> bool {
        self.knocked.store(true, Ordering::Release);
        self.wake()
    }

    fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        let asleep =
            self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel);
        if asleep {
            // It fails only if the counter is full, and then the owner is awake.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
        asleep
    }

    /// The next connection that is to be looked at.
    pub(super) fn next_doorbell(&self) -> Option<ConnId> {
        // An empty queue is recognised by two loads; an attempt to pop costs a fence.
        if self.doorbells.is_empty() {
            None
        } else {
            self.doorbells.pop()
        }
    }

    /// Whether some doorbells were lost, so that all connections are to be looked at.
    pub(super) fn missed_doorbells(&self) -> bool {
        self.missed.load(Ordering::Relaxed) && self.missed.swap(false, Ordering::AcqRel)
    }

    /// Whether somebody knocked since the last call.
    pub(super) fn was_knocked(&self) -> bool {
        self.knocked.load(Ordering::Relaxed) && self.knocked.swap(false, Ordering::AcqRel)
    }

    /// Says that the owner will sleep, unless what it looks at after this call keeps it awake.
    pub(super) fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether there is something to be seen for the owner.
    pub(super) fn is_wanted(&self) -> bool {
        !self.doorbells.is_empty()
            || self.missed.load(Ordering::Relaxed)
            || self.knocked.load(Ordering::Relaxed)
    }

    /// Says that the owner is awake. Returns whether somebody has written, or is about to.
    pub(super) fn unpark(&self) -> bool {
        !self.parked.swap(false, Ordering::AcqRel)
    }

    /// How many have written since the last call.
    pub(super) fn take_wakes(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.wake, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// What becomes readable when somebody writes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
