//! [`Timestamp`]: wall-clock time as Ceph's `utime_t` carries it.

use bytes::{BufMut, BytesMut};

use super::{Malformed, Reader};

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds.
    pub sec: u32,
    /// Nanoseconds.
    pub nsec: u32,
}

impl Timestamp {
    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u32_le(self.sec);
        out.put_u32_le(self.nsec);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            sec: reader.u32("timestamp")?,
            nsec: reader.u32("timestamp")?,
        })
    }
}
