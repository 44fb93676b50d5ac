//! The epoll instance: who is watched, and what the kernel has to say.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::{ConnId, ListenerId};

/// How many events one system call may bring.
const BATCH: usize = 64;
/// The timeout of an `epoll_wait` that only looks.
const NOT_AT_ALL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// Marks a listener in the kernel's copy of an id: there are never 2^31 slots.
const LISTENER: u64 = 1 << 31;

#[derive(Debug)]
pub(super) struct Epoll(OwnedFd);

/// What has changed since it was last told.
pub(super) enum Change {
    /// A connection is readable, writable, or near its end.
    Connection(ConnId, EventFlags),
    /// Connections wait to be accepted.
    Listener(ListenerId),
}

impl Epoll {
    pub(super) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Reports every change of a connection from now on, and what is the case already.
    pub(super) fn watch(&self, socket: &OwnedFd, id: ConnId) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.0, socket, EventData::new_u64(id.to_u64()), flags)
    }

    /// Reports when connections arrive at a listener.
    pub(super) fn watch_listener(&self, socket: &OwnedFd, id: ListenerId) -> Result<(), Errno> {
        let data = EventData::new_u64(id.to_u64() | LISTENER);
        epoll::add(&self.0, socket, data, EventFlags::IN | EventFlags::ET)
    }

    /// Reports nothing of a connection any more. Closing its socket has the same effect.
    pub(super) fn unwatch(&self, socket: &OwnedFd) -> Result<(), Errno> {
        epoll::delete(&self.0, socket)
    }

    /// Asks once, without waiting.
    pub(super) fn look(&self, mut tell: impl FnMut(Change)) {
        let mut events = [MaybeUninit::uninit(); BATCH];
        // The only possible error is an interruption by a signal: the next look sees it all.
        let Ok((events, _)) = epoll::wait(&self.0, &mut events, Some(&NOT_AT_ALL)) else {
            return;
        };
        for event in &*events {
            let (data, flags) = (event.data.u64(), event.flags);
            tell(if data & LISTENER == 0 {
                Change::Connection(ConnId::from_u64(data), flags)
            } else {
                Change::Listener(ListenerId::from_u64(data & !LISTENER))
            });
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
