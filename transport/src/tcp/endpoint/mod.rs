//! [`Tcp`]: the transport. Demultiplexes what arrives, serves the connections that something has
//! happened to and no others, and keeps their deadlines.

mod incoming;
mod service;

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::by_ends::ByEnds;
use super::config::TcpConfig;
use super::flow::{Flow, Phase};
use super::lender::Lender;
use super::link::Link;
use super::names::Names;
use super::port::Port;
use super::segment::Ends;
use super::steering::{Steering, SteeringCounters};
use super::tcb::{Outgoing, Tcb};
use super::time::Time;
use super::train::Train;
use super::wheel::Wheel;
use super::{BURST, Device, DeviceCounters};
use crate::send_queue::SendQueue;
use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, LINGER,
    ListenOptions, ListenerId, OpenError, Operation, Park, SendError, Slots, Transport, TxQueue,
};

/// What all connections are received into, until it is used up.
const BLOCK: usize = 256 << 10;
/// A block with less room than this is replaced, lest what is handed up becomes small.
const LEAST_READ: usize = 64 << 10;
/// The most bursts that one poll takes from the device.
const BURSTS: usize = 4;
/// Segments below this size are as well copied together: they are copied anyway.
const COPY_BELOW: usize = 4 << 10;
/// How long the peer may take to end its direction of a connection after we have ended ours, as
/// Linux (tcp(7), `tcp_fin_timeout`).
const FIN_TIMEOUT: Duration = Duration::from_secs(60);

/// TCP in userspace, over a packet device.
pub struct Tcp<D: Device> {
    port: Port<D>,
    config: TcpConfig,
    started: Instant,
    now: Time,
    names: Names,
    /// What we share with the endpoints at other queues of the device, if there are any.
    steering: Option<Steering<D::Frame>>,
    flows: Slots<crate::slots::Conn, Flow>,
    by_ends: ByEnds,
    /// What a segment was for last.
    found: Option<ConnId>,
    /// What the frames that came at once go on with.
    train: Option<Train>,
    deadlines: Wheel,
    /// Those that the wheel brings up, while it does.
    due: Vec<ConnId>,
    /// Connections to be served at the next poll.
    work: VecDeque<ConnId>,
    /// Connections sent to since the last flush.
    touched: Vec<ConnId>,
    /// Connections that something has happened to in this turn. At its end, when their owners may have
    /// answered, they send what there is, and are armed.
    unsettled: Vec<ConnId>,
    /// Connections that the caller has left, by the time at which they are dropped.
    lingering: BTreeSet<(Time, ConnId)>,
    /// A burst of frames on its way in.
    burst: Vec<D::Frame>,
    lender: Lender,
    pool: BufferPool,
    /// What has arrived for one connection in a row, and for which.
    block: BytesMut,
    block_of: Option<ConnId>,
    cost: Cost,
}

impl<D: Device> Tcp<D> {
    /// An endpoint at a device. `now` is the time.
    ///
    /// # Errors
    /// [`OpenError`] when an address cannot be ours, or there are too many.
    pub fn new(device: D, config: TcpConfig, now: Instant) -> Result<Self, OpenError> {
        let name = device.name();
        let error = |what: String| OpenError {
            transport: name,
            operation: Operation::Start,
            address: None,
            source: io::Error::new(io::ErrorKind::InvalidInput, what),
        };
        let lender = Lender::new(device.caps().lends);
        let link = Link::new(device.caps().mac, &config.addresses, &config.gateways)
            .map_err(|what| error(what.to_string()))?;
        let mut port = Port::new(device, link, now);
        port.announce();
        let mut pool = BufferPool::default();
        Ok(Self {
            port,
            config,
            started: now,
            now: Time::default(),
            names: Names::default(),
            steering: None,
            flows: Slots::default(),
            by_ends: ByEnds::default(),
            found: None,
            train: None,
            deadlines: Wheel::default(),
            due: Vec::new(),
            work: VecDeque::new(),
            touched: Vec::new(),
            unsettled: Vec::new(),
            lingering: BTreeSet::new(),
            burst: Vec::with_capacity(BURST),
            lender,
            block: pool.take(BLOCK),
            block_of: None,
            pool,
            cost: Cost::default(),
        })
    }

    /// The endpoint at one queue of a port that has several. Each of them needs the same addresses,
    /// and the [`Steering`] of its queue. They may be on different threads.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn steered(
        device: D,
        steering: Steering<D::Frame>,
        config: TcpConfig,
        now: Instant,
    ) -> Result<Self, OpenError> {
        let mut tcp = Self::new(device, config, now)?;
        tcp.steering = Some(steering).filter(Steering::has_others);
        Ok(tcp)
    }

    /// What came here for other queues of the port.
    pub fn steering_counters(&self) -> SteeringCounters {
        let steering = self.steering.as_ref();
        steering.map_or_else(SteeringCounters::default, Steering::counters)
    }

    /// What has gone through the device.
    pub fn counters(&mut self) -> DeviceCounters {
        self.port.device.counters()
    }

    /// How many connections there are, also those that the caller has left.
    pub fn connections(&self) -> usize {
        self.flows.len()
    }

    fn add(&mut self, flow: Flow) -> ConnId {
        let ends = flow.tcb.ends;
        let id = self.flows.insert(flow);
        self.by_ends.insert(&ends, id, &self.flows);
        id
    }

    fn remove(&mut self, id: ConnId) {
        let Some(flow) = self.flows.remove(id) else {
            return;
        };
        self.by_ends.remove(&flow.tcb.ends, id);
        self.release(&flow.tcb.ends);
        self.deadlines.remove(id);
        if let Phase::Accepting(listener) = flow.phase {
            self.is_no_longer_half_open(listener);
        }
        if self.block_of == Some(id) {
            self.block.clear();
            self.block_of = None;
        }
    }

    /// Where a connection's numbers begin: unlike its last ones, and not to be guessed (RFC 9293, section
    /// 3.4.1).
    fn initial(&self, ends: &Ends) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.config.seed, ends).hash(&mut hasher);
        let micros = self.now.nanos() / 1000;
        (hasher.finish() as u32).wrapping_add((micros / 4) as u32)
    }

    /// Has a connection be at this endpoint, unless there is one at any of our host.
    fn claim(&self, ends: Ends) -> bool {
        let steering = self.steering.as_ref();
        steering.is_none_or(|steering| steering.claim(ends))
    }

    fn release(&self, ends: &Ends) {
        if let Some(steering) = &self.steering {
            steering.release(ends);
        }
    }

    fn is_no_longer_half_open(&mut self, listener: ListenerId) -> bool {
        let listener = self.names.get_mut(listener);
        listener.is_some_and(|listener| {
            listener.half_open -= 1;
            true
        })
    }

    fn list(&mut self, id: ConnId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.listed
        {
            flow.listed = true;
            self.work.push_back(id);
        }
    }

    fn open_error(&self, operation: Operation, at: SocketAddr, source: io::Error) -> OpenError {
        OpenError {
            transport: self.port.device.name(),
            operation,
            address: Some(at),
            source,
        }
    }

    /// The two ends of a new connection.
    fn ends(&mut self, remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<Ends> {
        let not_available = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        if remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let asked = local
            .map(|local| local.ip())
            .filter(|ip| !ip.is_unspecified());
        let ip = match asked {
            Some(ip) => Some(ip).filter(|ip| self.port.link.is_own(*ip)),
            None => self.port.link.source_for(remote.ip()),
        };
        let ip = ip.filter(|ip| ip.is_ipv4() == remote.is_ipv4());
        let ip = ip.ok_or_else(not_available)?;
        let is_local = self.port.link.is_own(remote.ip());
        let Self {
            names,
            by_ends,
            flows,
            steering,
            ..
        } = self;
        let steering = steering.as_ref();
        let ends = |port| Ends {
            local: SocketAddr::new(ip, port),
            remote,
        };
        let is_free = |port: u16| {
            let ends = ends(port);
            by_ends.find(&ends, flows).is_none()
                && steering.is_none_or(|others| others.is_unclaimed(&ends))
        };
        let suits = |port| steering.is_none_or(|others| others.suits(&ends(port), is_local));
        let is_foreign = |port| steering.is_some_and(|others| others.is_foreign(ends(port).local));
        let port = match local.map_or(0, |local| local.port()) {
            0 => names.choose_port(|port| suits(port) && is_free(port)),
            port if is_foreign(port) => return Err(io::ErrorKind::AddrInUse.into()),
            port => Some(port).filter(|port| is_free(*port)),
        };
        port.map(ends).ok_or_else(not_available)
    }
}

impl<D: Device> Transport for Tcp<D> {
    fn name(&self) -> &'static str {
        self.port.device.name()
    }

    fn caps(&self) -> Caps {
        Caps {
            copy_below: COPY_BELOW,
            send_window: SendQueue::WINDOW,
            // The block that bytes are copied into stays in the cache, which a longer place would not.
            places: false,
        }
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let ours = at.ip().is_unspecified() || self.port.link.is_own(at.ip());
        let listener = if ours {
            let steering = self.steering.as_ref();
            self.names
                .listen(at, options, self.config.half_open, steering)
        } else {
            Err(io::ErrorKind::AddrNotAvailable.into())
        };
        listener.map_err(|source| self.open_error(Operation::Listen, at, source))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let at = self.names.unlisten(listener);
        if let (Some(at), Some(steering)) = (at, &self.steering) {
            steering.unlisten(at);
        }
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let ends = self.ends(to, options.local);
        let ends = ends.map_err(|source| self.open_error(Operation::Connect, to, source))?;
        if !self.claim(ends) {
            // Another endpoint of ours was faster.
            let source = io::ErrorKind::AddrNotAvailable.into();
            return Err(self.open_error(Operation::Connect, to, source));
        }
        let (initial, mss) = (self.initial(&ends), self.port.mss(to.ip()));
        let tcb = Tcb::connect(ends, initial, mss, self.config.window, self.now);
        let mut flow = Flow::new(tcb, Phase::Connecting);
        if ends.local == ends.remote {
            flow.hopeless = Some(CloseReason::Refused);
        }
        let id = self.add(flow);
        self.list(id);
        Ok(id)
    }

    fn send(&mut self, id: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let flow = self.flows.get_mut(id);
        let flow = flow.filter(|flow| flow.phase == Phase::Open);
        let flow = flow.ok_or(SendError::NotConnected)?;
        let ours = flow.tcb.queue().ok_or(SendError::NotConnected)?;
        let taken = ours.take(queue);
        if !flow.touched {
            flow.touched = true;
            self.touched.push(id);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.touched = false;
                flow.tcb.queue().into_iter().for_each(Outgoing::flush);
                self.cost.doorbells += 1;
                self.unsettle(id);
            }
        }
        self.touched = touched;
        self.settle();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        self.port.now = now;
        self.now = Time::of(now, self.started);
        self.settle();
        let mut done = self.receive();
        done |= self.expire();
        let mut due = std::mem::take(&mut self.due);
        self.deadlines.expire(self.now, &mut due);
        for id in due.drain(..) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.brought_up(self.now);
            }
            self.list(id);
        }
        self.due = due;
        done |= !self.work.is_empty();
        for _ in 0..self.work.len() {
            if let Some(id) = self.work.pop_front() {
                self.serve(id, events);
            }
        }
        self.port.keep_neighbours();
        self.flush_device();
        done
    }

    fn set_receive(&mut self, id: ConnId, enabled: bool) {
        if let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.is_owned()) {
            flow.receiving = enabled;
            if enabled {
                self.list(id);
            }
        }
    }

    fn close(&mut self, id: ConnId, how: Close) {
        let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.is_owned()) else {
            return;
        };
        if how == Close::Drain && flow.phase == Phase::Open {
            flow.drain();
            self.list(id);
            self.linger(id);
        } else {
            self.abort(id);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let lingering = self.lingering.first().map(|&(until, _)| until);
        let ours = [
            lingering,
            self.deadlines.next_timeout(),
            Some(self.now).filter(|_| !self.unsettled.is_empty()),
        ];
        let ours = ours.into_iter().flatten().min();
        // What is known of neighbours may as well go out of date while nobody wants anything.
        let link = &self.port.link;
        let neighbours = link.next_timeout().filter(|_| link.is_waited_for());
        let all = [
            ours.map(|at| at.instant(self.started)),
            neighbours,
            self.port.device.next_timeout(),
        ];
        all.into_iter().flatten().min()
    }

    fn park(&mut self) -> Park<'_> {
        let is_settled = self.work.is_empty() && self.unsettled.is_empty();
        if !is_settled || !self.port.looped.is_empty() {
            return Park::Busy;
        }
        let device = self.port.device.park();
        match &self.steering {
            Some(steering) => steering.park(device),
            None => device,
        }
    }

    fn unpark(&mut self) {
        self.port.device.unpark();
        if let Some(steering) = &self.steering {
            self.cost.system_calls += u64::from(steering.unpark());
        }
    }

    fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn cost(&self) -> Cost {
        let device = self.port.device.cost();
        Cost {
            system_calls: self.cost.system_calls + device.system_calls,
            bytes_copied: self.cost.bytes_copied + device.bytes_copied,
            ..self.cost
        }
    }
}

#[cfg(test)]
mod tests;
