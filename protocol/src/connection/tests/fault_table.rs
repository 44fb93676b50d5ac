//! What becomes of a session whose stream ends, for every policy.
//!
//! Source: `Policy` in Ceph's `src/msg/Policy.h`, `fault` in `src/msg/async/ProtocolV2.cc`.

use super::pair::Pair;
use super::script::{
    End, STAMP, client_config, client_socket, connector, numbered, server_config, transmitted,
};
use crate::config::{Config, PerPeer};
use crate::connection::AfterFault::{self, Backoff, Gone, Reconnect, Standby};
use crate::connection::{Connection, State};
use crate::frame::Revision;
use crate::policy::Policy;
use crate::wire::EntityAddr;

/// A policy's line of the table.
struct Line {
    policy: Policy,
    /// While connecting, with nothing to do and with something.
    connecting: [AfterFault; 2],
    /// The same, once it was ready.
    ready: [AfterFault; 2],
    /// The same, if the peer cannot be dialled.
    unreachable: [AfterFault; 2],
    /// The peer said that its own connection comes, but it did not.
    waited: AfterFault,
    /// Whether messages are kept until they are acknowledged, to be sent again.
    keeps: bool,
}

const TABLE: [Line; 7] = [
    // Ceph connects a lossy session again that was never ready; here its user does.
    gone(Policy::LOSSY_CLIENT),
    gone(Policy::STATELESS_SERVER),
    gone(Policy::STATELESS_REGISTERED_SERVER),
    Line {
        policy: Policy::STATEFUL_SERVER,
        connecting: [Standby; 2],
        ready: [Standby; 2],
        unreachable: [Standby; 2],
        waited: Standby,
        keeps: true,
    },
    Line {
        policy: Policy::LOSSLESS_CLIENT,
        connecting: [Backoff; 2],
        ready: [Reconnect; 2],
        unreachable: [Standby; 2],
        waited: Backoff,
        keeps: true,
    },
    peer(Policy::LOSSLESS_PEER),
    peer(Policy::LOSSLESS_PEER_REUSE),
];

const fn gone(policy: Policy) -> Line {
    Line {
        policy,
        connecting: [Gone; 2],
        ready: [Gone; 2],
        unreachable: [Gone; 2],
        waited: Gone,
        keeps: false,
    }
}

const fn peer(policy: Policy) -> Line {
    Line {
        policy,
        connecting: [Standby, Backoff],
        ready: [Standby, Reconnect],
        unreachable: [Standby; 2],
        waited: Backoff,
        keeps: true,
    }
}

/// What a session may have to do.
type Work = (&'static str, fn(&mut Connection));

const NOTHING: Work = ("nothing", |_| {});

const REASONS: [Work; 4] = [
    ("a message", |connection| {
        connection.send(numbered(0)).unwrap();
    }),
    ("a message that is not acknowledged", |connection| {
        connection.send(numbered(0)).unwrap();
        transmitted(connection);
    }),
    ("a question", |connection| {
        connection.keepalive = Some(STAMP);
    }),
    ("a promise", |connection| {
        connection.session.promised = true;
    }),
];

fn with(mut config: Config, policy: Policy) -> Config {
    config.policies = PerPeer::new(policy);
    config
}

/// A session that was dialled.
fn dialled(policy: Policy) -> Connection {
    let server = with(server_config(), Policy::STATEFUL_SERVER);
    let client = with(client_config(), policy);
    Pair::ready(client, server).client.connection
}

/// A session that the peer dialled, who listens or does not.
fn reached(policy: Policy, peer_listens: bool) -> Connection {
    let mut client = with(client_config(), Policy::LOSSLESS_CLIENT);
    if peer_listens {
        client.addrs = EntityAddr::msgr2(client_socket(), 70).into();
    }
    let server = with(server_config(), policy);
    Pair::ready(client, server).server.connection
}

#[track_caller]
fn check(what: &str, connection: &mut Connection, after: AfterFault) {
    let left = connection.state();
    let before = connection.counts();
    assert_eq!(connection.disconnect(), (left, after), "{what} in {left}");
    let state = match after {
        Gone => State::Closed,
        Standby => State::Standby,
        Reconnect | Backoff => State::StartConnect,
    };
    assert_eq!(connection.state(), state, "{what} in {left}");
    // What was laid out may still tell the peer why; messages wait.
    transmitted(connection);
    assert_eq!(connection.counts(), before, "{what} in {left}");
}

#[test]
fn it_has_a_line_for_every_policy() {
    let lines: Vec<_> = TABLE.iter().map(|line| line.policy).collect();
    assert_eq!(lines, Policy::presets().collect::<Vec<_>>());
}

#[test]
fn an_attempt_that_fails() {
    for line in TABLE {
        let states = State::ALL.into_iter().filter(|state| state.is_connecting());
        for state in states {
            let check = |(work, prepare): Work, after| {
                let mut connection = connector(with(client_config(), line.policy));
                prepare(&mut connection);
                connection.stream.state = state;
                check(&format!("{}: {work}", line.policy), &mut connection, after);
            };
            check(NOTHING, line.connecting[0]);
            for work in [REASONS[0], REASONS[2], REASONS[3]] {
                check(work, line.connecting[1]);
            }
        }
    }
}

#[test]
fn a_stream_that_ends() {
    for line in TABLE {
        for make in [dialled, |policy| reached(policy, true)] {
            let check = |(work, prepare): Work, after| {
                let mut connection = make(line.policy);
                prepare(&mut connection);
                check(&format!("{}: {work}", line.policy), &mut connection, after);
            };
            check(NOTHING, line.ready[0]);
            for work in &REASONS[..3] {
                check(*work, line.ready[1]);
            }
        }
    }
}

#[test]
fn a_peer_that_cannot_be_dialled() {
    for line in TABLE {
        let check = |(work, prepare): Work, after| {
            let mut connection = reached(line.policy, false);
            assert_eq!(connection.dials(), None);
            prepare(&mut connection);
            check(&format!("{}: {work}", line.policy), &mut connection, after);
            assert!(!connection.wants_stream());
        };
        check(NOTHING, line.unreachable[0]);
        for work in &REASONS[..3] {
            check(*work, line.unreachable[1]);
        }
    }
}

#[test]
fn a_peer_that_was_waited_for_in_vain() {
    for line in TABLE {
        for (work, prepare) in [NOTHING, REASONS[0]] {
            let mut connection = connector(with(client_config(), line.policy));
            prepare(&mut connection);
            connection.stream.state = State::Wait;
            let what = format!("{}: {work}", line.policy);
            check(&what, &mut connection, line.waited);
        }
    }
}

/// There is no session yet that could be kept.
#[test]
fn a_peer_that_goes_before_it_asks_for_a_session() {
    for line in TABLE {
        let states = End::Acceptor.states().into_iter();
        for state in states.filter(|state| state.is_accepting()) {
            let config = with(server_config(), line.policy);
            let mut connection = End::Acceptor.reach_as(config, Revision::Rev1, state);
            check(&line.policy.to_string(), &mut connection, Gone);
        }
    }
}

#[test]
fn messages_are_kept_for_those_who_come_back() {
    for line in TABLE {
        for make in [dialled, |policy| reached(policy, true)] {
            let mut connection = make(line.policy);
            for _ in 0..3 {
                connection.send(numbered(0)).unwrap();
            }
            transmitted(&mut connection);
            let kept = if line.keeps { 3 } else { 0 };
            assert_eq!(connection.counts().unacknowledged, kept);
            assert_eq!(connection.is_settled(), !line.keeps, "{}", line.policy);
            connection.disconnect();
            assert_eq!(connection.queued() > 0, line.keeps, "{}", line.policy);
        }
    }
}

/// A session that stands by is connected again by whatever it gets to do, unless it is a server's.
#[test]
fn standing_by() {
    for line in TABLE.into_iter().filter(|line| line.ready[0] == Standby) {
        for make in [dialled, |policy| reached(policy, true)] {
            for (work, prepare) in [REASONS[0], REASONS[2], REASONS[3]] {
                let mut connection = make(line.policy);
                connection.disconnect();
                assert!(!connection.wants_stream(), "{}", line.policy);
                prepare(&mut connection);
                let wants = !line.policy.server;
                assert_eq!(connection.wants_stream(), wants, "{}: {work}", line.policy);
            }
        }
    }
}

#[test]
fn a_session_of_no_use_to_anybody() {
    for line in TABLE {
        for (work, prepare) in REASONS {
            let mut connection = dialled(line.policy);
            prepare(&mut connection);
            connection.make_disposable();
            check(work, &mut connection, Gone);
        }
    }
}
