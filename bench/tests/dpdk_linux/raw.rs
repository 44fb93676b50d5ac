//! Bytes that are no messages: ordinary clients of the kernel's TCP, and a server that has nothing
//! but the transport.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use msgr_transport::dpdk::PortConfig;
use msgr_transport::tcp::{Tcp, TcpConfig};
use msgr_transport::{Event, ListenOptions, Transport as _, TxQueue};

use crate::hosts::{Hosts, V4, eal};

/// Tell the server, which is this executable on another host, its port and its MTU.
const DEVICE: &str = "MSGR_TEST_DEVICE";
const MTU: &str = "MSGR_TEST_MTU";
const PORT: u16 = 7;
/// Nothing here takes as long, unless it hangs.
const FOREVER: Duration = Duration::from_secs(60);
const CLIENTS: u32 = 4;
/// Bytes from each.
const LEN: usize = 2 << 20;

/// Ends with its owner.
struct Echo(Child);

impl Echo {
    /// If it opens its port.
    fn start(hosts: &Hosts) -> Option<Self> {
        let this = env::current_exe().unwrap();
        let mut child = hosts
            .ours()
            .command(this.to_str().unwrap())
            .args(["--exact", "raw::echo", "--ignored", "--nocapture"])
            .env(DEVICE, hosts.link.device())
            .env(MTU, hosts.link.mtu().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let echo = Self(child);
        let mut lines = lines.map(Result::unwrap);
        let is_ready = lines.any(|line| line.ends_with("ready"));
        is_ready.then_some(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "part of other tests"]
fn echo() {
    let (Ok(device), Ok(mtu)) = (env::var(DEVICE), env::var(MTU)) else {
        return;
    };
    let config = PortConfig {
        mtu: mtu.parse().unwrap(),
        ..PortConfig::default()
    };
    let device = eal().open(&device, &config).unwrap().remove(0);
    let mut tcp = Tcp::new(device, TcpConfig::new(V4.ours, 24), Instant::now()).unwrap();
    let at = SocketAddr::new(V4.ours, PORT);
    tcp.listen(at, &ListenOptions::default()).unwrap();
    println!("ready");

    let mut queues = HashMap::<_, TxQueue>::new();
    let mut events = Vec::new();
    loop {
        if !tcp.poll(Instant::now(), &mut events) {
            // There are fewer processors than tests.
            thread::sleep(Duration::from_micros(50));
        }
        for event in events.drain(..) {
            let conn = match event {
                Event::Accepted { conn, .. } | Event::Room { conn } => conn,
                Event::Data { conn, bytes } => {
                    queues.entry(conn).or_default().push_back(bytes);
                    conn
                }
                Event::Closed { conn, .. } => {
                    queues.remove(&conn);
                    continue;
                }
                Event::Connected { .. } => panic!("we connect to nobody"),
            };
            let queue = queues.entry(conn).or_default();
            // If it has ended, we are told so next.
            let _ = tcp.send(conn, queue);
            // Who does not take, is not taken from.
            tcp.set_receive(conn, queue.is_empty());
        }
        tcp.flush();
    }
}

/// A byte of what a client sends.
fn byte(client: u32, at: usize) -> u8 {
    let mixed = (at as u32 ^ client << 30).wrapping_mul(0x9e37_79b1);
    (mixed >> 24) as u8
}

fn connect(ip: IpAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&(ip, PORT).into(), FOREVER).unwrap();
    stream.set_read_timeout(Some(FOREVER)).unwrap();
    stream.set_write_timeout(Some(FOREVER)).unwrap();
    stream
}

/// Sends in pieces of all sizes, while it takes in what comes back.
fn client(number: u32, ip: IpAddr) {
    let stream = &connect(ip);
    let bytes: Vec<_> = (0..LEN).map(|at| byte(number, at)).collect();
    let mut back = vec![0; LEN];
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut rest, mut len) = (&bytes[..], 1);
            while !rest.is_empty() {
                let piece = rest.split_off(..len.min(rest.len())).unwrap();
                (&mut &*stream).write_all(piece).unwrap();
                len = len * 3 % 65_537;
            }
        });
        (&mut &*stream).read_exact(&mut back).unwrap();
    });
    let wrong = bytes
        .iter()
        .zip(&back)
        .position(|(sent, came)| sent != came);
    assert_eq!(wrong, None, "client {number}");
}

/// What ordinary clients expect of any TCP.
pub(crate) fn clients_of_the_kernel(hosts: &Hosts) {
    let echo = hosts.opened(|| Echo::start(hosts));
    hosts.kernel.enter(|| {
        let nobody = TcpStream::connect((V4.ours, PORT + 1));
        assert_eq!(nobody.unwrap_err().kind(), ErrorKind::ConnectionRefused);

        // Whoever leaves without a look at what has come, resets.
        let rude = connect(V4.ours);
        (&rude).write_all(&[0; 1000]).unwrap();
        assert_eq!(rude.peek(&mut [0]).unwrap(), 1);
        drop(rude);

        thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || client(number, V4.ours));
            }
        });
    });
    drop(echo);
}
