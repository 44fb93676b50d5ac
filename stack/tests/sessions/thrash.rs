//! Everything at random on a network where everything goes wrong: Ceph's
//! `src/test/crimson/test_messenger_thrash.cc`, on every pair of policies.

use std::time::Duration;

use msgr::Totals;
use msgr::protocol::Policy;
use msgr::transport::middleware::Injection;
use msgr::transport::sim::{Chop, FaultRates, Latency, SimConfig};

use super::ledger::Seen;
use super::networks::{Virtual, virtual_networks};
use super::workload::{Shape, Workload};
use super::world::World;

const SHAPE: Shape = Shape {
    policies: (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT),
    servers: 3,
    clients: 5,
    connections: 12,
    sizes: &[0, 10, 300, 9000],
    pause: Duration::from_millis(300),
    injection: Injection {
        socket_failures: 50,
        connect_refusals: 10,
    },
    budget: Some(40_000),
};

fn network() -> SimConfig {
    SimConfig {
        latency: Latency {
            slow_one_in: 50,
            slow: Duration::from_secs(1),
            ..SimConfig::default().latency
        },
        chop: Chop::Random(4000),
        window: 16 << 10,
        faults: FaultRates {
            refuse: 0.05,
            ignore: 0.02,
            accept_then_close: 0.05,
            cut: 0.2,
            stall: 0.1,
            half_open: 0.2,
            black_hole: 0.02,
            within: 20_000,
            lasts: Duration::from_secs(3),
            ..FaultRates::default()
        },
        ..SimConfig::default()
    }
}

/// Returns what everybody did, and how often a connection was replaced.
fn thrash(on: Virtual, policies: (Policy, Policy)) -> (Totals, usize) {
    let mut replacements = 0;
    let live = |seed| {
        let world = on.world(seed, network());
        let mut workload = Workload::new(world, Shape { policies, ..SHAPE });
        workload.operate(300);
        workload.world.make_peace();
        let totals = workload.finish();
        replacements += replaced(&workload.world);
        totals
    };
    let totals = (0..8).map(live).sum();
    println!("{totals:?}");
    (totals, replacements)
}

fn assert_lossless(totals: &Totals) {
    assert!(
        totals.reconnects > 200 && totals.replayed > 10,
        "{totals:?}"
    );
    assert!(totals.remote_resets > 10, "{totals:?}");
    assert!(totals.failed_handshakes > 50, "{totals:?}");
    assert!(totals.throttled > 0, "{totals:?}");
}

fn assert_lossy(totals: &Totals) {
    assert!(totals.resets > 100, "{totals:?}");
    assert!(totals.failed_handshakes > 100, "{totals:?}");
    assert_eq!((totals.reconnects, totals.replayed), (0, 0), "{totals:?}");
}

virtual_networks! {
    fn stateful(on: Virtual) {
        let (totals, _) = thrash(on, (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT));
        assert_lossless(&totals);
    }
}

virtual_networks! {
    fn peers(on: Virtual) {
        let (totals, _) = thrash(on, (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER));
        assert_lossless(&totals);
        assert!(totals.races_won > 0 && totals.races_lost > 0, "{totals:?}");
    }
}

virtual_networks! {
    fn peers_reuse(on: Virtual) {
        let (totals, _) = thrash(on, (Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE));
        assert_lossless(&totals);
        assert!(totals.races_won > 0 && totals.races_lost > 0, "{totals:?}");
    }
}

/// How often a server was told that a new connection took the place of another.
fn replaced(world: &World) -> usize {
    let replaced = |seen: &Seen| matches!(seen, Seen::Reset(why) if why.contains("replaced"));
    let numbers = world.numbers().into_iter();
    numbers.map(|number| world.saw(number, replaced)).sum()
}

virtual_networks! {
    fn lossy(on: Virtual) {
        let (totals, replaced) = thrash(on, (Policy::STATELESS_SERVER, Policy::LOSSY_CLIENT));
        assert_lossy(&totals);
        assert_eq!(replaced, 0);
    }
}

virtual_networks! {
    fn lossy_registered(on: Virtual) {
        let registered = Policy::STATELESS_REGISTERED_SERVER;
        let (totals, replaced) = thrash(on, (registered, Policy::LOSSY_CLIENT));
        assert_lossy(&totals);
        assert!(replaced > 0);
    }
}
