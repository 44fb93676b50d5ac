//! [`Timestamp`]: wall-clock time as Ceph's `utime_t` carries it.

use std::time::Duration;

use bytes::BufMut;

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
    /// That much later, or the end of time: early in 2106.
    #[must_use]
    pub fn saturating_add(self, time: Duration) -> Self {
        let sum = Duration::new(self.sec.into(), self.nsec).saturating_add(time);
        u32::try_from(sum.as_secs()).map_or(
            Self {
                sec: u32::MAX,
                nsec: 999_999_999,
            },
            |sec| Self {
                sec,
                nsec: sum.subsec_nanos(),
            },
        )
    }

    pub(crate) fn encode(self, out: &mut impl BufMut) {
        out.put_u32_le(self.sec);
        out.put_u32_le(self.nsec);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            sec: reader.u32("timestamp")?,
            nsec: reader.u32("timestamp")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_ends() {
        let at = |sec, nsec| Timestamp { sec, nsec };
        let later = at(1, 600_000_000).saturating_add(Duration::from_millis(1500));
        assert_eq!(later, at(3, 100_000_000));
        let end = at(u32::MAX, 999_999_999);
        assert_eq!(at(5, 0).saturating_add(Duration::MAX), end);
        assert_eq!(end.saturating_add(Duration::from_nanos(1)), end);
    }
}
