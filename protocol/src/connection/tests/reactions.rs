//! What a connector makes of the answers to its request for a session.

use std::sync::Arc;

use super::script::{
    End, banner, client_config, client_ident, client_socket, connector, feed, frame, message_frame,
    numbered, opening, raw_frame, server_config, server_ident, server_socket, transmitted,
};
use crate::config::{Config, PerPeer};
use crate::connection::{AfterFault, Connection, Event, State};
use crate::error::{Cause, PeerIncompatible, PeerMisbehaved};
use crate::frame::Revision;
use crate::policy::Policy;
use crate::wire::{
    Ack, ClientIdent, Features, IdentMissingFeatures, ServerIdent, SessionReconnect,
    SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Tag, Wait, features,
    ident_flags,
};

/// The place of the attempt that opened the session, and of the one that resumes it.
const FIRST: u64 = 1;
const SECOND: u64 = 5;
/// The acceptor's name for the session.
const GIVEN: u64 = 0xc;
/// What the session has come to: one message is acknowledged, two are not, one is queued.
const RECEIVED: u64 = 2;
const ACKED: u64 = 1;
const SENT: u64 = 3;

fn config() -> Config {
    let mut config = client_config();
    config.policies = PerPeer::new(Policy::LOSSLESS_CLIENT);
    config
}

fn ident() -> ClientIdent {
    ClientIdent {
        global_seq: FIRST,
        flags: 0,
        cookie: opening(FIRST).cookie,
        ..client_ident()
    }
}

fn lossless_server() -> ServerIdent {
    ServerIdent {
        flags: 0,
        cookie: GIVEN,
        ..server_ident()
    }
}

fn resumption() -> SessionReconnect {
    SessionReconnect {
        addrs: ident().addrs,
        client_cookie: opening(FIRST).cookie,
        server_cookie: GIVEN,
        global_seq: SECOND,
        connect_seq: 1,
        msg_seq: RECEIVED,
    }
}

/// Brings a connector to where it asks for a session. Returns its request.
fn authenticate(connection: &mut Connection) -> Vec<u8> {
    let banner = banner(features::REVISION_1, Features::default());
    let tags = [Tag::Hello, Tag::AuthDone, Tag::AuthSignature].into_iter();
    let frames = tags.map(|tag| raw_frame(Revision::Rev1, tag, &End::Connector.sound(tag)));
    for bytes in [banner].into_iter().chain(frames) {
        transmitted(connection);
        assert_eq!(feed(connection, &bytes).unwrap(), []);
    }
    transmitted(connection)
}

/// A lossless connector that has asked for its first session.
fn opening_session() -> Connection {
    let mut connection = connector(config());
    assert_eq!(authenticate(&mut connection), frame(&ident()));
    connection
}

fn send(connection: &mut Connection, tid: u64) {
    let mut message = numbered(0);
    message.header.tid = tid;
    connection.send(message).unwrap();
}

/// The messages from `tid` to the last, as they are laid out.
fn messages(tid: u64, first_seq: u64, ack_seq: u64) -> Vec<u8> {
    let numbers = (first_seq..).zip(tid..=SENT + 1);
    let messages = numbers.map(|(seq, tid)| {
        let mut message = numbered(seq);
        (message.header.tid, message.header.ack_seq) = (tid, ack_seq);
        message_frame(Revision::Rev1, &message)
    });
    messages.collect::<Vec<_>>().concat()
}

/// A session whose first stream ended. It has asked to go on over its second.
fn resuming() -> Connection {
    let mut connection = opening_session();
    let ready = feed(&mut connection, &frame(&lossless_server())).unwrap();
    assert_eq!(ready, [Event::Ready]);
    for tid in 1..=SENT {
        send(&mut connection, tid);
    }
    transmitted(&mut connection);
    for seq in 1..=RECEIVED {
        let message = message_frame(Revision::Rev1, &numbered(seq));
        feed(&mut connection, &message).unwrap();
    }
    feed(&mut connection, &frame(&Ack { seq: ACKED })).unwrap();
    send(&mut connection, SENT + 1);
    assert_eq!(
        connection.disconnect(),
        (State::Ready, AfterFault::Reconnect)
    );
    assert_eq!(come_back(&mut connection, SECOND), frame(&resumption()));
    assert_eq!(connection.state(), State::SessionReconnecting);
    connection
}

fn come_back(connection: &mut Connection, place: u64) -> Vec<u8> {
    let sockets = (client_socket(), server_socket());
    connection.reconnect(Arc::new(config()), sockets, opening(place));
    authenticate(connection)
}

/// RETRY and `RETRY_GLOBAL` ask for the same request with other numbers, as often as they come.
#[test]
fn asked_to_ask_again() {
    let mut connection = resuming();
    let mut expected = resumption();
    for theirs in [1, 9, 3, (1 << 63) - 1] {
        let retry = frame(&SessionRetry {
            connect_seq: theirs,
        });
        assert_eq!(feed(&mut connection, &retry).unwrap(), []);
        expected.connect_seq = theirs + 1;
        assert_eq!(transmitted(&mut connection), frame(&expected));
        assert_eq!(connection.counts().connect_seq, expected.connect_seq);
    }
    let retry = frame(&SessionRetryGlobal { global_seq: 30 });
    let told = feed(&mut connection, &retry).unwrap();
    assert_eq!(told, [Event::RetryGlobal { above: 30 }]);
    assert_eq!(transmitted(&mut connection), []);
    connection.retry(34);
    expected.global_seq = 34;
    assert_eq!(transmitted(&mut connection), frame(&expected));
    assert_eq!(connection.state(), State::SessionReconnecting);
    connection.retry(35);
    feed(
        &mut connection,
        &frame(&SessionReconnectOk { msg_seq: ACKED }),
    )
    .unwrap();
    transmitted(&mut connection);
    connection.retry(36);
    assert_eq!(
        transmitted(&mut connection),
        [],
        "there is nothing to retry"
    );
}

/// A peer must not bring our counters to their end.
#[test]
fn asked_to_count_on_from_the_end() {
    for theirs in [1 << 63, u64::MAX] {
        for retry in [
            frame(&SessionRetry {
                connect_seq: theirs,
            }),
            frame(&SessionRetryGlobal { global_seq: theirs }),
        ] {
            let error = feed(&mut resuming(), &retry).unwrap_err();
            let cause = PeerMisbehaved::SequenceExhausted(theirs);
            assert_eq!(error.cause, Cause::from(cause));
            assert_eq!(error.state, State::SessionReconnecting);
        }
    }
}

/// The acceptor has no such session, but that is no reason to drop what waits for it.
#[test]
fn a_reset_that_keeps_the_queue() {
    let mut connection = resuming();
    let reset = frame(&SessionReset { full: false });
    assert_eq!(feed(&mut connection, &reset).unwrap(), []);
    let expected = ClientIdent {
        global_seq: SECOND,
        ..ident()
    };
    assert_eq!(transmitted(&mut connection), frame(&expected));
    assert_eq!(connection.state(), State::SessionConnecting);
    let counts = connection.counts();
    assert_eq!((counts.queued, counts.unacknowledged), (3, 0));
    assert_eq!(
        (counts.sent, counts.received, counts.connect_seq),
        (0, 0, 0)
    );

    let ready = feed(&mut connection, &frame(&lossless_server())).unwrap();
    assert_eq!(ready, [Event::Ready]);
    assert_eq!(transmitted(&mut connection), messages(ACKED + 1, 1, 0));
    assert_eq!(connection.take_replayed(), 2);
    // Its numbers begin anew as well.
    let first = feed(
        &mut connection,
        &message_frame(Revision::Rev1, &numbered(1)),
    );
    assert_eq!(first.unwrap().messages, [numbered(1)]);
}

#[test]
fn a_reset_that_drops_the_queue() {
    let mut connection = resuming();
    let reset = frame(&SessionReset { full: true });
    assert_eq!(feed(&mut connection, &reset).unwrap(), [Event::RemoteReset]);
    let expected = ClientIdent {
        global_seq: SECOND,
        cookie: opening(SECOND).cookie,
        ..ident()
    };
    assert_eq!(transmitted(&mut connection), frame(&expected));
    assert_eq!(connection.queued(), 0);
    // What is sent from now on belongs to the new session.
    send(&mut connection, SENT + 1);
    feed(&mut connection, &frame(&lossless_server())).unwrap();
    assert_eq!(transmitted(&mut connection), messages(SENT + 1, 1, 0));
    assert_eq!(connection.take_replayed(), 0);
}

/// WAIT ends the stream; if nothing comes of the acceptor's own, the connector comes back.
#[test]
fn told_to_wait() {
    for make in [opening_session, resuming] {
        let mut connection = make();
        let before = connection.counts();
        let wait = [frame(&Wait), frame(&server_ident())].concat();
        assert_eq!(feed(&mut connection, &wait).unwrap(), [Event::Wait]);
        assert_eq!(connection.state(), State::Wait);
        send(&mut connection, 9);
        assert!(!connection.wants_transmit());
        assert_eq!(connection.counts().queued, before.queued + 1);
        let again = come_back(&mut connection, 7);
        let expected = if before.connect_seq == 0 {
            frame(&ClientIdent {
                global_seq: 7,
                ..ident()
            })
        } else {
            frame(&SessionReconnect {
                global_seq: 7,
                connect_seq: before.connect_seq + 1,
                ..resumption()
            })
        };
        assert_eq!(again, expected);
    }
}

/// The acceptor tells what it received; the rest is sent again under the same numbers.
#[test]
fn the_session_goes_on() {
    for msg_seq in ACKED..=SENT {
        let mut connection = resuming();
        let ok = frame(&SessionReconnectOk { msg_seq });
        assert_eq!(feed(&mut connection, &ok).unwrap(), [Event::Ready]);
        let counts = connection.counts();
        assert_eq!(counts.unacknowledged as u64, SENT - msg_seq);
        let rest = messages(msg_seq + 1, msg_seq + 1, RECEIVED);
        assert_eq!(transmitted(&mut connection), rest, "after {msg_seq}");
        assert_eq!(connection.take_replayed(), SENT - msg_seq);
    }
}

#[test]
fn the_session_cannot_go_on_from_there() {
    let (acked, last) = (ACKED, SENT);
    for (seq, cause) in [
        (0, PeerMisbehaved::AckTakenBack { seq: 0, acked }),
        (4, PeerMisbehaved::AckOfUnsent { seq: 4, last }),
        (
            u64::MAX,
            PeerMisbehaved::AckOfUnsent {
                seq: u64::MAX,
                last,
            },
        ),
    ] {
        let mut connection = resuming();
        let ok = frame(&SessionReconnectOk { msg_seq: seq });
        let error = feed(&mut connection, &ok).unwrap_err();
        assert_eq!(error.cause, cause.into());
        let after = (State::SessionReconnecting, AfterFault::Backoff);
        assert_eq!(connection.disconnect(), after);
        assert_eq!(connection.counts().unacknowledged as u64, SENT - ACKED);
    }
}

/// The connector tries again later: the acceptor may have become older, or ourselves newer.
#[test]
fn features_that_are_missing() {
    let mut connection = opening_session();
    send(&mut connection, 1);
    let features = Features(1 << 62);
    let missing = frame(&IdentMissingFeatures { features });
    let error = feed(&mut connection, &missing).unwrap_err();
    assert_eq!(
        error.cause,
        PeerIncompatible::WeLackFeatures(features).into()
    );
    let after = (State::SessionConnecting, AfterFault::Backoff);
    assert_eq!(connection.disconnect(), after);
    assert_eq!(connection.counts().queued, 1);
    let again = ClientIdent {
        global_seq: 8,
        ..ident()
    };
    assert_eq!(come_back(&mut connection, 8), frame(&again), "same cookie");
}

/// The server knows better whether it will remember us.
#[test]
fn a_lossy_server() {
    let mut connection = opening_session();
    send(&mut connection, 1);
    assert_eq!(server_ident().flags, ident_flags::LOSSY);
    feed(&mut connection, &frame(&server_ident())).unwrap();
    assert!(connection.policy().lossy);
    assert!(!transmitted(&mut connection).is_empty());
    assert_eq!(connection.queued(), 0, "nothing is kept");
    assert_eq!(connection.disconnect(), (State::Ready, AfterFault::Gone));
}

/// Who will not come back gets nothing that waits for it.
#[test]
fn a_lossy_client() {
    let mut config = server_config();
    config.policies = PerPeer::new(Policy::STATEFUL_SERVER);
    let mut acceptor = End::Acceptor.reach_as(config, Revision::Rev1, State::SessionAccepting);
    assert_eq!(client_ident().flags, ident_flags::LOSSY);
    feed(&mut acceptor, &frame(&client_ident())).unwrap();
    let lossy = ServerIdent {
        global_seq: 2,
        ..server_ident()
    };
    assert_eq!(transmitted(&mut acceptor), frame(&lossy));
    assert_eq!(acceptor.disconnect(), (State::Ready, AfterFault::Gone));
}

#[test]
fn a_lossless_session_without_a_name() {
    let mut config = server_config();
    config.policies = PerPeer::new(Policy::STATEFUL_SERVER);
    let mut acceptor = End::Acceptor.reach_as(config, Revision::Rev1, State::SessionAccepting);
    let nameless = frame(&ClientIdent {
        cookie: 0,
        ..ident()
    });
    let error = feed(&mut acceptor, &nameless).unwrap_err();
    assert_eq!(error.cause, PeerMisbehaved::NoCookie.into());
    assert!(
        error
            .to_string()
            .contains("a lossless session without a cookie"),
        "{error}"
    );
    assert_eq!(acceptor.disconnect().1, AfterFault::Gone);

    let nameless = frame(&ServerIdent {
        cookie: 0,
        ..lossless_server()
    });
    let mut connector = opening_session();
    let error = feed(&mut connector, &nameless).unwrap_err();
    assert_eq!(error.cause, PeerMisbehaved::NoCookie.into());
    assert_eq!(connector.disconnect().1, AfterFault::Backoff);
}
