//! librdmacm: ids, ports, and the events by which two ids become a connection.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use msgr_rdma_sys::{self as sys, Cm};
use rustix::io::Errno;

use super::super::cm::{RawAddress, socket_address};
use super::{Answer, Bell, Fabric, device_of, fabric, fail, verbs};

pub(super) static CM: Cm = Cm {
    rdma_create_event_channel,
    rdma_destroy_event_channel,
    rdma_create_id,
    rdma_destroy_id,
    rdma_bind_addr,
    rdma_resolve_addr,
    rdma_resolve_route,
    rdma_init_qp_attr,
    rdma_connect,
    rdma_establish,
    rdma_listen,
    rdma_accept,
    rdma_reject,
    rdma_disconnect,
    rdma_get_cm_event,
    rdma_ack_cm_event,
    rdma_event_str,
    rdma_set_option,
    rdma_migrate_id,
};

#[repr(C)]
struct Channel {
    raw: sys::rdma_event_channel,
    bell: Bell,
    events: VecDeque<*mut Event>,
}

#[repr(C)]
struct Event {
    raw: sys::rdma_cm_event,
    data: [u8; 56],
}

#[repr(C)]
pub(super) struct Id {
    raw: sys::rdma_cm_id,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    peer: *mut Self,
    queue_pair: u32,
    shares: bool,
    /// Whether the port is taken by this id, not only named by it.
    is_bound: bool,
    is_accepted: bool,
}

/// The reason of a rejection when nobody listens, and when somebody declines.
const NOBODY: c_int = 8;
const DECLINED: c_int = 28;

fn new_id(channel: *mut sys::rdma_event_channel) -> *mut Id {
    Box::into_raw(Box::new(Id {
        raw: sys::rdma_cm_id {
            channel,
            ..sys::rdma_cm_id::default()
        },
        local: None,
        remote: None,
        peer: ptr::null_mut(),
        queue_pair: 0,
        shares: false,
        is_bound: false,
        is_accepted: false,
    }))
}

/// An address as a device has it.
pub(super) fn gid(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The device is removed: whoever listens there is told.
pub(super) fn remove(fabric: &Fabric, device: u16) {
    for (at, &listener) in &fabric.listeners {
        if device_of(at.ip()) == device {
            unsafe { (*listener).tell(sys::RDMA_CM_EVENT_DEVICE_REMOVAL, 0, &[]) };
        }
    }
}

impl Id {
    fn set_local(&mut self, fabric: &mut Fabric, at: SocketAddr) {
        self.local = Some(at);
        let to = &raw mut self.raw.route.addr.__bindgen_anon_1;
        unsafe { to.cast::<RawAddress>().write_unaligned(at.into()) };
        self.raw.port_num = 1;
        self.raw.route.addr.addr.ibaddr.sgid.raw = gid(at.ip());
        let number = device_of(at.ip());
        let manager = fabric.managers.entry(number);
        self.raw.verbs = *manager.or_insert_with(|| verbs::context(number, None));
    }

    fn set_remote(&mut self, to: SocketAddr) {
        self.remote = Some(to);
        let at = &raw mut self.raw.route.addr.__bindgen_anon_2;
        unsafe { at.cast::<RawAddress>().write_unaligned(to.into()) };
    }

    fn bind(&mut self, fabric: &mut Fabric, mut at: SocketAddr) -> Result<(), Errno> {
        if device_of(at.ip()) == 0 {
            return Err(Errno::NODEV);
        }
        while at.port() == 0 {
            fabric.last_port = fabric
                .last_port
                .checked_add(1)
                .unwrap_or_default()
                .max(10_000);
            let next = SocketAddr::new(at.ip(), fabric.last_port);
            if !fabric.bound.contains_key(&next) {
                at = next;
            }
        }
        let others = fabric.bound.get(&at).copied().unwrap_or_default();
        if others > 0 && (!self.shares || fabric.listeners.contains_key(&at)) {
            return Err(Errno::ADDRINUSE);
        }
        *fabric.bound.entry(at).or_default() += 1;
        self.is_bound = true;
        self.set_local(fabric, at);
        Ok(())
    }

    /// Has an event told of this id.
    pub(super) fn tell(&mut self, event: sys::rdma_cm_event_type, status: c_int, data: &[u8]) {
        let id = &raw mut self.raw;
        self.tell_of(event, status, data, (id, ptr::null_mut()));
    }

    fn tell_of(
        &self,
        event: sys::rdma_cm_event_type,
        status: c_int,
        private: &[u8],
        (id, listen_id): (*mut sys::rdma_cm_id, *mut sys::rdma_cm_id),
    ) {
        // The manager pads it.
        let mut data = [0; 56];
        data[..private.len()].copy_from_slice(private);
        let raw = sys::rdma_cm_event {
            id,
            listen_id,
            event,
            status,
            ..sys::rdma_cm_event::default()
        };
        let event = Box::into_raw(Box::new(Event { raw, data }));
        unsafe {
            let param = &mut (*event).raw.param.conn;
            param.private_data = (&raw const (*event).data).cast();
            param.private_data_len = 56;
        }
        let channel = unsafe { &mut *self.raw.channel.cast::<Channel>() };
        channel.events.push_back(event);
        channel.bell.ring();
    }

    fn peer(&mut self) -> Option<&mut Self> {
        unsafe { self.peer.as_mut() }
    }

    /// The other end knows us no more.
    pub(super) fn part(&mut self) -> Option<&mut Self> {
        let peer = unsafe { std::mem::replace(&mut self.peer, ptr::null_mut()).as_mut() }?;
        peer.peer = ptr::null_mut();
        Some(peer)
    }
}

fn done(result: Result<(), Errno>) -> c_int {
    result.map_or_else(fail, |()| 0)
}

/// Runs with the lock held and the id.
fn with_id(
    id: *mut sys::rdma_cm_id,
    run: impl FnOnce(&mut Fabric, &mut Id) -> Result<(), Errno>,
) -> c_int {
    done(fabric(|fabric| {
        run(fabric, unsafe { &mut *id.cast::<Id>() })
    }))
}

fn private(param: *mut sys::rdma_conn_param) -> Vec<u8> {
    let param = unsafe { &*param };
    let len = usize::from(param.private_data_len);
    unsafe { std::slice::from_raw_parts(param.private_data.cast(), len) }.to_vec()
}

extern "C" fn rdma_create_event_channel() -> *mut sys::rdma_event_channel {
    let bell = Bell::new();
    let raw = sys::rdma_event_channel { fd: bell.raw() };
    let events = VecDeque::new();
    Box::into_raw(Box::new(Channel { raw, bell, events })).cast()
}

unsafe extern "C" fn rdma_destroy_event_channel(channel: *mut sys::rdma_event_channel) {
    let channel = unsafe { Box::from_raw(channel.cast::<Channel>()) };
    assert!(channel.events.is_empty(), "ids outlive their channel");
}

unsafe extern "C" fn rdma_create_id(
    channel: *mut sys::rdma_event_channel,
    id: *mut *mut sys::rdma_cm_id,
    _: *mut c_void,
    _: sys::rdma_port_space,
) -> c_int {
    unsafe { id.write(new_id(channel).cast()) };
    0
}

unsafe extern "C" fn rdma_destroy_id(id: *mut sys::rdma_cm_id) -> c_int {
    fabric(|fabric| unsafe { destroy(fabric, id.cast()) });
    0
}

unsafe fn destroy(fabric: &mut Fabric, id: *mut Id) {
    let this = unsafe { &mut *id };
    if let Some(local) = this.local.filter(|_| this.is_bound) {
        if let Some(count) = fabric.bound.get_mut(&local) {
            *count -= 1;
            if *count == 0 {
                fabric.bound.remove(&local);
            }
        }
        if fabric.listeners.get(&local) == Some(&id) {
            fabric.listeners.remove(&local);
        }
    }
    let was_up = this.is_accepted;
    if let Some(peer) = this.part() {
        if was_up || peer.is_accepted {
            peer.tell(sys::RDMA_CM_EVENT_DISCONNECTED, 0, &[]);
        } else {
            peer.tell(sys::RDMA_CM_EVENT_REJECTED, DECLINED, &[]);
        }
    }
    // What it was still to be told, and requests that nobody will take.
    let channel = unsafe { &mut *this.raw.channel.cast::<Channel>() };
    let raw = &raw mut this.raw;
    let all = std::mem::take(&mut channel.events);
    let (gone, left): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|&event| unsafe { (*event).raw.id == raw || (*event).raw.listen_id == raw });
    channel.events = left.into();
    for event in gone {
        channel.bell.take();
        let event = unsafe { Box::from_raw(event) };
        if event.raw.listen_id == raw {
            unsafe { destroy(fabric, event.raw.id.cast()) };
        }
    }
    fabric.forget(id);
    drop(unsafe { Box::from_raw(id) });
}

unsafe extern "C" fn rdma_bind_addr(id: *mut sys::rdma_cm_id, at: *mut sys::sockaddr) -> c_int {
    let at = socket_address(at).expect("an address");
    with_id(id, |fabric, id| id.bind(fabric, at))
}

unsafe extern "C" fn rdma_listen(id: *mut sys::rdma_cm_id, _: c_int) -> c_int {
    with_id(id, |fabric, id| {
        let local = id.local.ok_or(Errno::INVAL)?;
        if fabric.bound.get(&local) != Some(&1) {
            return Err(Errno::ADDRINUSE);
        }
        fabric.listeners.insert(local, id);
        Ok(())
    })
}

unsafe extern "C" fn rdma_resolve_addr(
    id: *mut sys::rdma_cm_id,
    _: *mut sys::sockaddr,
    to: *mut sys::sockaddr,
    _: c_int,
) -> c_int {
    let to = socket_address(to).expect("an address");
    with_id(id, |fabric, id| {
        id.set_remote(to);
        if id.local.is_none() {
            // The first host of the same device.
            let ip = match to.ip() {
                IpAddr::V4(ip) => {
                    let [a, b, c, _] = ip.octets();
                    IpAddr::from([a, b, c, 1])
                }
                IpAddr::V6(ip) => {
                    let mut segments = ip.segments();
                    segments[7] = 1;
                    segments.into()
                }
            };
            id.bind(fabric, SocketAddr::new(ip, 0))?;
        }
        id.tell(sys::RDMA_CM_EVENT_ADDR_RESOLVED, 0, &[]);
        Ok(())
    })
}

unsafe extern "C" fn rdma_resolve_route(id: *mut sys::rdma_cm_id, _: c_int) -> c_int {
    with_id(id, |_, id| {
        id.tell(sys::RDMA_CM_EVENT_ROUTE_RESOLVED, 0, &[]);
        Ok(())
    })
}

unsafe extern "C" fn rdma_init_qp_attr(
    id: *mut sys::rdma_cm_id,
    attributes: *mut sys::ibv_qp_attr,
    mask: *mut c_int,
) -> c_int {
    with_id(id, |_, id| {
        unsafe { mask.write(sys::IBV_QP_STATE as c_int) };
        if let Some(peer) = id.peer() {
            unsafe { (*attributes).dest_qp_num = peer.queue_pair };
        }
        Ok(())
    })
}

unsafe extern "C" fn rdma_connect(
    id: *mut sys::rdma_cm_id,
    param: *mut sys::rdma_conn_param,
) -> c_int {
    let data = private(param);
    with_id(id, |fabric, id| {
        id.queue_pair = unsafe { (*param).qp_num };
        let (Some(local), Some(remote)) = (id.local, id.remote) else {
            return Err(Errno::INVAL);
        };
        match fabric.answer((local, remote)) {
            Answer::Arrives => {}
            Answer::Never => return Ok(()),
            Answer::Refused => {
                id.tell(sys::RDMA_CM_EVENT_REJECTED, NOBODY, &[]);
                return Ok(());
            }
        }
        let Some(&listener) = fabric.listeners.get(&remote) else {
            id.tell(sys::RDMA_CM_EVENT_REJECTED, NOBODY, &[]);
            return Ok(());
        };
        let listener = unsafe { &mut *listener };
        let request = unsafe { &mut *new_id(listener.raw.channel) };
        request.set_local(fabric, remote);
        request.set_remote(local);
        request.peer = id;
        id.peer = request;
        let ids = (&raw mut request.raw, &raw mut listener.raw);
        listener.tell_of(sys::RDMA_CM_EVENT_CONNECT_REQUEST, 0, &data, ids);
        Ok(())
    })
}

unsafe extern "C" fn rdma_accept(
    id: *mut sys::rdma_cm_id,
    param: *mut sys::rdma_conn_param,
) -> c_int {
    let data = private(param);
    with_id(id, |fabric, id| {
        id.queue_pair = unsafe { (*param).qp_num };
        id.is_accepted = true;
        let (acceptor, number) = (&raw mut *id, id.queue_pair);
        let peer = id.peer().ok_or(Errno::CONNRESET)?;
        if let (Some(local), Some(remote)) = (peer.local, peer.remote) {
            let queue_pairs = [peer.queue_pair, number];
            fabric.begin((local, remote), [peer, acceptor], queue_pairs);
        }
        peer.tell(sys::RDMA_CM_EVENT_CONNECT_RESPONSE, 0, &data);
        Ok(())
    })
}

unsafe extern "C" fn rdma_establish(id: *mut sys::rdma_cm_id) -> c_int {
    with_id(id, |_, id| {
        let peer = id.peer().ok_or(Errno::CONNRESET)?;
        peer.tell(sys::RDMA_CM_EVENT_ESTABLISHED, 0, &[]);
        Ok(())
    })
}

unsafe extern "C" fn rdma_reject(id: *mut sys::rdma_cm_id, data: *const c_void, len: u8) -> c_int {
    let data = unsafe { std::slice::from_raw_parts(data.cast(), len.into()) };
    with_id(id, |_, id| {
        let peer = id.part().ok_or(Errno::CONNRESET)?;
        peer.tell(sys::RDMA_CM_EVENT_REJECTED, DECLINED, data);
        Ok(())
    })
}

unsafe extern "C" fn rdma_disconnect(id: *mut sys::rdma_cm_id) -> c_int {
    with_id(id, |fabric, id| {
        fabric.forget(id);
        let is_up = id.is_accepted || id.peer().is_some_and(|peer| peer.is_accepted);
        if !is_up {
            return Err(Errno::INVAL);
        }
        if let Some(peer) = id.part() {
            peer.tell(sys::RDMA_CM_EVENT_DISCONNECTED, 0, &[]);
        }
        id.tell(sys::RDMA_CM_EVENT_DISCONNECTED, 0, &[]);
        Ok(())
    })
}

unsafe extern "C" fn rdma_get_cm_event(
    channel: *mut sys::rdma_event_channel,
    event: *mut *mut sys::rdma_cm_event,
) -> c_int {
    fabric(|_| {
        let channel = unsafe { &mut *channel.cast::<Channel>() };
        let Some(next) = channel.events.pop_front() else {
            return fail(Errno::AGAIN);
        };
        channel.bell.take();
        let of = unsafe { &*next };
        if !of.raw.listen_id.is_null() {
            unsafe { (*of.raw.id).context = (*of.raw.listen_id).context };
        }
        unsafe { event.write(next.cast()) };
        0
    })
}

unsafe extern "C" fn rdma_ack_cm_event(event: *mut sys::rdma_cm_event) -> c_int {
    drop(unsafe { Box::from_raw(event.cast::<Event>()) });
    0
}

extern "C" fn rdma_event_str(_: sys::rdma_cm_event_type) -> *const c_char {
    c"event".as_ptr()
}

unsafe extern "C" fn rdma_set_option(
    id: *mut sys::rdma_cm_id,
    _: c_int,
    option: c_int,
    _: *mut c_void,
    _: usize,
) -> c_int {
    with_id(id, |_, id| {
        id.shares |= option == sys::RDMA_OPTION_ID_REUSEADDR as c_int;
        Ok(())
    })
}

unsafe extern "C" fn rdma_migrate_id(
    id: *mut sys::rdma_cm_id,
    channel: *mut sys::rdma_event_channel,
) -> c_int {
    with_id(id, |_, id| {
        let raw = &raw mut id.raw;
        let old = std::mem::replace(&mut id.raw.channel, channel);
        let [old, new] = [old, channel].map(<*mut _>::cast::<Channel>);
        // What it was still to be told is told there.
        let all = std::mem::take(unsafe { &mut (*old).events });
        for event in all {
            let of = unsafe { &(*event).raw };
            if of.id == raw || of.listen_id == raw {
                unsafe { &*old }.bell.take();
                unsafe { (*of.id).channel = channel };
                unsafe { (*new).events.push_back(event) };
                unsafe { &*new }.bell.ring();
            } else {
                unsafe { (*old).events.push_back(event) };
            }
        }
        Ok(())
    })
}
