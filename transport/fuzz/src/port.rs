//! [`Port`]: a packet device whose other end is the fuzz target.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use msgr_transport::tcp::{BURST, Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN, Frame};
use msgr_transport::{Cost, Park};

use super::frames::OWN_MAC;

const MTU: usize = 1500;

/// The port's two queues, and whether it takes anything now.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) incoming: VecDeque<Vec<u8>>,
    pub(super) outgoing: Vec<Vec<u8>>,
    pub(super) exhausted: bool,
}

#[derive(Clone, Default)]
pub(super) struct Port(pub(super) Rc<RefCell<Queues>>);

pub(super) struct Buffer(Vec<u8>);

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Frame for Buffer {}

impl Device for Port {
    type Frame = Buffer;

    fn name(&self) -> &'static str {
        "fuzz"
    }

    fn caps(&self) -> DeviceCaps {
        DeviceCaps {
            mac: OWN_MAC,
            mtu: MTU,
            verifies_checksums: false,
            computes_checksums: false,
            segments_tcp4: None,
            // Fewer than the receive window has room for.
            lends: 2,
        }
    }

    fn receive(&mut self, _: Instant, frames: &mut Vec<Buffer>) {
        let incoming = &mut self.0.borrow_mut().incoming;
        let burst = incoming.len().min(BURST);
        frames.extend(incoming.drain(..burst).map(Buffer));
    }

    fn allocate(&mut self, len: usize) -> Option<Buffer> {
        let fits = len <= ETHERNET_HEADER_LEN + MTU && self.may_transmit();
        // What is in it is unspecified.
        fits.then(|| Buffer(vec![0xa5; len]))
    }

    fn may_transmit(&mut self) -> bool {
        !self.0.borrow().exhausted
    }

    fn transmit(&mut self, frame: Buffer) {
        self.0.borrow_mut().outgoing.push(frame.0);
    }

    fn flush(&mut self, _: Instant) {}

    fn park(&mut self) -> Park<'_> {
        Park::Nap(Duration::from_millis(1))
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    fn counters(&mut self) -> DeviceCounters {
        DeviceCounters::default()
    }
}
