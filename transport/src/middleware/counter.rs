//! [`Counter`]: how often each thing is done, readable from anywhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::BytesMut;

use crate::{
    BufferPool, Caps, Close, ConnId, ConnectOptions, Cost, Event, ListenOptions, ListenerId,
    OpenError, Park, SendError, Transport, TxQueue,
};

/// Counts what is done with a transport.
#[derive(Debug)]
pub struct Counter<T> {
    inner: T,
    counts: Counts,
}

/// The counts of one [`Counter`]: a handle to be read on any thread, at any time.
#[derive(Debug, Clone, Default)]
pub struct Counts(Arc<Cells>);

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident)+) => {
        /// What a [`Counter`] has counted so far. The numbers only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        struct Cells {
            $($name: AtomicU64,)+
        }

        impl Counts {
            /// The counts at this moment, each by itself.
            pub fn tally(&self) -> Tally {
                Tally {
                    $($name: self.0.$name.load(Ordering::Relaxed),)+
                }
            }
        }
    };
}

tally! {
    /// Connections begun.
    connects
    /// Connections accepted.
    accepts
    /// Calls of [`Transport::send`] that were not in error.
    sends
    /// Segments taken whole.
    segments
    /// Bytes taken.
    bytes_sent
    /// Calls of [`Transport::flush`].
    flushes
    /// Calls of [`Transport::poll`].
    polls
    /// Pieces of data received.
    data
    /// Bytes received.
    bytes_received
    /// Calls of [`Transport::close`].
    closes
    /// Connections ended by the transport.
    ends
}

/// Only the transport's own thread writes, so no locked instruction is needed.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

impl<T: Transport> Counter<T> {
    /// Counts what is done with `inner` from now on.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            counts: Counts::default(),
        }
    }

    /// A handle to the counts.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

impl<T: Transport> Transport for Counter<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        self.inner.listen(at, options)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.inner.unlisten(listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let conn = self.inner.connect(to, options)?;
        add(&self.counts.0.connects, 1);
        Ok(conn)
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let segments = queue.len();
        let taken = self.inner.send(conn, queue)?;
        let cells = &self.counts.0;
        add(&cells.sends, 1);
        add(&cells.segments, (segments - queue.len()) as u64);
        add(&cells.bytes_sent, taken as u64);
        Ok(taken)
    }

    fn flush(&mut self) {
        add(&self.counts.0.flushes, 1);
        self.inner.flush();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        let before = events.len();
        let done = self.inner.poll(now, events);
        let cells = &self.counts.0;
        add(&cells.polls, 1);
        for event in events.iter().skip(before) {
            match event {
                Event::Accepted { .. } => add(&cells.accepts, 1),
                Event::Data { bytes, .. } => {
                    add(&cells.data, 1);
                    add(&cells.bytes_received, bytes.len() as u64);
                }
                Event::Closed { .. } => add(&cells.ends, 1),
                Event::Connected { .. } | Event::Room { .. } => {}
            }
        }
        done
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        self.inner.place(conn, buffer)
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        self.inner.set_receive(conn, enabled);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        add(&self.counts.0.closes, 1);
        self.inner.close(conn, how);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.inner.next_timeout()
    }

    fn park(&mut self) -> Park<'_> {
        self.inner.park()
    }

    fn unpark(&mut self) {
        self.inner.unpark();
    }

    fn pool(&mut self) -> &mut BufferPool {
        self.inner.pool()
    }

    fn cost(&self) -> Cost {
        self.inner.cost()
    }
}
