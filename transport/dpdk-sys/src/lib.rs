//! The calls into DPDK that msgr needs, one per burst: [`calls`] gives the table of them.
//!
//! They are in C (`shim.c`), because DPDK's own are inline functions over structures that change
//! between releases. The shim is a shared object inside this executable, loaded when it is first
//! asked for: only then does the host need DPDK's libraries, in the release that the shim was built
//! with. Nothing here knows what a port is used for; nothing is safe to call but [`calls`].

#![deny(missing_docs)]

use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

/// Names a file to load instead of the shim inside this executable, for hosts that do not execute
/// what is in memory only (`vm.memfd_noexec` in sysctl).
pub const SHIM_VARIABLE: &str = "MSGR_DPDK_SHIM";

/// The shim: a shared object, or nothing where DPDK's development files were not found at build
/// time.
pub static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.so"));

/// The table of calls, loaded by the first one who asks. A failure is final, too.
///
/// # Errors
/// [`LoadError`], which says what this host or this executable lacks.
pub fn calls() -> Result<&'static Calls, &'static LoadError> {
    static CALLS: OnceLock<Result<&'static Calls, LoadError>> = OnceLock::new();
    CALLS
        .get_or_init(|| match std::env::var_os(SHIM_VARIABLE) {
            Some(path) => open(Path::new(&path)),
            None if SHIM.is_empty() => Err(LoadError::BuiltWithout),
            None => open_embedded(),
        })
        .as_ref()
        .copied()
}

/// Why there is no DPDK here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its development files were missing when this executable was built.
    #[error("this executable was built without DPDK (libdpdk-dev 22.11)")]
    BuiltWithout,
    /// The dynamic linker refused; it names the library that is missing.
    #[error("DPDK cannot be loaded: {message}")]
    Library {
        /// What it said, see dlerror(3).
        message: String,
    },
    /// The shim could not be made a file in memory (`memfd_create(2)`).
    #[error("no file in memory to load DPDK's shim from: {0}")]
    Memory(#[source] std::io::Error),
    /// A shim of another build, in the file that [`SHIM_VARIABLE`] names.
    #[error("{} belongs to another build of this executable", path.display())]
    OtherBuild {
        /// The file.
        path: PathBuf,
    },
}

fn open_embedded() -> Result<&'static Calls, LoadError> {
    let create = |flags| rustix::fs::memfd_create(c"msgr-dpdk-shim", flags);
    let file = create(MemfdFlags::CLOEXEC | MemfdFlags::EXEC)
        // Before Linux 6.3 there is no such flag, and every such file is executable.
        .or_else(|error| match error {
            Errno::INVAL => create(MemfdFlags::CLOEXEC),
            _ => Err(error),
        })
        .map_err(|error| LoadError::Memory(error.into()))?;
    let mut file = File::from(file);
    file.write_all(SHIM).map_err(LoadError::Memory)?;
    open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

fn open(path: &Path) -> Result<&'static Calls, LoadError> {
    // Its source is the linker's own text.
    let refused = |error: libloading::Error| LoadError::Library {
        message: error.source().unwrap_or(&error).to_string(),
    };
    // SAFETY: loading runs the constructors of DPDK's libraries, which register its parts and
    // rely on nothing. Whoever names another file vouches for it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
    // SAFETY: the symbol is a table that begins with its own size; a size is all that is read of
    // it before that is known to be right.
    let table = unsafe { library.get::<*const usize>(b"msgr_dpdk_calls\0") }.map_err(refused)?;
    let table: *const usize = *table;
    // Its functions are called, and its threads run, until the process ends.
    std::mem::forget(library);
    // SAFETY: the library has this symbol, so it points to a readable word, see above.
    if unsafe { table.read() } != size_of::<Calls>() {
        return Err(LoadError::OtherBuild { path: path.into() });
    }
    // SAFETY: the sizes agree, the library is never unloaded and its table is constant.
    Ok(unsafe { &*table.cast::<Calls>() })
}

/// A frame in an mbuf. Whoever has it owns the mbuf, until it is released or transmitted.
#[repr(C)]
#[derive(Debug)]
pub struct RawFrame {
    /// The mbuf, of one segment.
    pub mbuf: *mut c_void,
    /// Its first byte.
    pub data: *mut u8,
    /// Its length; of a frame just allocated the space there is.
    pub len: u32,
    /// What the port found out about a received one: 0 nothing, 1 good, 2 bad.
    pub checksums: u8,
    /// What to complete: 0 nothing, 1 TCP over IPv4, 2 TCP over IPv6.
    pub offload: u8,
    /// The length of the IP header in bytes.
    pub ip_len: u16,
    /// The length of the TCP header in bytes.
    pub tcp_len: u16,
    /// Payload bytes of each segment; 0 if it is not to be cut.
    pub segment: u16,
}

/// What a port is and can do.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Info {
    /// The name of its driver, ending in zeros.
    pub driver: [u8; 32],
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The largest IP packet in bytes that it may be configured for.
    pub max_mtu: u16,
    /// The most receive queues.
    pub max_rx_queues: u16,
    /// The most transmit queues.
    pub max_tx_queues: u16,
    /// What it does itself, of [`RX_CHECKSUM`], [`TX_CHECKSUM`], [`TX_IPV4`] and [`TX_TSO4`].
    pub offloads: u32,
}

/// The port verifies TCP checksums, and IPv4 ones if it can.
pub const RX_CHECKSUM: u32 = 1;
/// The port fills in TCP checksums.
pub const TX_CHECKSUM: u32 = 2;
/// The port fills in IPv4 header checksums.
pub const TX_IPV4: u32 = 4;
/// The port cuts TCP over IPv4 into segments.
pub const TX_TSO4: u32 = 8;

/// How a port is to be opened.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Where received frames go.
    pub pool: *mut c_void,
    /// Receive queues, and as many transmit queues.
    pub queues: u16,
    /// Frames of a receive queue.
    pub rx_descriptors: u16,
    /// Frames of a transmit queue.
    pub tx_descriptors: u16,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// As in [`Info::offloads`].
    pub offloads: u32,
    /// Whether receive queues may interrupt.
    pub interrupts: u32,
}

/// What has gone wrong on a port so far, in frames.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Found no place.
    pub missed: u64,
    /// Arrived damaged.
    pub rx_errors: u64,
    /// Could not be sent.
    pub tx_errors: u64,
    /// Receiving found no memory.
    pub rx_no_memory: u64,
}

/// Takes a message of DPDK's log: its level (`rte_log.h`: 1 is an emergency, 8 for debugging), and
/// its text with a length in bytes. Called by any thread.
pub type LogFn = unsafe extern "C" fn(u32, *const c_char, usize);

const _: () = assert!(size_of::<RawFrame>() == 32);
const _: () = assert!(size_of::<Info>() == 48);
const _: () = assert!(size_of::<Setup>() == 24);

/// The calls. Those that return an `int` return a negative errno on failure.
///
/// They are safe to call only after a successful `start`, but for `version` and `start` itself;
/// for ports, queues, pools and frames that exist; from one thread at a time for a queue, and for
/// everything that opens, closes or makes something.
#[repr(C)]
#[derive(Debug)]
pub struct Calls {
    size: usize,
    /// DPDK's release. The text is constant.
    pub version: unsafe extern "C" fn() -> *const c_char,
    /// Starts the environment abstraction layer (EAL) with an argument vector that stays where it
    /// is. Once per process; it pins the calling thread and must not see it end.
    pub start: unsafe extern "C" fn(c_int, *mut *mut c_char, LogFn) -> c_int,
    /// Gives this thread its own cache of every pool. 128 threads can have one.
    pub register_thread: unsafe extern "C" fn() -> c_int,
    /// Undoes that.
    pub unregister_thread: unsafe extern "C" fn(),
    /// Finds the port of a device, or plugs it in. `name` or `name,key=value,...`
    pub attach: unsafe extern "C" fn(*const c_char, *mut u16) -> c_int,
    /// Makes two connected ports: name, queues, frames in each direction of each (a power of two),
    /// room for twice as many rings as queues, room for two ports.
    pub ring_pair:
        unsafe extern "C" fn(*const c_char, u16, u32, *mut *mut c_void, *mut u16) -> c_int,
    /// Frees such rings once both ports are closed, and what is in them.
    pub free_rings: unsafe extern "C" fn(*mut *mut c_void, u16),
    /// Describes a port.
    pub info: unsafe extern "C" fn(u16, *mut Info) -> c_int,
    /// Opens a port.
    pub open_port: unsafe extern "C" fn(u16, *const Setup) -> c_int,
    /// Closes a port and unplugs its device.
    pub close_port: unsafe extern "C" fn(u16),
    /// 1 if there is a carrier, 0 if there is not.
    pub link_up: unsafe extern "C" fn(u16) -> c_int,
    /// What has gone wrong on a port.
    pub stats: unsafe extern "C" fn(u16, *mut Stats) -> c_int,
    /// What becomes readable when a queue interrupts.
    pub interrupt_fd: unsafe extern "C" fn(u16, u16) -> c_int,
    /// Enables (not 0) or disables the interrupt of a queue.
    pub interrupt: unsafe extern "C" fn(u16, u16, u32) -> c_int,
    /// Makes a pool: name, frames, frames in each thread's cache (at most 512), bytes in a frame,
    /// whether they lie side by side (not 0), for devices that do without physical addresses. Null
    /// on failure.
    pub pool: unsafe extern "C" fn(*const c_char, u32, u32, u16, u32) -> *mut c_void,
    /// Takes at most so many frames, 256 at once, from a pool.
    pub allocate: unsafe extern "C" fn(*mut c_void, *mut RawFrame, u16) -> u16,
    /// Gives an mbuf back.
    pub release: unsafe extern "C" fn(*mut c_void),
    /// Receives at most so many frames, 256 at once, from a port's queue; counts what it had to
    /// drop.
    pub receive: unsafe extern "C" fn(u16, u16, *mut RawFrame, u16, *mut u64) -> u16,
    /// Hands so many frames, 256 at once, to a port's queue, with the offloads the port was opened
    /// with; returns how many it took. Counts those the driver cannot ever send, which it drops.
    pub transmit: unsafe extern "C" fn(u16, u16, *const RawFrame, u16, u32, *mut u64) -> u16,
}

impl Calls {
    /// DPDK's release, for example `DPDK 22.11.11`.
    pub fn release_name(&self) -> String {
        // SAFETY: may be called at any time.
        let text = unsafe { (self.version)() };
        // SAFETY: a constant string that ends in a zero.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}
