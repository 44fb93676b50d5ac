//! Userspace TCP over the in-process wire: the contract of every transport, and what only TCP has to
//! promise, in virtual time.

mod conformance;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::{Network, Side, conformance};
use msgr_transport::tcp::wire::{Wire, WireConfig, WirePort};
use msgr_transport::tcp::{Tcp, TcpConfig};

struct OnWire {
    wire: Wire,
    now: Instant,
}

fn ips(side: Side) -> [IpAddr; 2] {
    let last = match side {
        Side::Client => 1,
        Side::Server => 2,
    };
    [
        IpAddr::from([10, 0, 0, last]),
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]),
    ]
}

impl Network for OnWire {
    type Transport = Tcp<WirePort>;

    fn new() -> Self {
        Self {
            wire: Wire::new(WireConfig::default()),
            now: Instant::now(),
        }
    }

    fn transport(&mut self, side: Side) -> Tcp<WirePort> {
        let [v4, v6] = ips(side);
        let mut config = TcpConfig::new(v4, 24);
        config.addresses.push((v6, 64));
        Tcp::new(self.wire.port(), config, self.now).expect("it starts")
    }

    fn address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(ips(side)[0], 0)
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        Some(SocketAddr::new(ips(side)[1], 0))
    }

    /// So long that nothing is left of a connection, the time after its end included, in as many
    /// steps as the network is given to come to rest.
    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(20);
        self.now
    }
}

conformance!(each end a host, OnWire);
