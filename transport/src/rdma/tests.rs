//! The transport on a device that is not there: the contract of every transport, and every way in
//! which a device, the connection manager or the peer may fail.

mod ceph;
mod counts;
mod offers;
mod scarce;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::fake::{FakeDevice, Fault, libraries};
use super::{Rdma, RdmaConfig, Setup};
use crate::conformance::{Network, Pair, Side, conformance};
use crate::{Close, CloseReason};

/// A device of its own, which may have little and take its time, and a clock that is moved by hand.
struct Fake<const SCARCE: bool = false> {
    device: FakeDevice,
    config: RdmaConfig,
    now: Instant,
}

const CONFIG: RdmaConfig = RdmaConfig {
    setup: Setup::ConnectionManager,
    block_size: 16 << 10,
    receive_blocks: 512,
    spare_blocks: 64,
    send_blocks: 128,
    offer_from: 64 << 10,
    landing_size: 256 << 10,
    landing_blocks: 6,
    depth: 64,
    share: 64,
    // Nothing waits for it, but in tests of its own.
    keepalive: Duration::from_secs(3600),
};

const KEEPALIVE: Duration = Duration::from_secs(1);

impl Fake {
    fn with_keepalive() -> Self {
        let mut network = Self::new();
        network.config.keepalive = KEEPALIVE;
        network
    }
}

impl<const SCARCE: bool> Network for Fake<SCARCE> {
    type Transport = Rdma;

    fn new() -> Self {
        let (device, mut config) = (FakeDevice::new(), CONFIG);
        if SCARCE {
            config.send_blocks = 2;
            device.meddle(scarce::Slow(0));
        }
        Self {
            device,
            config,
            now: Instant::now(),
        }
    }

    fn transport(&mut self, _side: Side) -> Rdma {
        Rdma::with(libraries(), self.config).expect("it starts")
    }

    fn address(&self, side: Side) -> SocketAddr {
        SocketAddr::new(self.device.address(1 + side as u8), 0)
    }

    fn address_v6(&self, side: Side) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.device.address_v6(1 + side as u8), 0))
    }

    fn tick(&mut self) -> Instant {
        self.device.step();
        self.now += Duration::from_micros(200);
        self.now
    }
}

conformance!(Fake);

/// Runs until the client's connection has ended, and says why.
fn closed(pair: &mut Pair<Fake>, client: crate::ConnId) -> CloseReason {
    pair.run_until("closed", |pair| pair.client.closed(client).is_some());
    pair.client.closed(client).expect("just looked")
}

#[test]
fn a_peer_that_does_not_answer_is_a_time_out() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    pair.network.device.set(Fault::NoAnswer);
    pair.client.give(client, &b"lost"[..]);
    assert_eq!(closed(&mut pair, client), CloseReason::TimedOut);
    pair.run_until("told", |pair| pair.server.closed(server).is_some());
    assert_eq!(pair.server.closed(server), Some(CloseReason::Reset));
}

#[test]
fn a_device_that_says_nothing_is_noticed_by_the_keepalive() {
    for with_traffic in [false, true] {
        let mut pair = Pair::with(Fake::with_keepalive());
        let address = pair.listen();
        let (client, server) = pair.connect(address);
        pair.network.device.set(Fault::Silence);
        if with_traffic {
            pair.client.give(client, &b"lost"[..]);
        }
        assert_eq!(closed(&mut pair, client), CloseReason::TimedOut);
        pair.run_until("told", |pair| pair.server.closed(server).is_some());
    }
}

#[test]
fn a_connection_at_rest_stays() {
    let mut pair = Pair::with(Fake::with_keepalive());
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    let start = pair.network.now;
    // More than any patience with a peer that is silent.
    while pair.network.now < start + Duration::from_secs(60) {
        pair.network.now += Duration::from_millis(50);
        pair.step();
    }
    assert!(pair.client.is_up(client) && pair.server.is_up(server));
    pair.client.give(client, &b"still there"[..]);
    pair.run_until("received", |pair| pair.server.received(server) == 11);
}

#[test]
fn a_device_that_fails_ends_its_connections_and_no_more() {
    let mut pair = Pair::with(Fake::with_keepalive());
    let address = pair.listen();
    let (client, server) = pair.connect(address);
    pair.network.device.die();
    assert!(matches!(closed(&mut pair, client), CloseReason::Os(_)));
    pair.run_until("told", |pair| pair.server.closed(server).is_some());

    // It comes back, and the listener with it; new connections open it anew.
    let objects = pair.network.device.objects();
    let start = pair.network.now;
    pair.run_until("looked after", |pair| {
        pair.network.now > start + 2 * KEEPALIVE
    });
    let (client, server) = pair.connect(address);
    pair.client.give(client, &b"again"[..]);
    pair.run_until("received", |pair| pair.server.received(server) == 5);
    // In the place of what has failed: two queue pairs more than before.
    assert_eq!(pair.network.device.objects(), objects + 2);
}

#[test]
fn what_cannot_be_had_ends_the_attempt_and_not_the_transport() {
    for fault in [Fault::Registration, Fault::QueuePair] {
        let mut pair = Pair::<Fake>::new();
        let address = pair.listen();
        pair.network.device.set(fault);
        let conn = pair.client.connect(address, None).expect("it starts");
        assert!(
            matches!(closed(&mut pair, conn), CloseReason::Os(_)),
            "{fault:?}"
        );

        pair.network.device.heal();
        let (client, server) = pair.connect(address);
        pair.client.give(client, &b"now"[..]);
        pair.run_until("received", |pair| pair.server.received(server) == 3);
    }
}

#[test]
fn connections_are_refused_when_all_receives_are_granted() {
    let mut pair = Pair::<Fake>::new();
    let address = pair.listen();
    let most = CONFIG.receive_blocks / 4;
    let ends: Vec<_> = (0..most).map(|_| pair.connect(address)).collect();
    let conn = pair.client.connect(address, None).expect("it starts");
    assert!(matches!(closed(&mut pair, conn), CloseReason::Os(_)));

    // All of them work, and one that ends makes room for another.
    for &(client, _) in &ends {
        pair.client.give(client, vec![7; 100_000]);
    }
    pair.run_until("received", |pair| {
        let all = |&(_, server): &(_, _)| pair.server.received(server) == 100_000;
        ends.iter().all(all)
    });
    pair.client.close(ends[0].0, Close::Abort);
    pair.run_until("told", |pair| pair.server.closed(ends[0].1).is_some());
    pair.settle();
    pair.connect(address);
}

#[test]
fn nothing_is_left_of_a_transport_that_is_dropped() {
    let (mut pair, client, server) = Pair::<Fake>::connected();
    pair.client.give(client, vec![1; 1 << 20]);
    pair.run_until("received", |pair| pair.server.received(server) > 1 << 19);
    let held = pair.server.slices(server);
    let Pair {
        network,
        client,
        server,
        ..
    } = pair;
    drop((client, server));
    // What was received lies in memory that is registered.
    assert!(network.device.objects() > 0);
    assert!(held.iter().all(|slice| slice.iter().all(|&byte| byte == 1)));
    drop(held);
    assert_eq!(network.device.objects(), 0);
}

#[test]
fn a_host_without_room_for_a_setting_says_which() {
    let config = RdmaConfig {
        block_size: 100,
        ..CONFIG
    };
    let error = Rdma::with(libraries(), config).err().expect("too small");
    assert!(error.to_string().contains("block_size is 100"), "{error}");
}

#[test]
fn an_attempt_that_is_given_up_at_any_step_troubles_nobody() {
    let mut accepted = 0;
    for steps in 0..10 {
        let mut pair = Pair::<Fake>::new();
        let address = pair.listen();
        let conn = pair.client.connect(address, None).expect("it starts");
        for step in 0..steps {
            let now = pair.network.tick();
            let node = [&mut pair.client, &mut pair.server];
            node.into_iter().nth(step % 2).expect("two").poll(now);
        }
        pair.client.close(conn, Close::Abort);
        pair.settle();
        let given_up = std::mem::take(&mut pair.server.accepted);
        accepted += given_up.len();
        for gone in given_up {
            assert!(
                pair.server.closed(gone.conn).is_some(),
                "after {steps} steps"
            );
        }
        let (client, server) = pair.connect(address);
        pair.client.give(client, &b"well"[..]);
        pair.run_until("received", |pair| pair.server.received(server) == 4);
    }
    assert!(
        (1..10).contains(&accepted),
        "both before and after: {accepted}"
    );
}
