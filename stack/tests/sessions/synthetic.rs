//! Many processes, and everything at random: the tests of `src/test/msgr/test_msgr.cc` whose names
//! begin with `Synthetic`.

use std::time::Duration;

use msgr::Totals;
use msgr::protocol::Policy;
use msgr::transport::middleware::Injection;
use msgr::transport::sim::{Latency, SimConfig};
use msgr::transport::tcp::wire::{WireConfig, WireFaults};

use super::ledger::Seen;
use super::networks::{Virtual, virtual_networks};
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

/// Operates so many times, and in real time, where it depends on the host how much comes of that,
/// until enough has come of it.
fn live(world: World, shape: Shape, operations: usize, enough: fn(&Totals) -> bool) -> Totals {
    let mut workload = Workload::new(world, shape);
    let rounds = if workload.world.is_real_time() { 20 } else { 1 };
    for _ in 0..rounds {
        workload.operate(operations);
        if is_lively(&workload, operations) && enough(&workload.world.all_totals()) {
            break;
        }
    }
    let totals = workload.finish();
    println!("{totals:?}");
    assert!(is_lively(&workload, operations), "{totals:?}");
    assert!(enough(&totals), "{totals:?}");
    totals
}

/// Whether connections were made and ended in every way, and messages got through.
fn is_lively(workload: &Workload, operations: usize) -> bool {
    let (world, shape) = (&workload.world, &workload.shape);
    let injected = |seen: &Seen| match seen {
        Seen::Reset(why) | Seen::Interrupted(why) => why.contains("injected fault"),
        _ => false,
    };
    let told: usize = world
        .numbers()
        .iter()
        .map(|n| world.saw(*n, injected))
        .sum();
    let totals = world.all_totals();
    (told > 2 || shape.injection.socket_failures == 0)
        && workload.ended_in_good_order > 0
        && totals.connected > shape.clients as u64
        && totals.messages_received > operations as u64 / 4
}

fn replayed(totals: &Totals) -> bool {
    totals.reconnects > 0 && totals.replayed > 0 && totals.remote_resets > 0
}

/// The same, and somebody waited for room.
fn replayed_and_throttled(totals: &Totals) -> bool {
    replayed(totals) && totals.throttled > 0
}

fn reset(totals: &Totals) -> bool {
    totals.resets > 0
}

/// Nothing that a reset told of is sent again.
fn assert_lost(totals: &Totals) {
    assert_eq!((totals.reconnects, totals.replayed), (0, 0));
}

/// `SyntheticStressTest`.
#[test]
fn stress_simulated() {
    let world = World::simulated(1, steady());
    let totals = live(world, stress(STATEFUL), 5000, |totals| {
        totals.remote_resets > 0 && totals.reconnects > 0
    });
    assert_eq!(totals.resets, 0);
}

/// `SyntheticStressTest`, with sockets that break.
#[test]
fn stress_on_sockets() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(STATEFUL))
    };
    live(World::loopback(1), shape, 1000, replayed);
}

/// `SyntheticStressTest`, with connections that break, and frames that do not arrive.
#[test]
fn stress_on_userspace_tcp() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(STATEFUL))
    };
    live(lossy_wire(), shape, 1000, replayed);
}

/// `SyntheticStressTest1`.
#[test]
fn stress_peers_simulated() {
    let shape = Shape {
        servers: 16,
        ..stress(PEERS_REUSE)
    };
    live(World::simulated(1, steady()), shape, 10_000, |totals| {
        let raced = totals.races_won > 0 && totals.races_lost > 0;
        raced && totals.remote_resets > 0 && totals.reconnects > 0
    });
}

/// `SyntheticStressTest1`, with sockets that break.
#[test]
fn stress_peers_on_sockets() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(PEERS_REUSE))
    };
    live(World::loopback(1), shape, 1000, replayed);
}

/// `SyntheticStressTest1`, with connections that break, and frames that do not arrive.
#[test]
fn stress_peers_on_userspace_tcp() {
    let shape = Shape {
        injection: failures(100),
        ..few(stress(PEERS_REUSE))
    };
    live(lossy_wire(), shape, 1000, replayed);
}

/// `SyntheticInjectTest`.
#[test]
fn inject_simulated() {
    let world = World::simulated(1, delays(INTERNAL_DELAY));
    let shape = patient(inject(STATEFUL, 30), 5 * INTERNAL_DELAY);
    live(world, shape, 1000, replayed_and_throttled);
}

/// `SyntheticInjectTest`.
#[test]
fn inject_on_sockets() {
    let shape = few(inject(STATEFUL, 30));
    live(World::loopback(1), shape, 1000, replayed_and_throttled);
}

/// `SyntheticInjectTest`, and frames that do not arrive.
#[test]
fn inject_on_userspace_tcp() {
    let shape = patient(few(inject(STATEFUL, 30)), 5 * INTERNAL_DELAY);
    live(lossy_wire(), shape, 1000, replayed_and_throttled);
}

/// `SyntheticInjectTest2`.
#[test]
fn inject_peers_reuse_simulated() {
    let world = World::simulated(1, delays(INTERNAL_DELAY));
    let shape = patient(inject(PEERS_REUSE, 30), 5 * INTERNAL_DELAY);
    live(world, shape, 1000, replayed_and_throttled);
}

/// `SyntheticInjectTest2`.
#[test]
fn inject_peers_reuse_on_sockets() {
    let shape = few(inject(PEERS_REUSE, 30));
    live(World::loopback(1), shape, 1000, replayed_and_throttled);
}

/// `SyntheticInjectTest2`, and frames that do not arrive.
#[test]
fn inject_peers_reuse_on_userspace_tcp() {
    let shape = patient(few(inject(PEERS_REUSE, 30)), 5 * INTERNAL_DELAY);
    live(lossy_wire(), shape, 1000, replayed_and_throttled);
}

/// `SyntheticInjectTest3`: what is lost is told by a reset.
#[test]
fn inject_lossy_simulated() {
    let world = World::simulated(1, delays(INTERNAL_DELAY));
    let shape = patient(inject(LOSSY, 600), 5 * INTERNAL_DELAY);
    assert_lost(&live(world, shape, 2000, reset));
}

/// `SyntheticInjectTest3`.
#[test]
fn inject_lossy_on_sockets() {
    let shape = few(inject(LOSSY, 600));
    assert_lost(&live(World::loopback(1), shape, 3000, reset));
}

/// `SyntheticInjectTest3`, and frames that do not arrive.
#[test]
fn inject_lossy_on_userspace_tcp() {
    let shape = few(inject(LOSSY, 600));
    assert_lost(&live(lossy_wire(), shape, 3000, reset));
}

virtual_networks! {
    /// `SyntheticInjectTest4`: delivery takes up to five seconds.
    fn inject_peers_late(on: Virtual) {
        let late = Duration::from_secs(5);
        let world = on.world(1, delays(late));
        let shape = patient(inject(PEERS, 30), 3 * late);
        live(world, shape, 1000, replayed);
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
            live(world(), shape, 1000, replayed);
        }
    }

    fn inject_lossless(world: impl Fn() -> World) {
        for policies in [STATEFUL, PEERS_REUSE] {
            let shape = patient(few(inject(policies, 30)), 2 * INTERNAL_DELAY);
            live(world(), shape, 300, replayed_and_throttled);
        }
    }

    fn inject_lossy(world: World) {
        let shape = few(inject(LOSSY, 600));
        assert_lost(&live(world, shape, 3000, reset));
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
