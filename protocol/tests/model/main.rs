//! A model check of the session rules: everything that can happen between two nodes, in every
//! order, as far as it goes with a few messages and faults.
//!
//! The nodes are real [`Connection`]s, cloned for each thing that can happen next, and what they
//! exchange are real frames. Not in the model: time (a timer may expire at any moment), restarts,
//! and frames that are cut in the middle, which the stack's simulation sees to.
//!
//! [`Connection`]: msgr_protocol::Connection

#![allow(clippy::unwrap_used)]

mod explore;
mod frame;
mod node;
mod setup;
mod shape;
mod sights;
mod step;
mod world;

use msgr_protocol::Policy;

use explore::explore;
use setup::{Bounds, Setup};
use sights::Sight;

const PEERS: [Policy; 2] = [Policy::LOSSLESS_PEER; 2];
const REUSED: [Policy; 2] = [Policy::LOSSLESS_PEER_REUSE; 2];
const CLIENT: [Policy; 2] = [Policy::LOSSLESS_CLIENT, Policy::STATEFUL_SERVER];

const SMALL: Bounds = Bounds {
    messages: 2,
    faults: 1,
    late: 1,
    reconnects: 2,
};

/// Explores, and looks at the numbers of worlds, of those not looked beyond, and of ends: a rule that
/// changes changes them, and a check that no longer gets anywhere does not pass.
#[track_caller]
fn check(policies: [Policy; 2], bounds: Bounds, expected: [usize; 3]) -> Vec<Sight> {
    let space = explore(&Setup::new(policies, bounds));
    println!("{} and {}: {space:?}", policies[0], policies[1]);
    assert_eq!([space.worlds, space.beyond, space.ends], expected);
    Sight::ALL
        .into_iter()
        .filter(|sight| !space.sights.has(*sight))
        .collect()
}

#[test]
fn peers() {
    let unseen = check(PEERS, SMALL, [71_513, 2_996, 12]);
    assert_eq!(unseen, [Sight::RetryGlobal, Sight::Duplicate]);
}

/// They treat only restarted peers in another way.
#[test]
fn peers_that_are_reused() {
    let bounds = Bounds {
        messages: 1,
        ..SMALL
    };
    let unseen = check(REUSED, bounds, [8_753, 170, 12]);
    assert_eq!(unseen, [Sight::RetryGlobal, Sight::Duplicate]);
}

/// A server never connects, so that they do not race.
#[test]
fn client_and_server() {
    let bounds = Bounds { faults: 2, ..SMALL };
    let unseen = check(CLIENT, bounds, [12_720, 0, 3]);
    assert!(!unseen.contains(&Sight::Replay));
    assert!(!unseen.contains(&Sight::RetryGlobal));
    assert!(unseen.contains(&Sight::ToldToWait));
}

#[test]
#[ignore = "takes minutes"]
fn peers_with_two_faults() {
    let bounds = Bounds {
        faults: 2,
        reconnects: 3,
        ..SMALL
    };
    assert_eq!(
        check(PEERS, bounds, [806_783, 31_020, 21]),
        [Sight::Duplicate]
    );
}
