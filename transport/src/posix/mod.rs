//! [`Posix`]: TCP over non-blocking sockets and edge-triggered epoll, for any Linux host.
//!
//! One `sendmsg` per connection and flush; one `recv` per connection and poll, all into the same
//! pooled block, whose slices go up without a copy. A connection is registered with epoll once
//! and never again. Socket options and system calls live here and in the modules below, nothing
//! of msgr2 does.

mod connection;
mod listener;
mod sys;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, ListenOptions,
    ListenerId, OpenError, Operation, Park, SendError, Slots, Transport, TxQueue,
};
use connection::{Connection, Phase, Received, SEND_WINDOW};
use listener::{Accept, Listener};

const NAME: &str = "posix";
/// What all connections read into, until it is used up.
const BLOCK: usize = 256 << 10;
/// A block with less room than this is replaced, lest reads become small.
const LEAST_READ: usize = 64 << 10;
/// How many events one `epoll_wait` may bring, and connections one listener may per poll.
const BATCH: usize = 64;
/// Segments below this size are cheaper to copy together than to describe one by one.
const COPY_BELOW: usize = 4 << 10;
/// How long a closed connection may take to get rid of its last bytes.
const LINGER: Duration = Duration::from_secs(5);
/// How long to leave connections waiting after the process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The timeout of an `epoll_wait` that only looks.
const NOT_AT_ALL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// Marks a listener in the kernel's copy of an id: there are never 2^31 slots.
const LISTENER: u64 = 1 << 31;

/// TCP over the operating system's sockets.
pub struct Posix {
    epoll: OwnedFd,
    woken: Vec<epoll::Event>,
    listeners: Slots<crate::slots::Listener, Listener>,
    conns: Slots<crate::slots::Conn, Connection>,
    /// Connections with something to do at the next poll.
    work: VecDeque<ConnId>,
    /// Connections sent to since the last flush.
    touched: Vec<ConnId>,
    /// Listeners that may have more connections waiting.
    accepting: VecDeque<ListenerId>,
    accept_again: Option<Instant>,
    /// Connections that the caller has left, by the time at which they are dropped.
    lingering: VecDeque<(Instant, ConnId)>,
    /// The latest time heard of.
    now: Option<Instant>,
    pool: BufferPool,
    block: BytesMut,
    cost: Cost,
}

impl Posix {
    /// A transport without any socket yet.
    ///
    /// # Errors
    /// [`OpenError`] when the process has no file descriptor left for epoll.
    pub fn new() -> Result<Self, OpenError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| open_error(Operation::Start, None, errno))?;
        let mut pool = BufferPool::default();
        Ok(Self {
            epoll,
            woken: Vec::with_capacity(BATCH),
            listeners: Slots::default(),
            conns: Slots::default(),
            work: VecDeque::new(),
            touched: Vec::new(),
            accepting: VecDeque::new(),
            accept_again: None,
            lingering: VecDeque::new(),
            now: None,
            block: pool.take(BLOCK),
            pool,
            cost: Cost::default(),
        })
    }

    /// Makes a connection known to epoll, once and for all that may ever happen to it.
    fn add(&mut self, connection: Connection) -> Result<ConnId, Errno> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let id = self.conns.insert(connection);
        let socket = &self.conns.get(id).expect("just inserted").socket;
        self.cost.system_calls += 1;
        let data = epoll::EventData::new_u64(id.to_u64());
        match epoll::add(&self.epoll, socket, data, flags) {
            Ok(()) => Ok(id),
            Err(errno) => {
                self.conns.remove(id);
                Err(errno)
            }
        }
    }

    /// The connection, if the caller may still use it.
    fn owned(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id).filter(|conn| conn.is_owned())
    }

    /// Asks the kernel what has happened.
    fn wait(&mut self) -> bool {
        let mut woken = std::mem::take(&mut self.woken);
        self.cost.system_calls += 1;
        // The only possible error is an interruption by a signal: the next poll asks again.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut woken), Some(&NOT_AT_ALL));
        let any = !woken.is_empty();
        for event in woken.drain(..) {
            let data = event.data.u64();
            if data & LISTENER == 0 {
                let id = ConnId::from_u64(data);
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.notice(event.flags);
                    list(&mut self.work, id, conn);
                }
            } else {
                let id = ListenerId::from_u64(data & !LISTENER);
                if let Some(listener) = self.listeners.get_mut(id)
                    && !listener.ready
                {
                    listener.ready = true;
                    self.accepting.push_back(id);
                }
            }
        }
        self.woken = woken;
        any
    }

    /// Accepts some of the connections that wait. Whether there were any.
    fn accept(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        if self.accept_again.is_some_and(|again| now < again) {
            return false;
        }
        self.accept_again = None;
        let listeners = self.accepting.len();
        for _ in 0..listeners {
            let Some(listener) = self.accepting.pop_front() else {
                break;
            };
            if let Err(errno) = self.accept_from(listener, events) {
                tracing::warn!(%errno, "cannot accept connections for a while");
                self.accept_again = Some(now + ACCEPT_PAUSE);
                break;
            }
        }
        listeners > 0
    }

    fn accept_from(&mut self, id: ListenerId, events: &mut Vec<Event>) -> Result<(), Errno> {
        for _ in 0..BATCH {
            let Some(listener) = self.listeners.get_mut(id) else {
                return Ok(());
            };
            match listener.accept(&mut self.cost) {
                Accept::Connection(socket, local, remote) => {
                    let conn = self.add(Connection::new(socket, remote, Phase::Open))?;
                    events.push(Event::Accepted {
                        listener: id,
                        conn,
                        local,
                        remote,
                    });
                }
                Accept::Gone => {}
                Accept::Nobody => {
                    listener.ready = false;
                    return Ok(());
                }
                Accept::Exhausted(errno) => {
                    self.accepting.push_back(id);
                    return Err(errno);
                }
            }
        }
        self.accepting.push_back(id);
        Ok(())
    }

    /// Does for one connection what can be done now, and lists it again if that is not all.
    fn serve(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.listed = false;
        if conn.phase == Phase::Connecting {
            match conn.establish(&mut self.cost) {
                Ok(None) => return,
                Ok(Some(local)) => events.push(Event::Connected { conn: id, local }),
                Err(reason) => return self.end(id, reason, events),
            }
        }
        if !conn.touched {
            conn.transmit(&mut self.cost);
        }
        conn.shut_when_drained(&mut self.cost);
        if conn.take_room() {
            events.push(Event::Room { conn: id });
        }
        if self.block.capacity() - self.block.len() < LEAST_READ && !self.block.try_reclaim(BLOCK) {
            let used_up = std::mem::replace(&mut self.block, self.pool.take(BLOCK));
            self.pool.give(used_up, BLOCK);
        }
        match conn.receive(&mut self.block, &mut self.cost) {
            Received::Bytes(bytes) if conn.phase == Phase::Open => {
                events.push(Event::Data { conn: id, bytes });
            }
            Received::Bytes(_) | Received::Nothing => {}
            Received::End(reason) => return self.end(id, reason, events),
        }
        if conn.has_work() {
            list(&mut self.work, id, conn);
        }
    }

    fn end(&mut self, id: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        if self.owned(id).is_some() {
            events.push(Event::Closed { conn: id, reason });
        }
        self.cost.system_calls += 1;
        self.conns.remove(id);
    }

    /// Drops connections that have lingered long enough. Whether there were any.
    fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(&(until, id)) = self.lingering.front() {
            let alive = self.conns.get(id).is_some();
            if alive && now < until {
                break;
            }
            self.lingering.pop_front();
            self.conns.remove(id);
            self.cost.system_calls += u64::from(alive);
            any |= alive;
        }
        any
    }
}

impl Transport for Posix {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> Caps {
        Caps {
            copy_below: COPY_BELOW,
            send_window: SEND_WINDOW,
            places: true,
        }
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let error = |errno| open_error(Operation::Listen, Some(at), errno);
        let (listener, local) = Listener::open(at, options, &mut self.cost).map_err(error)?;
        let id = self.listeners.insert(listener);
        let socket = &self.listeners.get(id).expect("just inserted").socket;
        self.cost.system_calls += 1;
        let data = epoll::EventData::new_u64(id.to_u64() | LISTENER);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        if let Err(errno) = epoll::add(&self.epoll, socket, data, flags) {
            self.listeners.remove(id);
            return Err(error(errno));
        }
        Ok((id, local))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.cost.system_calls += u64::from(self.listeners.remove(listener).is_some());
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let error = |errno| open_error(Operation::Connect, Some(to), errno);
        let conn = Connection::connect(to, options, &mut self.cost).map_err(error)?;
        self.add(conn).map_err(error)
    }

    fn send(&mut self, id: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let conn = self
            .conns
            .get_mut(id)
            .filter(|conn| conn.phase == Phase::Open);
        let conn = conn.ok_or(SendError::NotConnected)?;
        let taken = conn.enqueue(queue);
        if !conn.touched {
            conn.touched = true;
            self.touched.push(id);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.touched = false;
                conn.transmit(&mut self.cost);
                if conn.has_work() {
                    list(&mut self.work, id, conn);
                }
            }
        }
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        self.now = Some(now);
        let mut done = self.expire(now) | self.wait();
        done |= self.accept(now, events);
        for _ in 0..self.work.len() {
            if let Some(id) = self.work.pop_front() {
                self.serve(id, events);
                done = true;
            }
        }
        done
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        match self.conns.get_mut(conn) {
            Some(conn) => conn.place(buffer),
            None => Err(buffer),
        }
    }

    fn set_receive(&mut self, id: ConnId, enabled: bool) {
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_owned()) {
            conn.set_receiving(enabled);
            if conn.has_work() {
                list(&mut self.work, id, conn);
            }
        }
    }

    fn close(&mut self, id: ConnId, how: Close) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_owned()) else {
            return;
        };
        if how == Close::Drain && conn.phase == Phase::Open {
            conn.drain();
            list(&mut self.work, id, conn);
            self.lingering
                .extend(self.now.map(|now| (now + LINGER, id)));
        } else if let Some(conn) = self.conns.remove(id) {
            conn.abort(&mut self.cost);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|&(until, _)| until);
        lingering.into_iter().chain(self.accept_again).min()
    }

    /// The epoll descriptor is readable as long as something is to be told, so there is no gap
    /// between looking and sleeping.
    fn park(&mut self) -> Park<'_> {
        let accepting = !self.accepting.is_empty() && self.accept_again.is_none();
        if accepting || !self.work.is_empty() {
            Park::Busy
        } else {
            Park::Fd(self.epoll.as_fd())
        }
    }

    fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

/// Puts a connection on the list of work, once.
fn list(work: &mut VecDeque<ConnId>, id: ConnId, conn: &mut Connection) {
    if !conn.listed {
        conn.listed = true;
        work.push_back(id);
    }
}

fn open_error(operation: Operation, address: Option<SocketAddr>, errno: Errno) -> OpenError {
    OpenError {
        transport: NAME,
        operation,
        address,
        source: io::Error::from(errno),
    }
}
