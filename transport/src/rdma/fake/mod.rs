//! rdma-core without devices, for tests: its tables of functions, filled with ones that carry
//! everything within this process.
//!
//! It keeps to what the transport may rely on: order, one completion per signalled send, flushes
//! upon an error, a receive taken per send. It is stricter than a device: a send that finds no
//! receive posted fails at once, unless it is to wait for ever. All state is behind one lock. Each pair of hosts has a device of
//! its own (`10.x.y.1`, `10.x.y.2`, the same of 127 and of IPv6), to which alone faults apply.

#![allow(unsafe_code)]
// Every pointer that comes in was given out here, and lives until it is destroyed by name.
#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::cast_possible_wrap,
    clippy::cast_ptr_alignment,
    clippy::cast_sign_loss,
    clippy::unnecessary_wraps
)]

mod cm;
mod streams;
mod verbs;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::device::Libraries;
use super::{Rdma, RdmaConfig};
use crate::OpenError;
pub use streams::{Answer, Ends, Meddler, Passage};

/// Everything there is.
#[derive(Default)]
struct Fabric {
    /// Queue pairs by their numbers.
    queue_pairs: HashMap<u32, *mut verbs::QueuePair>,
    last_number: u32,
    listeners: HashMap<SocketAddr, *mut cm::Id>,
    /// How many ids are bound to an address.
    bound: HashMap<SocketAddr, usize>,
    last_port: u16,
    /// What ids are bound to, by device.
    managers: HashMap<u16, *mut msgr_rdma_sys::ibv_context>,
    /// What is opened, by device.
    contexts: HashMap<u16, Vec<*mut verbs::Context>>,
    faults: HashSet<(u16, Fault)>,
    /// Registered memory and what may be done with it, by its key.
    regions: HashMap<u32, (Range<u64>, u32)>,
    /// The connections of each device.
    streams: HashMap<u16, streams::Streams>,
    /// How many objects of each device there are.
    objects: HashMap<u16, i64>,
}

unsafe impl Send for Fabric {}

static FABRIC: Mutex<Option<Fabric>> = Mutex::new(None);

/// Runs with the lock held.
fn fabric<T>(with: impl FnOnce(&mut Fabric) -> T) -> T {
    let mut guard: MutexGuard<'_, _> = FABRIC.lock().unwrap_or_else(PoisonError::into_inner);
    with(guard.get_or_insert_default())
}

/// What can go wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No memory can be registered.
    Registration,
    /// No queue pair can be made.
    QueuePair,
    /// Sends go nowhere, and nobody says so.
    Silence,
    /// The next send fails for want of an answer.
    NoAnswer,
    /// The next send arrives as an offer.
    Garbled,
}

/// A device with as many hosts as there are addresses.
#[derive(Debug)]
pub struct FakeDevice(u16);

impl FakeDevice {
    /// One of its own.
    #[allow(clippy::new_without_default)] // No two are the same.
    pub fn new() -> Self {
        static LAST: AtomicU16 = AtomicU16::new(0);
        Self(1 + LAST.fetch_add(1, Ordering::Relaxed) % u16::MAX)
    }

    /// The transport of a host, which opens the device at any of the addresses.
    ///
    /// # Errors
    /// As [`Rdma::new`].
    pub fn open(config: RdmaConfig) -> Result<Rdma, OpenError> {
        Rdma::with(libraries(), config)
    }

    /// Where a host is.
    pub fn address(&self, host: u8) -> IpAddr {
        let [high, low] = self.0.to_be_bytes();
        [10, high, low, host].into()
    }

    /// One that this host has, too, so that it can be reached by TCP.
    pub fn loopback(&self, host: u8) -> IpAddr {
        let [high, low] = self.0.to_be_bytes();
        [127, high, low, host].into()
    }

    /// The same of IPv6.
    pub fn address_v6(&self, host: u8) -> IpAddr {
        [0xfd00, self.0, 0, 0, 0, 0, 0, host.into()].into()
    }

    /// From now on.
    pub fn set(&self, fault: Fault) {
        fabric(|fabric| fabric.faults.insert((self.0, fault)));
    }

    /// Everything is in order again.
    pub fn heal(&self) {
        fabric(|fabric| fabric.faults.retain(|(device, _)| *device != self.0));
    }

    /// Nothing on this device works any more.
    pub fn die(&self) {
        verbs::die(self.0);
    }

    /// How many contexts, domains, regions, queues and queue pairs of it there are.
    pub fn objects(&self) -> i64 {
        fabric(|fabric| fabric.objects.get(&self.0).copied().unwrap_or_default())
    }
}

/// Which device an address is of.
fn device_of(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(ip) => u16::from_be_bytes([ip.octets()[1], ip.octets()[2]]),
        IpAddr::V6(ip) => ip.segments()[1],
    }
}

impl Fabric {
    fn has(&self, device: u16, fault: Fault) -> bool {
        self.faults.contains(&(device, fault))
    }

    /// Whether so much memory is registered with this key, for this use.
    fn holds(&self, key: u32, element: &msgr_rdma_sys::ibv_sge, access: u32) -> bool {
        let end = element.addr + u64::from(element.length);
        self.regions.get(&key).is_some_and(|(region, allowed)| {
            region.start <= element.addr && end <= region.end && allowed & access == access
        })
    }

    fn count(&mut self, device: u16, change: i64) {
        *self.objects.entry(device).or_default() += change;
    }
}

/// The tables.
pub(super) fn libraries() -> Libraries {
    Libraries {
        verbs: &verbs::VERBS,
        cm: &cm::CM,
    }
}

/// A descriptor that is readable as long as more was signalled than taken.
struct Bell(OwnedFd);

impl Bell {
    fn new() -> Self {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE;
        Self(eventfd(0, flags).expect("a descriptor"))
    }

    fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    fn ring(&self) {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).expect("it is not full");
    }

    fn take(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// Sets errno, as failing calls do.
fn fail(errno: rustix::io::Errno) -> i32 {
    set_errno(errno.raw_os_error());
    -1
}

fn set_errno(errno: i32) {
    unsafe extern "C" {
        fn __errno_location() -> *mut i32;
    }
    unsafe { *__errno_location() = errno };
}
