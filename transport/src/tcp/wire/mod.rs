//! [`Wire`]: an Ethernet within one process, for tests and measurements on any host.
//!
//! It is a switch that ports are plugged into, on any threads: frames move from one port's
//! transmit queue into another's receive queue, a burst at a time and without a copy. On the way
//! they may be delayed, and suffer faults by seeded chance. Time is what the ports are told, so
//! that ports of one thread, in virtual time, always do the same. Nothing here knows what is in a
//! frame behind the Ethernet header, but that a port with several queues spreads TCP.

mod fault;
mod frame;
mod inbox;
mod pcap;
mod port;

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fault::Weather;
pub use fault::{WireFaultCounts, WireFaults};
pub use frame::WireFrame;
use frame::{Home, Pool, Spares};
use inbox::Inbox;
use pcap::Capture;
pub use port::WirePort;

use super::rss::MOST_QUEUES;
use super::{ETHERNET_HEADER_LEN, Mac};

/// The most bytes of an IP packet (RFC 791, section 3.1).
const LONGEST_PACKET: usize = 65535;

/// Longer delays count as this.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a [`Wire`] is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WireConfig {
    /// The most bytes of an IP packet in one frame, from 1 to 65535.
    pub mtu: usize,
    /// The most frames that wait at a port or are under way to it, at least 1. What comes on top
    /// is dropped, and counted as missed.
    pub queue: usize,
    /// How long a frame takes, at most a day. With zero it has arrived when it is flushed.
    pub latency: Duration,
    /// What goes wrong at first.
    pub faults: WireFaults,
    /// What chance is made of.
    pub seed: u64,
}

impl Default for WireConfig {
    /// An MTU of 1500 bytes (RFC 894), queues of 4096 frames, no latency and no faults.
    fn default() -> Self {
        Self {
            mtu: 1500,
            queue: 4096,
            latency: Duration::ZERO,
            faults: WireFaults::default(),
            seed: 0,
        }
    }
}

/// An Ethernet within this process. Clones share it.
#[derive(Clone)]
pub struct Wire(Arc<Shared>);

/// What the ports of a wire have in common.
struct Shared {
    config: WireConfig,
    pool: Arc<Pool>,
    plugged: Mutex<Plugged>,
    /// Counts the changes of what is plugged in, so that ports look only then.
    changes: AtomicU64,
    /// Whether frames arrive at once, and all of them.
    is_fair: AtomicBool,
    weather: Mutex<Weather>,
    is_captured: AtomicBool,
    capture: Mutex<Option<Capture>>,
    /// Frames for an address that no other port has.
    unknown: AtomicU64,
}

struct Plugged {
    last: u32,
    ports: Ports,
}

/// The queues of the ports that are plugged in, by the number of the port.
type Ports = Arc<[(u32, Arc<Inbox>)]>;

impl Wire {
    /// An Ethernet without ports. Numbers in `config` that are out of range count as the nearest
    /// that is not.
    pub fn new(mut config: WireConfig) -> Self {
        config.mtu = config.mtu.clamp(1, LONGEST_PACKET);
        config.queue = config.queue.max(1);
        let weather = Weather::new(config.seed, config.faults);
        Self(Arc::new(Shared {
            config,
            pool: Arc::new(Pool::new(config.mtu + ETHERNET_HEADER_LEN, config.queue)),
            plugged: Mutex::new(Plugged {
                last: 0,
                ports: Arc::default(),
            }),
            changes: AtomicU64::new(0),
            is_fair: AtomicBool::new(config.latency.is_zero() && !weather.is_foul()),
            weather: Mutex::new(weather),
            is_captured: AtomicBool::new(false),
            capture: Mutex::new(None),
            unknown: AtomicU64::new(0),
        }))
    }

    /// Plugs in a port, which has an address of its own: the first 02:00:00:00:00:01, and so on
    /// (locally administered, RFC 9542, section 2.1). To drop the port is to unplug it.
    pub fn port(&self) -> WirePort {
        self.plug_in(1).pop().expect("one queue")
    }

    /// Plugs in a port with several queues, at least 1 and at most 64. It spreads what arrives as
    /// hardware does: TCP by a symmetric hash of addresses and ports, the rest to the first queue.
    pub fn queues(&self, count: usize) -> Vec<WirePort> {
        self.plug_in(count.clamp(1, MOST_QUEUES))
    }

    fn plug_in(&self, queues: usize) -> Vec<WirePort> {
        let shared = &self.0;
        let mut plugged = lock(&shared.plugged);
        plugged.last += 1;
        let number = plugged.last;
        let new = (0..queues).map(|_| (number, Arc::new(Inbox::new(shared.config.queue))));
        let new: Vec<_> = new.collect();
        plugged.ports = plugged.ports.iter().chain(&new).cloned().collect();
        shared.changes.fetch_add(1, Ordering::Release);
        drop(plugged);
        let queue = |(number, inbox)| {
            let spares = Spares::new(Arc::new(Home::new(Arc::clone(&shared.pool))));
            WirePort::new(Arc::clone(shared), number, inbox, spares)
        };
        new.into_iter().map(queue).collect()
    }

    /// What goes wrong with frames flushed from now on.
    pub fn set_faults(&self, faults: WireFaults) {
        let mut weather = lock(&self.0.weather);
        weather.faults = faults;
        let is_fair = self.0.config.latency.is_zero() && !weather.is_foul();
        self.0.is_fair.store(is_fair, Ordering::Relaxed);
    }

    /// What has gone wrong so far.
    pub fn fault_counts(&self) -> WireFaultCounts {
        lock(&self.0.weather).counts
    }

    /// How many frames were for an address that no other port has, and went nowhere.
    pub fn unknown_destinations(&self) -> u64 {
        self.0.unknown.load(Ordering::Relaxed)
    }

    /// How many frame buffers were ever allocated. In a steady state they are used again.
    pub fn buffers(&self) -> u64 {
        self.0.pool.made()
    }

    /// Records every frame flushed from now on, as it was sent, in the format of pcap-savefile(5),
    /// cut to 65535 bytes. Its times count from the first frame. Ends an earlier capture, as
    /// [`end_capture`](Self::end_capture).
    ///
    /// # Errors
    ///
    /// If the header cannot be written, or the earlier capture was not complete.
    pub fn capture(&self, to: impl Write + Send + 'static) -> io::Result<()> {
        self.end_capture()?;
        *lock(&self.0.capture) = Some(Capture::start(Box::new(to))?);
        self.0.is_captured.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the capture, if there is one, and flushes it. Without this, whatever the writer
    /// buffers is written when the last clone of the wire and the last of its ports are dropped.
    ///
    /// # Errors
    ///
    /// The first error that the writer gave: the frames after that are missing.
    pub fn end_capture(&self) -> io::Result<()> {
        self.0.is_captured.store(false, Ordering::Relaxed);
        lock(&self.0.capture).take().map_or(Ok(()), Capture::end)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wire = f.debug_struct("Wire");
        wire.field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Shared {
    fn unplug(&self, inbox: &Arc<Inbox>) {
        let mut plugged = lock(&self.plugged);
        let there = plugged.ports.iter();
        let there = there.filter(|(_, one)| !Arc::ptr_eq(one, inbox));
        plugged.ports = there.cloned().collect();
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// The address of a port.
fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    [0x02, 0, a, b, c, d]
}

/// The port that has, or would have, an address.
fn number(mac: Mac) -> Option<u32> {
    match mac {
        [0x02, 0, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn later(at: Instant, delay: Duration) -> Instant {
    at + delay.min(LONGEST_DELAY)
}

/// No invariant spans a panic here: what others left behind is as good as ever.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
