//! Everything goes wrong at random, and twice in the same way.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use msgr_transport::sim::{Chop, FaultRates, Latency, SimConfig};
use msgr_transport::{Close, ConnId, Transport, TxQueue};

use crate::conformance::Random;
use crate::pair::{AT, CLIENT, Host, Pair, SERVER};

/// Two hosts that connect, send, stop, resume and close at random while everything goes wrong.
/// Returns all that happened.
fn chaos(seed: u64) -> (String, Vec<String>, Vec<String>) {
    let faults = FaultRates {
        refuse: 0.05,
        ignore: 0.05,
        accept_then_close: 0.05,
        cut: 0.2,
        stall: 0.2,
        half_open: 0.2,
        black_hole: 0.1,
        crash: 0.05,
        within: 2000,
        lasts: Duration::from_millis(500),
    };
    let config = SimConfig {
        latency: Latency {
            slow_one_in: 20,
            slow: Duration::from_millis(50),
            ..Latency::between(Duration::from_micros(10), Duration::from_millis(1))
        },
        chop: Chop::Random(50),
        window: 1000,
        faults,
        trace: true,
    };
    let mut pair = Pair::seeded(seed, config);
    let mut random = Random(seed);
    let mut conns: Vec<ConnId> = Vec::new();
    // Every connection carries the same stream, so what arrives is always a beginning of it.
    let stream = Random(99).bytes(20_000);
    let check = |server: &Host| {
        for &conn in &server.accepted {
            assert!(
                stream.starts_with(&server.received(conn)),
                "seed {seed}: {conn:?}"
            );
        }
    };
    let mut sent = HashMap::new();
    for _ in 0..2000 {
        match random.below(12) {
            0 => conns.push(pair.client.connect(AT)),
            1..8 if !conns.is_empty() => {
                let conn = conns[random.below(conns.len())];
                let from = *sent.entry(conn).or_insert(0);
                let to = (from + random.below(300)).min(stream.len());
                let mut queue = TxQueue::from([Bytes::copy_from_slice(&stream[from..to])]);
                if let Ok(taken) = pair.client.sim.send(conn, &mut queue) {
                    sent.insert(conn, from + taken);
                }
                pair.client.sim.flush();
            }
            8 | 9 if !pair.server.accepted.is_empty() => {
                let conn = pair.server.accepted[random.below(pair.server.accepted.len())];
                pair.server.sim.set_receive(conn, random.below(4) > 0);
            }
            10 if random.below(5) == 0 && !conns.is_empty() => {
                let how = [Close::Drain, Close::Abort][random.below(2)];
                let conn = conns.swap_remove(random.below(conns.len()));
                pair.client.sim.close(conn, how);
            }
            _ => {}
        }
        pair.now += Duration::from_micros(random.below(3000) as u64);
        pair.poll();
        for ip in pair.network.take_crashed() {
            if ip == SERVER {
                check(&pair.server);
                pair.server = Host::new(&pair.network, SERVER);
                pair.server.listen(AT);
            } else {
                pair.client = Host::new(&pair.network, CLIENT);
                conns.clear();
                sent.clear();
            }
        }
    }
    check(&pair.server);
    (pair.network.trace(), pair.client.log, pair.server.log)
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut runs = Vec::new();
    for seed in 0..20 {
        let run = chaos(seed);
        assert_eq!(run, chaos(seed));
        assert!(!runs.contains(&run), "another seed is another run");
        runs.push(run);
    }
    // Everything that can go wrong went wrong somewhere.
    let all: String = runs.into_iter().map(|(trace, ..)| trace).collect();
    for what in [
        "meets Refuse",
        "meets Ignore",
        "meets AcceptThenClose",
        "suffers Cut",
        "suffers Stall",
        "suffers HalfOpen",
        "suffers BlackHole",
        "suffers Crash(Reset)",
        "suffers Crash(Silent)",
    ] {
        assert!(all.contains(what), "never {what}");
    }
}
