//! Every captured frame is decoded down to its fields and laid out again from these.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use bytes::{Bytes, BytesMut};
use msgr_protocol::frame::{Frame, write_control};
use msgr_protocol::wire::{
    Ack, AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature,
    ClientIdent, CompressionDone, CompressionRequest, Control, EntityAddr, EntityType, Features,
    Hello, IdentMissingFeatures, Keepalive2, Keepalive2Ack, Malformed, ServerIdent,
    SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Tag,
    Timestamp, Wait, ident_flags,
};
use msgr_protocol::{Header, Message};

use super::{
    BANNER, REV1, compressed, find, frames, handshake, header, hex, message, message_frame, stream,
    vectors, write_frame,
};

/// The frames of every captured stream, in order.
const STREAMS: &str = "
    mon-crc-none.0.client:    HELLO AUTH_REQUEST AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE MESSAGE MESSAGE KEEPALIVE2
    mon-crc-none.0.server:    HELLO AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE MESSAGE KEEPALIVE2_ACK
    mon-crc-cephx.0.client:   HELLO AUTH_REQUEST AUTH_REQUEST_MORE AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE MESSAGE KEEPALIVE2
    mon-crc-cephx.0.server:   HELLO AUTH_REPLY_MORE AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE KEEPALIVE2_ACK
    rados-crc-none.0.client:  HELLO AUTH_REQUEST AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE
    rados-crc-none.0.server:  HELLO AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE
    rados-crc-none.1.client:  HELLO AUTH_REQUEST AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE
    rados-crc-none.1.server:  HELLO AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE
    rados-crc-none.2.client:  HELLO AUTH_REQUEST AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE MESSAGE MESSAGE
    rados-crc-none.2.server:  HELLO AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE MESSAGE MESSAGE
    rados-crc-none.3.client:  HELLO AUTH_REQUEST AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE
    rados-crc-none.3.server:  HELLO AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE
    rados-crc-cephx.0.client: HELLO AUTH_REQUEST AUTH_REQUEST_MORE AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE
    rados-crc-cephx.0.server: HELLO AUTH_REPLY_MORE AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE
    rados-crc-cephx.1.client: HELLO AUTH_REQUEST AUTH_REQUEST_MORE AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE
    rados-crc-cephx.1.server: HELLO AUTH_REPLY_MORE AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE
    rados-crc-cephx.2.client: HELLO AUTH_REQUEST AUTH_REQUEST_MORE AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE MESSAGE MESSAGE MESSAGE
    rados-crc-cephx.2.server: HELLO AUTH_REPLY_MORE AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE MESSAGE MESSAGE MESSAGE MESSAGE
    rados-crc-cephx.3.client: HELLO AUTH_REQUEST AUTH_REQUEST_MORE AUTH_SIGNATURE CLIENT_IDENT
                              MESSAGE
    rados-crc-cephx.3.server: HELLO AUTH_REPLY_MORE AUTH_DONE AUTH_SIGNATURE SERVER_IDENT
                              MESSAGE
";

/// Each stream's name and the names of its frames.
fn streams() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut streams: Vec<(_, Vec<_>)> = Vec::new();
    for word in STREAMS.split_whitespace() {
        match (word.strip_suffix(':'), streams.last_mut()) {
            (Some(name), _) => streams.push((name, Vec::new())),
            (None, Some((_, tags))) => tags.push(word),
            (None, None) => panic!("{word} before any stream"),
        }
    }
    streams
}

/// Parses a control payload and encodes it again.
fn control_again(tag: Tag, payload: &[u8]) -> Result<BytesMut, Malformed> {
    macro_rules! by_tag {
        ($($frame:ident)*) => {
            match tag {
                $($frame::TAG => {
                    let mut again = BytesMut::new();
                    $frame::decode(payload)?.encode(&mut again);
                    Ok(again)
                })*
                Tag::Message => panic!("not a control frame"),
            }
        };
    }
    by_tag!(Hello AuthRequest AuthBadMethod AuthReplyMore AuthRequestMore AuthDone AuthSignature
        ClientIdent ServerIdent IdentMissingFeatures SessionReconnect SessionReset SessionRetry
        SessionRetryGlobal SessionReconnectOk Wait Keepalive2 Keepalive2Ack Ack CompressionRequest
        CompressionDone)
}

/// Decodes the frame down to its fields, and lays it out again from these.
fn frame_again(frame: Frame) -> Vec<u8> {
    if frame.tag == Tag::Message {
        return message_frame(&message(frame));
    }
    let payload = frame.segments[0].contiguous();
    let again = control_again(frame.tag, &payload).unwrap();
    assert_eq!(again[..], payload[..], "{}", frame.tag);
    let mut out = BytesMut::new();
    write_control(&mut REV1.into(), frame.tag, &again, &mut out);
    out.into()
}

#[test]
fn every_stream_is_read_to_its_end_and_written_again() {
    let mut total = 0;
    for (name, tags) in streams() {
        let stream = stream(name);
        let frames = frames(&stream);
        let names: Vec<_> = frames.iter().map(|frame| frame.tag.name()).collect();
        assert_eq!(names, tags, "{name}");
        assert!(frames.iter().all(|frame| !frame.aborted));
        total += frames.len();

        let again: Vec<_> = frames.into_iter().flat_map(frame_again).collect();
        assert_eq!(again, stream[BANNER.len()..], "{name}");
    }
    assert_eq!(total, 150);
}

#[test]
fn every_vector_is_in_the_list() {
    let mut listed: BTreeSet<_> = streams()
        .into_iter()
        .map(|(name, _)| format!("{name}.hex"))
        .collect();
    // The encrypted ones need keys before they can be laid out.
    listed.extend(compressed::streams().map(|(name, _)| format!("{name}.hex")));
    listed.extend(["README.md", "secure"].map(String::from));
    let stored = fs::read_dir(vectors()).unwrap();
    let stored = stored.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(stored.collect::<BTreeSet<_>>(), listed);
}

/// The values that the frames of a small session stand for, as an independent decoder shows them.
#[test]
fn a_client_of_a_monitor_value_by_value() {
    let monitor = EntityAddr::msgr2("127.0.0.1:3300".parse().unwrap(), 0);
    let mut wire = handshake!(
        Hello {
            entity_type: EntityType::Client,
            peer_addr: monitor,
        },
        AuthRequest {
            method: 1,
            preferred_modes: vec![1],
            payload: Bytes::from_static(b"\x0a\x08\0\0\0\x05\0\0\0admin\0\0\0\0\0\0\0\0"),
        },
        AuthSignature([0; 32]),
        ClientIdent {
            addrs: EntityAddr::any("127.0.0.1:0".parse().unwrap(), 19952).into(),
            target: monitor,
            gid: 0,
            global_seq: 1,
            supported: Features(0x3f01_cfbf_fffd_ffff),
            required: Features(0),
            flags: ident_flags::LOSSY,
            cookie: 0,
        }
    );
    let fsid = hex("3b9f8056b07b453e93ff74516e30e46e");
    let command = [
        &[0; 8][..],
        &[0xff; 2],
        &[0; 8],
        &fsid,
        b"\x01\0\0\0\x13\0\0\0{\"prefix\":\"status\"}",
    ];
    for (n, kind, version, compat_version, front) in [
        (1, 5, 1, 0, Vec::new()),
        (
            2,
            15,
            3,
            1,
            b"\x01\0\0\0\x06\0\0\0osdmap\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        ),
        (3, 19, 1, 0, b"\x07\0\0\0\0\0\0\0\x06\0\0\0osdmap".to_vec()),
        (4, 50, 1, 0, command.concat()),
    ] {
        let mut message = Message::new(kind);
        message.header.seq = n;
        message.header.tid = n;
        message.header.ack_seq = n - 1;
        message.header.version = version;
        message.header.compat_version = compat_version;
        message.front = front.into();
        wire.extend(message_frame(&message));
    }
    let stamp = Timestamp { sec: 1, nsec: 2 };
    write_frame(&Keepalive2 { stamp }, &mut wire);
    assert_eq!(wire, stream("mon-crc-none.0.client"));
}

#[test]
fn messages_value_by_value() {
    // Sequence number, tid, type, priority, version, compatible version, acknowledged; lengths.
    for (name, expected) in [
        (
            "mon-crc-none.0.server",
            &[
                ([1, 0, 4, 196, 1, 1, 1], [205, 0, 0]),
                ([2, 0, 41, 196, 4, 3, 2], [690, 0, 0]),
                ([3, 3, 20, 196, 2, 2, 3], [24, 0, 0]),
                ([4, 4, 51, 196, 1, 1, 4], [53, 0, 317]),
            ][..],
        ),
        (
            "rados-crc-none.2.client",
            &[
                ([1, 0, 5, 127, 1, 1, 0], [0, 0, 0]),
                ([2, 0, 15, 127, 3, 1, 0], [48, 0, 0]),
                ([3, 0, 15, 127, 3, 1, 3], [29, 0, 0]),
                ([4, 0, 15, 127, 3, 1, 3], [29, 0, 0]),
            ],
        ),
        (
            "rados-crc-none.2.server",
            &[
                ([1, 0, 4, 196, 1, 1, 2], [205, 0, 0]),
                ([2, 0, 62, 196, 1, 1, 2], [4, 0, 0]),
                ([3, 0, 4, 196, 1, 1, 2], [205, 0, 0]),
                ([4, 0, 1796, 196, 1, 1, 4], [495, 0, 0]),
                ([5, 0, 41, 196, 4, 3, 4], [1631, 0, 0]),
            ],
        ),
        (
            "rados-crc-none.3.client",
            &[([1, 1, 42, 63, 8, 3, 0], [214, 0, 12])],
        ),
        (
            "rados-crc-none.3.server",
            &[([1, 1, 43, 127, 8, 2, 1], [149, 0, 0])],
        ),
    ] {
        let frames = frames(&stream(name)).into_iter();
        let messages = frames.filter(|frame| frame.tag == Tag::Message);
        let found: Vec<_> = messages.map(fields).collect();
        assert_eq!(found, expected, "{name}");
    }
}

fn fields(message: Frame) -> ([u64; 7], [usize; 3]) {
    let Header {
        seq,
        tid,
        kind,
        priority,
        version,
        data_pre_padding_len: 0,
        data_off: 0,
        ack_seq,
        flags: 3,
        compat_version,
        reserved: 0,
    } = header(&message)
    else {
        panic!("{message:?}");
    };
    let [kind, priority, version, compat_version] =
        [kind, priority, version, compat_version].map(u64::from);
    let [_, front, middle, data] = message.segments.map(|segment| segment.len());
    (
        [seq, tid, kind, priority, version, compat_version, ack_seq],
        [front, middle, data],
    )
}

/// Computed from the specification, not captured.
#[test]
fn known_control_frames() {
    let stamp = Timestamp { sec: 1, nsec: 2 };
    is_on_the_wire(
        &Hello {
            entity_type: EntityType::Client,
            peer_addr: EntityAddr::msgr2("127.0.0.1:6800".parse().unwrap(), 0),
        },
        "010124000000080000000000000000000000000000000000000000003fbd6b06 08
         0101011c000000 02000000 00000000 10000000 0200 1a90 7f000001 0000000000000000 104bc462",
    );
    is_on_the_wire(
        &Keepalive2 { stamp },
        "12010800000008000000000000000000000000000000000000000000d8d5f599
         01000000 02000000 d3138c85",
    );
    is_on_the_wire(
        &Ack { seq: 7 },
        "140108000000080000000000000000000000000000000000000000007374bc5b
         0700000000000000 71488e89",
    );
    is_on_the_wire(
        &Wait,
        "10010000000008000000000000000000000000000000000000000000c8e3aab0",
    );
}

#[track_caller]
fn is_on_the_wire<C: Control + PartialEq + fmt::Debug>(value: &C, frame: &str) {
    let mut wire = BytesMut::new();
    write_frame(value, &mut wire);
    assert_eq!(wire, hex(frame));
    assert_eq!(find::<C>(&[BANNER, &wire[..]].concat()), *value);
}
