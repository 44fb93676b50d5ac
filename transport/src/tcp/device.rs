//! [`Device`]: an Ethernet port that receives and transmits bursts of frames, and [`Frame`], one of
//! them in the device's own memory. Nothing here knows what is in a frame.

use std::ops::DerefMut;
use std::time::Instant;

use crate::{Cost, Park};

/// The length of an Ethernet header without tags, in bytes (IEEE 802.3, clause 3.2).
pub const ETHERNET_HEADER_LEN: usize = 14;

/// A hardware address (IEEE 802.3, clause 3.2.3).
pub type Mac = [u8; 6];

/// An Ethernet port, driven by polling from one thread.
///
/// Calls never block. Frames are the device's own memory: dropping one gives the memory back, and
/// whoever transmits one parts with it.
pub trait Device {
    /// A frame, received or to be transmitted.
    type Frame: Frame;

    /// The name an operator uses for a transport over such a device, for example `dpdk`.
    fn name(&self) -> &'static str;

    /// What this port is and can do. Does not change.
    fn caps(&self) -> DeviceCaps;

    /// Appends the frames that have arrived by `now`, at most [`BURST`]. They begin with the
    /// Ethernet header; there is no frame check sequence behind them.
    fn receive(&mut self, now: Instant, frames: &mut Vec<Self::Frame>);

    /// A frame of `len` bytes, Ethernet header included, for [`transmit`](Self::transmit). What is
    /// in it is unspecified.
    ///
    /// `None` while memory is short or the transmit queue is full: whoever wants to send waits,
    /// nothing is lost. Also if `len` is more than the MTU (or what can be segmented) allows.
    fn allocate(&mut self, len: usize) -> Option<Self::Frame>;

    /// Whether [`allocate`](Self::allocate) would give a frame of full size now.
    fn may_transmit(&mut self) -> bool {
        true
    }

    /// Queues a frame, which [`allocate`](Self::allocate) of this device has made.
    fn transmit(&mut self, frame: Self::Frame);

    /// Hands over what is queued, in one burst if possible. What the hardware does not take now
    /// stays queued for the next call.
    fn flush(&mut self, now: Instant);

    /// When [`receive`](Self::receive) must be called next even if nothing wakes us.
    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Prepares to sleep until something arrives, as [`Transport::park`](crate::Transport::park).
    fn park(&mut self) -> Park<'_>;

    /// Ends what [`park`](Self::park) began.
    fn unpark(&mut self) {}

    /// Whether there is a carrier.
    fn is_link_up(&mut self) -> bool {
        true
    }

    /// What the work done so far has cost. Each burst that was handed over is a doorbell.
    fn cost(&self) -> Cost;

    /// What has gone through the port so far.
    fn counters(&mut self) -> DeviceCounters;
}

/// The most frames that one [`Device::receive`] brings.
pub const BURST: usize = 64;

/// What a port is and can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceCaps {
    /// Its hardware address.
    pub mac: Mac,
    /// The most bytes of an IP packet in one frame, without the Ethernet header.
    pub mtu: usize,
    /// Whether it verifies IPv4 and TCP checksums of what it receives, see [`Frame::checksums`].
    pub verifies_checksums: bool,
    /// Whether it fills in IPv4 and TCP checksums, see [`Frame::offload`].
    pub computes_checksums: bool,
    /// The most bytes of an IPv4 packet with TCP in it that it cuts into segments itself, if it
    /// does (TCP segmentation offload).
    pub segments_tcp4: Option<usize>,
    /// How many received frames may be kept for long: the others suffice to receive more.
    pub lends: usize,
}

/// A frame in a device's memory, Ethernet header first.
pub trait Frame: DerefMut<Target = [u8]> + Send + 'static {
    /// What the device found out about a received frame.
    fn checksums(&self) -> Checksums {
        Checksums::Unknown
    }

    /// Asks the device to complete a frame that is to be transmitted. Only if its
    /// [capabilities](DeviceCaps) say that it can.
    fn offload(&mut self, offload: Offload) {
        let _ = offload;
    }
}

/// What a device found out about the IPv4 and TCP checksums of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// It has not looked.
    Unknown,
    /// All that there are are right.
    Good,
    /// One of them is wrong.
    Bad,
}

/// What a device is to do with a TCP segment before it goes out. The TCP checksum field holds the
/// sum of the pseudo header (RFC 9293, section 3.1), without the length if it is to be segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// The length of the IP header in bytes; 40 for IPv6.
    pub ip_header_len: usize,
    /// Whether that is IPv6, which has no checksum of its own.
    pub is_ipv6: bool,
    /// The length of the TCP header in bytes.
    pub tcp_header_len: usize,
    /// The most bytes of payload in each segment, if the frame is to be cut.
    pub segment: Option<usize>,
}

/// What has gone through a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Frames received.
    pub received: u64,
    /// Frames transmitted.
    pub transmitted: u64,
    /// Frames that arrived and found no place.
    pub missed: u64,
    /// Frames that arrived damaged.
    pub receive_errors: u64,
    /// Frames that could not be transmitted.
    pub transmit_errors: u64,
    /// Times that memory for frames was short.
    pub out_of_memory: u64,
}
