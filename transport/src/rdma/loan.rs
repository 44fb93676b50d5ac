//! [`Loan`]: bytes of the application that a peer may read where they are, until the loan ends.
//!
//! Each is registered by itself, with a key of its own, so that a peer reads what it was offered and
//! nothing else. The arenas are never open to anybody.

#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use msgr_rdma_sys as sys;

use super::device::Domain;
use super::wire::Offer;

/// Registered bytes.
#[derive(Debug)]
pub(super) struct Loan {
    domain: Arc<Domain>,
    mr: NonNull<sys::ibv_mr>,
    /// They stay where they are as long as somebody has them.
    bytes: Bytes,
}

// SAFETY: bytes, and a registration that any thread may end.
unsafe impl Send for Loan {}

impl Drop for Loan {
    fn drop(&mut self) {
        // SAFETY: the registration is ours. Who still reads fails.
        unsafe { (self.domain.device().verbs.ibv_dereg_mr)(self.mr.as_ptr()) };
    }
}

impl Loan {
    pub(super) fn new(domain: &Arc<Domain>, bytes: Bytes) -> io::Result<Self> {
        let access = sys::IBV_ACCESS_REMOTE_READ.cast_signed();
        let at = bytes.as_ptr().cast_mut().cast();
        // SAFETY: the domain exists, and the memory as long as we keep the bytes. Nobody may write
        // to it.
        let mr =
            unsafe { (domain.device().verbs.ibv_reg_mr)(domain.pd(), at, bytes.len(), access) };
        Ok(Self {
            domain: Arc::clone(domain),
            mr: NonNull::new(mr).ok_or_else(io::Error::last_os_error)?,
            bytes,
        })
    }

    /// What the peer is told.
    pub(super) fn offer(&self) -> Offer {
        Offer {
            address: self.bytes.as_ptr() as u64,
            // SAFETY: the registration is valid as long as we are.
            key: unsafe { (*self.mr.as_ptr()).rkey },
            len: self.bytes.len() as u32,
        }
    }
}
