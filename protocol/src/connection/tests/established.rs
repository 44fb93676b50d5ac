//! Messages and signs of life between ends that are ready.

use super::pair::{Chop, Pair};
use super::script::{
    End, STAMP, Told, client_config, feed, frame, message_frame, numbered, raw_frame,
    server_config, session_reconnect, transmitted, transmitted_within,
};
use crate::connection::input::CONTROL_BACKLOG;
use crate::connection::{Connection, Event, State};
use crate::error::{ApiMisuse, Cause, Malformed, PeerMisbehaved};
use crate::frame::{FrameError, Limits, Revision};
use crate::message::{Header, Message};
use crate::wire::{Ack, Features, Keepalive2, Keepalive2Ack, Tag, Timestamp};

/// Messages of all shapes: each payload empty, small, or long enough to straddle buffers.
fn shapes() -> Vec<Message> {
    let sizes = [0, 1, 100, 5000];
    let mut messages = Vec::new();
    for front in sizes {
        for middle in sizes {
            for data in sizes {
                let tid = messages.len() as u64;
                let fill = |len: usize| (0..len).map(|i| (i as u64 * 7 + tid) as u8).collect();
                let payload = |len| Vec::<u8>::into(fill(len));
                messages.push(Message {
                    header: Header {
                        tid,
                        kind: tid as u16 ^ 0x8001,
                        priority: 63,
                        version: 8,
                        compat_version: 3,
                        data_off: 512,
                        ..Header::default()
                    },
                    front: payload(front),
                    middle: payload(middle),
                    data: payload(data),
                });
            }
        }
    }
    messages
}

/// The messages as they must arrive, the first with the number 1.
fn arrived(messages: &[Message], ack_seq: u64) -> Told {
    let numbered = messages.iter().zip(1..).map(|(message, seq)| {
        let mut message = message.clone();
        message.header.seq = seq;
        message.header.ack_seq = ack_seq;
        message
    });
    Told {
        events: vec![Event::Message; messages.len()],
        messages: numbered.collect(),
    }
}

fn send_all(connection: &mut Connection, messages: &[Message]) {
    for message in messages {
        connection.send(message.clone()).unwrap();
    }
}

#[test]
fn messages_of_all_shapes_both_ways() {
    for (supported, data_crc) in [(1, true), (0, true), (1, false), (0, false)] {
        let mut client = client_config();
        let mut server = server_config();
        client.banner.supported = Features(supported);
        (client.data_crc, server.data_crc) = (data_crc, data_crc);
        let mut pair = Pair::ready(client, server);
        let messages = shapes();
        assert_eq!(messages.len(), 64);
        send_all(&mut pair.client.connection, &messages);
        pair.settle(Chop::Every(1 << 12));
        assert_eq!(pair.server.events, arrived(&messages, 0));
        // The answers acknowledge what has come.
        send_all(&mut pair.server.connection, &messages);
        pair.settle(Chop::Every(1 << 12));
        assert_eq!(pair.client.events, arrived(&messages, 64));
    }
}

#[test]
fn messages_that_cross() {
    let mut pair = Pair::ready(client_config(), server_config());
    let messages = &shapes()[..10];
    send_all(&mut pair.client.connection, messages);
    send_all(&mut pair.server.connection, messages);
    pair.settle(Chop::WHOLE);
    assert_eq!(pair.server.events, arrived(messages, 0));
    assert_eq!(pair.client.events, arrived(messages, 0));
}

#[test]
fn cut_anywhere_messages_are_the_same() {
    let messages: Vec<_> = shapes()
        .into_iter()
        .filter(|message| message.payload_len() <= 300)
        .collect();
    assert_eq!(messages.len(), 27);
    for supported in [0, 1] {
        let start = || {
            let mut server = server_config();
            server.banner.supported = Features(supported);
            let mut pair = Pair::ready(client_config(), server);
            for side in [&mut pair.client, &mut pair.server] {
                send_all(&mut side.connection, &messages);
                side.connection.keepalive(STAMP);
            }
            pair
        };
        let expected = {
            let mut told = arrived(&messages, 0);
            told.events.insert(0, Event::KeepaliveAck(STAMP));
            told
        };
        for size in (1..100).chain((100..400).step_by(11)) {
            let mut pair = start();
            pair.settle(Chop::Every(size));
            for side in [&mut pair.client, &mut pair.server] {
                assert!(side.error.is_none());
                // The answer to the keepalive comes behind what was under way before.
                side.events.events.rotate_right(1);
                assert_eq!(side.events, expected, "pieces of {size}");
            }
        }
    }
}

#[test]
fn keepalives_are_echoed() {
    let mut pair = Pair::ready(client_config(), server_config());
    let other = Timestamp {
        sec: u32::MAX,
        nsec: 999_999_999,
    };
    pair.client.connection.keepalive(STAMP);
    pair.server.connection.keepalive(other);
    pair.client.connection.keepalive(other);
    let asked = pair.flight(Chop::WHOLE);
    let question = |stamp| frame(&Keepalive2 { stamp });
    let answer = |stamp| frame(&Keepalive2Ack { stamp });
    assert_eq!(
        asked,
        [[question(STAMP), question(other)].concat(), question(other)]
    );
    let answered = pair.flight(Chop::WHOLE);
    assert_eq!(
        answered,
        [answer(other), [answer(STAMP), answer(other)].concat()]
    );
    let acks = [STAMP, other].map(Event::KeepaliveAck);
    assert_eq!(pair.client.events, acks);
    assert_eq!(pair.server.events.events, acks[1..]);
    assert!(
        pair.flight(Chop::WHOLE).iter().all(Vec::is_empty),
        "answers are not answered"
    );
}

#[test]
fn nobody_is_asked_before_the_handshake_is_over() {
    for end in End::BOTH {
        for state in end.states() {
            let mut connection = end.reach(state);
            transmitted(&mut connection);
            connection.keepalive(STAMP);
            assert_eq!(connection.wants_transmit(), state == State::Ready);
        }
    }
}

#[test]
fn control_frames_overtake_messages_which_keep_their_order() {
    let mut connection = End::Connector.reach(State::Ready);
    let message = |tid| {
        let mut message = numbered(0);
        message.header.tid = tid;
        // Priorities are for the receiver; they change no order here.
        message.header.priority = 255 - tid as u16;
        message
    };
    connection.send(message(1)).unwrap();
    connection.send(message(2)).unwrap();
    connection.keepalive(STAMP);
    connection.send(message(3)).unwrap();
    let on_the_wire = |tid| {
        let mut message = message(tid);
        message.header.seq = tid;
        message_frame(Revision::Rev1, &message)
    };
    let keepalive = frame(&Keepalive2 { stamp: STAMP });
    let expected = [keepalive, on_the_wire(1), on_the_wire(2), on_the_wire(3)];
    assert_eq!(transmitted(&mut connection), expected.concat());
}

#[test]
fn a_budget_stops_between_messages() {
    let mut connection = End::Acceptor.reach(State::Ready);
    let mut message = numbered(0);
    message.data = vec![0; 1000].into();
    let frame_len = message_frame(Revision::Rev1, &message).len();
    for _ in 0..5 {
        connection.send(message.clone()).unwrap();
    }
    let held = connection.queued();
    assert!(
        (5000..10_000).contains(&held),
        "{held} bytes for 5 messages of 1000"
    );
    // A message begun is finished; with nothing allowed nothing is begun.
    for (budget, messages) in [(0, 0), (1, 1), (frame_len, 1), (frame_len + 1, 2)] {
        let before = connection.queued();
        let sent = transmitted_within(&mut connection, budget);
        assert_eq!(sent.len(), messages * frame_len, "{budget} bytes allowed");
        assert_eq!(before - connection.queued(), messages * held / 5);
        assert!(connection.wants_transmit());
    }
    assert_eq!(transmitted(&mut connection).len(), frame_len);
    assert_eq!(connection.queued(), 0);
    assert!(!connection.wants_transmit());
}

#[test]
fn messages_wait_for_the_handshake() {
    for end in End::BOTH {
        for state in end
            .states()
            .into_iter()
            .filter(|state| *state != State::Ready)
        {
            let mut connection = end.reach(state);
            transmitted(&mut connection);
            connection.send(numbered(0)).unwrap();
            assert!(!connection.wants_transmit(), "{state}");
            assert_eq!(transmitted(&mut connection), []);
            assert!(connection.queued() > 0);
        }
    }
}

#[test]
fn what_the_peer_would_refuse_is_not_queued() {
    let mut config = client_config();
    config.limits = Limits {
        front: 10,
        middle: 20,
        data: 30,
        ..Limits::default()
    };
    let mut connection = End::Connector.reach_as(config, Revision::Rev1, State::Ready);
    let message = |front: usize, middle: usize, data: usize| Message {
        front: vec![0; front].into(),
        middle: vec![0; middle].into(),
        data: vec![0; data].into(),
        ..Message::default()
    };
    for (message, part, len, limit, text) in [
        (
            message(11, 0, 0),
            "front",
            11,
            10,
            "front of 11 bytes, the limit is 10",
        ),
        (
            message(0, 21, 0),
            "middle",
            21,
            20,
            "middle of 21 bytes, the limit is 20",
        ),
        (
            message(0, 0, 31),
            "data",
            31,
            30,
            "data of 31 bytes, the limit is 30",
        ),
    ] {
        let misuse = connection.send(message).unwrap_err();
        assert_eq!(misuse, ApiMisuse::PayloadTooLong { part, len, limit });
        assert_eq!(misuse.to_string(), text);
        assert_eq!(connection.queued(), 0);
    }
    connection.send(message(10, 20, 30)).unwrap();
    assert!(connection.wants_transmit());
}

#[test]
fn what_was_received_already_is_dropped() {
    for end in End::BOTH {
        let mut connection = end.reach(State::Ready);
        let mut receive = |seq| {
            let message = numbered(seq);
            let told = feed(&mut connection, &message_frame(Revision::Rev1, &message)).unwrap();
            assert!(told.is_empty() || told.messages == [message]);
            !told.is_empty()
        };
        // 0 is no number at all: the first is 1.
        let told = [0, 1, 1, 0, 2, 1, 2, 3].map(&mut receive);
        assert_eq!(told, [false, true, false, false, true, false, false, true]);
        connection.send(numbered(0)).unwrap();
        let mut answer = numbered(1);
        answer.header.ack_seq = 3;
        assert_eq!(
            transmitted(&mut connection),
            message_frame(Revision::Rev1, &answer)
        );
    }
}

#[test]
fn a_message_that_is_missing() {
    for end in End::BOTH {
        for (last, received) in [(0, 2), (0, u64::MAX), (1, 3)] {
            let make = || {
                let mut connection = end.reach(State::Ready);
                for seq in 1..=last {
                    feed(
                        &mut connection,
                        &message_frame(Revision::Rev1, &numbered(seq)),
                    )
                    .unwrap();
                }
                connection
            };
            end.refuses(
                make,
                &message_frame(Revision::Rev1, &numbered(received)),
                PeerMisbehaved::SequenceGap { last, received },
                &format!("message sequence jumps from {last} to {received}"),
            );
        }
    }
}

/// A message that its sender gave up: zeros from the middle of the data on, and a late status that
/// says so.
fn aborted(revision: Revision, seq: u64) -> Vec<u8> {
    let mut message = numbered(seq);
    message.data = [vec![7; 50], vec![0; 50]].concat().into();
    let mut wire = message_frame(revision, &message);
    let epilogue = match revision {
        Revision::Rev0 => 17,
        Revision::Rev1 => 13,
    };
    let status = wire.len() - epilogue;
    wire[status] = 1;
    wire
}

#[test]
fn a_message_that_was_taken_back() {
    for revision in [Revision::Rev0, Revision::Rev1] {
        for end in End::BOTH {
            let mut connection = end.reach_as(end.config(), revision, State::Ready);
            assert_eq!(feed(&mut connection, &aborted(revision, 1)).unwrap(), []);
            assert_eq!(feed(&mut connection, &aborted(revision, 2)).unwrap(), []);
            // Their numbers are used up.
            let next = message_frame(revision, &numbered(3));
            let told = feed(&mut connection, &next).unwrap();
            assert_eq!(told.messages, [numbered(3)]);
            connection.send(numbered(0)).unwrap();
            let mut answer = numbered(1);
            answer.header.ack_seq = 3;
            assert_eq!(
                transmitted(&mut connection),
                message_frame(revision, &answer)
            );
        }
    }
}

#[test]
fn a_damaged_frame_is_damaged_even_if_it_was_aborted() {
    let mut wire = aborted(Revision::Rev1, 1);
    let len = wire.len();
    wire[len - 13 - 100] ^= 1;
    let mut connection = End::Acceptor.reach(State::Ready);
    let error = feed(&mut connection, &wire).unwrap_err();
    assert!(error.to_string().contains("crc of segment 3"), "{error}");
}

/// Only revision 0 has an epilogue behind a control frame, in which it could be aborted.
#[test]
fn a_control_frame_cannot_be_taken_back() {
    for end in End::BOTH {
        for state in end.states().into_iter().skip(1) {
            for tag in state.expects().iter().filter(|tag| **tag != Tag::Message) {
                let mut wire = raw_frame(Revision::Rev0, *tag, &end.sound(*tag));
                let status = wire.len() - 17;
                wire[status] = 1;
                end.refuses(
                    || end.reach_as(end.config(), Revision::Rev0, state),
                    &wire,
                    PeerMisbehaved::AbortedFrame(*tag),
                    &format!("aborted {tag} frame"),
                );
            }
        }
    }
}

#[test]
fn acknowledgements_change_nothing() {
    for end in End::BOTH {
        let mut connection = end.reach(State::Ready);
        for seq in [0, 1, u64::MAX, 5] {
            assert_eq!(feed(&mut connection, &frame(&Ack { seq })).unwrap(), []);
        }
        assert!(!connection.wants_transmit());
        assert_eq!(connection.state(), State::Ready);
    }
}

#[test]
fn without_checksums_damage_goes_unnoticed() {
    let mut config = server_config();
    config.data_crc = false;
    let mut connection = End::Acceptor.reach_as(config, Revision::Rev1, State::Ready);
    let mut message = numbered(1);
    message.data = vec![1; 100].into();
    let mut wire = message_frame(Revision::Rev1, &message);
    let len = wire.len();
    wire[len - 13 - 100] = 2;
    let told = feed(&mut connection, &wire).unwrap();
    assert_eq!(told.len(), 1);
}

/// To the end that looks it is damage: nothing negotiates checksums.
#[test]
fn ends_that_do_not_agree_on_checksums() {
    let mut client = client_config();
    client.data_crc = false;
    let mut pair = Pair::new(client, server_config());
    pair.settle(Chop::WHOLE);
    let error = pair.server.error.unwrap();
    assert_eq!(error.state, State::HelloAccepting);
    let Cause::Malformed(Malformed::Frame(FrameError::SegmentCrc {
        segment, received, ..
    })) = error.cause
    else {
        panic!("{error}");
    };
    assert_eq!((segment, received), (0, 0));
    assert_eq!(pair.client.events, []);
}

/// Answers wait until we may send them. A peer that asks on and on, and does not read, is given up
/// before they fill our memory.
#[test]
fn a_flood_of_questions() {
    let keepalive = frame(&Keepalive2 { stamp: STAMP });
    let reconnect = frame(&session_reconnect());
    for (state, question, answer_len) in [
        (State::Ready, keepalive, 32 + 8 + 4),
        (State::SessionAccepting, reconnect, 32 + 1 + 4),
    ] {
        let most = CONTROL_BACKLOG / answer_len;
        let flood = question.repeat(most);
        let mut connection = End::Acceptor.reach(state);
        // Who reads the answers may ask for ever.
        assert_eq!(feed(&mut connection, &flood).unwrap(), []);
        assert_eq!(transmitted(&mut connection).len(), most * answer_len);
        assert_eq!(feed(&mut connection, &flood).unwrap(), []);

        let error = feed(&mut connection, &question).unwrap_err();
        let bytes = (most + 1) * answer_len;
        assert_eq!(error.cause, PeerMisbehaved::UnreadAnswers { bytes }.into());
        let peer = End::Acceptor.peer_name(state);
        assert_eq!(
            error.to_string(),
            format!("{peer}: {bytes} bytes of answers are unread (in state {state})")
        );
    }
}
