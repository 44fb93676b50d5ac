//! [`Tcp`]: the transport. Demultiplexes what arrives, serves the connections that something has
//! happened to and no others, and keeps their deadlines.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::config::{Clock, TcpConfig};
use super::flow::{Flow, Phase};
use super::link::{Input, Link};
use super::names::Names;
use super::phy::Phy;
use super::segment::{Ends, Segment};
use super::wheel::Wheel;
use super::windows::Windows;
use super::{BURST, Checksums, Device, DeviceCounters, Frame};
use crate::send_queue::SendQueue;
use crate::{
    BufferPool, Caps, Close, CloseReason, ConnId, ConnectOptions, Cost, Event, ListenOptions,
    ListenerId, OpenError, Operation, Park, SendError, Slots, Transport, TxQueue,
};

/// What all connections are received into, until it is used up.
const BLOCK: usize = 256 << 10;
/// A block with less room than this is replaced, lest what is handed up becomes small.
const LEAST_READ: usize = 64 << 10;
/// The most bursts that one poll takes from the device.
const BURSTS: usize = 4;
/// Segments below this size are as well copied together: they are copied anyway.
const COPY_BELOW: usize = 4 << 10;
/// How long a closed connection may take to get rid of its last bytes.
const LINGER: Duration = Duration::from_secs(5);
/// How long the peer may take to end its direction of a connection after we have ended ours, as
/// Linux (tcp(7), `tcp_fin_timeout`).
const FIN_TIMEOUT: Duration = Duration::from_secs(60);

/// TCP in userspace, over a packet device.
pub struct Tcp<D: Device> {
    phy: Phy<D>,
    interface: Interface,
    /// For what is for no connection: echo requests, segments astray.
    nobody: SocketSet<'static>,
    clock: Clock,
    config: TcpConfig,
    names: Names,
    windows: Windows,
    flows: Slots<crate::slots::Conn, Flow>,
    by_ends: HashMap<Ends, ConnId>,
    deadlines: Wheel,
    /// Connections to be served at the next poll.
    work: VecDeque<ConnId>,
    /// Connections sent to since the last flush.
    touched: Vec<ConnId>,
    /// Connections that the caller has left, by the time at which they are dropped.
    lingering: BTreeSet<(Instant, ConnId)>,
    /// A burst of frames on its way in.
    burst: Vec<D::Frame>,
    pool: BufferPool,
    block: BytesMut,
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
        let link = Link::new(device.caps().mac, &config.addresses, &config.gateways)
            .map_err(|what| error(what.to_string()))?;
        let mut clock = Clock::new(config.clock_scale);
        let mut phy = Phy::new(device, link, now);
        let mut settings = Config::new(HardwareAddress::Ip);
        settings.random_seed = config.seed;
        let mut interface = Interface::new(settings, &mut phy, clock.at(now));
        let mut fits = true;
        interface.update_ip_addrs(|addresses| {
            for (address, prefix_len) in phy.link.addresses() {
                fits &= addresses
                    .push(IpCidr::new(address.into(), prefix_len))
                    .is_ok();
            }
        });
        if !fits {
            return Err(error("too many addresses".to_owned()));
        }
        phy.announce();
        let mut pool = BufferPool::default();
        Ok(Self {
            phy,
            interface,
            nobody: SocketSet::new(Vec::new()),
            clock,
            windows: Windows::new(2 * config.window),
            config,
            names: Names::default(),
            flows: Slots::default(),
            by_ends: HashMap::new(),
            deadlines: Wheel::default(),
            work: VecDeque::new(),
            touched: Vec::new(),
            lingering: BTreeSet::new(),
            burst: Vec::with_capacity(BURST),
            block: pool.take(BLOCK),
            pool,
            cost: Cost::default(),
        })
    }

    /// What has gone through the device.
    pub fn counters(&mut self) -> DeviceCounters {
        self.phy.device.counters()
    }

    /// How many connections there are, also those that the caller has left.
    pub fn connections(&self) -> usize {
        self.flows.len()
    }

    fn add(&mut self, flow: Flow) -> ConnId {
        let ends = flow.ends;
        let id = self.flows.insert(flow);
        self.by_ends.insert(ends, id);
        id
    }

    fn remove(&mut self, id: ConnId) {
        let Some(flow) = self.flows.remove(id) else {
            return;
        };
        self.by_ends.remove(&flow.ends);
        if let Some(armed) = flow.armed {
            self.deadlines.remove(armed, id);
        }
        if let Phase::Accepting(listener) = flow.phase {
            self.is_no_longer_half_open(listener);
        }
        self.windows.give(flow.into_window());
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

    // What comes in.

    /// Takes in what has arrived. Whether anything has.
    fn receive(&mut self, now: Instant) -> bool {
        let mut any = false;
        for _ in 0..BURSTS {
            let mut burst = std::mem::take(&mut self.burst);
            burst.extend(self.phy.looped.drain(..));
            let looped = burst.len();
            self.phy.device.receive(now, &mut burst);
            any |= !burst.is_empty();
            let is_full = burst.len() - looped >= BURST;
            for (at, frame) in burst.drain(..).enumerate() {
                if at < looped {
                    let packet = super::ETHERNET_HEADER_LEN..frame.len();
                    self.take_in(frame, packet);
                } else if frame.checksums() != Checksums::Bad {
                    match self.phy.input(&frame) {
                        Input::Ip(packet) => self.take_in(frame, packet),
                        Input::Handled | Input::Ignored(_) => {}
                    }
                }
            }
            self.burst = burst;
            if !is_full {
                break;
            }
        }
        any
    }

    /// Takes in an IP packet.
    fn take_in(&mut self, frame: D::Frame, packet: Range<usize>) {
        let at = self.clock.at(self.phy.now);
        let Some(segment) = Segment::peek(&frame[packet.clone()]) else {
            self.phy.bring(frame, packet);
            let Self {
                interface,
                phy,
                nobody,
                ..
            } = self;
            interface.poll_ingress_single(at, phy, nobody);
            return;
        };
        let known = self.by_ends.get(&segment.ends).copied();
        let id = match known {
            Some(id) if segment.opens() && self.may_begin_anew(id) => {
                self.remove(id);
                self.welcome(&segment)
            }
            None if segment.opens() => self.welcome(&segment),
            known => known,
        };
        // Who is not answered asks again; who asks where nobody listens is told so.
        if id.is_none() && segment.opens() && self.names.is_listened_at(segment.ends.local) {
            return;
        }
        // Nothing answers a SYN that has not gone out yet. To smoltcp 0.14 such a SYN is a window
        // that was overrun, and it panics.
        let flow = id.and_then(|id| self.flows.get(id));
        if flow.is_some_and(|flow| flow.phase == Phase::Connecting && flow.sent_up_to.is_none()) {
            return;
        }
        self.phy.bring(frame, packet);
        let Self {
            interface,
            phy,
            nobody,
            flows,
            ..
        } = self;
        let Some((id, flow)) = id.and_then(|id| Some((id, flows.get_mut(id)?))) else {
            phy.sent_up_to = None;
            interface.poll_ingress_single(at, phy, nobody);
            return;
        };
        flow.active = true;
        let before = flow.state();
        phy.sent_up_to = flow.sent_up_to;
        interface.poll_ingress_single(at, phy, &mut flow.sockets);
        flow.sent_up_to = phy.sent_up_to;
        if segment.resets() && matches!(flow.state(), State::Closed | State::Listen) {
            flow.was_reset |= before != flow.state();
        }
        self.list(id);
    }

    /// Whether a connection that is over may give way to a new one between the same ends (RFC 9293,
    /// section 3.10.7.4; RFC 6191).
    fn may_begin_anew(&self, id: ConnId) -> bool {
        let flow = self.flows.get(id);
        flow.is_some_and(|flow| !flow.is_owned() && flow.state() == State::TimeWait)
    }

    /// Makes a connection for somebody who asks for one, if anybody accepts it.
    fn welcome(&mut self, segment: &Segment) -> Option<ConnId> {
        let ends = segment.ends;
        let listener = self.names.listener_for(ends.local)?;
        let window = self.windows.take().ok()?;
        let phase = Phase::Accepting(listener);
        let mut flow = Flow::new(ends, phase, window, &self.config, &self.clock);
        flow.socket().listen(ends.local).ok()?;
        if let Some(listener) = self.names.get_mut(listener) {
            listener.half_open += 1;
        }
        Some(self.add(flow))
    }

    // Serving connections.

    /// Does for one connection what can be done now.
    fn serve(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.listed = false;
        if let Some(reason) = flow.hopeless.take() {
            return self.end(id, reason, events);
        }
        self.establish(id, events);
        if self.block.capacity() - self.block.len() < LEAST_READ && !self.block.try_reclaim(BLOCK) {
            let used_up = std::mem::replace(&mut self.block, self.pool.take(BLOCK));
            self.pool.give(used_up, BLOCK);
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        match flow.phase {
            Phase::Open => {
                if let Some(bytes) = flow.receive(&mut self.block, &mut self.cost) {
                    events.push(Event::Data { conn: id, bytes });
                }
            }
            Phase::Draining | Phase::Shut | Phase::HalfClosed => flow.discard(),
            Phase::Connecting | Phase::Accepting(_) => {}
        }
        self.transmit(id);
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let more = flow.phase == Phase::Open && flow.receiving && flow.socket().can_recv();
        match flow.phase {
            Phase::Open => {
                if flow.queue.take_room() {
                    events.push(Event::Room { conn: id });
                }
                if flow.is_at_end() && flow.receiving {
                    let reason = flow.reason();
                    return self.end(id, reason, events);
                }
            }
            // An attempt that has just timed out.
            Phase::Connecting | Phase::Accepting(_) => {
                if flow.state() == State::Closed {
                    return self.establish(id, events);
                }
            }
            Phase::Draining | Phase::Shut | Phase::HalfClosed => {
                if flow.state() == State::Closed {
                    return self.remove(id);
                }
            }
        }
        if more {
            self.list(id);
        }
        self.arm(id);
    }

    /// Finds out what has become of an attempt.
    fn establish(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let (state, ends) = (flow.state(), flow.ends);
        match flow.phase {
            Phase::Connecting => match state {
                State::SynSent | State::SynReceived => {}
                State::Closed | State::Listen => {
                    let reason = if flow.was_reset {
                        CloseReason::Refused
                    } else {
                        CloseReason::TimedOut
                    };
                    self.end(id, reason, events);
                }
                _ => {
                    flow.phase = Phase::Open;
                    let local = ends.local;
                    events.push(Event::Connected { conn: id, local });
                }
            },
            Phase::Accepting(listener) => match state {
                State::SynReceived => {}
                State::Closed | State::Listen => self.remove(id),
                _ => {
                    flow.phase = Phase::Open;
                    if self.is_no_longer_half_open(listener) {
                        events.push(Event::Accepted {
                            listener,
                            conn: id,
                            local: ends.local,
                            remote: ends.remote,
                        });
                    } else {
                        self.abort(id);
                    }
                }
            },
            _ => {}
        }
    }

    /// Has TCP send what it can.
    fn transmit(&mut self, id: ConnId) {
        let at = self.clock.at(self.phy.now);
        let Self {
            interface,
            phy,
            flows,
            cost,
            ..
        } = self;
        let Some(flow) = flows.get_mut(id) else {
            return;
        };
        flow.fill(cost);
        if flow.phase == Phase::Draining && flow.queue.is_empty() {
            flow.socket().close();
            flow.phase = Phase::Shut;
        }
        phy.exhausted = false;
        phy.unreachable = false;
        phy.sent_up_to = flow.sent_up_to;
        while interface.poll_egress(at, phy, &mut flow.sockets) == PollResult::SocketStateChanged {}
        flow.sent_up_to = phy.sent_up_to;
        if phy.unreachable && flow.phase == Phase::Connecting {
            flow.hopeless = Some(CloseReason::Unreachable);
        }
        if phy.exhausted || flow.hopeless.is_some() {
            self.list(id);
        }
    }

    /// Has the wheel bring a connection up when TCP has something to do.
    fn arm(&mut self, id: ConnId) {
        let at = self.clock.at(self.phy.now);
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let due = self.interface.poll_at(at, &flow.sockets);
        let Some(due) = due.and_then(|due| self.clock.when(due)) else {
            return;
        };
        let due = self.deadlines.tick(due);
        match flow.armed {
            Some(armed) if armed <= due => {}
            armed => {
                if let Some(armed) = armed {
                    self.deadlines.remove(armed, id);
                }
                flow.armed = Some(self.deadlines.insert(due, id));
            }
        }
    }

    /// Ends a connection: tells its owner, and sees to it that the peer gets to know.
    fn end(&mut self, id: ConnId, reason: CloseReason, events: &mut Vec<Event>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.is_owned() {
            events.push(Event::Closed { conn: id, reason });
        }
        if flow.state() == State::Closed {
            return self.remove(id);
        }
        flow.queue.clear();
        flow.drain();
        self.linger(id);
        self.transmit(id);
        self.arm(id);
    }

    fn linger(&mut self, id: ConnId) {
        self.lingering.insert((self.phy.now + LINGER, id));
    }

    /// Ends a connection with a reset.
    fn abort(&mut self, id: ConnId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.socket().abort();
            flow.queue.clear();
            self.transmit(id);
        }
        self.remove(id);
    }

    /// Drops connections that have lingered long enough. Whether there were any.
    fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(&(until, id)) = self.lingering.first() {
            let flow = self.flows.get_mut(id);
            if flow.is_some() && now < until {
                break;
            }
            self.lingering.pop_first();
            let Some(flow) = flow else {
                continue;
            };
            any = true;
            match flow.state() {
                // The time after the end is TCP's own affair.
                State::TimeWait => {}
                // The peer has everything, and may take its time.
                State::FinWait2 if flow.phase == Phase::Shut => {
                    flow.phase = Phase::HalfClosed;
                    self.lingering.insert((now + FIN_TIMEOUT, id));
                }
                _ => self.abort(id),
            }
        }
        any
    }

    fn open_error(&self, operation: Operation, at: SocketAddr, source: io::Error) -> OpenError {
        OpenError {
            transport: self.phy.device.name(),
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
            Some(ip) => Some(ip).filter(|ip| self.phy.link.is_own(*ip)),
            None => self.phy.link.source_for(remote.ip()),
        };
        let ip = ip.filter(|ip| ip.is_ipv4() == remote.is_ipv4());
        let ip = ip.ok_or_else(not_available)?;
        let Self { names, by_ends, .. } = self;
        let ends = |port| Ends {
            local: SocketAddr::new(ip, port),
            remote,
        };
        let is_free = |port: u16| !by_ends.contains_key(&ends(port));
        let port = match local.map_or(0, |local| local.port()) {
            0 => names.choose_port(is_free),
            port => Some(port).filter(|port| is_free(*port)),
        };
        port.map(ends).ok_or_else(not_available)
    }
}

impl<D: Device> Transport for Tcp<D> {
    fn name(&self) -> &'static str {
        self.phy.device.name()
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
        let ours = at.ip().is_unspecified() || self.phy.link.is_own(at.ip());
        let listener = if ours {
            self.names.listen(at, options, self.config.half_open)
        } else {
            Err(io::ErrorKind::AddrNotAvailable.into())
        };
        listener.map_err(|source| self.open_error(Operation::Listen, at, source))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.names.unlisten(listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        let ends = self.ends(to, options.local);
        let ends = ends.and_then(|ends| Ok((ends, self.windows.take()?)));
        let (ends, window) =
            ends.map_err(|source| self.open_error(Operation::Connect, to, source))?;
        let mut flow = Flow::new(ends, Phase::Connecting, window, &self.config, &self.clock);
        let context = self.interface.context();
        if ends.local == ends.remote {
            flow.hopeless = Some(CloseReason::Refused);
        } else if flow.socket().connect(context, to, ends.local).is_err() {
            flow.hopeless = Some(CloseReason::Unreachable);
        }
        let id = self.add(flow);
        self.list(id);
        Ok(id)
    }

    fn send(&mut self, id: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let flow = self.flows.get_mut(id);
        let flow = flow.filter(|flow| flow.phase == Phase::Open);
        let flow = flow.ok_or(SendError::NotConnected)?;
        let taken = flow.queue.take(queue);
        if !flow.touched {
            flow.touched = true;
            self.touched.push(id);
        }
        Ok(taken)
    }

    fn flush(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.touched = false;
                self.cost.doorbells += 1;
                self.transmit(id);
                if self.flows.get(id).is_some_and(|flow| flow.queue.has_room()) {
                    self.list(id);
                }
                self.arm(id);
            }
        }
        self.touched = touched;
        self.phy.device.flush(self.phy.now);
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        self.phy.now = now;
        let mut done = self.receive(now);
        done |= self.expire(now);
        let mut due = Vec::new();
        self.deadlines.expire(now, |id| due.push(id));
        for id in due {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.brought_up();
                self.list(id);
            }
        }
        done |= !self.work.is_empty();
        for _ in 0..self.work.len() {
            if let Some(id) = self.work.pop_front() {
                self.serve(id, events);
            }
        }
        self.phy.keep_neighbours();
        self.phy.device.flush(now);
        done
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        match self.flows.get_mut(conn) {
            Some(flow) => flow.place(buffer),
            None => Err(buffer),
        }
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
        // What is known of neighbours may as well go out of date while nobody wants anything.
        let link = &self.phy.link;
        let neighbours = link.next_timeout().filter(|_| link.is_waited_for());
        let all = [
            lingering,
            self.deadlines.next_timeout(),
            neighbours,
            self.phy.device.next_timeout(),
        ];
        all.into_iter().flatten().min()
    }

    fn park(&mut self) -> Park<'_> {
        if self.work.is_empty() && self.phy.looped.is_empty() {
            self.phy.device.park()
        } else {
            Park::Busy
        }
    }

    fn unpark(&mut self) {
        self.phy.device.unpark();
    }

    fn pool(&mut self) -> &mut BufferPool {
        &mut self.pool
    }

    fn cost(&self) -> Cost {
        let device = self.phy.device.cost();
        Cost {
            system_calls: self.cost.system_calls + device.system_calls,
            bytes_copied: self.cost.bytes_copied + device.bytes_copied,
            ..self.cost
        }
    }
}
