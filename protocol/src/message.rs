//! [`Message`] and its 41 byte header.
//!
//! Source: `ceph_msg_header2` in Ceph's `src/include/msgr.h`.

use std::mem;

use crate::payload::Payload;

/// The size of a header on the wire in bytes.
pub const HEADER_LEN: usize = 41;

/// Message priorities, from `CEPH_MSG_PRIO_*` in Ceph's `src/include/msgr.h`.
pub mod priority {
    /// Background work.
    pub const LOW: u16 = 64;
    /// What a message gets unless it asks for something else.
    pub const DEFAULT: u16 = 127;
    /// Replies that others wait for.
    pub const HIGH: u16 = 196;
    /// What keeps a cluster alive.
    pub const HIGHEST: u16 = 255;
}

/// What travels with a message besides its payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Position in the session, from 1; set when the message is sent.
    pub seq: u64,
    /// Chosen by the sender, echoed in the reply.
    pub tid: u64,
    /// What kind of message this is; the messenger does not care.
    pub kind: u16,
    /// See [`priority`].
    pub priority: u16,
    /// Version of the encoding of the payloads.
    pub version: u16,
    /// Filler in front of the data, in bytes; 0 in practice.
    pub data_pre_padding_len: u32,
    /// Where in a page the data wants to lie; a hint.
    pub data_off: u16,
    /// The highest `seq` that the sender has received; set when the message is sent.
    pub ack_seq: u64,
    /// `CEPH_MSG_FOOTER_*`: 1 complete, 2 no data checksum, 4 signed.
    pub flags: u8,
    /// The oldest version that can read the payloads.
    pub compat_version: u16,
    /// 0.
    pub reserved: u16,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            seq: 0,
            tid: 0,
            kind: 0,
            priority: priority::DEFAULT,
            version: 1,
            data_pre_padding_len: 0,
            data_off: 0,
            ack_seq: 0,
            // What Ceph sends over msgr2, whose checksums are the frame's.
            flags: 3,
            compat_version: 1,
            reserved: 0,
        }
    }
}

impl Header {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut wire = [0; HEADER_LEN];
        let mut rest = &mut wire[..];
        let mut put = |field: &[u8]| {
            let (here, after) = mem::take(&mut rest).split_at_mut(field.len());
            here.copy_from_slice(field);
            rest = after;
        };
        put(&self.seq.to_le_bytes());
        put(&self.tid.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.priority.to_le_bytes());
        put(&self.version.to_le_bytes());
        put(&self.data_pre_padding_len.to_le_bytes());
        put(&self.data_off.to_le_bytes());
        put(&self.ack_seq.to_le_bytes());
        put(&[self.flags]);
        put(&self.compat_version.to_le_bytes());
        put(&self.reserved.to_le_bytes());
        debug_assert!(rest.is_empty());
        wire
    }

    /// Parses a header.
    pub fn decode(wire: &[u8; HEADER_LEN]) -> Self {
        let mut at = 0;
        Self {
            seq: u64::from_le_bytes(field(wire, &mut at)),
            tid: u64::from_le_bytes(field(wire, &mut at)),
            kind: u16::from_le_bytes(field(wire, &mut at)),
            priority: u16::from_le_bytes(field(wire, &mut at)),
            version: u16::from_le_bytes(field(wire, &mut at)),
            data_pre_padding_len: u32::from_le_bytes(field(wire, &mut at)),
            data_off: u16::from_le_bytes(field(wire, &mut at)),
            ack_seq: u64::from_le_bytes(field(wire, &mut at)),
            flags: field::<1>(wire, &mut at)[0],
            compat_version: u16::from_le_bytes(field(wire, &mut at)),
            reserved: u16::from_le_bytes(field(wire, &mut at)),
        }
    }
}

fn field<const N: usize>(wire: &[u8; HEADER_LEN], at: &mut usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&wire[*at..*at + N]);
    *at += N;
    bytes
}

/// What a messenger carries: a header and three payloads whose meaning is the application's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Identity, kind and priority.
    pub header: Header,
    /// The encoded message proper, up to 16 MiB by default.
    pub front: Payload,
    /// A middle part, up to 16 MiB by default.
    pub middle: Payload,
    /// Bulk data, up to 64 MiB by default.
    pub data: Payload,
}

impl Message {
    /// A message of this kind with nothing in it yet.
    pub fn new(kind: u16) -> Self {
        Self {
            header: Header {
                kind,
                ..Header::default()
            },
            ..Self::default()
        }
    }

    /// Makes this, which has no payloads yet, the message with these. (Most are empty, and not worth
    /// moving: it is payloads that make a message large.)
    #[inline(never)] // In line, it would be put together elsewhere and then moved.
    pub(crate) fn fill<'a>(
        &mut self,
        header: Header,
        payloads: impl IntoIterator<Item = &'a mut Payload>,
    ) {
        self.header = header;
        let parts = [&mut self.front, &mut self.middle, &mut self.data];
        for (part, payload) in parts.into_iter().zip(payloads) {
            if !payload.is_empty() {
                *part = mem::take(payload);
            }
        }
    }

    /// Drops the payloads.
    #[inline]
    pub(crate) fn clear(&mut self) {
        for part in [&mut self.front, &mut self.middle, &mut self.data] {
            if !part.is_empty() {
                *part = Payload::new();
            }
        }
    }

    /// The sum of the payloads' lengths in bytes.
    pub fn payload_len(&self) -> usize {
        self.front.len() + self.middle.len() + self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_lies_where_the_packed_structure_has_it() {
        let header = Header {
            seq: 0x0102_0304_0506_0708,
            tid: 0x1112_1314_1516_1718,
            kind: 0x2122,
            priority: 0x3132,
            version: 0x4142,
            data_pre_padding_len: 0x5152_5354,
            data_off: 0x6162,
            ack_seq: 0x7172_7374_7576_7778,
            flags: 0x81,
            compat_version: 0x9192,
            reserved: 0xa1a2,
        };
        let wire = [
            0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13,
            0x12, 0x11, 0x22, 0x21, 0x32, 0x31, 0x42, 0x41, 0x54, 0x53, 0x52, 0x51, 0x62, 0x61,
            0x78, 0x77, 0x76, 0x75, 0x74, 0x73, 0x72, 0x71, 0x81, 0x92, 0x91, 0xa2, 0xa1,
        ];
        assert_eq!(header.encode(), wire);
        assert_eq!(Header::decode(&wire), header);
    }
}
