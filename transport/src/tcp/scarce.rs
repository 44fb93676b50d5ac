//! [`Scarce`]: for tests, a port of the wire that has memory for few frames.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::segment::Segment;
use super::wire::{WireFrame, WirePort};
use super::{Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN};
use crate::{Cost, Park};

pub(super) struct Scarce {
    port: WirePort,
    /// How many frames there are from one look at what has arrived to the next, and how many are left.
    frames: usize,
    left: usize,
    /// The bytes that have left: the number of the first, and how many.
    pub(super) sent: Arc<Mutex<Vec<(u32, u32)>>>,
}

impl Scarce {
    pub(super) fn new(port: WirePort, frames: usize) -> Self {
        Self {
            port,
            frames,
            left: frames,
            sent: Arc::default(),
        }
    }
}

impl Device for Scarce {
    type Frame = WireFrame;

    fn name(&self) -> &'static str {
        "scarce"
    }

    fn caps(&self) -> DeviceCaps {
        self.port.caps()
    }

    fn receive(&mut self, now: Instant, frames: &mut Vec<WireFrame>) {
        self.left = self.frames;
        self.port.receive(now, frames);
    }

    fn allocate(&mut self, len: usize) -> Option<WireFrame> {
        self.left = self.left.checked_sub(1)?;
        self.port.allocate(len)
    }

    fn transmit(&mut self, frame: WireFrame) {
        let segment = Segment::peek(&frame[ETHERNET_HEADER_LEN..]);
        if let Some(segment) = segment.filter(|segment| segment.len() > 0 && !segment.opens()) {
            let mut sent = self.sent.lock().expect("one thread");
            sent.push((segment.seq, segment.len()));
        }
        self.port.transmit(frame);
    }

    fn flush(&mut self, now: Instant) {
        self.port.flush(now);
    }

    fn park(&mut self) -> Park<'_> {
        self.port.park()
    }

    fn cost(&self) -> Cost {
        self.port.cost()
    }

    fn counters(&mut self) -> DeviceCounters {
        self.port.counters()
    }
}
