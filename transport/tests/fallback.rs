//! [`Fallback`]: the contract of every transport where both ends have both transports, and where
//! one has only the second; and what an end does that is not reached over the first.

#![allow(clippy::unwrap_used)] // Every function here is part of a test.

mod conformance;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::{Clock, Network, Side, conformance};
use msgr_transport::middleware::Fallback;
use msgr_transport::posix::Posix;
use msgr_transport::ring::{Ring, RingNetwork};
use msgr_transport::sim::{Plan, SimConfig, SimNetwork};
use msgr_transport::{Close, ConnectOptions, Event, ListenOptions, Transport};

/// Rings and sockets at the same addresses, which each test has to itself.
struct Both {
    rings: RingNetwork,
    host: u8,
    clock: Clock,
}

impl Both {
    fn transport(&self) -> Box<dyn Transport> {
        let ring = Ring::new(&self.rings).unwrap();
        Box::new(Fallback::new(ring, Posix::new().unwrap()).unwrap())
    }
}

impl Network for Both {
    type Transport = Box<dyn Transport>;

    fn new() -> Self {
        static HOSTS: AtomicU8 = AtomicU8::new(1);
        Self {
            rings: RingNetwork::default(),
            host: HOSTS.fetch_add(1, Ordering::Relaxed),
            clock: Clock::new(),
        }
    }

    fn transport(&mut self, _: Side) -> Box<dyn Transport> {
        (*self).transport()
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
        thread::yield_now();
        self.clock.tick()
    }
}

/// The same, but either the server or the client has sockets alone.
struct Without<const SERVER: bool>(Both);

impl<const SERVER: bool> Network for Without<SERVER> {
    type Transport = Box<dyn Transport>;

    fn new() -> Self {
        Self(Both::new())
    }

    fn transport(&mut self, side: Side) -> Box<dyn Transport> {
        if SERVER == (side == Side::Server) {
            Box::new(Posix::new().unwrap())
        } else {
            self.0.transport()
        }
    }

    fn address(&self, side: Side) -> SocketAddr {
        self.0.address(side)
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        self.0.address_v6(side)
    }

    fn tick(&mut self) -> Instant {
        self.0.tick()
    }
}

mod both {
    use super::*;
    conformance!(Both);
}

mod server_without {
    use super::*;
    type ServerWithout = Without<true>;
    conformance!(each end a host, ServerWithout, cfg(all()));
}

mod client_without {
    use super::*;
    type ClientWithout = Without<false>;
    conformance!(each end a host, ClientWithout, cfg(all()));
}

/// Connects `client` to where `server` listens, and returns how long that took, in steps of ten
/// milliseconds.
fn steps_to_connect(
    client: &mut impl Transport,
    server: &mut Posix,
    to: SocketAddr,
    now: &mut Instant,
) -> u32 {
    let conn = client.connect(to, &ConnectOptions::default()).unwrap();
    client.set_receive(conn, false);
    let mut events = Vec::new();
    for steps in 0..1000 {
        *now += Duration::from_millis(10);
        server.poll(*now, &mut events);
        events.clear();
        client.poll(*now, &mut events);
        match events.pop() {
            None => {}
            Some(Event::Connected {
                conn: connected, ..
            }) => {
                assert_eq!(connected, conn);
                client.close(conn, Close::Abort);
                return steps;
            }
            Some(other) => panic!("{other:?}"),
        }
        thread::yield_now();
    }
    panic!("never connected");
}

#[test]
fn a_host_that_does_not_answer_is_given_up_and_not_asked_again_for_a_while() {
    let both = Both::new();
    let at = both.address(Side::Server);
    let mut server = Posix::new().unwrap();
    let (_, to) = server.listen(at, &ListenOptions::default()).unwrap();
    let network = SimNetwork::new(1, SimConfig::default());
    for _ in 0..3 {
        network.plan(to, Plan::Ignore);
    }
    let mut now = Instant::now();
    let deaf = network.node(both.address(Side::Client).ip());
    let mut client = Fallback::new(deaf, Posix::new().unwrap()).unwrap();
    client.poll(now, &mut Vec::new());

    let steps = steps_to_connect(&mut client, &mut server, to, &mut now);
    assert!(steps >= 299, "{steps}");
    assert!(steps_to_connect(&mut client, &mut server, to, &mut now) < 299);
    now += Duration::from_secs(60);
    client.poll(now, &mut Vec::new());
    let steps = steps_to_connect(&mut client, &mut server, to, &mut now);
    assert!(steps >= 299, "{steps}");
}
