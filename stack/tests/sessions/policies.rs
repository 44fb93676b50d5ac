//! What becomes of a session when its stream breaks: one table for all policies.

use std::time::Duration;

use msgr::protocol::{Policy, State};
use msgr::transport::sim::{Fault, Side};

use super::ledger::Seen;
use super::networks::{Virtual, quick, virtual_networks};
use super::world::{Spec, World};

/// What follows a fault, at the end that has this policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// The application is told a reset, and nothing is left.
    Reset,
    /// The session waits for the peer, with all that is queued.
    Standby,
    /// The session connects again.
    Reconnect,
}
use Follows::{Reconnect, Reset, Standby};

struct Row {
    policy: Policy,
    /// At the other end.
    peer: Policy,
    /// Whether this end is dialled.
    accepts: bool,
    idle: Follows,
    /// With something to send, to a peer that cannot be reached for a while.
    busy: Follows,
    /// Whether what was sent before is delivered in the end.
    replays: bool,
    /// Whether a peer that forgot the session makes us drop what is queued for it.
    checks_resets: bool,
}

const TABLE: [Row; 7] = [
    Row {
        policy: Policy::LOSSY_CLIENT,
        peer: Policy::STATELESS_SERVER,
        accepts: false,
        idle: Reset,
        busy: Reset,
        replays: false,
        checks_resets: false,
    },
    Row {
        policy: Policy::STATELESS_SERVER,
        peer: Policy::LOSSY_CLIENT,
        accepts: true,
        idle: Reset,
        busy: Reset,
        replays: false,
        checks_resets: false,
    },
    Row {
        policy: Policy::STATELESS_REGISTERED_SERVER,
        peer: Policy::LOSSY_CLIENT,
        accepts: true,
        idle: Reset,
        busy: Reset,
        replays: false,
        checks_resets: false,
    },
    Row {
        policy: Policy::STATEFUL_SERVER,
        peer: Policy::LOSSLESS_CLIENT,
        accepts: true,
        idle: Standby,
        busy: Standby,
        replays: true,
        checks_resets: true,
    },
    Row {
        policy: Policy::LOSSLESS_CLIENT,
        peer: Policy::STATEFUL_SERVER,
        accepts: false,
        idle: Reconnect,
        busy: Reconnect,
        replays: true,
        checks_resets: true,
    },
    Row {
        policy: Policy::LOSSLESS_PEER,
        peer: Policy::LOSSLESS_PEER,
        accepts: true,
        idle: Standby,
        busy: Reconnect,
        replays: true,
        checks_resets: false,
    },
    Row {
        policy: Policy::LOSSLESS_PEER_REUSE,
        peer: Policy::LOSSLESS_PEER_REUSE,
        accepts: true,
        idle: Standby,
        busy: Reconnect,
        replays: true,
        checks_resets: true,
    },
];

const US: i64 = 1;
const PEER: i64 = 2;

fn spec(policy: Policy) -> Spec {
    if policy.server || policy.standby {
        Spec::bound(policy)
    } else {
        Spec::client(policy)
    }
}

impl Row {
    /// Two ends that have talked to each other.
    fn established(&self, on: Virtual) -> World {
        let mut world = on.world(1, quick());
        world.start(spec(self.policy));
        world.start(spec(self.peer));
        let (connector, acceptor) = if self.accepts { (PEER, US) } else { (US, PEER) };
        world.connect(connector, acceptor);
        world.send(connector, acceptor, 1);
        world.deliver();
        world.send(acceptor, connector, 1);
        world.deliver();
        world.run(Duration::from_secs(1));
        world
    }

    /// Only we are told that the stream is gone; the peer cannot be reached and does not notice.
    fn lose_stream(&self, world: &World) {
        let (connector, acceptor) = world.network().connections()[0];
        let from = if self.accepts {
            Side::Acceptor
        } else {
            Side::Connector
        };
        let lost = Fault::HalfOpen {
            from,
            after: 0,
            late: Duration::from_secs(100_000),
        };
        assert!(world.network().inject(connector, acceptor, lost));
    }
}

fn follows(world: &World) -> Follows {
    let resets = world.saw(US, |seen| matches!(seen, Seen::Reset(_)));
    let dump = world.reactor(US).borrow().dump();
    match &dump[..] {
        [] => {
            assert_eq!(resets, 1, "{:?}", world.seen(US));
            Reset
        }
        [only] => {
            assert_eq!(resets, 0, "{:?}", world.seen(US));
            match only.state {
                State::Standby => Standby,
                State::StartConnect => Reconnect,
                state if state.is_connecting() => Reconnect,
                state => panic!("{state}"),
            }
        }
        more => panic!("{more:?}"),
    }
}

#[test]
fn every_policy_has_its_row() {
    let mut listed: Vec<_> = TABLE.iter().map(|row| row.policy.to_string()).collect();
    let mut all: Vec<_> = Policy::presets().map(|policy| policy.to_string()).collect();
    listed.sort();
    all.sort();
    assert_eq!(listed, all);
}

virtual_networks! {
    /// Crimson's standby and reset of every policy, `ms_handle_reset` where it is due.
    fn a_fault_with_nothing_to_send(on: Virtual) {
        for row in &TABLE {
            let mut world = row.established(on);
            world.network().plan(
                world.node(PEER).addr.map_or_else(
                    || "10.0.0.2:6800".parse().unwrap(),
                    |addr| addr.socket.unwrap(),
                ),
                msgr::transport::sim::Plan::Ignore,
            );
            row.lose_stream(&world);
            world.run(Duration::from_millis(1));
            assert_eq!(follows(&world), row.idle, "{}", row.policy);
        }
    }
}

virtual_networks! {
    fn a_fault_with_something_to_send(on: Virtual) {
        for row in &TABLE {
            let mut world = row.established(on);
            if let Some(addr) = world.node(PEER).addr {
                for _ in 0..5 {
                    let plan = msgr::transport::sim::Plan::Refuse;
                    world.network().plan(addr.socket.unwrap(), plan);
                }
            }
            row.lose_stream(&world);
            world.send(US, PEER, 3);
            world.run(Duration::from_millis(1));
            assert_eq!(follows(&world), row.busy, "{}", row.policy);
            // The peer notices, sooner or later, and everybody comes together again.
            world.send(PEER, US, 2);
            if row.replays {
                world.deliver();
                assert_eq!(world.ledger(PEER).count, 4, "{}", row.policy);
            } else {
                world.run(Duration::from_secs(3000));
                assert_eq!(world.ledger(PEER).count, 1, "what was on its way is lost");
                let told = world.saw(PEER, |seen| matches!(seen, Seen::Reset(_)));
                assert_eq!(told, 1, "{}: the peer is told as well", row.policy);
            }
            world.check();
        }
    }
}

virtual_networks! {
    /// A peer that was restarted, and one that marked the connection down: crimson's `reset` of policies
    /// that check for it, and `suppress` for those that do not.
    fn a_peer_that_forgot_the_session(on: Virtual) {
        for row in TABLE.iter().filter(|row| row.replays) {
            for restart in [true, false] {
                let mut world = row.established(on);
                if restart {
                    world.restart(PEER);
                } else {
                    world.mark_down(PEER, US);
                }
                world.send(US, PEER, 3);
                world.run(Duration::from_millis(1));
                if row.accepts {
                    world.connect(PEER, US);
                    world.send(PEER, US, 1);
                }
                world.run(Duration::from_secs(100));
                let told = world.saw(US, |seen| matches!(seen, Seen::RemoteReset(_)));
                // Without the check it depends on who comes to whom: only an acceptor that knows nothing
                // makes the other end drop its queue.
                let expected = if row.checks_resets { 1..=1 } else { 0..=1 };
                assert!(expected.contains(&told), "{}: {told}", row.policy);
                // It goes on, whatever was dropped.
                world.send(US, PEER, 2);
                world.deliver();
                world.check();
            }
        }
    }
}

virtual_networks! {
    /// Replayed messages keep their order, and come before everything that was queued later.
    fn replay_keeps_the_order(on: Virtual) {
        for row in TABLE.iter().filter(|row| row.replays) {
            for after in on.places((0..30_000).step_by(331), 0..40) {
                let mut world = row.established(on);
                let (connector, acceptor) = world.network().connections()[0];
                let from = if row.accepts {
                    Side::Acceptor
                } else {
                    Side::Connector
                };
                let cut = Fault::Cut { from, after };
                assert!(world.network().inject(connector, acceptor, cut));
                for size in [10, 3000, 0, 9000, 50, 7000, 1, 9000] {
                    world.send_sized(US, PEER, size);
                }
                world.run(Duration::from_millis(5));
                world.send(US, PEER, 5);
                world.deliver();
                assert_eq!(world.ledger(PEER).count, 14);
            }
        }
    }
}
