//! Several queues of a port: where connections are, what is handed over, and that threads which share
//! a port need nobody but each other.

#[allow(unused)] // Only its harness is used here.
mod conformance;
mod queues;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conformance::{Network, Pair, Random, Side, assert_same};
use msgr_transport::tcp::wire::{Wire, WireConfig, WirePort};
use msgr_transport::tcp::{Device, Steering, SteeringCounters, Tcp, TcpConfig};
use msgr_transport::{
    ConnId, ConnectOptions, Event, ListenOptions, Park, Port, Transport, TxQueue,
};
use queues::{Queues, Spread, endpoints};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Two hosts on a wire, with two queues each.
struct Hosts {
    wire: Wire,
    spread: Spread,
    now: Instant,
}

impl Hosts {
    fn pair(spread: Spread) -> Pair<Self> {
        let network = Self {
            spread,
            ..Self::new()
        };
        Pair::with(network)
    }
}

fn ip(side: Side) -> IpAddr {
    IpAddr::from([10, 0, 0, side as u8 + 1])
}

impl Network for Hosts {
    type Transport = Queues<WirePort>;

    fn new() -> Self {
        Self {
            wire: Wire::new(WireConfig::default()),
            spread: Spread::Right,
            now: Instant::now(),
        }
    }

    fn transport(&mut self, side: Side) -> Queues<WirePort> {
        let config = TcpConfig::new(ip(side), 24);
        Queues::new(endpoints(
            self.wire.queues(2),
            self.spread,
            &config,
            self.now,
        ))
    }

    fn address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(ip(side), 0)
    }

    fn address_v6(&self, _: Side) -> Option<SocketAddr> {
        None
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }
}

/// What both queues of a host have handed over.
fn handed(host: &Queues<WirePort>) -> SteeringCounters {
    let [one, other] = host.endpoints.each_ref().map(Tcp::steering_counters);
    SteeringCounters {
        handed_over: one.handed_over + other.handed_over,
        dropped: one.dropped + other.dropped,
    }
}

#[test]
fn connections_spread_over_both_queues() {
    let mut pair = Hosts::pair(Spread::Right);
    let address = pair.listen();
    // Ports that nobody has chosen for their hash.
    let clients: Vec<_> = (0..64)
        .map(|port| {
            let from = SocketAddr::new(ip(Side::Client), 20_000 + port);
            pair.client.connect(address, Some(from)).expect("it starts")
        })
        .collect();
    pair.run_until("connected", |pair| {
        pair.server.accepted.len() == 64 && clients.iter().all(|&id| pair.client.is_up(id))
    });
    let server = pair.server.transport.endpoints.each_ref();
    let counts = server.map(Tcp::connections);
    assert!(
        counts.iter().all(|count| (16..=48).contains(count)),
        "{counts:?}"
    );
    assert_eq!(handed(&pair.server.transport), SteeringCounters::default());
    // Half of them have begun where they do not hash to.
    assert!(handed(&pair.client.transport).handed_over > 0);
}

/// Of ports that are chosen for their hash nothing is ever handed over, if the device can help it.
#[test]
fn what_comes_to_the_right_queue_stays_there() {
    let mut pair = Hosts::pair(Spread::Right);
    let address = pair.listen();
    let ends: Vec<_> = (0..8).map(|_| pair.connect(address)).collect();
    let bytes = Random(1).bytes(100_000);
    for &(client, _) in &ends {
        pair.client.give(client, bytes.clone());
    }
    pair.run_until("received", |pair| {
        ends.iter()
            .all(|&(_, server)| pair.server.received(server) == bytes.len())
    });
    assert_eq!(handed(&pair.client.transport), SteeringCounters::default());
    assert_eq!(handed(&pair.server.transport), SteeringCounters::default());
    let server = pair.server.transport.endpoints.each_ref();
    assert_eq!(server.map(Tcp::connections), [4, 4]);
}

#[test]
fn nothing_is_lost_between_queues() {
    let mut pair = Hosts::pair(Spread::Wrong);
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    let (there, back) = (Random(1).bytes(8 << 20), Random(2).bytes(8 << 20));
    pair.client.give(client, there.clone());
    pair.server.give(server, back.clone());
    pair.run_until("all there and back", |pair| {
        pair.server.received(server) == there.len() && pair.client.received(client) == back.len()
    });
    assert_same(&pair.server.bytes(server), &there);
    assert_same(&pair.client.bytes(client), &back);
    for host in [&mut pair.client, &mut pair.server] {
        let SteeringCounters {
            handed_over,
            dropped,
        } = handed(&host.transport);
        assert_eq!(dropped, 0);
        // All of it: nothing was sent again.
        let received: u64 = host
            .transport
            .endpoints
            .iter_mut()
            .map(|tcp| tcp.counters().received)
            .sum();
        let least = there.len() as u64 / 1460;
        assert!(
            (least..=received).contains(&handed_over),
            "{handed_over} of {received}"
        );
        assert!(received < 2 * least, "{received}");
    }
}

/// Who was dropped on the way to a queue that sleeps asks again.
#[test]
fn a_full_queue_costs_time_but_no_connections() {
    let mut pair = Hosts::pair(Spread::Wrong);
    let address = pair.listen();
    let clients: Vec<_> = (0..600)
        .map(|_| pair.client.connect(address, None).expect("it starts"))
        .collect();
    // What comes to the first is for the second, which sleeps.
    let mut events = Vec::new();
    for _ in 0..10_000 {
        let now = pair.network.tick();
        pair.client.poll(now);
        pair.server.transport.endpoints[0].poll(now, &mut events);
        if handed(&pair.server.transport).dropped > 0 {
            break;
        }
    }
    let SteeringCounters {
        handed_over,
        dropped,
    } = handed(&pair.server.transport);
    assert!((1000..=1024).contains(&handed_over), "{handed_over}");
    assert!(dropped > 0 && events.is_empty());
    pair.run_until("connected", |pair| {
        clients.iter().all(|&client| pair.client.is_up(client))
    });
}

/// One endpoint on a thread of its own, with what it has to send.
struct Worker {
    tcp: Tcp<WirePort>,
    outgoing: HashMap<ConnId, TxQueue>,
    events: Vec<Event>,
}

impl Worker {
    fn new(side: Side, device: WirePort, steering: Steering<<WirePort as Device>::Frame>) -> Self {
        let mut config = TcpConfig::new(ip(side), 24);
        // So much that all connections at once fit between two queues.
        config.window = 128 << 10;
        Self {
            tcp: Tcp::steered(device, steering, config, Instant::now()).expect("it starts"),
            outgoing: HashMap::new(),
            events: Vec::new(),
        }
    }

    fn send(&mut self, conn: ConnId, bytes: Bytes) {
        self.outgoing.entry(conn).or_default().push_back(bytes);
    }

    /// One turn, which sleeps if there is nothing to do.
    fn turn(&mut self) -> Vec<Event> {
        for (conn, queue) in self
            .outgoing
            .iter_mut()
            .filter(|(_, queue)| !queue.is_empty())
        {
            self.tcp.send(*conn, queue).expect("it is open");
        }
        self.tcp.flush();
        if !self.tcp.poll(Instant::now(), &mut self.events) {
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            if let Park::Fd(fd) = self.tcp.park() {
                let _ = poll(
                    &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
                    Some(&timeout),
                );
            }
            self.tcp.unpark();
        }
        std::mem::take(&mut self.events)
    }
}

/// Connections of each client thread, and bytes of each.
const CONNECTIONS: usize = 4;
const BYTES: usize = 1 << 20;

/// Four threads, two for each host. No server thread answers before the other has got something, too:
/// they work at the same time, each on connections of its own.
fn threads(spread: Spread) {
    let wire = Wire::new(WireConfig::default());
    let mut steering = [Steering::new(2), Steering::new(2)];
    if spread == Spread::Wrong {
        for queues in &mut steering {
            queues.reverse();
        }
    }
    let [server, client] = steering.map(|steering| wire.queues(2).into_iter().zip(steering));
    let at = SocketAddr::new(ip(Side::Server), 6800);
    let (listening, serving, over) = (Barrier::new(4), AtomicUsize::new(0), AtomicBool::new(false));
    let done = AtomicUsize::new(0);
    let serve = |(device, steering)| {
        let mut worker = Worker::new(Side::Server, device, steering);
        let options = ListenOptions {
            port: Port::Join,
            ..ListenOptions::default()
        };
        worker.tcp.listen(at, &options).expect("it listens");
        listening.wait();
        let (mut accepted, mut held) = (0, Vec::new());
        let mut is_counted = false;
        while !over.load(Ordering::Relaxed) {
            for event in worker.turn() {
                match event {
                    Event::Accepted { .. } => accepted += 1,
                    Event::Data { conn, bytes } => {
                        if !std::mem::replace(&mut is_counted, true) {
                            serving.fetch_add(1, Ordering::Relaxed);
                        }
                        held.push((conn, bytes));
                    }
                    Event::Room { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            if serving.load(Ordering::Relaxed) == 2 {
                for (conn, bytes) in held.drain(..) {
                    worker.send(conn, bytes);
                }
            }
        }
        accepted
    };
    let ask = |(device, steering)| {
        let mut worker = Worker::new(Side::Client, device, steering);
        listening.wait();
        let sent = Bytes::from(Random(1).bytes(BYTES));
        let mut received = HashMap::<ConnId, Vec<u8>>::new();
        for _ in 0..CONNECTIONS {
            let conn = worker.tcp.connect(at, &ConnectOptions::default());
            received.insert(conn.expect("it starts"), Vec::new());
        }
        // What is for one may come to the other, so they stay until both have all.
        let mut is_done = false;
        while done.load(Ordering::Relaxed) < 2 {
            if !is_done && received.values().all(|bytes| bytes.len() == BYTES) {
                is_done = true;
                done.fetch_add(1, Ordering::Relaxed);
            }
            for event in worker.turn() {
                match event {
                    Event::Connected { conn, .. } => worker.send(conn, sent.clone()),
                    Event::Data { conn, bytes } => {
                        received.entry(conn).or_default().extend_from_slice(&bytes);
                    }
                    Event::Room { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(received.values().all(|bytes| *bytes == sent));
        worker.tcp.steering_counters()
    };
    thread::scope(|scope| {
        let servers: Vec<_> = server.map(|queue| scope.spawn(|| serve(queue))).collect();
        let clients: Vec<_> = client.map(|queue| scope.spawn(|| ask(queue))).collect();
        for client in clients {
            let SteeringCounters { handed_over, .. } = client.join().expect("it got all");
            let least = CONNECTIONS * BYTES / 1460;
            assert_eq!(
                handed_over > least as u64,
                spread == Spread::Wrong,
                "{handed_over}"
            );
        }
        over.store(true, Ordering::Relaxed);
        for server in servers {
            assert_eq!(server.join().expect("it served"), CONNECTIONS);
        }
    });
}

#[test]
fn threads_share_a_port_that_spreads() {
    threads(Spread::Right);
}

#[test]
fn threads_share_a_port_that_gets_it_all_wrong() {
    threads(Spread::Wrong);
}
