//! [`Connection`]: a handle to a connection, for any thread.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use msgr_protocol::{ApiMisuse, EntityAddr, Message, Peer, Ticket, Timestamp};
use msgr_transport::SlotId;

use crate::inbox::{Command, Inbox};
use crate::messenger::push;

/// Names a connection within its reactor; never reused for another.
pub type ConnectionId = SlotId<Connection>;

/// A handle to a connection. Clones name the same connection; dropping them all does not end it.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: Arc<Inbox>,
    target: Option<EntityAddr>,
    /// The address under which the messenger finds the connection, if it does.
    key: OnceLock<EntityAddr>,
    /// The most bytes that unsent messages may hold before more are refused.
    backlog: usize,
    id: OnceLock<ConnectionId>,
    peer: Mutex<Option<Arc<Peer>>>,
    /// Seconds and nanoseconds; 0 for never.
    keepalive_ack: AtomicU64,
    last_ticket: Arc<AtomicU64>,
    stage: AtomicU8,
    /// Bytes that unsent messages hold, as of the reactor's last turn that sent something.
    queued: AtomicUsize,
}

const OPENING: u8 = 0;
const READY: u8 = 1;
const ENDING: u8 = 2;
const CLOSED: u8 = 3;

pub(crate) fn next_ticket(last: &AtomicU64) -> Ticket {
    let number = last.fetch_add(1, Ordering::Relaxed) + 1;
    Ticket::new(number).expect("there are fewer than 2^64 messages")
}

/// A message was not queued; it comes back.
#[derive(thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// The message, unchanged.
    pub message: Message,
    /// Why.
    pub reason: SendRefusal,
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({:?})", self.reason)
    }
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendRefusal {
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
    /// Too many calls wait for the reactor: try again later.
    #[error("the messenger is busy")]
    Busy,
    /// The peer does not take messages as fast as they are sent: try again later. The limit is
    /// [`Settings::send_backlog`](crate::Settings::send_backlog).
    #[error("{queued} bytes wait to be sent to a peer that is slower")]
    Backlog {
        /// What unsent messages hold.
        queued: usize,
    },
    /// The message can never be sent.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
}

impl Connection {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        target: Option<EntityAddr>,
        backlog: usize,
        last_ticket: Arc<AtomicU64>,
    ) -> Self {
        let shared = Shared {
            inbox,
            target,
            key: OnceLock::new(),
            backlog,
            id: OnceLock::new(),
            peer: Mutex::new(None),
            keepalive_ack: AtomicU64::new(0),
            last_ticket,
            stage: AtomicU8::new(OPENING),
            queued: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues a message. Success means queued, not delivered: a lossy connection that breaks loses
    /// what is on its way.
    ///
    /// # Errors
    /// The message comes back when the connection is closed, the reactor's inbox is full, or too
    /// much waits to be sent already.
    #[allow(clippy::result_large_err)] // It carries the message back; boxing it would allocate.
    pub fn send(&self, message: Message) -> Result<(), SendError> {
        let to = self.clone();
        self.push_message(message, |message| Command::Send { to, message })
    }

    /// Queues a message that [`cancel`](Self::cancel) can take back, and that is taken back if it has
    /// not left before `deadline`. One that is partly on the wire is taken back by an aborted frame,
    /// which Ceph's daemons understand and Linux kernel clients do not: they hang up.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    #[allow(clippy::result_large_err)]
    pub fn send_cancellable(
        &self,
        message: Message,
        deadline: Option<Instant>,
    ) -> Result<Ticket, SendError> {
        let ticket = next_ticket(&self.shared.last_ticket);
        let to = self.clone();
        self.push_message(message, |message| Command::SendCancellable {
            to,
            message,
            ticket,
            deadline,
        })?;
        Ok(ticket)
    }

    #[allow(clippy::result_large_err)]
    fn push_message(
        &self,
        message: Message,
        command: impl FnOnce(Message) -> Command,
    ) -> Result<(), SendError> {
        let queued = self.shared.queued.load(Ordering::Relaxed);
        if self.is_ending() || queued > self.shared.backlog {
            let reason = if self.is_ending() {
                SendRefusal::Closed
            } else {
                SendRefusal::Backlog { queued }
            };
            return Err(SendError { message, reason });
        }
        match self.shared.inbox.push(command(message)) {
            Ok(()) => Ok(()),
            Err(Command::Send { message, .. } | Command::SendCancellable { message, .. }) => {
                let closed = self.shared.inbox.is_closed();
                let reason = if closed {
                    SendRefusal::Closed
                } else {
                    SendRefusal::Busy
                };
                Err(SendError { message, reason })
            }
            Err(_) => unreachable!("an inbox gives back what it was given"),
        }
    }

    /// Takes a message back if it has not left yet. [`Dispatcher::cancelled`] tells if so.
    ///
    /// [`Dispatcher::cancelled`]: crate::Dispatcher::cancelled
    pub fn cancel(&self, ticket: Ticket) {
        let on = self.clone();
        self.command(Command::Cancel { on, ticket });
    }

    /// Asks the peer for a sign of life; it echoes `stamp`. Returns whether the call was taken.
    pub fn keepalive(&self, stamp: Timestamp) -> bool {
        let command = Command::Keepalive {
            to: self.clone(),
            stamp,
        };
        !self.is_closed() && self.shared.inbox.push(command).is_ok()
    }

    /// Ends the connection now; what is queued is dropped and the dispatcher is not told.
    pub fn mark_down(&self) {
        let connection = self.clone();
        self.command(Command::MarkDown { connection });
    }

    /// Lets the session go with its next fault, without a reset.
    pub fn mark_disposable(&self) {
        let connection = self.clone();
        self.command(Command::MakeDisposable { connection });
    }

    /// Ends the connection in good order: nothing more can be sent, what is queued still is, and on
    /// a lossless session acknowledged, or until [`Timeouts::shutdown`](crate::Timeouts::shutdown).
    /// A reset tells the end.
    pub fn shutdown(&self) {
        let _ = self
            .shared
            .stage
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |stage| {
                (stage != CLOSED).then_some(ENDING)
            });
        let connection = self.clone();
        self.command(Command::Close { connection });
    }

    fn command(&self, command: Command) {
        // Closed already: it is going down anyway.
        let _ = push(&self.shared.inbox, command);
    }

    /// The stamp of the last keepalive that the peer answered.
    pub fn last_keepalive_ack(&self) -> Option<Timestamp> {
        let stamp = self.shared.keepalive_ack.load(Ordering::Relaxed);
        (stamp != 0).then_some(Timestamp {
            sec: (stamp >> 32) as u32,
            nsec: stamp as u32,
        })
    }

    /// The address that was dialled; `None` for a connection that the peer opened.
    pub fn target(&self) -> Option<EntityAddr> {
        self.shared.target
    }

    /// The peer, once the connection was ready; always `None` for a connection to ourselves.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.lock_peer().clone()
    }

    fn lock_peer(&self) -> MutexGuard<'_, Option<Arc<Peer>>> {
        let peer = &self.shared.peer;
        peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.shared.stage.load(Ordering::Acquire) == READY
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.stage.load(Ordering::Acquire) == CLOSED
    }

    fn is_ending(&self) -> bool {
        matches!(self.shared.stage.load(Ordering::Acquire), ENDING | CLOSED)
    }

    /// Whether both handles name the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(crate) fn id(&self) -> Option<ConnectionId> {
        self.shared.id.get().copied()
    }

    pub(crate) fn set_id(&self, id: ConnectionId) {
        self.shared
            .id
            .set(id)
            .expect("a connection enters its reactor once");
    }

    /// There is no peer behind a connection to ourselves.
    pub(crate) fn set_ready(&self, peer: Option<Peer>) {
        if let Some(peer) = peer {
            *self.lock_peer() = Some(Arc::new(peer));
        }
        self.change_stage(OPENING, READY);
    }

    /// The session has no stream for now.
    pub(crate) fn set_interrupted(&self) {
        self.change_stage(READY, OPENING);
    }

    fn change_stage(&self, from: u8, to: u8) {
        // Otherwise it is on its way to the end, which no change may hide.
        let stage = &self.shared.stage;
        let _ = stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn set_keepalive_ack(&self, stamp: Timestamp) {
        let stamp = u64::from(stamp.sec) << 32 | u64::from(stamp.nsec);
        self.shared.keepalive_ack.store(stamp, Ordering::Relaxed);
    }

    pub(crate) fn key(&self) -> Option<EntityAddr> {
        self.shared.key.get().copied()
    }

    /// Returns whether the messenger now finds the connection under this address, and no other.
    pub(crate) fn set_key(&self, key: EntityAddr) -> bool {
        self.shared.key.set(key).is_ok() || self.key() == Some(key)
    }

    pub(crate) fn set_queued(&self, queued: usize) {
        self.shared.queued.store(queued, Ordering::Relaxed);
    }

    pub(crate) fn set_closed(&self) {
        self.shared.stage.store(CLOSED, Ordering::Release);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.peer(), self.target()) {
            (Some(peer), _) => write!(f, "Connection({peer})"),
            (None, Some(target)) => write!(f, "Connection(to {target})"),
            (None, None) => f.write_str("Connection(being accepted)"),
        }
    }
}
