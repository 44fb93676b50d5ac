//! Frames without TCP: what a port does with its memory.

use std::thread;
use std::time::{Duration, Instant};

use msgr_transport::dpdk::PortConfig;
use msgr_transport::tcp::Device as _;

use crate::hosts::{Hosts, eal};

/// The shortest that Ethernet has.
const LEN: usize = 60;

/// As many frames as may wait are sent at a time, so that it is each one's turn: they all arrive.
pub(crate) fn all_memory_is_sent(hosts: &Hosts) {
    let before = hosts.kernel.received();
    let config = PortConfig::default();
    let frames = 2 * u64::from(config.frames);
    hosts.ours().enter(|| {
        let device = hosts.link.device();
        let mut device = eal().open(&device, &config).unwrap().remove(0);
        let mut sent = 0;
        while sent < frames {
            while let Some(mut frame) = device.allocate(LEN) {
                // To nobody, of no protocol.
                frame.fill(0);
                device.transmit(frame);
                sent += 1;
            }
            let deadline = Instant::now() + Duration::from_secs(120);
            // The kernel drops what comes faster than it looks at it.
            while hosts.kernel.received() < before + sent {
                let came = hosts.kernel.received() - before;
                assert!(Instant::now() < deadline, "{came} of {sent} have come");
                device.flush(Instant::now());
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
}
