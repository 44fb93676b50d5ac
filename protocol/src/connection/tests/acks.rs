//! Acknowledgements and what they set free, questions that wait for a stream, and messages that
//! wait to be admitted.

use bytes::Bytes;

use super::pair::{Chop, Pair};
use super::script::{
    STAMP, asks, client_config, connector, feed, frame, message_frame, numbered, server_config,
    transmitted, transmitted_within,
};
use crate::config::{Config, PerPeer};
use crate::connection::{AfterFault, Connection, Event, State};
use crate::error::PeerMisbehaved;
use crate::frame::Revision;
use crate::message::Message;
use crate::policy::Policy;
use crate::wire::{Ack, Keepalive2, Keepalive2Ack, Timestamp};

fn with(mut config: Config, policy: Policy) -> Config {
    config.policies = PerPeer::new(policy);
    config
}

fn pair(client: Policy, server: Policy) -> Pair {
    Pair::ready(with(client_config(), client), with(server_config(), server))
}

fn lossless() -> Pair {
    pair(Policy::LOSSLESS_CLIENT, Policy::STATEFUL_SERVER)
}

fn lossy() -> Pair {
    pair(Policy::LOSSY_CLIENT, Policy::STATELESS_SERVER)
}

fn message(len: usize) -> Message {
    Message {
        data: vec![7; len].into(),
        ..numbered(0)
    }
}

/// A message as it arrives.
fn arriving(seq: u64, ack_seq: u64) -> Vec<u8> {
    let mut message = numbered(seq);
    message.header.ack_seq = ack_seq;
    message_frame(Revision::Rev1, &message)
}

fn receive(connection: &mut Connection, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        let told = feed(connection, &arriving(seq, 0)).unwrap();
        assert_eq!(told.len(), 1, "message {seq}");
    }
}

/// However many have come: one frame for all of them, and only once.
#[test]
fn one_frame_acknowledges_everything() {
    let mut server = lossless().server.connection;
    assert!(!server.wants_transmit());
    for (seqs, seq) in [(1..=1, 1), (2..=6, 6), (7..=8, 8)] {
        receive(&mut server, seqs);
        assert!(server.wants_transmit());
        // Also if there is no budget for messages.
        assert_eq!(transmitted_within(&mut server, 0), frame(&Ack { seq }));
        assert!(!server.wants_transmit());
        assert_eq!(transmitted(&mut server), []);
    }
}

#[test]
fn a_message_carries_the_acknowledgement() {
    let mut server = lossless().server.connection;
    receive(&mut server, 1..=3);
    server.send(numbered(0)).unwrap();
    server.send(numbered(0)).unwrap();
    let both = [arriving(1, 3), arriving(2, 3)].concat();
    assert_eq!(transmitted(&mut server), both);
    assert!(!server.wants_transmit());

    // A message for which there is no budget carries nothing.
    receive(&mut server, 4..=4);
    server.send(numbered(0)).unwrap();
    assert_eq!(transmitted_within(&mut server, 0), frame(&Ack { seq: 4 }));
    assert_eq!(transmitted(&mut server), arriving(3, 4));
}

/// Nothing is kept for them, so nobody would use it.
#[test]
fn lossy_sessions_send_no_acknowledgements() {
    let mut server = lossy().server.connection;
    receive(&mut server, 1..=3);
    assert!(!server.wants_transmit());
    assert_eq!(transmitted(&mut server), []);
    // The field is there anyway.
    server.send(numbered(0)).unwrap();
    assert_eq!(transmitted(&mut server), arriving(1, 3));
}

/// A duplicate is no news; that it came once more is not told again.
#[test]
fn a_duplicate_is_not_acknowledged() {
    let mut server = lossless().server.connection;
    receive(&mut server, 1..=2);
    transmitted(&mut server);
    for seq in [1, 2, 0] {
        assert_eq!(feed(&mut server, &arriving(seq, 0)).unwrap(), []);
        assert_eq!(transmitted(&mut server), []);
    }
}

/// Both kinds of acknowledgement, for each number, more than once and out of order.
#[test]
fn what_is_acknowledged_is_set_free() {
    let by_frame = |seq, _| frame(&Ack { seq });
    let by_message = |ack_seq, number| arriving(number, ack_seq);
    let kinds: [fn(u64, u64) -> Vec<u8>; 2] = [by_frame, by_message];
    for acknowledgement in kinds {
        let mut client = lossless().client.connection;
        for _ in 1..=4 {
            client.send(message(1000)).unwrap();
        }
        let one = client.queued() / 4;
        assert!((1000..2000).contains(&one), "{one} bytes for 1000");
        transmitted(&mut client);
        for (number, (seq, left)) in (1..).zip([(0, 4), (1, 3), (1, 3), (3, 1), (2, 1), (4, 0)]) {
            assert!(!client.is_settled());
            feed(&mut client, &acknowledgement(seq, number)).unwrap();
            assert_eq!(client.counts().unacknowledged, left);
            assert_eq!(client.queued(), left * one, "after {seq}");
        }
        assert!(client.is_settled());
        assert_eq!(client.state(), State::Ready);
    }
}

#[test]
fn two_ends_that_talk_hold_nothing_in_the_end() {
    let mut pair = lossless();
    for round in 0..5 {
        for _ in 0..=round {
            pair.client.connection.send(message(10)).unwrap();
            pair.server.connection.send(message(20)).unwrap();
        }
        pair.settle(Chop::WHOLE);
        for side in [&pair.client, &pair.server] {
            assert!(side.error.is_none());
            assert!(side.connection.is_settled());
            assert_eq!(side.connection.queued(), 0);
        }
    }
    assert_eq!(pair.server.events.len(), 15);
}

#[test]
fn lossy_sessions_keep_nothing() {
    let mut client = lossy().client.connection;
    client.send(message(1000)).unwrap();
    assert!(!client.is_settled());
    transmitted(&mut client);
    assert!(client.is_settled());
    assert_eq!(client.queued(), 0);
    assert_eq!(client.counts().unacknowledged, 0);
}

#[test]
fn what_was_never_sent() {
    let acknowledgements = |seq| [frame(&Ack { seq }), arriving(1, seq)];
    for which in [0, 1] {
        for (sent, seq) in [(0, 1), (2, 3), (2, u64::MAX)] {
            let wire = &acknowledgements(seq)[which];
            for mut pair in [lossless(), lossy()] {
                let client = &mut pair.client.connection;
                for _ in 0..sent {
                    client.send(numbered(0)).unwrap();
                }
                transmitted(client);
                // Queued is not sent.
                client.send(numbered(0)).unwrap();
                let told = feed(client, wire);
                if client.policy().lossy {
                    assert_eq!(told.unwrap().len(), which);
                    continue;
                }
                let cause = PeerMisbehaved::AckOfUnsent { seq, last: sent };
                assert_eq!(told.unwrap_err().cause, cause.into());
                assert_eq!(client.disconnect().1, AfterFault::Reconnect);
                assert_eq!(client.counts().unacknowledged as u64, sent);
            }
        }
    }
}

/// A lossless session without a stream keeps the question, the last if there are several. It is
/// a reason to connect.
#[test]
fn a_question_waits_for_a_stream() {
    let mut pair = Pair::new(
        with(client_config(), Policy::LOSSLESS_CLIENT),
        with(server_config(), Policy::STATEFUL_SERVER),
    );
    for sec in [8, 9] {
        let stamp = Timestamp { sec, ..STAMP };
        pair.client.connection.keepalive(stamp);
    }
    let stamp = Timestamp { sec: 9, ..STAMP };
    let [sent, answered] = pair.settle(Chop::WHOLE);
    assert!(sent.ends_with(&frame(&Keepalive2 { stamp })));
    assert!(answered.ends_with(&frame(&Keepalive2Ack { stamp })));
    assert_eq!(
        pair.client.events,
        [Event::Ready, Event::KeepaliveAck(stamp)]
    );
}

#[test]
fn a_lossy_session_without_a_stream_drops_the_question() {
    let mut connection = connector(client_config());
    connection.keepalive(STAMP);
    let mut pair = Pair::new(client_config(), server_config());
    pair.client.connection = connection;
    pair.settle(Chop::WHOLE);
    assert_eq!(pair.client.events, [Event::Ready]);
}

/// Nothing of a message is taken in before it is admitted; each is asked for, once if it is let in.
#[test]
fn messages_wait_to_be_admitted() {
    let mut pair = lossless();
    let server = &mut pair.server.connection;
    let lens = [300, 0, 5000];
    let client = &mut pair.client.connection;
    for len in lens {
        client.send(message(len)).unwrap();
    }
    server.receive(transmitted(client).into());
    for (seq, len) in (1..).zip(lens) {
        for _ in 0..3 {
            assert_eq!(asks(server, 0), (vec![len], None));
        }
        assert_eq!(server.counts().received, seq - 1);
        assert_eq!(server.poll().unwrap(), Some(Event::Message));
        let received = server.take_message();
        assert_eq!((received.header.seq, received.data.len()), (seq, len));
    }
    assert_eq!(server.poll().unwrap(), None);
}

/// The preamble is enough, so that there may be room when the rest comes; and what was let in is
/// not asked for again.
#[test]
fn a_message_is_asked_for_by_its_preamble() {
    let mut pair = lossless();
    pair.client.connection.send(message(5000)).unwrap();
    let wire = transmitted(&mut pair.client.connection);
    let server = &mut pair.server.connection;
    let end = wire.len();
    for (from, to, asked, told) in [
        (0, 31, vec![], None),
        (31, 32, vec![5000], None),
        (32, end - 1, vec![], None),
        (end - 1, end, vec![], Some(Event::Message)),
    ] {
        server.receive(Bytes::copy_from_slice(&wire[from..to]));
        assert_eq!(asks(server, 1), (asked, told), "{to}");
    }
}

/// They come first, and none of them has to be admitted.
#[test]
fn control_frames_need_no_room() {
    let mut pair = lossless();
    let server = &mut pair.server.connection;
    server.send(numbered(0)).unwrap();
    transmitted(server);
    let keepalive = frame(&Keepalive2 { stamp: STAMP });
    server.receive([frame(&Ack { seq: 1 }), keepalive].concat().into());
    assert_eq!(asks(server, 0), (vec![], None));
    assert!(server.is_settled());
    let answer = frame(&Keepalive2Ack { stamp: STAMP });
    assert_eq!(transmitted(server), answer);
}
