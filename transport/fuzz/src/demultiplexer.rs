//! An endpoint whose only neighbour sends what the fuzzer likes: mostly segments that fit a
//! connection, or nearly. The endpoint sends only what is well-formed, speaks only of connections
//! that there are, and is rid of them all when its owner leaves or the neighbour falls silent.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use msgr_transport::tcp::{Tcp, TcpConfig};
use msgr_transport::{
    Close, ConnId, ConnectOptions, Event, ListenOptions, ListenerId, Park, Transport,
};

use super::frames::{self, OWN, PEER, Packet, TCP};
use super::input::Input;
use super::port::Port;

/// Where the endpoint listens, and where nobody does; its ends of the connections that it makes.
const LISTENED: u16 = 6800;
const LOCAL: [u16; 4] = [LISTENED, 6801, 40_000, 40_001];
const REMOTE: [u16; 4] = [3300, 3301, 50_000, 50_001];
/// The neighbour says nothing for so long that nothing can be left.
const SILENCE: Duration = Duration::from_secs(600);
/// Segments are longer than what the fuzzer has for them by up to seven times this: the endpoint hands
/// up long ones as they are.
const STRETCH: usize = 2 << 10;

/// Sequence numbers as the endpoint sees them: its next one, and the one that it waits for.
type Expected = (u32, u32);

struct Fuzz {
    tcp: Tcp<Port>,
    port: Port,
    listeners: Vec<ListenerId>,
    now: Instant,
    open: Vec<ConnId>,
    /// The byte that is to be handed up next, once one was.
    next: HashMap<ConnId, u8>,
    /// By family and the places in [`LOCAL`] and [`REMOTE`].
    expected: HashMap<(usize, usize, usize), Expected>,
    events: Vec<Event>,
}

/// Segments, other frames, what an owner may do, and time in any order.
pub fn demultiplexer(data: &[u8]) {
    let mut input = Input::new(data);
    let leaves = input.u8().is_multiple_of(2);
    let now = Instant::now();
    let port = Port::default();
    let mut config = TcpConfig::new(OWN[0], 24);
    config.addresses.push((OWN[1], 64));
    config.window = 16 << 10;
    config.half_open = 3;
    config.seed = 1;
    let mut tcp = Tcp::new(port.clone(), config, now).expect("it starts");
    let options = ListenOptions {
        backlog: 4,
        ..ListenOptions::default()
    };
    let listen = |ip| tcp.listen(SocketAddr::new(ip, LISTENED), &options);
    let listeners = OWN
        .map(listen)
        .map(|listener| listener.expect("a free port").0);
    let mut fuzz = Fuzz {
        tcp,
        port,
        listeners: listeners.into(),
        now,
        open: Vec::new(),
        next: HashMap::new(),
        expected: HashMap::new(),
        events: Vec::new(),
    };
    fuzz.greet();
    fuzz.poll();
    while !input.is_empty() {
        fuzz.step(&mut input);
    }
    fuzz.finish(leaves);
}

impl Fuzz {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 12 {
            0..=3 => self.segment(input),
            4 => {
                let mut frame = input.string().to_vec();
                if let Some(destination) = frame.first_chunk_mut() {
                    *destination = frames::OWN_MAC;
                }
                frames::complete(&mut frame);
                self.bring(frame);
            }
            5 => {
                let protocol = input.u8();
                let family = usize::from(input.u8() % 2);
                let mut frame = frames::packet(PEER[family], OWN[family], protocol, input.string());
                frames::complete(&mut frame);
                self.bring(frame);
            }
            6 => {
                self.greet();
                self.now += Duration::from_millis(input.u16().into());
                self.poll();
            }
            7 => self.connect(input),
            8 => self.poll(),
            9 => {
                let exhausted = &mut self.port.0.borrow_mut().exhausted;
                *exhausted = !*exhausted;
            }
            _ => self.own(input),
        }
    }

    /// Something that the owner of a connection does.
    fn own(&mut self, input: &mut Input<'_>) {
        let Some(&conn) = self
            .open
            .get(usize::from(input.u8()) % self.open.len().max(1))
        else {
            return;
        };
        match input.u8() % 8 {
            0 => self.tcp.set_receive(conn, false),
            1 => self.tcp.set_receive(conn, true),
            2 => drop(self.tcp.place(conn, BytesMut::zeroed(input.u8().into()))),
            how @ (3 | 4) => {
                let how = [Close::Drain, Close::Abort][usize::from(how - 3)];
                self.open.retain(|&open| open != conn);
                self.tcp.close(conn, how);
            }
            _ => {
                let bytes = Bytes::from(vec![0x5a; usize::from(input.u8()) * 64]);
                // It may have ended without our having heard of it.
                let _ = self.tcp.send(conn, &mut [bytes].into());
                self.tcp.flush();
                self.look();
            }
        }
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        let how = usize::from(input.u8());
        let (family, local, remote) = (how % 2, how / 2 % 4, how / 8 % 4);
        let to = SocketAddr::new(PEER[family], REMOTE[remote]);
        let from = SocketAddr::new(OWN[family], LOCAL[local]);
        let options = ConnectOptions { local: Some(from) };
        if let Ok(conn) = self.tcp.connect(to, &options) {
            self.open.push(conn);
        }
    }

    /// A TCP segment, whose numbers are those that the endpoint expects, or nearly.
    fn segment(&mut self, input: &mut Input<'_>) {
        let ends = input.u8();
        let (family, local, remote) = (
            usize::from(ends) % 2,
            usize::from(ends) / 2 % 4,
            usize::from(ends) / 8 % 4,
        );
        let flags = input.u8();
        let how = input.u8();
        let expected = self.expected.get(&(family, local, remote));
        let (mut ack, mut seq) = expected.copied().unwrap_or((0, 1000));
        for (number, how) in [(&mut seq, how % 4), (&mut ack, how / 4 % 4)] {
            *number = match how {
                0 | 1 => *number,
                2 => number
                    .wrapping_add(u32::from(input.u16()))
                    .wrapping_sub(0x8000),
                _ => input.u32(),
            };
        }
        let window = if how & 0x10 == 0 { 0x4000 } else { input.u16() };
        let options = if how & 0x20 == 0 { &[] } else { input.string() };
        let options = &options[..options.len().min(40) / 4 * 4];
        let len = match how & 0x40 {
            0 => 0,
            _ => input.string().len() + usize::from(ends >> 5) * STRETCH,
        };
        let mut segment = Vec::new();
        segment.extend(REMOTE[remote].to_be_bytes());
        segment.extend(LOCAL[local].to_be_bytes());
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.push((5 + options.len() as u8 / 4) << 4);
        segment.push(flags);
        segment.extend(window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(options);
        segment.resize(segment.len() + len, 0);
        let mut frame = frames::packet(PEER[family], OWN[family], TCP, &segment);
        frames::complete(&mut frame);
        if how & 0x80 == 0 {
            return self.bring(frame);
        }
        // The next one comes in the same burst, before there is an answer, and may follow this one.
        self.port.0.borrow_mut().incoming.push_back(frame);
        if let Some((_, next)) = self.expected.get_mut(&(family, local, remote)) {
            *next = seq.wrapping_add(len as u32);
        }
    }

    /// The neighbour makes itself known.
    fn greet(&mut self) {
        let incoming = &mut self.port.0.borrow_mut().incoming;
        incoming.push_back(frames::arp(frames::REQUEST));
        incoming.push_back(frames::neighbour_discovery(frames::SOLICITATION));
    }

    fn bring(&mut self, frame: Vec<u8>) {
        self.port.0.borrow_mut().incoming.push_back(frame);
        self.poll();
    }

    fn poll(&mut self) {
        self.tcp.poll(self.now, &mut self.events);
        for event in std::mem::take(&mut self.events) {
            self.hear(event);
        }
        self.look();
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Accepted {
                listener,
                conn,
                local,
                remote,
            } => {
                assert!(self.listeners.contains(&listener));
                assert!(!self.open.contains(&conn));
                assert_eq!(local.port(), LISTENED);
                assert!(OWN.contains(&local.ip()) && local.is_ipv4() == remote.is_ipv4());
                self.open.push(conn);
            }
            Event::Connected { conn, .. } | Event::Room { conn } => {
                assert!(self.open.contains(&conn));
            }
            Event::Data { conn, bytes } => {
                assert!(self.open.contains(&conn));
                assert!(!bytes.is_empty());
                let next = self.next.entry(conn).or_insert(bytes[0]);
                for byte in bytes {
                    assert_eq!(byte, *next, "not in order");
                    *next = next.wrapping_add(1);
                }
            }
            Event::Closed { conn, .. } => {
                let known = self.open.len();
                self.open.retain(|&open| open != conn);
                assert_eq!(self.open.len(), known - 1);
            }
        }
    }

    /// Looks at what the endpoint has sent.
    fn look(&mut self) {
        let frames = std::mem::take(&mut self.port.0.borrow_mut().outgoing);
        for frame in frames {
            frames::judge(&frame);
            if let Some(packet) = Packet::parse(&frame).filter(|packet| packet.protocol == TCP) {
                self.follow(&packet);
            }
        }
    }

    /// Takes note of the numbers in a segment.
    fn follow(&mut self, packet: &Packet<'_>) {
        let header: &[u8; 20] = packet.payload.first_chunk().expect("a TCP header");
        let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let place = |ports: [u16; 4], port| ports.iter().position(|&it| it == port);
        let data = packet.payload.len() - usize::from(header[12] >> 4) * 4;
        let takes_one = u32::from(header[13] & 1) + u32::from(header[13] >> 1 & 1);
        let next = number(4).wrapping_add(data as u32 + takes_one);
        let family = usize::from(matches!(packet.source, IpAddr::V6(_)));
        if let (Some(local), Some(remote)) = (place(LOCAL, port(0)), place(REMOTE, port(2)))
            && header[13] & 4 == 0
        {
            self.expected
                .insert((family, local, remote), (next, number(8)));
        }
    }

    /// The owner leaves or waits, the neighbour says nothing any more, and time passes.
    fn finish(mut self, leaves: bool) {
        self.port.0.borrow_mut().exhausted = false;
        for listener in std::mem::take(&mut self.listeners) {
            self.tcp.unlisten(listener);
        }
        self.poll();
        if leaves {
            for conn in std::mem::take(&mut self.open) {
                self.tcp.close(conn, Close::Drain);
            }
        }
        // The end is told behind the data.
        for &conn in &self.open {
            self.tcp.set_receive(conn, true);
        }
        let end = self.now + SILENCE;
        while self.tcp.connections() > 0 {
            let next = match self.tcp.park() {
                Park::Busy => Some(self.now),
                Park::Fd(_) | Park::Nap(_) => self.tcp.next_timeout(),
            };
            self.tcp.unpark();
            let next = next.expect("a deadline while there is a connection");
            assert!(
                next < end,
                "{} connections for ever",
                self.tcp.connections()
            );
            self.now = next.max(self.now + Duration::from_micros(1));
            self.poll();
        }
        assert!(self.open.is_empty(), "nobody heard of the end");
    }
}
