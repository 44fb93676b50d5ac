//! Budgets: reading stops when the application holds too much, goes on when it lets go, and nothing
//! waits for ever.

use std::time::Duration;

use msgr::Settings;
use msgr::protocol::{EntityType, Policy, Timestamp};
use msgr::transport::sim::SimConfig;

use super::ledger::Seen;
use super::networks::{Virtual, all_networks, virtual_networks};
use super::world::{Spec, World};

const SERVER: i64 = 1;
const CLIENT: i64 = 2;
const MESSAGE: usize = 10_000;
/// Front and data.
const COST: usize = MESSAGE + 32;

fn limited(set: impl Fn(&mut Settings) + 'static) -> Spec {
    Spec::bound(Policy::STATEFUL_SERVER).with(set)
}

fn holding(world: &mut World, server: Spec, clients: i64) {
    world.start(server);
    world.ledger(SERVER).held = Some(Vec::new());
    for client in CLIENT..CLIENT + clients {
        world.start(Spec::client(Policy::LOSSLESS_CLIENT));
        world.connect(client, SERVER);
    }
}

fn send(world: &World, client: i64, count: usize) {
    for _ in 0..count {
        world.send_sized(client, SERVER, MESSAGE);
    }
}

fn held(world: &World) -> usize {
    world.ledger(SERVER).held.as_ref().unwrap().len()
}

fn let_go(world: &World, count: usize) {
    let dropped: Vec<_> = {
        let mut ledger = world.ledger(SERVER);
        ledger.held.as_mut().unwrap().drain(..count).collect()
    };
    drop(dropped);
}

all_networks! {
    /// No more is received than fits, and the rest when the application lets go.
    fn reading_stops_and_goes_on(world: &mut World) {
        type Set = fn(&mut Settings);
        let budgets: [Set; 3] = [
            |settings| settings.budgets.reactor = 4 * COST + 1,
            |settings| settings.budgets.messenger = 4 * COST + 1,
            |settings| settings.budgets.by_type = vec![(EntityType::Client, 4 * COST + 1)],
        ];
        for set in budgets {
            holding(world, limited(set), 1);
            send(world, CLIENT, 20);
            world.wait_for("a full budget", |world| held(world) == 4);
            world.wait_for("one that does not fit", |world| {
                world.reactor(SERVER).borrow().dump()[0].throttled
            });
            world.run(Duration::from_millis(50));
            assert_eq!(held(world), 4, "and nothing beyond it");
            assert!(world.totals(SERVER).throttled > 0);
            for round in 1..=16 {
                let_go(world, 1);
                let so_far = 4 + round;
                world.wait_for("the next", |world| world.ledger(SERVER).count == so_far);
                assert_eq!(held(world), 4);
            }
            let_go(world, 4);
            world.deliver();
            world.stop_all();
        }
    }
}

virtual_networks! {
    /// What is answered, acknowledged and kept alive while reading stops: frames that are no messages
    /// cost nothing, and those that we send wait for nobody.
    fn control_frames_are_not_starved(on: Virtual) {
        let mut world = on.world(1, SimConfig::default());
        holding(
            &mut world,
            limited(|settings| settings.budgets.reactor = 2 * COST + 1),
            1,
        );
        send(&world, CLIENT, 2);
        world.run(Duration::from_secs(1));
        assert_eq!(held(&world), 2);
        // The budget is full now. Everything was acknowledged all the same,
        let dump = || world.reactor(CLIENT).borrow().dump();
        assert_eq!(dump()[0].counts.unacknowledged, 0);
        // a keepalive is answered,
        let stamp = Timestamp { sec: 1, nsec: 1 };
        assert!(world.connection(CLIENT, SERVER).unwrap().keepalive(stamp));
        world.run(Duration::from_secs(1));
        assert_eq!(world.saw(CLIENT, |seen| *seen == Seen::Keepalive), 1);
        // we send what we like,
        world.send(SERVER, CLIENT, 5);
        world.run(Duration::from_secs(1));
        assert_eq!(world.ledger(CLIENT).count, 5);
        // and nobody hangs up because we do not read.
        send(&world, CLIENT, 2);
        world.run(Duration::from_secs(800));
        assert_eq!(world.totals(SERVER).interruptions, 0);
        let_go(&world, 2);
        world.deliver();
    }
}

virtual_networks! {
    /// Nobody's messages keep out somebody of whom nothing is held: whoever is waited for gets through.
    fn a_full_budget_lets_in_one_message_of_each(on: Virtual) {
        let mut world = on.world(1, SimConfig::default());
        let clients = 5;
        holding(
            &mut world,
            limited(|settings| settings.budgets.messenger = COST),
            clients,
        );
        for client in CLIENT..CLIENT + clients {
            send(&world, client, 3);
        }
        world.run(Duration::from_secs(10));
        assert_eq!(held(&world), clients as usize);
        while held(&world) > 0 {
            let_go(&world, 1);
            world.run(Duration::from_secs(1));
        }
        world.deliver();
        assert_eq!(world.ledger(SERVER).count, 15);
    }
}

virtual_networks! {
    /// A message that is larger than a whole budget.
    fn a_budget_that_is_too_small_for_anything(on: Virtual) {
        let mut world = on.world(1, SimConfig::default());
        holding(
            &mut world,
            limited(|settings| settings.budgets.reactor = 1),
            2,
        );
        world.ledger(SERVER).held = None;
        for client in [2, 3] {
            send(&world, client, 10);
        }
        world.deliver();
    }
}

virtual_networks! {
    /// Two ends that answer every message, with budgets and windows that are far too small for both.
    fn two_ends_that_throttle_each_other_go_on(on: Virtual) {
        for (seed, policy) in (0..40).zip(
            [Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER_REUSE]
                .iter()
                .cycle(),
        ) {
            let mut world = on.world(
                seed,
                SimConfig {
                    window: 500,
                    ..SimConfig::default()
                },
            );
            let tight = |settings: &mut Settings| settings.budgets.reactor = 100;
            world.start(Spec::bound(*policy).with(tight));
            world.start(Spec::bound(*policy).with(tight));
            world.ledger(2).echo = true;
            world.connect(1, 2);
            world.connect(2, 1);
            for _ in 0..50 {
                world.send_sized(1, 2, 3000);
            }
            world.wait_for("all echoes", |world| world.ledger(1).count == 50);
            world.check();
        }
    }
}

virtual_networks! {
    /// Budgets are given back with the connection, and by messages that the peer sends twice.
    fn nothing_of_a_budget_is_lost_with_a_stream(on: Virtual) {
        for after in on.places((0..40_000).step_by(577), 0..60) {
            let mut world = on.world(after, SimConfig::default());
            holding(
                &mut world,
                limited(|settings| settings.budgets.reactor = 3 * COST),
                1,
            );
            let cut = msgr::transport::sim::Fault::Cut {
                from: msgr::transport::sim::Side::Connector,
                after,
            };
            world.network().plan(world.socket(SERVER), cut);
            send(&world, CLIENT, 12);
            for _ in 0..12 {
                world.wait_for("a message", |world| held(world) > 0);
                let_go(&world, 1);
            }
            world.deliver();
            // All of it is there for the next ones.
            send(&world, CLIENT, 3);
            world.wait_for("three at once", |world| held(world) == 3);
        }
    }
}
