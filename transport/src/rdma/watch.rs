//! [`Watch`]: the descriptors by which a device and the connection manager ask to be looked at.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::{ConnId, ListenerId};

/// How many descriptors one look can tell of.
const BATCH: usize = 32;
/// Marks a listener, and what is neither a listener nor a connection: there are never 2^30 slots.
const PORT: u64 = 1 << 31;
const OURS: u64 = 1 << 30;

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The connection manager has an event.
    Manager,
    /// The completion channel of the adapter with this number has one.
    Completions(usize),
    /// The device of that adapter has an asynchronous one.
    Device(usize),
    /// Connections have come to this listener, or another of the same port has something for it.
    Port(ListenerId),
    /// Something has happened to the side channel of this connection.
    Channel(ConnId),
}

#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Tells of `source` whenever its descriptor is readable; of a side channel at every change.
    pub(super) fn add(&self, descriptor: BorrowedFd<'_>, source: Source) -> Result<(), Errno> {
        let data = match source {
            Source::Manager => OURS,
            Source::Completions(adapter) => OURS | (1 + 2 * adapter as u64) << 32,
            Source::Device(adapter) => OURS | (2 + 2 * adapter as u64) << 32,
            Source::Port(listener) => PORT | listener.to_u64(),
            Source::Channel(conn) => conn.to_u64(),
        };
        let flags = match source {
            Source::Channel(_) => {
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
            }
            _ => EventFlags::IN,
        };
        epoll::add(&self.0, descriptor, EventData::new_u64(data), flags)
    }

    /// Tells of a descriptor no more.
    pub(super) fn remove(&self, descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::delete(&self.0, descriptor)
    }

    /// Asks once, without waiting.
    pub(super) fn look(&self, mut tell: impl FnMut(Source)) {
        let mut events = [MaybeUninit::uninit(); BATCH];
        let not_at_all = Timespec::default();
        // The only possible error is an interruption by a signal: the next look sees it all.
        let Ok((events, _)) = epoll::wait(&self.0, &mut events, Some(&not_at_all)) else {
            return;
        };
        for event in &*events {
            let data = event.data.u64();
            let number = data >> 32;
            let adapter = number.saturating_sub(1) as usize / 2;
            tell(match (data & PORT, data & OURS, number) {
                (PORT, ..) => Source::Port(ListenerId::from_u64(data & !PORT)),
                (_, 0, _) => Source::Channel(ConnId::from_u64(data)),
                (_, _, 0) => Source::Manager,
                (_, _, odd) if odd % 2 == 1 => Source::Completions(adapter),
                _ => Source::Device(adapter),
            });
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
