//! [`Tracer`]: what is called and what happens, as `tracing` events.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use tracing::trace;

use crate::{
    BufferPool, Caps, Close, ConnId, ConnectOptions, Cost, Event, ListenOptions, ListenerId,
    OpenError, Park, SendError, Transport, TxQueue,
};

/// Tells of every call and every event at trace level: who, how many bytes and with what result,
/// never which bytes. Calls that have nothing to do (a poll without events, a flush with nothing
/// sent) are not told of, since a spinning reactor makes millions of them.
#[derive(Debug)]
pub struct Tracer<T> {
    inner: T,
    /// Bytes taken since the last flush.
    unflushed: usize,
}

impl<T: Transport> Tracer<T> {
    /// Tells of what is done with `inner` from now on.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            unflushed: 0,
        }
    }
}

impl<T: Transport> Transport for Tracer<T> {
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
        let result = self.inner.listen(at, options);
        match &result {
            Ok((listener, at)) => trace!(transport = self.name(), ?listener, %at, "listen"),
            Err(error) => trace!(%error, "listen"),
        }
        result
    }

    fn unlisten(&mut self, listener: ListenerId) {
        trace!(transport = self.name(), ?listener, "unlisten");
        self.inner.unlisten(listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let result = self.inner.connect(to, options);
        match &result {
            Ok(conn) => trace!(transport = self.name(), ?conn, %to, "connect"),
            Err(error) => trace!(%error, "connect"),
        }
        result
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let result = self.inner.send(conn, queue);
        match &result {
            Ok(bytes) => {
                self.unflushed += bytes;
                let left = queue.len();
                trace!(transport = self.name(), ?conn, bytes, left, "send");
            }
            Err(error) => trace!(transport = self.name(), ?conn, %error, "send"),
        }
        result
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.unflushed);
        if bytes > 0 {
            trace!(transport = self.name(), bytes, "flush");
        }
        self.inner.flush();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        let before = events.len();
        let done = self.inner.poll(now, events);
        let transport = self.inner.name();
        for event in events.iter().skip(before) {
            match event {
                Event::Accepted {
                    listener,
                    conn,
                    local,
                    remote,
                } => trace!(transport, ?conn, ?listener, %local, %remote, "accepted"),
                Event::Connected { conn, local } => trace!(transport, ?conn, %local, "connected"),
                Event::Data { conn, bytes } => {
                    trace!(transport, ?conn, bytes = bytes.len(), "data");
                }
                Event::Room { conn } => trace!(transport, ?conn, "room"),
                Event::Closed { conn, reason } => trace!(transport, ?conn, %reason, "closed"),
            }
        }
        done
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        let bytes = buffer.capacity() - buffer.len();
        let result = self.inner.place(conn, buffer);
        let accepted = result.is_ok();
        trace!(transport = self.name(), ?conn, bytes, accepted, "place");
        result
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        trace!(transport = self.name(), ?conn, enabled, "set_receive");
        self.inner.set_receive(conn, enabled);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        trace!(transport = self.name(), ?conn, ?how, "close");
        self.inner.close(conn, how);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.inner.next_timeout()
    }

    fn park(&mut self) -> Park<'_> {
        let transport = self.inner.name();
        let park = self.inner.park();
        trace!(transport, ?park, "park");
        park
    }

    fn unpark(&mut self) {
        trace!(transport = self.name(), "unpark");
        self.inner.unpark();
    }

    fn pool(&mut self) -> &mut BufferPool {
        self.inner.pool()
    }

    fn cost(&self) -> Cost {
        self.inner.cost()
    }
}
