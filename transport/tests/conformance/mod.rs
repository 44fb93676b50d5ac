//! The contract of [`Transport`] as tests that know nothing about the implementation.
//!
//! An implementation supplies a [`Network`] and instantiates every case with
//! `conformance!(ItsNetwork);`. This file holds the harness: two [`Node`]s on one network, stepped
//! by one thread, each of which checks on every event what must hold at all times. The cases are
//! in the files beside it. Nothing here may assume sockets, real time or a copy in between.

macro_rules! conformance {
    ($network:ident, $when:meta; $($file:ident: $($case:ident)+;)+) => {
        $(mod $file {
            $(#[test]
            #[$when]
            fn $case() {
                crate::conformance::$file::$case::<super::$network>();
            })+
        })+
    };
    ($network:ident) => {
        crate::conformance::conformance!($network, cfg(all()));
    };
    ($network:ident, $when:meta) => {
        crate::conformance::conformance!(each end a host, $network, $when);
        crate::conformance::conformance! { $network, $when;
            one_host:
                a_port_is_taken_from_all
                transports_that_join_split_the_connections
                a_port_is_free_again_after_its_last_listener
                whoever_joins_a_port_originates_from_it_too
                a_foreign_port_is_no_origin;
        }
    };
    (each end a host, $network:ident, $when:meta) => {
        crate::conformance::conformance! { $network, $when;
            opening:
                listening_tells_the_real_port
                both_ends_agree_on_their_addresses
                ipv6_works_like_ipv4
                nobody_there_is_refused
                unlistening_keeps_what_was_accepted;
            ports:
                a_port_is_taken_once
                a_connection_originates_from_where_it_is_told
                a_connection_originates_from_the_port_listened_on
                one_port_reaches_many_peers
                two_addresses_name_one_connection
                attempts_that_cross_make_one_connection
                a_port_does_not_reach_itself;
            streaming:
                small_exchanges_arrive
                large_streams_cross_intact
                many_connections_do_not_mix
                bytes_wait_for_a_late_reader
                nothing_leaves_before_the_flush
                sending_needs_a_connection
                a_flush_is_one_doorbell
                what_is_not_flushed_stays_within_the_window
                a_chatty_connection_starves_nobody
                a_chatty_connection_has_much_to_say
                whoever_sleeps_is_woken
                a_slow_peer_pushes_back
                a_stopped_connection_does_not_stop_others
                stopping_and_resuming_loses_nothing;
            ending:
                draining_delivers_everything_first
                draining_needs_no_flush
                draining_survives_bytes_from_the_peer
                the_end_waits_behind_the_last_byte
                aborting_ends_the_peer
                aborting_works_at_any_time
                a_dead_id_names_nothing
                both_may_leave_at_once;
            memory:
                a_delivered_segment_is_dropped
                an_aborted_segment_is_dropped
                received_bytes_outlive_everything
                a_run_lands_where_it_is_placed
                a_placement_dies_with_its_connection
                a_full_buffer_is_no_place
                sent_memory_may_come_from_the_pool;
        }
    };
}
pub(crate) use conformance;

pub(crate) mod ending;
pub(crate) mod memory;
// Where each transport is a host of its own nobody asks for these.
#[allow(dead_code)]
pub(crate) mod one_host;
pub(crate) mod opening;
pub(crate) mod ports;
pub(crate) mod streaming;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use msgr_transport::{
    Close, CloseReason, ConnId, ConnectOptions, Event, ListenOptions, ListenerId, OpenError,
    SendError, Transport, TxQueue,
};

/// Which of the two transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What connects the two transports of a test, and the clock they live by.
pub(crate) trait Network {
    type Transport: Transport;

    /// A network of its own: tests run in parallel and must not meet.
    fn new() -> Self;

    /// The transport of one side. Called once per side.
    fn transport(&mut self, side: Side) -> Self::Transport;

    /// Where one side may listen and originate from, with port 0.
    fn address(&self, side: Side) -> SocketAddr;

    /// The same for IPv6, if this network has it.
    fn address_v6(&self, side: Side) -> Option<SocketAddr>;

    /// Moves time on (or lets it pass) by a little and tells it. Called once per step.
    fn tick(&mut self) -> Instant;
}

/// The clock of a network that is as fast as its host: real time, of which no more passes in a step
/// than would otherwise. Nobody's patience ends because the host stood still.
// Networks in virtual time have clocks of their own.
#[allow(dead_code)]
pub(crate) struct Clock {
    now: Instant,
    seen: Instant,
}

#[allow(dead_code)]
impl Clock {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { now, seen: now }
    }

    pub(crate) fn tick(&mut self) -> Instant {
        let seen = std::mem::replace(&mut self.seen, Instant::now());
        self.now += (self.seen - seen).min(Duration::from_millis(1));
        self.now
    }
}

/// How long, in the network's time, anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many steps in a row without anything done mean that nothing more will happen: a network's
/// tick must be long enough for that.
const QUIET: u32 = 300;

/// Two transports on one network.
pub(crate) struct Pair<N: Network> {
    pub(crate) network: N,
    pub(crate) client: Node<N::Transport>,
    pub(crate) server: Node<N::Transport>,
    now: Instant,
}

impl<N: Network> Pair<N> {
    pub(crate) fn new() -> Self {
        Self::with(N::new())
    }

    pub(crate) fn with(mut network: N) -> Self {
        let client = Node::new(network.transport(Side::Client));
        let server = Node::new(network.transport(Side::Server));
        let now = network.tick();
        Self {
            network,
            client,
            server,
            now,
        }
    }

    /// Two transports and a connection between them: the client's end and the server's.
    pub(crate) fn connected() -> (Self, ConnId, ConnId) {
        let mut pair = Self::new();
        let address = pair.listen();
        let (client, server) = pair.connect(address);
        (pair, client, server)
    }

    /// Lets the server listen where it may.
    pub(crate) fn listen(&mut self) -> SocketAddr {
        let at = self.network.address(Side::Server);
        self.server.listen(at).expect("the server listens").1
    }

    /// Connects the client to the server at `to`: the client's end and the server's.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> (ConnId, ConnId) {
        let client = self.client.connect(to, None).expect("connecting starts");
        let accepted = self.accept();
        self.run_until("connected", |pair| pair.client.is_up(client));
        (client, accepted.conn)
    }

    /// The next connection that the server has accepted.
    pub(crate) fn accept(&mut self) -> Accepted {
        self.run_until("accepted", |pair| !pair.server.accepted.is_empty());
        self.server.accepted.pop_front().expect("just looked")
    }

    /// One turn of both: what is to be sent, then what has arrived. Whether anything was done.
    pub(crate) fn step(&mut self) -> bool {
        self.now = self.network.tick();
        self.client.pump();
        self.server.pump();
        let client = self.client.poll(self.now);
        let server = self.server.poll(self.now);
        client || server
    }

    /// Steps until `done`, or fails.
    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + PATIENCE;
        while !done(self) {
            assert!(self.now < deadline, "never {what}");
            self.step();
        }
    }

    /// Steps the client until `done`, as if the server slept, or fails.
    pub(crate) fn run_client_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + PATIENCE;
        while !done(self) {
            assert!(self.now < deadline, "never {what}");
            self.now = self.network.tick();
            self.client.pump();
            self.client.poll(self.now);
        }
    }

    /// Polls both until `done` without sending or flushing anything, or fails.
    pub(crate) fn run_until_without_pumping(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let deadline = self.now + PATIENCE;
        while !done(self) {
            assert!(self.now < deadline, "never {what}");
            self.now = self.network.tick();
            self.client.poll(self.now);
            self.server.poll(self.now);
        }
    }

    /// Steps until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        let deadline = self.now + PATIENCE;
        let mut quiet = 0;
        while quiet < QUIET {
            assert!(self.now < deadline, "the network never comes to rest");
            quiet = if self.step() { 0 } else { quiet + 1 };
        }
    }
}

/// A connection that a listener brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) listener: ListenerId,
    pub(crate) conn: ConnId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// One transport and everything it has said.
pub(crate) struct Node<T> {
    pub(crate) transport: T,
    pub(crate) accepted: VecDeque<Accepted>,
    listeners: HashMap<ListenerId, bool>,
    conns: HashMap<ConnId, Conn>,
    outgoing: BTreeMap<ConnId, TxQueue>,
    events: Vec<Event>,
}

/// What is known of one connection, for ever.
#[derive(Debug)]
struct Conn {
    phase: Phase,
    local: Option<SocketAddr>,
    data: Vec<Bytes>,
    received: usize,
    rooms: usize,
    owed_room: bool,
    stopped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Connecting,
    Up,
    /// The transport ended it.
    Closed(CloseReason),
    /// The test ended it.
    Left,
}

impl Conn {
    fn new(phase: Phase, local: Option<SocketAddr>) -> Self {
        Self {
            phase,
            local,
            data: Vec::new(),
            received: 0,
            rooms: 0,
            owed_room: false,
            stopped: false,
        }
    }
}

impl<T: Transport> Node<T> {
    fn new(transport: T) -> Self {
        Self {
            transport,
            accepted: VecDeque::new(),
            listeners: HashMap::new(),
            conns: HashMap::new(),
            outgoing: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn listen(&mut self, at: SocketAddr) -> Result<(ListenerId, SocketAddr), OpenError> {
        self.listen_with(at, &ListenOptions::default())
    }

    pub(crate) fn listen_with(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        let (listener, address) = self.transport.listen(at, options)?;
        let reused = self.listeners.insert(listener, true);
        assert_eq!(reused, None, "a listener's id never comes again");
        Ok((listener, address))
    }

    pub(crate) fn unlisten(&mut self, listener: ListenerId) {
        self.transport.unlisten(listener);
        self.listeners.insert(listener, false);
    }

    pub(crate) fn connect(
        &mut self,
        to: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<ConnId, OpenError> {
        let conn = self.transport.connect(to, &ConnectOptions { local })?;
        let reused = self.conns.insert(conn, Conn::new(Phase::Connecting, None));
        assert!(reused.is_none(), "a connection's id never comes again");
        Ok(conn)
    }

    /// [`Transport::send`], with its promises checked.
    pub(crate) fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        let before = byte_count(queue);
        let taken = self.transport.send(conn, queue)?;
        assert_eq!(taken, before - byte_count(queue), "it took what it says");
        assert!(taken <= self.transport.caps().send_window);
        if !queue.is_empty() {
            self.known(conn).owed_room = true;
        }
        Ok(taken)
    }

    /// Sends `bytes` as the coming steps find room.
    pub(crate) fn give(&mut self, conn: ConnId, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.outgoing.entry(conn).or_default().push_back(bytes);
        }
    }

    /// How many bytes given to [`give`](Self::give) the transport has not taken.
    pub(crate) fn untaken(&self, conn: ConnId) -> usize {
        self.outgoing.get(&conn).map_or(0, byte_count)
    }

    /// Sends what there is room for, and flushes.
    pub(crate) fn pump(&mut self) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.retain(|&conn, queue| {
            if self.known(conn).phase == Phase::Up && !self.known(conn).owed_room {
                self.send(conn, queue).expect("an open connection takes");
            }
            !queue.is_empty() && matches!(self.known(conn).phase, Phase::Up | Phase::Connecting)
        });
        self.outgoing = outgoing;
        self.transport.flush();
    }

    pub(crate) fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        self.transport.set_receive(conn, enabled);
        self.known(conn).stopped = !enabled;
    }

    pub(crate) fn close(&mut self, conn: ConnId, how: Close) {
        self.transport.close(conn, how);
        self.known(conn).phase = Phase::Left;
        self.outgoing.remove(&conn);
    }

    pub(crate) fn is_up(&self, conn: ConnId) -> bool {
        self.conns[&conn].phase == Phase::Up
    }

    /// Whether the connection was ever up.
    pub(crate) fn was_up(&self, conn: ConnId) -> bool {
        self.conns[&conn].local.is_some()
    }

    /// Why the connection ended, if the transport has ended it.
    pub(crate) fn closed(&self, conn: ConnId) -> Option<CloseReason> {
        match &self.conns[&conn].phase {
            Phase::Closed(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Our end of an open connection.
    pub(crate) fn local(&self, conn: ConnId) -> SocketAddr {
        self.conns[&conn].local.expect("the connection is up")
    }

    /// How many bytes have come up, ever.
    pub(crate) fn received(&self, conn: ConnId) -> usize {
        self.conns[&conn].received
    }

    /// How many times there was room again.
    pub(crate) fn rooms(&self, conn: ConnId) -> usize {
        self.conns[&conn].rooms
    }

    /// Takes the slices that have come up since the last call.
    pub(crate) fn slices(&mut self, conn: ConnId) -> Vec<Bytes> {
        std::mem::take(&mut self.known(conn).data)
    }

    /// Takes the bytes that have come up since the last call.
    pub(crate) fn bytes(&mut self, conn: ConnId) -> Vec<u8> {
        self.slices(conn).concat()
    }

    fn known(&mut self, conn: ConnId) -> &mut Conn {
        self.conns.get_mut(&conn).expect("the id was handed out")
    }

    /// Polls once and checks each event against what is known. Whether anything was done.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let mut events = std::mem::take(&mut self.events);
        let done = self.transport.poll(now, &mut events);
        assert!(done || events.is_empty(), "an event is something done");
        let mut told = HashSet::new();
        for event in &events {
            if let Event::Data { conn, .. } = *event
                && !told.insert(conn)
            {
                let placed = self.transport.place(conn, BytesMut::with_capacity(1));
                assert!(placed.is_err(), "too late for what comes up here");
            }
        }
        for event in events.drain(..) {
            self.on(event);
        }
        self.events = events;
        done
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Accepted {
                listener,
                conn,
                local,
                remote,
            } => {
                assert!(self.listeners[&listener], "it still listens");
                let reused = self.conns.insert(conn, Conn::new(Phase::Up, Some(local)));
                assert!(reused.is_none(), "a connection's id never comes again");
                self.accepted.push_back(Accepted {
                    listener,
                    conn,
                    local,
                    remote,
                });
            }
            Event::Connected { conn, local } => {
                let conn = self.known(conn);
                assert_eq!(conn.phase, Phase::Connecting, "connected once, and by us");
                conn.phase = Phase::Up;
                conn.local = Some(local);
            }
            Event::Data { conn, bytes } => {
                let conn = self.known(conn);
                assert_eq!(conn.phase, Phase::Up, "data only while it is up");
                assert!(!conn.stopped, "no data while stopped");
                assert!(!bytes.is_empty(), "data is never empty");
                conn.received += bytes.len();
                conn.data.push(bytes);
            }
            Event::Room { conn } => {
                let conn = self.known(conn);
                assert_eq!(conn.phase, Phase::Up, "room only while it is up");
                assert!(conn.owed_room, "room only after a short send");
                conn.owed_room = false;
                conn.rooms += 1;
            }
            Event::Closed { conn, reason } => {
                let conn = self.known(conn);
                assert!(
                    matches!(conn.phase, Phase::Connecting | Phase::Up),
                    "closed once, and not after we left: {:?}",
                    conn.phase
                );
                conn.phase = Phase::Closed(reason);
            }
        }
    }
}

/// The bytes in `queue`.
pub(crate) fn byte_count(queue: &TxQueue) -> usize {
    queue.iter().map(Bytes::len).sum()
}

/// Reproducible pseudo-random numbers (splitmix64, Steele et al., OOPSLA 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Checks that bytes have arrived as they were sent, and tells which have not: pages, packets and
/// what was lost in between look different.
#[track_caller]
pub(crate) fn assert_same(received: &[u8], sent: &[u8]) {
    assert_eq!(received.len(), sent.len(), "lost or repeated");
    let mut altered: Vec<Range<usize>> = Vec::new();
    for at in (0..sent.len()).filter(|&at| received[at] != sent[at]) {
        match altered.last_mut() {
            // Some bytes of what is altered are right by chance.
            Some(run) if at < run.end + 16 => run.end = at + 1,
            _ => altered.push(at..at + 1),
        }
    }
    if let Some(first) = altered.first() {
        let first = first.start..sent.len().min(first.start + 16);
        let wrong = &received[first.clone()];
        panic!(
            "altered or reordered: {altered:?}; first {wrong:x?}, sent at {:?}, for {:x?}",
            sent.windows(wrong.len()).position(|bytes| bytes == wrong),
            &sent[first],
        );
    }
}
