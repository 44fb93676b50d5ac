//! Many connections between two endpoints of userspace TCP on the in-process wire, in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use msgr_transport::tcp::wire::{Wire, WirePort};
use msgr_transport::tcp::{Tcp, TcpConfig};
use msgr_transport::{ConnId, ConnectOptions, Event, ListenOptions, Transport, TxQueue};

/// What is sent there and back.
pub(crate) const MESSAGE: [u8; 64] = [7; 64];
/// So many connections are begun at a time: fewer than a listener lets wait.
const AT_ONCE: usize = 256;
/// So many clients of one address have a port of their own at each of the server's.
const PER_PORT: usize = 28_000;

/// One end.
pub(crate) struct End {
    tcp: Tcp<WirePort>,
    events: Vec<Event>,
    queue: TxQueue,
    /// Its connections that are established.
    pub(crate) conns: Vec<ConnId>,
    /// How many bytes it has received.
    pub(crate) received: usize,
}

impl End {
    fn new(wire: &Wire, ip: IpAddr, now: Instant) -> Self {
        let config = TcpConfig::new(ip, 24);
        Self {
            tcp: Tcp::new(wire.port(), config, now).expect("it starts"),
            events: Vec::new(),
            queue: TxQueue::new(),
            conns: Vec::new(),
            received: 0,
        }
    }

    pub(crate) fn send(&mut self, conn: ConnId, message: Bytes) {
        self.queue.push_back(message);
        let taken = self.tcp.send(conn, &mut self.queue).expect("connected");
        assert!(taken > 0 && self.queue.is_empty(), "no room");
    }

    /// How many packets it has received.
    #[allow(dead_code)] // Only the bench asks.
    pub(crate) fn packets(&mut self) -> u64 {
        self.tcp.counters().received
    }

    /// A turn: takes in what has come, and sends it back if this end `echoes`.
    pub(crate) fn turn(&mut self, now: Instant, echoes: bool) {
        self.tcp.poll(now, &mut self.events);
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } | Event::Connected { conn, .. } => {
                    self.conns.push(conn);
                }
                Event::Data { conn, bytes } => {
                    self.received += bytes.len();
                    if echoes {
                        self.send(conn, bytes);
                    }
                }
                event => panic!("{event:?}"),
            }
        }
        self.events = events;
        self.tcp.flush();
    }
}

/// A client and a server.
pub(crate) struct Many {
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) now: Instant,
}

impl Many {
    /// Two endpoints on a wire, with so many connections.
    pub(crate) fn connected(wire: &Wire, count: usize) -> Self {
        let now = Instant::now();
        let [client, server] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut many = Self {
            client: End::new(wire, client, now),
            server: End::new(wire, server, now),
            now,
        };
        for first in (0..count).step_by(PER_PORT) {
            let at = SocketAddr::new(server, 0);
            let listener = many.server.tcp.listen(at, &ListenOptions::default());
            let (_, at) = listener.expect("a port");
            many.connect(at, PER_PORT.min(count - first));
        }
        many
    }

    fn connect(&mut self, to: SocketAddr, count: usize) {
        let options = ConnectOptions::default();
        for first in (0..count).step_by(AT_ONCE) {
            let enough = self.client.conns.len() + AT_ONCE.min(count - first);
            for _ in first..count.min(first + AT_ONCE) {
                self.client.tcp.connect(to, &options).expect("it starts");
            }
            // Most of the first wait for the server's hardware address in vain, and ask again.
            self.pass_until(Duration::from_secs(1), |many| {
                many.client.conns.len() == enough && many.server.conns.len() == enough
            });
        }
    }

    /// Lets time pass, and each end have a turn.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.turn(self.now, true);
        self.client.turn(self.now, false);
    }

    /// Sends a message on each connection of the client's and waits for the echoes.
    pub(crate) fn echo_on_each(&mut self) {
        for first in (0..self.client.conns.len()).step_by(AT_ONCE) {
            let last = self.client.conns.len().min(first + AT_ONCE);
            for at in first..last {
                self.client
                    .send(self.client.conns[at], Bytes::from_static(&MESSAGE));
            }
            self.client.turn(self.now, false);
            let enough = self.client.received + (last - first) * MESSAGE.len();
            self.pass_until(Duration::from_secs(1), |many| {
                many.client.received == enough
            });
        }
    }

    /// Lets time pass until it is `done`, at most so much.
    fn pass_until(&mut self, most: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + most;
        while !done(self) {
            assert!(self.now < end, "it takes too long");
            self.pass(Duration::from_micros(100));
        }
    }
}
