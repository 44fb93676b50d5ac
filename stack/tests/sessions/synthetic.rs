//! Many processes, and everything at random: the tests of `src/test/msgr/test_msgr.cc` whose names
//! begin with `Synthetic`.

use std::time::Duration;

use msgr::Totals;
use msgr::protocol::Policy;
use msgr::transport::middleware::Injection;
use msgr::transport::sim::{Latency, SimConfig};
use msgr::transport::tcp::wire::{WireConfig, WireFaults};

use super::ledger::Seen;
use super::networks::{Net, Virtual, virtual_networks};
use super::workload::{Shape, Workload};
use super::world::World;

const STATEFUL: (Policy, Policy) = (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT);
const LOSSY: (Policy, Policy) = (Policy::STATELESS_SERVER, Policy::LOSSY_CLIENT);
const PEERS: (Policy, Policy) = (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER);
const PEERS_REUSE: (Policy, Policy) = (Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE);

fn failures(one_in: u32) -> Injection {
    Injection {
        socket_failures: one_in,
        connect_refusals: 0,
    }
}

/// 40 processes, on which nothing goes wrong.
fn stress(policies: (Policy, Policy)) -> Shape {
    Shape {
        policies,
        servers: 8,
        clients: 32,
        connections: 100,
        sizes: &[0, 10, 3000],
        pause: Duration::from_millis(5),
        injection: Injection::default(),
        budget: None,
    }
}

/// Failures, and a budget of four of the largest messages. Ceph's are 256 times as large: messages
/// of up to 4 MiB, and 16 MiB.
fn inject(policies: (Policy, Policy), one_in: u32) -> Shape {
    Shape {
        sizes: &[0, 100, 4000, 16 << 10],
        injection: failures(one_in),
        budget: Some(64 << 10),
        ..stress(policies)
    }
}

/// So few processes that real sockets are done in a moment.
fn few(shape: Shape) -> Shape {
    Shape {
        servers: 3,
        clients: 6,
        connections: 15,
        pause: Duration::from_millis(20),
        ..shape
    }
}

/// Everything takes equally long, which is quickest to simulate.
fn steady() -> SimConfig {
    SimConfig {
        latency: Latency::fixed(Duration::from_micros(100)),
        ..SimConfig::default()
    }
}

/// One piece in ten takes as long as Ceph's internal delays at most.
fn delays(slow: Duration) -> SimConfig {
    SimConfig {
        latency: Latency {
            slow_one_in: 10,
            slow,
            ..SimConfig::default().latency
        },
        ..SimConfig::default()
    }
}

/// Userspace TCP on a wire on which one frame in fifty comes to grief.
fn lossy_wire() -> World {
    let faults = WireFaults {
        loss: 0.01,
        duplicate: 0.005,
        reorder: 0.005,
        corrupt: 0.001,
        ..WireFaults::default()
    };
    let config = WireConfig {
        latency: Duration::from_micros(50),
        faults,
        seed: 1,
        ..WireConfig::default()
    };
    World::userspace_tcp(1, config)
}

const INTERNAL_DELAY: Duration = Duration::from_millis(100);

/// Time for what is delayed to arrive.
fn patient(shape: Shape, pause: Duration) -> Shape {
    Shape { pause, ..shape }
}

fn live(world: World, shape: Shape, operations: usize) -> Totals {
    let mut workload = Workload::new(world, shape);
    workload.operate(operations);
    let totals = workload.finish();
    println!("{totals:?}");
    if shape.injection.socket_failures > 0 {
        let injected = |seen: &Seen| match seen {
            Seen::Reset(why) | Seen::Interrupted(why) => why.contains("injected fault"),
            _ => false,
        };
        let numbers = workload.world.numbers().into_iter();
        let told: usize = numbers.map(|n| workload.world.saw(n, injected)).sum();
        assert!(told > 2, "{told} were told of a fault");
    }
    assert!(workload.ended_in_good_order > 0);
    assert!(totals.connected > shape.clients as u64, "{totals:?}");
    assert!(
        totals.messages_received > operations as u64 / 4,
        "{totals:?}"
    );
    totals
}

fn assert_replayed(totals: &Totals) {
    let Totals {
        reconnects,
        replayed,
        remote_resets,
        ..
    } = *totals;
    assert!(
        reconnects > 0 && replayed > 0 && remote_resets > 0,
        "{totals:?}"
    );
}

/// `SyntheticStressTest`.
#[test]
fn stress_simulated() {
    let world = World::simulated(1, steady());
    let totals = live(world, stress(STATEFUL), 5000);
    assert!(
        totals.remote_resets > 0 && totals.reconnects > 0,
        "{totals:?}"
    );
    assert_eq!(totals.resets, 0);
}

/// `SyntheticStressTest`, with sockets that break.
#[test]
fn stress_on_sockets() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(STATEFUL))
    };
    assert_replayed(&live(World::loopback(1), shape, 1000));
}

/// `SyntheticStressTest`, with connections that break, and frames that do not arrive.
#[test]
fn stress_on_userspace_tcp() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(STATEFUL))
    };
    assert_replayed(&live(lossy_wire(), shape, 1000));
}

/// `SyntheticStressTest1`.
#[test]
fn stress_peers_simulated() {
    let shape = Shape {
        servers: 16,
        ..stress(PEERS_REUSE)
    };
    let totals = live(World::simulated(1, steady()), shape, 10_000);
    assert!(
        totals.remote_resets > 0 && totals.reconnects > 0,
        "{totals:?}"
    );
    assert!(totals.races_won > 0 && totals.races_lost > 0, "{totals:?}");
}

/// `SyntheticStressTest1`, with sockets that break.
#[test]
fn stress_peers_on_sockets() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(PEERS_REUSE))
    };
    assert_replayed(&live(World::loopback(1), shape, 1000));
}

/// `SyntheticStressTest1`, with connections that break, and frames that do not arrive.
#[test]
fn stress_peers_on_userspace_tcp() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(PEERS_REUSE))
    };
    assert_replayed(&live(lossy_wire(), shape, 1000));
}

/// `SyntheticInjectTest`.
#[test]
fn inject_simulated() {
    let world = World::simulated(1, delays(INTERNAL_DELAY));
    let totals = live(
        world,
        patient(inject(STATEFUL, 30), 5 * INTERNAL_DELAY),
        1000,
    );
    assert_replayed(&totals);
    assert!(totals.throttled > 0, "{totals:?}");
}

/// `SyntheticInjectTest`.
#[test]
fn inject_on_sockets() {
    let totals = live(World::loopback(1), few(inject(STATEFUL, 30)), 1000);
    assert_replayed(&totals);
    assert!(totals.throttled > 0, "{totals:?}");
}

/// `SyntheticInjectTest`, and frames that do not arrive.
#[test]
fn inject_on_userspace_tcp() {
    let shape = patient(few(inject(STATEFUL, 30)), 5 * INTERNAL_DELAY);
    let totals = live(lossy_wire(), shape, 1000);
    assert_replayed(&totals);
    assert!(totals.throttled > 0, "{totals:?}");
}

/// `SyntheticInjectTest2`.
#[test]
fn inject_peers_reuse_simulated() {
    let world = World::simulated(1, delays(INTERNAL_DELAY));
    let totals = live(
        world,
        patient(inject(PEERS_REUSE, 30), 5 * INTERNAL_DELAY),
        1000,
    );
    assert_replayed(&totals);
    assert!(totals.throttled > 0, "{totals:?}");
}

/// `SyntheticInjectTest2`.
#[test]
fn inject_peers_reuse_on_sockets() {
    let totals = live(World::loopback(1), few(inject(PEERS_REUSE, 30)), 1000);
    assert_replayed(&totals);
    assert!(totals.throttled > 0, "{totals:?}");
}

/// `SyntheticInjectTest2`, and frames that do not arrive.
#[test]
fn inject_peers_reuse_on_userspace_tcp() {
    let shape = patient(few(inject(PEERS_REUSE, 30)), 5 * INTERNAL_DELAY);
    let totals = live(lossy_wire(), shape, 1000);
    assert_replayed(&totals);
    assert!(totals.throttled > 0, "{totals:?}");
}

/// `SyntheticInjectTest3`: what is lost is told by a reset.
#[test]
fn inject_lossy_simulated() {
    let world = World::simulated(1, delays(INTERNAL_DELAY));
    let totals = live(world, patient(inject(LOSSY, 600), 5 * INTERNAL_DELAY), 2000);
    assert!(totals.resets > 0, "{totals:?}");
    assert_eq!((totals.reconnects, totals.replayed), (0, 0));
}

/// `SyntheticInjectTest3`.
#[test]
fn inject_lossy_on_sockets() {
    let totals = live(World::loopback(1), few(inject(LOSSY, 600)), 3000);
    assert!(totals.resets > 0, "{totals:?}");
    assert_eq!((totals.reconnects, totals.replayed), (0, 0));
}

/// `SyntheticInjectTest3`, and frames that do not arrive.
#[test]
fn inject_lossy_on_userspace_tcp() {
    let totals = live(lossy_wire(), few(inject(LOSSY, 600)), 3000);
    assert!(totals.resets > 0, "{totals:?}");
    assert_eq!((totals.reconnects, totals.replayed), (0, 0));
}

virtual_networks! {
    /// `SyntheticInjectTest4`: delivery takes up to five seconds.
    fn inject_peers_late(on: Virtual) {
        let late = Duration::from_secs(5);
        let world = on.world(1, delays(late));
        let totals = live(world, patient(inject(PEERS, 30), 3 * late), 1000);
        assert_replayed(&totals);
    }
}

/// The same as on real sockets.
mod on_rdma {
    use super::*;

    fn stress_lossless(world: impl Fn() -> World) {
        for policies in [STATEFUL, PEERS_REUSE] {
            let shape = Shape {
                injection: failures(100),
                ..few(stress(policies))
            };
            assert_replayed(&live(world(), shape, 1000));
        }
    }

    fn inject_lossless(world: impl Fn() -> World) {
        for policies in [STATEFUL, PEERS_REUSE] {
            let shape = patient(few(inject(policies, 30)), 2 * INTERNAL_DELAY);
            let totals = live(world(), shape, 300);
            assert_replayed(&totals);
            // On a device it depends on its speed whether anybody has to wait for room.
            let real_time = matches!(world().net, Net::Rdma(..));
            assert!(real_time || totals.throttled > 0, "{totals:?}");
        }
    }

    fn inject_lossy(world: World) {
        let totals = live(world, few(inject(LOSSY, 600)), 3000);
        assert!(totals.resets > 0, "{totals:?}");
        assert_eq!((totals.reconnects, totals.replayed), (0, 0));
    }

    #[test]
    fn without_devices() {
        stress_lossless(|| World::fabric(1));
        inject_lossless(|| World::fabric(1));
        inject_lossy(World::fabric(1));
    }

    #[test]
    #[ignore = "needs an RDMA device"]
    fn stress_lossless_on_a_device() {
        stress_lossless(|| World::rdma(1));
    }

    #[test]
    #[ignore = "needs an RDMA device"]
    fn inject_lossless_on_a_device() {
        inject_lossless(|| World::rdma(1));
    }

    #[test]
    #[ignore = "needs an RDMA device"]
    fn inject_lossy_on_a_device() {
        inject_lossy(World::rdma(1));
    }

    #[test]
    #[ignore = "needs an RDMA device"]
    fn on_a_device_as_ceph_does() {
        stress_lossless(|| World::rdma_as_ceph_does(1));
        inject_lossless(|| World::rdma_as_ceph_does(1));
        inject_lossy(World::rdma_as_ceph_does(1));
    }
}
