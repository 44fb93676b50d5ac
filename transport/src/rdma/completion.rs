//! [`CompletionQueue`]: what a device has finished, polled in batches, or waited for.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use msgr_rdma_sys as sys;

use super::counts::Counts;
use super::device::{Device, check};

/// The queue itself, which exists as long as a queue pair completes into it.
#[derive(Debug)]
pub(super) struct RawQueue {
    device: Arc<Device>,
    channel: NonNull<sys::ibv_comp_channel>,
    cq: Option<NonNull<sys::ibv_cq>>,
}

// SAFETY: as for the device.
unsafe impl Send for RawQueue {}
// SAFETY: as above.
unsafe impl Sync for RawQueue {}

impl Drop for RawQueue {
    fn drop(&mut self) {
        let verbs = self.device.verbs;
        if let Some(cq) = self.cq {
            // SAFETY: what completed into it kept us; its events are acknowledged as they are got.
            unsafe { (verbs.ibv_destroy_cq)(cq.as_ptr()) };
        }
        // SAFETY: no queue uses the channel any more.
        unsafe { (verbs.ibv_destroy_comp_channel)(self.channel.as_ptr()) };
    }
}

impl RawQueue {
    pub(super) fn cq(&self) -> *mut sys::ibv_cq {
        self.cq.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

/// A completion queue and the channel that wakes who waits for it.
#[derive(Debug)]
pub(super) struct CompletionQueue {
    raw: Arc<RawQueue>,
    armed: bool,
    pub(super) counts: Counts,
}

impl CompletionQueue {
    /// A queue with room for so many completions.
    pub(super) fn new(device: &Arc<Device>, entries: u32) -> io::Result<Self> {
        let verbs = device.verbs;
        // SAFETY: the context is open.
        let channel = unsafe { (verbs.ibv_create_comp_channel)(device.context()) };
        let channel = NonNull::new(channel).ok_or_else(io::Error::last_os_error)?;
        let mut raw = RawQueue {
            device: Arc::clone(device),
            channel,
            cq: None,
        };
        // SAFETY: the context is open, and the channel is one of it.
        let cq = unsafe {
            (verbs.ibv_create_cq)(
                device.context(),
                i32::try_from(entries).unwrap_or(i32::MAX),
                ptr::null_mut(),
                channel.as_ptr(),
                0,
            )
        };
        raw.cq = Some(NonNull::new(cq).ok_or_else(io::Error::last_os_error)?);
        let queue = Self {
            raw: Arc::new(raw),
            armed: false,
            counts: Counts::default(),
        };
        rustix::io::ioctl_fionbio(queue.as_fd(), true)?;
        Ok(queue)
    }

    pub(super) fn raw(&self) -> &Arc<RawQueue> {
        &self.raw
    }

    /// Takes as many completions as there are, at most as many as fit, and returns how many.
    ///
    /// # Errors
    /// The queue has failed: what it had to tell is lost.
    pub(super) fn poll(&mut self, batch: &mut [Completion]) -> io::Result<usize> {
        let room = i32::try_from(batch.len()).unwrap_or(i32::MAX);
        // SAFETY: the queue exists, there is room for so many, and `Completion` is an `ibv_wc`.
        let count = unsafe { sys::poll_cq(self.raw.cq(), room, batch.as_mut_ptr().cast()) };
        let failed = |_| io::Error::from_raw_os_error(count.saturating_neg());
        let count = usize::try_from(count).map_err(failed)?;
        self.counts.polls += 1;
        self.counts.completions += count as u64;
        Ok(count)
    }

    /// Has the next completion make the descriptor readable. What came before is to be looked for
    /// after this call.
    pub(super) fn arm(&mut self) -> io::Result<()> {
        if !self.armed {
            // SAFETY: the queue exists and has a channel.
            check(unsafe { sys::req_notify_cq(self.raw.cq(), false) })?;
            self.armed = true;
        }
        Ok(())
    }

    /// Takes the events that have made the descriptor readable. Whether there were any.
    pub(super) fn take_events(&mut self) -> bool {
        let verbs = self.raw.device.verbs;
        let mut any = false;
        loop {
            let (mut cq, mut context) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: the channel exists and does not block.
            let result = unsafe {
                (verbs.ibv_get_cq_event)(self.raw.channel.as_ptr(), &raw mut cq, &raw mut context)
            };
            if result != 0 {
                return any;
            }
            // SAFETY: this one event was just got.
            unsafe { (verbs.ibv_ack_cq_events)(cq, 1) };
            self.armed = false;
            self.counts.events += 1;
            any = true;
        }
    }
}

impl AsFd for CompletionQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel exists.
        let fd = unsafe { (*self.raw.channel.as_ptr()).fd };
        // SAFETY: it is open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

/// A finished work request.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Completion(sys::ibv_wc);

impl Completion {
    /// What the request was called.
    pub(super) fn request(&self) -> u64 {
        self.0.wr_id
    }

    /// The queue pair that it belongs to.
    pub(super) fn queue_pair(&self) -> u32 {
        self.0.qp_num
    }

    /// Whether it failed, and how (`ibv_poll_cq(3)`).
    pub(super) fn failure(&self) -> Option<Failure> {
        (self.0.status != sys::IBV_WC_SUCCESS).then_some(Failure(self.0.status))
    }

    /// Of a receive: how many bytes came.
    pub(super) fn len(&self) -> usize {
        self.0.byte_len as usize
    }

    /// Of a receive: the immediate data that came with them.
    pub(super) fn immediate(&self) -> Option<u32> {
        let with = self.0.wc_flags & sys::IBV_WC_WITH_IMM != 0;
        // SAFETY: the flag says that this is what the union holds.
        with.then(|| u32::from_be(unsafe { self.0.__bindgen_anon_1.imm_data }))
    }
}

/// Why a work request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure(sys::ibv_wc_status);

impl Failure {
    /// It did not fail itself: its queue pair had.
    pub(super) fn is_flush(self) -> bool {
        self.0 == sys::IBV_WC_WR_FLUSH_ERR
    }

    /// The peer has not answered.
    pub(super) fn is_silence(self) -> bool {
        matches!(
            self.0,
            sys::IBV_WC_RETRY_EXC_ERR
                | sys::IBV_WC_RNR_RETRY_EXC_ERR
                | sys::IBV_WC_RESP_TIMEOUT_ERR
        )
    }

    /// The peer has said no.
    pub(super) fn is_remote(self) -> bool {
        matches!(
            self.0,
            sys::IBV_WC_REM_INV_REQ_ERR
                | sys::IBV_WC_REM_ACCESS_ERR
                | sys::IBV_WC_REM_OP_ERR
                | sys::IBV_WC_REM_ABORT_ERR
        )
    }

    /// In rdma-core's words.
    pub(super) fn text(self, device: &Device) -> &'static str {
        // SAFETY: it takes any status.
        let text = unsafe { (device.verbs.ibv_wc_status_str)(self.0) };
        // SAFETY: a constant string.
        let text: &'static CStr = unsafe { CStr::from_ptr(text) };
        text.to_str().unwrap_or("unknown")
    }
}
