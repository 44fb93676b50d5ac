//! Sessions that lose their streams: every message arrives once, in order, under its number.

use super::peers::{A, B, Peers};
use super::script::frame;
use crate::connection::{Event, State};
use crate::frame::Revision;
use crate::policy::Policy;
use crate::wire::{Features, SessionReconnect, features};

const CLIENT_AND_SERVER: [Policy; 2] = [Policy::LOSSLESS_CLIENT, Policy::STATEFUL_SERVER];
pub(super) const PEERS: [Policy; 2] = [Policy::LOSSLESS_PEER; 2];
pub(super) const REUSED: [Policy; 2] = [Policy::LOSSLESS_PEER_REUSE; 2];
pub(super) const LOSSLESS: [[Policy; 2]; 3] = [CLIENT_AND_SERVER, PEERS, REUSED];

/// How many messages each end sends.
const MESSAGES: u64 = 3;

/// Sends what an end has not sent yet, if it can.
pub(super) fn send_all(peers: &mut Peers) {
    for node in &mut peers.nodes {
        while node.session.is_some() && node.sent < MESSAGES {
            node.send();
        }
    }
}

pub(super) fn send_one_more(peers: &mut Peers) {
    for node in &mut peers.nodes {
        node.send();
    }
}

/// Lets a stream run until so many bytes have arrived at `to`. Returns whether they have.
pub(super) fn run(peers: &mut Peers, stream: usize, to: usize, bytes: usize) -> bool {
    loop {
        send_all(peers);
        let mut moved = 0;
        for end in [B, A] {
            let left = if end == to {
                bytes - peers.arrived(stream, to)
            } else {
                usize::MAX
            };
            moved += peers.carry(stream, end, left);
        }
        if moved == 0 {
            return peers.arrived(stream, to) == bytes;
        }
    }
}

/// Gives the session a stream again; `first` dials, if it is up to it.
pub(super) fn heal(peers: &mut Peers, first: usize) {
    if peers.nodes[first].needs_stream() {
        peers.dial(first);
    }
    peers.heal();
    send_all(peers);
    peers.heal();
    send_one_more(peers);
    peers.heal();
}

/// Everything was received once, under the number that it was sent as.
#[track_caller]
pub(super) fn is_complete(peers: &Peers, what: &str) {
    let all = |sent| {
        (1..=sent)
            .map(|number| (number, number))
            .collect::<Vec<_>>()
    };
    for at in [A, B] {
        let node = &peers.nodes[at];
        assert_eq!(node.received, all(peers.nodes[1 - at].sent), "{what}");
        assert_eq!(node.session().state(), State::Ready, "{what}");
        assert!(node.session().is_settled(), "{what}");
        assert_eq!(node.session().queued(), 0, "{what}");
        assert!(!node.told.contains(&Event::RemoteReset), "{what}");
    }
    assert_eq!(peers.nodes[A].on, peers.nodes[B].on, "{what}");
    let names = [A, B].map(|at| {
        let session = peers.nodes[at].session().session;
        let (client, server) = (session.client_cookie, session.server_cookie);
        (client, server, session.connect_seq)
    });
    assert_eq!(names[A], names[B], "{what}");
}

/// Every number of bytes that may arrive at either end before the stream is cut, and who dials then.
pub(super) fn cuts(start: impl Fn([Policy; 2]) -> (Peers, usize), step: usize) {
    for policies in LOSSLESS {
        for (to, first) in [(A, A), (A, B), (B, A), (B, B)] {
            for bytes in (0..).step_by(step) {
                let (mut peers, stream) = start(policies);
                let cut = run(&mut peers, stream, to, bytes);
                peers.cut(stream);
                heal(&mut peers, first);
                let what = format!("{} {to} {bytes} {first}", policies[A]);
                is_complete(&peers, &what);
                assert!(peers.nodes.iter().all(|node| node.errors.is_empty()));
                if !cut {
                    break;
                }
            }
        }
    }
}

#[test]
fn the_first_stream_is_cut_anywhere() {
    cuts(
        |policies| {
            let mut peers = Peers::new(policies);
            let stream = peers.dial(A);
            (peers, stream)
        },
        3,
    );
}

/// The first ended when some messages had arrived, and not all of their acknowledgements.
#[test]
fn a_later_stream_is_cut_anywhere() {
    for dials in [A, B] {
        cuts(
            |policies| {
                let mut peers = Peers::ready(policies);
                send_all(&mut peers);
                peers.carry(0, B, 150);
                peers.carry(0, A, 250);
                peers.cut(0);
                let server = peers.nodes[dials].session().policy().server;
                let stream = peers.dial(if server { A } else { dials });
                (peers, stream)
            },
            7,
        );
    }
}

/// Whatever a stream brought, the next goes on from there.
#[test]
fn one_cut_after_the_other() {
    for policies in LOSSLESS {
        for seed in 1..=40 {
            let mut random = seed;
            let mut below = |limit: usize| {
                random = (random * 6_364_136_223_846_793_005_u128 + 1_442_695) % (1 << 64);
                (random >> 40) as usize % limit
            };
            let mut peers = Peers::ready(policies);
            let names = |peers: &Peers| {
                let session = peers.nodes[A].session().session;
                (session.client_cookie, session.server_cookie)
            };
            let before = names(&peers);
            let mut connected = 0;
            for _ in 0..20 {
                for at in [A, B] {
                    (0..below(4)).for_each(|_| peers.nodes[at].send());
                }
                let stream = peers.nodes[A].on.or(peers.nodes[B].on);
                if let Some(stream) = stream {
                    for _ in 0..below(6) {
                        peers.carry(stream, below(2), below(400));
                    }
                    peers.cut(stream);
                }
                let at = below(2);
                let needs = [at, 1 - at].into_iter();
                let mut needs = needs.filter(|at| peers.nodes[*at].needs_stream());
                if let Some(at) = needs.next() {
                    peers.dial(at);
                    connected += 1;
                }
            }
            peers.heal();
            is_complete(&peers, &format!("{} {seed}", policies[A]));
            assert_eq!(names(&peers), before);
            assert!(connected > 10, "{connected} attempts");
        }
    }
}

/// The end that was dialled dials: the names of the session stay what they were.
#[test]
fn the_roles_are_swapped() {
    for policies in [PEERS, REUSED] {
        let mut peers = Peers::ready(policies);
        peers.nodes[A].send();
        peers.settle();
        let before = [A, B].map(|at| peers.nodes[at].session().session);
        assert_eq!(before[A].client_cookie, before[B].client_cookie);
        assert_eq!(before[A].server_cookie, before[B].server_cookie);
        peers.cut(0);
        let stream = peers.dial(B);
        while peers.nodes[B].session().state() != State::SessionReconnecting {
            peers.carry(stream, A, usize::MAX);
            peers.carry(stream, B, usize::MAX);
        }
        let request = SessionReconnect {
            addrs: peers.nodes[B].config.addrs.clone(),
            client_cookie: before[A].client_cookie,
            server_cookie: before[A].server_cookie,
            global_seq: peers.nodes[B].session().session.global_seq,
            connect_seq: 1,
            msg_seq: 1,
        };
        assert!(peers.on_the_way(stream, A).ends_with(&frame(&request)));
        heal(&mut peers, A);
        is_complete(&peers, "swapped");
        let after = peers.nodes[A].session().session;
        assert_eq!(after.client_cookie, before[A].client_cookie);
        assert_eq!(after.server_cookie, before[A].server_cookie);
        assert_eq!(after.connect_seq, 1);
    }
}

/// The new stream brings its own layout; what only the first handshake told is kept.
#[test]
fn what_a_stream_brings_along() {
    for first in [A, B] {
        let mut peers = Peers::new(PEERS);
        peers.nodes[A].config.features.supported = features::MSG_ADDR2;
        peers.dial(A);
        peers.settle();
        let known = [A, B].map(|at| {
            let session = peers.nodes[at].session();
            assert_eq!(session.stream.assembler.layout().revision, Revision::Rev1);
            assert_eq!(session.peer().features, features::MSG_ADDR2);
            session.peer().clone()
        });
        peers.cut(0);
        peers.nodes[first].config.banner.supported = Features::default();
        send_one_more(&mut peers);
        heal(&mut peers, first);
        is_complete(&peers, "in another layout");
        for at in [A, B] {
            let session = peers.nodes[at].session();
            assert_eq!(session.stream.assembler.layout().revision, Revision::Rev0);
            let peer = session.peer();
            assert!(peer.name.is_some());
            assert_eq!(peer.name, known[at].name);
            assert_eq!(peer.features, known[at].features);
            assert_eq!(peer.addrs, known[at].addrs);
            assert_eq!(peer.kind, known[at].kind);
            assert_eq!(peer.lossy, known[at].lossy);
        }
    }
}

#[test]
fn messages_wait_for_a_stream() {
    for policies in LOSSLESS {
        for first in [A, B] {
            let mut peers = Peers::new(policies);
            peers.dial(A);
            peers.nodes[A].send();
            peers.settle();
            peers.cut(0);
            for at in [A, B] {
                peers.nodes[at].send();
                assert_eq!(peers.nodes[at].session().counts().queued, 1);
            }
            heal(&mut peers, first);
            is_complete(&peers, "queued without a stream");
        }
    }
}

/// The peer forgot the session. Unless that matters, what it has not acknowledged is sent in the
/// next one, numbered from 1.
#[test]
fn a_peer_that_was_restarted_dials() {
    for (policies, kept) in [(PEERS, true), (REUSED, false)] {
        let mut peers = Peers::ready(policies);
        peers.nodes[B].send();
        peers.settle();
        peers.nodes[B].send();
        peers.nodes[B].send();
        peers.carry(0, A, 1);
        peers.cut(0);
        peers.nodes[B].send();
        peers.nodes[A].session = None;
        peers.dial(A);
        peers.settle();
        let told: &[Event] = if kept {
            &[Event::Ready]
        } else {
            &[Event::RemoteReset, Event::Ready]
        };
        assert_eq!(peers.nodes[B].told, told);
        peers.nodes[B].send();
        peers.settle();
        let expected: &[(u64, u64)] = if kept {
            &[(1, 1), (2, 1), (3, 2), (4, 3), (5, 4)]
        } else {
            &[(1, 1), (5, 1)]
        };
        assert_eq!(peers.nodes[A].received, expected);
        assert!(peers.nodes[B].session().is_settled());
    }
}

/// The same, but we come to it: it says so by a full reset.
#[test]
fn a_peer_that_was_restarted_is_dialled() {
    for policies in LOSSLESS {
        let mut peers = Peers::ready(policies);
        peers.nodes[A].send();
        peers.settle();
        peers.nodes[A].send();
        peers.carry(0, B, 1);
        peers.cut(0);
        peers.nodes[A].send();
        peers.nodes[B].session = None;
        peers.dial(A);
        peers.settle();
        assert_eq!(peers.nodes[A].told, [Event::RemoteReset, Event::Ready]);
        assert_eq!(peers.nodes[B].told, [Event::Ready]);
        assert_eq!(peers.nodes[A].session().queued(), 0);
        peers.nodes[A].send();
        peers.settle();
        assert_eq!(peers.nodes[B].received, [(1, 1), (4, 1)]);
    }
}

/// `SERVER_IDENT` was lost, and the end that sent it comes back first: it opens the session anew
/// with its queue, numbered from 1. But by its address the other end goes first.
#[test]
fn an_opening_that_was_heard_by_one_end() {
    for policies in [PEERS, REUSED] {
        let mut peers = Peers::new(policies);
        let stream = peers.dial(A);
        while peers.nodes[B].session.is_none() {
            peers.carry(stream, A, usize::MAX);
            peers.carry(stream, B, usize::MAX);
        }
        peers.nodes[B].send();
        peers.nodes[B].send();
        peers.stall(stream);
        peers.cut(stream);
        assert_eq!(peers.nodes[B].session().counts().unacknowledged, 2);
        peers.dial(B);
        heal(&mut peers, A);
        is_complete(&peers, "opened again");
        let told = &peers.nodes[B].told;
        assert_eq!(told, &[Event::Ready, Event::Wait, Event::Ready]);
        assert_eq!(peers.nodes[A].told, [Event::Ready]);
    }
}
