//! [`Peers`]: two messengers with one session between them, and all streams that they ever had,
//! whose bytes are moved by hand. It does what a stack does, and nothing by itself.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use super::script::{numbered, transmitted};
use crate::config::{Config, PerPeer};
use crate::connection::{AfterFault, Connection, Event, Meeting, Opening, State};
use crate::error::Cause;
use crate::policy::Policy;
use crate::wire::{EntityAddr, EntityName, EntityType};

/// Which of the two; the first has the smaller address.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// The bytes of one stream that are on their way to one end.
#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// The other end has closed the stream.
    closed: bool,
    /// Bytes that arrived.
    arrived: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: Config,
    socket: SocketAddr,
    /// The last place that it gave away.
    place: u64,
    pub(super) session: Option<Connection>,
    /// The stream that the session uses.
    pub(super) on: Option<usize>,
    /// Streams that the other opened and that belong to no session yet.
    newcomers: BTreeMap<usize, Connection>,
    /// All that it was told, but for messages.
    pub(super) told: Vec<Event>,
    /// The `tid` and number of each message that it received.
    pub(super) received: Vec<(u64, u64)>,
    pub(super) errors: Vec<Cause>,
    pub(super) sent: u64,
}

impl Node {
    fn new(number: usize, policy: Policy) -> Self {
        let number = number as u8;
        let name = EntityName {
            kind: EntityType::Osd,
            num: i64::from(number),
        };
        let mut config = Config::new(name, policy);
        config.policies = PerPeer::new(policy);
        config.nonce = u32::from(number) + 1;
        let socket = SocketAddr::from(([10, 0, 0, number + 1], 6800));
        if policy != Policy::LOSSLESS_CLIENT {
            config.addrs = EntityAddr::msgr2(socket, config.nonce).into();
        }
        Self {
            config,
            socket,
            place: 0,
            session: None,
            on: None,
            newcomers: BTreeMap::new(),
            told: Vec::new(),
            received: Vec::new(),
            errors: Vec::new(),
            sent: 0,
        }
    }

    fn next_place(&mut self, above: u64) -> u64 {
        self.place = self.place.max(above) + 1;
        self.place
    }

    /// No two cookies are the same.
    fn opening(&mut self) -> Opening {
        let global_seq = self.next_place(0);
        let cookie = u64::from(self.config.nonce) << 32 | global_seq;
        Opening { global_seq, cookie }
    }

    fn end(&mut self, stream: usize) -> Option<&mut Connection> {
        if self.on == Some(stream) {
            self.session.as_mut()
        } else {
            self.newcomers.get_mut(&stream)
        }
    }

    pub(super) fn session(&self) -> &Connection {
        self.session.as_ref().expect("a session")
    }

    /// Whether the session is to be connected now.
    pub(super) fn needs_stream(&self) -> bool {
        self.session.as_ref().is_some_and(|session| {
            let due = matches!(session.state(), State::StartConnect | State::Wait);
            due || session.wants_stream()
        })
    }

    /// Queues the next message; its `tid` tells how many there were.
    pub(super) fn send(&mut self) {
        self.sent += 1;
        let mut message = numbered(0);
        message.header.tid = self.sent;
        message.data = vec![self.sent as u8; 20].into();
        let session = self.session.as_mut().expect("a session");
        session.send(message).unwrap();
    }
}

#[derive(Debug)]
pub(super) struct Peers {
    pub(super) nodes: [Node; 2],
    /// The pipes to [`A`] and to [`B`].
    streams: Vec<[Pipe; 2]>,
    /// Streams on which nothing moves by itself.
    stalled: Vec<usize>,
}

impl Peers {
    /// How each treats the other. There is no session yet.
    pub(super) fn new(policies: [Policy; 2]) -> Self {
        Self {
            nodes: [Node::new(A, policies[A]), Node::new(B, policies[B])],
            streams: Vec::new(),
            stalled: Vec::new(),
        }
    }

    /// The same, with a session that [`A`] opened.
    pub(super) fn ready(policies: [Policy; 2]) -> Self {
        let mut peers = Self::new(policies);
        peers.dial(A);
        peers.settle();
        for node in &mut peers.nodes {
            assert_eq!(mem::take(&mut node.told), [Event::Ready]);
        }
        peers
    }

    /// Opens a stream for the session of `from`, which has none.
    pub(super) fn dial(&mut self, from: usize) -> usize {
        let to = self.nodes[1 - from].socket;
        let target = EntityAddr::msgr2(to, self.nodes[1 - from].config.nonce);
        let stream = self.streams.len();
        self.streams.push(<[Pipe; 2]>::default());
        let node = &mut self.nodes[from];
        assert_eq!(node.on, None);
        let config = Arc::new(node.config.clone());
        let local = SocketAddr::new(node.socket.ip(), 40000);
        let opening = node.opening();
        match &mut node.session {
            Some(session) => session.reconnect(config, (local, to), opening),
            session => {
                let ends = (local, to);
                *session = Some(Connection::connect(
                    config,
                    target,
                    EntityType::Osd,
                    ends,
                    opening,
                ));
            }
        }
        node.on = Some(stream);
        let acceptor = &mut self.nodes[1 - from];
        let config = Arc::new(acceptor.config.clone());
        let opening = acceptor.opening();
        let newcomer = Connection::accept(config, (to, local), opening);
        acceptor.newcomers.insert(stream, newcomer);
        stream
    }

    /// What the end of `from` has to say is on its way.
    fn transmit(&mut self, stream: usize, from: usize) {
        if let Some(end) = self.nodes[from].end(stream) {
            let bytes = transmitted(end);
            self.streams[stream][1 - from].bytes.extend(bytes);
        }
    }

    /// Moves up to `limit` bytes to `to`. Returns how many.
    pub(super) fn carry(&mut self, stream: usize, to: usize, limit: usize) -> usize {
        self.transmit(stream, 1 - to);
        let pipe = &mut self.streams[stream][to];
        let len = limit.min(pipe.bytes.len());
        let bytes: Vec<u8> = pipe.bytes.drain(..len).collect();
        pipe.arrived += len;
        let ended = pipe.closed && pipe.bytes.is_empty();
        if let Some(end) = self.nodes[to].end(stream) {
            end.receive(bytes.into());
            self.take_in(stream, to);
            if ended {
                self.hang_up(stream, to);
            }
        }
        len
    }

    /// How many bytes of the stream arrived at `to`.
    pub(super) fn arrived(&self, stream: usize, to: usize) -> usize {
        self.streams[stream][to].arrived
    }

    /// The bytes that are on their way to `to`.
    pub(super) fn on_the_way(&mut self, stream: usize, to: usize) -> &[u8] {
        self.transmit(stream, 1 - to);
        &self.streams[stream][to].bytes
    }

    /// Moves bytes on all streams until there are none.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            let mut moved = 0;
            for stream in 0..self.streams.len() {
                if !self.stalled.contains(&stream) {
                    moved += self.carry(stream, B, usize::MAX) + self.carry(stream, A, usize::MAX);
                }
            }
            if moved == 0 {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn take_in(&mut self, stream: usize, at: usize) {
        loop {
            let node = &mut self.nodes[at];
            let Some(end) = node.end(stream) else { return };
            match end.poll() {
                Ok(None) => return,
                Ok(Some(Event::SessionRequested)) => self.meet(stream, at),
                Ok(Some(Event::RetryGlobal { above })) => {
                    let place = node.next_place(above);
                    node.end(stream).expect("polled").retry(place);
                }
                Ok(Some(Event::Message)) => {
                    let message = end.take_message();
                    let header = message.header;
                    assert_eq!(message.data.len(), 20);
                    node.received.push((header.tid, header.seq));
                }
                Ok(Some(event)) => {
                    let waits = event == Event::Wait;
                    node.told.push(event);
                    if waits {
                        node.on = None;
                        self.close(stream, at);
                    }
                }
                Err(error) => {
                    node.errors.push(error.cause);
                    self.transmit(stream, at);
                    self.hang_up(stream, at);
                }
            }
        }
    }

    fn meet(&mut self, stream: usize, at: usize) {
        let node = &mut self.nodes[at];
        let mut newcomer = node.newcomers.remove(&stream).expect("a newcomer");
        let place = node.next_place(0);
        let before = node.on;
        match newcomer.meet(node.session.as_mut(), place) {
            Ok(outcome @ (Meeting::Opened | Meeting::TakenOver { .. })) => {
                if outcome == Meeting::Opened {
                    node.session = Some(newcomer);
                }
                if outcome == (Meeting::TakenOver { remote_reset: true }) {
                    node.told.push(Event::RemoteReset);
                }
                node.told.push(Event::Ready);
                node.on = Some(stream);
                if let Some(before) = before {
                    self.close(before, at);
                }
            }
            Ok(Meeting::Waits | Meeting::AsksAgain) => {
                node.newcomers.insert(stream, newcomer);
            }
            Ok(Meeting::Outrun) => {
                node.newcomers.insert(stream, newcomer);
                self.fault(at);
            }
            Ok(Meeting::Stale) => self.close(stream, at),
            Err(error) => {
                node.errors.push(error.cause);
                self.close(stream, at);
            }
        }
    }

    fn close(&mut self, stream: usize, at: usize) {
        self.streams[stream][1 - at].closed = true;
    }

    /// The stream of the session of `at` ends there; what is on its way still arrives.
    pub(super) fn fault(&mut self, at: usize) -> AfterFault {
        let node = &mut self.nodes[at];
        let (_, after) = node.session.as_mut().expect("a session").disconnect();
        if after == AfterFault::Gone {
            node.session = None;
        }
        if let Some(stream) = node.on.take() {
            self.close(stream, at);
        }
        after
    }

    /// The end of `at` is told that the stream has ended.
    fn hang_up(&mut self, stream: usize, at: usize) {
        if self.nodes[at].on == Some(stream) {
            self.fault(at);
        } else if self.nodes[at].newcomers.remove(&stream).is_some() {
            self.close(stream, at);
        }
    }

    /// The stream breaks, and what is on its way is lost.
    pub(super) fn cut(&mut self, stream: usize) {
        for pipe in &mut self.streams[stream] {
            pipe.bytes.clear();
            pipe.closed = true;
        }
        for at in [A, B] {
            self.hang_up(stream, at);
        }
    }

    /// Nothing moves on the stream any more, but by [`carry`](Self::carry).
    pub(super) fn stall(&mut self, stream: usize) {
        for from in [A, B] {
            self.transmit(stream, from);
        }
        self.stalled.push(stream);
    }

    /// What the stalled stream still has arrives.
    pub(super) fn release(&mut self, stream: usize) {
        self.stalled.retain(|stalled| *stalled != stream);
        self.settle();
    }

    /// Dials for whoever needs a stream, and settles, until nobody does.
    pub(super) fn heal(&mut self) {
        for _ in 0..10 {
            self.settle();
            let needs = [A, B].into_iter().find(|at| self.nodes[*at].needs_stream());
            let Some(at) = needs else { return };
            self.dial(at);
        }
        panic!("they do not come together");
    }
}
