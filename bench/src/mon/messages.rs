//! The four monitor messages that a command takes. Only this subcommand knows them: to the
//! messenger a message is opaque.
//!
//! Source: `MMonGetMap.h`, `MMonMap.h`, `MMonCommand.h`, `MMonCommandAck.h` in Ceph's
//! `src/messages/`.

use msgr_protocol::Message;
use msgr_protocol::wire::{Malformed, Reader};
use serde_json::{Map, Value};

/// `CEPH_MSG_MON_MAP`.
pub(super) const MON_MAP: u16 = 4;
/// `CEPH_MSG_MON_GET_MAP`.
const MON_GET_MAP: u16 = 5;
/// `MSG_MON_COMMAND`.
const MON_COMMAND: u16 = 50;
/// `MSG_MON_COMMAND_ACK`.
pub(super) const MON_COMMAND_ACK: u16 = 51;

/// A cluster's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fsid([u8; 16]);

impl Fsid {
    /// Takes the id out of a `MON_MAP` message's front: a blob with an encoding header of 6 bytes,
    /// the id, and much that does not matter here.
    pub(super) fn from_mon_map(front: &[u8]) -> Result<Self, Malformed> {
        let mut map = Reader::new(Reader::new(front).blob("monitor map")?);
        map.bytes("monitor map header", 6)?;
        let mut fsid = [0; 16];
        fsid.copy_from_slice(map.bytes("fsid", 16)?);
        Ok(Self(fsid))
    }
}

/// The answer to a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommandReply {
    /// 0 or a negative errno.
    pub(super) result: i32,
    /// A remark for people.
    pub(super) text: String,
    /// What was asked for.
    pub(super) output: Vec<u8>,
}

impl CommandReply {
    pub(super) fn decode(front: &[u8], output: Vec<u8>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(front);
        reader.bytes("paxos fields", PAXOS.len())?;
        let result = reader.i32("result")?;
        let text = String::from_utf8_lossy(reader.blob("text")?).into_owned();
        Ok(Self {
            result,
            text,
            output,
        })
    }
}

/// What every message to the monitors' Paxos services starts with: version 0, no session monitor
/// (-1), session transaction 0.
const PAXOS: [u8; 18] = [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];

/// Asks for the monitor map.
pub(super) fn get_map() -> Message {
    let mut message = Message::new(MON_GET_MAP);
    message.header.compat_version = 0;
    message
}

/// A command to the cluster `fsid`.
pub(super) fn command(fsid: Fsid, json: &str) -> Message {
    let mut front = PAXOS.to_vec();
    front.extend(fsid.0);
    front.extend(1u32.to_le_bytes());
    front.extend(
        u32::try_from(json.len())
            .expect("an argument list is short")
            .to_le_bytes(),
    );
    front.extend(json.as_bytes());
    let mut message = Message::new(MON_COMMAND);
    message.header.compat_version = 0;
    message.front = front.into();
    message
}

/// The command as a monitor wants it: the words as a prefix, or JSON as it is. `None` if it begins
/// like JSON and is no object.
pub(super) fn command_json(words: &[String], as_json: bool) -> Option<String> {
    let text = words.join(" ");
    let mut fields: Map<String, Value> = if text.starts_with('{') {
        serde_json::from_str(&text).ok()?
    } else {
        Map::from_iter([("prefix".to_owned(), text.into())])
    };
    if as_json {
        fields.insert("format".to_owned(), "json".into());
    }
    Some(Value::Object(fields).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FSID: [u8; 16] = [
        0x3b, 0x9f, 0x80, 0x56, 0xb0, 0x7b, 0x45, 0x3e, 0x93, 0xff, 0x74, 0x51, 0x6e, 0x30, 0xe4,
        0x6e,
    ];

    /// The front of a status command that a Ceph 16.2 monitor answered.
    #[test]
    fn a_command_is_what_a_monitor_understood() {
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend(FSID);
        expected.extend([1, 0, 0, 0, 0x13, 0, 0, 0]);
        expected.extend(br#"{"prefix":"status"}"#);
        let json = command_json(&["status".into()], false).unwrap();
        assert_eq!(*command(Fsid(FSID), &json).front.contiguous(), *expected);
    }

    #[test]
    fn words_become_a_prefix_and_json_stays() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let json = command_json(&words("osd dump"), true).unwrap();
        assert_eq!(json, r#"{"format":"json","prefix":"osd dump"}"#);
        let json = command_json(&words(r#"{"prefix":"osd ls"}"#), false).unwrap();
        assert_eq!(json, r#"{"prefix":"osd ls"}"#);
        assert_eq!(command_json(&words("{status"), false), None);
    }

    #[test]
    fn the_fsid_is_found_in_a_monitor_map() {
        let mut front = vec![26, 0, 0, 0, 9, 6, 0xc3, 0, 0, 0];
        front.extend(FSID);
        front.extend([1, 0, 0, 0]);
        assert_eq!(Fsid::from_mon_map(&front), Ok(Fsid(FSID)));
        assert!(Fsid::from_mon_map(&front[..20]).is_err());
    }

    #[test]
    fn a_short_reply_is_an_error() {
        let mut front = PAXOS.to_vec();
        front.extend((-22i32).to_le_bytes());
        front.extend([3, 0, 0, 0]);
        front.extend(b"bad");
        let reply = CommandReply::decode(&front, Vec::new()).unwrap();
        assert_eq!((reply.result, reply.text.as_str()), (-22, "bad"));
        for len in 0..front.len() {
            assert!(
                CommandReply::decode(&front[..len], Vec::new()).is_err(),
                "{len} bytes"
            );
        }
    }
}
