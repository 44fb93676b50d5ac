//! [`DpdkFrame`]: a frame in an mbuf.

use std::ops::{Deref, DerefMut};

use crate::tcp::{Checksums, Frame, Offload};

use super::shim::Mbuf;

/// A frame in a buffer of DPDK's, which goes back to its pool when this is dropped.
#[derive(Debug)]
#[repr(transparent)]
pub struct DpdkFrame(pub(super) Mbuf);

impl Deref for DpdkFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for DpdkFrame {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

impl Frame for DpdkFrame {
    fn checksums(&self) -> Checksums {
        match self.0.checksums() {
            1 => Checksums::Good,
            2 => Checksums::Bad,
            _ => Checksums::Unknown,
        }
    }

    fn offload(&mut self, offload: Offload) {
        self.0.offload(
            offload.is_ipv6,
            offload.ip_header_len as u16,
            offload.tcp_header_len as u16,
            offload.segment.unwrap_or(0) as u16,
        );
    }
}
