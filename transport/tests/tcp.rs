//! Userspace TCP over the in-process wire: the contract of every transport, and what only TCP has to
//! promise, in virtual time.

mod conformance;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::{Network, Pair, Random, Side, conformance};
use msgr_transport::tcp::wire::{Wire, WireConfig, WireFaults, WirePort};
use msgr_transport::tcp::{Tcp, TcpConfig};

struct OnWire {
    wire: Wire,
    now: Instant,
    tick: Duration,
}

impl OnWire {
    /// A wire that takes 50 microseconds and loses, repeats, delays and damages frames.
    fn faulty(faults: WireFaults) -> Self {
        let config = WireConfig {
            latency: Duration::from_micros(50),
            faults,
            seed: 1,
            ..WireConfig::default()
        };
        Self {
            wire: Wire::new(config),
            now: Instant::now(),
            tick: Duration::from_micros(10),
        }
    }
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
            // So long that nothing is left of a connection, the time after its end included, in as
            // many steps as the network is given to come to rest.
            tick: Duration::from_millis(20),
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

    fn tick(&mut self) -> Instant {
        self.now += self.tick;
        self.now
    }
}

conformance!(each end a host, OnWire, cfg(all()));

/// Sends `total` bytes each way on a wire with these faults; returns how long that took.
fn transfer(faults: WireFaults, total: usize) -> Duration {
    let mut pair = Pair::<OnWire>::with(OnWire::faulty(faults));
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    let (there, back) = (Random(1).bytes(total), Random(2).bytes(total));
    let start = pair.network.now;
    pair.client.give(client, there.clone());
    pair.server.give(server, back.clone());
    pair.run_until("all there and back", |pair| {
        pair.server.received(server) == total && pair.client.received(client) == total
    });
    assert!(pair.server.bytes(server) == there, "altered or reordered");
    assert!(pair.client.bytes(client) == back, "altered or reordered");
    pair.network.now - start
}

/// Whatever becomes of frames, bytes arrive intact. smoltcp alone comes to a stop at the second: when
/// both ends have gone back, each takes the other's acknowledgements for old.
#[test]
fn a_bad_wire_costs_time_but_no_bytes() {
    for loss in [0.001, 0.01, 0.05] {
        let faults = WireFaults {
            loss,
            duplicate: loss,
            reorder: loss,
            corrupt: loss / 10.0,
            ..WireFaults::default()
        };
        let took = transfer(faults, 8 << 20);
        println!("{loss}: {took:?}");
    }
}
