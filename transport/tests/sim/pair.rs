//! Two hosts on a simulated network, and a clock that jumps from event to event.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use msgr_transport::sim::{Latency, Sim, SimConfig, SimNetwork};
use msgr_transport::{
    CloseReason, ConnId, ConnectOptions, Event, ListenOptions, Transport, TxQueue,
};

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// One process, and all it has been told, in text: so two runs can be compared.
pub(crate) struct Host {
    pub(crate) sim: Sim,
    pub(crate) log: Vec<String>,
    pub(crate) accepted: Vec<ConnId>,
    pub(crate) pieces: Vec<(ConnId, Bytes)>,
    pub(crate) closed: Vec<(ConnId, CloseReason)>,
}

impl Host {
    pub(crate) fn new(network: &SimNetwork, ip: IpAddr) -> Self {
        Self {
            sim: network.node(ip),
            log: Vec::new(),
            accepted: Vec::new(),
            pieces: Vec::new(),
            closed: Vec::new(),
        }
    }

    pub(crate) fn listen(&mut self, at: SocketAddr) {
        let options = ListenOptions::default();
        self.sim.listen(at, &options).expect("it listens");
    }

    pub(crate) fn connect(&mut self, to: SocketAddr) -> ConnId {
        let conn = self.sim.connect(to, &ConnectOptions::default());
        conn.expect("it starts")
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut queue = TxQueue::from([Bytes::copy_from_slice(bytes)]);
        assert_eq!(self.sim.send(conn, &mut queue), Ok(bytes.len()));
        self.sim.flush();
    }

    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let mut events = Vec::new();
        let any = self.sim.poll(now, &mut events);
        for event in events {
            self.log.push(format!("{event:?}"));
            match event {
                Event::Accepted { conn, .. } => self.accepted.push(conn),
                Event::Data { conn, bytes } => self.pieces.push((conn, bytes)),
                Event::Closed { conn, reason } => self.closed.push((conn, reason)),
                Event::Connected { .. } | Event::Room { .. } => {}
            }
        }
        any
    }

    pub(crate) fn received(&self, from: ConnId) -> Vec<u8> {
        let pieces = self.pieces.iter().filter(|(conn, _)| *conn == from);
        pieces
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect()
    }

    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.pieces.iter().map(|(_, bytes)| bytes.len()).collect()
    }
}

/// Two hosts, and the clock that jumps from event to event.
pub(crate) struct Pair {
    pub(crate) network: SimNetwork,
    pub(crate) client: Host,
    pub(crate) server: Host,
    start: Instant,
    pub(crate) now: Instant,
}

pub(crate) const AT: SocketAddr = SocketAddr::new(SERVER, 6789);
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

impl Pair {
    /// Two hosts with the same latency always, the second of which listens.
    pub(crate) fn new(config: SimConfig) -> Self {
        Self::seeded(
            1,
            SimConfig {
                latency: Latency::fixed(LATENCY),
                ..config
            },
        )
    }

    pub(crate) fn seeded(seed: u64, config: SimConfig) -> Self {
        let network = SimNetwork::new(seed, config);
        let mut server = Host::new(&network, SERVER);
        server.listen(AT);
        let now = Instant::now();
        let mut pair = Self {
            client: Host::new(&network, CLIENT),
            server,
            network,
            start: now,
            now,
        };
        pair.poll();
        pair
    }

    pub(crate) fn poll(&mut self) -> bool {
        self.client.poll(self.now) | self.server.poll(self.now)
    }

    /// Polls until nothing happens any more, however long that takes.
    pub(crate) fn settle(&mut self) {
        while self.poll() || self.network.next_event_time().is_some() {
            self.now = self.network.next_event_time().unwrap_or(self.now);
        }
    }

    pub(crate) fn connect(&mut self) -> (ConnId, ConnId) {
        let client = self.client.connect(AT);
        self.settle();
        (client, *self.server.accepted.last().expect("accepted"))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }
}
