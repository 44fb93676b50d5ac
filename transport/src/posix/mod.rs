//! [`Posix`]: TCP over non-blocking sockets and edge-triggered epoll, for any Linux host.
//!
//! One `sendmsg` per connection and flush; one `recv` per connection and poll, all into the same
//! pooled block, whose slices go up without a copy. A connection is registered with epoll once,
//! unless it is so busy that polling it is better. Socket options and system calls live here and
//! in the modules below, nothing of msgr2 does.

mod busy_poll;
pub(crate) mod connection;
mod epoll;
pub(crate) mod listener;
pub(crate) mod sys;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::fd::AsFd;
use rustix::io::Errno;

use crate::send_queue::SendQueue;
use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, LINGER,
    ListenOptions, ListenerId, OpenError, Operation, Park, SendError, Slots, Transport, TxQueue,
};
use busy_poll::BusyPoll;
use connection::{Connection, Phase, Received};
use epoll::{Change, Epoll};
use listener::{Accept, Listener};

const NAME: &str = "posix";
/// What all connections read into, until it is used up.
const BLOCK: usize = 256 << 10;
/// A block with less room than this is replaced, lest reads become small.
const LEAST_READ: usize = 64 << 10;
/// How many connections one listener may bring per poll.
const ACCEPTS: usize = 64;
/// Segments below this size are cheaper to copy together than to describe one by one.
const COPY_BELOW: usize = 4 << 10;
/// How long to leave connections waiting after accepting has failed, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// TCP over the operating system's sockets.
pub struct Posix {
    epoll: Epoll,
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
    busy: BusyPoll,
    /// The connection that is read unasked, and not watched by epoll meanwhile.
    polled: Option<ConnId>,
}

impl Posix {
    /// A transport without any socket yet.
    ///
    /// # Errors
    /// [`OpenError`] when the process has no file descriptor left for epoll.
    pub fn new() -> Result<Self, OpenError> {
        let error = |errno| open_error(Operation::Start, None, errno);
        let epoll = Epoll::new().map_err(error)?;
        let mut pool = BufferPool::default();
        Ok(Self {
            epoll,
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
            busy: BusyPoll::default(),
            polled: None,
        })
    }

    /// Adds a connection and has it watched.
    fn add(&mut self, connection: Connection) -> Result<ConnId, Errno> {
        let id = self.conns.insert(connection);
        let socket = &self.conns.get(id).expect("just inserted").socket;
        self.cost.system_calls += 1;
        if let Err(errno) = self.epoll.watch(socket, id) {
            self.conns.remove(id);
            return Err(errno);
        }
        Ok(id)
    }

    /// The connection, if the caller may still use it.
    fn owned(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(id).filter(|conn| conn.is_owned())
    }

    /// Follows [`BusyPoll`]'s advice: at most one connection is polled and not watched.
    fn follow(&mut self, advice: Option<ConnId>) {
        let possible = |&id: &ConnId| self.conns.get(id).is_some_and(Connection::needs_no_watch);
        let polled = advice.filter(possible);
        if polled == self.polled {
            return;
        }
        self.cost.system_calls += 1;
        if let Some(id) = self.polled.take() {
            self.busy.forget();
            if let Some(conn) = self.conns.get_mut(id)
                && let Err(errno) = self.epoll.watch(&conn.socket, id)
            {
                conn.fail(errno);
                list(&mut self.work, id, conn);
            }
        } else if let Some(id) = polled
            && let Some(conn) = self.conns.get(id)
            && self.epoll.unwatch(&conn.socket).is_ok()
        {
            self.polled = polled;
        }
    }

    /// Lists who may have work: whoever epoll names, or the connection being polled. Whether that is
    /// more than a guess.
    fn look(&mut self) -> bool {
        if let Some(id) = self.polled
            && self.work.is_empty()
            && self.busy.may_skip_epoll()
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.readable = true;
            list(&mut self.work, id, conn);
            return false;
        }
        self.cost.system_calls += 1;
        self.epoll.look(|change| match change {
            Change::Connection(id, flags) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.notice(flags);
                    if conn.has_work() {
                        list(&mut self.work, id, conn);
                    }
                }
            }
            Change::Listener(id) => {
                if let Some(listener) = self.listeners.get_mut(id)
                    && !listener.ready
                {
                    listener.ready = true;
                    self.accepting.push_back(id);
                }
            }
        });
        true
    }

    /// Accepts some of the connections that wait.
    fn accept(&mut self, now: Instant, events: &mut Vec<Event>) {
        if self.accept_again.is_some_and(|again| now < again) {
            return;
        }
        self.accept_again = None;
        for _ in 0..self.accepting.len() {
            let Some(listener) = self.accepting.pop_front() else {
                break;
            };
            if let Err(errno) = self.accept_from(listener, events) {
                tracing::warn!(%errno, "cannot accept connections for a while");
                self.accepting.push_back(listener);
                self.accept_again = Some(now + ACCEPT_PAUSE);
                break;
            }
        }
    }

    fn accept_from(&mut self, id: ListenerId, events: &mut Vec<Event>) -> Result<(), Errno> {
        for _ in 0..ACCEPTS {
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
                Accept::Failed(errno) => return Err(errno),
            }
        }
        self.accepting.push_back(id);
        Ok(())
    }

    /// Does for one connection what can be done now, and lists it again if that is not all.
    /// Whether it has received anything.
    fn serve(&mut self, id: ConnId, events: &mut Vec<Event>) -> bool {
        let Some(conn) = self.conns.get_mut(id) else {
            return false;
        };
        conn.listed = false;
        if conn.phase == Phase::Connecting {
            match conn.establish(&mut self.cost) {
                Ok(None) => return false,
                Ok(Some(local)) => events.push(Event::Connected { conn: id, local }),
                Err(reason) => return self.end(id, reason, events),
            }
        }
        conn.transmit(&mut self.cost);
        conn.shut_when_drained(&mut self.cost);
        if conn.queue.take_room() {
            events.push(Event::Room { conn: id });
        }
        if self.block.capacity() - self.block.len() < LEAST_READ && !self.block.try_reclaim(BLOCK) {
            let used_up = std::mem::replace(&mut self.block, self.pool.take(BLOCK));
            self.pool.give(used_up, BLOCK);
        }
        let received = conn.receive(&mut self.block, &mut self.cost);
        let any = !matches!(received, Received::Nothing);
        if any {
            self.busy.received(id);
        }
        match received {
            Received::Bytes(bytes) if conn.phase == Phase::Open => {
                events.push(Event::Data { conn: id, bytes });
            }
            Received::Bytes(_) | Received::Part | Received::Nothing => {}
            Received::End(reason) => return self.end(id, reason, events),
        }
        if conn.has_work() {
            list(&mut self.work, id, conn);
        }
        any
    }

    fn end(&mut self, id: ConnId, reason: CloseReason, events: &mut Vec<Event>) -> bool {
        if self.owned(id).is_some() {
            events.push(Event::Closed { conn: id, reason });
        }
        self.cost.system_calls += 1;
        self.conns.remove(id).is_some()
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
            send_window: SendQueue::WINDOW,
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
        if let Err(errno) = self.epoll.watch_listener(socket, id) {
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
        let listens_at = |at| self.listeners.iter().any(|(_, one)| one.holds(at));
        let listening = options.local.is_some_and(listens_at);
        let conn = Connection::connect(to, options.local, listening, &mut self.cost);
        let conn = conn.map_err(error)?;
        self.add(conn).map_err(error)
    }

    fn send(&mut self, id: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let conn = self
            .conns
            .get_mut(id)
            .filter(|conn| conn.phase == Phase::Open);
        let conn = conn.ok_or(SendError::NotConnected)?;
        let taken = conn.queue.take(queue);
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
        let before = events.len();
        let mut done = self.expire(now);
        self.follow(self.busy.suggestion());
        let known = self.look();
        self.accept(now, events);
        done |= known && !self.work.is_empty();
        for _ in 0..self.work.len() {
            if let Some(id) = self.work.pop_front() {
                done |= self.serve(id, events);
            }
        }
        done | (events.len() > before)
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
        self.follow(None);
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
