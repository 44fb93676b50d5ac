//! [`PortConfig`], and how a port is opened with it.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::{fs, io};

use msgr_dpdk_sys::{Info, RX_CHECKSUM, TX_CHECKSUM, TX_TSO4};

use crate::tcp::{DeviceCaps, ETHERNET_HEADER_LEN, Mac};

use super::DpdkError;
use super::device::{DpdkDevice, Pools};
use super::shim::{PoolShape, Port, Setup, Wake};

/// What an operator decides about a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// The most bytes of an IP packet, 576 to 65,343; with `net_af_xdp` at most 3,392.
    pub mtu: usize,
    /// Receive queues, and as many transmit queues, 1 to 64. With several the port spreads what it
    /// receives by a hash of addresses and ports that is the same for both directions, if it can;
    /// else [`Steering`](crate::tcp::Steering) does.
    pub queues: u16,
    /// Frames of memory for each queue, 2,047 to 1,048,575, of which `net_af_xdp` keeps 2,048. A
    /// power of two less one wastes the least.
    pub frames: u32,
    /// Whether the port is to do checksums and segmentation where it can.
    pub offload: bool,
}

impl Default for PortConfig {
    /// An MTU of 1500, one queue with 4,095 frames, offload.
    fn default() -> Self {
        Self {
            mtu: 1500,
            queues: 1,
            frames: 4095,
            offload: true,
        }
    }
}

/// Frames of a receive and of a transmit queue, if the port allows so many.
const DESCRIPTORS: u16 = 512;
/// Less must not be possible: both queues full, a burst on either side of us, and caches.
const LEAST_FRAMES: usize = 2047;
/// The Ethernet header, tags, and what drivers put in front of it.
const OVERHEAD: usize = ETHERNET_HEADER_LEN + 50;
/// A length of DPDK's has 16 bits, and 128 bytes stay free in front.
const MOST_ROOM: usize = 65_535 - 128;
/// The most bytes of an IPv4 packet that is cut into segments. Longer ones do not stay in the cache
/// until they are taken.
const MOST_SEGMENTED: usize = 32 << 10;
/// Frames of that size and longer ones, for a queue: more than a driver keeps, as it has descriptors.
const LONG_FRAMES: u32 = 1023;
/// The part of the frames of a queue that may be lent to whoever got what is in them.
const LENT: u32 = 4;

impl PortConfig {
    pub(super) fn check(&self, device: &str) -> Result<(), DpdkError> {
        check(device, "mtu", self.mtu, 576, MOST_ROOM - OVERHEAD)?;
        check(device, "queues", self.queues.into(), 1, 64)?;
        check(
            device,
            "frames",
            self.frames as usize,
            LEAST_FRAMES,
            (1 << 20) - 1,
        )
    }
}

fn check(
    device: &str,
    setting: &'static str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<(), DpdkError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(DpdkError::Setting {
            device: device.into(),
            setting,
            value,
            least,
            most,
        })
    }
}

/// Removes the socket of a vhost-user server that is gone. Killed ones leave it behind, and it would
/// be in the way of the next.
pub(super) fn remove_stale_socket(device: &str) {
    let mut words = device.split(',');
    let is_server = words
        .next()
        .is_some_and(|name| name.starts_with("net_vhost"));
    if let Some(path) = words.find_map(|word| word.strip_prefix("iface="))
        && is_server
        && let Err(error) = UnixStream::connect(path)
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        // If that fails, so does binding to it, which says why.
        let _ = fs::remove_file(path);
    }
}

/// Opens `port`, with a configuration that has been checked.
pub(super) fn open(
    port: Port,
    device: &str,
    config: &PortConfig,
) -> Result<Vec<DpdkDevice>, DpdkError> {
    let failed = |(source, log): (io::Error, _)| DpdkError::Device {
        device: device.into(),
        source,
        log,
    };
    let (id, info) = (port.id(), port.info().map_err(failed)?);
    let driver = driver(&info);
    let most = info.max_rx_queues.min(info.max_tx_queues).into();
    check(device, "queues", config.queues.into(), 1, most)?;
    let mut mtu = config.mtu;
    // This one takes whatever the kernel's interface does, but says that it takes 1500.
    if driver == "net_af_packet" {
        mtu = mtu.min(info.max_mtu.into());
    }
    check(device, "mtu", mtu, 0, info.max_mtu.into())?;

    let mut offloads = if config.offload { info.offloads } else { 0 };
    if offloads & TX_CHECKSUM == 0 {
        offloads &= RX_CHECKSUM;
    }
    let queues = u32::from(config.queues);
    let frame = config.mtu + OVERHEAD;
    let room = match driver.as_str() {
        // Its own frames, which the kernel wants to be a power of two, must fit.
        "net_af_packet" => frame.next_power_of_two(),
        // The kernel leaves room in front for programs (`XDP_PACKET_HEADROOM` of linux/bpf.h).
        "net_af_xdp" => (frame + 256).next_multiple_of(64),
        _ => frame.next_multiple_of(64),
    };
    let pool = |frames: u32, room: usize, dense| {
        let shape = PoolShape {
            frames: frames * queues,
            room: room as u16,
            dense,
        };
        port.pool(shape).map_err(failed)
    };
    // It lends the kernel as many bytes as the frames have, from the first one on. Those that lie
    // further on, the kernel neither sends nor fills, and never gives back.
    let dense = driver == "net_af_xdp";
    // Its peer has been told that nothing needs to be cut. Linux sends 65,300 bytes at most.
    let is_uncut = driver == "net_vhost" && device.split(',').any(|word| word == "tso=1");
    let cuts = offloads & TX_TSO4 != 0 && config.mtu < MOST_SEGMENTED;
    let pools = Pools {
        ordinary: pool(config.frames, room.clamp(2048, MOST_ROOM), dense)?,
        cut: cuts
            .then(|| pool(LONG_FRAMES, MOST_SEGMENTED + OVERHEAD, false))
            .transpose()?,
        uncut: is_uncut
            .then(|| pool(LONG_FRAMES, MOST_ROOM, false))
            .transpose()?,
    };
    let setup = Setup {
        queues: config.queues,
        descriptors: DESCRIPTORS,
        mtu: mtu as u16,
        offloads,
        // One's descriptors come and go with the peer, on another thread. The other has none, and
        // cannot be set up again to try: its first socket keeps the queue and half of the pool.
        interrupts: !matches!(&*driver, "net_vhost" | "net_af_xdp"),
    };
    let received = pools.uncut.as_ref().unwrap_or(&pools.ordinary);
    let queues = port.open(received, &setup).map_err(failed)?;
    let spare = if is_uncut { LONG_FRAMES } else { config.frames } / LENT;
    let caps = DeviceCaps {
        mac: mac(&driver, info.mac, id),
        mtu: config.mtu,
        verifies_checksums: offloads & RX_CHECKSUM != 0,
        computes_checksums: offloads & TX_CHECKSUM != 0,
        segments_tcp4: cuts.then_some(MOST_SEGMENTED),
        lends: spare as usize,
    };
    // It compares segments, with all their headers, with the MTU of the interface, and is stuck for
    // ever with a frame whose segments are longer.
    let quirk = (driver == "net_tap").then_some(config.mtu - ETHERNET_HEADER_LEN);
    let longest_segment = quirk.unwrap_or(config.mtu);
    let pools = Arc::new(pools);
    Ok(queues
        .into_iter()
        .map(|queue| {
            let wake = queue.wake().filter(|wake| match wake {
                Wake::Event => true,
                Wake::Level => driver == "net_tap",
            });
            DpdkDevice::new(queue, Arc::clone(&pools), caps, longest_segment, wake)
        })
        .collect())
}

/// The hardware address of the station that we are on the port: the port's own, but for
/// `net_ring`, which has none. Addresses made up here are locally administered (IEEE 802, clause 8.4).
fn mac(driver: &str, port: Mac, id: u16) -> Mac {
    let [high, low] = id.to_be_bytes();
    match (driver, port) {
        // Unique in this process, which is as far as these ports reach.
        (_, [0, 0, 0, 0, 0, 0]) => [2, b'm', b's', b'g', high, low],
        // The kernel's interface has got the port's address, and is another station.
        ("net_tap", mut mac) => {
            mac[0] |= 2;
            mac[5] ^= 1;
            mac
        }
        _ => port,
    }
}

fn driver(info: &Info) -> String {
    let name = info.driver.split(|&byte| byte == 0).next();
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}
