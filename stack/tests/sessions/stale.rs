//! Old streams, stalled and delivered late, when the session has long gone on.

use std::time::Duration;

use msgr::protocol::Policy;
use msgr::transport::sim::{Fault, Side};

use super::ledger::Seen;
use super::networks::{Virtual, quick, virtual_networks};
use super::world::Spec;

const HANDSHAKE: u64 = 450;
/// The same in frames.
const HANDSHAKE_FRAMES: u64 = 20;

/// The connector is reset after so many bytes, and what it had sent by then arrives half a minute
/// late, when the session has long gone on over another stream. `resumed`: the stream is not the
/// session's first.
fn late(on: Virtual, policy: Policy, from: Side, after: u64, resumed: bool) {
    let mut world = on.world(after, quick());
    let client = policy == Policy::LOSSLESS_CLIENT;
    let server = if client {
        Policy::STATEFUL_SERVER
    } else {
        policy
    };
    world.start(Spec::bound(server));
    world.start(if client {
        Spec::client(policy)
    } else {
        Spec::bound(policy)
    });
    let late = Duration::from_secs(30);
    let fault = Fault::HalfOpen { from, after, late };
    if resumed {
        world.connect(2, 1);
        world.send(2, 1, 2);
        world.deliver();
        world.network().plan(world.socket(1), fault);
        world.strike(2);
    } else {
        world.network().plan(world.socket(1), fault);
        world.connect(2, 1);
    }
    for _ in 0..8 {
        world.send(2, 1, 1);
        if world.connection(1, 2).is_some() {
            world.send(1, 2, 1);
        }
        // The late bytes come in the middle of this.
        world.run(Duration::from_secs(6));
    }
    world.deliver();
    for number in [1, 2] {
        let lost = world.saw(number, |seen| {
            matches!(seen, Seen::RemoteReset(_) | Seen::Reset(_))
        });
        assert_eq!(
            lost,
            0,
            "{policy} {from:?} {after}: {:?}",
            world.seen(number)
        );
        assert_eq!(world.connections(number), 1);
    }
}

const POLICIES: [Policy; 3] = [
    Policy::LOSSLESS_CLIENT,
    Policy::LOSSLESS_PEER,
    Policy::LOSSLESS_PEER_REUSE,
];

virtual_networks! {
    /// Crimson's `stale_connect`, `stale_accept` and `stale_establishing`.
    fn a_first_stream_that_arrives_late_changes_nothing(on: Virtual) {
        for policy in POLICIES {
            for from in [Side::Connector, Side::Acceptor] {
                for after in on.places(0..HANDSHAKE, 0..HANDSHAKE_FRAMES) {
                    late(on, policy, from, after, false);
                }
            }
        }
    }
}

virtual_networks! {
    /// Crimson's `stale_reconnect` and `stale_reaccept`.
    fn a_later_stream_that_arrives_late_changes_nothing(on: Virtual) {
        for policy in POLICIES {
            for from in [Side::Connector, Side::Acceptor] {
                for after in on.places(0..HANDSHAKE, 0..HANDSHAKE_FRAMES) {
                    late(on, policy, from, after, true);
                }
            }
        }
    }
}
