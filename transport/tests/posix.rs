//! The `posix` transport: the conformance suite, and what only sockets can show. In the latter the
//! peer is the standard library, so that the kernel is the referee and not our own code.

#![allow(clippy::unwrap_used)] // Every function here is part of a test.

mod conformance;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conformance::{Clock, Network, Random, Side, assert_same};
use msgr_transport::posix::Posix;
use msgr_transport::{
    Close, CloseReason, ConnId, ConnectOptions, Event, ListenOptions, Park, Transport, TxQueue,
};

/// Loopback, with an IPv4 address of its own for each test.
struct Loopback {
    host: u8,
    ticks: u32,
    clock: Clock,
}

impl Network for Loopback {
    type Transport = Posix;

    fn new() -> Self {
        static HOSTS: AtomicU8 = AtomicU8::new(1);
        Self {
            host: HOSTS.fetch_add(1, Ordering::Relaxed),
            ticks: 0,
            clock: Clock::new(),
        }
    }

    fn transport(&mut self, _: Side) -> Posix {
        Posix::new().expect("an epoll descriptor")
    }

    fn address(&self, _: Side) -> SocketAddr {
        let [.., high, low] = std::process::id().to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, high, low, self.host), 0))
    }

    fn address_v6(&self, _: Side) -> Option<SocketAddr> {
        let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        std::net::UdpSocket::bind(loopback).ok().map(|_| loopback)
    }

    fn tick(&mut self) -> Instant {
        // Now and then, for a kernel that delivers packets in a thread of its own.
        self.ticks += 1;
        if self.ticks.is_multiple_of(64) {
            std::thread::yield_now();
        }
        self.clock.tick()
    }
}

conformance::conformance!(Loopback);

/// One transport, and what has come up for its only connection.
struct Alone {
    posix: Posix,
    address: SocketAddr,
    conn: Option<ConnId>,
    slices: Vec<Bytes>,
    closed: Option<CloseReason>,
    room: bool,
}

impl Alone {
    fn new() -> Self {
        let mut network = Loopback::new();
        Self {
            posix: network.transport(Side::Server),
            address: network.address(Side::Server),
            conn: None,
            slices: Vec::new(),
            closed: None,
            room: true,
        }
    }

    /// A connection that a standard socket has made to us.
    fn accepting() -> (Self, TcpStream) {
        let mut alone = Self::new();
        let (_, address) = alone
            .posix
            .listen(alone.address, &ListenOptions::default())
            .unwrap();
        let peer = TcpStream::connect(address).unwrap();
        alone.run_until(|alone| alone.conn.is_some());
        (alone, peer)
    }

    /// A connection that we have made to a standard socket.
    fn connecting() -> (Self, TcpStream) {
        let mut alone = Self::new();
        let listener = TcpListener::bind(alone.address).unwrap();
        let to = listener.local_addr().unwrap();
        let options = ConnectOptions::default();
        let conn = alone.posix.connect(to, &options).unwrap();
        alone.run_until(|alone| alone.conn == Some(conn));
        (alone, listener.accept().unwrap().0)
    }

    fn poll(&mut self, now: Instant) -> bool {
        let mut events = Vec::new();
        let done = self.posix.poll(now, &mut events);
        for event in events {
            match event {
                Event::Accepted { conn, .. } | Event::Connected { conn, .. } => {
                    self.conn = Some(conn);
                }
                Event::Data { bytes, .. } => self.slices.push(bytes),
                Event::Room { .. } => self.room = true,
                Event::Closed { reason, .. } => self.closed = Some(reason),
            }
        }
        done
    }

    fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(self) {
            let now = Instant::now();
            assert!(now < deadline, "never done");
            self.poll(now);
        }
    }

    fn conn(&self) -> ConnId {
        self.conn.unwrap()
    }

    fn received(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    /// Sends all of `queue` and does not wait for more than room.
    fn send(&mut self, mut queue: TxQueue) {
        let conn = self.conn();
        self.run_until(|alone| {
            if alone.room {
                alone.posix.send(conn, &mut queue).unwrap();
                alone.posix.flush();
                alone.room = queue.is_empty();
            }
            queue.is_empty()
        });
    }
}

/// Exchanges some megabytes with a standard socket and lets it close first.
fn exchange((mut alone, mut peer): (Alone, TcpStream)) {
    let mut random = Random(21);
    let (there, back) = (random.bytes(3_000_000), random.bytes(2_000_000));
    let peer = {
        let (there, back) = (there.clone(), back.clone());
        std::thread::spawn(move || {
            peer.write_all(&there).unwrap();
            let mut received = vec![0; back.len()];
            peer.read_exact(&mut received).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_same(&received, &back);
            peer
        })
    };
    alone.run_until(|alone| alone.received() == there.len());
    assert_same(&alone.slices.concat(), &there);
    alone.send(TxQueue::from([Bytes::from(back)]));
    alone.run_until(|alone| alone.closed.is_some());
    assert_eq!(alone.closed, Some(CloseReason::PeerClosed));
    peer.join().unwrap();
}

#[test]
fn a_transport_moves_to_the_thread_that_drives_it() {
    let mut posix = Posix::new().unwrap();
    let poll = move || posix.poll(Instant::now(), &mut Vec::new());
    assert!(!std::thread::spawn(poll).join().unwrap());
}

#[test]
fn a_standard_client_is_served() {
    exchange(Alone::accepting());
}

#[test]
fn a_standard_server_is_reached() {
    exchange(Alone::connecting());
}

#[test]
fn the_end_right_behind_the_bytes_is_seen() {
    for bytes_polled_first in [false, true] {
        let (mut alone, mut peer) = Alone::accepting();
        peer.write_all(b"bye").unwrap();
        if bytes_polled_first {
            alone.run_until(|alone| alone.received() == 3);
        }
        peer.shutdown(Shutdown::Write).unwrap();
        alone.run_until(|alone| alone.closed.is_some());
        assert_eq!(alone.received(), 3);
        assert_eq!(alone.closed, Some(CloseReason::PeerClosed));
    }
}

#[test]
fn a_reset_is_told_from_an_end_and_comes_after_the_bytes() {
    let (mut alone, mut peer) = Alone::connecting();
    peer.write_all(b"cut").unwrap();
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    alone.run_until(|alone| alone.closed.is_some());
    assert_eq!(alone.closed, Some(CloseReason::Reset));
    assert_eq!(alone.slices.concat(), b"cut");
}

#[test]
fn sending_into_a_reset_keeps_what_the_peer_had_sent() {
    let (mut alone, mut peer) = Alone::connecting();
    peer.write_all(b"cut").unwrap();
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    // The write finds the reset first; the read behind it must not be lost, nor the reason.
    let mut queue = TxQueue::from([Bytes::from_static(b"into the void")]);
    alone.posix.send(alone.conn(), &mut queue).unwrap();
    alone.posix.flush();
    alone.run_until(|alone| alone.closed.is_some());
    assert_eq!(alone.closed, Some(CloseReason::Reset));
    assert_eq!(alone.slices.concat(), b"cut");
}

#[test]
fn aborting_resets_and_draining_does_not() {
    let (mut alone, mut peer) = Alone::accepting();
    alone.posix.close(alone.conn(), Close::Abort);
    let error = peer.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let (mut alone, mut peer) = Alone::accepting();
    peer.write_all(b"never read").unwrap();
    let mut queue = TxQueue::from([Bytes::from_static(b"last words")]);
    alone.posix.send(alone.conn(), &mut queue).unwrap();
    alone.posix.close(alone.conn(), Close::Drain);
    alone.poll(Instant::now());
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"last words");
    drop(peer);
    alone.run_until(|alone| alone.posix.next_timeout().is_none());
    assert_eq!(alone.closed, None);
}

#[test]
fn a_drained_connection_does_not_linger_for_ever() {
    let (mut alone, mut peer) = Alone::accepting();
    let start = Instant::now();
    alone.poll(start);
    alone.posix.close(alone.conn(), Close::Drain);
    alone.poll(start);
    let until = alone.posix.next_timeout().expect("it lingers");
    assert!(until > start && until <= start + Duration::from_secs(5));
    // The peer neither closes nor stops sending.
    peer.write_all(b"still here").unwrap();
    alone.poll(start + Duration::from_secs(4));
    assert_eq!(alone.posix.next_timeout(), Some(until));
    assert!(alone.poll(until));
    assert_eq!(alone.posix.next_timeout(), None);
    assert!(alone.slices.is_empty(), "nothing comes up after close");
}

#[test]
fn an_address_of_another_host_cannot_be_bound() {
    let mut posix = Posix::new().unwrap();
    // TEST-NET-1, RFC 5737: nobody has it.
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = posix
        .listen(foreign, &ListenOptions::default())
        .unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrNotAvailable);
    let options = ConnectOptions {
        local: Some(foreign),
    };
    let error = posix.connect(foreign, &options).unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrNotAvailable);
}

#[test]
fn an_exchange_costs_few_system_calls() {
    let (mut alone, mut peer) = Alone::accepting();
    // What is left of the connection's first readiness.
    while alone.poll(Instant::now()) {}
    let start = alone.posix.cost();
    alone.poll(Instant::now());
    let idle = alone.posix.cost();
    assert_eq!(idle.system_calls, start.system_calls + 1, "epoll_wait");

    let queue = (0..50_u8)
        .map(|byte| Bytes::from(vec![byte; 100]))
        .collect();
    alone.send(queue);
    let sent = alone.posix.cost();
    assert_eq!(sent.system_calls, idle.system_calls + 1, "sendmsg");
    assert_eq!(sent.doorbells, idle.doorbells + 1);

    peer.write_all(b"request").unwrap();
    let before = alone.posix.cost();
    let mut polls = 0;
    alone.run_until(|alone| {
        polls += 1;
        alone.received() == 7
    });
    polls -= 1;
    let received = alone.posix.cost();
    assert_eq!(
        received.system_calls,
        before.system_calls + polls + 1,
        "one recv beside the epoll_wait of each poll"
    );
    assert_eq!(received.bytes_copied, 0);
}

#[test]
fn receiving_uses_the_same_memory_again() {
    let (mut alone, mut peer) = Alone::accepting();
    let mut places = HashSet::new();
    for turn in 1..=20_000 {
        peer.write_all(&[1; 64]).unwrap();
        alone.run_until(|alone| alone.received() == 64);
        let slice = alone.slices.pop().unwrap();
        places.insert(slice.as_ptr());
        alone.slices.clear();
        if turn == 10_000 {
            // 640 kB: more than what is received into before it is used again.
            let known = places.len();
            assert!(known < 9_000, "{known} different places");
        }
    }
    let known = places.len();
    assert!(known < 9_000, "{known} different places");
}

/// Exchanges enough with the peer for the connection to be polled without epoll.
fn chat(alone: &mut Alone, peer: &mut TcpStream) {
    for _ in 0..200 {
        peer.write_all(b"ping").unwrap();
        alone.run_until(|alone| alone.received() == 4);
        alone.slices.clear();
    }
    let before = alone.posix.cost().system_calls;
    for _ in 0..64 {
        alone.poll(Instant::now());
    }
    let calls = alone.posix.cost().system_calls - before;
    assert_eq!(calls, 64, "one system call per poll, whichever it is");
}

#[test]
fn a_busily_polled_connection_is_told_when_it_can_write_again() {
    let (mut alone, mut peer) = Alone::accepting();
    chat(&mut alone, &mut peer);
    peer.set_nonblocking(true).unwrap();
    peer.set_nodelay(true).unwrap();
    let sent = Random(22).bytes(20_000_000);
    let mut queue = TxQueue::from([Bytes::from(sent.clone())]);
    let mut received = Vec::new();
    let conn = alone.conn();
    alone.run_until(|alone| {
        if alone.room {
            alone.posix.send(conn, &mut queue).unwrap();
            alone.posix.flush();
            alone.room = queue.is_empty();
        }
        // The peer never falls silent: there is always a reason to go on polling.
        let _ = peer.write(b"go on");
        alone.slices.clear();
        let _ = Read::take(&peer, 16 << 10).read_to_end(&mut received);
        received.len() == sent.len()
    });
    assert_same(&received, &sent);
}

#[test]
fn a_busily_polled_connection_sees_its_end() {
    for reset in [false, true] {
        let (mut alone, mut peer) = Alone::accepting();
        chat(&mut alone, &mut peer);
        if reset {
            rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        }
        drop(peer);
        alone.run_until(|alone| alone.closed.is_some());
        let expected = if reset {
            CloseReason::Reset
        } else {
            CloseReason::PeerClosed
        };
        assert_eq!(alone.closed, Some(expected));
    }
}

#[test]
fn a_sleeper_is_woken_by_what_is_left_to_do() {
    let (mut alone, mut peer) = Alone::accepting();
    while alone.poll(Instant::now()) {}
    assert!(matches!(alone.posix.park(), Park::Fd(_)));
    alone.posix.set_receive(alone.conn(), false);
    peer.write_all(b"waiting").unwrap();
    alone.poll(Instant::now());
    assert!(matches!(alone.posix.park(), Park::Fd(_)));
    alone.posix.set_receive(alone.conn(), true);
    assert!(matches!(alone.posix.park(), Park::Busy));
    alone.run_until(|alone| alone.received() == 7);
}
