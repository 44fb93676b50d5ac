//! Names: numbers, known bytes, text.

use proptest::prelude::*;

use super::*;
use crate::wire::tests::{hex, written};

fn auth_name(bytes: &str) -> Result<AuthName, Malformed> {
    AuthName::decode(&mut Reader::new(&hex(bytes)))
}

#[test]
fn entity_types() {
    for (number, kind, name) in [
        (0x01, EntityType::Mon, "mon"),
        (0x02, EntityType::Mds, "mds"),
        (0x04, EntityType::Osd, "osd"),
        (0x08, EntityType::Client, "client"),
        (0x10, EntityType::Mgr, "mgr"),
        (0x20, EntityType::Auth, "auth"),
    ] {
        assert_eq!(kind as u8, number);
        assert_eq!(EntityType::decode(&mut Reader::new(&[number])), Ok(kind));
        assert_eq!(kind.to_string(), name);
        assert_eq!(name.parse(), Ok(kind));
    }
    for number in [0, 3, 0x40, 0xff] {
        let refused = Malformed::UnknownValue {
            what: "entity type",
            value: number.into(),
        };
        assert_eq!(
            EntityType::decode(&mut Reader::new(&[number])),
            Err(refused)
        );
    }
    let error = ParseNameError::UnknownType("OSD".to_owned());
    assert_eq!("OSD".parse::<EntityType>(), Err(error));
}

#[test]
fn known_encodings() {
    let kind = EntityType::Client;
    for (num, bytes) in [(7, "08 0700000000000000"), (-1, "08 ffffffffffffffff")] {
        let (name, bytes) = (EntityName { kind, num }, hex(bytes));
        assert_eq!(written(|out| name.encode(out)), bytes);
        assert_eq!(EntityName::decode(&mut Reader::new(&bytes)), Ok(name));
        for len in 0..bytes.len() {
            EntityName::decode(&mut Reader::new(&bytes[..len])).unwrap_err();
        }
    }
    let (admin, bytes) = (
        "client.admin".parse::<AuthName>().unwrap(),
        "08000000 05000000 61646d696e",
    );
    assert_eq!(written(|out| admin.encode(out)), hex(bytes));
    assert_eq!(auth_name(bytes), Ok(admin));
}

#[test]
fn bad_auth_names() {
    let what = "entity id";
    for (bytes, expected) in [
        (
            "08010000 00000000",
            Malformed::UnknownValue {
                what: "entity type",
                value: 0x108,
            },
        ),
        (
            "08000000 01010000",
            Malformed::TooMany {
                what,
                count: 257,
                limit: 256,
            },
        ),
        (
            "08000000 02000000 61",
            Malformed::Truncated {
                what,
                needed: 2,
                left: 1,
            },
        ),
        ("08000000 01000000 ff", Malformed::NotUtf8 { what }),
    ] {
        assert_eq!(auth_name(bytes), Err(expected), "{bytes}");
    }
}

#[test]
fn text() {
    for (kind, num, text) in [
        (EntityType::Osd, 0, "osd.0"),
        (EntityType::Client, i64::MAX, "client.9223372036854775807"),
    ] {
        let name = EntityName { kind, num };
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
    }
    let unknown = EntityName {
        kind: EntityType::Client,
        num: -1,
    };
    assert_eq!(unknown.to_string(), "client.?");

    let no_id = |text: &str| ParseNameError::NoId(text.to_owned());
    let no_number = |text: &str| ParseNameError::NotANumber(text.to_owned());
    for (text, error) in [
        ("osd", no_id("osd")),
        ("osd.", no_id("osd.")),
        ("", no_id("")),
        (".0", ParseNameError::UnknownType(String::new())),
        ("disk.0", ParseNameError::UnknownType("disk".to_owned())),
        ("osd.x", no_number("x")),
        ("osd.-1", no_number("-1")),
        ("osd.?", no_number("?")),
        ("osd.9223372036854775808", no_number("9223372036854775808")),
    ] {
        assert_eq!(text.parse::<EntityName>(), Err(error), "{text}");
    }
}

#[test]
fn auth_names_in_text() {
    // Only the first dot separates: host names are ids too.
    let name: AuthName = "mgr.host.example".parse().unwrap();
    assert_eq!(
        (name.kind, name.id.as_str()),
        (EntityType::Mgr, "host.example")
    );
    let osd = EntityName {
        kind: EntityType::Osd,
        num: 3,
    };
    assert_eq!(AuthName::from(osd).to_string(), "osd.3");
    let too_long = format!("client.{}", "x".repeat(257));
    assert_eq!(
        too_long.parse::<AuthName>(),
        Err(ParseNameError::TooLong(257))
    );
}

proptest! {
    #[test]
    fn auth_names_survive(id in "\\PC{1,64}") {
        let text = format!("client.{id}");
        let name: AuthName = text.parse().unwrap();
        prop_assert_eq!(name.to_string(), text);
        let bytes = written(|out| name.encode(out));
        prop_assert_eq!(AuthName::decode(&mut Reader::new(&bytes)), Ok(name));
    }
}
