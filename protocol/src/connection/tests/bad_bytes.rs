//! Bytes that cannot be parsed, and bytes that stop too early.

use super::script::{
    End, acceptor, auth_request, banner, client_ident, feed, frame, message_frame, numbered,
    raw_frame, server_config,
};
use crate::connection::State;
use crate::crc;
use crate::error::{Malformed, PeerIncompatible};
use crate::frame::{FrameError, Limits, PREAMBLE_LEN, Revision};
use crate::message::HEADER_LEN;
use crate::wire::{AuthSignature, Features, Tag, features};

#[test]
fn what_is_no_banner() {
    for end in End::BOTH {
        let make = || end.reach(end.states()[0]);
        for (bytes, cause, text) in [
            (
                &b"S"[..],
                Malformed::Banner(*b"S\0\0\0\0\0\0\0"),
                r"not a Ceph banner: S\x00\x00\x00\x00\x00\x00\x00",
            ),
            (
                b"ceph v2\n\x0f\0",
                Malformed::BannerLength(15),
                "banner payload of 15 bytes",
            ),
            (
                b"ceph v2\n\0\0",
                Malformed::BannerLength(0),
                "banner payload of 0 bytes",
            ),
            (
                b"ceph v2\n\x01\x01",
                Malformed::BannerLength(257),
                "banner payload of 257 bytes",
            ),
            (
                b"ceph v2\n\xff\xff",
                Malformed::BannerLength(65535),
                "banner payload of 65535 bytes",
            ),
        ] {
            end.refuses(make, bytes, cause, text);
        }
        // The first wrong byte is enough; what came with it is shown.
        let mut connection = make();
        let error = feed(&mut connection, b"SSH-2.0-OpenSSH_9.2").unwrap_err();
        assert_eq!(error.cause, Malformed::Banner(*b"SSH-2.0-").into());
        let peer = end.peer_name(error.state);
        assert_eq!(
            error.to_string(),
            format!(
                "{peer}: not a Ceph banner: SSH-2.0- (in state {})",
                error.state
            )
        );
    }
}

#[test]
fn a_peer_of_version_1() {
    // What it says first: its banner, its address, and ours; a byte more than ours is enough.
    let whole = [&b"ceph v027"[..], &[0; 2 * 136]].concat();
    for end in End::BOTH {
        let make = || end.reach(end.states()[0]);
        for bytes in [&whole[..], b"ceph v0"] {
            let cause = PeerIncompatible::SpeaksV1;
            end.refuses(make, bytes, cause, "the peer speaks messenger v1");
        }
    }
}

/// A preamble with one byte changed, and a checksum that is right again.
fn forged(wire: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut preamble = wire[..PREAMBLE_LEN].to_vec();
    preamble[at] = byte;
    let crc = crc::crc32c(crc::PREAMBLE, &preamble[..28]);
    preamble[28..].copy_from_slice(&crc.to_le_bytes());
    preamble
}

fn flipped(mut wire: Vec<u8>, at_from_end: usize) -> Vec<u8> {
    let at = wire.len() - at_from_end;
    wire[at] ^= 1;
    wire
}

#[test]
fn what_is_no_frame() {
    for end in End::BOTH {
        for state in end.states().into_iter().skip(1) {
            // Whatever is expected: it is the frame that is wrong, not its type.
            let tag = state.expects()[0];
            let wire = raw_frame(Revision::Rev1, tag, &end.sound(tag));
            let len = end.sound(tag).len() as u32;
            let [low, ..] = len.to_le_bytes();
            let too_long = 0x0100_0000 | len;
            let limit = 65536;
            for (bytes, error, text) in [
                (
                    forged(&wire, 0, 0),
                    FrameError::UnknownTag(0),
                    "unknown tag 0".to_owned(),
                ),
                (
                    forged(&wire, 0, 23),
                    FrameError::UnknownTag(23),
                    "unknown tag 23".to_owned(),
                ),
                (
                    forged(&wire, 1, 0),
                    FrameError::SegmentCount(0),
                    "0 segments".to_owned(),
                ),
                (
                    forged(&wire, 1, 5),
                    FrameError::SegmentCount(5),
                    "5 segments".to_owned(),
                ),
                (
                    forged(&wire, 26, 1),
                    FrameError::Compressed,
                    "compressed, though compression was not negotiated".to_owned(),
                ),
                (
                    forged(&wire, 5, 1),
                    FrameError::SegmentTooLong {
                        segment: 0,
                        len: too_long,
                        limit,
                    },
                    format!("segment 0 of {too_long} bytes, the limit is {limit}"),
                ),
                (
                    forged(&wire, 6, 3),
                    FrameError::Alignment {
                        segment: 0,
                        alignment: 3,
                    },
                    "alignment 3 of segment 0".to_owned(),
                ),
            ] {
                let text = format!("bad frame: {text}");
                end.refuses(|| end.reach(state), &bytes, Malformed::from(error), &text);
            }
            assert_eq!(u32::from(low), len, "payloads of this test fit a byte");
        }
    }
}

#[test]
fn damaged_frames() {
    // The numbers are those of known frames: KEEPALIVE2, and a front of the digits 1 to 9.
    let stamp = [1, 0, 0, 0, 2, 0, 0, 0];
    let keepalive = |revision| raw_frame(revision, Tag::Keepalive2, &stamp);
    let mut message = numbered(1);
    message.front = (&b"123456789"[..]).into();
    let message = |revision| message_frame(revision, &message);
    let segment_crc = |segment, computed| FrameError::SegmentCrc {
        segment,
        received: computed ^ 1,
        computed,
    };
    let late_status = |revision, at_from_end: usize, status| {
        let mut wire = message(revision);
        let at = wire.len() - at_from_end;
        wire[at] = status;
        wire
    };
    let (rev0, rev1) = (Revision::Rev0, Revision::Rev1);
    for (revision, bytes, error, text) in [
        (
            rev1,
            flipped(keepalive(rev1)[..PREAMBLE_LEN].to_vec(), 4),
            FrameError::PreambleCrc {
                received: 0x99f5_d5d9,
                computed: 0x99f5_d5d8,
            },
            "preamble crc is 0x99f5d5d9, computed 0x99f5d5d8",
        ),
        (
            rev1,
            flipped(keepalive(rev1), 4),
            segment_crc(0, 0x858c_13d3),
            "crc of segment 0 is 0x858c13d2, computed 0x858c13d3",
        ),
        (
            rev0,
            flipped(keepalive(rev0), 16),
            segment_crc(0, 0x858c_13d3),
            "crc of segment 0 is 0x858c13d2, computed 0x858c13d3",
        ),
        (
            rev1,
            flipped(message(rev1), 12),
            segment_crc(1, 0x1cf9_6d7c),
            "crc of segment 1 is 0x1cf96d7d, computed 0x1cf96d7c",
        ),
        (
            rev0,
            flipped(message(rev0), 12),
            segment_crc(1, 0x1cf9_6d7c),
            "crc of segment 1 is 0x1cf96d7d, computed 0x1cf96d7c",
        ),
        (
            rev1,
            late_status(rev1, 13, 0x02),
            FrameError::LateStatus(2),
            "late status 0x02",
        ),
    ] {
        for end in End::BOTH {
            let make = || end.reach_as(end.config(), revision, State::Ready);
            let text = format!("bad frame: {text}");
            end.refuses(make, &bytes, Malformed::from(error.clone()), &text);
        }
    }
}

#[test]
fn messages_of_a_wrong_shape() {
    let mut message = numbered(1);
    message.front = vec![0; 11].into();
    message.middle = vec![0; 21].into();
    message.data = vec![0; 31].into();
    let wire = message_frame(Revision::Rev1, &message);
    let too_long = |segment, len, limit| FrameError::SegmentTooLong {
        segment,
        len,
        limit,
    };
    let limits = Limits {
        front: 11,
        middle: 21,
        data: 31,
        ..Limits::default()
    };
    for end in End::BOTH {
        let make = |limits| {
            let mut config = end.config();
            config.limits = limits;
            end.reach_as(config, Revision::Rev1, State::Ready)
        };
        let told = feed(&mut make(limits), &wire).unwrap();
        assert_eq!(told.len(), 1, "the limit itself is allowed");
        for (limits, bytes, error, text) in [
            (
                Limits {
                    front: 10,
                    ..limits
                },
                &wire[..PREAMBLE_LEN],
                too_long(1, 11, 10),
                "segment 1 of 11 bytes, the limit is 10",
            ),
            (
                Limits {
                    middle: 20,
                    ..limits
                },
                &wire[..PREAMBLE_LEN],
                too_long(2, 21, 20),
                "segment 2 of 21 bytes, the limit is 20",
            ),
            (
                Limits { data: 30, ..limits },
                &wire[..PREAMBLE_LEN],
                too_long(3, 31, 30),
                "segment 3 of 31 bytes, the limit is 30",
            ),
            (
                limits,
                &forged(&wire, 20, 0),
                FrameError::LastSegmentEmpty(4),
                "the last of 4 segments is empty",
            ),
        ] {
            let text = format!("bad frame: {text}");
            end.refuses(|| make(limits), bytes, Malformed::from(error), &text);
        }
    }
}

#[test]
fn messages_without_a_whole_header() {
    let header = numbered(1).header.encode();
    for end in End::BOTH {
        for len in 0..HEADER_LEN {
            let wire = raw_frame(Revision::Rev1, Tag::Message, &header[..len]);
            let cause = Malformed::HeaderLength(len);
            let text = format!("message header of {len} bytes");
            end.refuses(|| end.reach(State::Ready), &wire, cause, &text);
        }
        let longer = [&header[..], b"of a later version"].concat();
        let wire = raw_frame(Revision::Rev1, Tag::Message, &longer);
        let told = feed(&mut end.reach(State::Ready), &wire).unwrap();
        assert_eq!(told.len(), 1);
    }
}

/// Wherever the peer stops, we know that it was in the middle of something.
#[test]
fn a_peer_that_stops() {
    let mut connection = acceptor(server_config());
    assert!(!connection.is_mid_frame());
    let mut message = numbered(1);
    message.front = vec![1; 50].into();
    message.data = vec![2; 300].into();
    let parts = [
        banner(features::REVISION_1, Features::default()),
        raw_frame(Revision::Rev1, Tag::Hello, &End::Acceptor.sound(Tag::Hello)),
        frame(&auth_request()),
        frame(&AuthSignature([0; 32])),
        frame(&client_ident()),
        message_frame(Revision::Rev1, &message),
        raw_frame(Revision::Rev1, Tag::Ack, &[0; 8]),
    ];
    for part in parts {
        for byte in &part[..part.len() - 1] {
            assert_eq!(feed(&mut connection, &[*byte]).unwrap(), []);
            assert!(connection.is_mid_frame());
        }
        feed(&mut connection, &part[part.len() - 1..]).unwrap();
        assert!(!connection.is_mid_frame());
    }
    assert_eq!(connection.state(), State::Ready);
}
