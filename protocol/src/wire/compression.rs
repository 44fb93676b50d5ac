//! Agreeing on compression; only if both banners offer it.

use bytes::{BufMut, BytesMut};

use super::codec::put_list;
use super::{Control, Malformed, Reader, Tag};

/// Connector: shall we compress?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionRequest {
    /// Whether the connector wants to.
    pub is_compress: bool,
    /// Algorithms, the preferred one first.
    pub preferred_methods: Vec<u32>,
}

impl Control for CompressionRequest {
    const TAG: Tag = Tag::CompressionRequest;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.is_compress.into());
        put_list(out, &self.preferred_methods);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            is_compress: reader.u8("is compress")? != 0,
            preferred_methods: reader.list("compression methods")?,
        })
    }
}

/// Acceptor: whether and how we compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionDone {
    /// Whether.
    pub is_compress: bool,
    /// How.
    pub method: u32,
}

impl Control for CompressionDone {
    const TAG: Tag = Tag::CompressionDone;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.is_compress.into());
        out.put_u32_le(self.method);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            is_compress: reader.u8("is compress")? != 0,
            method: reader.u32("compression method")?,
        })
    }
}
