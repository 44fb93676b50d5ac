//! Addresses: known bytes, old and future encodings, text, the order that decides races.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::wire::tests::properties::{any_addr, any_socket};
use crate::wire::tests::{hex, socket, written};

const NOTHING: EntityAddr = EntityAddr {
    kind: AddrType::None,
    nonce: 0,
    socket: None,
};

fn legacy(socket: SocketAddr, nonce: u32) -> EntityAddr {
    EntityAddr {
        kind: AddrType::Legacy,
        nonce,
        socket: Some(socket),
    }
}

fn scoped() -> SocketAddr {
    let ip = "fe80::1:2".parse().unwrap();
    SocketAddrV6::new(ip, 6800, 0x000a_bcde, 3).into()
}

fn decode(bytes: &[u8]) -> Result<EntityAddr, Malformed> {
    EntityAddr::decode(&mut Reader::new(bytes))
}

#[test]
fn known_encodings() {
    for (addr, bytes) in [
        (
            EntityAddr::msgr2(socket("127.0.0.1:6800"), 0),
            "01 01 01 1c000000 02000000 00000000 10000000 0200 1a90 7f000001 0000000000000000",
        ),
        (
            EntityAddr::msgr2(scoped(), 0x0102_0304),
            "01 01 01 28000000 02000000 04030201 1c000000 0a00 1a90 000abcde
             fe800000000000000000000000010002 03000000",
        ),
        (
            NOTHING,
            "01 01 01 28000000 00000000 00000000 1c000000 0000 0000 00000000
             00000000000000000000000000000000 00000000",
        ),
    ] {
        let bytes = hex(bytes);
        assert_eq!(written(|out| addr.encode(out)), bytes, "{addr}");
        assert_eq!(decode(&bytes), Ok(addr));
        for len in 0..bytes.len() {
            let cut = decode(&bytes[..len]);
            assert!(matches!(cut, Err(Malformed::Truncated { .. })), "{cut:?}");
        }
    }
}

#[test]
fn what_else_can_be_read() {
    let zeros = |n| "00".repeat(n);
    let v4 = socket("1.2.3.4:6789");
    for (bytes, expected) in [
        // No socket address at all, or one without a family.
        (
            "01 01 01 0c000000 02000000 05000000 00000000".into(),
            NOTHING_V2,
        ),
        (
            "01 01 01 0e000000 02000000 05000000 02000000 0000".into(),
            NOTHING_V2,
        ),
        // A newer version that we can read: fields behind ours.
        (
            "01 02 01 20000000 02000000 05000000 10000000
             0200 1a85 01020304 0000000000000000 aabbccdd"
                .into(),
            EntityAddr::msgr2(v4, 5),
        ),
        // Bytes behind the socket address, within its length.
        (
            "01 01 01 20000000 02000000 05000000 14000000
             0200 1a85 01020304 0000000000000000 aabbccdd"
                .into(),
            EntityAddr::msgr2(v4, 5),
        ),
        // Legacy: the family is big-endian.
        (
            format!("00 000000 05000000 0002 1a85 01020304 {}", zeros(120)),
            legacy(v4, 5),
        ),
        (
            format!(
                "00 000000 05000000 000a 1a90 000abcde
                 fe800000000000000000000000010002 03000000 {}",
                zeros(100)
            ),
            legacy(scoped(), 5),
        ),
        (format!("00 000000 00000000 {}", zeros(128)), NOTHING),
    ] {
        // Reading stops where the address does.
        let mut bytes = hex(&bytes);
        let len = bytes.len();
        bytes.push(0x77);
        let mut reader = Reader::new(&bytes);
        assert_eq!(EntityAddr::decode(&mut reader), Ok(expected));
        assert_eq!(reader.rest(), [0x77]);
        for len in 0..len {
            assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }
}

const NOTHING_V2: EntityAddr = EntityAddr {
    kind: AddrType::Msgr2,
    nonce: 5,
    socket: None,
};

#[test]
fn bad_addresses() {
    let unknown = |what, value| Malformed::UnknownValue { what, value };
    let too_many = |what, count, limit| Malformed::TooMany { what, count, limit };
    let truncated = |what, needed, left| Malformed::Truncated { what, needed, left };
    for (bytes, expected) in [
        ("02", unknown("address marker", 2)),
        ("01 02 02", unknown("compatible address version", 2)),
        ("01 01 01 01010000", too_many("address", 257, 256)),
        ("01 01 01 03000000 020000", truncated("address type", 4, 3)),
        (
            "01 01 01 0c000000 05000000 00000000 00000000",
            unknown("address type", 5),
        ),
        (
            "01 01 01 0c000000 02010000 00000000 00000000",
            unknown("address type", 258),
        ),
        (
            "01 01 01 0c000000 02000000 00000000 10000000",
            truncated("socket address", 16, 0),
        ),
        (
            "01 01 01 0c000000 02000000 00000000 1d000000",
            too_many("socket address", 29, 28),
        ),
        (
            "01 01 01 0d000000 02000000 00000000 01000000 02",
            truncated("address family", 2, 1),
        ),
        (
            "01 01 01 0e000000 02000000 00000000 02000000 0100",
            unknown("address family", 1),
        ),
        (
            "01 01 01 12000000 02000000 00000000 06000000 0200 1a85 0102",
            truncated("socket address", 4, 2),
        ),
    ] {
        assert_eq!(decode(&hex(bytes)), Err(expected), "{bytes}");
    }
}

#[test]
fn text_both_ways() {
    let scope = SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 2).into();
    let any = EntityAddr::any(socket("0.0.0.0:0"), 19952);
    let cidr = EntityAddr {
        kind: AddrType::Cidr,
        nonce: 24,
        socket: Some(socket("10.0.0.0:0")),
    };
    for (addr, text) in [
        (NOTHING, "-"),
        (NOTHING_V2, "v2:/5"),
        (
            EntityAddr::msgr2(socket("1.2.3.4:6800"), 123),
            "v2:1.2.3.4:6800/123",
        ),
        (
            EntityAddr::msgr2(socket("[::1]:6800"), 0),
            "v2:[::1]:6800/0",
        ),
        (
            EntityAddr::msgr2(scope, u32::MAX),
            "v2:[fe80::1%2]:1/4294967295",
        ),
        (legacy(socket("1.2.3.4:6789"), 0), "v1:1.2.3.4:6789/0"),
        (any, "any:0.0.0.0:0/19952"),
        (cidr, "cidr:10.0.0.0:0/24"),
    ] {
        assert_eq!(addr.to_string(), text);
        assert_eq!(text.parse(), Ok(addr), "{text}");
    }
}

#[test]
fn text_as_typed() {
    let v6 = socket("[::1]:3300");
    for (text, addr) in [
        (
            "127.0.0.1:3300",
            EntityAddr::msgr2(socket("127.0.0.1:3300"), 0),
        ),
        (
            "127.0.0.1:3300/7",
            EntityAddr::msgr2(socket("127.0.0.1:3300"), 7),
        ),
        ("[::1]:3300", EntityAddr::msgr2(v6, 0)),
        ("v2:[::1]:3300", EntityAddr::msgr2(v6, 0)),
        ("v1:[::1]:3300", legacy(v6, 0)),
    ] {
        assert_eq!(text.parse(), Ok(addr), "{text}");
    }
    for text in [
        "",
        "/",
        "/5",
        "v2:",
        "v2:/",
        "v3:127.0.0.1:3300",
        "none:127.0.0.1:3300/0",
        "127.0.0.1",
        "localhost:3300",
        "::1:3300",
        "127.0.0.1:65536",
        "127.0.0.1:3300/",
        "127.0.0.1:3300/x",
        "127.0.0.1:3300/4294967296",
        "127.0.0.1:3300/1/2",
        " 127.0.0.1:3300",
        "--",
        "[v2:127.0.0.1:3300/0]",
    ] {
        let error = text.parse::<EntityAddr>().unwrap_err();
        assert_eq!(error, ParseAddrError(text.to_owned()));
    }
}

#[test]
fn races_are_decided_by_bytes_in_memory() {
    // Ascending: by type, then by the nonce's lowest byte first, then family, port, address.
    let ascending = [
        NOTHING,
        legacy(socket("9.9.9.9:9"), 0xff),
        NOTHING_V2,
        EntityAddr::msgr2(socket("1.2.3.4:6800"), 0x0100_0006),
        EntityAddr::msgr2(socket("1.2.3.4:6800"), 0x0000_0106),
        EntityAddr::msgr2(socket("1.2.3.4:6800"), 7),
        EntityAddr::msgr2(socket("1.2.3.5:6800"), 7),
        EntityAddr::msgr2(socket("2.2.3.4:6800"), 7),
        EntityAddr::msgr2(socket("1.2.3.4:6801"), 7),
        EntityAddr::msgr2(socket("1.2.3.4:7056"), 7),
        EntityAddr::msgr2(socket("[::1]:1"), 7),
        EntityAddr::msgr2(socket("[::1]:6800"), 7),
        EntityAddr::msgr2(socket("[::2]:6800"), 7),
        EntityAddr::any(socket("1.2.3.4:6800"), 0),
    ];
    for (i, a) in ascending.iter().enumerate() {
        for (j, b) in ascending.iter().enumerate() {
            assert_eq!(a.race_cmp(b), i.cmp(&j), "{a} and {b}");
        }
    }
}

#[test]
fn an_unspecified_address_can_be_learned() {
    let ip = "10.0.0.7".parse().unwrap();
    for (before, after) in [
        ("v2:0.0.0.0:6800/5", "v2:10.0.0.7:6800/5"),
        ("v2:[::]:6800/5", "v2:10.0.0.7:6800/5"),
        ("v2:10.0.0.8:6800/5", "v2:10.0.0.8:6800/5"),
        ("-", "-"),
    ] {
        let before: EntityAddr = before.parse().unwrap();
        assert_eq!(before.with_ip_if_unspecified(ip).to_string(), after);
    }
}

proptest! {
    #[test]
    fn bytes_survive(addr in any_addr()) {
        let bytes = written(|out| addr.encode(out));
        prop_assert_eq!(decode(&bytes), Ok(addr));
    }

    #[test]
    fn text_survives(nonce: u32, socket in any_socket(), kind in 1..AddrType::NAMES.len()) {
        let (_, kind) = AddrType::NAMES[kind];
        let mut addr = EntityAddr { kind, nonce, socket };
        if let Some(SocketAddr::V6(socket)) = &mut addr.socket {
            socket.set_flowinfo(0); // has no place in the text
        }
        prop_assert_eq!(addr.to_string().parse(), Ok(addr));
    }

    #[test]
    fn the_order_is_total(a in any_addr(), b in any_addr(), nonce: bool) {
        let b = if nonce { EntityAddr { nonce: b.nonce, ..a } } else { b };
        prop_assert_eq!(a.race_cmp(&b), b.race_cmp(&a).reverse());
        prop_assert_eq!(a.race_cmp(&b).is_eq(), a == b);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[v12any:\\[\\]./0-9-]{0,24}") {
        if let Ok(addr) = text.parse::<EntityAddr>() {
            prop_assert_eq!(addr.to_string().parse(), Ok(addr));
        }
    }
}
