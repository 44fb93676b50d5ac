//! [`Watch`]: the descriptors by which a device and the connection manager ask to be looked at.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// How many descriptors one look can tell of: the manager's and those of three adapters.
const BATCH: usize = 8;

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The connection manager has an event.
    Manager,
    /// The completion channel of the adapter with this number has one.
    Completions(usize),
    /// The device of that adapter has an asynchronous one.
    Device(usize),
}

#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new() -> Result<Self, Errno> {
        epoll::create(CreateFlags::CLOEXEC).map(Self)
    }

    /// Tells of `source` whenever its descriptor is readable.
    pub(super) fn add(&self, descriptor: BorrowedFd<'_>, source: Source) -> Result<(), Errno> {
        let data = match source {
            Source::Manager => 0,
            Source::Completions(adapter) => 1 + 2 * adapter as u64,
            Source::Device(adapter) => 2 + 2 * adapter as u64,
        };
        epoll::add(
            &self.0,
            descriptor,
            EventData::new_u64(data),
            EventFlags::IN,
        )
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
            let adapter = data.saturating_sub(1) as usize / 2;
            tell(match data {
                0 => Source::Manager,
                odd if odd % 2 == 1 => Source::Completions(adapter),
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
