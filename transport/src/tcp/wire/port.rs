//! [`WirePort`]: one queue of a port of a [`Wire`](super::Wire), for one owner at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::frame::{Raw, Spares, WireFrame};
use super::inbox::Inbox;
use super::{Ports, Shared, later, lock, mac, number};
use crate::tcp::rss;
use crate::tcp::{BURST, Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN, Mac};
use crate::{Cost, Park};

/// The most frames that wait to be flushed.
/// Nothing becomes short: buffers are made as needed.
const LENDS: usize = 1024;
const OUTGOING: usize = 256;
/// How long to sleep if nothing can wake us.
const NAP: Duration = Duration::from_millis(1);
/// Set in the first byte of an address of several stations (IEEE 802.3, clause 3.2.3).
const GROUP: u8 = 1;

/// A port of a [`Wire`](super::Wire), or a queue of one. To drop it is to unplug it, with what waits
/// in it.
pub struct WirePort {
    wire: Arc<Shared>,
    number: u32,
    inbox: Arc<Inbox>,
    spares: Spares,
    /// Who is plugged in, as of that many changes.
    ports: Ports,
    changes: u64,
    outgoing: Vec<Raw>,
    /// What is being flushed, by the index in `ports` of where it goes. Kept for their memory.
    bursts: Vec<(usize, Vec<Raw>)>,
    /// When the inbox is to be looked at, as far as we know.
    next: Option<Instant>,
    cost: Cost,
    counters: DeviceCounters,
}

impl WirePort {
    pub(super) fn new(wire: Arc<Shared>, number: u32, inbox: Arc<Inbox>, spares: Spares) -> Self {
        Self {
            wire,
            number,
            inbox,
            spares,
            ports: Arc::default(),
            changes: 0,
            outgoing: Vec::with_capacity(OUTGOING),
            bursts: Vec::new(),
            next: None,
            cost: Cost::default(),
            counters: DeviceCounters::default(),
        }
    }

    /// Its hardware address.
    pub fn mac(&self) -> Mac {
        mac(self.number)
    }

    /// Learns who is plugged in, if that has changed.
    fn look_around(&mut self) {
        if self.wire.changes.load(Ordering::Acquire) != self.changes {
            let plugged = lock(&self.wire.plugged);
            self.changes = self.wire.changes.load(Ordering::Relaxed);
            self.ports = Arc::clone(&plugged.ports);
        }
    }

    /// Adds a frame to a burst of those to whom it goes.
    fn switch(&mut self, frame: Raw) {
        let Some(&to) = frame.bytes().first_chunk() else {
            self.spares.give(frame.buffer);
            return;
        };
        if to[0] & GROUP != 0 {
            let mut last = self.number;
            for index in 0..self.ports.len() {
                let number = self.ports[index].0;
                // What is for all goes to the first queue of each.
                if number != self.number && number != last {
                    let copy = self.spares.copy(&frame);
                    self.burst(index).push(copy);
                }
                last = number;
            }
            self.spares.give(frame.buffer);
            return;
        }
        let to = number(to).filter(|&to| to != self.number).unwrap_or(0);
        let first = self.ports.partition_point(|port| port.0 < to);
        let there = self.ports[first..].iter();
        match there.take_while(|port| port.0 == to).count() {
            0 => {
                self.wire.unknown.fetch_add(1, Ordering::Relaxed);
                self.spares.give(frame.buffer);
            }
            1 => self.burst(first).push(frame),
            queues => {
                let queue = rss::queue_of_frame(frame.bytes(), queues);
                self.burst(first + queue).push(frame);
            }
        }
    }

    /// What is being flushed to one port. Few are served at a time.
    fn burst(&mut self, to: usize) -> &mut Vec<Raw> {
        let mut bursts = self.bursts.iter();
        let at = bursts.position(|(port, frames)| *port == to || frames.is_empty());
        let at = at.unwrap_or_else(|| {
            self.bursts.push((to, Vec::with_capacity(BURST)));
            self.bursts.len() - 1
        });
        let (port, frames) = &mut self.bursts[at];
        *port = to;
        frames
    }

    /// Delivers a burst. Returns whether that took a system call.
    fn deliver(&mut self, to: usize, frames: &mut Vec<Raw>, now: Instant) -> bool {
        let inbox = &self.ports[to].1;
        if self.wire.is_fair.load(Ordering::Relaxed) {
            let woken = inbox.deliver(frames, now);
            for missed in frames.drain(..) {
                self.spares.give(missed.buffer);
            }
            return woken;
        }
        let at = later(now, self.wire.config.latency);
        let mut arriving = lock(&self.wire.weather).suffer(frames, at, &mut self.spares);
        let woken = !arriving.is_empty() && inbox.deliver_at(&mut arriving, now);
        for (_, missed) in arriving {
            self.spares.give(missed.buffer);
        }
        woken
    }

    fn record(&self, now: Instant) {
        if let Some(capture) = &mut *lock(&self.wire.capture) {
            for frame in &self.outgoing {
                capture.record(now, frame.bytes());
            }
        }
    }
}

impl Device for WirePort {
    type Frame = WireFrame;

    fn name(&self) -> &'static str {
        "wire"
    }

    fn caps(&self) -> DeviceCaps {
        DeviceCaps {
            mac: self.mac(),
            mtu: self.wire.config.mtu,
            verifies_checksums: false,
            computes_checksums: false,
            segments_tcp4: None,
            lends: LENDS,
        }
    }

    fn receive(&mut self, now: Instant, frames: &mut Vec<WireFrame>) {
        if !self.inbox.has_news() && self.next.is_none_or(|next| now < next) {
            return;
        }
        let before = frames.len();
        let (inbox, spares) = (&self.inbox, &self.spares);
        self.next = inbox.take(now, BURST, |raw| frames.push(spares.frame(raw)));
        self.counters.received += (frames.len() - before) as u64;
    }

    fn allocate(&mut self, len: usize) -> Option<WireFrame> {
        if len > self.spares.buffer_len() || !self.may_transmit() {
            return None;
        }
        let buffer = self.spares.take();
        Some(self.spares.frame(Raw { buffer, len }))
    }

    fn may_transmit(&mut self) -> bool {
        self.outgoing.len() < OUTGOING
    }

    fn transmit(&mut self, frame: WireFrame) {
        if frame.len() < ETHERNET_HEADER_LEN {
            self.counters.transmit_errors += 1;
        } else {
            self.outgoing.push(frame.into_raw());
        }
    }

    fn flush(&mut self, now: Instant) {
        if self.outgoing.is_empty() {
            return;
        }
        self.cost.doorbells += 1;
        self.counters.transmitted += self.outgoing.len() as u64;
        if self.wire.is_captured.load(Ordering::Relaxed) {
            self.record(now);
        }
        self.look_around();
        let mut outgoing = std::mem::take(&mut self.outgoing);
        for frame in outgoing.drain(..) {
            self.switch(frame);
        }
        self.outgoing = outgoing;
        let mut bursts = std::mem::take(&mut self.bursts);
        for (to, frames) in bursts.iter_mut().filter(|(_, frames)| !frames.is_empty()) {
            let woken = self.deliver(*to, frames, now);
            self.cost.system_calls += u64::from(woken);
        }
        self.bursts = bursts;
    }

    /// Also, while frames wait to be received, since when.
    fn next_timeout(&self) -> Option<Instant> {
        if self.inbox.has_news() {
            self.inbox.next()
        } else {
            self.next
        }
    }

    fn park(&mut self) -> Park<'_> {
        self.inbox.bell.park();
        if self.inbox.has_news() {
            return Park::Busy;
        }
        let descriptor = self.inbox.bell.descriptor();
        descriptor.map_or(Park::Nap(NAP), Park::Fd)
    }

    fn unpark(&mut self) {
        self.cost.system_calls += u64::from(self.inbox.bell.unpark());
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn counters(&mut self) -> DeviceCounters {
        self.counters.missed = self.inbox.missed();
        self.counters
    }
}

impl Drop for WirePort {
    fn drop(&mut self) {
        self.wire.unplug(&self.inbox);
    }
}
