//! A boxed transport is a transport, so that middleware need not know which one it wraps.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;

use crate::{
    BufferPool, Caps, Close, ConnId, ConnectOptions, Cost, Event, ListenOptions, ListenerId,
    OpenError, Park, SendError, Transport, TxQueue,
};

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn caps(&self) -> Caps {
        (**self).caps()
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        (**self).listen(at, options)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        (**self).unlisten(listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        (**self).connect(to, options)
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        (**self).send(conn, queue)
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        (**self).poll(now, events)
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        (**self).place(conn, buffer)
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        (**self).set_receive(conn, enabled);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        (**self).close(conn, how);
    }

    fn next_timeout(&self) -> Option<Instant> {
        (**self).next_timeout()
    }

    fn park(&mut self) -> Park<'_> {
        (**self).park()
    }

    fn unpark(&mut self) {
        (**self).unpark();
    }

    fn pool(&mut self) -> &mut BufferPool {
        (**self).pool()
    }

    fn cost(&self) -> Cost {
        (**self).cost()
    }
}
