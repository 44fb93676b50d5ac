//! Streams that were given up, and whose last bytes arrive when the session has gone on over
//! others; and streams that both ends open at once.

use super::peers::{A, B, Peers};
use super::sessions::{LOSSLESS, PEERS, REUSED, heal, is_complete, run, send_all, send_one_more};
use crate::connection::{Event, State};
use crate::error::{Cause, PeerMisbehaved};
use crate::policy::Policy;

/// Which stream is the one that is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// The one that opens the session.
    First,
    /// One that [`A`] resumes the session with.
    Resumed,
}

fn start(policies: [Policy; 2], late: Late) -> (Peers, usize) {
    let mut peers = match late {
        Late::First => Peers::new(policies),
        Late::Resumed => {
            let mut peers = Peers::ready(policies);
            send_all(&mut peers);
            peers.carry(0, B, 150);
            peers.cut(0);
            peers
        }
    };
    let stream = peers.dial(A);
    (peers, stream)
}

#[track_caller]
fn is_complete_after(peers: &mut Peers, what: &str) {
    peers.heal();
    send_one_more(peers);
    peers.heal();
    is_complete(peers, what);
    for error in peers.nodes.iter().flat_map(|node| &node.errors) {
        let late = matches!(
            error,
            Cause::PeerMisbehaved(PeerMisbehaved::AckTakenBack { .. })
        );
        assert!(late, "{what}: {error}");
    }
}

/// Every so many bytes of the stream; `check` tells whether there are more.
fn everywhere(
    pairs: &[[Policy; 2]],
    step: usize,
    check: impl Fn([Policy; 2], Late, usize) -> bool,
) {
    for &policies in pairs {
        for late in [Late::First, Late::Resumed] {
            let mut places = (0..).step_by(step);
            assert!(places.any(|bytes| !check(policies, late, bytes)));
        }
    }
}

/// The connector gives up wherever the acceptor has got to, and comes back by another stream, which
/// is served. Then the rest of the old one arrives.
#[test]
fn a_stream_that_its_connector_gave_up() {
    everywhere(&LOSSLESS, 7, |policies, late, bytes| {
        let (mut peers, stream) = start(policies, late);
        let more = run(&mut peers, stream, B, bytes);
        peers.stall(stream);
        if peers.nodes[A].on == Some(stream) {
            peers.fault(A);
        }
        heal(&mut peers, A);
        let on = peers.nodes[B].on;
        assert!(on.is_some() && on != Some(stream));
        let what = format!("{} {late:?} {bytes}", policies[A]);
        is_complete(&peers, &what);
        let session = peers.nodes[B].session().session;

        peers.release(stream);
        assert_eq!(peers.nodes[B].on, on, "{what}");
        assert_eq!(peers.nodes[B].session().session, session, "{what}");
        is_complete_after(&mut peers, &what);
        assert_eq!(peers.nodes[B].on, on, "{what}");
        more
    });
}

/// The acceptor dials meanwhile, whether the stream was its session's or not, and the rest of the
/// old stream arrives, at either end, wherever the new one has got to. One of them is left.
#[test]
fn a_stream_that_its_acceptor_gave_up() {
    for ahead in (0..700).step_by(50) {
        for to in [A, B] {
            everywhere(&[PEERS, REUSED], 29, |policies, late, bytes| {
                let (mut peers, stream) = start(policies, late);
                let more = run(&mut peers, stream, to, bytes);
                peers.stall(stream);
                if peers.nodes[B].on == Some(stream) {
                    peers.fault(B);
                }
                let node = &peers.nodes[B];
                if node.session.is_none() || node.needs_stream() {
                    let second = peers.dial(B);
                    run(&mut peers, second, A, ahead);
                }
                let what = format!("{} {late:?} {to} {bytes} {ahead}", policies[A]);
                peers.release(stream);
                is_complete_after(&mut peers, &what);
                more
            });
        }
    }
}

/// Both ends dial at once, and either stream may get ahead of the other, or fall back behind it:
/// that of the smaller address wins.
#[test]
fn a_race() {
    for policies in [PEERS, REUSED] {
        for late in [Late::First, Late::Resumed] {
            for (ahead, stalled) in [(A, A), (A, B), (B, A), (B, B)] {
                for bytes in (0..).step_by(5) {
                    let (mut peers, ours) = start(policies, late);
                    let theirs = peers.dial(B);
                    let (stream, to) = [(ours, B), (theirs, A)][ahead];
                    if !run(&mut peers, stream, to, bytes) {
                        break;
                    }
                    let stalled = [ours, theirs][stalled];
                    peers.stall(stalled);
                    peers.settle();
                    peers.release(stalled);
                    let what = format!("{} {late:?} {ahead} {stalled} {bytes}", policies[A]);
                    assert_eq!(peers.nodes[A].on, Some(ours), "{what}");
                    is_complete_after(&mut peers, &what);
                    for node in &peers.nodes {
                        assert!(!node.session().session.promised);
                    }
                }
            }
        }
    }
}

/// A request of ours to resume is late, and the peer has resumed with the same `connect_seq`. It
/// may get its way, unless the peer has acknowledged more by then; nothing is lost or repeated.
#[test]
fn late_with_an_equal_connect_seq() {
    for acknowledged in [false, true] {
        let mut peers = Peers::ready(PEERS);
        send_all(&mut peers);
        peers.cut(0);
        let late = peers.dial(A);
        while peers.nodes[A].session().state() != State::SessionReconnecting {
            peers.carry(late, B, usize::MAX);
            peers.carry(late, A, usize::MAX);
        }
        peers.stall(late);
        peers.fault(A);
        let stream = peers.dial(B);
        let equal = |peers: &Peers| {
            let [a, b] = [A, B].map(|at| peers.nodes[at].session().counts().connect_seq);
            a == b
        };
        while !(peers.nodes[B].told.contains(&Event::Ready) && equal(&peers)) {
            peers.carry(stream, A, usize::MAX);
            peers.carry(stream, B, usize::MAX);
        }
        if acknowledged {
            peers.settle();
        }
        peers.release(late);
        let taken_back = PeerMisbehaved::AckTakenBack { seq: 0, acked: 3 };
        if acknowledged {
            assert_eq!(peers.nodes[B].errors, [taken_back.into()]);
            assert_eq!(peers.nodes[B].on, Some(stream));
        }
        is_complete_after(&mut peers, "the same number");
    }
}
