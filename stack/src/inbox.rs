//! The way into a reactor from other threads: a bounded queue, and a wake-up that is only rung
//! while the reactor sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use msgr_protocol::{EntityAddr, EntityType, Message, Ticket, Timestamp};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::connection::Connection;
use crate::dump::ConnectionDump;
use crate::error::BindError;

/// What other threads ask of a reactor.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Sending is the rule; boxing messages would allocate.
pub(crate) enum Command {
    Bind {
        at: EntityAddr,
        bound: SyncSender<Result<EntityAddr, BindError>>,
    },
    Connect {
        connection: Connection,
        kind: EntityType,
        target: EntityAddr,
    },
    Send {
        to: Connection,
        message: Message,
    },
    Keepalive {
        to: Connection,
        stamp: Timestamp,
    },
    SendCancellable {
        to: Connection,
        message: Message,
        ticket: Ticket,
        deadline: Option<Instant>,
    },
    Cancel {
        on: Connection,
        ticket: Ticket,
    },
    MarkDown {
        connection: Connection,
    },
    MakeDisposable {
        connection: Connection,
    },
    /// Ends one connection in good order.
    Close {
        connection: Connection,
    },
    Dump {
        to: SyncSender<Vec<ConnectionDump>>,
    },
    Shutdown,
}

/// A reactor's inbox, shared by everybody who may call it.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: ArrayQueue<Command>,
    asleep: AtomicBool,
    closed: AtomicBool,
    /// Whether there may be room in a budget that was full.
    room: AtomicBool,
    doorbell: OwnedFd,
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            commands: ArrayQueue::new(capacity),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            room: AtomicBool::new(false),
            doorbell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    /// Gives the command back when the inbox is full or closed.
    #[allow(clippy::result_large_err)] // The command is the caller's; boxing it would allocate.
    pub(crate) fn push(&self, command: Command) -> Result<(), Command> {
        if self.is_closed() {
            return Err(command);
        }
        self.commands.push(command)?;
        self.ring();
        Ok(())
    }

    /// Wakes the reactor if it sleeps.
    pub(crate) fn ring(&self) {
        // Either this sees the flag, or the reactor sees the command when it looks once more.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            // A full counter is a rung doorbell too.
            let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
        }
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Command> {
        // Looking is cheaper than a pop in vain, and most turns find nothing.
        if self.is_empty() {
            None
        } else {
            self.commands.pop()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// There may be room in a budget that was full.
    pub(crate) fn tell_room(&self) {
        self.room.store(true, Ordering::Release);
        self.ring();
    }

    pub(crate) fn take_room(&self) -> bool {
        // Looking is cheaper than a swap in vain.
        self.room.load(Ordering::Relaxed) && self.room.swap(false, Ordering::Acquire)
    }

    /// Returns whether the reactor may sleep now: nothing is waiting, and whoever pushes from here
    /// on rings the doorbell.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.is_empty() && !self.room.load(Ordering::Relaxed)
    }

    /// Ends what [`prepare_sleep`](Self::prepare_sleep) began, and silences the doorbell.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        // A doorbell that rings after this is only an early end of the next sleep.
        let _ = rustix::io::read(&self.doorbell, &mut [0; 8]);
    }

    pub(crate) fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }
}
