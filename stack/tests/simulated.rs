//! Whole messengers on the simulated network: every place to cut a stream, every byte after which
//! a connection can break or fall silent, in virtual time.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use msgr::protocol::{EntityAddr, EntityType, Message, Payload, Policy, Timestamp};
use msgr::transport::sim::{Chop, Fault as SimFault, Latency, Plan, Side, SimConfig, SimNetwork};
use msgr::{Connection, Context, Dispatcher, Fault, Messenger, Reactor, Received, Settings};

/// What one node's dispatcher was told, in order.
type Log = Arc<Mutex<Vec<String>>>;

struct Node {
    messenger: Messenger,
    reactor: RefCell<Reactor>,
    log: Log,
}

/// Writes everything down; a server also answers, a client sends when it is connected.
struct Scribe {
    log: Log,
    script: Vec<Message>,
    echo: bool,
    /// The most bytes that ever waited to be sent.
    most_queued: Arc<Mutex<usize>>,
}

impl Scribe {
    fn write(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

fn describe(message: &Message) -> String {
    let sum = |payload: &Payload| {
        let bytes = payload.contiguous();
        bytes.iter().fold(bytes.len() as u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        })
    };
    let (front, middle, data) = (
        sum(&message.front),
        sum(&message.middle),
        sum(&message.data),
    );
    let header = message.header;
    format!(
        "message seq {} tid {} {front:x} {middle:x} {data:x}",
        header.seq, header.tid
    )
}

impl Dispatcher for Scribe {
    fn connected(&mut self, context: &mut Context<'_>) {
        self.write(format!("connected to {}", context.peer().unwrap()));
        for message in &self.script {
            context.send(message.clone()).unwrap();
        }
        context.keepalive(Timestamp { sec: 7, nsec: 8 });
    }

    fn accepted(&mut self, context: &mut Context<'_>) {
        self.write(format!("accepted {:?}", context.peer().unwrap().name));
    }

    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        self.write(describe(&message));
        if self.echo {
            if let Err(refusal) = context.send(message.into_message()) {
                self.write(format!("hung up: {refusal}"));
                context.mark_down();
            }
            let mut most = self.most_queued.lock().unwrap();
            *most = context.queued().max(*most);
        }
    }

    fn keepalive_ack(&mut self, _: &mut Context<'_>, stamp: Timestamp) {
        self.write(format!("keepalive {stamp:?}"));
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        self.write(format!("reset: {fault}"));
    }

    fn refused(&mut self, _: &Connection, fault: &Fault) {
        self.write(format!("refused: {fault}"));
    }

    fn rejected(&mut self, fault: &Fault) {
        self.write(format!("rejected: {fault}"));
    }
}

struct World {
    network: SimNetwork,
    nodes: Vec<Node>,
    now: Instant,
    started: Instant,
    most_queued: Arc<Mutex<usize>>,
}

/// What the server may hold of unsent answers.
const BACKLOG: usize = 1 << 20;

const SERVER: &str = "10.0.0.1";
const CLIENT: &str = "10.0.0.2";

fn target() -> EntityAddr {
    format!("v2:{SERVER}:6800/3").parse().unwrap()
}

fn script() -> Vec<Message> {
    let sizes = [(0, 0, 0), (10, 0, 0), (33, 5, 300), (0, 0, 1)];
    let message = |(tid, (front, middle, data)): (u64, (usize, usize, usize))| {
        let bytes = |len: usize| (0..len).map(|i| (i as u64 * tid) as u8).collect::<Vec<_>>();
        let mut message = Message::new(1);
        message.header.tid = tid;
        message.front = bytes(front).into();
        message.middle = bytes(middle).into();
        message.data = bytes(data).into();
        message
    };
    (1..).zip(sizes).map(message).collect()
}

impl World {
    /// A network with the server bound and nobody connected.
    fn new(config: SimConfig) -> Self {
        let now = Instant::now();
        let network = SimNetwork::new(1, config);
        let most_queued = Arc::default();
        let mut world = Self {
            network,
            nodes: Vec::new(),
            now,
            started: now,
            most_queued,
        };
        world.add("osd.3", SERVER, Policy::STATELESS_SERVER, Vec::new());
        world.nodes[0].reactor.borrow_mut().bind(target()).unwrap();
        world
    }

    /// With one client that carries out the script.
    fn with_client(config: SimConfig) -> Self {
        let mut world = Self::new(config);
        world.connect_client(script());
        world
    }

    fn connect_client(&mut self, script: Vec<Message>) -> Connection {
        self.add("client.7", CLIENT, Policy::LOSSY_CLIENT, script);
        let client = self.nodes.last().unwrap();
        client.messenger.connect(EntityType::Osd, target()).unwrap()
    }

    fn add(&mut self, name: &str, ip: &str, policy: Policy, script: Vec<Message>) {
        let mut settings = Settings::new(name.parse().unwrap(), policy);
        settings.protocol.nonce = 1;
        let log = Log::default();
        let echo = policy == Policy::STATELESS_SERVER;
        if echo {
            settings.send_backlog = BACKLOG;
        }
        let most_queued = Arc::clone(&self.most_queued);
        let scribe = Scribe {
            log: Arc::clone(&log),
            script,
            echo,
            most_queued,
        };
        let transport = Box::new(self.network.node(ip.parse::<IpAddr>().unwrap()));
        let (messenger, reactor) =
            Messenger::driven_by_caller(settings, transport, scribe).unwrap();
        self.nodes.push(Node {
            messenger,
            reactor: reactor.into(),
            log,
        });
    }

    /// Lets everything happen that is due before `until` of virtual time.
    fn run_for(&mut self, until: Duration) {
        let end = self.started + until;
        loop {
            let busy = self.nodes.iter().fold(false, |busy, node| {
                node.reactor.borrow_mut().turn(self.now) | busy
            });
            if busy {
                continue;
            }
            let timeouts = self
                .nodes
                .iter()
                .filter_map(|node| node.reactor.borrow().next_timeout());
            let next = timeouts.chain(self.network.next_event_time()).min();
            match next {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.now = end;
    }

    fn log(&self, node: usize) -> Vec<String> {
        self.nodes[node].log.lock().unwrap().clone()
    }

    fn logs(&self) -> [Vec<String>; 2] {
        [self.log(0), self.log(1)]
    }

    /// Nothing is left of any connection, on any node.
    fn assert_nothing_is_left(&self, what: &str) {
        for node in &self.nodes {
            assert_eq!(node.reactor.borrow().connections(), 0, "{what}");
        }
        assert!(self.network.connections().is_empty(), "{what}");
    }
}

const SERVER_SIDE: usize = 0;
const CLIENT_SIDE: usize = 1;

/// Long enough for an exchange, too short for any timeout.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Long enough for every timeout.
const FOREVER: Duration = Duration::from_secs(2000);

fn quick(chop: Chop) -> SimConfig {
    let latency = Latency::fixed(Duration::from_micros(10));
    SimConfig {
        latency,
        chop,
        ..SimConfig::default()
    }
}

/// What happens when nothing is in the way, and the bytes that go each way.
fn undisturbed() -> ([Vec<String>; 2], [u64; 2]) {
    let mut world = World::with_client(quick(Chop::Whole));
    world.run_for(EXCHANGE);
    let logs = world.logs();
    // Found by cutting later and later, until the cut comes too late to matter.
    let bytes = [Side::Connector, Side::Acceptor].map(|from| {
        (1..10_000).find(|after| {
            let mut world = World::new(quick(Chop::Whole));
            world.network.plan(
                target().socket.unwrap(),
                SimFault::Cut {
                    from,
                    after: *after,
                },
            );
            world.connect_client(script());
            world.run_for(EXCHANGE);
            world.logs() == logs
        })
    });
    (logs, bytes.map(Option::unwrap))
}

#[test]
fn what_is_chopped_at_any_byte_gives_the_same_events() {
    let (logs, [from_client, from_server]) = undisturbed();
    assert_eq!(
        logs[CLIENT_SIDE].len(),
        6,
        "connected, 4 messages, keepalive: {logs:?}"
    );
    assert_eq!(logs[SERVER_SIDE].len(), 5, "accepted, 4 messages: {logs:?}");
    let longest = from_client.max(from_server);
    assert!(longest > 1000, "handshake and messages: {longest} bytes");

    let pieces = (1..=longest as usize).map(Chop::Every);
    let cuts = (1..longest).map(|at| Chop::At(Arc::from([at])));
    for chop in pieces.chain(cuts) {
        let mut world = World::with_client(quick(chop.clone()));
        world.run_for(EXCHANGE);
        assert_eq!(world.logs(), logs, "{chop:?}");
    }
}

#[test]
fn a_connection_cut_after_any_byte_ends_with_a_reset_and_no_other_harm() {
    let (logs, [from_client, from_server]) = undisturbed();
    for (from, bytes) in [
        (Side::Connector, from_client),
        (Side::Acceptor, from_server),
    ] {
        for after in 0..bytes {
            let what = format!("cut after {after} bytes from the {from:?}");
            let mut world = World::new(quick(Chop::Whole));
            world
                .network
                .plan(target().socket.unwrap(), SimFault::Cut { from, after });
            let connection = world.connect_client(script());
            world.run_for(EXCHANGE);
            world.assert_nothing_is_left(&what);
            assert!(connection.is_closed(), "{what}");
            // Each side saw the beginning of the undisturbed exchange, then at most one end.
            for (side, whole) in logs.iter().enumerate() {
                let mut seen = world.log(side);
                let end = seen.pop_if(|line| line.contains("reset by the peer"));
                assert!(side == SERVER_SIDE || end.is_some(), "{what}: {seen:?}");
                assert!(whole.starts_with(&seen), "{what}: {seen:?}");
            }
            // The server goes on as if nothing had been.
            world.connect_client(script());
            world.started = world.now;
            world.run_for(EXCHANGE);
            assert_eq!(world.log(2), logs[CLIENT_SIDE], "{what}");
        }
    }
}

#[test]
fn a_peer_that_falls_silent_after_any_byte_is_given_up_in_time() {
    let (logs, [from_client, from_server]) = undisturbed();
    for (from, bytes) in [
        (Side::Connector, from_client),
        (Side::Acceptor, from_server),
    ] {
        for after in 0..bytes {
            let what = format!("silent after {after} bytes from the {from:?}");
            let mut world = World::new(quick(Chop::Whole));
            world.network.plan(
                target().socket.unwrap(),
                SimFault::BlackHole { from, after },
            );
            world.connect_client(script());
            world.run_for(FOREVER);
            world.assert_nothing_is_left(&what);
            for (side, whole) in logs.iter().enumerate() {
                let seen = world.log(side);
                let (last, before) = seen.split_last().unwrap();
                assert!(
                    last.contains("not ready in time") || last.contains("idle for too long"),
                    "{what}: {seen:?}"
                );
                assert!(whole.starts_with(before), "{what}: {seen:?}");
            }
        }
    }
}

#[test]
fn a_refused_connection_is_told_once() {
    let mut world = World::new(quick(Chop::Whole));
    world.network.plan(target().socket.unwrap(), Plan::Refuse);
    world.connect_client(script());
    world.run_for(EXCHANGE);
    let seen = world.log(1);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(
        seen[0].starts_with("refused: ") && seen[1].starts_with("reset: "),
        "{seen:?}"
    );
    assert!(
        seen[1].contains("osd at 10.0.0.1:6800: connection refused"),
        "{seen:?}"
    );
    world.assert_nothing_is_left("refused");
}

/// 200 requests of 64 KiB.
fn flood() -> Vec<Message> {
    let mut request = Message::new(1);
    request.data = vec![1; 64 << 10].into();
    vec![request; 200]
}

#[test]
fn a_peer_that_takes_no_answers_is_hung_up_on() {
    let mut world = World::new(quick(Chop::Whole));
    // What the server sends stops behind the handshake; what the client sends does not.
    let stall = SimFault::Stall {
        from: Side::Acceptor,
        after: 500,
        lasts: None,
    };
    world.network.plan(target().socket.unwrap(), stall);
    world.connect_client(flood());
    world.run_for(EXCHANGE);
    let most = *world.most_queued.lock().unwrap();
    assert!(
        most > BACKLOG / 2,
        "the server collected answers: {most} bytes"
    );
    assert!(
        most <= BACKLOG + (65 << 10),
        "and no more than it may: {most} bytes"
    );
    let seen = world.log(SERVER_SIDE);
    assert!(seen.last().unwrap().starts_with("hung up: "), "{seen:?}");
    assert_eq!(world.nodes[SERVER_SIDE].reactor.borrow().connections(), 0);
}

#[test]
fn two_ends_that_send_more_than_fits_do_not_wait_for_each_other() {
    let mut world = World::new(SimConfig {
        window: 1000,
        ..quick(Chop::Whole)
    });
    world.connect_client(flood());
    world.run_for(EXCHANGE);
    let replies = world
        .log(1)
        .iter()
        .filter(|line| line.starts_with("message"))
        .count();
    assert_eq!(replies, 200);
}

#[test]
fn a_shutdown_sends_what_is_queued() {
    let mut world = World::new(quick(Chop::Every(700)));
    let mut message = Message::new(1);
    message.data = vec![9; 3 << 20].into();
    world.connect_client(Vec::new());
    world.run_for(EXCHANGE);
    let client = &world.nodes[1];
    let connection = client.messenger.connect(EntityType::Osd, target()).unwrap();
    connection.send(message.clone()).unwrap();
    connection.send(message).unwrap();
    client.reactor.borrow_mut().turn(world.now);
    client.reactor.borrow_mut().shut_down(world.now);
    world.started = world.now;
    world.run_for(EXCHANGE);
    assert!(world.nodes[1].reactor.borrow().is_finished(world.now));
    let received = world
        .log(SERVER_SIDE)
        .iter()
        .filter(|line| line.starts_with("mess"))
        .count();
    assert_eq!(received, 2);
}

#[test]
fn faults_name_peer_state_and_cause() {
    let mut world = World::new(quick(Chop::Whole));
    let fault = SimFault::Cut {
        from: Side::Connector,
        after: 30,
    };
    world.network.plan(target().socket.unwrap(), fault);
    world.connect_client(script());
    world.run_for(EXCHANGE);
    let rejected = &world.log(SERVER_SIDE)[0];
    assert!(rejected.starts_with("rejected: 10.0.0.2:"), "{rejected}");
    assert!(rejected.contains("in the middle of a frame"), "{rejected}");
    assert!(
        rejected.ends_with("(in state HELLO_ACCEPTING)"),
        "{rejected}"
    );
}
