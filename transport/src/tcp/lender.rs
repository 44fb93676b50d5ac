//! [`Lender`]: long frames are handed up as they are. What is in short ones is cheaper copied.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::Frame;

/// Ranges of this many bytes are worth it: a copy takes longer than keeping account of them.
const LEAST: usize = 4 << 10;

/// Lends frames of a device to whoever receives what is in them.
#[derive(Debug)]
pub(super) struct Lender {
    /// The most that may be lent at a time. The device has to have some to receive into.
    most: usize,
    lent: Arc<AtomicUsize>,
}

impl Lender {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            lent: Arc::default(),
        }
    }

    /// A range of the bytes of a frame, which is gone with the last slice of them; or the frame, if
    /// it is not to be lent.
    pub(super) fn lend<F: Frame>(&self, frame: F, range: Range<usize>) -> Result<Bytes, F> {
        if range.len() < LEAST || self.lent.load(Ordering::Relaxed) >= self.most {
            return Err(frame);
        }
        self.lent.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from_owner(Lent {
            frame,
            range,
            count: Arc::clone(&self.lent),
        }))
    }
}

struct Lent<F> {
    frame: F,
    range: Range<usize>,
    count: Arc<AtomicUsize>,
}

impl<F: Frame> AsRef<[u8]> for Lent<F> {
    fn as_ref(&self) -> &[u8] {
        &self.frame[self.range.clone()]
    }
}

impl<F> Drop for Lent<F> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Wire, WireConfig, WireFrame};
    use super::super::{Device, ETHERNET_HEADER_LEN};
    use super::*;

    fn frame() -> WireFrame {
        let config = WireConfig {
            mtu: 9000,
            ..WireConfig::default()
        };
        let mut frame = Wire::new(config).port().allocate(9000).expect("it is new");
        for (at, byte) in frame.iter_mut().enumerate() {
            *byte = at as u8;
        }
        frame
    }

    #[test]
    fn no_more_are_lent_than_the_device_can_spare() {
        let lender = Lender::new(2);
        let range = ETHERNET_HEADER_LEN..9000;
        let lend = || lender.lend(frame(), range.clone()).ok();
        let (first, second) = (lend().expect("one"), lend().expect("two"));
        assert_eq!(first, frame()[range.clone()]);
        assert!(lend().is_none(), "both are out");
        let slice = second.slice(5..7);
        drop((first, second));
        let third = lend().expect("the first is back");
        assert!(lend().is_none(), "there is a slice of the second");
        drop((slice, third));
        assert_eq!(lender.lent.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_short_is_not_lent() {
        let lender = Lender::new(2);
        assert!(lender.lend(frame(), 0..LEAST - 1).is_err());
        assert!(lender.lend(frame(), 0..LEAST).is_ok());
    }
}
