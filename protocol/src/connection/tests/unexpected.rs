//! Every frame in every state where it must not come.

use super::script::{End, banner, feed, is_closed, message_frame, numbered, raw_frame};
use crate::connection::State;
use crate::error::{Cause, Malformed, PeerMisbehaved};
use crate::frame::{PREAMBLE_LEN, Revision};
use crate::wire::{Features, Tag};

/// The frames that may come in a state, from the specification.
fn legal(state: State) -> &'static [Tag] {
    match state {
        State::HelloConnecting | State::HelloAccepting => &[Tag::Hello],
        State::AuthConnecting => &[Tag::AuthBadMethod, Tag::AuthReplyMore, Tag::AuthDone],
        State::AuthAccepting => &[Tag::AuthRequest],
        State::AuthAcceptingMore => &[Tag::AuthRequestMore],
        State::SignConnecting | State::SignAccepting => &[Tag::AuthSignature],
        State::CompressionConnecting => &[Tag::CompressionDone],
        State::CompressionAccepting => &[Tag::CompressionRequest],
        State::SessionConnecting => &[Tag::ServerIdent, Tag::IdentMissingFeatures, Tag::Wait],
        State::SessionReconnecting => &[
            Tag::SessionReconnectOk,
            Tag::SessionReset,
            Tag::SessionRetry,
            Tag::SessionRetryGlobal,
            Tag::Wait,
        ],
        State::SessionAccepting => &[Tag::ClientIdent, Tag::SessionReconnect],
        State::Ready => &[Tag::Message, Tag::Keepalive2, Tag::Keepalive2Ack, Tag::Ack],
        _ => &[],
    }
}

/// Both ends in all states in which frames are read.
fn reading() -> impl Iterator<Item = (End, State)> {
    End::BOTH.into_iter().flat_map(|end| {
        end.states()
            .into_iter()
            .skip(1)
            .map(move |state| (end, state))
    })
}

#[test]
fn states_expect_what_is_legal_and_nothing_else() {
    for state in State::ALL {
        for tag in Tag::ALL {
            assert_eq!(
                state.expects().contains(tag),
                legal(state).contains(tag),
                "{tag} in {state}"
            );
        }
    }
}

#[test]
fn a_frame_in_the_wrong_state_ends_the_connection() {
    let mut refused = 0;
    for revision in [Revision::Rev0, Revision::Rev1] {
        for (end, state) in reading() {
            for tag in Tag::ALL.iter().filter(|tag| !legal(state).contains(tag)) {
                let make = || end.reach_as(end.config(), revision, state);
                let wire = raw_frame(revision, *tag, &end.sound(*tag));
                let cause = PeerMisbehaved::UnexpectedFrame(*tag);
                end.refuses(make, &wire, cause, &format!("unexpected {tag} frame"));
                refused += 1;
            }
        }
    }
    let (tags, states) = (Tag::ALL.len(), 5);
    let legal = [1 + 3 + 1 + 3 + 4, 1 + 1 + 1 + 2 + 4];
    assert_eq!(refused, 2 * (2 * states * tags - legal[0] - legal[1]));
}

#[test]
fn a_frame_in_the_right_state_does_not() {
    for revision in [Revision::Rev0, Revision::Rev1] {
        for (end, state) in reading() {
            for tag in legal(state) {
                let mut connection = end.reach_as(end.config(), revision, state);
                let wire = raw_frame(revision, *tag, &end.sound(*tag));
                match feed(&mut connection, &wire) {
                    Ok(_) => assert_ne!(connection.state(), State::Closed),
                    Err(error) => match tag {
                        // These say that it is over.
                        Tag::AuthBadMethod | Tag::IdentMissingFeatures => {
                            assert!(matches!(error.cause, Cause::PeerIncompatible(_)), "{error}");
                        }
                        // The method none has no further step.
                        tag => {
                            assert_eq!(*tag, Tag::AuthReplyMore);
                            assert_eq!(error.cause, PeerMisbehaved::UnexpectedFrame(*tag).into());
                        }
                    },
                }
            }
        }
    }
}

#[test]
fn a_frame_in_place_of_the_banner_is_no_banner() {
    for end in End::BOTH {
        let state = end.states()[0];
        for tag in Tag::ALL {
            let wire = raw_frame(Revision::Rev1, *tag, &end.sound(*tag));
            let mut connection = end.reach(state);
            let error = feed(&mut connection, &wire).unwrap_err();
            let mut start = [0; 8];
            start.copy_from_slice(&wire[..8]);
            assert_eq!(error.cause, Cause::from(Malformed::Banner(start)));
            assert_eq!(error.state, state);
            is_closed(&mut connection);
        }
    }
}

#[test]
fn a_second_banner_is_no_frame() {
    for (end, state) in reading() {
        let mut connection = end.reach(state);
        let again = banner(Features::default(), Features::default());
        let again = [again, vec![0; 32]].concat();
        let error = feed(&mut connection, &again).unwrap_err();
        assert!(
            error.to_string().contains("bad frame: preamble crc"),
            "{error}"
        );
    }
}

#[test]
fn an_unexpected_message_is_not_collected_first() {
    // Who has not said yet who it is must not make us hold the largest message.
    let mut message = numbered(1);
    message.data = vec![0; 1 << 20].into();
    let wire = message_frame(Revision::Rev1, &message);
    for (end, state) in reading().filter(|(_, state)| *state != State::Ready) {
        let preamble = &wire[..PREAMBLE_LEN];
        let cause = PeerMisbehaved::UnexpectedFrame(Tag::Message);
        let make = || end.reach(state);
        end.refuses(make, preamble, cause, "unexpected MESSAGE frame");
    }
}

#[test]
fn an_unexpected_frame_is_refused_for_what_it_is_even_if_damaged() {
    // The same cause, however much of the frame is there already.
    for (end, state) in reading() {
        let mut wire = raw_frame(Revision::Rev1, Tag::SessionRetry, b"8 bytes.");
        let last = wire.len() - 1;
        wire[last] ^= 1;
        let cause = PeerMisbehaved::UnexpectedFrame(Tag::SessionRetry);
        let text = "unexpected SESSION_RETRY frame";
        end.refuses(|| end.reach(state), &wire, cause, text);
    }
}
