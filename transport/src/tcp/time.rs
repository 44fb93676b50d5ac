//! [`Time`]: what time it is for the connections of an endpoint. Several are compared and added to for
//! each segment, which is one instruction each here; an [`Instant`] is two numbers.

use std::ops::Add;
use std::time::{Duration, Instant};

/// Nanoseconds since an endpoint began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(u64);

impl Time {
    /// `now`, of an endpoint that began at `start`.
    pub(super) fn of(now: Instant, start: Instant) -> Self {
        Self::default() + now.saturating_duration_since(start)
    }

    /// The same for others.
    pub(super) fn instant(self, start: Instant) -> Instant {
        start + Duration::from_nanos(self.0)
    }

    /// How long ago `earlier` was: no time if it is yet to come.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(super) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(super) const fn nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Centuries ahead, which somebody may configure, it stays where it is.
    fn add(self, by: Duration) -> Self {
        let seconds = by.as_secs().saturating_mul(1_000_000_000);
        let by = seconds.saturating_add(by.subsec_nanos().into());
        Self(self.0.saturating_add(by))
    }
}

#[cfg(test)]
impl std::ops::AddAssign<Duration> for Time {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_to_the_nanosecond_and_does_not_wrap() {
        let start = Instant::now();
        let now = start + Duration::new(7, 1);
        let time = Time::of(now, start);
        assert_eq!((time.nanos(), time.instant(start)), (7_000_000_001, now));
        assert_eq!(
            Time::of(start, now),
            Time::default(),
            "before the beginning"
        );

        let earlier = Time::default();
        assert_eq!(time.since(earlier), Duration::new(7, 1));
        assert_eq!(earlier.since(time), Duration::ZERO);
        assert!(time + Duration::MAX > time);
    }
}
