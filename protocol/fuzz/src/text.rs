//! Texts: whatever can be parsed is written in a form that means the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bytes::BytesMut;
use msgr_protocol::Policy;
use msgr_protocol::wire::{
    AuthName, EntityAddr, EntityAddrVec, EntityName, EntityType, Malformed, Reader,
};

/// Parses a text as everything that has a text form.
pub fn text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    parse::<EntityType>(text);
    parse::<Policy>(text);
    if let Some(name) = parse::<EntityName>(text) {
        encode(&name, EntityName::encode, EntityName::decode);
    }
    if let Some(name) = parse::<AuthName>(text) {
        encode(&name, AuthName::encode, AuthName::decode);
    }
    let addr = parse::<EntityAddr>(text);
    if let Some(addr) = addr {
        encode(&addr, EntityAddr::encode, EntityAddr::decode);
    }
    let addrs = parse::<EntityAddrVec>(text);
    if let Some(addrs) = &addrs {
        encode(addrs, EntityAddrVec::encode, EntityAddrVec::decode);
    }
    if let Some(addr) = addr {
        assert_eq!(addrs, Some(addr.into()), "an address is a vector of one");
    }
}

fn parse<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            let again = written.parse().ok();
            assert_eq!(again.as_ref(), Some(&value), "{text:?} written {written:?}");
            assert_eq!(value.to_string(), written);
            Some(value)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// What an operator may write, a peer must be able to read.
fn encode<T: PartialEq + Debug>(
    value: &T,
    encode: impl Fn(&T, &mut BytesMut),
    decode: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) {
    let mut wire = BytesMut::new();
    encode(value, &mut wire);
    let mut reader = Reader::new(&wire);
    assert_eq!(decode(&mut reader).as_ref(), Ok(value));
    assert!(reader.rest().is_empty());
}
