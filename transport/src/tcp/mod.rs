//! Userspace TCP: [`Tcp`], a transport over any [`Device`] that moves Ethernet frames.
//!
//! TCP itself is smoltcp's. What is around it is ours, so that a packet costs the same with ten
//! connections as with ten thousand: it is looked up by its two ends, and only that connection's
//! socket sees it. Nothing here knows where a device's frames go.

mod by_ends;
mod checksum;
mod coalescer;
mod config;
mod congestion;
mod cut;
mod device;
mod doorbell;
mod endpoint;
mod flow;
mod hash;
#[doc(hidden)]
pub mod link; // For fuzzing only.
mod names;
mod phy;
mod prefetch;
mod rss;
mod segment;
mod sender;
mod steering;
mod wheel;
mod windows;

pub mod wire;

pub use config::TcpConfig;
pub use device::{
    BURST, Checksums, Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN, Frame, Mac, Offload,
};
pub use endpoint::Tcp;
pub use steering::{Steering, SteeringCounters};
