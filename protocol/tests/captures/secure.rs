//! Sessions in secure mode: every frame opens, and is sealed to the same bytes again.
//!
//! That the secrets come out of the client's key is for the tests of `cephx` to show.

use bytes::{Bytes, BytesMut};
use msgr_protocol::auth::ConnectionSecret;
use msgr_protocol::frame::{Assembler, End, Frame, FrameReader, secure};
use msgr_protocol::wire::Tag;
use msgr_protocol::{FrameWriter, HeapBlocks, Limits, TxQueue};

use super::{BANNER, REV1, hex, stream};

/// Connections, and their secrets.
const CONNECTIONS: [(&str, &str); 5] = [
    (
        "mon-secure-cephx.0",
        "e0e033433973448bf1e91b5797f4003c4f6e6213d90bd81142dd13acb176ebd3\
         6e7b9812a24b750e069993fa9fb1134a5722260bdfaf668cfa8c0475df143a79",
    ),
    (
        "rados-secure-cephx.0",
        "ed8904df2125976bf05ddeed612fe735b5d63b6cea3902d0f469ec865b2f3cfb\
         b87be43fb19423b4d80409b1400705b62d0327c7f548d07e2fe99c806b9babc4",
    ),
    (
        "rados-secure-cephx.1",
        "780d797915b388e45b103c4ecad6ed327d1282a31400f638db8063bc84a25aa6\
         7e46b91b049a6b2495d84beef6626c780b01ff15b233f7a7bcdda8bdea7f8ebe",
    ),
    (
        "rados-secure-cephx.2",
        "a85570e16c3f35b72224609178a846137902708e6b53a1e88ef8730c7c5c18ef\
         c74c47ae1308517d0083a7bc1a4a0dab56c130c5d546aefa090f0816aac1023e",
    ),
    (
        "rados-secure-cephx.3",
        "e3cd5e0c890a6d466d5137aec98e0d5aa7ac682f5f68001bacf68cc455e4a6ef\
         39fd1b8a69d3446b68b69d14af93fdc2f2c89b98ee266c3743a74af5101eebdc",
    ),
];

/// Opens and seals what one end sent, whose last frame in the clear has this tag. Returns the tags of
/// all its frames.
fn check(name: &str, secret: &ConnectionSecret, from: End, last_clear: Tag) -> Vec<Tag> {
    let to = match from {
        End::Connector => End::Acceptor,
        End::Acceptor => End::Connector,
    };
    let stream = stream(name);
    let mut reader = FrameReader::new(REV1, Limits::default());
    reader.push(Bytes::copy_from_slice(&stream[BANNER.len()..]));
    let mut assembler = Assembler::from(REV1);
    let mut again = BANNER.to_vec();
    let mut tags = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        again.extend(lay_out(&mut assembler, &frame));
        tags.push(frame.tag);
        if frame.tag == last_clear {
            assembler.secure(secure(secret, from, REV1.revision).0);
            reader.secure(secure(secret, to, REV1.revision).1);
        }
    }
    assert!(!reader.is_mid_frame(), "bytes are left over");
    assert!(again == stream, "{name} is sealed differently");
    tags
}

fn lay_out(assembler: &mut Assembler, frame: &Frame) -> Vec<u8> {
    let [first, rest @ ..] = &frame.segments;
    let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    let mut writer = FrameWriter::new(usize::MAX, &mut block, &mut blocks, &mut queue);
    writer.frame(assembler, frame.tag, &first.contiguous(), rest.each_ref());
    writer.finish();
    queue.make_contiguous().concat()
}

#[test]
fn sealed_frames_open_and_are_sealed_again() {
    let mut frames = 0;
    for (name, secret) in CONNECTIONS {
        let secret = ConnectionSecret::from_slice(&hex(secret)).unwrap();
        for (side, from, last_clear) in [
            ("client", End::Connector, Tag::AuthRequestMore),
            ("server", End::Acceptor, Tag::AuthDone),
        ] {
            let name = format!("secure/{name}.{side}");
            let tags = check(&name, &secret, from, last_clear);
            let signature = tags.iter().position(|tag| *tag == Tag::AuthSignature);
            let clear = tags.iter().position(|tag| *tag == last_clear);
            assert_eq!(
                signature,
                clear.map(|at| at + 1),
                "the first that is sealed"
            );
            assert!(tags.contains(&Tag::Message));
            frames += tags.len();
        }
    }
    assert_eq!(frames, 18 + 61, "as many as in the clear");
}
