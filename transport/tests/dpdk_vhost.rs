//! DPDK's ports between two processes that share memory: `net_vhost` in one, `net_virtio_user` in
//! the other (vhost-user), either of which may be killed.
//!
//! What needs DPDK is ignored.

use std::collections::HashSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use bytes::Bytes;
use msgr_transport::dpdk::{DpdkDevice, DpdkError, Eal, EalConfig, PortConfig};
use msgr_transport::tcp::{Checksums, Device, Frame, Offload, Tcp, TcpConfig};
use msgr_transport::{ConnectOptions, Event, ListenOptions, Park, Transport, TxQueue};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

/// Tells the child which device to open.
const DEVICE: &str = "MSGR_TEST_DEVICE";
/// An Ethernet type for local experiments (IEEE 802, clause 9.2.3).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const IPV4: [u8; 2] = [0x08, 0x00];
/// Nothing here takes as long, unless it hangs.
const FOREVER: Duration = Duration::from_secs(600);

fn config() -> PortConfig {
    PortConfig {
        mtu: 9000,
        ..PortConfig::default()
    }
}

fn open(device: &str) -> Result<DpdkDevice, DpdkError> {
    let eal = Eal::start(&EalConfig::default()).expect("DPDK is installed");
    Ok(eal.open(device, &config())?.remove(0))
}

/// Until `done` gives something.
fn wait<T>(mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + FOREVER;
    loop {
        if let Some(outcome) = done() {
            return outcome;
        }
        assert!(Instant::now() < deadline, "it hangs");
        thread::yield_now();
    }
}

/// A process that sends everything back, until it is killed.
struct Echo(Child);

impl Echo {
    fn start(device: &str) -> Self {
        Self::start_as("echo", device)
    }

    fn start_as(test: &str, device: &str) -> Self {
        // Not while another process is started, see there.
        Eal::start(&EalConfig::default()).expect("DPDK is installed");
        let child = Command::new(env::current_exe().expect("it runs"))
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(DEVICE, device)
            .spawn();
        Self(child.expect("it starts"))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // With SIGKILL: it has no chance to say goodbye.
        self.0.kill().expect("it runs until now");
        self.0.wait().expect("it is our child");
    }
}

/// What this process is to open, if it is part of another test. It ends with that.
fn device_of_child() -> Option<String> {
    let device = env::var(DEVICE).ok()?;
    let signal = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    signal.expect("this one is allowed");
    Some(device)
}

#[test]
#[ignore = "part of another test"]
fn echo() {
    let Some(device) = device_of_child() else {
        return;
    };
    let mut device = open(&device).unwrap();
    let mut frames = Vec::new();
    loop {
        device.receive(Instant::now(), &mut frames);
        if frames.is_empty() {
            thread::yield_now();
        }
        for frame in frames.drain(..) {
            let mut reply = loop {
                match device.allocate(frame.len()) {
                    Some(reply) => break reply,
                    None => device.flush(Instant::now()),
                }
            };
            reply.copy_from_slice(&frame);
            reply[0] = frame.checksums() as u8;
            reply[12..14].copy_from_slice(&EXPERIMENT);
            device.transmit(reply);
        }
        device.flush(Instant::now());
    }
}

/// A directory for a socket.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("msgr-{name}-{}", process::id()));
        fs::create_dir(&path).expect("it is new");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("vhost")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours");
    }
}

fn server(number: u32, socket: &Path) -> String {
    format!("net_vhost{number},iface={}", socket.display())
}

fn client(number: u32, socket: &Path) -> String {
    format!("net_virtio_user{number},path={}", socket.display())
}

/// What frame `number` of a round holds, of a length of its own.
fn content(round: u8, number: u32) -> Vec<u8> {
    let len = 60 + number * 97 % 8900;
    let mut content: Vec<_> = (0..len).map(|at| (number * 31 + at) as u8).collect();
    content[12..14].copy_from_slice(&EXPERIMENT);
    content[14] = round;
    content
}

/// Waits for the peer. While it opens its port, the link may go up and down, and frames get lost.
fn greet(device: &mut DpdkDevice) {
    wait(|| device.is_link_up().then_some(()));
    wait(|| {
        send(device, &content(GREETING, 0));
        has_come(device, GREETING)
    });
    let mut is_sent = false;
    wait(|| {
        is_sent = is_sent || send(device, &content(LAST_GREETING, 0)).is_some();
        device.flush(Instant::now());
        has_come(device, LAST_GREETING)
    });
}

/// Rounds of their own.
const GREETING: u8 = 255;
const LAST_GREETING: u8 = 254;

fn send(device: &mut DpdkDevice, content: &[u8]) -> Option<()> {
    let frame = device.allocate(content.len()).map(|mut frame| {
        frame.copy_from_slice(content);
        device.transmit(frame);
    });
    device.flush(Instant::now());
    frame
}

/// Receives, and tells whether a frame of `round` was among it.
fn has_come(device: &mut DpdkDevice, round: u8) -> Option<()> {
    let mut frames = Vec::new();
    device.receive(Instant::now(), &mut frames);
    let has_come = frames.iter().any(|frame| frame[14] == round);
    has_come.then_some(())
}

/// Has `total` frames echoed, several at once and in order, by a peer that has been greeted.
fn round(device: &mut DpdkDevice, round: u8, total: u32) {
    greet(device);
    let (mut sent, mut got) = (0, 0);
    let mut frames = Vec::new();
    wait(|| {
        while sent < total.min(got + 100) {
            let content = content(round, sent);
            let Some(mut frame) = device.allocate(content.len()) else {
                break;
            };
            frame.copy_from_slice(&content);
            device.transmit(frame);
            sent += 1;
        }
        device.flush(Instant::now());
        device.receive(Instant::now(), &mut frames);
        for frame in frames.drain(..).filter(|frame| frame[14] == round) {
            assert!(
                frame[1..] == content(round, got)[1..],
                "round {round}, frame {got}"
            );
            got += 1;
        }
        (got == total).then_some(())
    });
}

#[test]
#[ignore = "needs DPDK"]
fn a_client_that_is_killed_comes_back() {
    let directory = Directory::new("client");
    let mut device = open(&server(0, &directory.socket())).unwrap();
    assert!(!device.is_link_up());
    for number in 0..5 {
        let echo = Echo::start(&client(0, &directory.socket()));
        round(&mut device, number, 3000);
        drop(echo);
        wait(|| (!device.is_link_up()).then_some(()));
        // Nobody is there to take it: it waits, or is dropped with the peer, but does not block.
        while send(&mut device, &content(GREETING, 0)).is_some() {}
    }
    assert!(device.counters().received >= 15_000);
    drop(device);
    assert!(!directory.socket().exists());
}

#[test]
#[ignore = "needs DPDK"]
fn a_server_that_is_killed_comes_back() {
    let directory = Directory::new("server");
    for number in 0..5 {
        // What the last one has left behind is in nobody's way.
        assert_eq!(directory.socket().exists(), number > 0);
        let echo = Echo::start(&server(1, &directory.socket()));
        let mut device = wait(|| open(&client(1, &directory.socket())).ok());
        round(&mut device, number, 3000);
        drop(echo);
        wait(|| (!device.is_link_up()).then_some(()));
    }
}

/// Whether somebody who sleeps now is woken at once.
fn is_rung(device: &mut DpdkDevice) -> bool {
    let rung = match device.park() {
        Park::Fd(fd) => {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec::default())) != Ok(0)
        }
        Park::Busy | Park::Nap(_) => false,
    };
    device.unpark();
    rung
}

#[test]
#[ignore = "needs DPDK"]
fn a_sleeper_is_woken() {
    let directory = Directory::new("sleeper");
    let _echo = Echo::start(&server(2, &directory.socket()));
    let mut device = wait(|| open(&client(2, &directory.socket())).ok());
    greet(&mut device);
    let mut frames = Vec::new();
    let mut slept = 0;
    for number in 0..200 {
        let content = content(0, number);
        wait(|| send(&mut device, &content));
        while frames.is_empty() {
            match device.park() {
                Park::Busy => {}
                Park::Nap(_) => panic!("this port can wake us"),
                Park::Fd(fd) => {
                    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
                    let limit = Timespec::try_from(FOREVER).unwrap();
                    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1));
                    slept += 1;
                }
            }
            device.unpark();
            device.receive(Instant::now(), &mut frames);
        }
        assert_eq!(frames.len(), 1);
        assert!(frames[0][1..] == content[1..]);
        frames.clear();
        // Nothing is left that would wake us now, but for one ring that comes after what it tells of.
        let rung = is_rung(&mut device);
        device.receive(Instant::now(), &mut frames);
        assert!(frames.is_empty());
        assert!(!rung || !is_rung(&mut device));
    }
    assert!(slept > 0);
}

#[test]
#[ignore = "needs DPDK"]
fn a_device_that_is_declined_can_be_opened_later() {
    let directory = Directory::new("declined");
    let _echo = Echo::start(&server(4, &directory.socket()));
    let device = client(4, &directory.socket());
    drop(wait(|| open(&device).ok()));
    let greedy = PortConfig {
        queues: 2,
        ..config()
    };
    let eal = Eal::start(&EalConfig::default()).unwrap();
    for number in 0..10 {
        let error = eal.open(&device, &greedy).unwrap_err();
        assert!(matches!(error, DpdkError::Setting { .. }), "{error}");
        let mut device = open(&device).unwrap();
        round(&mut device, number, 300);
    }
}

#[test]
#[ignore = "needs DPDK"]
fn a_port_closes_only_what_is_its_own() {
    let directory = Directory::new("own");
    let _echo = Echo::start(&server(5, &directory.socket()));
    let device = client(5, &directory.socket());
    thread::scope(|scope| {
        let ports = scope.spawn(|| {
            for _ in 0..20 {
                drop(wait(|| open(&device).ok()));
            }
        });
        while !ports.is_finished() {
            let mut numbers = HashSet::new();
            let mut files = Vec::new();
            for _ in 0..100 {
                files.push(File::open("/dev/null").unwrap());
                // What we have open is not given to us again.
                assert!(numbers.insert(files[files.len() - 1].as_raw_fd()));
            }
            assert!(files.iter().all(|file| file.metadata().is_ok()));
        }
    });
}

/// An Ethernet frame with a TCP segment of 1000 bytes, for the hardware to complete.
fn segment() -> Vec<u8> {
    let mut frame = vec![7; 14 + 20 + 20 + 1000];
    frame[12..14].copy_from_slice(&IPV4);
    let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
    frame[14..26].copy_from_slice(&[0x45, 0, 4, 16, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame[26..34].copy_from_slice(&addresses);
    frame[46] = 5 << 4;
    let pseudo = [&addresses[..], &[0, 6, 4, 4]].concat();
    let sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[50..52].copy_from_slice(&(sum as u16).to_be_bytes());
    frame
}

#[test]
#[ignore = "needs DPDK"]
fn checksums_are_the_ports_business() {
    let directory = Directory::new("checksums");
    let _echo = Echo::start(&server(3, &directory.socket()));
    let mut device = wait(|| open(&client(3, &directory.socket())).ok());
    greet(&mut device);
    assert!(device.caps().computes_checksums);
    assert!(device.caps().verifies_checksums);
    let content = segment();
    for (offload, verdict) in [(true, Checksums::Good), (false, Checksums::Unknown)] {
        let mut frame = wait(|| device.allocate(content.len()));
        frame.copy_from_slice(&content);
        if offload {
            frame.offload(Offload {
                ip_header_len: 20,
                is_ipv6: false,
                tcp_header_len: 20,
                segment: None,
            });
        }
        device.transmit(frame);
        device.flush(Instant::now());
        let mut frames = Vec::new();
        wait(|| {
            device.receive(Instant::now(), &mut frames);
            (!frames.is_empty()).then_some(())
        });
        assert_eq!(frames[0][0], verdict as u8);
        let ip = &frames[0][14..34];
        let sum: u32 = ip
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16) == 0xffff, offload);
    }
}

#[test]
#[ignore = "part of another test"]
fn echo_bytes() {
    let Some(device) = device_of_child() else {
        return;
    };
    let mut tcp = endpoint(open_ordinary(&device).unwrap(), SERVER);
    tcp.listen(SocketAddr::new(SERVER, PORT), &ListenOptions::default())
        .unwrap();
    let (mut events, mut echo) = (Vec::new(), TxQueue::new());
    let mut client = None;
    loop {
        if !tcp.poll(Instant::now(), &mut events) {
            thread::yield_now();
        }
        for event in events.drain(..) {
            if let Event::Data { conn, bytes } = event {
                client = Some(conn);
                echo.push_back(bytes);
            }
        }
        // At its end nobody needs the rest.
        if let Some(conn) = client {
            let _ = tcp.send(conn, &mut echo);
        }
        tcp.flush();
    }
}

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 7;

/// Opens a port with an MTU of 1500.
fn open_ordinary(device: &str) -> Result<DpdkDevice, DpdkError> {
    let eal = Eal::start(&EalConfig::default()).expect("DPDK is installed");
    Ok(eal.open(device, &PortConfig::default())?.remove(0))
}

fn endpoint(device: DpdkDevice, address: IpAddr) -> Tcp<DpdkDevice> {
    Tcp::new(device, TcpConfig::new(address, 24), Instant::now()).expect("it is one address")
}

#[test]
#[ignore = "needs DPDK"]
fn long_frames_cross_uncut() {
    cross_uncut("uncut", 6, "");
}

/// These rings keep what was sent until they need room.
#[test]
#[ignore = "needs DPDK"]
fn long_frames_cross_packed_rings_uncut() {
    cross_uncut("packed", 7, ",packed_vq=1");
}

/// The server's port offers it (`tso=1`): what goes there is not cut into segments at all. What comes
/// back is. The server holds more of them than it can spare: then it has to copy.
fn cross_uncut(name: &str, number: u32, options: &str) {
    let directory = Directory::new(name);
    let device = format!("{},tso=1", server(number, &directory.socket()));
    let _echo = Echo::start_as("echo_bytes", &device);
    let device = client(number, &directory.socket()) + options;
    let device = wait(|| open_ordinary(&device).ok());
    assert!(device.caps().segments_tcp4.is_some());
    let mut tcp = endpoint(device, CLIENT);
    let to = SocketAddr::new(SERVER, PORT);
    let conn = tcp
        .connect(to, &ConnectOptions::default())
        .expect("ours is free");
    let sent: Vec<u8> = (0..64_u32 << 20).map(|at| (at ^ at >> 9) as u8).collect();
    let mut queue = TxQueue::from([Bytes::from(sent.clone())]);
    let (mut events, mut received, mut is_open) = (Vec::new(), Vec::new(), false);
    wait(|| {
        tcp.poll(Instant::now(), &mut events);
        for event in events.drain(..) {
            match event {
                Event::Connected { .. } => is_open = true,
                Event::Data { bytes, .. } => received.push(bytes),
                Event::Closed { reason, .. } => panic!("{reason:?}"),
                _ => {}
            }
        }
        if is_open {
            tcp.send(conn, &mut queue).expect("it is open");
        }
        tcp.flush();
        (received.iter().map(Bytes::len).sum::<usize>() >= sent.len()).then_some(())
    });
    assert!(received.concat() == sent, "altered or reordered");
    let frames = tcp.counters().transmitted as usize;
    // With the acknowledgements of what comes back: one for two segments at most.
    let cut = sent.len() / 1448;
    assert!(frames < cut * 3 / 4, "{frames} frames, {cut} segments");
}
