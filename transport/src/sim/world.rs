//! [`World`]: every process, connection and appointment of a simulated network.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Display, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::fault::{Crash, Effect, Plan, Side};
use super::link::{End, Link, News, Phase};
use super::pipe::{Arrival, Parcel, Pipe};
use super::{Chop, SimConfig};
use crate::slots::SlotId;
use crate::{Close, CloseReason, ConnId, Event, ListenerId, Slots};

#[derive(Debug)]
pub(super) enum Process {}
#[derive(Debug)]
pub(super) enum Wire {}

/// A process, with its own transport.
pub(super) type NodeId = SlotId<Process>;
/// A connection, as the network sees it.
pub(super) type LinkId = SlotId<Wire>;

#[derive(Debug)]
pub(super) struct World {
    pub(super) config: SimConfig,
    /// How each side's bytes are cut in connections to come.
    pub(super) chop: [Chop; 2],
    pub(super) rng: Rng,
    start: Option<Instant>,
    /// The time since the start.
    pub(super) now: Duration,
    /// What is to be done, by time, and in the order of appointment.
    agenda: BTreeMap<(Duration, u64), Due>,
    appointments: u64,
    pub(super) nodes: Slots<Process, Node>,
    pub(super) links: Slots<Wire, Link>,
    /// Those who share an address take turns.
    pub(super) listeners: BTreeMap<SocketAddr, VecDeque<Listening>>,
    pub(super) plans: BTreeMap<SocketAddr, VecDeque<Plan>>,
    /// The port chosen last.
    pub(super) last_port: u16,
    pub(super) crashed: Vec<IpAddr>,
    /// How often a fault has struck.
    pub(super) struck: u64,
    trace: String,
}

/// What is to be done at some time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Due {
    /// Something that this side sent arrives.
    Arrival(LinkId, Side),
    /// A stall of what this side sends ends.
    Release(LinkId, Side),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Listening {
    pub(super) node: NodeId,
    pub(super) listener: ListenerId,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) ip: IpAddr,
    pub(super) crashed: bool,
    pub(super) listeners: Slots<crate::slots::Listener, SocketAddr>,
    pub(super) conns: Slots<crate::slots::Conn, (LinkId, Side)>,
    /// Connections with something to tell.
    ready: VecDeque<ConnId>,
}

impl World {
    pub(super) fn new(seed: u64, mut config: SimConfig) -> Self {
        config.window = config.window.max(1);
        Self {
            chop: [config.chop.clone(), config.chop.clone()],
            config,
            rng: Rng::with_seed(seed),
            start: None,
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            appointments: 0,
            nodes: Slots::default(),
            links: Slots::default(),
            listeners: BTreeMap::new(),
            plans: BTreeMap::new(),
            last_port: 0,
            crashed: Vec::new(),
            struck: 0,
            trace: String::new(),
        }
    }

    // ---- Time ----

    /// Lets everything happen that happens by `now`. Whether there was anything.
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        let start = *self.start.get_or_insert(now);
        let until = now.saturating_duration_since(start);
        let mut any = false;
        while let Some(next) = self.agenda.first_entry()
            && next.key().0 <= until
        {
            self.now = self.now.max(next.key().0);
            match next.remove() {
                Due::Arrival(link, side) => self.arrive(link, side),
                Due::Release(link, side) => self.resume(link, side),
            }
            any = true;
        }
        self.now = self.now.max(until);
        any
    }

    pub(super) fn appoint(&mut self, at: Duration, due: Due) {
        self.agenda.insert((at, self.appointments), due);
        self.appointments += 1;
    }

    /// How long it takes until something happens, unless it never does: until something travels,
    /// or a process (that one, or any) can be told something.
    pub(super) fn next_event(&self, node: Option<NodeId>) -> Option<Duration> {
        let has_news = |one: &Node| !one.ready.is_empty();
        let due = match node {
            Some(node) => self.nodes.get(node).is_some_and(has_news),
            None => self.nodes.iter().any(|(_, one)| has_news(one)),
        };
        if due {
            return Some(Duration::ZERO);
        }
        let (&(at, _), _) = self.agenda.first_key_value()?;
        Some(at.saturating_sub(self.now))
    }

    pub(super) fn next_event_time(&self, node: Option<NodeId>) -> Option<Instant> {
        Some(self.start? + self.now + self.next_event(node)?)
    }

    // ---- What processes do ----

    pub(super) fn spawn(&mut self, ip: IpAddr) -> NodeId {
        self.nodes.insert(Node {
            ip,
            crashed: false,
            listeners: Slots::default(),
            conns: Slots::default(),
            ready: VecDeque::new(),
        })
    }

    /// Begins to connect `node` from `local`, which has a port, to `to`.
    pub(super) fn connect(&mut self, node: NodeId, local: SocketAddr, to: SocketAddr) -> ConnId {
        let window = self.config.window;
        let pipes = self.chop.clone().map(|chop| Pipe::new(chop, window));
        let mut link = None;
        let process = self.nodes.get_mut(node).expect("a node outlives its calls");
        let conn = process.conns.insert_with(|conn| {
            let id = self
                .links
                .insert(Link::new([local, to], End::new(node, conn), pipes));
            link = Some(id);
            (id, Side::Connector)
        });
        if let Some(link) = link {
            self.note(link, Side::Connector, "connects to");
            self.post(link, Side::Connector, Parcel::Attempt);
        }
        conn
    }

    /// Puts what was sent on its way. Whether there was anything.
    pub(super) fn flush(&mut self, id: LinkId, side: Side) -> usize {
        let Some(link) = self.links.get_mut(id) else {
            return 0;
        };
        let pieces = link.pipe(side).take_pieces(&mut self.rng);
        let mut bytes = 0;
        for piece in pieces {
            bytes += piece.len();
            self.post(id, side, Parcel::Bytes(piece));
        }
        bytes
    }

    pub(super) fn close(&mut self, node: NodeId, conn: ConnId, how: Close) -> usize {
        let Some((link, side)) = self.forget(node, conn) else {
            return 0;
        };
        let flushed = match how {
            Close::Drain => {
                self.note(link, side, "closes to");
                if let Some(link) = self.links.get_mut(link) {
                    link.linger(side);
                }
                let flushed = self.flush(link, side);
                self.post(link, side, Parcel::Fin);
                flushed
            }
            Close::Abort => {
                self.note(link, side, "aborts to");
                self.post(link, side, Parcel::Reset);
                0
            }
        };
        self.part(link, side);
        flushed
    }

    pub(super) fn unlisten(&mut self, node: NodeId, listener: ListenerId) {
        let Some(process) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(at) = process.listeners.remove(listener) else {
            return;
        };
        if let Some(there) = self.listeners.get_mut(&at) {
            there.retain(|other| (other.node, other.listener) != (node, listener));
            if there.is_empty() {
                self.listeners.remove(&at);
            }
        }
        let untold: Vec<_> = process
            .conns
            .iter()
            .filter(|&(_, &(link, side))| {
                let link = self.links.get(link);
                link.is_some_and(|link| link.untold(side) == Some(listener))
            })
            .map(|(conn, _)| conn)
            .collect();
        for conn in untold {
            self.close(node, conn, Close::Abort);
        }
    }

    /// Ends a process, whose transport may live on without effect.
    pub(super) fn stop(&mut self, node: NodeId, how: Crash) {
        let Some(process) = self.nodes.get_mut(node) else {
            return;
        };
        process.crashed = true;
        process.ready.clear();
        let listeners: Vec<_> = process.listeners.iter().map(|(id, _)| id).collect();
        let conns: Vec<_> = process.conns.iter().map(|(id, _)| id).collect();
        if how == Crash::Silent {
            for &conn in &conns {
                if let Some((link, side)) = self.forget(node, conn) {
                    self.note(link, side, "is gone for");
                    if let Some(link) = self.links.get_mut(link) {
                        link.pipe(side).shut();
                    }
                    self.part(link, side);
                }
            }
        }
        for conn in conns {
            self.close(node, conn, Close::Abort);
        }
        for listener in listeners {
            self.unlisten(node, listener);
        }
    }

    /// Takes a connection from a process.
    fn forget(&mut self, node: NodeId, conn: ConnId) -> Option<(LinkId, Side)> {
        self.nodes.get_mut(node)?.conns.remove(conn)
    }

    /// Takes an end from a connection.
    fn part(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.links.get_mut(id) {
            link.set_end(side, None);
            link.pipe(side).shut();
        }
        self.reap(id);
    }

    /// Takes a connection away if nobody is concerned with it any more.
    fn reap(&mut self, id: LinkId) {
        if self.links.get(id).is_some_and(Link::is_over) {
            self.links.remove(id);
        }
    }

    // ---- What processes are told ----

    /// Asks the process at `side` to look at its connection.
    pub(super) fn list(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.links.get_mut(id)
            && let Some(end) = link.end(side)
            && let Some(node) = self.nodes.get_mut(end.node)
            && !end.listed
        {
            end.listed = true;
            node.ready.push_back(end.conn);
        }
    }

    /// Tells a process what there is to tell. Whether there was anything.
    pub(super) fn hand_up(&mut self, node: NodeId, events: &mut Vec<Event>) -> bool {
        let before = events.len();
        let ready = self.nodes.get(node).map_or(0, |node| node.ready.len());
        for _ in 0..ready {
            let Some(process) = self.nodes.get_mut(node) else {
                break;
            };
            let Some(conn) = process.ready.pop_front() else {
                break;
            };
            let Some(&(id, side)) = process.conns.get(conn) else {
                continue;
            };
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            if let Some(end) = link.end(side) {
                end.listed = false;
            }
            let ended = link.hand_up(side, events);
            if link.pipe(side.other()).owes_room() {
                self.list(id, side.other());
            }
            if ended {
                self.note(id, side, "has ended with");
                self.forget(node, conn);
                self.part(id, side);
            }
        }
        events.len() > before
    }

    // ---- What travels ----

    pub(super) fn post(&mut self, id: LinkId, side: Side, parcel: Parcel) {
        if let Some(link) = self.links.get_mut(id) {
            let latency = &self.config.latency;
            let pipe = link.pipe(side);
            if let Some(at) = pipe.post(parcel, self.now, latency, &mut self.rng) {
                self.appoint(at, Due::Arrival(id, side));
            }
        }
    }

    /// Lets everything arrive that `side` has sent and that has travelled long enough.
    pub(super) fn arrive(&mut self, id: LinkId, side: Side) {
        while let Some(link) = self.links.get_mut(id)
            && let Some(arrival) = link.next(side, self.now)
        {
            match arrival {
                Arrival::Parcel(parcel) => self.deliver(id, side, parcel),
                Arrival::Effect(effect) => self.befall(id, side, effect),
            }
        }
    }

    fn deliver(&mut self, id: LinkId, from: Side, parcel: Parcel) {
        let side = from.other();
        self.note(id, side, format_args!("gets {parcel} from"));
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let news = match parcel {
            Parcel::Attempt => {
                link.phase = Phase::Answered;
                self.answer(id);
                return self.reap(id);
            }
            Parcel::Welcome => {
                link.phase = Phase::Established;
                Ok(News::Connected)
            }
            Parcel::Bytes(bytes) => Ok(News::Bytes(bytes)),
            Parcel::Fin => Ok(News::Fin),
            Parcel::Refusal => Err(CloseReason::Refused),
            Parcel::Reset => Err(CloseReason::Reset),
        };
        let established = matches!(news, Ok(News::Connected));
        if let Some(end) = link.end(side) {
            match news {
                Ok(news) => end.tell(news),
                Err(reason) => end.sentence(reason),
            }
        }
        self.list(id, side);
        if established {
            // A fault may be due before the first byte.
            self.arrive(id, side);
        }
    }

    /// Decides about an attempt to connect that has arrived.
    fn answer(&mut self, id: LinkId) {
        if self.meet(id) {
            return;
        }
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let [from, to] = Side::BOTH.map(|side| link.address(side));
        let plan = self.plan_for(to);
        if plan != Plan::Accept {
            self.note(id, Side::Connector, format_args!("meets {plan:?} at"));
        }
        // Nobody talks to himself.
        let there = self.listeners.get_mut(&to).filter(|_| from != to);
        let listening = there.and_then(|there| {
            there.rotate_left(1);
            there.back().copied()
        });
        match (plan, listening) {
            (Plan::Ignore, _) => self.befall(id, Side::Connector, Effect::BlackHole),
            (Plan::Refuse, _) | (_, None) => self.post(id, Side::Acceptor, Parcel::Refusal),
            (Plan::Accept, Some(listening)) => self.accept(id, listening),
            (Plan::Fault(fault), Some(listening)) => {
                self.accept(id, listening);
                self.arm(id, fault);
            }
            (Plan::AcceptThenClose, Some(listening)) => {
                self.accept(id, listening);
                self.post(id, Side::Acceptor, Parcel::Fin);
                if let Some(link) = self.links.get_mut(id)
                    && let Some(end) = link.end(Side::Acceptor)
                {
                    end.sentence(CloseReason::Reset);
                }
            }
        }
    }

    fn accept(&mut self, id: LinkId, listening: Listening) {
        let Listening { node, listener, .. } = listening;
        if let Some(process) = self.nodes.get_mut(node)
            && let Some(link) = self.links.get_mut(id)
        {
            let conn = process.conns.insert((id, Side::Acceptor));
            let mut end = End::new(node, conn);
            end.tell(News::Accepted(listener));
            link.set_end(Side::Acceptor, Some(end));
        }
        self.list(id, Side::Acceptor);
        self.post(id, Side::Acceptor, Parcel::Welcome);
    }

    /// Writes down what happens at one side of a connection.
    pub(super) fn note(&mut self, id: LinkId, side: Side, what: impl Display) {
        if self.config.trace
            && let Some(link) = self.links.get(id)
        {
            let (here, there) = (link.address(side), link.address(side.other()));
            // Writing to a string does not fail.
            let _ = writeln!(self.trace, "{:?} {here} {what} {there}", self.now);
        }
    }

    pub(super) fn trace(&self) -> &str {
        &self.trace
    }
}
