//! The `posix` transport: the conformance suite, and what only sockets can show.

mod conformance;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use conformance::{Network, Side};
use msgr_transport::posix::Posix;

/// Loopback, with an IPv4 address of its own for each test.
struct Loopback {
    host: u8,
}

impl Network for Loopback {
    type Transport = Posix;

    fn new() -> Self {
        static HOSTS: AtomicU8 = AtomicU8::new(1);
        Self {
            host: HOSTS.fetch_add(1, Ordering::Relaxed),
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
        std::thread::yield_now();
        Instant::now()
    }
}

conformance::conformance!(Loopback);
