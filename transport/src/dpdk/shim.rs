//! A safe face for [`msgr_dpdk_sys::Calls`], and all the unsafe code there is: environment, ports,
//! queues, pools and mbufs as values that end what they began.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::{self, ManuallyDrop};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::{fmt, io, ptr, slice, thread};

use msgr_dpdk_sys::{Calls, Info, RawFrame, Stats};
use rustix::io::Errno;

use super::DpdkFrame;

/// What went wrong, and what DPDK wrote to its log meanwhile.
pub(super) type Failure = (io::Error, Vec<String>);

/// DPDK, its environment running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dpdk(&'static Calls);

/// What only one thread may do at a time: everything but bursts and memory.
#[derive(Default)]
struct Control {
    /// Ports in use.
    ports: Vec<u16>,
    /// Pools not in use.
    pools: Vec<(PoolShape, SharedPool)>,
    /// Names given so far.
    names: u32,
}

static CONTROL: Mutex<Control> = Mutex::new(Control {
    ports: Vec::new(),
    pools: Vec::new(),
    names: 0,
});

fn control() -> MutexGuard<'static, Control> {
    COMPLAINTS.lock().expect("nobody panics with it").clear();
    CONTROL.lock().expect("nobody panics with it")
}

impl Control {
    fn name(&mut self) -> CString {
        self.names += 1;
        CString::new(format!("msgr{}", self.names)).expect("there is no zero in it")
    }
}

fn check(result: c_int) -> Result<c_int, Failure> {
    if result >= 0 {
        Ok(result)
    } else {
        Err(failure(Errno::from_raw_os_error(-result)))
    }
}

fn failure(error: Errno) -> Failure {
    let log = mem::take(&mut *COMPLAINTS.lock().expect("nobody panics with it"));
    (error.into(), log)
}

/// The last of what DPDK complained about, oldest first.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// DPDK's log, see `LogFn`.
unsafe extern "C" fn log(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the caller passes so many readable bytes.
    let text = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end();
    // Errors and worse, of which some are none: level 4 is RTE_LOG_ERR.
    if level > 4 {
        tracing::debug!(target: "dpdk", "{text}");
        return;
    }
    tracing::warn!(target: "dpdk", "{text}");
    let mut complaints = COMPLAINTS.lock().expect("nobody panics with it");
    if complaints.len() == 4 {
        complaints.remove(0);
    }
    complaints.push(text.into());
}

impl Dpdk {
    /// Starts the environment on a thread that stays: it is pinned, and must not end.
    pub(super) fn start(calls: &'static Calls, argv: Vec<CString>) -> Result<Self, Failure> {
        drop(control());
        let (started, outcome) = mpsc::sync_channel(1);
        let run = move || {
            let mut pointers: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
            let count = c_int::try_from(pointers.len()).expect("a handful of arguments");
            pointers.push(ptr::null_mut());
            // DPDK keeps pointers into it.
            let argv = ManuallyDrop::new(pointers).as_mut_ptr();
            // SAFETY: an argument vector that stays, on a thread that stays.
            let result = unsafe { (calls.start)(count, argv, log) };
            // Fails only if nobody waits.
            let _ = started.send(result);
            loop {
                thread::park();
            }
        };
        thread::Builder::new()
            .name("dpdk-eal".into())
            .spawn(run)
            .map_err(|error| (error, Vec::new()))?;
        check(outcome.recv().unwrap_or(-Errno::CANCELED.raw_os_error()))?;
        Ok(Self(calls))
    }

    /// Finds or plugs in a device, `name` or `name,key=value,...`
    pub(super) fn attach(self, devargs: &CStr) -> Result<Port, Failure> {
        let mut control = control();
        let mut id = 0;
        // SAFETY: the environment runs, and we are alone in control.
        check(unsafe { (self.0.attach)(devargs.as_ptr(), &raw mut id) })?;
        if control.ports.contains(&id) {
            return Err(failure(Errno::BUSY));
        }
        control.ports.push(id);
        Ok(Port {
            dpdk: self,
            id,
            offloads: 0,
            rings: None,
        })
    }

    /// Two ports that are connected to each other queue by queue.
    pub(super) fn ring_pair(self, queues: u16) -> Result<[Port; 2], Failure> {
        let mut control = control();
        let name = control.name();
        let mut rings = Rings {
            dpdk: self,
            rings: vec![ptr::null_mut(); 2 * usize::from(queues)],
        };
        let mut ids = [0; 2];
        // SAFETY: the environment runs, we are alone in control, and there is room for as many
        // rings and ports as will be written.
        let result = unsafe {
            (self.0.ring_pair)(
                name.as_ptr(),
                queues,
                RING_SIZE,
                rings.rings.as_mut_ptr(),
                ids.as_mut_ptr(),
            )
        };
        if let Err(failure) = check(result) {
            // They are gone already.
            rings.rings.clear();
            return Err(failure);
        }
        control.ports.extend(ids);
        let rings = Arc::new(rings);
        Ok(ids.map(|id| Port {
            dpdk: self,
            id,
            offloads: 0,
            rings: Some(Arc::clone(&rings)),
        }))
    }
}

/// Frames in flight in each direction of a queue, and one.
const RING_SIZE: u32 = 512;

/// The rings between two ports. What is still in them goes with them.
#[derive(Debug)]
struct Rings {
    dpdk: Dpdk,
    rings: Vec<*mut c_void>,
}

// SAFETY: nothing is done with them but to free them, by their owner.
unsafe impl Send for Rings {}
// SAFETY: nothing can be done with a shared reference to them.
unsafe impl Sync for Rings {}

impl Drop for Rings {
    fn drop(&mut self) {
        let _control = control();
        // SAFETY: they exist, and the ports that used them are closed: each of them kept us.
        unsafe { (self.dpdk.0.free_rings)(self.rings.as_mut_ptr(), self.rings.len() as u16) };
    }
}

/// How a port is to be opened.
#[derive(Debug)]
pub(super) struct Setup {
    /// Receive queues, and as many transmit queues.
    pub(super) queues: u16,
    /// Frames of each, if the port allows.
    pub(super) descriptors: u16,
    /// Bytes of an IP packet.
    pub(super) mtu: u16,
    /// Of those that the port reports.
    pub(super) offloads: u32,
    /// Whether receive queues may interrupt.
    pub(super) interrupts: bool,
}

/// A port that is ours. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Port {
    dpdk: Dpdk,
    id: u16,
    offloads: u32,
    /// Freed after the port is closed.
    rings: Option<Arc<Rings>>,
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut control = control();
        // SAFETY: it is ours, and its queues are gone: each of them kept us.
        unsafe { (self.dpdk.0.close_port)(self.id) };
        control.ports.retain(|&id| id != self.id);
        drop(control);
        self.rings = None;
    }
}

impl Port {
    /// Its number in this process.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn info(&self) -> Result<Info, Failure> {
        let _control = control();
        let mut info = Info::default();
        // SAFETY: the port exists.
        check(unsafe { (self.dpdk.0.info)(self.id, &raw mut info) })?;
        Ok(info)
    }

    /// A pool that is not in use.
    pub(super) fn pool(&self, shape: PoolShape) -> Result<Pool, Failure> {
        let mut control = control();
        let same = control.pools.iter().position(|(other, _)| *other == shape);
        let pool = if let Some(same) = same {
            control.pools.swap_remove(same).1
        } else {
            let name = control.name();
            // Each thread may keep half as many again.
            let cache = (shape.frames / 16).min(128);
            // SAFETY: the environment runs, and we are alone in control.
            let pool = unsafe {
                (self.dpdk.0.pool)(
                    name.as_ptr(),
                    shape.frames,
                    cache,
                    shape.room,
                    shape.dense.into(),
                )
            };
            if pool.is_null() {
                let (error, mut log) = failure(Errno::NOMEM);
                log.push(format!("no memory is left for {shape}"));
                return Err((error, log));
            }
            SharedPool(pool)
        };
        Ok(Pool {
            calls: self.dpdk.0,
            shape,
            raw: pool,
        })
    }

    /// Opens it, receiving into `pool`.
    pub(super) fn open(mut self, pool: &Pool, setup: &Setup) -> Result<Vec<Queue>, Failure> {
        let raw = msgr_dpdk_sys::Setup {
            pool: pool.raw.0,
            queues: setup.queues,
            rx_descriptors: setup.descriptors,
            tx_descriptors: setup.descriptors,
            mtu: setup.mtu,
            offloads: setup.offloads,
            interrupts: setup.interrupts.into(),
        };
        let lock = control();
        // SAFETY: the port is ours, nobody uses a queue of it, and pools stay.
        check(unsafe { (self.dpdk.0.open_port)(self.id, &raw const raw) })?;
        drop(lock);
        self.offloads = setup.offloads;
        let port = Arc::new(self);
        Ok((0..setup.queues)
            .map(|index| Queue {
                port: Arc::clone(&port),
                index,
                refused: Refused::default(),
            })
            .collect())
    }
}

/// One receive and one transmit queue of a port, the only handle to them.
#[derive(Debug)]
pub(super) struct Queue {
    port: Arc<Port>,
    index: u16,
    refused: Refused,
}

/// Frames that were dropped here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refused {
    /// They were in several buffers and would not fit in one.
    pub(super) received: u64,
    /// The driver cannot send them.
    pub(super) transmitted: u64,
}

/// How the descriptor of a queue tells that something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// It is an event counter, which is read, and written to only while armed.
    Event,
    /// It is readable as long as there is something to receive.
    Level,
}

impl Queue {
    pub(super) fn index(&self) -> u16 {
        self.index
    }

    pub(super) fn refused(&self) -> Refused {
        self.refused
    }

    fn calls(&self) -> &'static Calls {
        self.port.dpdk.0
    }

    /// Appends at most `most` frames and returns how many came.
    pub(super) fn receive(&mut self, frames: &mut Vec<DpdkFrame>, most: usize) -> usize {
        register_thread(self.calls());
        frames.reserve(most);
        let spare = frames.spare_capacity_mut().as_mut_ptr().cast::<RawFrame>();
        let refused = &raw mut self.refused.received;
        // SAFETY: the port is open and nobody else uses the queue. There is room for `most`
        // frames, and `DpdkFrame` is a `RawFrame`.
        let received = usize::from(unsafe {
            (self.port.dpdk.0.receive)(self.port.id, self.index, spare, most as u16, refused)
        });
        // SAFETY: so many have just been written, and are ours.
        unsafe { frames.set_len(frames.len() + received) };
        received
    }

    /// Hands over frames from the front, as many as the port takes, and returns how many.
    pub(super) fn transmit(&mut self, frames: &mut Vec<DpdkFrame>) -> usize {
        let refused = &raw mut self.refused.transmitted;
        // SAFETY: the port is open and nobody else uses the queue; as many frames as are said,
        // and `DpdkFrame` is a `RawFrame`.
        let taken = usize::from(unsafe {
            (self.port.dpdk.0.transmit)(
                self.port.id,
                self.index,
                frames.as_ptr().cast::<RawFrame>(),
                frames.len() as u16,
                self.port.offloads,
                refused,
            )
        });
        // What was taken is not ours any more.
        frames.drain(..taken).for_each(mem::forget);
        taken
    }

    /// How the queue wakes a sleeper, if it can.
    pub(super) fn wake(&self) -> Option<Wake> {
        self.descriptor()?;
        if self.interrupt(true) {
            self.interrupt(false);
            Some(Wake::Event)
        } else {
            Some(Wake::Level)
        }
    }

    /// What becomes readable.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the port is open.
        let fd = unsafe { (self.calls().interrupt_fd)(self.port.id, self.index) };
        // SAFETY: it is open for as long as the port is, which we keep. Drivers for which that
        // is not so are opened without interrupts.
        (fd > 2).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// From now on the queue interrupts.
    pub(super) fn arm(&mut self) {
        self.interrupt(true);
    }

    /// Undoes that, and takes the event if there was one.
    pub(super) fn disarm(&mut self) {
        self.interrupt(false);
        if let Some(fd) = self.descriptor() {
            // It does not block, and there may be nothing to read.
            let _ = rustix::io::read(fd, &mut [0; 8]);
        }
    }

    fn interrupt(&self, enable: bool) -> bool {
        // SAFETY: the port is open.
        let result =
            unsafe { (self.calls().interrupt)(self.port.id, self.index, u32::from(enable)) };
        result == 0
    }

    pub(super) fn is_link_up(&self) -> bool {
        // SAFETY: the port is open.
        unsafe { (self.calls().link_up)(self.port.id) == 1 }
    }

    /// Of the whole port.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        // SAFETY: the port is open. A failure leaves the zeros.
        unsafe { (self.calls().stats)(self.port.id, &raw mut stats) };
        stats
    }
}

/// A thread that takes and gives frames has a cache of every pool, if it is one of the first 128.
fn register_thread(calls: &'static Calls) {
    struct Registered(Option<&'static Calls>);

    impl Drop for Registered {
        fn drop(&mut self) {
            if let Some(calls) = self.0 {
                // SAFETY: this thread is registered.
                unsafe { (calls.unregister_thread)() };
            }
        }
    }

    thread_local! {
        static REGISTERED: std::cell::OnceCell<Registered> = const { std::cell::OnceCell::new() };
    }

    // A thread that is ending does without.
    let _ = REGISTERED.try_with(|registered| {
        registered.get_or_init(|| {
            // SAFETY: whoever polls has a queue, so the environment runs.
            let result = unsafe { (calls.register_thread)() };
            Registered((result == 0).then_some(calls))
        });
    });
}

/// How many frames of what size are in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolShape {
    pub(super) frames: u32,
    pub(super) room: u16,
    /// Whether they lie side by side, across pages.
    pub(super) dense: bool,
}

impl fmt::Display for PoolShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames of {} bytes", self.frames, self.room)
    }
}

#[derive(Debug)]
struct SharedPool(*mut c_void);

// SAFETY: DPDK's pools may be used by any number of threads, and are never freed.
unsafe impl Send for SharedPool {}
// SAFETY: as above.
unsafe impl Sync for SharedPool {}

/// Memory for frames. Frames may outlive their port, so it is never freed; when dropped it waits
/// for another port.
#[derive(Debug)]
pub(super) struct Pool {
    calls: &'static Calls,
    shape: PoolShape,
    raw: SharedPool,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let pool = SharedPool(self.raw.0);
        control().pools.push((self.shape, pool));
    }
}

impl Pool {
    /// Appends at most `most` frames, each as long as there is space.
    pub(super) fn allocate(&self, frames: &mut Vec<DpdkFrame>, most: usize) {
        register_thread(self.calls);
        frames.reserve(most);
        let spare = frames.spare_capacity_mut().as_mut_ptr().cast::<RawFrame>();
        // SAFETY: pools stay; there is room for `most` frames, and `DpdkFrame` is a `RawFrame`.
        let got = unsafe { (self.calls.allocate)(self.raw.0, spare, most as u16) };
        // SAFETY: so many have just been written, and are ours.
        unsafe { frames.set_len(frames.len() + usize::from(got)) };
    }
}

/// An mbuf, and the frame in it.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Mbuf(RawFrame);

// SAFETY: an mbuf is plain memory of its owner, and any thread may give it back.
unsafe impl Send for Mbuf {}

impl Drop for Mbuf {
    fn drop(&mut self) {
        let calls = msgr_dpdk_sys::calls().expect("what made this frame is loaded");
        // SAFETY: it is ours, and nobody has it after us.
        unsafe { (calls.release)(self.0.mbuf) };
    }
}

impl Mbuf {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are in the mbuf, which is ours; pools are memory that the system
        // has zeroed.
        unsafe { slice::from_raw_parts(self.0.data, self.0.len as usize) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has it.
        unsafe { slice::from_raw_parts_mut(self.0.data, self.0.len as usize) }
    }

    /// Shortens the frame. False if it is too short already.
    pub(super) fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= self.0.len as usize;
        if fits {
            self.0.len = len as u32;
        }
        fits
    }

    pub(super) fn checksums(&self) -> u8 {
        self.0.checksums
    }

    /// Asks for a TCP checksum, and with `segment` other than 0 for segments of so much payload.
    pub(super) fn offload(&mut self, is_ipv6: bool, ip_len: u16, tcp_len: u16, segment: u16) {
        self.0.offload = if is_ipv6 { 2 } else { 1 };
        self.0.ip_len = ip_len;
        self.0.tcp_len = tcp_len;
        self.0.segment = segment;
    }

    /// If it is to be cut, then into IP packets of at most so many bytes.
    pub(super) fn cut_within(&mut self, packet: u16) {
        let most = packet.saturating_sub(self.0.ip_len + self.0.tcp_len);
        self.0.segment = self.0.segment.min(most);
    }
}
