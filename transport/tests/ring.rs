//! The in-process ring: the contract of every transport, and what only it promises.

mod conformance;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use conformance::{Network, Random, Side, conformance};
use msgr_transport::ring::{Ring, RingConfig, RingNetwork};
use msgr_transport::{
    Close, CloseReason, ConnId, ConnectOptions, Event, ListenOptions, Park, Transport, TxQueue,
};
use rustix::event::{PollFd, PollFlags, Timespec};

struct InProcess {
    network: RingNetwork,
    now: Instant,
}

impl Network for InProcess {
    type Transport = Ring;

    fn new() -> Self {
        Self {
            network: RingNetwork::default(),
            now: Instant::now(),
        }
    }

    fn transport(&mut self, _side: Side) -> Ring {
        Ring::new(&self.network).expect("a ring starts")
    }

    fn address(&self, _side: Side) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn address_v6(&self, _side: Side) -> Option<SocketAddr> {
        Some("[::1]:0".parse().expect("an address"))
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_micros(10);
        self.now
    }
}

conformance!(InProcess);

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One side of a conversation, and the events it has not looked at.
struct Peer {
    ring: Ring,
    conn: ConnId,
    events: Vec<Event>,
}

fn new_ring(network: &RingNetwork) -> Ring {
    Ring::new(network).expect("a ring starts")
}

fn listen(ring: &mut Ring, options: &ListenOptions) -> SocketAddr {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    ring.listen(at, options).expect("it listens").1
}

fn connect(ring: &mut Ring, to: SocketAddr) -> ConnId {
    let conn = ring.connect(to, &ConnectOptions::default());
    conn.expect("connecting starts")
}

impl Peer {
    fn pair(config: RingConfig) -> (Self, Self) {
        let network = RingNetwork::new(config);
        let (mut client, mut server) = (new_ring(&network), new_ring(&network));
        let at = listen(&mut server, &ListenOptions::default());
        let conn = connect(&mut client, at);
        let mut events = Vec::new();
        server.poll(Instant::now(), &mut events);
        let Some(Event::Accepted { conn: accepted, .. }) = events.pop() else {
            panic!("not accepted");
        };
        client.poll(Instant::now(), &mut events);
        assert!(matches!(events.pop(), Some(Event::Connected { .. })));
        let peer = |ring, conn| Self {
            ring,
            conn,
            events: Vec::new(),
        };
        (peer(client, conn), peer(server, accepted))
    }

    fn poll(&mut self) -> Vec<Event> {
        self.ring.poll(Instant::now(), &mut self.events);
        std::mem::take(&mut self.events)
    }

    /// Sends what it can, flushes, and returns the rest.
    fn send(&mut self, segments: impl IntoIterator<Item = Bytes>) -> TxQueue {
        let mut queue: TxQueue = segments.into_iter().collect();
        self.ring.send(self.conn, &mut queue).expect("it is up");
        self.ring.flush();
        queue
    }

    fn slices(&mut self) -> Vec<Bytes> {
        let data = self.poll().into_iter().map(|event| match event {
            Event::Data { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        });
        data.collect()
    }

    /// Sleeps until woken and polls, until there is an event.
    fn wait(&mut self) {
        while !self.ring.poll(Instant::now(), &mut self.events) || self.events.is_empty() {
            if let Park::Fd(descriptor) = self.ring.park() {
                let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
                let patience = Timespec {
                    tv_sec: 20,
                    tv_nsec: 0,
                };
                let ready = rustix::event::poll(&mut descriptors, Some(&patience));
                assert_eq!(ready, Ok(1), "a wake-up was lost");
            }
            self.ring.unpark();
        }
    }
}

#[test]
fn what_is_sent_is_handed_up_itself() {
    let (mut client, mut server) = Peer::pair(RingConfig::default());
    let sent = Bytes::from(vec![7; 4096]);
    client.send([sent.clone()]);
    let received = server.slices();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0], sent);
    assert_eq!(received[0].as_ptr(), sent.as_ptr());
    assert_eq!(client.ring.cost().bytes_copied, 0);
    assert_eq!(server.ring.cost().bytes_copied, 0);
}

#[test]
fn long_segments_are_cut_to_chunks_in_place() {
    let (mut client, mut server) = Peer::pair(RingConfig {
        chunk: 1000,
        ..RingConfig::default()
    });
    let sent = Bytes::from((0..=255).cycle().take(2500).collect::<Vec<u8>>());
    client.send([sent.clone()]);
    let received = server.slices();
    assert_eq!(
        received.iter().map(Bytes::len).collect::<Vec<_>>(),
        [1000, 1000, 500]
    );
    assert_eq!(received.concat(), sent);
    assert_eq!(received[2].as_ptr(), sent[2000..].as_ptr());
}

#[test]
fn credits_run_out_by_descriptors() {
    let (mut client, mut server) = Peer::pair(RingConfig {
        slots: 4,
        ..RingConfig::default()
    });
    let rest = client.send((0..6).map(|n| Bytes::from(vec![n])));
    assert_eq!(rest.len(), 2);
    assert!(
        client.poll().is_empty(),
        "no room before the peer has received"
    );
    assert_eq!(server.slices().concat(), [0, 1, 2, 3]);
    assert!(matches!(client.poll()[..], [Event::Room { .. }]));
    assert!(client.poll().is_empty(), "once");
    assert!(client.send(rest).is_empty());
    assert_eq!(server.slices().concat(), [4, 5]);
    assert!(
        client.poll().is_empty(),
        "no room unless something was left"
    );
}

#[test]
fn credits_run_out_by_bytes() {
    let (mut client, mut server) = Peer::pair(RingConfig {
        window: 100,
        ..RingConfig::default()
    });
    let sent = Bytes::from((0..250).collect::<Vec<u8>>());
    let mut rest = client.send([sent.clone()]);
    let mut received = Vec::new();
    for left in [150, 50, 0] {
        assert_eq!(rest.iter().map(Bytes::len).sum::<usize>(), left);
        received.extend(server.slices().concat());
        let room = client.poll();
        assert_eq!(room.len(), usize::from(left > 0));
        rest = client.send(rest);
    }
    received.extend(server.slices().concat());
    assert_eq!(received, sent);
}

#[test]
fn a_full_backlog_refuses() {
    let network = RingNetwork::default();
    let (mut client, mut server) = (new_ring(&network), new_ring(&network));
    let options = ListenOptions {
        backlog: 2,
        ..ListenOptions::default()
    };
    let at = listen(&mut server, &options);
    let conns = [(); 3].map(|()| connect(&mut client, at));
    let mut events = Vec::new();
    client.poll(Instant::now(), &mut events);
    assert!(
        matches!(
            &events[..],
            [
                Event::Connected { .. },
                Event::Connected { .. },
                Event::Closed { conn, reason: CloseReason::Refused },
            ] if *conn == conns[2]
        ),
        "{events:?}"
    );
}

#[test]
fn a_transport_that_goes_away_resets_its_connections_and_refuses_new_ones() {
    let (mut client, server) = Peer::pair(RingConfig::default());
    drop(server);
    let events = client.poll();
    assert!(
        matches!(
            events[..],
            [Event::Closed { conn, reason: CloseReason::Reset }] if conn == client.conn
        ),
        "{events:?}"
    );

    let network = RingNetwork::default();
    let (mut ring, mut server) = (new_ring(&network), new_ring(&network));
    let at = listen(&mut server, &ListenOptions::default());
    let waiting = connect(&mut ring, at);
    drop(server);
    let late = connect(&mut ring, at);
    let mut events = Vec::new();
    ring.poll(Instant::now(), &mut events);
    let refused: Vec<_> = events
        .into_iter()
        .map(|event| match event {
            Event::Closed { conn, reason } => (conn, reason),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        refused,
        [
            (waiting, CloseReason::Refused),
            (late, CloseReason::Refused)
        ]
    );
}

#[test]
fn a_steady_exchange_allocates_nothing() {
    let (mut client, mut server) = Peer::pair(RingConfig::default());
    let message = BytesMut::from(&[1; 64][..]).freeze();
    let mut queue = TxQueue::with_capacity(16);
    let mut events = Vec::with_capacity(16);
    let mut exchange = |rounds: u32| {
        for _ in 0..rounds {
            for (from, to) in [(0, 1), (1, 0)] {
                let peers = [&mut client, &mut server];
                queue.extend([&message; 16].map(Bytes::clone));
                let conn = peers[from].conn;
                peers[from].ring.send(conn, &mut queue).expect("it is up");
                peers[from].ring.flush();
                peers[to].ring.poll(Instant::now(), &mut events);
                assert_eq!(events.len(), 16);
                events.clear();
            }
        }
    };
    exchange(10);
    let before = ALLOCATIONS.get();
    exchange(1000);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Lets a little time pass, by chance, so that two threads meet in every possible way.
fn dawdle(random: &mut Random) {
    for _ in 0..random.below(100) {
        std::hint::spin_loop();
    }
}

/// Both sides sleep whenever they have nothing to do, so that every message may need a wake-up.
#[test]
fn no_wake_up_is_lost_between_sleepers() {
    const ROUNDS: usize = 100_000;
    let (mut client, mut server) = Peer::pair(RingConfig::default());
    let echo = thread::spawn(move || {
        let mut random = Random(1);
        loop {
            server.wait();
            dawdle(&mut random);
            for event in std::mem::take(&mut server.events) {
                match event {
                    Event::Data { bytes, .. } => assert!(server.send([bytes]).is_empty()),
                    Event::Closed { reason, .. } => return reason,
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    let message = Bytes::from_static(b"ping");
    let mut random = Random(2);
    for _ in 0..ROUNDS {
        dawdle(&mut random);
        client.send([message.clone()]);
        client.wait();
        for event in client.events.drain(..) {
            assert!(matches!(event, Event::Data { bytes, .. } if bytes == message));
        }
    }
    client.ring.close(client.conn, Close::Drain);
    assert_eq!(echo.join().expect("no panic"), CloseReason::PeerClosed);
}

/// The same for credits: a small window, a sender that sleeps when it is full, and a receiver that
/// sleeps when it is empty.
#[test]
fn no_credit_is_lost_between_sleepers() {
    const TOTAL: usize = 200_000;
    let (mut client, mut server) = Peer::pair(RingConfig {
        chunk: 16,
        slots: 8,
        window: 100,
    });
    let receiver = thread::spawn(move || {
        let mut received = 0usize;
        let mut random = Random(3);
        loop {
            server.wait();
            dawdle(&mut random);
            for event in server.events.drain(..) {
                match event {
                    Event::Data { bytes, .. } => {
                        for &byte in &bytes {
                            assert_eq!(byte, (received % 251) as u8);
                            received += 1;
                        }
                    }
                    Event::Closed { reason, .. } => return (received, reason),
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    let stream: Vec<u8> = (0..TOTAL).map(|at| (at % 251) as u8).collect();
    let mut rest = client.send([Bytes::from(stream)]);
    while !rest.is_empty() {
        client.wait();
        assert!(matches!(
            client.events.drain(..).as_slice(),
            [Event::Room { .. }]
        ));
        rest = client.send(rest);
    }
    client.ring.close(client.conn, Close::Drain);
    assert_eq!(
        receiver.join().expect("no panic"),
        (TOTAL, CloseReason::PeerClosed)
    );
}
