//! Connections that are marked down all the time: `MarkdownTest` of `src/test/msgr/test_msgr.cc`.

use std::time::Duration;

use msgr::protocol::Policy;
use msgr::transport::tcp::wire::WireConfig;

use super::chance::Chance;
use super::world::{Spec, World};

const SERVERS: [i64; 2] = [1, 2];
const CLIENTS: [i64; 3] = [3, 4, 5];

const POLICIES: [(Policy, Policy); 4] = [
    (Policy::STATELESS_SERVER, Policy::LOSSY_CLIENT),
    (Policy::STATEFUL_SERVER, Policy::LOSSLESS_CLIENT),
    (Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER),
    (Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE),
];

fn start(world: &mut World, (server, client): (Policy, Policy)) {
    let quick = |spec: Spec| {
        spec.with(|settings| {
            settings.backoff.initial = Duration::from_millis(1);
            settings.backoff.longest = Duration::from_millis(50);
        })
    };
    for server in SERVERS.map(|_| server) {
        world.start(quick(Spec::bound(server)));
    }
    for client in CLIENTS.map(|_| client) {
        let spec = if client.standby {
            Spec::bound
        } else {
            Spec::client
        };
        world.start(quick(spec(client)));
    }
}

/// Two servers mark connections down in every round, from outside and from within the callback, and
/// the clients send again: for so many rounds, and in real time on until each server has as many
/// messages and as many times somebody was told, which a slow host puts off.
fn storm(world: &mut World, policies: (Policy, Policy), rounds: u64) {
    start(world, policies);
    for server in SERVERS {
        world.ledger(server).mark_down_after = Some(7);
    }
    let told = |world: &World| {
        let totals = world.all_totals();
        if policies.0.lossy {
            totals.resets
        } else {
            totals.remote_resets
        }
    };
    let mut chance = Chance(world.seed);
    let most = if world.is_real_time() {
        20 * rounds
    } else {
        rounds
    };
    for round in 0.. {
        let arrived = SERVERS.map(|server| world.ledger(server).count);
        let least = told(world).min(arrived[0]).min(arrived[1]);
        if round >= rounds && least > rounds {
            break;
        }
        assert!(round < most, "{policies:?}: {arrived:?}, {least}");
        for client in CLIENTS {
            for server in SERVERS {
                world.connect(client, server);
                world.send(client, server, chance.below(4) as usize);
                if world.connection(server, client).is_some() {
                    world.send(server, client, 1);
                }
            }
        }
        // Marked down at whatever point it has come to.
        world.run(world.pace() * chance.below(1000) as u32);
        let server = chance.pick(&SERVERS);
        for client in CLIENTS {
            world.mark_down(server, client);
        }
        world.run(world.pace() * chance.below(1000) as u32);
    }
    for server in SERVERS {
        world.ledger(server).mark_down_after = None;
    }
    for client in CLIENTS {
        for server in SERVERS {
            world.come_back(client, server);
        }
    }
    world.check();
    for server in SERVERS {
        world.settle(server, CLIENTS.len());
    }
    for client in CLIENTS {
        world.settle(client, SERVERS.len());
    }
    world.stop_all();
}

#[test]
fn simulated() {
    for policies in POLICIES {
        for seed in 0..2 {
            storm(
                &mut World::simulated(seed, super::networks::quick()),
                policies,
                100,
            );
        }
    }
}

#[test]
fn on_userspace_tcp() {
    for policies in POLICIES {
        let world = &mut World::userspace_tcp(1, WireConfig::default());
        storm(world, policies, 100);
    }
}

#[test]
fn on_rdma_without_devices() {
    for policies in POLICIES {
        storm(&mut World::fabric(1), policies, 100);
    }
}

#[test]
fn on_sockets() {
    for policies in POLICIES {
        storm(&mut World::loopback(1), policies, 100);
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn on_rdma() {
    for policies in POLICIES {
        storm(&mut World::rdma(1), policies, 30);
    }
}
