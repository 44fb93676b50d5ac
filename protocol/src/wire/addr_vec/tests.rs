//! Address vectors: what is accepted, and how they are written.

use super::*;
use crate::wire::tests::{hex, written};

const LOCAL: &str =
    "01 01 01 1c000000 02000000 00000000 10000000 0200 1a90 7f000001 0000000000000000";

fn decode(bytes: &str) -> Result<EntityAddrVec, Malformed> {
    EntityAddrVec::decode(&mut Reader::new(&hex(bytes)))
}

fn addrs(texts: &[&str]) -> EntityAddrVec {
    texts
        .iter()
        .map(|text| text.parse::<EntityAddr>().unwrap())
        .collect()
}

#[test]
fn all_three_encodings() {
    let one = addrs(&["v2:127.0.0.1:6800"]);
    let two = addrs(&["v2:127.0.0.1:6800", "v2:127.0.0.1:6800"]);
    for (bytes, expected) in [
        ("02 00000000".to_owned(), EntityAddrVec::default()),
        (format!("02 01000000 {LOCAL}"), one.clone()),
        (format!("02 02000000 {LOCAL} {LOCAL}"), two),
    ] {
        assert_eq!(decode(&bytes), Ok(expected.clone()));
        assert_eq!(written(|out| expected.encode(out)), hex(&bytes));
    }
    // A single address, as before there were vectors.
    assert_eq!(decode(LOCAL), Ok(one));
    let legacy = format!("00000000 05000000 0002 1a85 7f000001 {}", "00".repeat(120));
    assert_eq!(decode(&legacy), Ok(addrs(&["v1:127.0.0.1:6789/5"])));
}

#[test]
fn the_count_is_limited() {
    let full = |count: usize| format!("02 {count:02x}000000 {}", LOCAL.repeat(count));
    assert_eq!(decode(&full(16)).unwrap().iter().count(), 16);
    let refused = Malformed::TooMany {
        what: "address vector",
        count: 17,
        limit: 16,
    };
    assert_eq!(decode(&full(17)), Err(refused.clone()));
    assert_eq!(decode("02 11000000"), Err(refused));
}

#[test]
fn text() {
    for (vec, text) in [
        (&[][..], "[]"),
        (&["-"], "-"),
        (&["v2:1.2.3.4:3300/0"], "v2:1.2.3.4:3300/0"),
        (
            &["v2:1.2.3.4:3300/0", "v1:1.2.3.4:6789/0"],
            "[v2:1.2.3.4:3300/0,v1:1.2.3.4:6789/0]",
        ),
        (
            &["v2:[::1]:3300/1", "v1:[::1]:6789/1"],
            "[v2:[::1]:3300/1,v1:[::1]:6789/1]",
        ),
    ] {
        assert_eq!(addrs(vec).to_string(), text);
        assert_eq!(text.parse(), Ok(addrs(vec)), "{text}");
    }
    for (typed, vec) in [
        ("127.0.0.1:3300", &["v2:127.0.0.1:3300/0"][..]),
        ("[::1]:3300", &["v2:[::1]:3300/0"]),
        ("[v2:[::1]:3300]", &["v2:[::1]:3300/0"]),
        ("[1.2.3.4:1,[::1]:2/3]", &["v2:1.2.3.4:1/0", "v2:[::1]:2/3"]),
    ] {
        assert_eq!(typed.parse(), Ok(addrs(vec)), "{typed}");
    }
    for text in [
        "",
        "[",
        "]",
        "[::1]",
        "[v2:1.2.3.4:1",
        "v2:1.2.3.4:1]",
        "[v2:1.2.3.4:1,]",
        "v2:1.2.3.4:1,v1:1.2.3.4:2",
    ] {
        text.parse::<EntityAddrVec>().expect_err(text);
    }
}

#[test]
fn lookups() {
    let vec = addrs(&["v1:1.2.3.4:1/5", "v2:1.2.3.4:2/5", "v2:1.2.3.4:3/5"]);
    assert_eq!(vec.msgr2().unwrap().to_string(), "v2:1.2.3.4:2/5");
    assert_eq!(addrs(&["v1:1.2.3.4:1/5"]).msgr2(), None);
    for (addr, contained) in [
        ("v2:1.2.3.4:3/5", true),
        ("v2:1.2.3.4:3/6", false),
        ("v1:1.2.3.4:3/5", false),
        ("v2:1.2.3.4:4/5", false),
    ] {
        assert_eq!(vec.contains(&addr.parse().unwrap()), contained, "{addr}");
    }
}
