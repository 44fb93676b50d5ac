//! Every control frame: known bytes, real bytes of Ceph, truncation, hostile counts.

pub(super) mod properties;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;

use super::*;

/// The bytes of hexadecimal digits; white space is ignored.
pub(super) fn hex(digits: &str) -> Vec<u8> {
    let digits = digits.replace(char::is_whitespace, "");
    assert_eq!(digits.len() % 2, 0, "half a byte in {digits}");
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// What `encode` appends.
pub(super) fn written(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.to_vec()
}

pub(super) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Parses a payload as the frame `tag` and encodes it again.
fn again(tag: Tag, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    fn frame<C: Control>(payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        C::decode(payload).map(|value| written(|out| value.encode(out)))
    }
    match tag {
        Tag::Hello => frame::<Hello>(payload),
        Tag::AuthRequest => frame::<AuthRequest>(payload),
        Tag::AuthBadMethod => frame::<AuthBadMethod>(payload),
        Tag::AuthReplyMore => frame::<AuthReplyMore>(payload),
        Tag::AuthRequestMore => frame::<AuthRequestMore>(payload),
        Tag::AuthDone => frame::<AuthDone>(payload),
        Tag::AuthSignature => frame::<AuthSignature>(payload),
        Tag::ClientIdent => frame::<ClientIdent>(payload),
        Tag::ServerIdent => frame::<ServerIdent>(payload),
        Tag::IdentMissingFeatures => frame::<IdentMissingFeatures>(payload),
        Tag::SessionReconnect => frame::<SessionReconnect>(payload),
        Tag::SessionReset => frame::<SessionReset>(payload),
        Tag::SessionRetry => frame::<SessionRetry>(payload),
        Tag::SessionRetryGlobal => frame::<SessionRetryGlobal>(payload),
        Tag::SessionReconnectOk => frame::<SessionReconnectOk>(payload),
        Tag::Wait => frame::<Wait>(payload),
        Tag::Message => panic!("not a control frame"),
        Tag::Keepalive2 => frame::<Keepalive2>(payload),
        Tag::Keepalive2Ack => frame::<Keepalive2Ack>(payload),
        Tag::Ack => frame::<Ack>(payload),
        Tag::CompressionRequest => frame::<CompressionRequest>(payload),
        Tag::CompressionDone => frame::<CompressionDone>(payload),
    }
}

/// `value` is `bytes` on the wire, and nothing shorter is; what follows is ignored.
#[track_caller]
fn is<C: Control + PartialEq + Debug>(tag: u8, value: &C, bytes: &str) {
    let mut bytes = hex(bytes);
    assert_eq!(C::TAG as u8, tag);
    assert_eq!(written(|out| value.encode(out)), bytes);
    assert_eq!(C::decode(&bytes).as_ref(), Ok(value));
    for len in 0..bytes.len() {
        let cut = C::decode(&bytes[..len]);
        assert!(
            matches!(cut, Err(Malformed::Truncated { .. })),
            "{len} bytes: {cut:?}"
        );
    }
    bytes.extend([0xff; 9]);
    assert_eq!(C::decode(&bytes).as_ref(), Ok(value), "with a tail");
}

/// An encoded address: type, nonce, IPv4 socket address.
const V2_MON: &str =
    "01 01 01 1c000000 02000000 00000000 10000000 0200 0ce4 7f000001 0000000000000000";
const V1_MON: &str =
    "01 01 01 1c000000 01000000 00000000 10000000 0200 1a85 7f000001 0000000000000000";
const ANY_CLIENT: &str =
    "01 01 01 1c000000 03000000 f04d0000 10000000 0200 0000 7f000001 0000000000000000";

fn v2_mon() -> EntityAddr {
    EntityAddr::msgr2(socket("127.0.0.1:3300"), 0)
}

fn any_client() -> EntityAddr {
    EntityAddr::any(socket("127.0.0.1:0"), 0x4df0)
}

#[test]
fn auth_frames() {
    is(
        1,
        &Hello {
            entity_type: EntityType::Client,
            peer_addr: v2_mon(),
        },
        &format!("08 {V2_MON}"),
    );
    is(
        2,
        &AuthRequest {
            method: 1,
            preferred_modes: vec![1],
            payload: hex("0a080000000500000061646d696e0000000000000000").into(),
        },
        "01000000 01000000 01000000 16000000 0a 08000000 05000000 61646d696e 0000000000000000",
    );
    is(
        3,
        &AuthBadMethod {
            method: 2,
            result: -95,
            allowed_methods: vec![1, 4],
            allowed_modes: vec![2],
        },
        "02000000 a1ffffff 02000000 01000000 04000000 01000000 02000000",
    );
    is(
        4,
        &AuthReplyMore(hex("015b70af0b696cc28f").into()),
        "09000000 015b70af0b696cc28f",
    );
    is(5, &AuthRequestMore(Bytes::new()), "00000000");
    is(
        6,
        &AuthDone {
            global_id: 0x1001,
            con_mode: 1,
            payload: Bytes::from_static(b"\x07"),
        },
        "0110000000000000 01000000 01000000 07",
    );
    let signature = "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f
                     10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f";
    let counted = std::array::from_fn(|i| i as u8);
    is(7, &AuthSignature(counted), signature);
}

#[test]
fn session_frames() {
    is(
        8,
        &ClientIdent {
            addrs: any_client().into(),
            target: v2_mon(),
            gid: -1,
            global_seq: 1,
            supported: features::SUPPORTED,
            required: features::MSG_ADDR2,
            flags: ident_flags::LOSSY,
            cookie: 0x0102_0304_0506_0708,
        },
        &format!(
            "02 01000000 {ANY_CLIENT} {V2_MON} ffffffffffffffff 0100000000000000
             fffffdffbfcf013f 0000000000000008 0100000000000000 0807060504030201"
        ),
    );
    let legacy = EntityAddr {
        kind: AddrType::Legacy,
        nonce: 0,
        socket: Some(socket("127.0.0.1:6789")),
    };
    is(
        9,
        &ServerIdent {
            addrs: EntityAddrVec::from_iter([v2_mon(), legacy]),
            gid: 2,
            global_seq: 13,
            supported: Features(3),
            required: Features(1),
            flags: 0,
            cookie: 9,
        },
        &format!(
            "02 02000000 {V2_MON} {V1_MON} 0200000000000000 0d00000000000000
             0300000000000000 0100000000000000 0000000000000000 0900000000000000"
        ),
    );
    let features = features::MSG_ADDR2;
    is(10, &IdentMissingFeatures { features }, "0000000000000008");
    is(
        11,
        &SessionReconnect {
            addrs: v2_mon().into(),
            client_cookie: 1,
            server_cookie: 2,
            global_seq: 3,
            connect_seq: 4,
            msg_seq: 5,
        },
        &format!(
            "02 01000000 {V2_MON} 0100000000000000 0200000000000000 0300000000000000
             0400000000000000 0500000000000000"
        ),
    );
    is(12, &SessionReset { full: true }, "01");
    is(12, &SessionReset { full: false }, "00");
    is(13, &SessionRetry { connect_seq: 258 }, "0201000000000000");
    is(
        14,
        &SessionRetryGlobal { global_seq: 7 },
        "0700000000000000",
    );
    is(15, &SessionReconnectOk { msg_seq: 8 }, "0800000000000000");
    is(16, &Wait, "");
}

#[test]
fn liveness_frames() {
    let stamp = Timestamp { sec: 1, nsec: 2 };
    is(18, &Keepalive2 { stamp }, "0100000002000000");
    is(19, &Keepalive2Ack { stamp }, "0100000002000000");
    is(20, &Ack { seq: u64::MAX }, "ffffffffffffffff");
}

#[test]
fn compression_frames() {
    is(
        21,
        &CompressionRequest {
            is_compress: true,
            preferred_methods: vec![1, 3],
        },
        "01 02000000 01000000 03000000",
    );
    is(
        22,
        &CompressionDone {
            is_compress: false,
            method: 4,
        },
        "00 04000000",
    );
}

#[test]
fn tags_have_the_numbers_and_names_of_the_specification() {
    let last = Tag::CompressionDone as u8;
    for number in 0..=u8::MAX {
        match Tag::try_from(number) {
            Ok(tag) => assert_eq!(tag as u8, number),
            Err(unknown) => {
                assert_eq!(unknown, number);
                assert!(number == 0 || number > last, "{number}");
            }
        }
    }
    assert_eq!(Tag::ALL.len(), last.into());
    assert_eq!(Tag::ClientIdent.to_string(), "CLIENT_IDENT");
    assert_eq!(Tag::Keepalive2Ack.to_string(), "KEEPALIVE2_ACK");
}

/// Payload of each control frame in a recorded byte stream (revision 1, checksums).
fn control_frames(stream: &[u8]) -> Vec<(Tag, &[u8])> {
    let mut frames = Vec::new();
    let mut rest = &stream[26..]; // behind the banner
    while let Some((preamble, tail)) = rest.split_first_chunk::<32>() {
        let len = |i: usize| {
            let mut descriptor = Reader::new(&preamble[2 + 6 * i..]);
            descriptor.u32("segment length").unwrap() as usize
        };
        let (payload, tail) = tail.split_at(len(0));
        let tag = Tag::try_from(preamble[0]).unwrap();
        if tag != Tag::Message {
            frames.push((tag, payload));
        }
        let segments = usize::from(preamble[1]);
        let crc = if payload.is_empty() { 0 } else { 4 };
        let behind: usize = (1..segments).map(len).sum();
        rest = &tail[crc + behind + if segments > 1 { 13 } else { 0 }..];
    }
    assert!(rest.is_empty());
    frames
}

/// All control frames that real daemons and clients sent in the recorded sessions.
fn recorded() -> Vec<(Tag, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut frames = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let stream = hex(&fs::read_to_string(path).unwrap());
            let found = control_frames(&stream).into_iter();
            frames.extend(found.map(|(tag, payload)| (tag, payload.to_vec())));
        }
    }
    frames
}

#[test]
fn what_ceph_sent_is_encoded_again_byte_for_byte() {
    let frames = recorded();
    for (tag, payload) in &frames {
        assert_eq!(again(*tag, payload).as_ref(), Ok(payload), "{tag}");
        for len in 0..payload.len() {
            assert!(again(*tag, &payload[..len]).is_err(), "{tag} cut at {len}");
        }
    }
    let seen: BTreeSet<u8> = frames.iter().map(|(tag, _)| *tag as u8).collect();
    assert_eq!(
        seen,
        BTreeSet::from([1, 2, 4, 5, 6, 7, 8, 9, 18, 19, 20, 21, 22])
    );
}

#[test]
fn hostile_counts_are_refused_before_their_elements_are_read() {
    let too_many = |what, count, limit| Malformed::TooMany { what, count, limit };
    let truncated = |what, needed, left| Malformed::Truncated { what, needed, left };
    for (tag, payload, expected) in [
        (
            Tag::ClientIdent,
            "02 ffffffff",
            too_many("address vector", 0xffff_ffff, 16),
        ),
        (
            Tag::ServerIdent,
            "02 11000000",
            too_many("address vector", 17, 16),
        ),
        (
            Tag::SessionReconnect,
            "02 10000000",
            truncated("address marker", 1, 0),
        ),
        (
            Tag::Hello,
            "08 010101 ffffffff",
            too_many("address", 0xffff_ffff, 256),
        ),
        (
            Tag::AuthRequest,
            "01000000 41000000",
            too_many("connection modes", 65, 64),
        ),
        (
            Tag::AuthRequest,
            "01000000 40000000",
            truncated("connection modes", 4, 0),
        ),
        (
            Tag::AuthRequest,
            "01000000 00000000 ffffffff",
            too_many("auth payload", 0xffff_ffff, 65536),
        ),
        (
            Tag::AuthBadMethod,
            "01000000 00000000 ffffff7f",
            too_many("auth methods", 0x7fff_ffff, 64),
        ),
        (
            Tag::AuthReplyMore,
            "01000100",
            too_many("auth payload", 65537, 65536),
        ),
        (
            Tag::AuthReplyMore,
            "00000100 00",
            truncated("auth payload", 65536, 1),
        ),
        (
            Tag::CompressionRequest,
            "01 ffffffff",
            too_many("compression methods", 0xffff_ffff, 64),
        ),
    ] {
        assert_eq!(again(tag, &hex(payload)), Err(expected), "{tag} {payload}");
    }
}

#[test]
fn values_without_a_meaning_are_refused() {
    let unknown = |what, value| Malformed::UnknownValue { what, value };
    let nobody = Malformed::Empty {
        what: "own addresses",
    };
    for (tag, payload, expected) in [
        (Tag::ClientIdent, "02 00000000", nobody.clone()),
        (Tag::SessionReconnect, "02 00000000", nobody),
        (Tag::ClientIdent, "03", unknown("address marker", 3)),
        (Tag::Hello, "00", unknown("entity type", 0)),
        (Tag::Hello, "03", unknown("entity type", 3)),
        (Tag::Hello, "08 02", unknown("address marker", 2)),
    ] {
        assert_eq!(again(tag, &hex(payload)), Err(expected), "{tag} {payload}");
    }
}

#[test]
fn an_acceptor_may_have_no_address() {
    let payload = [hex("02 00000000"), vec![0; 6 * 8]].concat();
    assert!(ServerIdent::decode(&payload).unwrap().addrs.is_empty());
}

#[test]
fn features_are_the_bits_of_ceph() {
    assert_eq!(features::MSG_ADDR2.to_string(), "0x800000000000000");
    assert_eq!(
        features::SUPPORTED.missing(features::MSG_ADDR2),
        Features(0)
    );
    // What a 16.2 monitor requires of its clients.
    let monitor = Features(0x0c01_0200_4204_0000);
    assert!(features::SUPPORTED.missing(monitor).is_empty());
    assert_eq!(Features(0b0101).missing(Features(0b0110)), Features(0b0010));
    assert_eq!(Features(0b0101) & Features(0b0110), Features(0b0100));
}
