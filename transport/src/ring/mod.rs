//! [`Ring`]: shared memory in one process, built like a queue pair.
//!
//! A connection is a pair of descriptor rings, one for each direction. A descriptor is a chunk of
//! the sender's memory, and the receiver hands up that very chunk: no byte is copied. Free
//! descriptors and a byte window are the sender's credits. What was sent is published at the
//! flush, and the peer is told only if it asked to be: a connection that was busy lately is looked
//! at in every poll, all others cost nothing until their doorbell rings. Nothing here knows what
//! the bytes mean, and no lock is taken but when something opens or ends.

mod endpoint;
mod link;
mod network;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, ListenOptions,
    ListenerId, OpenError, Operation, Park, SendError, Slots, Transport, TxQueue,
};
use endpoint::Endpoint;
use link::{Half, Shut};
use network::{Incoming, Listening};
pub use network::{RingConfig, RingNetwork};

const NAME: &str = "ring";
/// A descriptor costs about what it costs to copy so many bytes.
const COPY_BELOW: usize = 512;
/// So many connections may stay hot while nothing arrives on them.
const HOT: usize = 32;
/// For how many polls they may: a round trip's worth of spinning, several times over.
const PATIENCE: u32 = 256;

/// One thread's end of a [`RingNetwork`].
#[derive(Debug)]
pub struct Ring {
    network: RingNetwork,
    endpoint: Arc<Endpoint>,
    listeners: Slots<crate::slots::Listener, Arc<Listening>>,
    conns: Slots<crate::slots::Conn, Connection>,
    /// The connections that every poll looks at; their doorbells are off.
    hot: Vec<ConnId>,
    /// The connections that have something staged.
    staged: Vec<ConnId>,
    /// Whether the last call was [`Transport::park`].
    parked: bool,
    /// Wake-ups that were claimed by others and not yet taken from the event counter.
    wakes: u64,
    pool: BufferPool,
    cost: Cost,
}

#[derive(Debug)]
struct Connection {
    half: Half,
    local: SocketAddr,
    /// Whether [`Event::Connected`] or [`Event::Accepted`] has been handed up.
    up: bool,
    receiving: bool,
    hot: bool,
    /// Polls in a row that found nothing.
    idle: u32,
}

/// What one look at a connection found.
enum Found {
    Nothing,
    Something,
    End(CloseReason),
}

impl Ring {
    /// A transport on `network`. It is to be driven by one thread.
    ///
    /// # Errors
    /// [`OpenError`] when there is no descriptor left for the event counter that wakes it.
    pub fn new(network: &RingNetwork) -> Result<Self, OpenError> {
        let endpoint = Endpoint::new().map_err(|source| OpenError {
            transport: NAME,
            operation: Operation::Start,
            address: None,
            source,
        })?;
        Ok(Self {
            network: network.clone(),
            endpoint: Arc::new(endpoint),
            listeners: Slots::default(),
            conns: Slots::default(),
            hot: Vec::new(),
            staged: Vec::new(),
            parked: false,
            wakes: 0,
            pool: BufferPool::default(),
            cost: Cost::default(),
        })
    }

    fn insert(&mut self, half: Half, local: SocketAddr, up: bool) -> ConnId {
        let conn = self.conns.insert_with(|conn| {
            half.adopt(conn);
            Connection {
                half,
                local,
                up,
                receiving: true,
                hot: true,
                idle: 0,
            }
        });
        self.hot.push(conn);
        conn
    }

    /// Has `conn` looked at by the coming polls. A connection that is gone needs none.
    fn heat(&mut self, conn: ConnId) {
        if let Some(connection) = self.conns.get_mut(conn) {
            connection.idle = 0;
            if !connection.hot {
                connection.hot = true;
                self.hot.push(conn);
            }
        }
    }

    /// Accepts everybody who waits.
    fn accept(&mut self, events: &mut Vec<Event>) {
        let listeners: Vec<_> = self
            .listeners
            .iter()
            .map(|(id, listening)| (id, Arc::clone(listening)))
            .collect();
        for (listener, listening) in listeners {
            for incoming in listening.take() {
                let Incoming {
                    half,
                    local,
                    remote,
                } = incoming;
                let conn = self.insert(half, local, true);
                events.push(Event::Accepted {
                    listener,
                    conn,
                    local,
                    remote,
                });
            }
        }
    }

    /// Heats the connections whose doorbells rang. Whether there were any.
    fn answer(&mut self) -> bool {
        let mut any = false;
        while let Some(conn) = self.endpoint.next_doorbell() {
            self.heat(conn);
            any = true;
        }
        if self.endpoint.missed_doorbells() {
            let all: Vec<_> = self.conns.iter().map(|(conn, _)| conn).collect();
            for conn in all {
                self.heat(conn);
            }
            any = true;
        }
        any
    }

    /// Looks at every hot connection, and cools those that have been idle. Whether any was not.
    fn serve(&mut self, events: &mut Vec<Event>) -> bool {
        let patience = if self.hot.len() > HOT { 0 } else { PATIENCE };
        let mut any = false;
        let mut at = 0;
        while let Some(&id) = self.hot.get(at) {
            let Some(conn) = self.conns.get_mut(id) else {
                self.hot.swap_remove(at);
                continue;
            };
            match conn.look(id, events, &mut self.cost) {
                Found::Something => {
                    conn.idle = 0;
                    any = true;
                }
                Found::Nothing if conn.idle < patience => conn.idle += 1,
                Found::Nothing => {
                    conn.half.arm();
                    fence(Ordering::SeqCst);
                    if conn.has_work() {
                        conn.half.disarm();
                    } else {
                        conn.hot = false;
                        self.hot.swap_remove(at);
                        continue;
                    }
                }
                Found::End(reason) => {
                    events.push(Event::Closed { conn: id, reason });
                    self.conns.remove(id);
                    self.hot.swap_remove(at);
                    any = true;
                    continue;
                }
            }
            at += 1;
        }
        any
    }
}

impl Connection {
    fn look(&mut self, conn: ConnId, events: &mut Vec<Event>, cost: &mut Cost) -> Found {
        let before = events.len();
        // First how the peer ended, then what it had published by then.
        let shut = self.half.peer_shut();
        match shut {
            Some(Shut::Refused) if !self.up => return Found::End(CloseReason::Refused),
            Some(Shut::Refused | Shut::Aborted) => return Found::End(CloseReason::Reset),
            Some(Shut::Drained) | None => {}
        }
        if !self.up {
            self.up = true;
            let local = self.local;
            events.push(Event::Connected { conn, local });
        }
        if self.receiving {
            let (chunks, told) = self
                .half
                .receive(|bytes| events.push(Event::Data { conn, bytes }));
            cost.system_calls += u64::from(told);
            if chunks == 0 && shut.is_some() {
                return Found::End(CloseReason::PeerClosed);
            }
        }
        if self.half.has_room() {
            self.half.take_room();
            events.push(Event::Room { conn });
        }
        if events.len() > before {
            Found::Something
        } else {
            Found::Nothing
        }
    }

    /// Whether [`look`](Self::look) would find something.
    fn has_work(&mut self) -> bool {
        !self.up
            || self.receiving && self.half.is_readable()
            || self.half.has_room()
            || match self.half.peer_shut() {
                None => false,
                Some(Shut::Drained) => self.receiving,
                Some(Shut::Aborted | Shut::Refused) => true,
            }
    }
}

impl Transport for Ring {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> Caps {
        Caps {
            copy_below: COPY_BELOW,
            send_window: self.network.config().window,
            places: false,
        }
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let listening = self.network.listen(&self.endpoint, at, options);
        let listening = listening.map_err(|source| open_error(Operation::Listen, at, source))?;
        let at = listening.at;
        Ok((self.listeners.insert(listening), at))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        if let Some(listening) = self.listeners.remove(listener) {
            self.network.unlisten(&listening);
        }
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let opened = self.network.connect(&self.endpoint, to, options.local);
        let (half, local, told) =
            opened.map_err(|source| open_error(Operation::Connect, to, source))?;
        self.cost.system_calls += u64::from(told);
        Ok(self.insert(half, local, false))
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let connection = self.conns.get_mut(conn).filter(|connection| connection.up);
        let connection = connection.ok_or(SendError::NotConnected)?;
        let listed = connection.half.has_staged();
        let taken = connection.half.stage(queue);
        if !listed && taken > 0 {
            self.staged.push(conn);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        for &conn in &self.staged {
            if let Some(connection) = self.conns.get_mut(conn) {
                self.cost.doorbells += u64::from(connection.half.publish());
            }
        }
        fence(Ordering::SeqCst);
        for conn in self.staged.drain(..) {
            if let Some(connection) = self.conns.get_mut(conn) {
                self.cost.system_calls += u64::from(connection.half.tell_peer());
            }
        }
    }

    fn poll(&mut self, _now: Instant, events: &mut Vec<Event>) -> bool {
        let mut any = self.endpoint.was_knocked();
        if any {
            self.accept(events);
        }
        any |= self.answer();
        self.serve(events) || any
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        if let Some(connection) = self.conns.get_mut(conn) {
            connection.receiving = enabled;
            self.heat(conn);
        }
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let Some(mut connection) = self.conns.remove(conn) else {
            return;
        };
        let shut = match how {
            // What is staged has its credits, so it all goes out now.
            Close::Drain => {
                self.cost.doorbells += u64::from(connection.half.publish());
                Shut::Drained
            }
            Close::Abort => Shut::Aborted,
        };
        self.cost.system_calls += u64::from(connection.half.shut(shut));
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn park(&mut self) -> Park<'_> {
        for &id in &self.hot {
            if let Some(conn) = self.conns.get(id) {
                conn.half.arm();
            }
        }
        self.endpoint.park();
        self.parked = true;
        let conns = &mut self.conns;
        let mut works = |&id: &ConnId| conns.get_mut(id).is_some_and(Connection::has_work);
        if self.endpoint.is_wanted() || self.hot.iter().any(&mut works) {
            // They stay hot. A doorbell that rings in between is answered for nothing.
            return Park::Busy;
        }
        for id in self.hot.drain(..) {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.hot = false;
            }
        }
        Park::Fd(self.endpoint.descriptor())
    }

    fn unpark(&mut self) {
        if !std::mem::take(&mut self.parked) {
            return;
        }
        self.wakes += u64::from(self.endpoint.unpark());
        if self.wakes > 0 {
            self.cost.system_calls += 1;
            self.wakes = self.wakes.saturating_sub(self.endpoint.take_wakes());
        }
        for &id in &self.hot {
            if let Some(conn) = self.conns.get(id) {
                conn.half.disarm();
            }
        }
    }

    fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let listeners: Vec<_> = self.listeners.iter().map(|(id, _)| id).collect();
        for listener in listeners {
            self.unlisten(listener);
        }
    }
}

fn open_error(operation: Operation, at: SocketAddr, source: io::Error) -> OpenError {
    OpenError {
        transport: NAME,
        operation,
        address: Some(at),
        source,
    }
}
