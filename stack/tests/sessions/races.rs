//! Both ends connect, or connect again, at once.

use std::time::Duration;

use msgr::protocol::{Features, Policy, State};
use msgr::transport::sim::{Fault, Plan, Side};

use super::ledger::Seen;
use super::networks::{Virtual, all_networks, quick, virtual_networks};
use super::world::{Spec, World};

const PEERS: [Policy; 2] = [Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER_REUSE];
/// Longer than a handshake, in bytes either way.
const HANDSHAKE: u64 = 450;
/// The same in frames.
const HANDSHAKE_FRAMES: u64 = 20;

fn two(world: &mut World, policy: Policy) {
    world.start(Spec::bound(policy));
    world.start(Spec::bound(policy));
}

fn connect_both(world: &World) {
    world.connect(1, 2);
    world.connect(2, 1);
    world.send(1, 2, 3);
    world.send(2, 1, 3);
}

#[track_caller]
fn assert_one_session(world: &mut World) {
    world.deliver();
    world.wait_for("one session each", |world| {
        let dumps = |n| world.reactor(n).borrow().dump();
        let one = |n| matches!(&dumps(n)[..], [only] if only.state == State::Ready);
        one(1) && one(2)
    });
    for number in [1, 2] {
        let told = world.saw(number, |seen| {
            matches!(seen, Seen::Connected(_) | Seen::Accepted(_))
        });
        assert_eq!(told, 1, "{:?}", world.seen(number));
        let lost = world.saw(number, |seen| {
            matches!(seen, Seen::RemoteReset(_) | Seen::Reset(_))
        });
        assert_eq!(lost, 0, "{:?}", world.seen(number));
    }
}

all_networks! {
    /// `ConnectionRaceTest`.
    fn connection_race(world: &mut World) {
        for policy in PEERS {
            two(world, policy);
            connect_both(world);
            assert_one_session(world);
            world.stop_all();
        }
    }
}

virtual_networks! {
    /// `ConnectionRaceTest`, with either connection stopped at any step of its handshake.
    fn connection_race_with_one_side_stopped_anywhere(on: Virtual) {
        for policy in PEERS {
            for (slow, from) in [
                (1, Side::Connector),
                (1, Side::Acceptor),
                (2, Side::Connector),
                (2, Side::Acceptor),
            ] {
                for after in on.places(0..HANDSHAKE, 0..HANDSHAKE_FRAMES) {
                    let mut world = on.world(after, quick());
                    two(&mut world, policy);
                    let lasts = Some(Duration::from_secs(2));
                    let stall = Fault::Stall { from, after, lasts };
                    world.network().plan(world.socket(slow), stall);
                    connect_both(&world);
                    assert_one_session(&mut world);
                }
            }
        }
    }
}

virtual_networks! {
    /// `ConnectionRaceReuseBannerTest`: the stream that takes over has got any part of its banner and
    /// handshake already; what was agreed on it comes along.
    fn a_stream_that_takes_over_brings_its_handshake(on: Virtual) {
        for revision_1 in [true, false] {
            for after in on.places(0..HANDSHAKE, 0..HANDSHAKE_FRAMES) {
                let mut world = on.world(after, quick());
                let spec = Spec::bound(Policy::LOSSLESS_PEER_REUSE).with(move |settings| {
                    if !revision_1 {
                        settings.protocol.banner.supported = Features::default();
                    }
                });
                world.start(spec.clone());
                world.start(spec);
                // The smaller address wins: its connection is the one that takes over.
                let fault = Fault::Stall {
                    from: Side::Connector,
                    after,
                    lasts: Some(Duration::from_secs(1)),
                };
                world.network().plan(world.socket(2), fault);
                connect_both(&world);
                assert_one_session(&mut world);
                for (here, there) in [(1, 2), (2, 1)] {
                    let peer = world.connection(here, there).unwrap().peer().unwrap();
                    assert_eq!(peer.name.unwrap().num, there);
                    let features = peer.features.0;
                    assert_ne!(features, 0, "features are lost with the stream");
                    assert!(peer.addrs.contains(&world.addr(there)));
                }
            }
        }
    }
}

all_networks! {
    /// `ReconnectRaceTest`: both ends lose the connection and come back at once, with equal counts.
    fn reconnect_race(world: &mut World) {
        for policy in PEERS {
            two(world, policy);
            connect_both(world);
            assert_one_session(world);
            for _ in 0..10 {
                // Something to send on both sides, and the connection breaks under it.
                world.strike(1);
                world.strike(2);
                world.send(1, 2, 1);
                world.send(2, 1, 1);
                assert_one_session(world);
            }
            assert!(world.totals(1).reconnects > 0);
            world.stop_all();
        }
    }
}

virtual_networks! {
    /// Which attempt wins depends on the addresses alone. `racing_connect_acceptor_win` and `_lose`,
    /// `racing_reconnect_acceptor_win` and `_lose`, `racing_connect_reconnect_win` and `_lose`.
    fn racing_connect_the_smaller_address_wins(on: Virtual) {
        let mut world = on.world(1, quick());
        two(&mut world, Policy::LOSSLESS_PEER);
        connect_both(&world);
        assert_one_session(&mut world);
        assert_eq!(world.totals(1).connected, 1);
        assert_eq!(
            (world.totals(1).races_won, world.totals(2).races_lost),
            (1, 1)
        );
        assert_eq!(
            (world.totals(2).races_won, world.totals(1).races_lost),
            (0, 0)
        );
    }
}

virtual_networks! {
    fn racing_reconnect_the_smaller_address_wins(on: Virtual) {
        let mut world = on.world(1, quick());
        two(&mut world, Policy::LOSSLESS_PEER);
        connect_both(&world);
        assert_one_session(&mut world);
        let before = [1, 2].map(|n| world.totals(n));
        // Cut from outside: both notice at the same time.
        let links = world.network().connections();
        let [(connector, acceptor)] = links[..] else {
            panic!("{links:?}");
        };
        world.send(1, 2, 1);
        world.send(2, 1, 1);
        let cut = Fault::Cut {
            from: Side::Connector,
            after: 0,
        };
        assert!(world.network().inject(connector, acceptor, cut));
        assert_one_session(&mut world);
        let after = [1, 2].map(|n| world.totals(n));
        assert_eq!(after[0].races_won, before[0].races_won + 1);
        assert_eq!(after[1].races_lost, before[1].races_lost + 1);
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(after.reconnects, before.reconnects + 1);
        }
    }
}

virtual_networks! {
    /// One end forgot the session and opens a new one while the other comes back for the old.
    fn racing_connect_and_reconnect(on: Virtual) {
        for forgetful in [1, 2] {
            let loyal = 3 - forgetful;
            let mut world = on.world(forgetful as u64, quick());
            two(&mut world, Policy::LOSSLESS_PEER_REUSE);
            connect_both(&world);
            assert_one_session(&mut world);
            world.mark_down(forgetful, loyal);
            world.connect(forgetful, loyal);
            world.send(forgetful, loyal, 2);
            // Its own end is gone as well, with something to send.
            world.send(loyal, forgetful, 2);
            world.deliver();
            assert_eq!(world.totals(loyal).remote_resets, 1);
            assert_eq!(world.totals(forgetful).remote_resets, 0);
            // What has lost ends by itself.
            world.wait_for("one connection each", |world| {
                [world.connections(1), world.connections(2)] == [1, 1]
            });
        }
    }
}

virtual_networks! {
    /// A peer that was told to wait comes by itself when the connection that it waits for fails.
    fn who_was_told_to_wait_is_not_forgotten(on: Virtual) {
        for after in on.places(0..HANDSHAKE, 0..HANDSHAKE_FRAMES) {
            let mut world = on.world(after, quick());
            two(&mut world, Policy::LOSSLESS_PEER);
            // The winner's connection is cut somewhere, and the next ones are refused.
            let cut = Fault::Cut {
                from: Side::Connector,
                after,
            };
            world.network().plan(world.socket(2), cut);
            for _ in 0..3 {
                world.network().plan(world.socket(2), Plan::Refuse);
            }
            world.connect(1, 2);
            world.connect(2, 1);
            // Only the loser has something to send.
            world.send(2, 1, 1);
            world.deliver();
        }
    }
}
