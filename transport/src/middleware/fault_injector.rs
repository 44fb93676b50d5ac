//! [`FaultInjector`]: connections that end by chance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use fastrand::Rng;

use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, ListenOptions,
    ListenerId, OpenError, Park, SendError, Transport, TxQueue,
};

/// How often to inject a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injection {
    /// One operation in so many ends its connection; 0 means none. An operation moves up to 4 KiB:
    /// a send of many messages, or a piece of received data, counts as several, so that batching
    /// does not hide connections from failure. Ceph's `ms_inject_socket_failures`.
    pub socket_failures: u32,
    /// One attempt to connect in so many is refused; 0 means none.
    pub connect_refusals: u32,
}

/// The most bytes that one operation moves.
const OPERATION: usize = 4 << 10;

/// Ends connections by chance, which is what its seed makes it. The peer is dropped, and the user
/// is told [`CloseReason::Injected`], or [`CloseReason::Refused`] for an attempt to connect.
#[derive(Debug)]
pub struct FaultInjector<T> {
    inner: T,
    injection: Injection,
    rng: Rng,
    /// Ends to be told in the next poll.
    ended: Vec<(ConnId, CloseReason)>,
    strikes: Arc<AtomicU32>,
}

impl<T: Transport> FaultInjector<T> {
    /// Injects faults into `inner` from now on.
    pub fn new(inner: T, injection: Injection, seed: u64) -> Self {
        Self {
            inner,
            injection,
            rng: Rng::with_seed(seed),
            ended: Vec::new(),
            strikes: Arc::default(),
        }
    }

    /// So many of the next operations, a send or a piece of received data, end their connections,
    /// besides those struck by chance. Whoever holds this may set it while others drive.
    pub fn strikes(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.strikes)
    }

    /// Whether something befalls a send or a receipt of so many bytes.
    fn strikes_operation(&mut self, bytes: usize) -> bool {
        let fewer = |left: u32| left.checked_sub(1);
        // Looking is cheaper than an exchange in vain.
        let ordered = self.strikes.load(Ordering::Relaxed) > 0
            && (self.strikes)
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
                .is_ok();
        let operations = bytes.div_ceil(OPERATION).max(1);
        ordered || (0..operations).any(|_| self.by_chance(self.injection.socket_failures))
    }

    fn by_chance(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.rng.u32(0..one_in) == 0
    }

    /// Drops the peer, and has the user told in the next poll.
    fn end(&mut self, conn: ConnId, reason: CloseReason) {
        self.inner.close(conn, Close::Abort);
        self.ended.push((conn, reason));
    }
}

impl<T: Transport> Transport for FaultInjector<T> {
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
        if self.by_chance(self.injection.connect_refusals) {
            self.end(conn, CloseReason::Refused);
        }
        Ok(conn)
    }

    /// What a struck send has taken is lost, as with a socket that fails after the write.
    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let taken = self.inner.send(conn, queue)?;
        if self.strikes_operation(taken) {
            self.end(conn, CloseReason::Injected);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        let before = events.len();
        let ended = self.ended.drain(..);
        events.extend(ended.map(|(conn, reason)| Event::Closed { conn, reason }));
        let mut next = events.len();
        let done = self.inner.poll(now, events);
        while let Some(event) = events.get_mut(next) {
            next += 1;
            if let Event::Data { conn, bytes } = event
                && let (conn, len) = (*conn, bytes.len())
                && self.strikes_operation(len)
            {
                self.inner.close(conn, Close::Abort);
                *event = Event::Closed {
                    conn,
                    reason: CloseReason::Injected,
                };
                let rest = events.split_off(next);
                events.extend(rest.into_iter().filter(|event| conn_of(event) != conn));
            }
        }
        done || events.len() > before
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        self.inner.place(conn, buffer)
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        self.inner.set_receive(conn, enabled);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        self.ended.retain(|&(ended, _)| ended != conn);
        self.inner.close(conn, how);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.inner.next_timeout()
    }

    fn park(&mut self) -> Park<'_> {
        let park = self.inner.park();
        if self.ended.is_empty() {
            park
        } else {
            Park::Busy
        }
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

/// The connection that an event is about.
fn conn_of(event: &Event) -> ConnId {
    match *event {
        Event::Accepted { conn, .. }
        | Event::Connected { conn, .. }
        | Event::Data { conn, .. }
        | Event::Room { conn }
        | Event::Closed { conn, .. } => conn,
    }
}
