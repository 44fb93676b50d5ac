//! What an acceptor makes of a peer that asks for a session: its two decision lists, row by row,
//! against every combination of what they look at.
//!
//! Source: `handle_existing_connection` and `handle_reconnect` in Ceph's
//! `src/msg/async/ProtocolV2.cc`.

mod case;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::script::{client_ident, feed, frame, server_ident, session_reconnect, transmitted};
use crate::connection::session::Session;
use crate::connection::{Event, Meeting, State};
use crate::error::PeerMisbehaved;
use crate::policy::Policy;
use crate::wire::{
    ServerIdent, SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry,
    SessionRetryGlobal, Wait, ident_flags,
};

use case::{
    ACKNOWLEDGED, CONNECT_SEQ, Case, NEXT, Names, OUR_PLACE, PEERS_PLACE, RECEIVED, SENT, ask,
    known, newcomer, unheard,
};

/// What the peer hears, and what happens to the known session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// `SERVER_IDENT`; the newcomer is on its own.
    Opened,
    /// `SERVER_IDENT`; the known session begins anew with its queue, or without.
    Renewed { forgotten: bool },
    /// `SESSION_RECONNECT_OK`; the known session goes on.
    Resumed,
    /// WAIT.
    Waits,
    /// Nothing.
    Stale,
    /// `SESSION_RESET`.
    Reset { full: bool },
    /// `SESSION_RETRY`.
    Retry,
    /// `SESSION_RETRY_GLOBAL`.
    RetryGlobal,
}

impl Answer {
    fn meeting(self, case: &Case) -> Meeting {
        match self {
            Self::Reset { full: false } if case.is_connecting() => Meeting::Outrun,
            Self::Opened => Meeting::Opened,
            Self::Renewed { forgotten } => Meeting::TakenOver {
                remote_reset: forgotten,
            },
            Self::Resumed => Meeting::TakenOver {
                remote_reset: false,
            },
            Self::Waits => Meeting::Waits,
            Self::Stale => Meeting::Stale,
            Self::Reset { .. } | Self::Retry | Self::RetryGlobal => Meeting::AsksAgain,
        }
    }

    /// All that is transmitted: what is left of the queue comes after the answer.
    fn wire(self, policy: Policy) -> Vec<u8> {
        let ident = frame(&ServerIdent {
            global_seq: OUR_PLACE,
            flags: ident_flags::of(policy.lossy),
            cookie: if policy.lossy { 0 } else { NEXT },
            ..server_ident()
        });
        match self {
            Self::Opened | Self::Renewed { forgotten: true } => ident,
            Self::Renewed { forgotten: false } => [ident, unheard(1, 0)].concat(),
            Self::Resumed => {
                let ok = frame(&SessionReconnectOk { msg_seq: RECEIVED });
                [ok, unheard(SENT, RECEIVED)].concat()
            }
            Self::Waits => frame(&Wait),
            Self::Stale => Vec::new(),
            Self::Reset { full } => frame(&SessionReset { full }),
            Self::Retry => frame(&SessionRetry {
                connect_seq: CONNECT_SEQ,
            }),
            Self::RetryGlobal => frame(&SessionRetryGlobal {
                global_seq: PEERS_PLACE,
            }),
        }
    }
}

/// The session's names and numbers must be these now.
fn session_after(answer: Answer, case: &Case, before: Session) -> Session {
    match answer {
        Answer::Opened | Answer::Renewed { .. } => Session {
            client_cookie: case.open().cookie,
            server_cookie: if case.policy.lossy { 0 } else { NEXT },
            global_seq: OUR_PLACE,
            peer_global_seq: case.open().global_seq,
            connect_seq: 0,
            promised: false,
        },
        Answer::Resumed => Session {
            peer_global_seq: case.resume().global_seq,
            connect_seq: case.resume().connect_seq,
            promised: false,
            ..before
        },
        Answer::Waits => Session {
            promised: true,
            ..before
        },
        _ => before,
    }
}

#[track_caller]
fn check(row: &str, case: &Case, request: &[u8], answer: Answer) {
    let mut newcomer = ask(case, request);
    let mut known = known(case);
    let before = known.clone();
    let meeting = newcomer.meet(known.as_mut(), OUR_PLACE).unwrap();
    assert_eq!(meeting, answer.meeting(case), "{row}: {case:?}");

    let taken_over = matches!(meeting, Meeting::TakenOver { .. });
    let speaker = if taken_over {
        known.as_mut().unwrap()
    } else {
        &mut newcomer
    };
    let wire = transmitted(speaker);
    assert!(wire == answer.wire(case.policy), "{row}: {case:?}");
    if let Answer::Opened = answer {
        let session = session_after(answer, case, Session::default());
        assert_eq!(newcomer.session, session, "{row}: {case:?}");
        assert_eq!(newcomer.state(), State::Ready);
    } else if let (Some(known), Some(before)) = (&known, &before) {
        let session = session_after(answer, case, before.session);
        assert_eq!(known.session, session, "{row}: {case:?}");
    }
    if taken_over {
        assert_eq!(newcomer.state(), State::Closed);
        assert_eq!(known.unwrap().state(), State::Ready);
    } else if let (Some(known), Some(before)) = (known, before) {
        assert_eq!(known.counts(), before.counts(), "{row}: {case:?}");
        assert_eq!(known.state(), before.state(), "{row}: {case:?}");
    }
}

/// The first row that holds decides.
type Row = (&'static str, fn(&Case) -> bool, Answer);

fn check_list(list: &[Row], request: impl Fn(&Case) -> Vec<u8>) {
    let mut used = BTreeSet::new();
    for case in Case::all() {
        let (row, _, answer) = list.iter().find(|(_, holds, _)| holds(&case)).unwrap();
        check(row, &case, &request(&case), *answer);
        used.insert(*row);
    }
    assert_eq!(used.len(), list.len(), "only {used:?}");
}

/// Three things differ from Ceph. Ceph 20.2 takes an early place with another cookie for a restarted
/// peer's, if the session is neither READY nor in STANDBY; so is a late echo of an attempt that the
/// peer gave up, which is stale here. And Ceph's own attempt wins in every state but these two, even
/// if there is none, but gives way to a request with the same cookie; here it wins if it is under way
/// or may have reached the peer, whatever the cookies.
const ON_CLIENT_IDENT: &[Row] = &[
    ("no session", |case| case.state.is_none(), Answer::Opened),
    (
        "one that has ended",
        |case| case.state == Some(State::Closed),
        Answer::Opened,
    ),
    (
        "the request is older",
        |case| case.place == Ordering::Less,
        Answer::Stale,
    ),
    (
        "a lossy one gives way",
        |case| case.policy.lossy,
        Answer::Opened,
    ),
    (
        "the peer forgot it, which matters",
        |case| case.names == Names::Open { same: false } && case.policy.reset_check,
        Answer::Renewed { forgotten: true },
    ),
    (
        "the peer forgot it",
        |case| case.names == Names::Open { same: false },
        Answer::Renewed { forgotten: false },
    ),
    (
        // Ceph does not look whether anything has gone through.
        "the peer forgot what it has been through, which matters",
        |case| case.names == Names::Open { same: true } && case.policy.reset_check,
        Answer::Renewed { forgotten: true },
    ),
    (
        "the peer forgot what it has been through",
        |case| case.names == Names::Open { same: true },
        Answer::Renewed { forgotten: false },
    ),
    (
        "a race that the peer wins by its address",
        |case| case.peer_first,
        Answer::Renewed { forgotten: false },
    ),
    (
        "a race that a server always loses",
        |case| case.policy.server,
        Answer::Renewed { forgotten: false },
    ),
    (
        "our attempt is under way, and wins",
        Case::is_connecting,
        Answer::Waits,
    ),
    (
        "it failed, but its CLIENT_IDENT may get through",
        |case| matches!(case.names, Names::Asked { .. }),
        Answer::Waits,
    ),
    (
        "we never asked",
        |_| true,
        Answer::Renewed { forgotten: false },
    ),
];

#[test]
fn a_peer_that_opens_a_session() {
    check_list(ON_CLIENT_IDENT, |case| frame(&case.open()));
}

const ON_SESSION_RECONNECT: &[Row] = &[
    (
        "no session",
        |case| case.state.is_none(),
        Answer::Reset { full: true },
    ),
    (
        "one that has ended",
        |case| case.state == Some(State::Closed),
        Answer::Reset { full: true },
    ),
    (
        // Where Ceph sees another cookie. Nothing is left of the peer's session.
        "a lossy one",
        |case| case.policy.lossy,
        Answer::Reset { full: true },
    ),
    (
        "another one, which matters",
        |case| !case.names.is_same() && case.policy.reset_check,
        Answer::Reset { full: true },
    ),
    (
        "another one",
        |case| !case.names.is_same(),
        Answer::Reset { full: false },
    ),
    (
        "we never heard that it was opened",
        |case| !case.names.is_open(),
        Answer::Reset { full: false },
    ),
    (
        "an earlier place",
        |case| case.place == Ordering::Less,
        Answer::RetryGlobal,
    ),
    (
        "an earlier connection",
        |case| case.connect_seq == Ordering::Less,
        Answer::Retry,
    ),
    (
        "a race that we win",
        |case| {
            let race = case.connect_seq == Ordering::Equal && case.is_connecting();
            race && case.we_win()
        },
        Answer::Waits,
    ),
    ("the session goes on", |_| true, Answer::Resumed),
];

#[test]
fn a_peer_that_resumes_a_session() {
    check_list(ON_SESSION_RECONNECT, |case| frame(&case.resume()));
}

/// The peer has the session from a late echo of the request that opened ours: it is not the same.
/// If anything has gone through, the peer knew ours, and has forgotten it. Ceph does not look.
#[test]
fn a_peer_that_resumes_a_session_of_another_opening() {
    for policy in [Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER_REUSE] {
        for used in [true, false] {
            let case = Case {
                policy,
                state: Some(State::Ready),
                names: Names::Open { same: true },
                place: Ordering::Greater,
                connect_seq: Ordering::Greater,
                peer_first: true,
            };
            let request = SessionReconnect {
                server_cookie: NEXT,
                ..case.resume()
            };
            let mut known = known(&case).unwrap();
            if !used {
                known.messages.restart();
            }
            let mut newcomer = ask(&case, &frame(&request));
            let meeting = newcomer.meet(Some(&mut known), OUR_PLACE).unwrap();
            assert_eq!(meeting, Meeting::AsksAgain);
            let full = used && policy.reset_check;
            assert_eq!(transmitted(&mut newcomer), frame(&SessionReset { full }));
            assert_eq!(known.state(), State::Ready);
        }
    }
}

/// How many there are of a peer does not matter to a server without a register.
#[test]
fn a_server_that_remembers_nobody() {
    for policy in Policy::presets().filter(|policy| !policy.is_registered()) {
        let mut connection = newcomer(policy);
        let reset = frame(&SessionReset { full: true });
        assert_eq!(
            feed(&mut connection, &frame(&session_reconnect())).unwrap(),
            []
        );
        assert_eq!(transmitted(&mut connection), reset);
        connection.receive(frame(&client_ident()).into());
        assert_eq!(connection.poll().unwrap(), Some(Event::Ready));
    }
}

/// What a peer cannot have received, or has acknowledged already, ends its attempt and nothing else.
#[test]
fn a_peer_that_resumes_where_it_cannot_be() {
    let (last, acked) = (SENT, ACKNOWLEDGED);
    for (msg_seq, refusal) in [
        (0, Some(PeerMisbehaved::AckTakenBack { seq: 0, acked })),
        (1, Some(PeerMisbehaved::AckTakenBack { seq: 1, acked })),
        (2, None),
        (3, None),
        (4, Some(PeerMisbehaved::AckOfUnsent { seq: 4, last })),
        (
            u64::MAX,
            Some(PeerMisbehaved::AckOfUnsent {
                seq: u64::MAX,
                last,
            }),
        ),
    ] {
        let case = Case {
            policy: Policy::STATEFUL_SERVER,
            state: Some(State::Ready),
            names: Names::Open { same: true },
            place: Ordering::Greater,
            connect_seq: Ordering::Greater,
            peer_first: true,
        };
        let request = SessionReconnect {
            msg_seq,
            ..case.resume()
        };
        let mut newcomer = ask(&case, &frame(&request));
        let mut known = known(&case).unwrap();
        let before = known.clone();
        let met = newcomer.meet(Some(&mut known), OUR_PLACE);
        let Some(refusal) = refusal else {
            assert!(met.is_ok(), "resumes after {msg_seq}");
            assert_eq!(known.counts().unacknowledged as u64, SENT - msg_seq);
            continue;
        };
        assert_eq!(met.unwrap_err().cause, refusal.into());
        assert_eq!(newcomer.state(), State::Closed);
        assert_eq!(known.state(), State::Ready);
        assert_eq!(known.session, before.session);
        assert_eq!(known.counts(), before.counts());
    }
}
