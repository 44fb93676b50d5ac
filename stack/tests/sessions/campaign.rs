//! A campaign: many seeds, each a small world in which everything goes wrong that can.
//!
//! `MSGR_SEEDS=1000..2000` runs other seeds than the few that every test run takes; `MSGR_SEEDS=1234`
//! runs one, with a trace.

use std::collections::HashSet;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use msgr::Totals;
use msgr::protocol::Policy;
use msgr::transport::sim::{Chop, FaultRates, Latency, SimConfig};

use super::chance::Chance;
use super::networks::{Network, Virtual, virtual_networks};
use super::world::{Spec, World};

/// Those of every test run; userspace TCP is much more work.
fn few(on: Virtual) -> Range<u64> {
    match on {
        Virtual::Simulated => 0..300,
        Virtual::Secure | Virtual::UserspaceTcp | Virtual::Rdma => 0..60,
    }
}

/// What a seed's world is like.
struct Plan {
    policies: Vec<Spec>,
    /// Who connects to whom.
    pairs: Vec<(i64, i64)>,
    config: SimConfig,
    /// Whether processes are killed and sessions marked down: then messages may be lost.
    forgetful: bool,
    steps: u64,
}

fn plan(chance: &mut Chance, trace: bool) -> Plan {
    let peers = chance.one_in(2);
    let third = chance.one_in(3);
    let (policies, pairs) = if peers {
        let policy = if chance.one_in(2) {
            Policy::LOSSLESS_PEER
        } else {
            Policy::LOSSLESS_PEER_REUSE
        };
        let count = if third { 3 } else { 2 };
        let pairs = (1..=count).flat_map(|a| (1..=count).map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| a != b).collect();
        (vec![Spec::bound(policy); count as usize], pairs)
    } else {
        let server = Spec::bound(Policy::STATEFUL_SERVER);
        let client = Spec::client(Policy::LOSSLESS_CLIENT);
        if third {
            (vec![server, client.clone(), client], vec![(2, 1), (3, 1)])
        } else {
            (vec![server, client], vec![(2, 1)])
        }
    };
    let latency = Latency {
        slow_one_in: [0, 10, 100][chance.below(3) as usize],
        slow: Duration::from_millis(chance.below(2000)),
        ..Latency::between(
            Duration::from_micros(10),
            Duration::from_micros(20 + chance.below(2000)),
        )
    };
    let config = SimConfig {
        latency,
        chop: [Chop::Whole, Chop::Random(400), Chop::Every(37)][chance.below(3) as usize].clone(),
        window: [1 << 10, 16 << 10, 256 << 10][chance.below(3) as usize],
        faults: FaultRates {
            refuse: chance.rate(0.3),
            ignore: chance.rate(0.05),
            accept_then_close: chance.rate(0.3),
            cut: chance.rate(0.9),
            stall: chance.rate(0.4),
            half_open: chance.rate(0.6),
            black_hole: chance.rate(0.05),
            crash: 0.0,
            within: [600, 2000, 20_000][chance.below(3) as usize],
            lasts: Duration::from_millis(1 + chance.below(30_000)),
        },
        trace,
    };
    let forgetful = chance.one_in(3);
    let configured = |spec: Spec, backoff: Duration| {
        spec.with(move |settings| settings.backoff.initial = backoff)
    };
    let backoff = Duration::from_millis(1 + chance.below(300));
    Plan {
        policies: policies
            .into_iter()
            .map(|spec| configured(spec, backoff))
            .collect(),
        pairs,
        config,
        forgetful,
        steps: 10 + chance.below(30),
    }
}

/// Lives through one seed. Returns what everybody did, and how many faults have struck.
fn live(on: Virtual, seed: u64, trace: bool) -> (Totals, u64) {
    let mut chance = Chance(seed);
    let plan = plan(&mut chance, trace);
    let mut world = on.world(seed, plan.config.clone());
    for spec in plan.policies {
        let number = world.start(spec);
        world.ledger(number).quiet = !trace;
    }
    for _ in 0..plan.steps {
        let (a, b) = plan.pairs[chance.below(plan.pairs.len() as u64) as usize];
        match chance.below(12) {
            0..=2 => {
                world.connect(a, b);
            }
            9 if plan.forgetful && chance.one_in(3) => world.restart(a),
            10 if plan.forgetful => world.mark_down(a, b),
            _ => {
                for (from, to) in [(a, b), (b, a)] {
                    if world.connection(from, to).is_some() {
                        for _ in 0..chance.below(6) {
                            let len = [0, 10, 3000][chance.below(3) as usize];
                            world.send_sized(from, to, len);
                        }
                    }
                }
            }
        }
        let pause = [0, 1, 20, 500, 5000][chance.below(5) as usize];
        world.run(Duration::from_millis(chance.below(pause + 1)));
    }
    // Peace: whatever was sent must arrive now, and nothing must be left behind.
    world.make_peace();
    for (a, b) in plan.pairs.clone() {
        world.connect(a, b);
        world.send(a, b, 1);
    }
    let numbers = world.numbers();
    let done = |world: &World| {
        let mut pairs = plan.pairs.iter();
        pairs.all(|(a, b)| world.has_all(*a, *b) && world.has_all(*b, *a))
    };
    let delivered = world.run_until(Duration::from_secs(4000), done);
    if trace {
        for number in &numbers {
            println!("{number} was told:");
            for seen in world.seen(*number) {
                println!("  {seen:?}");
            }
        }
        if let Network::Sim(network) = world.network() {
            println!("{}", network.trace());
        }
    }
    if !delivered {
        let dumps: Vec<_> = numbers
            .iter()
            .map(|n| world.reactor(*n).borrow().dump())
            .collect();
        panic!("not everything was delivered: {dumps:#?}");
    }
    world.check();
    if !plan.forgetful {
        for number in &numbers {
            let totals = world.totals(*number);
            assert_eq!((totals.remote_resets, totals.resets), (0, 0), "{number}");
        }
    }
    // Every session is settled, and there is one for each peer at most.
    let settled = |world: &World| {
        let dumps = numbers
            .iter()
            .flat_map(|n| world.reactor(*n).borrow().dump());
        let counts = dumps.map(|connection| connection.counts);
        let mut left = counts.map(|counts| counts.queued + counts.unacknowledged);
        left.all(|left| left == 0)
    };
    let settled = world.run_until(Duration::from_secs(4000), settled);
    assert!(settled, "something stays unacknowledged");
    // Streams that never came to anything are given up.
    world.run(Duration::from_secs(20));
    let opened = |world: &World| {
        let mut dumps = numbers
            .iter()
            .flat_map(|n| world.reactor(*n).borrow().dump());
        dumps.all(|connection| !connection.state.is_accepting())
    };
    let opened = world.run_until(Duration::from_secs(20), opened);
    assert!(opened, "a stream stays half open");
    for number in &numbers {
        let pairs = plan.pairs.iter();
        let peers = pairs.filter(|(a, b)| a == number || b == number);
        let peers: HashSet<_> = peers.map(|(a, b)| (a.min(b), a.max(b))).collect();
        let most = peers.len();
        let connections = world.connections(*number);
        assert!(connections <= most, "{number}: {connections} connections");
    }
    (world.all_totals(), world.network().faults())
}

fn seeds(on: Virtual) -> (Range<u64>, bool) {
    let Ok(text) = env::var("MSGR_SEEDS") else {
        return (few(on), false);
    };
    let number = |text: &str| text.parse::<u64>().expect("MSGR_SEEDS is A..B or A");
    match text.split_once("..") {
        Some((from, to)) => (number(from)..number(to), false),
        None => (number(&text)..number(&text) + 1, true),
    }
}

virtual_networks! {
    fn no_message_is_lost_repeated_or_reordered_whatever_goes_wrong(on: Virtual) {
        let (seeds, trace) = seeds(on);
        let count = seeds.end - seeds.start;
        let (mut totals, mut faults) = (Totals::default(), 0);
        for seed in seeds {
            let lived = catch_unwind(AssertUnwindSafe(|| live(on, seed, trace)));
            let Ok((lived, struck)) = lived else {
                panic!(
                    "seed {seed} fails on {on:?}; replay it with a trace: \
                     MSGR_SEEDS={seed} cargo test -p msgr --test sessions whatever_goes_wrong -- --nocapture"
                );
            };
            totals = [totals, lived].into_iter().sum();
            faults += struck;
            if seed % 10_000 == 9_999 {
                println!("up to seed {seed}: {faults} faults, {totals:?}");
            }
        }
        println!("{count} seeds: {faults} faults, {totals:?}");
        // Otherwise the faults missed what they were meant for.
        if count >= few(on).end {
            assert!(
                totals.reconnects > count && totals.replayed > count,
                "{totals:?}"
            );
            assert!(totals.races_won > 0 && totals.races_lost > 0, "{totals:?}");
            assert!(
                totals.remote_resets > 0 && faults > count,
                "{faults} faults"
            );
        }
    }
}
