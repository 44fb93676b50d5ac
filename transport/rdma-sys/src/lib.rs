//! The parts of libibverbs and librdmacm that msgr needs: [`verbs`] and [`cm`] give tables of their
//! functions, loaded when they are first asked for.
//!
//! Structures and signatures are rdma-core's, as bindgen reads them in its headers (`ci/rdma-bindings`);
//! the file is kept, so that building needs neither headers nor libraries. What rdma-core's headers
//! define as inline functions over the operations of a device is here by hand: the verbs that move
//! data. Nothing is interpreted and nothing is safe to call but the two loaders.

#![deny(missing_docs)]

use std::error::Error;
use std::ffi::c_int;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

macro_rules! library {
    (pub struct $name:ident { $(pub $call:ident: $type:ty,)+ }) => {
        #[derive(Debug, Clone, Copy)]
        pub struct $name {
            $(pub $call: $type,)+
        }

        impl $name {
            pub(super) fn load(library: &libloading::os::unix::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($call: {
                        // SAFETY: the type is the one that the library's header declares.
                        let call = unsafe { library.get(concat!(stringify!($call), "\0").as_bytes()) }?;
                        *call
                    },)+
                })
            }
        }
    };
}

/// As bindgen writes them: names and comments are rdma-core's.
#[allow(missing_docs, nonstandard_style, dead_code, unreachable_pub)]
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
mod bindings;

pub use bindings::*;

/// The functions of `libibverbs.so.1`, loaded by the first one who asks. A failure is final, too.
///
/// # Errors
/// [`LoadError`], which says what this host lacks.
pub fn verbs() -> Result<&'static Verbs, &'static LoadError> {
    static VERBS: OnceLock<Result<Verbs, LoadError>> = OnceLock::new();
    let loaded = VERBS.get_or_init(|| load("libibverbs.so.1", Verbs::load));
    loaded.as_ref()
}

/// The functions of `librdmacm.so.1`, loaded by the first one who asks. A failure is final, too.
///
/// # Errors
/// [`LoadError`], which says what this host lacks.
pub fn cm() -> Result<&'static Cm, &'static LoadError> {
    static CM: OnceLock<Result<Cm, LoadError>> = OnceLock::new();
    let loaded = CM.get_or_init(|| load("librdmacm.so.1", Cm::load));
    loaded.as_ref()
}

/// A library cannot be used here.
#[derive(Debug, thiserror::Error)]
#[error("{library} cannot be loaded: {message}")]
pub struct LoadError {
    /// Which library.
    pub library: &'static str,
    /// What the dynamic linker said, see dlerror(3).
    pub message: String,
}

fn load<T>(
    library: &'static str,
    table: impl FnOnce(&Library) -> Result<T, libloading::Error>,
) -> Result<T, LoadError> {
    // Its source is the linker's own text.
    let refused = |error: libloading::Error| LoadError {
        library,
        message: error.source().unwrap_or(&error).to_string(),
    };
    // SAFETY: the libraries' constructors set up tables and rely on nothing.
    let loaded = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
    let table = table(&loaded).map_err(refused)?;
    // Its functions are called until the process ends.
    std::mem::forget(loaded);
    Ok(table)
}

/// Gives a chain of work requests to a queue pair (`ibv_post_send(3)`). Returns 0 or an errno; on
/// failure `bad` points to the first request that was not taken.
///
/// # Safety
/// The queue pair exists; the chain and its scatter lists are valid for the call, what they point
/// to until the requests complete.
#[inline]
pub unsafe fn post_send(
    qp: *mut ibv_qp,
    chain: *mut ibv_send_wr,
    bad: &mut *mut ibv_send_wr,
) -> c_int {
    // SAFETY: the queue pair exists.
    let context = unsafe { (*qp).context };
    // SAFETY: a queue pair's context exists as long as it.
    match unsafe { (*context).ops.post_send } {
        // SAFETY: as the caller says.
        Some(call) => unsafe { call(qp, chain, bad) },
        None => libc::EOPNOTSUPP,
    }
}

/// Gives a chain of receives to a shared receive queue (`ibv_post_srq_recv(3)`). Returns 0 or an
/// errno.
///
/// # Safety
/// The queue exists; the chain and its scatter lists are valid for the call, what they point to
/// until the requests complete or the queue is gone.
#[inline]
pub unsafe fn post_srq_recv(
    srq: *mut ibv_srq,
    chain: *mut ibv_recv_wr,
    bad: &mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: the queue exists.
    let context = unsafe { (*srq).context };
    // SAFETY: a queue's context exists as long as it.
    match unsafe { (*context).ops.post_srq_recv } {
        // SAFETY: as the caller says.
        Some(call) => unsafe { call(srq, chain, bad) },
        None => libc::EOPNOTSUPP,
    }
}

/// Gives a chain of receives to a queue pair without a shared queue (`ibv_post_recv(3)`). Returns 0
/// or an errno.
///
/// # Safety
/// The queue pair exists; the chain and its scatter lists are valid for the call, what they point to
/// until the requests complete or the queue pair is gone.
#[inline]
pub unsafe fn post_recv(
    qp: *mut ibv_qp,
    chain: *mut ibv_recv_wr,
    bad: &mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: the queue pair exists.
    let context = unsafe { (*qp).context };
    // SAFETY: a queue pair's context exists as long as it.
    match unsafe { (*context).ops.post_recv } {
        // SAFETY: as the caller says.
        Some(call) => unsafe { call(qp, chain, bad) },
        None => libc::EOPNOTSUPP,
    }
}

/// Takes at most `room` completions (`ibv_poll_cq(3)`). Returns how many, or a negative number.
///
/// # Safety
/// The completion queue exists, and there is room for so many.
#[inline]
pub unsafe fn poll_cq(cq: *mut ibv_cq, room: c_int, completions: *mut ibv_wc) -> c_int {
    // SAFETY: the queue exists.
    let context = unsafe { (*cq).context };
    // SAFETY: a queue's context exists as long as it.
    match unsafe { (*context).ops.poll_cq } {
        // SAFETY: as the caller says.
        Some(call) => unsafe { call(cq, room, completions) },
        None => -libc::EOPNOTSUPP,
    }
}

/// Asks for an event at the next completion (`ibv_req_notify_cq(3)`). Returns 0 or an errno.
///
/// # Safety
/// The completion queue exists and has a channel.
#[inline]
pub unsafe fn req_notify_cq(cq: *mut ibv_cq, solicited_only: bool) -> c_int {
    // SAFETY: the queue exists.
    let context = unsafe { (*cq).context };
    // SAFETY: a queue's context exists as long as it.
    match unsafe { (*context).ops.req_notify_cq } {
        // SAFETY: as the caller says.
        Some(call) => unsafe { call(cq, c_int::from(solicited_only)) },
        None => libc::EOPNOTSUPP,
    }
}
