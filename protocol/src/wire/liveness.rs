//! Acknowledgements and signs of life on an established connection.

use bytes::{BufMut, BytesMut};

use super::{Control, Malformed, Reader, Tag, Timestamp};

/// Are you there?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive2 {
    /// When it was asked, by the sender's clock.
    pub stamp: Timestamp,
}

impl Control for Keepalive2 {
    const TAG: Tag = Tag::Keepalive2;

    fn encode(&self, out: &mut BytesMut) {
        self.stamp.encode(out);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            stamp: Timestamp::decode(&mut Reader::new(payload))?,
        })
    }
}

/// I am there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive2Ack {
    /// The stamp of the question.
    pub stamp: Timestamp,
}

impl Control for Keepalive2Ack {
    const TAG: Tag = Tag::Keepalive2Ack;

    fn encode(&self, out: &mut BytesMut) {
        self.stamp.encode(out);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            stamp: Timestamp::decode(&mut Reader::new(payload))?,
        })
    }
}

/// All messages up to here have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The last one's sequence number.
    pub seq: u64,
}

impl Control for Ack {
    const TAG: Tag = Tag::Ack;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.seq);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            seq: Reader::new(payload).u64("sequence")?,
        })
    }
}
