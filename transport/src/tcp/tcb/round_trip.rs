//! [`RoundTrip`]: how long an acknowledgement takes (RFC 6298).

use std::time::Duration;

/// Smoothed samples, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    smooth: u32,
    variation: u32,
    has_sample: bool,
}

impl RoundTrip {
    /// A segment that was sent once was acknowledged after so long.
    pub(super) fn on_sample(&mut self, sample: Duration) {
        let sample = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX);
        if !self.has_sample {
            *self = Self {
                smooth: sample,
                variation: sample / 2,
                has_sample: true,
            };
            return;
        }
        let ewma = |old: u32, new: u32, share: u64| {
            ((u64::from(old) * (share - 1) + u64::from(new)) / share) as u32
        };
        self.variation = ewma(self.variation, self.smooth.abs_diff(sample), 4);
        self.smooth = ewma(self.smooth, sample, 8);
    }

    /// How long an acknowledgement may take before it is missed; nothing before the first sample.
    pub(super) fn patience(&self) -> Option<Duration> {
        let smooth = u64::from(self.smooth);
        let most = smooth + smooth.max(4 * u64::from(self.variation));
        self.has_sample.then(|| Duration::from_micros(most))
    }
}
