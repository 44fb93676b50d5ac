//! [`CmId`]: a listener or a connection at the connection manager, and the [`CmEvent`]s that an
//! [`EventChannel`] tells of them. Nothing here knows what is made of an event.

#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use msgr_rdma_sys::{self as sys, Cm};
use rustix::net::AddressFamily;

use super::device::{Device, Libraries, check, device_name};
use super::queue_pair::{State, Transition};

/// Where the kernel tells what happens to ids.
#[derive(Debug)]
pub(super) struct EventChannel {
    cm: &'static Cm,
    channel: NonNull<sys::rdma_event_channel>,
}

// SAFETY: librdmacm's calls may be made by any thread.
unsafe impl Send for EventChannel {}
// SAFETY: as above.
unsafe impl Sync for EventChannel {}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: the ids that use it kept us, and are gone.
        unsafe { (self.cm.rdma_destroy_event_channel)(self.channel.as_ptr()) };
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel exists.
        let fd = unsafe { (*self.channel.as_ptr()).fd };
        // SAFETY: it is open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl EventChannel {
    pub(super) fn new(libraries: Libraries) -> io::Result<Arc<Self>> {
        // SAFETY: it needs nothing.
        let channel = unsafe { (libraries.cm.rdma_create_event_channel)() };
        let channel = NonNull::new(channel).ok_or_else(io::Error::last_os_error)?;
        let channel = Self {
            cm: libraries.cm,
            channel,
        };
        rustix::io::ioctl_fionbio(&channel, true)?;
        Ok(Arc::new(channel))
    }

    /// The next event, if there is one. It is acknowledged already.
    pub(super) fn next_event(self: &Arc<Self>) -> Option<CmEvent> {
        let mut event = ptr::null_mut();
        // SAFETY: the channel exists and does not block.
        if unsafe { (self.cm.rdma_get_cm_event)(self.channel.as_ptr(), &raw mut event) } != 0 {
            return None;
        }
        // SAFETY: it was just got, and is valid until it is acknowledged.
        let what = self.read(unsafe { &*event });
        // SAFETY: it was just got, and nothing refers to it any more.
        unsafe { (self.cm.rdma_ack_cm_event)(event) };
        Some(what)
    }

    fn read(self: &Arc<Self>, event: &sys::rdma_cm_event) -> CmEvent {
        let of = |id: *mut sys::rdma_cm_id| {
            // SAFETY: an event's ids exist until it is acknowledged.
            unsafe { (*id).context as u64 }
        };
        let data = || {
            // SAFETY: all that we read this for are events of connections.
            let param = unsafe { &event.param.conn };
            let mut data = PrivateData::default();
            let len = usize::from(param.private_data_len).min(data.bytes.len());
            if !param.private_data.is_null() {
                // SAFETY: so many bytes belong to the event.
                unsafe {
                    ptr::copy_nonoverlapping(
                        param.private_data.cast::<u8>(),
                        data.bytes.as_mut_ptr(),
                        len,
                    );
                }
                data.len = len;
            }
            data
        };
        let kind = match event.event {
            sys::RDMA_CM_EVENT_ADDR_RESOLVED => CmEventKind::AddressResolved,
            sys::RDMA_CM_EVENT_ROUTE_RESOLVED => CmEventKind::RouteResolved,
            sys::RDMA_CM_EVENT_CONNECT_REQUEST => {
                let id = CmId {
                    channel: Arc::clone(self),
                    id: NonNull::new(event.id).expect("a request has an id of its own"),
                };
                return CmEvent {
                    token: of(event.listen_id),
                    kind: CmEventKind::Request(id, data()),
                };
            }
            sys::RDMA_CM_EVENT_CONNECT_RESPONSE => CmEventKind::Response(data()),
            sys::RDMA_CM_EVENT_ESTABLISHED => CmEventKind::Established,
            sys::RDMA_CM_EVENT_REJECTED => CmEventKind::Rejected(event.status, data()),
            sys::RDMA_CM_EVENT_DISCONNECTED => CmEventKind::Disconnected,
            sys::RDMA_CM_EVENT_DEVICE_REMOVAL => CmEventKind::DeviceRemoved,
            sys::RDMA_CM_EVENT_ADDR_ERROR
            | sys::RDMA_CM_EVENT_ROUTE_ERROR
            | sys::RDMA_CM_EVENT_UNREACHABLE
            | sys::RDMA_CM_EVENT_CONNECT_ERROR => CmEventKind::Failed(event.status),
            _ => CmEventKind::Note,
        };
        CmEvent {
            token: of(event.id),
            kind,
        }
    }
}

/// The start of what came with a request, a response or a rejection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PrivateData {
    bytes: [u8; 32],
    len: usize,
}

impl PrivateData {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What has happened (`rdma_get_cm_event(3)`), and to the id with which token.
#[derive(Debug)]
pub(super) struct CmEvent {
    pub(super) token: u64,
    pub(super) kind: CmEventKind,
}

#[derive(Debug)]
pub(super) enum CmEventKind {
    AddressResolved,
    RouteResolved,
    /// Somebody connects to this listener; the id is the connection's.
    Request(CmId, PrivateData),
    /// The listener has accepted.
    Response(PrivateData),
    /// Who connected knows that we accepted.
    Established,
    /// With the reason (the REJ codes of the InfiniBand specification, volume 1, section 12.6.7).
    Rejected(i32, PrivateData),
    Disconnected,
    DeviceRemoved,
    /// Connecting has failed; a negative errno, if known.
    Failed(i32),
    /// Something that changes nothing for us.
    Note,
}

/// What a connection is set up with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters<'a> {
    pub(super) queue_pair: u32,
    /// How many reads each end may have under way.
    pub(super) reads: u8,
    pub(super) private: &'a [u8],
}

/// How often a device repeats what is not acknowledged, and what finds no receive posted.
const RETRIES: u8 = 7;
/// Receives are posted before they are granted, so that the second never happens between us. It
/// is bounded for peers that do not keep to their grants, at our cost or that of others.
const RECEIVER_RETRIES: u8 = 3;

impl Parameters<'_> {
    fn raw(&self) -> sys::rdma_conn_param {
        sys::rdma_conn_param {
            private_data: self.private.as_ptr().cast(),
            private_data_len: self.private.len() as u8,
            responder_resources: self.reads,
            initiator_depth: self.reads,
            flow_control: 1,
            retry_count: RETRIES,
            rnr_retry_count: RECEIVER_RETRIES,
            srq: 1,
            qp_num: self.queue_pair,
        }
    }
}

/// A listener or one end of a connection. Dropping it ends either.
#[derive(Debug)]
pub(super) struct CmId {
    channel: Arc<EventChannel>,
    id: NonNull<sys::rdma_cm_id>,
}

// SAFETY: as for the channel.
unsafe impl Send for CmId {}

impl Drop for CmId {
    fn drop(&mut self) {
        // SAFETY: it is ours, and all events of it are acknowledged: we do that as we get them.
        unsafe { (self.channel.cm.rdma_destroy_id)(self.id.as_ptr()) };
    }
}

impl CmId {
    pub(super) fn new(channel: &Arc<EventChannel>) -> io::Result<Self> {
        let mut id = ptr::null_mut();
        // SAFETY: the channel exists.
        check(unsafe {
            (channel.cm.rdma_create_id)(
                channel.channel.as_ptr(),
                &raw mut id,
                ptr::null_mut(),
                sys::RDMA_PS_TCP,
            )
        })?;
        Ok(Self {
            channel: Arc::clone(channel),
            id: NonNull::new(id).ok_or_else(io::Error::last_os_error)?,
        })
    }

    fn cm(&self) -> &'static Cm {
        self.channel.cm
    }

    /// Has its events told by another channel, by who has that.
    pub(super) fn migrate(&mut self, to: &Arc<EventChannel>) -> io::Result<()> {
        // SAFETY: both exist, and all events that were told are acknowledged.
        check(unsafe { (self.cm().rdma_migrate_id)(self.id.as_ptr(), to.channel.as_ptr()) })?;
        self.channel = Arc::clone(to);
        Ok(())
    }

    /// What events of it are to say.
    pub(super) fn set_token(&mut self, token: u64) {
        // SAFETY: the id exists, and only we read this.
        unsafe { (*self.id.as_ptr()).context = token as *mut _ };
    }

    /// Allows others that allow it, too, to be bound to the same port.
    pub(super) fn share_port(&mut self) -> io::Result<()> {
        self.option(sys::RDMA_OPTION_ID_REUSEADDR)
    }

    /// Leaves the port of the same number of the other address family to others.
    pub(super) fn keep_family(&mut self) -> io::Result<()> {
        self.option(sys::RDMA_OPTION_ID_AFONLY)
    }

    fn option(&mut self, option: u32) -> io::Result<()> {
        let mut on = 1_i32;
        // SAFETY: the id exists; these options have an int.
        check(unsafe {
            (self.cm().rdma_set_option)(
                self.id.as_ptr(),
                sys::RDMA_OPTION_ID.cast_signed(),
                option.cast_signed(),
                (&raw mut on).cast(),
                size_of::<i32>(),
            )
        })
    }

    pub(super) fn bind(&mut self, at: SocketAddr) -> io::Result<()> {
        let mut address = RawAddress::from(at);
        // SAFETY: the id exists, and the address is one of its family.
        check(unsafe { (self.cm().rdma_bind_addr)(self.id.as_ptr(), address.as_mut_ptr()) })
    }

    pub(super) fn listen(&mut self, backlog: u32) -> io::Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: the id exists.
        check(unsafe { (self.cm().rdma_listen)(self.id.as_ptr(), backlog) })
    }

    /// Asks for the way to `to`. [`CmEventKind::AddressResolved`] or a failure follows.
    pub(super) fn resolve_address(&mut self, to: SocketAddr, within: Duration) -> io::Result<()> {
        let mut address = RawAddress::from(to);
        // SAFETY: the id exists, and the address is one of its family.
        check(unsafe {
            (self.cm().rdma_resolve_addr)(
                self.id.as_ptr(),
                ptr::null_mut(),
                address.as_mut_ptr(),
                milliseconds(within),
            )
        })
    }

    pub(super) fn resolve_route(&mut self, within: Duration) -> io::Result<()> {
        // SAFETY: the id exists, and its address is resolved, or this fails.
        check(unsafe { (self.cm().rdma_resolve_route)(self.id.as_ptr(), milliseconds(within)) })
    }

    /// Asks the peer. [`CmEventKind::Response`], a rejection or a failure follows.
    pub(super) fn connect(&mut self, parameters: &Parameters<'_>) -> io::Result<()> {
        let mut raw = parameters.raw();
        // SAFETY: the id exists; the private data is copied.
        check(unsafe { (self.cm().rdma_connect)(self.id.as_ptr(), &raw mut raw) })
    }

    /// Tells the peer that its response has arrived.
    pub(super) fn establish(&mut self) -> io::Result<()> {
        // SAFETY: the id exists.
        check(unsafe { (self.cm().rdma_establish)(self.id.as_ptr()) })
    }

    pub(super) fn accept(&mut self, parameters: &Parameters<'_>) -> io::Result<()> {
        let mut raw = parameters.raw();
        // SAFETY: the id exists; the private data is copied.
        check(unsafe { (self.cm().rdma_accept)(self.id.as_ptr(), &raw mut raw) })
    }

    /// Declines. The peer is told why by `private`.
    pub(super) fn reject(self, private: &[u8]) -> io::Result<()> {
        // SAFETY: the id exists; the private data is copied.
        check(unsafe {
            (self.cm().rdma_reject)(
                self.id.as_ptr(),
                private.as_ptr().cast(),
                private.len() as u8,
            )
        })
    }

    /// Tells the peer that the connection is over.
    pub(super) fn disconnect(&mut self) -> io::Result<()> {
        // SAFETY: the id exists.
        check(unsafe { (self.cm().rdma_disconnect)(self.id.as_ptr()) })
    }

    /// How a queue pair gets to a state on this connection.
    pub(super) fn transition(&self, to: State) -> io::Result<Transition> {
        let mut attributes = sys::ibv_qp_attr {
            qp_state: to.raw(),
            ..sys::ibv_qp_attr::default()
        };
        let mut mask = 0;
        // SAFETY: the id exists; both are written.
        check(unsafe {
            (self.cm().rdma_init_qp_attr)(self.id.as_ptr(), &raw mut attributes, &raw mut mask)
        })?;
        Ok(Transition { attributes, mask })
    }

    /// Opens the device that this id is bound to, once it is.
    pub(super) fn open_device(&self, libraries: Libraries) -> io::Result<Device> {
        let manager = self.manager_context().ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: a bound id's context is open.
        unsafe { Device::open(libraries.verbs, manager) }
    }

    /// The name of the device that this id is bound to, once it is.
    pub(super) fn device_name(&self, libraries: Libraries) -> Option<String> {
        let manager = self.manager_context()?;
        // SAFETY: a bound id's context is open.
        let device = unsafe { (*manager).device };
        // SAFETY: an open context's device is there.
        Some(unsafe { device_name(libraries.verbs, device) })
    }

    /// Whether the device that this id is bound to is one of iWARP.
    pub(super) fn is_iwarp(&self) -> bool {
        self.manager_context().is_some_and(|manager| {
            // SAFETY: a bound id's context is open.
            let device = unsafe { (*manager).device };
            // SAFETY: an open context's device is there.
            let transport = unsafe { (*device).transport_type };
            transport == sys::IBV_TRANSPORT_IWARP
        })
    }

    fn manager_context(&self) -> Option<*mut sys::ibv_context> {
        // SAFETY: the id exists.
        let manager = unsafe { (*self.id.as_ptr()).verbs };
        (!manager.is_null()).then_some(manager)
    }

    /// The port of the device that this id is bound to, once it is.
    pub(super) fn port(&self) -> u8 {
        // SAFETY: the id exists.
        unsafe { (*self.id.as_ptr()).port_num }
    }

    /// Whether the port that this id is bound to is up, as far as its device says.
    pub(super) fn is_port_up(&self, libraries: Libraries) -> bool {
        let Some(manager) = self.manager_context() else {
            return true;
        };
        let mut attributes = sys::ibv_port_attr::default();
        let to = (&raw mut attributes).cast();
        // SAFETY: a bound id's context is open, and there is room for what is told.
        let result = unsafe { (libraries.verbs.ibv_query_port)(manager, self.port(), to) };
        let up = [sys::IBV_PORT_ACTIVE, sys::IBV_PORT_ACTIVE_DEFER];
        result != 0 || up.contains(&attributes.state)
    }

    /// The GID that this id is bound to, once it is.
    pub(super) fn gid(&self) -> [u8; 16] {
        // SAFETY: the id exists.
        let address = unsafe { (*self.id.as_ptr()).route.addr.addr };
        // SAFETY: the union has one kind.
        let gid = unsafe { address.ibaddr.sgid };
        // SAFETY: any bytes are a GID.
        unsafe { gid.raw }
    }

    /// Our end, once it is bound.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        // SAFETY: the id exists, and the union has room for any address.
        let address = unsafe { &raw const (*self.id.as_ptr()).route.addr.__bindgen_anon_1 };
        socket_address(address.cast())
    }

    /// The peer's end, once it is known.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        // SAFETY: the id exists, and the union has room for any address.
        let address = unsafe { &raw const (*self.id.as_ptr()).route.addr.__bindgen_anon_2 };
        socket_address(address.cast())
    }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// An address as C has it.
#[repr(C)]
pub(super) union RawAddress {
    v4: sys::sockaddr_in,
    v6: sys::sockaddr_in6,
}

impl RawAddress {
    fn as_mut_ptr(&mut self) -> *mut sys::sockaddr {
        (&raw mut *self).cast()
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self {
                v4: sys::sockaddr_in {
                    sin_family: AddressFamily::INET.as_raw(),
                    sin_port: address.port().to_be(),
                    sin_addr: sys::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(address) => Self {
                v6: sys::sockaddr_in6 {
                    sin6_family: AddressFamily::INET6.as_raw(),
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: sys::in6_addr {
                        __in6_u: sys::in6_addr__bindgen_ty_1 {
                            __u6_addr8: address.ip().octets(),
                        },
                    },
                    sin6_scope_id: address.scope_id(),
                },
            },
        }
    }
}

/// Reads an address where C has put one.
pub(super) fn socket_address(at: *const sys::sockaddr) -> Option<SocketAddr> {
    // SAFETY: our callers point to a union of all kinds of address, which begin with their family.
    let family = unsafe { (*at).sa_family };
    match AddressFamily::from_raw(family) {
        AddressFamily::INET => {
            // SAFETY: the family says so, and the union is aligned for all of them.
            let address = unsafe { at.cast::<sys::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        AddressFamily::INET6 => {
            // SAFETY: as above.
            let address = unsafe { at.cast::<sys::sockaddr_in6>().read_unaligned() };
            // SAFETY: all of the union's kinds are the same bytes.
            let ip = Ipv6Addr::from(unsafe { address.sin6_addr.__in6_u.__u6_addr8 });
            let port = u16::from_be(address.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into())
        }
        _ => None,
    }
}
