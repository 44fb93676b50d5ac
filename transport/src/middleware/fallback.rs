//! [`Fallback`]: two transports as one. Whoever is not reached over the first is tried over the second.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, ListenOptions,
    ListenerId, OpenError, Operation, Park, Port, SendError, Slots, Transport, TxQueue,
};

const NAME: &str = "fallback";
/// How long an attempt over the preferred transport may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// A host that did not answer there is not asked again for so long.
const SILENCE: Duration = Duration::from_secs(60);
/// Ports that the system chooses are free on one of the two; so many are tried on the other.
const PORTS: u32 = 16;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Preferred,
    Second,
}

/// Two transports that reach the same addresses, such as queue pairs and sockets.
///
/// Listens on both, at the same port, where both can; connects over the preferred one, and over the
/// second if that fails or takes longer than three seconds. So whoever has only one of them is reached,
/// and reaches us, and a session whose connection breaks comes back over what still works. Why not over
/// the preferred one is logged, once for each host.
pub struct Fallback<A, B> {
    preferred: A,
    second: B,
    conns: Slots<crate::slots::Conn, Connection>,
    listeners: Slots<crate::slots::Listener, Listener>,
    /// Whose the connections of each transport are, by their slots there.
    owners: [Vec<Option<(ConnId, ConnId)>>; 2],
    /// Attempts over the preferred transport, by the time at which they are given up.
    attempts: VecDeque<(Option<Instant>, ConnId)>,
    /// Hosts that did not answer there, and until when they are not asked again.
    silent: HashMap<IpAddr, Instant>,
    /// Hosts of which it was logged why they are not reached there.
    told: HashSet<IpAddr>,
    /// Ends to be told in the next poll.
    ended: Vec<Event>,
    /// The events of one of the two, reused.
    heard: Vec<Event>,
    now: Option<Instant>,
    epoll: OwnedFd,
    /// The descriptors in it.
    watched: [Option<RawFd>; 2],
}

#[derive(Debug)]
struct Connection {
    way: Way,
    inner: ConnId,
    /// Still to be connected, over either of the two.
    attempt: Option<ConnectOptions>,
    local: Option<SocketAddr>,
    remote: SocketAddr,
    receiving: bool,
}

#[derive(Debug)]
struct Listener {
    preferred: Option<ListenerId>,
    second: ListenerId,
    at: SocketAddr,
}

impl<A: Transport, B: Transport> Fallback<A, B> {
    /// Both of them, from now on.
    ///
    /// # Errors
    /// [`OpenError`] when the process has no descriptor left.
    pub fn new(preferred: A, second: B) -> Result<Self, OpenError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC);
        let epoll = epoll.map_err(|errno| error(Operation::Start, None, errno.into()))?;
        Ok(Self {
            preferred,
            second,
            conns: Slots::default(),
            listeners: Slots::default(),
            owners: [Vec::new(), Vec::new()],
            attempts: VecDeque::new(),
            silent: HashMap::new(),
            told: HashSet::new(),
            ended: Vec::new(),
            heard: Vec::new(),
            now: None,
            epoll,
            watched: [None; 2],
        })
    }

    fn over(&mut self, way: Way) -> &mut dyn Transport {
        match way {
            Way::Preferred => &mut self.preferred,
            Way::Second => &mut self.second,
        }
    }

    /// The transport of a connection, and its id there.
    fn inner(&mut self, id: ConnId) -> Option<(&mut dyn Transport, ConnId)> {
        let &Connection { way, inner, .. } = self.conns.get(id)?;
        Some((self.over(way), inner))
    }

    fn own(&mut self, way: Way, inner: ConnId, id: ConnId) {
        let owners = &mut self.owners[way as usize];
        if owners.len() <= inner.slot() {
            owners.resize(inner.slot() + 1, None);
        }
        owners[inner.slot()] = Some((inner, id));
    }

    fn owner(&self, way: Way, inner: ConnId) -> Option<ConnId> {
        let owner = self.owners[way as usize].get(inner.slot())?.as_ref();
        owner.and_then(|(of, id)| (*of == inner).then_some(*id))
    }

    fn disown(&mut self, way: Way, inner: ConnId) {
        if let Some(owner) = self.owners[way as usize].get_mut(inner.slot()) {
            *owner = None;
        }
    }

    /// Logs why a host is not connected over the preferred transport, once.
    fn tell(&mut self, peer: SocketAddr, why: &dyn Display) {
        if self.told.insert(peer.ip()) {
            tracing::warn!("connecting to {peer} over {}; {why}", self.second.name());
        }
    }

    /// Whether we listen there over the preferred transport.
    fn listens(&self, at: SocketAddr) -> bool {
        let there = |one: &Listener| {
            let any = one.at.ip().is_unspecified() && one.at.is_ipv4() == at.is_ipv4();
            one.at.port() == at.port() && (any || one.at.ip() == at.ip())
        };
        let mut listeners = self.listeners.iter();
        listeners.any(|(_, one)| one.preferred.is_some() && there(one))
    }

    /// Whether the preferred transport is worth a try.
    fn answers(&self, host: IpAddr) -> bool {
        let until = self.silent.get(&host);
        until.is_none_or(|until| self.now.is_some_and(|now| now >= *until))
    }

    /// Whether there is another connection between the same addresses: they have one at most.
    fn is_taken(&self, id: ConnId, conn: &Connection) -> bool {
        conn.local.is_some_and(|local| local.port() != 0)
            && self.conns.iter().any(|(other, one)| {
                other != id && (one.local, one.remote) == (conn.local, conn.remote)
            })
    }

    /// An attempt over the preferred transport has failed. Returns why there is none over the
    /// second.
    fn try_second(&mut self, id: ConnId, reason: &CloseReason) -> Result<(), CloseReason> {
        let conn = self.conns.get(id).ok_or_else(|| reason.clone())?;
        let options = conn.attempt.as_ref().filter(|_| !self.is_taken(id, conn));
        let options = options.ok_or_else(|| reason.clone())?;
        let inner = self.second.connect(conn.remote, options);
        let remote = conn.remote;
        let inner = inner.map_err(|error| CloseReason::from(&error.source))?;
        self.tell(remote, &format_args!("{}: {reason}", self.preferred.name()));
        if let Some(conn) = self.conns.get_mut(id) {
            (conn.way, conn.inner) = (Way::Second, inner);
            if !conn.receiving {
                self.second.set_receive(inner, false);
            }
        }
        self.own(Way::Second, inner, id);
        Ok(())
    }

    /// Takes a connection over the second transport in the place of our own attempt over the
    /// preferred one, which the peer does not have, if they cross. Whether it did.
    fn adopt(
        &mut self,
        way: Way,
        theirs: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
        events: &mut Vec<Event>,
    ) -> bool {
        let crosses = |conn: &Connection| {
            let ends = (conn.local, conn.remote) == (Some(local), remote);
            ends && conn.attempt.is_some() && (conn.way, way) == (Way::Preferred, Way::Second)
        };
        let Some((id, ours)) = self.conns.iter().find(|(_, conn)| crosses(conn)) else {
            return false;
        };
        let ours = ours.inner;
        self.preferred.close(ours, Close::Abort);
        self.disown(Way::Preferred, ours);
        if let Some(conn) = self.conns.get_mut(id) {
            (conn.way, conn.inner, conn.attempt) = (way, theirs, None);
            if !conn.receiving {
                self.second.set_receive(theirs, false);
            }
        }
        self.own(way, theirs, id);
        events.push(Event::Connected { conn: id, local });
        true
    }

    fn on(&mut self, way: Way, event: Event, events: &mut Vec<Event>) {
        match event {
            Event::Accepted {
                listener,
                conn,
                local,
                remote,
            } => {
                let same = |one: &Listener| match way {
                    Way::Preferred => one.preferred == Some(listener),
                    Way::Second => one.second == listener,
                };
                let Some((listener, _)) = self.listeners.iter().find(|(_, one)| same(one)) else {
                    return self.over(way).close(conn, Close::Abort);
                };
                if self.adopt(way, conn, local, remote, events) {
                    return;
                }
                let id = self.conns.insert(Connection {
                    way,
                    inner: conn,
                    attempt: None,
                    local: Some(local),
                    remote,
                    receiving: true,
                });
                self.own(way, conn, id);
                events.push(Event::Accepted {
                    listener,
                    conn: id,
                    local,
                    remote,
                });
            }
            Event::Connected { conn, local } => {
                if let Some(id) = self.owner(way, conn)
                    && let Some(conn) = self.conns.get_mut(id)
                {
                    conn.attempt = None;
                    conn.local = Some(local);
                    events.push(Event::Connected { conn: id, local });
                }
            }
            Event::Data { conn, bytes } => {
                let conn = self.owner(way, conn);
                events.extend(conn.map(|conn| Event::Data { conn, bytes }));
            }
            Event::Room { conn } => {
                let conn = self.owner(way, conn);
                events.extend(conn.map(|conn| Event::Room { conn }));
            }
            Event::Closed { conn, reason } => {
                let Some(id) = self.owner(way, conn) else {
                    return;
                };
                self.disown(way, conn);
                let reason = match way {
                    Way::Preferred => match self.try_second(id, &reason) {
                        Ok(()) => return,
                        Err(reason) => reason,
                    },
                    Way::Second => reason,
                };
                self.conns.remove(id);
                events.push(Event::Closed { conn: id, reason });
            }
        }
    }

    /// Gives up attempts that the preferred transport does not bring to an end.
    fn expire(&mut self, now: Instant) {
        for (until, _) in &mut self.attempts {
            until.get_or_insert(now + PATIENCE);
        }
        while let Some(&(until, id)) = self.attempts.front() {
            let waits = |conn: &&Connection| conn.attempt.is_some() && conn.way == Way::Preferred;
            let conn = self.conns.get(id).filter(waits);
            if conn.is_some() && until.is_some_and(|until| now < until) {
                break;
            }
            self.attempts.pop_front();
            if let Some(&Connection { inner, remote, .. }) = conn {
                self.silent.retain(|_, until| now < *until);
                self.silent.insert(remote.ip(), now + SILENCE);
                self.preferred.close(inner, Close::Abort);
                self.disown(Way::Preferred, inner);
                if let Err(reason) = self.try_second(id, &CloseReason::TimedOut) {
                    self.conns.remove(id);
                    self.ended.push(Event::Closed { conn: id, reason });
                }
            }
        }
    }
}

impl<A: Transport, B: Transport> Transport for Fallback<A, B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self) -> Caps {
        let (one, other) = (self.preferred.caps(), self.second.caps());
        Caps {
            copy_below: one.copy_below.max(other.copy_below),
            send_window: one.send_window.min(other.send_window),
            places: one.places || other.places,
        }
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let mut tries = 0;
        let (preferred, second, bound) = loop {
            let (second, bound) = self.second.listen(at, options).map_err(ours)?;
            match self.preferred.listen(bound, options) {
                Ok((preferred, _)) => break (Some(preferred), second, bound),
                Err(error)
                    if options.port == Port::Take
                        && error.source.kind() == io::ErrorKind::AddrInUse =>
                {
                    self.second.unlisten(second);
                    tries += 1;
                    if at.port() != 0 || tries == PORTS {
                        return Err(ours(error));
                    }
                }
                Err(error) => {
                    tracing::warn!("listening over {} alone; {error}", self.second.name());
                    break (None, second, bound);
                }
            }
        };
        let listener = self.listeners.insert(Listener {
            preferred,
            second,
            at: bound,
        });
        Ok((listener, bound))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        if let Some(Listener {
            preferred, second, ..
        }) = self.listeners.remove(listener)
        {
            if let Some(preferred) = preferred {
                self.preferred.unlisten(preferred);
            }
            self.second.unlisten(second);
        }
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let conn = |way, inner| Connection {
            way,
            inner,
            attempt: Some(options.clone()),
            local: options.local,
            remote: to,
            receiving: true,
        };
        let taken = options.local.filter(|local| local.port() != 0);
        let taken = taken.is_some_and(|local| {
            let same = |conn: &Connection| (conn.local, conn.remote) == (Some(local), to);
            self.conns.iter().any(|(_, conn)| same(conn))
        });
        if taken {
            let source = Errno::ADDRNOTAVAIL.into();
            return Err(error(Operation::Connect, Some(to), source));
        }
        let preferred = self.answers(to.ip());
        let preferred = preferred.then(|| self.preferred.connect(to, options));
        let (way, inner) = match preferred {
            Some(Ok(inner)) => (Way::Preferred, inner),
            // The address is there: it is the connection that exists already.
            Some(Err(error))
                if error.source.kind() == io::ErrorKind::AddrNotAvailable
                    && options.local.is_some_and(|local| self.listens(local)) =>
            {
                return Err(ours(error));
            }
            Some(Err(error)) => {
                self.tell(to, &error);
                (Way::Second, self.second.connect(to, options).map_err(ours)?)
            }
            None => (Way::Second, self.second.connect(to, options).map_err(ours)?),
        };
        let id = self.conns.insert(conn(way, inner));
        self.own(way, inner, id);
        if way == Way::Preferred {
            let until = self.now.map(|now| now + PATIENCE);
            self.attempts.push_back((until, id));
        }
        Ok(id)
    }

    fn send(&mut self, id: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let (transport, conn) = self.inner(id).ok_or(SendError::NotConnected)?;
        transport.send(conn, queue)
    }

    fn flush(&mut self) {
        self.preferred.flush();
        self.second.flush();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        self.now = Some(now);
        let mut done = !self.ended.is_empty();
        let mut heard = std::mem::take(&mut self.heard);
        // First whoever reaches us over the second: they may not have the other.
        for way in [Way::Second, Way::Preferred] {
            done |= self.over(way).poll(now, &mut heard);
            for event in heard.drain(..) {
                self.on(way, event, events);
            }
        }
        self.heard = heard;
        self.expire(now);
        done |= !self.ended.is_empty();
        events.append(&mut self.ended);
        done
    }

    fn place(&mut self, id: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        match self.inner(id) {
            Some((transport, conn)) => transport.place(conn, buffer),
            None => Err(buffer),
        }
    }

    fn set_receive(&mut self, id: ConnId, enabled: bool) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.receiving = enabled;
        }
        if let Some((transport, conn)) = self.inner(id) {
            transport.set_receive(conn, enabled);
        }
    }

    fn close(&mut self, id: ConnId, how: Close) {
        if let Some(Connection { way, inner, .. }) = self.conns.remove(id) {
            self.disown(way, inner);
            self.over(way).close(inner, how);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let attempt = self.attempts.front().and_then(|(until, _)| *until);
        let inner = [self.preferred.next_timeout(), self.second.next_timeout()];
        inner.into_iter().chain([attempt]).flatten().min()
    }

    fn park(&mut self) -> Park<'_> {
        if !self.ended.is_empty() {
            return Park::Busy;
        }
        let mut nap = None;
        let both: [&mut dyn Transport; 2] = [&mut self.preferred, &mut self.second];
        for (transport, watched) in both.into_iter().zip(&mut self.watched) {
            match transport.park() {
                Park::Busy => return Park::Busy,
                Park::Nap(most) => nap = Some(nap.map_or(most, |nap: Duration| nap.min(most))),
                Park::Fd(descriptor) => {
                    if *watched == Some(descriptor.as_raw_fd()) {
                        continue;
                    }
                    let data = EventData::new_u64(0);
                    if epoll::add(&self.epoll, descriptor, data, EventFlags::IN).is_err() {
                        return Park::Busy;
                    }
                    *watched = Some(descriptor.as_raw_fd());
                }
            }
        }
        match nap {
            Some(most) => Park::Nap(most),
            None => Park::Fd(self.epoll.as_fd()),
        }
    }

    fn unpark(&mut self) {
        self.preferred.unpark();
        self.second.unpark();
    }

    fn pool(&mut self) -> &mut BufferPool {
        self.preferred.pool()
    }

    fn cost(&self) -> Cost {
        let (one, other) = (self.preferred.cost(), self.second.cost());
        Cost {
            system_calls: one.system_calls + other.system_calls,
            doorbells: one.doorbells + other.doorbells,
            bytes_copied: one.bytes_copied + other.bytes_copied,
        }
    }
}

/// An error of one of the two.
fn ours(error: OpenError) -> OpenError {
    OpenError {
        transport: NAME,
        ..error
    }
}

fn error(operation: Operation, address: Option<SocketAddr>, source: io::Error) -> OpenError {
    OpenError {
        transport: NAME,
        operation,
        address,
        source,
    }
}
