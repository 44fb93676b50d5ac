//! Userspace TCP over the in-process wire: the contract of every transport, and what only TCP has to
//! promise, in virtual time.

mod conformance;
mod queues;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::{Network, Pair, Random, Side, assert_same, conformance};
use msgr_transport::CloseReason;
use msgr_transport::Transport;
use msgr_transport::tcp::wire::{Wire, WireConfig, WireFaults, WirePort};
use msgr_transport::tcp::{Tcp, TcpConfig};
use queues::{Queues, Spread, endpoints};

/// A wire whose frames carry so many bytes.
struct OnWire<const MTU: usize = 1500> {
    wire: Wire,
    now: Instant,
    tick: Duration,
}

impl<const MTU: usize> OnWire<MTU> {
    /// A wire that takes 50 microseconds and loses, repeats, delays and damages frames.
    fn faulty(faults: WireFaults) -> Self {
        let config = WireConfig {
            mtu: MTU,
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

fn config(side: Side) -> TcpConfig {
    let [v4, v6] = ips(side);
    let mut config = TcpConfig::new(v4, 24);
    config.addresses.push((v6, 64));
    config
}

impl<const MTU: usize> Network for OnWire<MTU> {
    type Transport = Tcp<WirePort>;

    fn new() -> Self {
        Self {
            wire: Wire::new(WireConfig {
                mtu: MTU,
                ..WireConfig::default()
            }),
            now: Instant::now(),
            // So long that nothing is left of a connection, the time after its end included, in as
            // many steps as the network is given to come to rest.
            tick: Duration::from_millis(20),
        }
    }

    fn transport(&mut self, side: Side) -> Tcp<WirePort> {
        Tcp::new(self.wire.port(), config(side), self.now).expect("it starts")
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

/// Frames that are handed up as they are.
mod long_frames {
    use super::conformance;

    type LongFrames = super::OnWire<9000>;
    conformance!(each end a host, LongFrames, cfg(all()));
}

/// Two hosts, each with two queues and an endpoint at each of them. Frames arrive where they should,
/// or each at the other queue.
struct TwoQueues<const WRONG: bool>(OnWire);

impl<const WRONG: bool> Network for TwoQueues<WRONG> {
    type Transport = Queues<WirePort>;

    fn new() -> Self {
        Self(OnWire::new())
    }

    fn transport(&mut self, side: Side) -> Queues<WirePort> {
        let spread = if WRONG { Spread::Wrong } else { Spread::Right };
        let ports = self.0.wire.queues(2);
        Queues::new(endpoints(ports, spread, &config(side), self.0.now))
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

mod two_queues {
    use super::conformance;

    type Right = super::TwoQueues<false>;
    conformance!(each end a host, Right, cfg(all()));
}

mod two_queues_wrong {
    use super::conformance;

    type Wrong = super::TwoQueues<true>;
    conformance!(each end a host, Wrong, cfg(all()));
}

/// One host with two queues; the endpoints at them are the two sides.
mod one_port {
    use std::net::SocketAddr;
    use std::time::Instant;

    use super::{Network, OnWire, Side, Spread, Tcp, WirePort, config, conformance, endpoints};

    struct OnePort {
        wire: OnWire,
        endpoints: Vec<Tcp<WirePort>>,
    }

    impl Network for OnePort {
        type Transport = Tcp<WirePort>;

        fn new() -> Self {
            let wire = OnWire::new();
            let ports = wire.wire.queues(2);
            let both = endpoints(ports, Spread::Right, &config(Side::Server), wire.now);
            Self {
                wire,
                endpoints: both.into(),
            }
        }

        fn transport(&mut self, _: Side) -> Tcp<WirePort> {
            self.endpoints.pop().expect("once per side")
        }

        fn address(&self, _: Side) -> SocketAddr {
            self.wire.address(Side::Server)
        }

        fn address_v6(&self, _: Side) -> Option<SocketAddr> {
            self.wire.address_v6(Side::Server)
        }

        fn tick(&mut self) -> Instant {
            self.wire.tick()
        }
    }

    conformance!(OnePort);
}

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
    assert_same(&pair.server.bytes(server), &there);
    assert_same(&pair.client.bytes(client), &back);
    pair.network.now - start
}

/// Whatever becomes of frames, bytes arrive intact, and in a time that has to do with how much was
/// lost.
#[test]
fn a_bad_wire_costs_time_but_no_bytes() {
    for (loss, millis) in [(0.001, 50), (0.01, 200), (0.05, 1000)] {
        let faults = WireFaults {
            loss,
            duplicate: loss,
            reorder: loss,
            corrupt: loss / 10.0,
            ..WireFaults::default()
        };
        let took = transfer(faults, 8 << 20);
        assert!(took < Duration::from_millis(millis), "{loss}: {took:?}");
    }
}

/// The last segments of what is sent are missed as soon as those before them: nobody has to wait
/// for a retransmission time-out.
#[test]
fn a_lost_end_is_sent_again_at_once() {
    let faulty = OnWire::faulty(WireFaults::default());
    let mut pair = Pair::<OnWire>::with(faulty);
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    for length in [1, 100, 2000, 14_000] {
        let before = pair.server.received(server);
        pair.client.give(client, Random(1).bytes(length));
        let all = WireFaults {
            loss: 1.0,
            ..WireFaults::default()
        };
        pair.network.wire.set_faults(all);
        pair.step();
        pair.network.wire.set_faults(WireFaults::default());
        let lost = pair.network.now;
        pair.run_until("received", |pair| {
            pair.server.received(server) == before + length
        });
        let took = pair.network.now - lost;
        assert!(took < Duration::from_millis(15), "{length}: {took:?}");
    }
}

/// What is in long frames is not copied; unless so many of them are held already that the device has to
/// get some back.
#[test]
fn long_frames_are_handed_up_as_they_are() {
    let mut pair = Pair::<OnWire<9000>>::with(OnWire::faulty(WireFaults::default()));
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    let mut receive = |len: usize| {
        let (received, copied) = (
            pair.server.received(server),
            pair.server.transport.cost().bytes_copied,
        );
        let bytes = Random(1).bytes(len);
        pair.client.give(client, bytes.clone());
        pair.run_until("received", |pair| {
            pair.server.received(server) == received + len
        });
        let slices = pair.server.slices(server);
        assert_same(&slices.concat(), &bytes);
        (pair.server.transport.cost().bytes_copied - copied) as usize
    };
    let spared = 1024 * 8960;
    let copied = receive(2 * spared);
    let about = spared - spared / 20..spared + spared / 20;
    assert!(about.contains(&copied), "{copied}, held {spared}");
    // Nobody holds any of them now.
    let copied = receive(spared / 2);
    assert!(copied < spared / 20, "{copied}");
}

/// A reader that comes and goes opens and closes the window without acknowledging anything: no reason
/// to send anything twice.
#[test]
fn nothing_is_sent_twice_on_a_good_wire() {
    let mut pair = Pair::<OnWire>::with(OnWire::faulty(WireFaults::default()));
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    let total = 16 << 20;
    pair.client.give(client, Random(1).bytes(total));
    let mut steps = 0;
    pair.run_until("received", |pair| {
        steps += 1;
        pair.server.set_receive(server, steps % 40 < 20);
        pair.server.received(server) == total
    });
    let sent = pair.client.transport.counters().transmitted;
    let needed = (total / 1460) as u64;
    assert!(
        sent < needed + needed / 100,
        "{sent} frames, needed {needed}"
    );
}

/// A peer that has nothing to say takes its time to acknowledge a lone segment.
#[test]
fn a_lone_segment_is_not_sent_twice() {
    let mut pair = Pair::<OnWire>::with(OnWire::faulty(WireFaults::default()));
    let address = pair.listen();
    let (client, _) = pair.connect(address);
    pair.settle();
    let before = pair.client.transport.counters().transmitted;
    for _ in 0..50 {
        pair.client.give(client, Random(1).bytes(100));
        let until = pair.network.now + Duration::from_millis(20);
        while pair.network.now < until {
            pair.step();
        }
    }
    let sent = pair.client.transport.counters().transmitted - before;
    assert_eq!(sent, 50);
}

/// Who acknowledges nothing is given up when `TcpConfig::timeout` is over, whatever we have tried.
#[test]
fn a_peer_that_is_silent_is_given_up() {
    let (mut pair, client, _) = Pair::<OnWire>::connected();
    let all = WireFaults {
        loss: 1.0,
        ..WireFaults::default()
    };
    pair.network.wire.set_faults(all);
    pair.client.give(client, Random(1).bytes(1 << 20));
    let lost = pair.network.now;
    pair.run_until("given up", |pair| pair.client.closed(client).is_some());
    assert_eq!(pair.client.closed(client), Some(CloseReason::TimedOut));
    let took = pair.network.now - lost;
    let timeout = config(Side::Client).timeout;
    assert!(
        (timeout..timeout + Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
}

/// Minutes without room at the peer are no failure: it answers, and its own probes are answered.
#[test]
fn a_peer_that_has_no_room_is_waited_for() {
    let (mut pair, client, server) = Pair::<OnWire>::connected();
    pair.server.set_receive(server, false);
    let bytes = Random(1).bytes(8 << 20);
    pair.client.give(client, bytes.clone());
    let until = pair.network.now + Duration::from_secs(200);
    while pair.network.now < until {
        pair.step();
    }
    assert!(
        pair.client.untaken(client) > 0,
        "{:?}",
        pair.client.closed(client)
    );
    pair.server.set_receive(server, true);
    pair.run_until("received", |pair| {
        pair.server.received(server) == bytes.len()
    });
    assert!(pair.server.bytes(server) == bytes);
}
