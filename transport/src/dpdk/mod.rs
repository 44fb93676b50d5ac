//! DPDK's ports as packet devices for [userspace TCP](crate::tcp).
//!
//! [`Eal`] starts DPDK's environment once per process and opens ports, each queue of which is a
//! [`DpdkDevice`]. DPDK itself is loaded when it is first asked for; on a host that lacks it the
//! outcome is [`DpdkError::Unavailable`]. Frames are mbufs and are owned: dropping one gives it back
//! to its pool. Nothing here knows what is in a frame. All unsafe code is in `shim`.

mod device;
mod eal;
mod frame;
mod port;
mod shim;

use std::io;

pub use device::DpdkDevice;
pub use eal::{Eal, EalConfig};
pub use frame::DpdkFrame;
pub use msgr_dpdk_sys::{LoadError, SHIM_VARIABLE};
pub use port::PortConfig;

/// The release of the DPDK on this host, for example `DPDK 22.11.11`. Starts nothing.
///
/// # Errors
/// What is missing.
pub fn version() -> Result<String, &'static LoadError> {
    Ok(msgr_dpdk_sys::calls()?.release_name())
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DpdkError {
    /// There is no DPDK to load.
    #[error(transparent)]
    Unavailable(#[from] &'static LoadError),
    /// Its environment does not start.
    #[error("DPDK does not start with {arguments:?}: {source}{}", quote(.log))]
    Start {
        /// The arguments.
        arguments: Vec<String>,
        /// What it said.
        source: io::Error,
        /// What it wrote to its log while it tried.
        log: Vec<String>,
    },
    /// It runs already in this process, with other arguments, and can be started only once.
    #[error("DPDK runs already, started with {arguments:?}")]
    AlreadyStarted {
        /// With which ones.
        arguments: Vec<String>,
    },
    /// A device cannot be found or opened.
    #[error("{device}: {source}{}", quote(.log))]
    Device {
        /// Its name or address, and what it was to be opened with.
        device: String,
        /// What DPDK said.
        source: io::Error,
        /// What it wrote to its log while it tried.
        log: Vec<String>,
    },
    /// A setting is out of its bounds.
    #[error("{device}: {setting} is {value}, it must be from {least} to {most}")]
    Setting {
        /// The device.
        device: String,
        /// Which setting, a field of [`PortConfig`].
        setting: &'static str,
        /// What it is.
        value: usize,
        /// The least it may be.
        least: usize,
        /// The most that is possible, here or on this device.
        most: usize,
    },
}

fn quote(log: &[String]) -> String {
    log.iter().flat_map(|line| ["; ", line]).collect()
}
