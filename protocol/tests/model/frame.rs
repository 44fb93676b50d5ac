//! [`Frame`]: a frame on its way from one node to the other.

use bytes::Bytes;
use msgr_protocol::frame::{FrameReader, Layout, PREAMBLE_LEN, Preamble, Revision};
use msgr_protocol::wire::{
    Ack, ClientIdent, Control, Keepalive2, Keepalive2Ack, ServerIdent, SessionReconnect,
    SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Tag, Wait,
};
use msgr_protocol::{Header, Limits};

use crate::shape::Shape;

const LAYOUT: Layout = Layout {
    revision: Revision::Rev1,
    data_crc: true,
};

/// A frame on its way from one node to the other.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) tag: Tag,
    /// What it says.
    pub(crate) text: String,
    pub(crate) shape: Shape,
}

impl Frame {
    /// Cuts what a connection has laid out behind its banner into frames.
    pub(crate) fn cut(mut bytes: Bytes) -> Vec<Self> {
        let mut frames = Vec::new();
        while let Some(preamble) = bytes.first_chunk::<PREAMBLE_LEN>() {
            let preamble = Preamble::decode(preamble, &Limits::default()).unwrap();
            frames.push(Self::new(
                bytes.split_to(preamble.frame_len(LAYOUT.revision)),
            ));
        }
        assert!(bytes.is_empty(), "half a frame: {bytes:?}");
        frames
    }

    fn new(bytes: Bytes) -> Self {
        let mut reader = FrameReader::new(LAYOUT, Limits::default());
        reader.push(bytes.clone());
        let frame = reader.next_frame().unwrap().unwrap();
        let tag = frame.tag;
        let first = frame.segments[0].contiguous();
        let text = match tag {
            Tag::ClientIdent => text::<ClientIdent>(&first),
            Tag::ServerIdent => text::<ServerIdent>(&first),
            Tag::SessionReconnect => text::<SessionReconnect>(&first),
            Tag::SessionReconnectOk => text::<SessionReconnectOk>(&first),
            Tag::SessionRetry => text::<SessionRetry>(&first),
            Tag::SessionRetryGlobal => text::<SessionRetryGlobal>(&first),
            Tag::SessionReset => text::<SessionReset>(&first),
            Tag::Wait => text::<Wait>(&first),
            Tag::Ack => text::<Ack>(&first),
            Tag::Keepalive2 => text::<Keepalive2>(&first),
            Tag::Keepalive2Ack => text::<Keepalive2Ack>(&first),
            // What else there is in it follows from its number.
            Tag::Message => {
                let Header {
                    seq, tid, ack_seq, ..
                } = Header::decode(first[..].first_chunk().unwrap());
                format!("Message {{ seq: {seq}, tid: {tid}, ack_seq: {ack_seq} }}")
            }
            // Those of the handshake are delivered at once.
            _ => String::new(),
        };
        let shape = Shape::new(&text);
        Self {
            bytes,
            tag,
            text,
            shape,
        }
    }
}

fn text<C: Control + std::fmt::Debug>(payload: &[u8]) -> String {
    format!("{:?}", C::decode(payload).unwrap())
}
