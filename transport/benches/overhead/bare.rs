//! [`Bare`]: smoltcp as it comes, over one of our devices, with one socket.

use std::time::Instant;

use bytes::Bytes;
use msgr_transport::tcp::{Device, ETHERNET_HEADER_LEN, Mac};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::End;

/// As of ours.
const WINDOW: usize = 512 << 10;
/// What is read at a time, at most.
const READ: usize = 256 << 10;

/// One end.
pub(crate) struct Bare<D: Device> {
    port: Port<D>,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    start: Instant,
    /// What time it is for smoltcp.
    at: smoltcp::time::Instant,
    buffer: Vec<u8>,
}

impl<D: Device<Frame: Send> + Send> Bare<D> {
    pub(crate) fn pair(devices: [D; 2]) -> [Self; 2] {
        let start = Instant::now();
        let macs = [0, 1].map(|at| devices[at].caps().mac);
        let mut last = 0;
        let mut ends = devices.map(|device| {
            last += 1;
            Self::new(device, macs[2 - last], last as u8, start)
        });
        let [client, server] = &mut ends;
        server.socket().listen(1).expect("a port");
        let Bare {
            sockets,
            handle,
            interface,
            ..
        } = client;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        let to = (IpAddress::v4(10, 0, 0, 2), 1);
        socket
            .connect(interface.context(), to, 2)
            .expect("it starts");
        while !client.socket().may_send() || !server.socket().may_send() {
            client.turn(start);
            server.turn(start);
        }
        ends
    }

    fn new(device: D, peer: Mac, last: u8, start: Instant) -> Self {
        let mut port = Port {
            mac: device.caps().mac,
            device,
            peer,
            now: start,
            arrived: Vec::new(),
        };
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut port, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::v4(10, 0, 0, last), 24);
            addresses.push(address).expect("room for one");
        });
        let buffer = || SocketBuffer::new(vec![0; WINDOW]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            port,
            interface,
            sockets,
            handle,
            start,
            at: smoltcp::time::Instant::ZERO,
            buffer: vec![0; READ],
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl<D: Device<Frame: Send> + Send> End for Bare<D> {
    fn send(&mut self, message: &Bytes) -> bool {
        let socket = self.socket();
        let has_room = socket.send_capacity() - socket.send_queue() >= message.len();
        has_room && socket.send_slice(message) == Ok(message.len())
    }

    fn flush(&mut self) {
        let at = self.at;
        self.interface
            .poll_egress(at, &mut self.port, &mut self.sockets);
        self.port.device.flush(self.port.now);
    }

    fn turn(&mut self, now: Instant) -> usize {
        self.port.now = now;
        self.at = smoltcp::time::Instant::from_micros((now - self.start).as_micros() as i64);
        self.interface
            .poll(self.at, &mut self.port, &mut self.sockets);
        self.port.device.flush(now);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        socket.recv_slice(&mut self.buffer).unwrap_or(0)
    }
}

/// What smoltcp takes for its device.
struct Port<D: Device> {
    device: D,
    mac: Mac,
    peer: Mac,
    now: Instant,
    /// The last first.
    arrived: Vec<D::Frame>,
}

impl<D: Device> smoltcp::phy::Device for Port<D> {
    type RxToken<'a>
        = Arrived<D::Frame>
    where
        Self: 'a;
    type TxToken<'a>
        = &'a mut Self
    where
        Self: 'a;

    fn receive(
        &mut self,
        _: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        if self.arrived.is_empty() {
            self.device.receive(self.now, &mut self.arrived);
            self.arrived.reverse();
        }
        let frame = self.arrived.pop()?;
        Some((Arrived(frame), self))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        if !self.device.may_transmit() {
            self.device.flush(self.now);
        }
        self.device.may_transmit().then_some(self)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.device.caps().mtu;
        caps
    }
}

struct Arrived<F>(F);

impl<F: std::ops::Deref<Target = [u8]>> RxToken for Arrived<F> {
    fn consume<R, G: FnOnce(&[u8]) -> R>(self, read: G) -> R {
        read(&self.0[ETHERNET_HEADER_LEN..])
    }
}

impl<D: Device> TxToken for &mut Port<D> {
    fn consume<R, G: FnOnce(&mut [u8]) -> R>(self, len: usize, write: G) -> R {
        let frame = self.device.allocate(ETHERNET_HEADER_LEN + len);
        let mut frame = frame.expect("there is room");
        let (header, packet) = frame.split_at_mut(ETHERNET_HEADER_LEN);
        header[..6].copy_from_slice(&self.peer);
        header[6..12].copy_from_slice(&self.mac);
        header[12..].copy_from_slice(&[8, 0]);
        let result = write(packet);
        self.device.transmit(frame);
        result
    }
}
