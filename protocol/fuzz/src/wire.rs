//! Values inside frames: whatever can be decoded is encoded in a form that means the same.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::BytesMut;
use msgr_protocol::wire::{
    Ack, AddrType, AuthBadMethod, AuthDone, AuthName, AuthReplyMore, AuthRequest, AuthRequestMore,
    AuthSignature, ClientIdent, CompressionDone, CompressionRequest, Control, EntityAddr,
    EntityAddrVec, EntityName, Hello, IdentMissingFeatures, Keepalive2, Keepalive2Ack, Malformed,
    Reader, ServerIdent, SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry,
    SessionRetryGlobal, Tag, Wait,
};
use msgr_protocol::{HEADER_LEN, Header};

/// Decodes the payload of a control frame, whose tag is the first byte, or another value.
pub fn wire(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    match Tag::try_from(*selector) {
        Ok(tag) => control_frame(tag, bytes),
        Err(other) => match other % 4 {
            0 => entity_addr(bytes),
            1 => entity_addrs(bytes),
            2 => entity_name(bytes),
            _ => auth_name(bytes),
        },
    }
}

fn control_frame(tag: Tag, payload: &[u8]) {
    match tag {
        Tag::Hello => control::<Hello>(payload),
        Tag::AuthRequest => control::<AuthRequest>(payload),
        Tag::AuthBadMethod => control::<AuthBadMethod>(payload),
        Tag::AuthReplyMore => control::<AuthReplyMore>(payload),
        Tag::AuthRequestMore => control::<AuthRequestMore>(payload),
        Tag::AuthDone => control::<AuthDone>(payload),
        Tag::AuthSignature => control::<AuthSignature>(payload),
        Tag::ClientIdent => control::<ClientIdent>(payload),
        Tag::ServerIdent => control::<ServerIdent>(payload),
        Tag::IdentMissingFeatures => control::<IdentMissingFeatures>(payload),
        Tag::SessionReconnect => control::<SessionReconnect>(payload),
        Tag::SessionReset => control::<SessionReset>(payload),
        Tag::SessionRetry => control::<SessionRetry>(payload),
        Tag::SessionRetryGlobal => control::<SessionRetryGlobal>(payload),
        Tag::SessionReconnectOk => control::<SessionReconnectOk>(payload),
        Tag::Wait => control::<Wait>(payload),
        Tag::Message => header(payload),
        Tag::Keepalive2 => control::<Keepalive2>(payload),
        Tag::Keepalive2Ack => control::<Keepalive2Ack>(payload),
        Tag::Ack => control::<Ack>(payload),
        Tag::CompressionRequest => control::<CompressionRequest>(payload),
        Tag::CompressionDone => control::<CompressionDone>(payload),
    }
}

fn control<C: Control + PartialEq + Debug>(payload: &[u8]) {
    if let Some((value, wire)) = round_trip(payload, C::decode, C::encode) {
        // Later versions may append fields.
        let longer = [payload, b"later"].concat();
        assert_eq!(C::decode(&longer).as_ref(), Ok(&value));
        for len in [wire.len() / 2, wire.len().saturating_sub(1)] {
            if len < wire.len() {
                let cut = C::decode(&wire[..len]);
                assert!(matches!(cut, Err(Malformed::Truncated { .. })), "{cut:?}");
            }
        }
    }
}

/// Any bytes are a header, and every one of its bits means something.
fn header(bytes: &[u8]) {
    if let Some(wire) = bytes.first_chunk::<HEADER_LEN>() {
        let header = Header::decode(wire);
        assert_eq!(header.encode(), *wire);
        assert_eq!(Header::decode(&header.encode()), header);
    }
}

fn entity_addr(bytes: &[u8]) {
    if let Some(addr) = value(bytes, EntityAddr::decode, EntityAddr::encode) {
        written_as(&addr, &in_text(addr));
    }
}

fn entity_addrs(bytes: &[u8]) {
    if let Some(addrs) = value(bytes, EntityAddrVec::decode, EntityAddrVec::encode) {
        written_as(&addrs, &addrs.iter().copied().map(in_text).collect());
    }
}

fn entity_name(bytes: &[u8]) {
    if let Some(name) = value(bytes, EntityName::decode, EntityName::encode) {
        if name.num >= 0 {
            written_as(&name, &name);
        }
        let name = AuthName::from(name);
        written_as(&name, &name);
    }
}

fn auth_name(bytes: &[u8]) {
    let name = value(bytes, AuthName::decode, AuthName::encode);
    if let Some(name) = name.filter(|name| !name.id.is_empty()) {
        written_as(&name, &name);
    }
}

/// What of an address its text can say: nothing of an address that is none, and no flow label.
fn in_text(mut addr: EntityAddr) -> EntityAddr {
    if addr.kind == AddrType::None {
        return EntityAddr::default();
    }
    if let Some(SocketAddr::V6(socket)) = &mut addr.socket {
        socket.set_flowinfo(0);
    }
    addr
}

fn written_as<T: Display + FromStr + PartialEq + Debug>(value: &T, expected: &T) {
    let text = value.to_string();
    assert_eq!(text.parse().ok().as_ref(), Some(expected), "{text}");
}

/// Like [`round_trip`], for values that others may follow.
fn value<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
    encode: impl Fn(&T, &mut BytesMut),
) -> Option<T> {
    let mut reader = Reader::new(bytes);
    let before = decode(&mut reader);
    let used = bytes.len() - reader.rest().len();
    if before.is_ok() {
        assert_eq!(decode(&mut Reader::new(&bytes[..used])), before);
        assert!(used == 0 || decode(&mut Reader::new(&bytes[..used - 1])).is_err());
    }
    let (value, wire) = round_trip(bytes, |bytes| decode(&mut Reader::new(bytes)), encode)?;
    let mut reader = Reader::new(&wire);
    assert_eq!(decode(&mut reader).as_ref(), Ok(&value));
    assert!(reader.rest().is_empty());
    Some(value)
}

/// The value and its encoding, if the bytes are one.
fn round_trip<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    encode: impl Fn(&T, &mut BytesMut),
) -> Option<(T, BytesMut)> {
    let value = match decode(bytes) {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let mut wire = BytesMut::new();
    encode(&value, &mut wire);
    // An address without a family is the value that grows most, from 19 bytes to 47.
    assert!(
        wire.len() <= 3 * bytes.len(),
        "a value larger than its encoding"
    );
    let again = decode(&wire).expect("our own encoding");
    assert_eq!(again, value);
    let mut same = BytesMut::new();
    encode(&again, &mut same);
    assert_eq!(same, wire);
    Some((value, wire))
}
