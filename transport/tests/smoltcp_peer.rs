//! Userspace TCP against smoltcp's: two that do not know each other's code, on one wire, in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use msgr_transport::tcp::wire::{Wire, WireConfig, WireFaults, WirePort};
use msgr_transport::tcp::{Device, ETHERNET_HEADER_LEN, Mac, Tcp, TcpConfig};
use msgr_transport::{
    Close, CloseReason, ConnId, ConnectOptions, Event, ListenOptions, Transport, TxQueue,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const OURS: [u8; 4] = [10, 0, 0, 1];
const THEIRS: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 7000;
const WINDOW: usize = 256 << 10;
const LATENCY: Duration = Duration::from_micros(50);
const TICK: Duration = Duration::from_micros(20);

/// What smoltcp takes for its device. It answers who asks for its hardware address.
struct Port {
    device: WirePort,
    peer: Mac,
    now: Instant,
    /// The last first.
    arrived: Vec<<WirePort as Device>::Frame>,
}

impl Port {
    fn take_in(&mut self) {
        let mut frames = Vec::new();
        self.device.receive(self.now, &mut frames);
        for frame in frames {
            match frame[12..14] {
                [8, 0] => self.arrived.insert(0, frame),
                [8, 6] if frame[20..22] == [0, 1] && frame[38..42] == THEIRS => {
                    self.answer(&frame);
                }
                _ => {}
            }
        }
    }

    /// An ARP reply (RFC 826).
    fn answer(&mut self, request: &[u8]) {
        let own = self.device.mac();
        let mut reply = self.device.allocate(42).expect("there is room");
        reply[..6].copy_from_slice(&request[6..12]);
        reply[6..12].copy_from_slice(&own);
        reply[12..20].copy_from_slice(&request[12..20]);
        reply[20..22].copy_from_slice(&[0, 2]);
        reply[22..28].copy_from_slice(&own);
        reply[28..32].copy_from_slice(&THEIRS);
        reply[32..42].copy_from_slice(&request[22..32]);
        self.device.transmit(reply);
    }
}

impl smoltcp::phy::Device for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = &'a mut Self;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Arrived, &mut Self)> {
        if self.arrived.is_empty() {
            self.take_in();
        }
        let frame = self.arrived.pop()?;
        Some((Arrived(frame), self))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<&mut Self> {
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

struct Arrived(<WirePort as Device>::Frame);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0[ETHERNET_HEADER_LEN..])
    }
}

impl TxToken for &mut Port {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let frame = self.device.allocate(ETHERNET_HEADER_LEN + len);
        let mut frame = frame.expect("there is room");
        let (header, packet) = frame.split_at_mut(ETHERNET_HEADER_LEN);
        header[..6].copy_from_slice(&self.peer);
        header[6..12].copy_from_slice(&self.device.mac());
        header[12..].copy_from_slice(&[8, 0]);
        let result = write(packet);
        self.device.transmit(frame);
        result
    }
}

/// smoltcp's end, with one socket.
struct Theirs {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    start: Instant,
    received: Vec<u8>,
    /// What is still to be sent.
    sends: Vec<u8>,
}

impl Theirs {
    fn new(device: WirePort, peer: Mac, now: Instant) -> Self {
        let mut port = Port {
            device,
            peer,
            now,
            arrived: Vec::new(),
        };
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut port, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(IpAddress::from(IpAddr::from(THEIRS)), 24);
            addresses.push(address).expect("room for one");
        });
        let buffer = || SocketBuffer::new(vec![0; WINDOW]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(Socket::new(buffer(), buffer()));
        Self {
            port,
            interface,
            sockets,
            handle,
            start: now,
            received: Vec::new(),
            sends: Vec::new(),
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn connect(&mut self) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let to = (IpAddr::from(OURS), PORT);
        let started = socket.connect(self.interface.context(), to, 5000);
        started.expect("it starts");
    }

    fn turn(&mut self, now: Instant) {
        self.port.now = now;
        let at = (now - self.start).as_micros() as i64;
        let at = smoltcp::time::Instant::from_micros(at);
        self.interface.poll(at, &mut self.port, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        while socket.can_recv() {
            let received = &mut self.received;
            let taken = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            taken.expect("it can receive");
        }
        if socket.can_send() && !self.sends.is_empty() {
            let taken = socket.send_slice(&self.sends).expect("it can send");
            self.sends.drain(..taken);
        }
        self.interface.poll(at, &mut self.port, &mut self.sockets);
        self.port.device.flush(now);
    }
}

/// Our end.
struct Ours {
    tcp: Tcp<WirePort>,
    conn: Option<ConnId>,
    received: Vec<u8>,
    closed: Option<CloseReason>,
    sends: TxQueue,
}

impl Ours {
    fn turn(&mut self, now: Instant) {
        let mut events = Vec::new();
        self.tcp.poll(now, &mut events);
        for event in events {
            match event {
                Event::Accepted { conn, .. } | Event::Connected { conn, .. } => {
                    self.conn = Some(conn);
                }
                Event::Data { bytes, .. } => self.received.extend_from_slice(&bytes),
                Event::Closed { reason, .. } => self.closed = Some(reason),
                Event::Room { .. } => {}
            }
        }
        if let Some(conn) = self.conn.filter(|_| !self.sends.is_empty()) {
            // Nothing is taken once it is over.
            let _ = self.tcp.send(conn, &mut self.sends);
        }
        self.tcp.flush();
    }

    fn close(&mut self, how: Close) {
        let conn = self.conn.expect("a connection");
        self.tcp.close(conn, how);
    }
}

struct Pair {
    wire: Wire,
    now: Instant,
    ours: Ours,
    theirs: Theirs,
}

impl Pair {
    fn new() -> Self {
        let config = WireConfig {
            latency: LATENCY,
            seed: 1,
            ..WireConfig::default()
        };
        let (wire, now) = (Wire::new(config), Instant::now());
        let (port, peer) = (wire.port(), wire.port());
        let theirs = Theirs::new(peer, port.mac(), now);
        let tcp = Tcp::new(port, TcpConfig::new(OURS.into(), 24), now).expect("it starts");
        let ours = Ours {
            tcp,
            conn: None,
            received: Vec::new(),
            closed: None,
            sends: TxQueue::new(),
        };
        Self {
            wire,
            now,
            ours,
            theirs,
        }
    }

    /// Established: by us, or by smoltcp.
    fn connected(we_ask: bool) -> Self {
        let mut pair = Self::new();
        if we_ask {
            pair.theirs.socket().listen(PORT).expect("a port");
            let to = SocketAddr::from((THEIRS, PORT));
            let conn = pair.ours.tcp.connect(to, &ConnectOptions::default());
            conn.expect("it starts");
        } else {
            let at = SocketAddr::from((OURS, PORT));
            let listener = pair.ours.tcp.listen(at, &ListenOptions::default());
            listener.expect("a port");
            pair.theirs.connect();
        }
        pair.run_until(Duration::from_secs(5), "a connection", |pair| {
            pair.ours.conn.is_some() && pair.theirs.socket().state() == State::Established
        });
        pair
    }

    fn run_until(
        &mut self,
        most: Duration,
        what: &str,
        mut is_done: impl FnMut(&mut Self) -> bool,
    ) {
        let end = self.now + most;
        while !is_done(self) {
            assert!(self.now < end, "not within {most:?}: {what}");
            self.now += TICK;
            self.ours.turn(self.now);
            self.theirs.turn(self.now);
        }
    }

    /// Sends so many bytes each way at once, with such faults.
    fn exchange(&mut self, len: usize, rate: f64, most: Duration) {
        let faults = WireFaults {
            loss: rate,
            duplicate: rate,
            reorder: rate,
            corrupt: rate,
            ..WireFaults::default()
        };
        self.wire.set_faults(faults);
        let [there, back] = [1, 2].map(|seed| {
            let mut bytes = vec![0; len];
            fastrand::Rng::with_seed(seed).fill(&mut bytes);
            bytes
        });
        self.ours.sends.push_back(Bytes::from(there.clone()));
        self.theirs.sends.extend_from_slice(&back);
        self.run_until(most, "all there and back", |pair| {
            assert_eq!(pair.ours.closed, None);
            pair.ours.received.len() >= len && pair.theirs.received.len() >= len
        });
        assert!(self.theirs.received == there, "altered or reordered");
        assert!(self.ours.received == back, "altered or reordered");
        self.wire.set_faults(WireFaults::default());
        let counts = self.wire.fault_counts();
        assert_eq!(
            rate > 0.0,
            counts.lost > 0 && counts.corrupted > 0,
            "{counts:?}"
        );
    }
}

#[test]
fn megabytes_go_both_ways_whoever_asks() {
    for we_ask in [true, false] {
        Pair::connected(we_ask).exchange(4 << 20, 0.0, Duration::from_secs(2));
    }
}

#[test]
fn megabytes_go_both_ways_on_a_bad_wire() {
    for we_ask in [true, false] {
        Pair::connected(we_ask).exchange(2 << 20, 0.005, Duration::from_secs(200));
    }
}

#[test]
fn we_may_end_it_and_all_arrives_before() {
    for we_ask in [true, false] {
        let mut pair = Pair::connected(we_ask);
        let bytes = vec![7; 100_000];
        pair.ours.sends.push_back(Bytes::from(bytes.clone()));
        pair.ours.turn(pair.now);
        assert!(pair.ours.sends.is_empty());
        pair.ours.close(Close::Drain);
        pair.run_until(Duration::from_secs(1), "the end", |pair| {
            pair.theirs.socket().state() == State::CloseWait
        });
        assert!(pair.theirs.received == bytes);
        pair.theirs.socket().close();
        pair.run_until(Duration::from_secs(1), "the end of both", |pair| {
            pair.theirs.socket().state() == State::Closed
        });
    }
}

#[test]
fn smoltcp_may_end_it_and_all_arrives_before() {
    for we_ask in [true, false] {
        let mut pair = Pair::connected(we_ask);
        let bytes = vec![7; 100_000];
        let taken = pair.theirs.socket().send_slice(&bytes);
        assert_eq!(taken, Ok(bytes.len()));
        pair.theirs.socket().close();
        pair.run_until(Duration::from_secs(1), "the end", |pair| {
            pair.ours.closed.is_some()
        });
        assert_eq!(pair.ours.closed, Some(CloseReason::PeerClosed));
        assert!(pair.ours.received == bytes);
        pair.run_until(Duration::from_secs(1), "the end of both", |pair| {
            pair.theirs.socket().state() == State::TimeWait
        });
    }
}

#[test]
fn both_may_end_it_at_once() {
    let mut pair = Pair::connected(true);
    pair.ours.close(Close::Drain);
    pair.theirs.socket().close();
    pair.run_until(Duration::from_secs(1), "the end of both", |pair| {
        pair.theirs.socket().state() == State::TimeWait
    });
    // Nothing of it is left, after a while.
    pair.run_until(Duration::from_secs(20), "the end", |pair| {
        pair.theirs.socket().state() == State::Closed
    });
}

#[test]
fn either_may_reset_it() {
    for we_ask in [true, false] {
        let mut pair = Pair::connected(we_ask);
        pair.ours.close(Close::Abort);
        pair.run_until(Duration::from_secs(1), "our reset", |pair| {
            pair.theirs.socket().state() == State::Closed
        });
        let mut pair = Pair::connected(we_ask);
        pair.theirs.socket().abort();
        pair.run_until(Duration::from_secs(1), "its reset", |pair| {
            pair.ours.closed.is_some()
        });
        assert_eq!(pair.ours.closed, Some(CloseReason::Reset));
    }
}

#[test]
fn nobody_at_a_port_is_told() {
    let mut pair = Pair::new();
    pair.theirs.connect();
    pair.run_until(Duration::from_secs(1), "our refusal", |pair| {
        pair.theirs.socket().state() == State::Closed
    });
    let mut pair = Pair::new();
    let to = SocketAddr::from((THEIRS, PORT));
    let conn = pair.ours.tcp.connect(to, &ConnectOptions::default());
    conn.expect("it starts");
    pair.run_until(Duration::from_secs(5), "its refusal", |pair| {
        pair.ours.closed.is_some()
    });
    assert_eq!(pair.ours.closed, Some(CloseReason::Refused));
}

/// A reader that comes and goes shuts the window and opens it.
#[test]
fn a_shut_window_of_smoltcps_opens_again() {
    let mut pair = Pair::connected(true);
    let bytes: Vec<u8> = (0..2_000_000u32)
        .map(|at| (at * 7 / 5 % 251) as u8)
        .collect();
    pair.ours.sends.push_back(Bytes::from(bytes.clone()));
    let mut received = Vec::new();
    for _ in 0..20 {
        // Polled, but not read from.
        let until = pair.now + Duration::from_millis(30);
        while pair.now < until {
            pair.now += TICK;
            pair.ours.turn(pair.now);
            pair.theirs.port.now = pair.now;
            let at = (pair.now - pair.theirs.start).as_micros() as i64;
            let at = smoltcp::time::Instant::from_micros(at);
            let Theirs {
                interface,
                port,
                sockets,
                ..
            } = &mut pair.theirs;
            interface.poll(at, port, sockets);
            port.device.flush(pair.now);
        }
        pair.theirs.turn(pair.now);
        received.append(&mut pair.theirs.received);
    }
    assert!(received.len() >= 1_000_000, "{}", received.len());
    assert!(received == bytes[..received.len()]);
}
