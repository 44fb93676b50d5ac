//! [`QueuePair`]: one end of a reliable connection, and the [`SendBatch`]es it is given.

#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use msgr_rdma_sys as sys;

use super::arena::Arena;
use super::completion;
use super::counts::Counts;
use super::device::{Domain, check};
use super::receive_queue;
use super::wire::Offer;

/// Payload that goes out within the work request, if the device allows, in bytes.
const INLINE: u32 = 220;

/// A state of a queue pair that it is brought to (`ibv_modify_qp(3)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It may be given receives.
    Init,
    /// It receives.
    ReadyToReceive,
    /// It sends, too.
    ReadyToSend,
}

impl State {
    pub(super) fn raw(self) -> sys::ibv_qp_state {
        match self {
            Self::Init => sys::IBV_QPS_INIT,
            Self::ReadyToReceive => sys::IBV_QPS_RTR,
            Self::ReadyToSend => sys::IBV_QPS_RTS,
        }
    }
}

/// How a queue pair is brought to a state, as the connection manager says.
pub(super) struct Transition {
    pub(super) attributes: sys::ibv_qp_attr,
    pub(super) mask: i32,
}

impl Transition {
    /// Allows so many reads at a time, each way.
    pub(super) fn allow_reads(&mut self, reads: u8) {
        self.attributes.max_rd_atomic = reads;
        self.attributes.max_dest_rd_atomic = reads;
        if reads > 0 {
            self.attributes.qp_access_flags |= sys::IBV_ACCESS_REMOTE_READ;
        }
    }
}

/// A reliable connected queue pair that receives from a shared queue, or has receives of its own.
#[derive(Debug)]
pub(super) struct QueuePair {
    domain: Arc<Domain>,
    qp: NonNull<sys::ibv_qp>,
    inline: usize,
    /// Not destroyed before us.
    _completions: Arc<completion::RawQueue>,
    _receives: Receives,
    /// What is sent lies there, and what is read lands there.
    _arenas: [Arc<Arena>; 3],
}

// SAFETY: as for the device.
unsafe impl Send for QueuePair {}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: it is ours. What is still posted will not complete any more.
        unsafe { (self.domain.device().verbs.ibv_destroy_qp)(self.qp.as_ptr()) };
    }
}

/// Where a queue pair's receives come from.
#[derive(Debug, Clone)]
pub(super) enum Receives {
    /// They are shared.
    Shared(Arc<receive_queue::RawQueue>),
    /// It has at most so many.
    Own(u32),
}

impl QueuePair {
    /// A queue pair that has `depth` work requests at a time, with memory of these arenas.
    pub(super) fn new(
        domain: &Arc<Domain>,
        completions: &Arc<completion::RawQueue>,
        receives: Receives,
        arenas: [&Arc<Arena>; 3],
        depth: u32,
    ) -> io::Result<Self> {
        let (srq, own) = match &receives {
            Receives::Shared(queue) => (queue.srq(), 0),
            Receives::Own(most) => (ptr::null_mut(), *most),
        };
        let mut inline = INLINE;
        let qp = loop {
            let mut attributes = sys::ibv_qp_init_attr {
                send_cq: completions.cq(),
                recv_cq: completions.cq(),
                srq,
                qp_type: sys::IBV_QPT_RC,
                sq_sig_all: 0,
                ..sys::ibv_qp_init_attr::default()
            };
            attributes.cap.max_send_wr = depth;
            attributes.cap.max_send_sge = 1;
            attributes.cap.max_recv_wr = own;
            attributes.cap.max_recv_sge = u32::from(own > 0);
            attributes.cap.max_inline_data = inline;
            // SAFETY: the domain and both queues exist and are of one device.
            let qp =
                unsafe { (domain.device().verbs.ibv_create_qp)(domain.pd(), &raw mut attributes) };
            if let Some(qp) = NonNull::new(qp) {
                inline = inline.min(attributes.cap.max_inline_data);
                break qp;
            }
            let error = io::Error::last_os_error();
            // Devices differ in what they can take inline.
            if inline == 0 || error.kind() != io::ErrorKind::InvalidInput {
                return Err(error);
            }
            inline /= 2;
        };
        Ok(Self {
            domain: Arc::clone(domain),
            qp,
            inline: inline as usize,
            _completions: Arc::clone(completions),
            _receives: receives,
            _arenas: arenas.map(Arc::clone),
        })
    }

    /// Its number on its device.
    pub(super) fn number(&self) -> u32 {
        // SAFETY: it exists.
        unsafe { (*self.qp.as_ptr()).qp_num }
    }

    pub(super) fn raw(&self) -> *mut sys::ibv_qp {
        self.qp.as_ptr()
    }

    /// The longest payload that goes out within a work request, in bytes.
    pub(super) fn inline(&self) -> usize {
        self.inline
    }

    pub(super) fn modify(&self, transition: &mut Transition) -> io::Result<()> {
        // SAFETY: it exists, and the mask says which attributes are set.
        check(unsafe {
            (self.domain.device().verbs.ibv_modify_qp)(
                self.qp.as_ptr(),
                &raw mut transition.attributes,
                transition.mask,
            )
        })
    }

    /// Ends all traffic: what is posted completes, as flushed.
    pub(super) fn fail(&self) -> io::Result<()> {
        let attributes = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_ERR,
            ..sys::ibv_qp_attr::default()
        };
        self.modify(&mut Transition {
            attributes,
            mask: sys::IBV_QP_STATE.cast_signed(),
        })
    }

    /// Posts all requests of a batch with one doorbell, and empties it.
    pub(super) fn post(&mut self, batch: &mut SendBatch) -> io::Result<()> {
        let Some(chain) = batch.link() else {
            return Ok(());
        };
        let mut bad = ptr::null_mut();
        // SAFETY: it exists; the chain was just linked. What it points to lies in the arenas that
        // we keep, and inline payload is copied by the call.
        let result = check(unsafe { sys::post_send(self.qp.as_ptr(), chain, &mut bad) });
        batch.counts.sends += batch.requests.len() as u64;
        batch.counts.doorbells += 1;
        batch.requests.clear();
        result
    }
}

/// Work requests to be posted together. It is reused: posting allocates nothing.
#[derive(Default)]
pub(super) struct SendBatch {
    requests: Vec<(sys::ibv_send_wr, sys::ibv_sge)>,
    pub(super) counts: Counts,
}

// SAFETY: the pointers in it are null, or set for the length of a call.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Adds a message, with immediate data if there is any.
    pub(super) fn send(
        &mut self,
        request: u64,
        element: Option<sys::ibv_sge>,
        immediate: Option<u32>,
        (inline, signalled): (bool, bool),
    ) {
        let mut flags = 0;
        if inline && element.is_some() {
            flags |= sys::IBV_SEND_INLINE;
        }
        if signalled {
            flags |= sys::IBV_SEND_SIGNALED;
        }
        let work = sys::ibv_send_wr {
            wr_id: request,
            num_sge: i32::from(element.is_some()),
            opcode: match immediate {
                Some(_) => sys::IBV_WR_SEND_WITH_IMM,
                None => sys::IBV_WR_SEND,
            },
            send_flags: flags,
            __bindgen_anon_1: sys::ibv_send_wr__bindgen_ty_1 {
                imm_data: immediate.unwrap_or_default().to_be(),
            },
            ..sys::ibv_send_wr::default()
        };
        self.counts.signalled += u64::from(signalled);
        self.requests.push((work, element.unwrap_or_default()));
    }

    /// Adds a read of what the peer offers.
    pub(super) fn read(&mut self, request: u64, element: sys::ibv_sge, offer: &Offer) {
        let mut work = sys::ibv_send_wr {
            wr_id: request,
            num_sge: 1,
            opcode: sys::IBV_WR_RDMA_READ,
            send_flags: sys::IBV_SEND_SIGNALED,
            ..sys::ibv_send_wr::default()
        };
        work.wr.rdma = sys::ibv_send_wr__bindgen_ty_2__bindgen_ty_1 {
            remote_addr: offer.address,
            rkey: offer.key,
        };
        self.counts.signalled += 1;
        self.requests.push((work, element));
    }

    /// Adds a write of nothing, of which only we learn, when the peer's device has acknowledged it.
    pub(super) fn probe(&mut self, request: u64) {
        let work = sys::ibv_send_wr {
            wr_id: request,
            opcode: sys::IBV_WR_RDMA_WRITE,
            send_flags: sys::IBV_SEND_SIGNALED,
            ..sys::ibv_send_wr::default()
        };
        self.counts.signalled += 1;
        self.requests.push((work, sys::ibv_sge::default()));
    }

    fn link(&mut self) -> Option<*mut sys::ibv_send_wr> {
        let mut chain = ptr::null_mut();
        for (request, element) in self.requests.iter_mut().rev() {
            if request.num_sge > 0 {
                request.sg_list = element;
            }
            request.next = chain;
            chain = request;
        }
        (!chain.is_null()).then_some(chain)
    }
}
