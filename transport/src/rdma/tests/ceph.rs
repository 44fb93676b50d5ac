//! Connections that are set up as Ceph does: the contract of every transport, and peers that do not
//! keep to the side channel, or leave it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::super::SILENT_LOOKS;
use super::super::side_channel::{Endpoint, Message};
use super::{CONFIG, Fault, KEEPALIVE, Rdma, RdmaConfig, Setup, libraries};
use crate::conformance::{Network, Pair, Side, conformance};
use crate::{Close, CloseReason, ConnId};

/// Addresses have to be this host's.
struct Fake(super::Fake);

impl Network for Fake {
    type Transport = Rdma;

    fn new() -> Self {
        Self(super::Fake::new())
    }

    fn transport(&mut self, _side: Side) -> Rdma {
        let config = RdmaConfig {
            setup: Setup::Ceph,
            keepalive: KEEPALIVE,
            ..CONFIG
        };
        Rdma::with(libraries(), config).expect("it starts")
    }

    fn address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(self.0.device.loopback(1 + side as u8), 0)
    }

    fn address_v6(&self, _side: Side) -> Option<SocketAddr> {
        None // This host has one only, which names no device.
    }

    fn tick(&mut self) -> Instant {
        self.0.tick()
    }
}

conformance!(Fake, cfg(all()));

/// A queue pair that is nowhere.
const NOWHERE: Endpoint = Endpoint {
    lid: 0,
    queue_pair: 0xff_fff0,
    psn: 7,
    gid: [0; 16],
};

/// Longer than anybody is waited for.
fn wait(pair: &mut Pair<Fake>) {
    let until = pair.network.0.now + KEEPALIVE * (SILENT_LOOKS + 2);
    while pair.network.0.now < until {
        pair.network.0.now += Duration::from_millis(50);
        pair.step();
    }
}

/// Somebody who knows TCP connects to the server.
fn stranger(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("it listens");
    stream.set_nonblocking(true).expect("a socket");
    stream
}

/// What the server says to somebody, or nothing if it has hung up.
fn answer(pair: &mut Pair<Fake>, stream: &mut TcpStream) -> Option<Message> {
    let mut bytes = [0; Message::LEN];
    let mut result = None;
    pair.run_until("answered", |_| match stream.read(&mut bytes) {
        Ok(count) => {
            result = (count == bytes.len()).then(|| Message::decode(&bytes).expect("a message"));
            true
        }
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    });
    result
}

/// The client connects to somebody who knows TCP.
fn attempt(pair: &mut Pair<Fake>) -> (ConnId, TcpStream) {
    let listener = TcpListener::bind(pair.network.address(Side::Server)).expect("an address");
    let to = listener.local_addr().expect("bound");
    let conn = pair.client.connect(to, None).expect("it starts");
    listener.set_nonblocking(true).expect("a socket");
    let mut stream = None;
    pair.run_until("accepted", |_| {
        stream = listener.accept().ok();
        stream.is_some()
    });
    let (stream, _) = stream.expect("just looked");
    stream.set_nonblocking(true).expect("a socket");
    (conn, stream)
}

fn exchange(pair: &mut Pair<Fake>, (client, server): (ConnId, ConnId)) {
    let before = pair.server.received(server);
    pair.client.give(client, &b"well"[..]);
    pair.run_until("received", |pair| {
        pair.server.received(server) == before + 4
    });
}

#[test]
fn strangers_get_nothing_and_are_in_nobodys_way() {
    let mut pair = Pair::<Fake>::new();
    let address = pair.listen();
    let ends = pair.connect(address);
    let objects = pair.network.0.device.objects();
    let ask = Message {
        from: NOWHERE,
        to: 0,
    };
    let says: [&[u8]; 4] = [
        &[b'G'; Message::LEN],
        b"0000:00000000:00000000:00000000:00000000000000000000000000000000\0",
        // An answer to what nobody has asked.
        &Message { to: 5, ..ask }.encode(),
        // More than a question.
        &[&ask.encode()[..], b"0"].concat(),
    ];
    for bytes in says {
        let mut stream = stranger(address);
        stream.write_all(bytes).expect("room");
        let answered = answer(&mut pair, &mut stream).is_some();
        assert_eq!(answered, bytes.len() > Message::LEN);
    }
    // Some say nothing, a part, or nothing more; one hangs up.
    let mut silent = [(); 4].map(|()| stranger(address));
    silent[1].write_all(&ask.encode()[..30]).expect("room");
    silent[2].write_all(&ask.encode()).expect("room");
    silent[3].write_all(&ask.encode()).expect("room");
    let answered = answer(&mut pair, &mut silent[2]).expect("a question is answered");
    assert_eq!(answered.to, NOWHERE.queue_pair);
    drop(silent[3].shutdown(std::net::Shutdown::Both));
    wait(&mut pair);
    for stream in &mut silent[..2] {
        assert_eq!(answer(&mut pair, stream), None);
    }
    pair.settle();
    assert!(pair.server.accepted.is_empty());
    assert_eq!(pair.network.0.device.objects(), objects);
    exchange(&mut pair, ends);
}

/// Somebody who is asked: what becomes of the connection to them.
type Peer = fn(TcpStream, Message) -> Option<TcpStream>;

#[test]
fn an_attempt_ends_as_the_other_side_has_it() {
    let mut pair = Pair::<Fake>::new();
    let address = pair.listen();
    let misbehaved = Some(CloseReason::Os(rustix::io::Errno::PROTO.raw_os_error()));
    let peers: [(Peer, Option<CloseReason>); 4] = [
        (|stream, _| Some(stream), Some(CloseReason::TimedOut)),
        (|_, _| None, Some(CloseReason::Refused)),
        (
            |mut stream, _| {
                stream.write_all(&[b'x'; Message::LEN]).expect("room");
                Some(stream)
            },
            misbehaved.clone(),
        ),
        (
            |mut stream, asked| {
                let to = asked.from.queue_pair + 1;
                let answer = Message { from: NOWHERE, to };
                stream.write_all(&answer.encode()).expect("room");
                Some(stream)
            },
            misbehaved,
        ),
    ];
    for (peer, expected) in peers {
        let (conn, mut stream) = attempt(&mut pair);
        let asked = answer(&mut pair, &mut stream).expect("it asks");
        assert_eq!(asked.to, 0);
        let _stream = peer(stream, asked);
        wait(&mut pair);
        assert_eq!(pair.client.closed(conn), expected);
        assert!(!pair.client.was_up(conn));
    }
    let ends = pair.connect(address);
    exchange(&mut pair, ends);
}

#[test]
fn whoever_leaves_the_side_channel_or_goes_on_there_is_gone() {
    for leaves in [true, false] {
        let mut pair = Pair::<Fake>::new();
        let (conn, mut stream) = attempt(&mut pair);
        let asked = answer(&mut pair, &mut stream).expect("it asks");
        let reply = Message {
            from: NOWHERE,
            to: asked.from.queue_pair,
        };
        stream.write_all(&reply.encode()).expect("room");
        pair.run_until("connected", |pair| pair.client.is_up(conn));
        let confirmed = answer(&mut pair, &mut stream).expect("it confirms");
        assert_eq!(confirmed.to, NOWHERE.queue_pair);
        assert_eq!(confirmed.from, asked.from);
        if leaves {
            drop(stream);
        } else {
            stream.write_all(b"0").expect("room");
        }
        pair.run_until("closed", |pair| pair.client.closed(conn).is_some());
        let reason = pair.client.closed(conn).expect("just looked");
        assert_eq!(reason == CloseReason::Reset, leaves, "{reason}");
    }
}

#[test]
fn what_cannot_be_had_ends_the_attempt_and_not_the_transport() {
    for fault in [Fault::Registration, Fault::QueuePair] {
        let mut pair = Pair::<Fake>::new();
        let address = pair.listen();
        pair.network.0.device.set(fault);
        let conn = pair.client.connect(address, None).expect("it starts");
        pair.run_until("closed", |pair| pair.client.closed(conn).is_some());
        let reason = pair.client.closed(conn).expect("just looked");
        assert!(matches!(reason, CloseReason::Os(_)), "{fault:?}: {reason}");

        pair.network.0.device.heal();
        let ends = pair.connect(address);
        exchange(&mut pair, ends);
    }
}

#[test]
fn connections_are_refused_when_all_receives_are_lent() {
    let mut pair = Pair::<Fake>::new();
    let address = pair.listen();
    let most = CONFIG.receive_blocks / 4;
    let ends: Vec<_> = (0..most).map(|_| pair.connect(address)).collect();
    let refused = |pair: &mut Pair<Fake>| {
        let conn = pair.client.connect(address, None).expect("it starts");
        pair.run_until("closed", |pair| pair.client.closed(conn).is_some());
    };
    refused(&mut pair);

    // All of them work, though nobody receives for a while, and one that ends makes room.
    for &(client, server) in &ends {
        pair.server.set_receive(server, false);
        pair.client.give(client, vec![7; 100_000]);
    }
    pair.settle();
    refused(&mut pair);
    for &(_, server) in &ends {
        pair.server.set_receive(server, true);
    }
    pair.run_until("received", |pair| {
        let all = |&(_, server): &(_, _)| pair.server.received(server) == 100_000;
        ends.iter().all(all)
    });
    pair.client.close(ends[0].0, Close::Abort);
    pair.run_until("told", |pair| pair.server.closed(ends[0].1).is_some());
    wait(&mut pair);
    let ends = pair.connect(address);
    exchange(&mut pair, ends);
}

#[test]
fn a_peer_that_does_not_take_anything_is_not_given_up() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    pair.server.set_receive(server, false);
    pair.client.give(client, vec![1; 4 << 20]);
    for _ in 0..3 {
        wait(&mut pair);
    }
    assert!(pair.client.is_up(client));
    pair.server.set_receive(server, true);
    pair.run_until("received", |pair| pair.server.received(server) == 4 << 20);
}

#[test]
fn a_device_that_fails_ends_its_connections_and_no_more() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    let address = pair.server.local(server);
    pair.network.0.device.die();
    pair.run_until("told", |pair| {
        pair.client.closed(client).is_some() && pair.server.closed(server).is_some()
    });
    let objects = pair.network.0.device.objects();
    let ends = pair.connect(address);
    exchange(&mut pair, ends);
    // In the place of what has failed: two queue pairs more than before.
    assert_eq!(pair.network.0.device.objects(), objects + 2);
}

#[test]
fn nothing_is_left_of_a_transport_that_is_dropped() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    pair.client.give(client, vec![1; 1 << 20]);
    pair.run_until("received", |pair| pair.server.received(server) > 1 << 19);
    let Pair {
        network,
        client,
        server,
        ..
    } = pair;
    drop((client, server));
    assert_eq!(network.0.device.objects(), 0);
}

#[test]
fn attempts_that_fail_give_back_what_they_had() {
    let mut pair = Pair::<Fake>::new();
    let address = pair.listen();
    for _ in 0..=CONFIG.receive_blocks / 4 {
        let (conn, mut stream) = attempt(&mut pair);
        answer(&mut pair, &mut stream).expect("it asks");
        drop(stream);
        pair.run_until("closed", |pair| pair.client.closed(conn).is_some());
    }
    let (client, server) = pair.connect(address);
    pair.server.give(server, vec![1; 100_000]);
    pair.run_until("received", |pair| pair.client.received(client) == 100_000);
}
