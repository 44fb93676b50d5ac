//! [`Device`], an RDMA device opened for one transport, and the [`Domain`] that what belongs
//! together there is made in. Nothing here knows connections.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use msgr_rdma_sys::{self as sys, Cm, Verbs};

/// The functions of rdma-core.
#[derive(Debug, Clone, Copy)]
pub(super) struct Libraries {
    pub(super) verbs: &'static Verbs,
    pub(super) cm: &'static Cm,
}

impl Libraries {
    /// Loads them.
    pub(super) fn load() -> Result<Self, &'static sys::LoadError> {
        Ok(Self {
            verbs: sys::verbs()?,
            cm: sys::cm()?,
        })
    }

    /// The names of the devices that this host has.
    pub(super) fn device_names(self) -> io::Result<Vec<String>> {
        let mut count = 0;
        // SAFETY: it writes a count.
        let list = unsafe { (self.verbs.ibv_get_device_list)(&raw mut count) };
        if list.is_null() {
            return Err(io::Error::last_os_error());
        }
        let names = (0..usize::try_from(count).unwrap_or_default())
            .map(|index| {
                // SAFETY: the list has `count` entries.
                let at = unsafe { list.add(index) };
                // SAFETY: it is not freed before the end.
                let device = unsafe { at.read() };
                // SAFETY: it is in the list.
                unsafe { device_name(self.verbs, device) }
            })
            .collect();
        // SAFETY: it is ours, and nothing of it is used any more.
        unsafe { (self.verbs.ibv_free_device_list)(list) };
        Ok(names)
    }
}

/// The name of a device, for example `mlx5_0`.
///
/// # Safety
/// The device is there: it is in a list that is not freed, or that of an open context.
pub(super) unsafe fn device_name(verbs: &Verbs, device: *mut sys::ibv_device) -> String {
    // SAFETY: as the caller says.
    let name = unsafe { (verbs.ibv_get_device_name)(device) };
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the name is a string inside the device's description.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_string_lossy().into_owned()
}

/// The error that a verb returned: 0, an errno, or -1 with an errno set.
pub(super) fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        errno => Err(io::Error::from_raw_os_error(errno.abs())),
    }
}

/// What a device allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Entries of a completion queue.
    pub(super) completions: u32,
    /// Receives in a shared receive queue.
    pub(super) shared_receives: u32,
    /// Work requests in a queue pair.
    pub(super) work_requests: u32,
    /// Reads that a queue pair has under way, and serves, at a time.
    pub(super) reads: u32,
}

/// A device, opened. Its asynchronous events are those of what was made with it.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) verbs: &'static Verbs,
    context: NonNull<sys::ibv_context>,
    name: String,
    limits: Limits,
}

// SAFETY: verbs may be called by any thread (ibv_open_device(3) and others in section 3).
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: whatever was made with it kept us, and is gone.
        unsafe { (self.verbs.ibv_close_device)(self.context.as_ptr()) };
    }
}

impl Device {
    /// Opens the device that a connection manager's id is bound to.
    ///
    /// # Safety
    /// `verbs` is that of a bound `rdma_cm_id`, which librdmacm keeps open.
    pub(super) unsafe fn open(
        verbs: &'static Verbs,
        manager: *mut sys::ibv_context,
    ) -> io::Result<Self> {
        // SAFETY: as the caller says.
        let device = unsafe { (*manager).device };
        // SAFETY: an open context's device is there.
        let context = unsafe { (verbs.ibv_open_device)(device) };
        let context = NonNull::new(context).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: an open context's device is there.
        let name = unsafe { device_name(verbs, device) };
        let mut opened = Self {
            verbs,
            context,
            name,
            limits: Limits {
                completions: 0,
                shared_receives: 0,
                work_requests: 0,
                reads: 0,
            },
        };
        opened.limits = opened.query()?;
        rustix::io::ioctl_fionbio(opened.events(), true)?;
        Ok(opened)
    }

    fn query(&self) -> io::Result<Limits> {
        let mut attributes = sys::ibv_device_attr::default();
        // SAFETY: the context is open, and the structure is the one that is filled.
        let result =
            unsafe { (self.verbs.ibv_query_device)(self.context.as_ptr(), &raw mut attributes) };
        check(result)?;
        let positive = |limit: i32| u32::try_from(limit).unwrap_or_default();
        Ok(Limits {
            completions: positive(attributes.max_cqe),
            shared_receives: positive(attributes.max_srq_wr),
            work_requests: positive(attributes.max_qp_wr),
            reads: positive(
                attributes
                    .max_qp_rd_atom
                    .min(attributes.max_qp_init_rd_atom),
            ),
        })
    }

    pub(super) fn context(&self) -> *mut sys::ibv_context {
        self.context.as_ptr()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The GID at a place of a port's table, if there is one.
    pub(super) fn gid(&self, port: u8, index: u8) -> Option<[u8; 16]> {
        let mut gid = sys::ibv_gid::default();
        // SAFETY: the context is open, and there is room for a GID.
        let result = unsafe {
            (self.verbs.ibv_query_gid)(self.context.as_ptr(), port, index.into(), &raw mut gid)
        };
        // SAFETY: any bytes are a GID.
        let raw = unsafe { gid.raw };
        (result == 0).then_some(raw)
    }

    /// What becomes readable when there is an asynchronous event.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open.
        let fd = unsafe { (*self.context.as_ptr()).async_fd };
        // SAFETY: it is open as long as the context.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// The next asynchronous event, if there is one.
    pub(super) fn next_event(&self) -> Option<DeviceEvent> {
        let mut event = sys::ibv_async_event::default();
        // SAFETY: the context is open, and its descriptor does not block.
        let result =
            unsafe { (self.verbs.ibv_get_async_event)(self.context.as_ptr(), &raw mut event) };
        if result != 0 {
            return None;
        }
        let kind = event.event_type;
        // SAFETY: it takes any kind.
        let text = unsafe { (self.verbs.ibv_event_type_str)(kind) };
        // SAFETY: a constant string.
        let text: &'static CStr = unsafe { CStr::from_ptr(text) };
        let text = text.to_str().unwrap_or("unknown");
        let queue_pair = || {
            // SAFETY: these kinds of events name a queue pair, which exists until the event is
            // acknowledged.
            let qp = unsafe { event.element.qp };
            // SAFETY: as above.
            unsafe { (*qp).qp_num }
        };
        let what = match kind {
            sys::IBV_EVENT_QP_LAST_WQE_REACHED => DeviceEvent::LastReceive,
            sys::IBV_EVENT_QP_FATAL
            | sys::IBV_EVENT_QP_REQ_ERR
            | sys::IBV_EVENT_QP_ACCESS_ERR
            | sys::IBV_EVENT_PATH_MIG_ERR => DeviceEvent::QueuePair(queue_pair(), text),
            sys::IBV_EVENT_COMM_EST => DeviceEvent::Established(queue_pair()),
            sys::IBV_EVENT_DEVICE_FATAL
            | sys::IBV_EVENT_CQ_ERR
            | sys::IBV_EVENT_SRQ_ERR
            | sys::IBV_EVENT_WQ_FATAL => DeviceEvent::Fatal(text),
            _ => DeviceEvent::Note(text),
        };
        // SAFETY: it was just got, and is acknowledged once.
        unsafe { (self.verbs.ibv_ack_async_event)(&raw mut event) };
        Some(what)
    }
}

/// An asynchronous event (`ibv_get_async_event(3)`).
#[derive(Debug)]
pub(super) enum DeviceEvent {
    /// A queue pair has failed.
    QueuePair(u32, &'static str),
    /// A failed queue pair takes no more receives from its shared queue.
    LastReceive,
    /// The peer has sent something, though the connection manager has not said so yet.
    Established(u32),
    /// Nothing on this device works any more.
    Fatal(&'static str),
    /// Something that ends nothing by itself: a port is up or down, an address has changed.
    Note(&'static str),
}

/// A protection domain: memory and queue pairs of one domain may be used together.
#[derive(Debug)]
pub(super) struct Domain {
    device: Arc<Device>,
    pd: NonNull<sys::ibv_pd>,
}

// SAFETY: as for the device.
unsafe impl Send for Domain {}
// SAFETY: as above.
unsafe impl Sync for Domain {}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: whatever was made in it kept us, and is gone.
        unsafe { (self.device.verbs.ibv_dealloc_pd)(self.pd.as_ptr()) };
    }
}

impl Domain {
    pub(super) fn new(device: Arc<Device>) -> io::Result<Self> {
        // SAFETY: the context is open.
        let pd = unsafe { (device.verbs.ibv_alloc_pd)(device.context()) };
        let pd = NonNull::new(pd).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { device, pd })
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(super) fn pd(&self) -> *mut sys::ibv_pd {
        self.pd.as_ptr()
    }
}
