//! Control frames whose payload is too short, or longer than we know.

use super::script::{End, auth_request, feed, frame, raw_frame, transmitted};
use crate::connection::State;
use crate::error::{Cause, Malformed};
use crate::frame::Revision;
use crate::wire::{self, AuthRequest, Tag};

/// Every control frame that is read, with the end and the state that read it.
fn control_frames() -> impl Iterator<Item = (End, State, Tag)> {
    End::BOTH.into_iter().flat_map(|end| {
        end.states().into_iter().flat_map(move |state| {
            let tags = state.expects().iter().copied();
            tags.filter(|tag| *tag != Tag::Message)
                .map(move |tag| (end, state, tag))
        })
    })
}

#[test]
fn a_short_payload_is_malformed_wherever_it_ends() {
    for (end, state, tag) in control_frames() {
        let payload = end.sound(tag);
        for len in 0..payload.len() {
            let mut connection = end.reach(state);
            let wire = raw_frame(Revision::Rev1, tag, &payload[..len]);
            let error = feed(&mut connection, &wire).unwrap_err();
            let Cause::Malformed(Malformed::Payload { tag: named, source }) = &error.cause else {
                panic!("{tag} cut at {len}: {error}");
            };
            assert_eq!(*named, tag);
            assert!(
                matches!(source, wire::Malformed::Truncated { .. }),
                "{error}"
            );
            let peer = end.peer_name(state);
            assert_eq!(
                error.to_string(),
                format!("{peer}: bad {tag} frame: {source} (in state {state})")
            );
            assert_eq!(connection.state(), State::Closed);
            assert_eq!(transmitted(&mut connection), [], "nothing is answered");
        }
    }
}

#[test]
fn no_frame_is_forgotten_here() {
    let mut read: Vec<_> = control_frames().map(|(_, _, tag)| tag.name()).collect();
    read.sort_unstable();
    read.dedup();
    let expected = [
        "ACK",
        "AUTH_BAD_METHOD",
        "AUTH_DONE",
        "AUTH_REPLY_MORE",
        "AUTH_REQUEST",
        "AUTH_SIGNATURE",
        "CLIENT_IDENT",
        "HELLO",
        "IDENT_MISSING_FEATURES",
        "KEEPALIVE2",
        "KEEPALIVE2_ACK",
        "SERVER_IDENT",
        "SESSION_RECONNECT",
        "WAIT",
    ];
    assert_eq!(read, expected);
}

/// The method's own bytes within `AUTH_REQUEST`.
#[test]
fn a_short_claim_is_malformed_wherever_it_ends() {
    let request = auth_request();
    // Nothing at all claims nothing: Ceph's own messenger tests log in like that.
    for len in 1..request.payload.len() {
        let request = AuthRequest {
            payload: request.payload.slice(..len),
            ..request.clone()
        };
        let mut connection = End::Acceptor.reach(State::AuthAccepting);
        let error = feed(&mut connection, &frame(&request)).unwrap_err();
        assert!(
            matches!(
                error.cause,
                Cause::Malformed(Malformed::Payload {
                    tag: Tag::AuthRequest,
                    source: wire::Malformed::Truncated { .. },
                })
            ),
            "cut at {len}: {error}"
        );
    }
    for (payload, global_id) in [
        (request.payload.to_vec(), 4112),
        ([&request.payload[..], b"and more"].concat(), 4112),
        // Whoever claims no id gets one: here, our place in the sequence of connections.
        (Vec::new(), 2),
    ] {
        let request = AuthRequest {
            payload: payload.into(),
            ..request.clone()
        };
        let mut connection = End::Acceptor.reach(State::AuthAccepting);
        feed(&mut connection, &frame(&request)).unwrap();
        assert_eq!(connection.peer().global_id, global_id);
    }
}

#[test]
fn what_follows_a_payload_is_left_to_later_versions() {
    for (end, state, tag) in control_frames() {
        let outcome = |tail: &[u8]| {
            let mut connection = end.reach(state);
            let payload = [&end.sound(tag), tail].concat();
            let told = feed(&mut connection, &raw_frame(Revision::Rev1, tag, &payload));
            let told = told.map_err(|error| error.cause);
            let peer = connection.peer().clone();
            (told, connection.state(), peer, transmitted(&mut connection))
        };
        let without = outcome(&[]);
        let says_that_it_is_over = matches!(
            tag,
            // The method none has no further step.
            Tag::AuthBadMethod | Tag::AuthReplyMore | Tag::IdentMissingFeatures
        );
        assert_eq!(without.0.is_err(), says_that_it_is_over, "{tag} in {state}");
        for tail in [&[0][..], &[0xff; 9], b"a field that nobody knows yet"] {
            assert_eq!(outcome(tail), without, "{tag} in {state}");
        }
    }
}
