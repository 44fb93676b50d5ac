//! libibverbs: contexts, memory, queues, queue pairs, and what moves data between them.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use msgr_rdma_sys::{self as sys, Verbs};
use rustix::io::Errno;

use super::super::wire::Immediate;
use super::{Bell, Fabric, FakeDevice, Fault, Passage, fabric, fail, set_errno};

pub(super) static VERBS: Verbs = Verbs {
    ibv_wc_status_str,
    ibv_get_device_list,
    ibv_free_device_list,
    ibv_get_device_name,
    ibv_open_device,
    ibv_close_device,
    ibv_get_async_event,
    ibv_ack_async_event,
    ibv_query_device,
    ibv_query_port,
    ibv_query_gid,
    ibv_alloc_pd,
    ibv_dealloc_pd,
    ibv_reg_mr,
    ibv_dereg_mr,
    ibv_create_comp_channel,
    ibv_destroy_comp_channel,
    ibv_create_cq,
    ibv_destroy_cq,
    ibv_get_cq_event,
    ibv_ack_cq_events,
    ibv_create_srq,
    ibv_destroy_srq,
    ibv_create_qp,
    ibv_modify_qp,
    ibv_query_qp,
    ibv_destroy_qp,
    ibv_event_type_str,
};

/// A device, which is never freed.
#[repr(C)]
struct Device {
    raw: sys::ibv_device,
    number: u16,
}

#[repr(C)]
pub(super) struct Context {
    raw: sys::ibv_context,
    /// Only of one that a user has opened.
    bell: Option<Bell>,
    events: VecDeque<sys::ibv_async_event>,
}

#[repr(C)]
struct Channel {
    raw: sys::ibv_comp_channel,
    bell: Bell,
    events: VecDeque<*mut sys::ibv_cq>,
}

#[repr(C)]
struct CompletionQueue {
    raw: sys::ibv_cq,
    completions: VecDeque<sys::ibv_wc>,
    room: usize,
    armed: bool,
}

#[repr(C)]
struct ReceiveQueue {
    raw: sys::ibv_srq,
    posted: VecDeque<(u64, sys::ibv_sge)>,
}

#[repr(C)]
pub(super) struct QueuePair {
    raw: sys::ibv_qp,
    device: u16,
    peer: u32,
    /// How many reads it may make, and serve.
    reads: (u8, u8),
    /// Its own, if it has no shared queue.
    receives: VecDeque<(u64, sys::ibv_sge)>,
    /// Whether it waits for a peer that has no receive posted.
    waits: bool,
    sends: VecDeque<(sys::ibv_send_wr, sys::ibv_sge, Vec<u8>)>,
    room: usize,
}

fn boxed<T, R>(whole: T) -> *mut R {
    Box::into_raw(Box::new(whole)).cast()
}

fn unbox<T, R>(raw: *mut R) {
    drop(unsafe { Box::from_raw(raw.cast::<T>()) });
}

unsafe fn number(context: *mut sys::ibv_context) -> u16 {
    unsafe { (*(*context).device.cast::<Device>()).number }
}

/// A context of the device with this number, for an id or a user.
pub(super) fn context(number: u16, device: Option<*mut sys::ibv_device>) -> *mut sys::ibv_context {
    let bell = device.map(|_| Bell::new());
    let device = device.unwrap_or_else(|| {
        let mut raw = sys::ibv_device::default();
        for (to, from) in raw.name.iter_mut().zip(format!("fake{number}").bytes()) {
            *to = from as c_char;
        }
        boxed(Device { raw, number })
    });
    let mut raw = sys::ibv_context {
        device,
        async_fd: bell.as_ref().map_or(-1, Bell::raw),
        ..sys::ibv_context::default()
    };
    raw.ops.poll_cq = Some(poll_cq);
    raw.ops.req_notify_cq = Some(req_notify_cq);
    raw.ops.post_srq_recv = Some(post_srq_recv);
    raw.ops.post_send = Some(post_send);
    raw.ops.post_recv = Some(post_recv);
    boxed(Context {
        raw,
        bell,
        events: VecDeque::new(),
    })
}

pub(super) fn die(number: u16) {
    fabric(|fabric| {
        for &context in fabric.contexts.get(&number).into_iter().flatten() {
            let context = unsafe { &mut *context };
            context.events.push_back(sys::ibv_async_event {
                event_type: sys::IBV_EVENT_DEVICE_FATAL,
                ..sys::ibv_async_event::default()
            });
            context.bell.iter().for_each(Bell::ring);
        }
        super::cm::remove(fabric, number);
    });
}

extern "C" fn ibv_wc_status_str(_: sys::ibv_wc_status) -> *const c_char {
    c"status".as_ptr()
}

extern "C" fn ibv_event_type_str(_: sys::ibv_event_type) -> *const c_char {
    c"event".as_ptr()
}

unsafe extern "C" fn ibv_get_device_list(count: *mut c_int) -> *mut *mut sys::ibv_device {
    unsafe { *count = 1 };
    let device = boxed(Device {
        raw: sys::ibv_device::default(),
        number: 0,
    });
    Box::into_raw(Box::new(device))
}

unsafe extern "C" fn ibv_free_device_list(list: *mut *mut sys::ibv_device) {
    unbox::<Device, _>(*unsafe { Box::from_raw(list) });
}

unsafe extern "C" fn ibv_get_device_name(device: *mut sys::ibv_device) -> *const c_char {
    unsafe { (&raw const (*device).name).cast() }
}

unsafe extern "C" fn ibv_open_device(device: *mut sys::ibv_device) -> *mut sys::ibv_context {
    let number = unsafe { (*device.cast::<Device>()).number };
    let opened = context(number, Some(device));
    fabric(|fabric| {
        fabric.count(number, 1);
        fabric
            .contexts
            .entry(number)
            .or_default()
            .push(opened.cast());
    });
    opened
}

unsafe extern "C" fn ibv_close_device(context: *mut sys::ibv_context) -> c_int {
    let number = unsafe { number(context) };
    fabric(|fabric| {
        fabric.count(number, -1);
        fabric
            .contexts
            .entry(number)
            .or_default()
            .retain(|one| !ptr::eq(*one, context.cast()));
    });
    unbox::<Context, _>(context);
    0
}

unsafe extern "C" fn ibv_get_async_event(
    context: *mut sys::ibv_context,
    event: *mut sys::ibv_async_event,
) -> c_int {
    fabric(|_| {
        let context = unsafe { &mut *context.cast::<Context>() };
        let Some(next) = context.events.pop_front() else {
            return fail(Errno::AGAIN);
        };
        context.bell.iter().for_each(Bell::take);
        unsafe { event.write(next) };
        0
    })
}

unsafe extern "C" fn ibv_ack_async_event(_: *mut sys::ibv_async_event) {}

unsafe extern "C" fn ibv_query_device(
    _: *mut sys::ibv_context,
    attributes: *mut sys::ibv_device_attr,
) -> c_int {
    unsafe {
        (*attributes).max_cqe = 1 << 15;
        (*attributes).max_srq_wr = 1 << 15;
        (*attributes).max_qp_wr = 1 << 10;
        (*attributes).max_qp_rd_atom = 16;
        (*attributes).max_qp_init_rd_atom = 16;
    }
    0
}

extern "C" fn ibv_query_port(
    _: *mut sys::ibv_context,
    _: u8,
    _: *mut sys::_compat_ibv_port_attr,
) -> c_int {
    Errno::NOSYS.raw_os_error()
}

/// The addresses of its hosts, as in `super::cm::gid`, behind a link-local one.
unsafe extern "C" fn ibv_query_gid(
    context: *mut sys::ibv_context,
    _: u8,
    index: c_int,
    gid: *mut sys::ibv_gid,
) -> c_int {
    let raw = match u8::try_from(index) {
        Ok(0) => [0xfe; 16],
        Ok(host @ 1..=2) => {
            let address = FakeDevice(unsafe { number(context) }).loopback(host);
            super::cm::gid(address)
        }
        _ => return fail(Errno::INVAL),
    };
    unsafe { gid.write(sys::ibv_gid { raw }) };
    0
}

unsafe extern "C" fn ibv_alloc_pd(context: *mut sys::ibv_context) -> *mut sys::ibv_pd {
    fabric(|fabric| fabric.count(unsafe { number(context) }, 1));
    boxed(sys::ibv_pd {
        context,
        ..sys::ibv_pd::default()
    })
}

unsafe extern "C" fn ibv_dealloc_pd(pd: *mut sys::ibv_pd) -> c_int {
    fabric(|fabric| fabric.count(unsafe { number((*pd).context) }, -1));
    unbox::<sys::ibv_pd, _>(pd);
    0
}

unsafe extern "C" fn ibv_reg_mr(
    pd: *mut sys::ibv_pd,
    addr: *mut c_void,
    length: usize,
    access: c_int,
) -> *mut sys::ibv_mr {
    let context = unsafe { (*pd).context };
    let number = unsafe { number(context) };
    if fabric(|fabric| fabric.has(number, Fault::Registration)) {
        set_errno(Errno::NOMEM.raw_os_error());
        return ptr::null_mut();
    }
    fabric(|fabric| {
        fabric.count(number, 1);
        fabric.last_number += 1;
        let key = fabric.last_number;
        let start = addr as u64;
        let region = (start..start + length as u64, access.cast_unsigned());
        fabric.regions.insert(key, region);
        boxed(sys::ibv_mr {
            context,
            pd,
            addr,
            length,
            lkey: key,
            rkey: key,
            ..sys::ibv_mr::default()
        })
    })
}

unsafe extern "C" fn ibv_dereg_mr(mr: *mut sys::ibv_mr) -> c_int {
    fabric(|fabric| {
        fabric.count(unsafe { number((*mr).context) }, -1);
        fabric.regions.remove(unsafe { &(*mr).rkey });
    });
    unbox::<sys::ibv_mr, _>(mr);
    0
}

unsafe extern "C" fn ibv_create_comp_channel(
    context: *mut sys::ibv_context,
) -> *mut sys::ibv_comp_channel {
    let bell = Bell::new();
    boxed(Channel {
        raw: sys::ibv_comp_channel {
            context,
            fd: bell.raw(),
            ..sys::ibv_comp_channel::default()
        },
        bell,
        events: VecDeque::new(),
    })
}

unsafe extern "C" fn ibv_destroy_comp_channel(channel: *mut sys::ibv_comp_channel) -> c_int {
    unbox::<Channel, _>(channel);
    0
}

unsafe extern "C" fn ibv_create_cq(
    context: *mut sys::ibv_context,
    room: c_int,
    _: *mut c_void,
    channel: *mut sys::ibv_comp_channel,
    _: c_int,
) -> *mut sys::ibv_cq {
    fabric(|fabric| fabric.count(unsafe { number(context) }, 1));
    boxed(CompletionQueue {
        raw: sys::ibv_cq {
            context,
            channel,
            ..sys::ibv_cq::default()
        },
        completions: VecDeque::new(),
        room: room as usize,
        armed: false,
    })
}

unsafe extern "C" fn ibv_destroy_cq(cq: *mut sys::ibv_cq) -> c_int {
    fabric(|fabric| fabric.count(unsafe { number((*cq).context) }, -1));
    unbox::<CompletionQueue, _>(cq);
    0
}

unsafe extern "C" fn ibv_get_cq_event(
    channel: *mut sys::ibv_comp_channel,
    cq: *mut *mut sys::ibv_cq,
    _: *mut *mut c_void,
) -> c_int {
    fabric(|_| {
        let channel = unsafe { &mut *channel.cast::<Channel>() };
        let Some(next) = channel.events.pop_front() else {
            return fail(Errno::AGAIN);
        };
        channel.bell.take();
        unsafe { cq.write(next) };
        0
    })
}

extern "C" fn ibv_ack_cq_events(_: *mut sys::ibv_cq, _: u32) {}

unsafe extern "C" fn req_notify_cq(cq: *mut sys::ibv_cq, _: c_int) -> c_int {
    fabric(|_| unsafe { (*cq.cast::<CompletionQueue>()).armed = true });
    0
}

unsafe extern "C" fn poll_cq(cq: *mut sys::ibv_cq, room: c_int, to: *mut sys::ibv_wc) -> c_int {
    fabric(|_| {
        let cq = unsafe { &mut *cq.cast::<CompletionQueue>() };
        let count = cq.completions.len().min(room as usize);
        for (at, completion) in cq.completions.drain(..count).enumerate() {
            unsafe { to.add(at).write(completion) };
        }
        count as c_int
    })
}

unsafe fn complete(cq: *mut sys::ibv_cq, completion: sys::ibv_wc) {
    let cq = unsafe { &mut *cq.cast::<CompletionQueue>() };
    assert!(cq.completions.len() < cq.room, "completions are lost");
    cq.completions.push_back(completion);
    if std::mem::take(&mut cq.armed) {
        let channel = unsafe { &mut *cq.raw.channel.cast::<Channel>() };
        channel.events.push_back(&raw mut cq.raw);
        channel.bell.ring();
    }
}

unsafe extern "C" fn ibv_create_srq(
    pd: *mut sys::ibv_pd,
    _: *mut sys::ibv_srq_init_attr,
) -> *mut sys::ibv_srq {
    let context = unsafe { (*pd).context };
    fabric(|fabric| fabric.count(unsafe { number(context) }, 1));
    boxed(ReceiveQueue {
        raw: sys::ibv_srq {
            context,
            pd,
            ..sys::ibv_srq::default()
        },
        posted: VecDeque::new(),
    })
}

unsafe extern "C" fn ibv_destroy_srq(srq: *mut sys::ibv_srq) -> c_int {
    fabric(|fabric| fabric.count(unsafe { number((*srq).context) }, -1));
    unbox::<ReceiveQueue, _>(srq);
    0
}

unsafe extern "C" fn post_srq_recv(
    srq: *mut sys::ibv_srq,
    mut chain: *mut sys::ibv_recv_wr,
    _: *mut *mut sys::ibv_recv_wr,
) -> c_int {
    fabric(|_| {
        let srq = unsafe { &mut *srq.cast::<ReceiveQueue>() };
        while let Some(request) = unsafe { chain.as_ref() } {
            srq.posted
                .push_back((request.wr_id, unsafe { *request.sg_list }));
            chain = request.next;
        }
    });
    0
}

unsafe extern "C" fn ibv_create_qp(
    pd: *mut sys::ibv_pd,
    attributes: *mut sys::ibv_qp_init_attr,
) -> *mut sys::ibv_qp {
    let attributes = unsafe { *attributes };
    let context = unsafe { (*pd).context };
    let device = unsafe { number(context) };
    fabric(|fabric| {
        if fabric.has(device, Fault::QueuePair) {
            set_errno(Errno::NOMEM.raw_os_error());
            return ptr::null_mut();
        }
        fabric.count(device, 1);
        fabric.last_number += 1;
        let qp_num = fabric.last_number;
        let qp: *mut QueuePair = boxed(QueuePair {
            raw: sys::ibv_qp {
                context,
                pd,
                qp_num,
                send_cq: attributes.send_cq,
                recv_cq: attributes.recv_cq,
                srq: attributes.srq,
                ..sys::ibv_qp::default()
            },
            device,
            peer: 0,
            reads: (0, 0),
            receives: VecDeque::new(),
            waits: false,
            sends: VecDeque::new(),
            room: attributes.cap.max_send_wr as usize,
        });
        fabric.queue_pairs.insert(qp_num, qp);
        qp.cast()
    })
}

unsafe extern "C" fn ibv_destroy_qp(qp: *mut sys::ibv_qp) -> c_int {
    let device = unsafe { (*qp.cast::<QueuePair>()).device };
    fabric(|fabric| {
        fabric.count(device, -1);
        fabric.queue_pairs.remove(unsafe { &(*qp).qp_num });
    });
    unbox::<QueuePair, _>(qp);
    0
}

unsafe extern "C" fn ibv_modify_qp(
    qp: *mut sys::ibv_qp,
    attributes: *mut sys::ibv_qp_attr,
    _: c_int,
) -> c_int {
    let attributes = unsafe { &*attributes };
    fabric(|fabric| {
        let qp = unsafe { &mut *qp.cast::<QueuePair>() };
        qp.raw.state = attributes.qp_state;
        if attributes.qp_state == sys::IBV_QPS_RTR {
            qp.peer = attributes.dest_qp_num;
            qp.reads.1 = attributes.max_dest_rd_atomic;
        }
        if attributes.qp_state == sys::IBV_QPS_RTS {
            qp.reads.0 = attributes.max_rd_atomic;
            qp.waits = attributes.rnr_retry == 7;
        }
        unsafe { pump(fabric, qp) };
    });
    0
}

extern "C" fn ibv_query_qp(
    _: *mut sys::ibv_qp,
    _: *mut sys::ibv_qp_attr,
    _: c_int,
    _: *mut sys::ibv_qp_init_attr,
) -> c_int {
    Errno::NOSYS.raw_os_error()
}

unsafe extern "C" fn post_recv(
    qp: *mut sys::ibv_qp,
    mut chain: *mut sys::ibv_recv_wr,
    _: *mut *mut sys::ibv_recv_wr,
) -> c_int {
    fabric(|fabric| {
        let qp = unsafe { &mut *qp.cast::<QueuePair>() };
        assert!(qp.raw.srq.is_null(), "it receives from a shared queue");
        while let Some(request) = unsafe { chain.as_ref() } {
            let element = unsafe { *request.sg_list };
            qp.receives.push_back((request.wr_id, element));
            chain = request.next;
        }
        // Who waits for it tries again.
        if let Some(&peer) = fabric.queue_pairs.get(&qp.peer) {
            unsafe { pump(fabric, &mut *peer) };
        }
        unsafe { pump(fabric, qp) };
    });
    0
}

unsafe extern "C" fn post_send(
    qp: *mut sys::ibv_qp,
    mut chain: *mut sys::ibv_send_wr,
    bad: *mut *mut sys::ibv_send_wr,
) -> c_int {
    fabric(|fabric| {
        let qp = unsafe { &mut *qp.cast::<QueuePair>() };
        while let Some(request) = unsafe { chain.as_ref() } {
            if qp.sends.len() == qp.room {
                unsafe { *bad = chain };
                return Errno::NOMEM.raw_os_error();
            }
            let mut element = sys::ibv_sge::default();
            let mut bytes = Vec::new();
            if request.num_sge == 1 {
                element = unsafe { *request.sg_list };
                if request.send_flags & sys::IBV_SEND_INLINE == 0 {
                    assert!(fabric.holds(element.lkey, &element, 0), "not registered");
                }
                if request.opcode != sys::IBV_WR_RDMA_READ {
                    // Taken at once, so that whoever alters it before its completion is not noticed.
                    bytes.extend_from_slice(unsafe { memory(&element) });
                }
            }
            qp.sends.push_back((*request, element, bytes));
            chain = request.next;
        }
        unsafe { pump(fabric, qp) };
        0
    })
}

/// Tries again to send what waits.
pub(super) unsafe fn retry(fabric: &mut Fabric, number: u32) {
    if let Some(&qp) = fabric.queue_pairs.get(&number) {
        unsafe { pump(fabric, &mut *qp) };
    }
}

/// A queue pair fails.
pub(super) unsafe fn break_down(fabric: &mut Fabric, number: u32) {
    if let Some(&qp) = fabric.queue_pairs.get(&number) {
        unsafe { (*qp).raw.state = sys::IBV_QPS_ERR };
        unsafe { pump(fabric, &mut *qp) };
    }
}

/// Sends what can be sent.
unsafe fn pump(fabric: &mut Fabric, qp: &mut QueuePair) {
    if qp.raw.state == sys::IBV_QPS_ERR {
        for (wr_id, _) in qp.receives.drain(..) {
            let completion = sys::ibv_wc {
                wr_id,
                status: sys::IBV_WC_WR_FLUSH_ERR,
                qp_num: qp.raw.qp_num,
                ..sys::ibv_wc::default()
            };
            unsafe { complete(qp.raw.recv_cq, completion) };
        }
    }
    loop {
        let status = match qp.raw.state {
            sys::IBV_QPS_ERR => sys::IBV_WC_WR_FLUSH_ERR,
            sys::IBV_QPS_RTS if !fabric.has(qp.device, Fault::Silence) => sys::IBV_WC_SUCCESS,
            _ => return,
        };
        if qp.sends.is_empty() {
            return;
        }
        if status == sys::IBV_WC_SUCCESS {
            match unsafe { fabric.passage(qp.device, qp.raw.qp_num) } {
                Passage::Arrives => {}
                Passage::Waits => return,
                Passage::Cut(_) => {
                    qp.raw.state = sys::IBV_QPS_ERR;
                    return unsafe { pump(fabric, qp) };
                }
            }
        }
        let Some((request, element, bytes)) = qp.sends.pop_front() else {
            return;
        };
        let status = match status {
            sys::IBV_WC_SUCCESS if fabric.faults.remove(&(qp.device, Fault::NoAnswer)) => {
                sys::IBV_WC_RETRY_EXC_ERR
            }
            sys::IBV_WC_SUCCESS if request.opcode == sys::IBV_WR_RDMA_READ => unsafe {
                read(fabric, qp, &request, &element)
            },
            sys::IBV_WC_SUCCESS => {
                let garbled = fabric.faults.remove(&(qp.device, Fault::Garbled));
                let mut request = request;
                if garbled {
                    let offer = Immediate {
                        offer: true,
                        ..Immediate::default()
                    };
                    request.__bindgen_anon_1.imm_data = offer.encode().to_be();
                }
                unsafe { deliver(fabric, qp.peer, &request, &bytes) }
            }
            flushed => flushed,
        };
        if status == sys::IBV_WC_RNR_RETRY_EXC_ERR && qp.waits {
            qp.sends.push_front((request, element, bytes));
            return;
        }
        let signalled = request.send_flags & sys::IBV_SEND_SIGNALED != 0;
        if signalled || status != sys::IBV_WC_SUCCESS {
            let completion = sys::ibv_wc {
                wr_id: request.wr_id,
                status,
                qp_num: qp.raw.qp_num,
                ..sys::ibv_wc::default()
            };
            unsafe { complete(qp.raw.send_cq, completion) };
        }
        if status != sys::IBV_WC_SUCCESS && qp.raw.state != sys::IBV_QPS_ERR {
            qp.raw.state = sys::IBV_QPS_ERR;
            return unsafe { pump(fabric, qp) };
        }
    }
}

/// What an element points to.
unsafe fn memory<'a>(element: &sys::ibv_sge) -> &'a mut [u8] {
    let (at, len) = (element.addr as *mut u8, element.length as usize);
    unsafe { std::slice::from_raw_parts_mut(at, len) }
}

/// Reads the peer's memory, if that is open to us.
unsafe fn read(
    fabric: &Fabric,
    qp: &QueuePair,
    request: &sys::ibv_send_wr,
    element: &sys::ibv_sge,
) -> sys::ibv_wc_status {
    let Some(&peer) = fabric.queue_pairs.get(&qp.peer) else {
        return sys::IBV_WC_RETRY_EXC_ERR;
    };
    let from = unsafe { request.wr.rdma };
    let theirs = sys::ibv_sge {
        addr: from.remote_addr,
        ..*element
    };
    let is_open = unsafe { (*peer).reads.1 } > 0;
    if !is_open || !fabric.holds(from.rkey, &theirs, sys::IBV_ACCESS_REMOTE_READ) {
        return sys::IBV_WC_REM_ACCESS_ERR;
    }
    let to = fabric.holds(element.lkey, element, sys::IBV_ACCESS_LOCAL_WRITE);
    assert!(qp.reads.0 > 0 && to, "it may not read, or not write there");
    unsafe { memory(element).copy_from_slice(memory(&theirs)) };
    sys::IBV_WC_SUCCESS
}

unsafe fn deliver(
    fabric: &Fabric,
    peer: u32,
    request: &sys::ibv_send_wr,
    bytes: &[u8],
) -> sys::ibv_wc_status {
    let Some(&peer) = fabric.queue_pairs.get(&peer) else {
        return sys::IBV_WC_RETRY_EXC_ERR;
    };
    let peer = unsafe { &mut *peer };
    if !matches!(peer.raw.state, sys::IBV_QPS_RTR | sys::IBV_QPS_RTS) {
        return sys::IBV_WC_RETRY_EXC_ERR;
    }
    if request.opcode == sys::IBV_WR_RDMA_WRITE {
        return sys::IBV_WC_SUCCESS;
    }
    let shared = unsafe { peer.raw.srq.cast::<ReceiveQueue>().as_mut() };
    let posted = shared.map_or(&mut peer.receives, |queue| &mut queue.posted);
    let Some((wr_id, element)) = posted.pop_front() else {
        return sys::IBV_WC_RNR_RETRY_EXC_ERR;
    };
    assert!(
        bytes.len() <= element.length as usize,
        "more than the receive takes"
    );
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), element.addr as *mut u8, bytes.len()) };
    let completion = sys::ibv_wc {
        wr_id,
        status: sys::IBV_WC_SUCCESS,
        byte_len: bytes.len() as u32,
        qp_num: peer.raw.qp_num,
        wc_flags: match request.opcode {
            sys::IBV_WR_SEND_WITH_IMM => sys::IBV_WC_WITH_IMM,
            _ => 0,
        },
        __bindgen_anon_1: sys::ibv_wc__bindgen_ty_1 {
            imm_data: unsafe { request.__bindgen_anon_1.imm_data },
        },
        ..sys::ibv_wc::default()
    };
    unsafe { complete(peer.raw.recv_cq, completion) };
    sys::IBV_WC_SUCCESS
}
