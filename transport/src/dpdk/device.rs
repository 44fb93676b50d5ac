//! [`DpdkDevice`]: a queue of a port.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::tcp::{BURST, Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN};
use crate::{Cost, Park};

use super::DpdkFrame;
use super::shim::{Pool, Queue, Wake};

/// Memory for the frames of all queues of a port.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) ordinary: Pool,
    /// For packets that the port cuts into segments, if it does that.
    pub(super) cut: Option<Pool>,
    /// What is received into, if the peer does not cut; else the ordinary ones are.
    pub(super) uncut: Option<Pool>,
}

/// One receive and one transmit queue of a port, for the thread that polls it.
#[derive(Debug)]
pub struct DpdkDevice {
    queue: Queue,
    pools: Arc<Pools>,
    caps: DeviceCaps,
    /// The most bytes of the IP packets that a frame is cut into.
    longest_segment: usize,
    wake: Option<Wake>,
    /// Waiting for room in the transmit queue of the port.
    transmit: Vec<DpdkFrame>,
    /// Frames of ordinary size, allocated in batches.
    spare: Vec<DpdkFrame>,
    /// The same for a packet that the port cuts into segments.
    long: Option<DpdkFrame>,
    /// What came while arming the interrupt.
    early: Vec<DpdkFrame>,
    armed: bool,
    /// Whether somebody was denied a frame, and nobody has got one since.
    short: bool,
    /// When we last looked, and when a frame last came or went.
    looked: Option<Instant>,
    used: Option<Instant>,
    cost: Cost,
    counters: DeviceCounters,
}

/// Frames that may wait for the port; more are not lent. What a burst takes at most.
const TRANSMIT_BOUND: usize = 256;
/// Frames taken from the pool at once.
const SPARE: usize = 32;
/// Where nothing wakes us, a nap takes this part of the silence before it. So whoever ends a silence
/// makes it that much longer at most, and two ends that nap for each other are soon awake again.
const NAP_PART: u32 = 8;
/// What the first frame after a long silence waits at most.
const LONGEST_NAP: Duration = Duration::from_millis(1);

impl DpdkDevice {
    pub(super) fn new(
        queue: Queue,
        pools: Arc<Pools>,
        caps: DeviceCaps,
        longest_segment: usize,
        wake: Option<Wake>,
    ) -> Self {
        Self {
            queue,
            pools,
            caps,
            longest_segment,
            wake,
            transmit: Vec::with_capacity(TRANSMIT_BOUND),
            spare: Vec::with_capacity(SPARE),
            long: None,
            early: Vec::new(),
            armed: false,
            short: false,
            looked: None,
            used: None,
            cost: Cost::default(),
            counters: DeviceCounters::default(),
        }
    }

    fn take(&mut self, len: usize) -> Option<DpdkFrame> {
        let mut frame = if len <= self.caps.mtu + ETHERNET_HEADER_LEN {
            if self.spare.is_empty() {
                self.pools.ordinary.allocate(&mut self.spare, SPARE);
            }
            self.spare.pop()?
        } else {
            self.prepare_long();
            self.long.take()?
        };
        frame.0.set_len(len).then_some(frame)
    }

    /// Whether there is a frame for a packet that is to be cut, where the port does that.
    fn prepare_long(&mut self) -> bool {
        if let (None, Some(pool)) = (&self.long, &self.pools.cut) {
            // Seldom enough for one at a time; `spare` is only where it passes through.
            let before = self.spare.len();
            pool.allocate(&mut self.spare, 1);
            if self.spare.len() > before {
                self.long = self.spare.pop();
            }
        }
        self.long.is_some() || self.pools.cut.is_none()
    }

    fn nap(&self) -> Park<'static> {
        let times = self.looked.zip(self.used);
        let silence = times.map_or(Duration::MAX, |(looked, used)| looked.duration_since(used));
        Park::Nap(LONGEST_NAP.min(silence / NAP_PART))
    }

    /// The most bytes of a frame to be transmitted.
    fn most(&self) -> usize {
        let packet = self.caps.segments_tcp4.unwrap_or(0).max(self.caps.mtu);
        packet + ETHERNET_HEADER_LEN
    }
}

impl Device for DpdkDevice {
    type Frame = DpdkFrame;

    fn name(&self) -> &'static str {
        "dpdk"
    }

    fn caps(&self) -> DeviceCaps {
        self.caps
    }

    fn receive(&mut self, now: Instant, frames: &mut Vec<DpdkFrame>) {
        self.looked = Some(now);
        let room = BURST - self.early.len();
        frames.append(&mut self.early);
        let received = self.queue.receive(frames, room) as u64;
        self.counters.received += received;
        if received > 0 {
            self.used = Some(now);
        }
    }

    fn allocate(&mut self, len: usize) -> Option<DpdkFrame> {
        if len > self.most() {
            return None;
        }
        let frame = (self.transmit.len() < TRANSMIT_BOUND)
            .then(|| self.take(len))
            .flatten();
        self.short = frame.is_none();
        self.counters.out_of_memory += u64::from(self.short);
        frame
    }

    fn may_transmit(&mut self) -> bool {
        if self.spare.is_empty() {
            self.pools.ordinary.allocate(&mut self.spare, SPARE);
        }
        let has_frames = !self.spare.is_empty() && self.prepare_long();
        self.short = !has_frames || self.transmit.len() >= TRANSMIT_BOUND;
        !self.short
    }

    fn transmit(&mut self, mut frame: DpdkFrame) {
        frame.0.cut_within(self.longest_segment as u16);
        self.transmit.push(frame);
    }

    fn flush(&mut self, now: Instant) {
        if self.transmit.is_empty() {
            return;
        }
        let sent = self.queue.transmit(&mut self.transmit) as u64;
        self.counters.transmitted += sent;
        if sent > 0 {
            self.cost.doorbells += 1;
            self.used = Some(now);
        }
    }

    fn park(&mut self) -> Park<'_> {
        // Neither room in a queue nor memory wakes anybody.
        if self.short || !self.transmit.is_empty() {
            return self.nap();
        }
        let Some(wake) = self.wake else {
            return self.nap();
        };
        if wake == Wake::Event {
            self.queue.arm();
            self.armed = true;
            self.counters.received += self.queue.receive(&mut self.early, BURST) as u64;
            if !self.early.is_empty() {
                return Park::Busy;
            }
        }
        match self.queue.descriptor() {
            Some(descriptor) => Park::Fd(descriptor),
            None => self.nap(),
        }
    }

    fn unpark(&mut self) {
        if self.armed {
            self.armed = false;
            self.queue.disarm();
            self.cost.system_calls += 1;
        }
    }

    fn is_link_up(&mut self) -> bool {
        self.queue.is_link_up()
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    /// Frames are those of this queue, everything that went wrong is the port's and told by its
    /// first queue only, so that the sum over the queues of a port is right.
    fn counters(&mut self) -> DeviceCounters {
        let refused = self.queue.refused();
        let mut counters = self.counters;
        counters.receive_errors = refused.received;
        counters.transmit_errors = refused.transmitted;
        counters.transmitted -= refused.transmitted;
        if self.queue.index() == 0 {
            let stats = self.queue.stats();
            counters.missed = stats.missed;
            counters.receive_errors += stats.rx_errors;
            counters.transmit_errors += stats.tx_errors;
            counters.out_of_memory += stats.rx_no_memory;
        }
        counters
    }
}
