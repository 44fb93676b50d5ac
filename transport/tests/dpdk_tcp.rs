//! Userspace TCP over DPDK: the contract of every transport, on pairs of connected rings.

mod conformance;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::{Network, Side, conformance};
use msgr_transport::dpdk::{DpdkDevice, Eal, EalConfig, PortConfig};
use msgr_transport::tcp::{Tcp, TcpConfig};

struct OnRings {
    ports: [Option<DpdkDevice>; 2],
    now: Instant,
}

fn ips(side: Side) -> [IpAddr; 2] {
    let last = side as u8 + 1;
    [
        IpAddr::from([10, 0, 0, last]),
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]),
    ]
}

impl Network for OnRings {
    type Transport = Tcp<DpdkDevice>;

    fn new() -> Self {
        let environment = EalConfig {
            memory: 1024,
            ..EalConfig::default()
        };
        let eal = Eal::start(&environment).expect("DPDK is installed");
        let ports = eal.ring_pair(&PortConfig::default());
        let ports = ports.expect("net_ring is installed");
        Self {
            ports: ports.map(|mut queues| queues.pop()),
            now: Instant::now(),
        }
    }

    fn transport(&mut self, side: Side) -> Tcp<DpdkDevice> {
        let [v4, v6] = ips(side);
        let mut config = TcpConfig::new(v4, 24);
        config.addresses.push((v6, 64));
        let port = self.ports[side as usize].take().expect("once per side");
        Tcp::new(port, config, self.now).expect("it starts")
    }

    fn address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(ips(side)[0], 0)
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        Some(SocketAddr::new(ips(side)[1], 0))
    }

    /// As on the in-process wire.
    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(20);
        self.now
    }
}

conformance!(each end a host, OnRings, ignore = "needs DPDK: ci/test runs it");
