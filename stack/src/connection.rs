//! [`Connection`]: a handle to a connection, for any thread.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use msgr_protocol::{ApiMisuse, EntityAddr, Message, Peer, Timestamp};
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
    /// The most bytes that unsent messages may hold before more are refused.
    backlog: usize,
    id: OnceLock<ConnectionId>,
    peer: OnceLock<Peer>,
    stage: AtomicU8,
    /// Bytes that unsent messages hold, as of the reactor's last turn that sent something.
    queued: AtomicUsize,
}

const OPENING: u8 = 0;
const READY: u8 = 1;
const CLOSED: u8 = 2;

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
    pub(crate) fn new(inbox: Arc<Inbox>, target: Option<EntityAddr>, backlog: usize) -> Self {
        let shared = Shared {
            inbox,
            target,
            backlog,
            id: OnceLock::new(),
            peer: OnceLock::new(),
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
        let queued = self.shared.queued.load(Ordering::Relaxed);
        if self.is_closed() || queued > self.shared.backlog {
            let reason = if self.is_closed() {
                SendRefusal::Closed
            } else {
                SendRefusal::Backlog { queued }
            };
            return Err(SendError { message, reason });
        }
        match self.shared.inbox.push(Command::Send {
            to: self.clone(),
            message,
        }) {
            Ok(()) => Ok(()),
            Err(Command::Send { message, .. }) => {
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
        // Closed already: it is going down anyway.
        let _ = push(
            &self.shared.inbox,
            Command::MarkDown {
                connection: self.clone(),
            },
        );
    }

    /// The address that was dialled; `None` for a connection that the peer opened.
    pub fn target(&self) -> Option<EntityAddr> {
        self.shared.target
    }

    /// The peer, once the connection is ready; always `None` for a connection to ourselves.
    pub fn peer(&self) -> Option<&Peer> {
        self.shared.peer.get()
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.shared.stage.load(Ordering::Acquire) == READY
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.stage.load(Ordering::Acquire) == CLOSED
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
            self.shared
                .peer
                .set(peer)
                .expect("a connection becomes ready once");
        }
        self.shared.stage.store(READY, Ordering::Release);
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
