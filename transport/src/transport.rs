//! The [`Transport`] trait and the few types that cross it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::{BufferPool, CloseReason, ConnId, ListenerId, OpenError};

/// An ordered byte channel factory, driven by polling from one thread.
///
/// Calls never block. The outcome of [`connect`](Self::connect), received bytes and the end of a
/// connection are reported by [`poll`](Self::poll). Bytes accepted by [`send`](Self::send) leave
/// at the next [`flush`](Self::flush), one doorbell (system call, burst, work-request batch) for
/// all that a connection has queued.
///
/// Ownership is the completion: a transport keeps its reference to every segment it was given
/// until the peer, the kernel or the device is done with it, and drops it then. Received bytes are
/// slices of the transport's own memory, which returns to its pool when the last slice is dropped.
pub trait Transport {
    /// The name an operator uses for this transport, for example `posix`.
    fn name(&self) -> &'static str;

    /// What this transport is good at.
    fn caps(&self) -> Caps;

    /// Listens at `at`; port 0 lets the system choose. Returns the address really bound.
    ///
    /// A port has one user. Its first listener takes it ([`Port::Take`]), which fails whenever
    /// anybody listens there, however willing to share; more listeners of the same user join it
    /// ([`Port::Join`]), and the user's connections may originate from it.
    ///
    /// # Errors
    /// [`OpenError`], of kind [`AddrInUse`](std::io::ErrorKind::AddrInUse) when somebody listens
    /// there already, or when the address is not ours, or not permitted.
    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError>;

    /// Stops listening. Connections accepted earlier live on.
    fn unlisten(&mut self, listener: ListenerId);

    /// Starts to connect to `to`. [`Event::Connected`] or [`Event::Closed`] follows.
    ///
    /// With [`ConnectOptions::local`] the connection originates from exactly that address and
    /// port, which is what the acceptor sees as its `remote`. It may be a port on which this very
    /// transport listens, and the origin of any number of connections, but the two addresses of a
    /// connection name it (a 4-tuple, RFC 9293, section 4): there is one at a time, whoever
    /// began it. Two that connect to each other at once from the ports they listen on therefore
    /// get one connection at most: the later attempt fails, or, if the attempts cross, both ends
    /// are [`Event::Connected`] to each other and neither has accepted (simultaneous open, RFC
    /// 9293, section 3.5). From an address to itself there is no connection, it is refused.
    ///
    /// # Errors
    /// [`OpenError`] when the attempt cannot even start: of kind
    /// [`AddrInUse`](std::io::ErrorKind::AddrInUse) when another user listens at `local`, and
    /// [`AddrNotAvailable`](std::io::ErrorKind::AddrNotAvailable) when `local` is not ours, or an
    /// earlier connection between the two addresses is not over, which in TCP may take until the
    /// end of its TIME-WAIT state. A peer that refuses is not an error here but an
    /// [`Event::Closed`] with [`CloseReason::Refused`].
    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError>;

    /// Takes segments from the front of `queue`, in order, as many bytes as there is room for, and
    /// returns how many bytes it took. What it leaves behind waits for [`Event::Room`], which is
    /// sent only after a call that left something.
    ///
    /// # Errors
    /// [`SendError::NotConnected`] before [`Event::Connected`] and after the connection's end.
    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError>;

    /// Rings the doorbell of every connection that was sent to since the last flush.
    fn flush(&mut self);

    /// Receives, completes and times out what is due at `now`, appending to `events`. One call
    /// hands up a bounded number of bytes per connection, so that no connection starves another; where
    /// [`place`](Self::place) is accepted, in one [`Event::Data`]: what is placed when a caller has
    /// seen that would be too late for bytes in a second. Returns whether anything was done, which
    /// includes work that causes no event.
    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool;

    /// Asks that the next `buffer.capacity() - buffer.len()` bytes received on `conn` land in
    /// `buffer`. They come up as one ordinary [`Event::Data`] once all are there. Only for large
    /// runs whose length the protocol already knows.
    ///
    /// # Errors
    /// Gives the buffer back when the transport declines: its memory is as good a destination, a
    /// placement is under way already, or the connection is gone.
    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        let _ = conn;
        Err(buffer)
    }

    /// Stops (`false`) or resumes (`true`) handing up [`Event::Data`] for `conn`. A stopped
    /// connection pushes back on its peer: socket buffer, TCP window or queue-pair credits.
    fn set_receive(&mut self, conn: ConnId, enabled: bool);

    /// Ends `conn`. The id is dead at once and no event follows, not even [`Event::Closed`].
    fn close(&mut self, conn: ConnId, how: Close);

    /// When [`poll`](Self::poll) must be called next even if nothing arrives.
    fn next_timeout(&self) -> Option<Instant>;

    /// Prepares to sleep: arms whatever wakes the caller, then looks once more.
    /// Every call is followed by [`unpark`](Self::unpark) before the next poll.
    fn park(&mut self) -> Park<'_>;

    /// Ends what [`park`](Self::park) began.
    fn unpark(&mut self) {}

    /// The memory that this transport receives into, for callers that want their sends to come
    /// from it too (an RDMA transport registers it with its device).
    fn pool(&mut self) -> &mut BufferPool;

    /// What the work done so far has cost.
    fn cost(&self) -> Cost;
}

/// How long a connection that is closed with [`Close::Drain`] may take to get rid of its last bytes.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Segments waiting to be sent, in order.
pub type TxQueue = VecDeque<Bytes>;

/// What a transport is good at: hints, not limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Segments shorter than this many bytes are better copied together than linked one by one.
    pub copy_below: usize,
    /// The number of bytes [`Transport::send`] may hold for one connection.
    pub send_window: usize,
    /// Whether [`Transport::place`] is ever accepted.
    pub places: bool,
}

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// The number of connections that may wait to be accepted.
    pub backlog: u32,
    /// Whose port it is.
    pub port: Port,
}

impl Default for ListenOptions {
    /// A backlog of 512, as Ceph's `ms_tcp_listen_backlog`, and a port of one's own.
    fn default() -> Self {
        Self {
            backlog: 512,
            port: Port::Take,
        }
    }
}

/// Whose port a listener listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// One that nobody listens on yet. Nobody else can take it until all its listeners are gone.
    Take,
    /// One that another listener of the same user has taken, for instance on another core. The
    /// listeners share the connections. A port that nobody listens on is taken.
    ///
    /// Transports cannot tell users apart (the system knows only the uid): only join what you
    /// know to be yours.
    Join,
}

/// How to connect.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// The address and port to originate from, which may be one that this transport listens on;
    /// unset or port 0 lets the system choose. See [`Transport::connect`].
    pub local: Option<SocketAddr>,
}

/// How to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Queued bytes still go out, then the end is signalled.
    Drain,
    /// Queued bytes are dropped.
    Abort,
}

/// Something that happened to a listener or a connection.
#[derive(Debug)]
pub enum Event {
    /// A peer connected to `listener`.
    Accepted {
        /// The listener it came through.
        listener: ListenerId,
        /// The new connection.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// A connection we started is up.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
    },
    /// The next bytes in order.
    Data {
        /// The connection.
        conn: ConnId,
        /// Never empty.
        bytes: Bytes,
    },
    /// There is room again after a [`Transport::send`] that left segments behind.
    Room {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has ended; its id is dead.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
}

/// What to wait for while nothing is due.
#[derive(Debug)]
pub enum Park<'a> {
    /// Something arrived while arming: do not sleep.
    Busy,
    /// Sleep until this descriptor is readable.
    Fd(BorrowedFd<'a>),
    /// Nothing can wake us: sleep no longer than this.
    Nap(Duration),
}

/// Why a [`Transport::send`] took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is not up yet, or has ended.
    #[error("the connection is not established")]
    NotConnected,
}

/// Counts of what is expensive. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Calls into the kernel.
    pub system_calls: u64,
    /// Times a connection's queued bytes were made visible to the peer.
    pub doorbells: u64,
    /// Payload bytes copied by the transport itself (not by the kernel).
    pub bytes_copied: u64,
}
