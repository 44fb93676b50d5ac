//! Userspace TCP over DPDK: the contract of every transport, on pairs of connected rings, with one
//! queue and with two.

mod conformance;
mod queues;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::{Network, Side, conformance};
use msgr_transport::dpdk::{DpdkDevice, Eal, EalConfig, PortConfig};
use msgr_transport::tcp::{Tcp, TcpConfig};
use queues::{Queues, Spread, endpoints};

/// Two ports that are connected to each other.
struct Rings {
    ports: [Option<Vec<DpdkDevice>>; 2],
    now: Instant,
}

fn ips(side: Side) -> [IpAddr; 2] {
    let last = side as u8 + 1;
    [
        IpAddr::from([10, 0, 0, last]),
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]),
    ]
}

fn config(side: Side) -> TcpConfig {
    let [v4, v6] = ips(side);
    let mut config = TcpConfig::new(v4, 24);
    config.addresses.push((v6, 64));
    config
}

impl Rings {
    fn new(queues: u16) -> Self {
        let environment = EalConfig {
            memory: 1024,
            ..EalConfig::default()
        };
        let eal = Eal::start(&environment).expect("DPDK is installed");
        let ports = eal.ring_pair(&PortConfig {
            queues,
            ..PortConfig::default()
        });
        let ports = ports.expect("net_ring is installed");
        Self {
            ports: ports.map(Some),
            now: Instant::now(),
        }
    }

    fn port(&mut self, side: Side) -> Vec<DpdkDevice> {
        self.ports[side as usize].take().expect("once per side")
    }

    fn address(side: Side) -> SocketAddr {
        SocketAddr::new(ips(side)[0], 0)
    }

    fn address_v6(side: Side) -> SocketAddr {
        SocketAddr::new(ips(side)[1], 0)
    }

    /// As on the in-process wire.
    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(20);
        self.now
    }
}

/// What all networks of this file have in common.
macro_rules! on_rings {
    ($address:expr) => {
        fn address(&self, side: Side) -> SocketAddr {
            Rings::address($address(side))
        }

        fn address_v6(&self, side: Side) -> Option<SocketAddr> {
            Some(Rings::address_v6($address(side)))
        }

        fn tick(&mut self) -> Instant {
            self.0.tick()
        }
    };
}

struct OneQueue(Rings);

impl Network for OneQueue {
    type Transport = Tcp<DpdkDevice>;

    fn new() -> Self {
        Self(Rings::new(1))
    }

    fn transport(&mut self, side: Side) -> Tcp<DpdkDevice> {
        let port = self.0.port(side).remove(0);
        Tcp::new(port, config(side), self.0.now).expect("it starts")
    }

    on_rings!(|side| side);
}

conformance!(each end a host, OneQueue, ignore = "needs DPDK: ci/test runs it");

/// Two hosts, each with two queues and an endpoint at each of them. What one sends with a queue, the
/// other receives with the same. That is the right one, or, if one host has them the other way
/// round, never.
struct TwoQueues<const WRONG: bool>(Rings);

impl<const WRONG: bool> Network for TwoQueues<WRONG> {
    type Transport = Queues<DpdkDevice>;

    fn new() -> Self {
        Self(Rings::new(2))
    }

    fn transport(&mut self, side: Side) -> Queues<DpdkDevice> {
        let spread = if WRONG && side == Side::Server {
            Spread::Wrong
        } else {
            Spread::Right
        };
        let port = self.0.port(side);
        Queues::new(endpoints(port, spread, &config(side), self.0.now))
    }

    on_rings!(|side| side);
}

mod two_queues {
    use super::conformance;

    type Right = super::TwoQueues<false>;
    conformance!(each end a host, Right, ignore = "needs DPDK: ci/test runs it");
}

mod two_queues_wrong {
    use super::conformance;

    type Wrong = super::TwoQueues<true>;
    conformance!(each end a host, Wrong, ignore = "needs DPDK: ci/test runs it");
}

/// One host with two queues; the endpoints at them are the two sides.
struct OnePort(Rings, Vec<Tcp<DpdkDevice>>);

impl Network for OnePort {
    type Transport = Tcp<DpdkDevice>;

    fn new() -> Self {
        let mut rings = Rings::new(2);
        let port = rings.port(Side::Server);
        let both = endpoints(port, Spread::Right, &config(Side::Server), rings.now);
        Self(rings, both.into())
    }

    fn transport(&mut self, _: Side) -> Tcp<DpdkDevice> {
        self.1.pop().expect("once per side")
    }

    on_rings!(|_| Side::Server);
}

mod one_port {
    use super::{OnePort, conformance};

    conformance!(OnePort, ignore = "needs DPDK: ci/test runs it");
}
