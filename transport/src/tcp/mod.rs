//! Userspace TCP: [`Tcp`](self), TCP endpoints over any [`Device`] that moves Ethernet frames.

mod device;

pub use device::{
    BURST, Checksums, Device, DeviceCaps, DeviceCounters, ETHERNET_HEADER_LEN, Frame, Mac, Offload,
};
