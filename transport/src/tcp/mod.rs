//! Userspace TCP: [`Tcp`], a transport over any [`Device`] that moves Ethernet frames.
//!
//! A packet costs the same with ten connections as with ten thousand: it is looked up by its two ends,
//! and only that connection (`tcb`) sees it. Nothing here knows where a device's frames go.

mod by_ends;
mod checksum;
mod config;
mod congestion;
mod device;
mod doorbell;
mod endpoint;
mod flow;
mod hash;
mod icmp;
mod lender;
#[doc(hidden)]
pub mod link; // For fuzzing only.
mod names;
mod port;
mod prefetch;
mod rss;
#[cfg(test)]
mod scarce;
mod segment;
mod steering;
mod tcb;
mod time;
mod train;
mod wheel;

pub mod wire;

pub use config::TcpConfig;
pub use device::{
    BURST, Checksums, Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN, Frame, Mac, Offload,
};
pub use endpoint::Tcp;
pub use steering::{Steering, SteeringCounters};
