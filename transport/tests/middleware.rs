//! Middleware: it keeps the contract of what it wraps, and does what it is there for.

mod conformance;

use std::fmt::{Debug, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conformance::{Network, Random, Side, conformance};
use msgr_transport::middleware::{Counter, FaultInjector, Injection, Tally, Tracer};
use msgr_transport::ring::{Ring, RingNetwork};
use msgr_transport::{
    Close, CloseReason, ConnId, ConnectOptions, Event, ListenOptions, Park, SendError, Transport,
    TxQueue,
};
use tracing::field::{Field, Visit};
use tracing::span;

/// A network for the conformance suite: rings, each wrapped the same way.
macro_rules! wrapped {
    ($name:ident, $transport:ty, $wrap:expr) => {
        struct $name(RingNetwork, Instant);

        impl Network for $name {
            type Transport = $transport;

            fn new() -> Self {
                Self(RingNetwork::default(), Instant::now())
            }

            fn transport(&mut self, _side: Side) -> Self::Transport {
                $wrap(new_ring(&self.0))
            }

            fn address(&self, _side: Side) -> SocketAddr {
                SocketAddr::from(([127, 0, 0, 1], 0))
            }

            fn address_v6(&self, _side: Side) -> Option<SocketAddr> {
                Some("[::1]:0".parse().expect("an address"))
            }

            fn tick(&mut self) -> Instant {
                self.1 += Duration::from_micros(10);
                self.1
            }
        }
    };
}

mod observed {
    use super::*;
    wrapped!(Observed, Tracer<Counter<Ring>>, |ring| Tracer::new(
        Counter::new(ring)
    ));
    conformance!(Observed);
}

mod boxed {
    use super::*;
    wrapped!(Boxed, FaultInjector<Box<dyn Transport>>, |ring: Ring| {
        FaultInjector::new(
            Box::new(ring) as Box<dyn Transport>,
            Injection::default(),
            0,
        )
    });
    conformance!(Boxed);
}

fn new_ring(network: &RingNetwork) -> Ring {
    Ring::new(network).expect("a ring starts")
}

fn listen(transport: &mut impl Transport) -> SocketAddr {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = ListenOptions::default();
    transport.listen(at, &options).expect("it listens").1
}

fn connect(transport: &mut impl Transport, to: SocketAddr) -> ConnId {
    let conn = transport.connect(to, &ConnectOptions::default());
    conn.expect("it starts")
}

fn poll(transport: &mut impl Transport) -> Vec<Event> {
    let mut events = Vec::new();
    let done = transport.poll(Instant::now(), &mut events);
    assert!(done || events.is_empty());
    events
}

fn send(transport: &mut impl Transport, conn: ConnId, bytes: &'static [u8]) {
    let mut queue = TxQueue::from([Bytes::from_static(bytes)]);
    assert_eq!(transport.send(conn, &mut queue), Ok(bytes.len()));
    transport.flush();
}

fn accepted(events: &[Event]) -> ConnId {
    match events {
        [Event::Accepted { conn, .. }, ..] => *conn,
        other => panic!("{other:?}"),
    }
}

/// An injector and a plain ring with a connection between them.
fn struck_pair(injection: Injection, seed: u64) -> (FaultInjector<Ring>, Ring, ConnId, ConnId) {
    let network = RingNetwork::default();
    let mut plain = new_ring(&network);
    let mut struck = FaultInjector::new(new_ring(&network), injection, seed);
    let at = listen(&mut plain);
    let conn = connect(&mut struck, at);
    let peer = accepted(&poll(&mut plain));
    assert!(matches!(poll(&mut struck)[..], [Event::Connected { .. }]));
    (struck, plain, conn, peer)
}

const ALWAYS: Injection = Injection {
    socket_failures: 1,
    connect_refusals: 0,
};

#[test]
fn everything_is_counted() {
    let network = RingNetwork::default();
    let mut server = Counter::new(new_ring(&network));
    let mut client = Counter::new(new_ring(&network));
    let (seen_client, seen_server) = (client.counts(), server.counts());
    let at = listen(&mut server);
    let conn = connect(&mut client, at);
    accepted(&poll(&mut server));
    poll(&mut client);
    let mut queue = TxQueue::from([Bytes::from_static(b"one"), Bytes::from_static(b"three")]);
    assert_eq!(client.send(conn, &mut queue), Ok(8));
    assert_eq!(client.send(conn, &mut queue), Ok(0));
    client.flush();
    poll(&mut server);
    client.close(conn, Close::Drain);
    poll(&mut server);
    let dead = client.send(conn, &mut queue);
    assert_eq!(dead, Err(SendError::NotConnected));

    // Read elsewhere, where there is no transport any more.
    drop((client, server));
    let tallies = std::thread::spawn(move || (seen_client.tally(), seen_server.tally()));
    let (client, server) = tallies.join().expect("no panic");
    assert_eq!(
        client,
        Tally {
            connects: 1,
            sends: 2,
            segments: 2,
            bytes_sent: 8,
            flushes: 1,
            polls: 1,
            closes: 1,
            ..Tally::default()
        }
    );
    assert_eq!(
        server,
        Tally {
            accepts: 1,
            polls: 3,
            data: 2,
            bytes_received: 8,
            ends: 1,
            ..Tally::default()
        }
    );
}

/// Keeps the fields of every event, in text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("msgr_transport::middleware")
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, "{field}={value:?} ").expect("a string takes all");
            }
        }
        assert_eq!(*event.metadata().level(), tracing::Level::TRACE);
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().expect("one thread").push(line.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[test]
fn calls_and_events_are_traced_without_their_contents() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let network = RingNetwork::default();
        let mut server = Tracer::new(new_ring(&network));
        let mut client = Tracer::new(new_ring(&network));
        let at = listen(&mut server);
        let conn = connect(&mut client, at);
        let peer = accepted(&poll(&mut server));
        poll(&mut client);
        send(&mut client, conn, b"classified");
        client.flush();
        poll(&mut server);
        poll(&mut server);
        server.set_receive(peer, false);
        client.close(conn, Close::Abort);
        poll(&mut server);
    });
    let lines = lines.0.lock().expect("one thread");
    let expected = [
        "message=listen",
        "message=connect",
        "message=accepted",
        "message=connected",
        "message=send",
        "message=flush",
        "message=data",
        "message=set_receive",
        "message=close",
        "message=closed",
    ];
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line.split(' ').find(|word| word.starts_with("message=")))
        .map(|message| message.expect("each has one"))
        .collect();
    assert_eq!(messages, expected);
    for line in [&lines[4], &lines[5], &lines[6]] {
        assert!(line.contains("bytes=10"), "{line}");
    }
    assert!(!lines.concat().contains("classified"));
    // Nor as a list of numbers.
    assert!(!lines.concat().contains("99, 108"));
}

#[test]
fn a_struck_send_ends_the_connection_at_both_ends() {
    let (mut struck, mut plain, conn, peer) = struck_pair(ALWAYS, 1);
    send(&mut struck, conn, b"lost");
    let mut queue = TxQueue::from([Bytes::from_static(b"too late")]);
    assert_eq!(
        struck.send(conn, &mut queue),
        Err(SendError::NotConnected),
        "the id is dead before its end is told"
    );
    assert!(
        matches!(struck.park(), Park::Busy),
        "there is something to tell"
    );
    struck.unpark();
    let events = poll(&mut struck);
    assert!(
        matches!(
            events[..],
            [Event::Closed { conn: ended, reason: CloseReason::Injected }] if ended == conn
        ),
        "{events:?}"
    );
    assert!(poll(&mut struck).is_empty(), "once");
    let events = poll(&mut plain);
    assert!(
        matches!(
            events[..],
            [Event::Closed { conn: ended, reason: CloseReason::Reset }] if ended == peer
        ),
        "{events:?}"
    );
}

#[test]
fn struck_data_is_not_handed_up_nor_anything_after_it() {
    let (mut struck, mut plain, conn, peer) = struck_pair(ALWAYS, 1);
    let mut queue: TxQueue = [b"a", b"b", b"c"]
        .map(|byte| Bytes::from_static(byte))
        .into();
    plain.send(peer, &mut queue).expect("it is up");
    plain.flush();
    let events = poll(&mut struck);
    assert!(
        matches!(
            events[..],
            [Event::Closed { conn: ended, reason: CloseReason::Injected }] if ended == conn
        ),
        "{events:?}"
    );
    assert!(matches!(poll(&mut plain)[..], [Event::Closed { .. }]));
}

#[test]
fn other_connections_keep_their_events() {
    // Of two connections with data in the same poll, only the first is struck.
    let injection = Injection {
        socket_failures: 2,
        connect_refusals: 0,
    };
    let spared = (0..64).find_map(|seed| {
        let (mut struck, mut plain, first, first_peer) = struck_pair(injection, seed);
        let at = listen(&mut plain);
        let second = connect(&mut struck, at);
        let second_peer = accepted(&poll(&mut plain));
        poll(&mut struck);
        for (peer, bytes) in [(first_peer, b"1"), (second_peer, b"2"), (first_peer, b"3")] {
            send(&mut plain, peer, bytes);
        }
        let events = poll(&mut struck);
        let ended = |event: &Event| matches!(event, Event::Closed { conn, .. } if *conn == first);
        let alive = |event: &Event| matches!(event, Event::Data { conn, .. } if *conn == second);
        (events.iter().any(ended) && events.iter().any(alive)).then_some(events)
    });
    let events = spared.expect("some seed strikes the first and spares the second");
    assert!(events.len() <= 3, "{events:?}");
}

#[test]
fn leaving_before_being_told_leaves_nothing_to_tell() {
    let (mut struck, _plain, conn, _) = struck_pair(ALWAYS, 1);
    send(&mut struck, conn, b"lost");
    struck.close(conn, Close::Drain);
    assert!(poll(&mut struck).is_empty());
}

#[test]
fn attempts_are_refused() {
    let network = RingNetwork::default();
    let mut plain = new_ring(&network);
    let always = Injection {
        socket_failures: 0,
        connect_refusals: 1,
    };
    let mut struck = FaultInjector::new(new_ring(&network), always, 1);
    let at = listen(&mut plain);
    let conn = connect(&mut struck, at);
    let events = poll(&mut struck);
    assert!(
        matches!(
            events[..],
            [Event::Closed { conn: ended, reason: CloseReason::Refused }] if ended == conn
        ),
        "{events:?}"
    );
}

/// Exchanges messages, connecting again after each fault, and writes down what happened.
fn exchange(seed: u64) -> Vec<String> {
    let network = RingNetwork::default();
    let injection = Injection {
        socket_failures: 20,
        connect_refusals: 5,
    };
    let mut server = FaultInjector::new(new_ring(&network), injection, seed);
    let mut client = FaultInjector::new(new_ring(&network), injection, seed + 1);
    let at = listen(&mut server);
    let mut conn = connect(&mut client, at);
    let mut random = Random(seed);
    let mut up = false;
    let mut log = Vec::new();
    let mut dead = Vec::new();
    for _ in 0..2000 {
        if up {
            let bytes = Bytes::from(random.bytes(1 + random.0 as usize % 9));
            let mut queue = TxQueue::from([bytes]);
            // It may be dead already, with its end yet to be told.
            let sent = client.send(conn, &mut queue);
            log.push(format!("{sent:?}"));
            client.flush();
        }
        for event in poll(&mut server) {
            log.push(format!("server {event:?}"));
        }
        for event in poll(&mut client) {
            log.push(format!("client {event:?}"));
            match event {
                Event::Connected { .. } => up = true,
                Event::Closed { conn: ended, .. } => {
                    assert!(!dead.contains(&ended), "ended twice");
                    assert_eq!(ended, conn);
                    dead.push(ended);
                    conn = connect(&mut client, at);
                    up = false;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let rate = dead.len();
    assert!(
        (50..400).contains(&rate),
        "one in 20 at each end, not {rate} in 2000"
    );
    log
}

#[test]
fn the_same_seed_strikes_in_the_same_places() {
    assert_eq!(exchange(5), exchange(5));
    assert_ne!(exchange(5), exchange(6));
}
