//! Hosts on this machine: a network namespace each, and an Ethernet between them. The kernel's TCP
//! is at one end of it and ours at the other.
//!
//! A namespace is nowhere but in processes, and those end with the test, however it ends: so nothing
//! of it can stay behind, no interface, and no program that the kernel runs for one.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use msgr_transport::dpdk::{Eal, EalConfig};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::common::{Server, json, text};

/// Which of DPDK's drivers is at our end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Link {
    /// Virtual Ethernet, read and written by a packet socket.
    AfPacket { mtu: usize },
    /// The same, by an XDP socket.
    AfXdp { mtu: usize },
    /// The kernel's own TAP device. Its driver computes checksums and cuts segments.
    Tap,
}

/// The addresses of the two ends.
pub(crate) struct Ips {
    pub(crate) kernel: IpAddr,
    pub(crate) ours: IpAddr,
    prefix_len: u8,
    /// Of a packet without what it carries, if that is an echo request.
    pub(crate) header_len: usize,
}

pub(crate) const V4: Ips = Ips {
    kernel: IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)),
    ours: IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)),
    prefix_len: 24,
    header_len: 28,
};
pub(crate) const V6: Ips = Ips {
    kernel: IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1)),
    ours: IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2)),
    prefix_len: 64,
    header_len: 48,
};

impl Link {
    pub(crate) fn mtu(self) -> usize {
        match self {
            Self::AfPacket { mtu } | Self::AfXdp { mtu } => mtu,
            Self::Tap => 1500,
        }
    }

    /// Our end, in DPDK's words.
    pub(crate) fn device(self) -> String {
        match self {
            Self::AfPacket { mtu } => {
                // A block of the kernel's ring holds frames of a power of two.
                let frame = (mtu + 100).next_power_of_two();
                let count = (1 << 21) / frame;
                format!("net_af_packet0,iface=dpdk0,blocksz=65536,framesz={frame},framecnt={count}")
            }
            Self::AfXdp { .. } => "net_af_xdp0,iface=dpdk0".to_owned(),
            Self::Tap => "net_tap0,iface=eth0".to_owned(),
        }
    }
}

/// What takes so long has probably stopped.
const SLOW: Duration = Duration::from_secs(45);

/// A network namespace.
pub(crate) struct Host {
    /// Keeps it while there is nobody else in it.
    holder: Child,
}

/// A command that does not outlive the thread that starts it.
fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let complaint = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    output
}

impl Host {
    fn new() -> Self {
        let mut holder = mortal("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever answers is inside.
        let mut byte = [0];
        holder.stdin.as_mut().unwrap().write_all(&byte).unwrap();
        let answer = holder.stdout.as_mut().unwrap().read_exact(&mut byte);
        answer.expect("unshare(1) makes a namespace");
        let host = Self { holder };
        host.ip("link set lo up");
        host
    }

    /// A command on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = mortal("nsenter");
        let namespace = format!("--net=/proc/{}/ns/net", self.holder.id());
        command.args([&namespace, program]);
        command
    }

    pub(crate) fn msgr(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_msgr"))
    }

    /// Runs a command that ends within a minute. When that is nearly over, what the kernel knows of this
    /// host's connections and interfaces is printed, for whoever will look for the reason.
    pub(crate) fn run_watched(&self, command: &mut Command) -> Output {
        let (running, ended) = mpsc::channel::<()>();
        thread::scope(move |scope| {
            scope.spawn(move || {
                if ended.recv_timeout(SLOW) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                for (program, options) in [("ss", "-tinmo"), ("ip", "-statistics link show")] {
                    let words = options.split_whitespace();
                    let output = self.command(program).args(words).output().unwrap();
                    eprintln!("{program} {options}: {}", text(&output.stdout));
                }
            });
            let output = run(command);
            drop(running);
            output
        })
    }

    fn ip(&self, words: &str) {
        run(self.command("ip").args(words.split_whitespace()));
    }

    /// Calls `visit` on a thread of this host: sockets that it opens are the host's.
    pub(crate) fn enter<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let inside = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            visit()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    fn table(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/net/{name}", self.holder.id())).unwrap()
    }

    /// Whether a TCP socket waits for an acknowledgement (`proc_net_tcp` of the kernel's documents).
    pub(crate) fn unacknowledged(&self) -> bool {
        const ESTABLISHED: &str = "01";
        self.table("tcp").lines().any(|row| {
            let columns: Vec<_> = row.split_whitespace().collect();
            columns[3] == ESTABLISHED && !columns[4].starts_with("00000000:")
        })
    }

    /// How many frames have come to `eth0`.
    pub(crate) fn received(&self) -> u64 {
        let table = self.table("dev");
        let row = table
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth0:"));
        let frames = row.unwrap().split_whitespace().nth(1);
        frames.unwrap().parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Two hosts with a wire between them.
pub(crate) struct Hosts {
    pub(crate) link: Link,
    pub(crate) kernel: Host,
    /// If there is an interface at our end, it is on a host of its own: the kernel's TCP there must
    /// not answer for us.
    far: Option<Host>,
}

/// DPDK in this process. It is there before any other process is started: see [`Eal::start`].
pub(crate) fn eal() -> &'static Eal {
    Eal::start(&EalConfig::default()).unwrap()
}

impl Hosts {
    pub(crate) fn new(link: Link) -> Self {
        eal();
        let kernel = Host::new();
        let far = match link {
            Link::Tap => {
                kernel.ip("tuntap add dev eth0 mode tap multi_queue");
                None
            }
            Link::AfPacket { mtu } | Link::AfXdp { mtu } => {
                let far = Host::new();
                let namespace = far.holder.id();
                kernel.ip(&format!(
                    "link add eth0 mtu {mtu} type veth peer name dpdk0 mtu {mtu} netns {namespace}"
                ));
                far.ip("link set dpdk0 up");
                // Else what the kernel sends has no checksums yet, and is not cut into packets.
                let off = "-K eth0 tx off tso off gso off gro off";
                run(kernel.command("ethtool").args(off.split(' ')));
                Some(far)
            }
        };
        // DPDK takes a tap down when it leaves.
        let keep = "net.ipv6.conf.eth0.keep_addr_on_down=1";
        run(kernel.command("sysctl").args(["-q", keep]));
        for ips in [V4, V6] {
            let (ip, prefix_len) = (ips.kernel, ips.prefix_len);
            let nodad = if ip.is_ipv6() { "nodad" } else { "" };
            kernel.ip(&format!("addr add {ip}/{prefix_len} dev eth0 {nodad}"));
        }
        kernel.ip("link set eth0 up");
        Self { link, kernel, far }
    }

    pub(crate) fn ours(&self) -> &Host {
        self.far.as_ref().unwrap_or(&self.kernel)
    }

    /// The number of the XDP program on our interface.
    pub(crate) fn program(&self) -> Option<u64> {
        let mut show = self.ours().command("ip");
        let links = json(&run(show.args(["-json", "link", "show", "dpdk0"])).stdout);
        links[0]["xdp"]["prog"]["id"].as_u64()
    }

    /// Until `open` has opened the port at our end. After an owner of an `AF_XDP` socket has ended, and the
    /// more so if it was killed, the kernel takes its time to let go of the queue.
    pub(crate) fn opened<T>(&self, mut open: impl FnMut() -> Option<T>) -> T {
        let is_held = matches!(self.link, Link::AfXdp { .. });
        let deadline = Instant::now() + Duration::from_secs(if is_held { 120 } else { 0 });
        loop {
            if let Some(opened) = open() {
                return opened;
            }
            assert!(Instant::now() < deadline, "the port does not open");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// `msgr serve` at our end.
    pub(crate) fn serve(&self, addr: &str, args: &[String]) -> Server {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.opened(|| Server::try_start_by(self.ours().msgr(), addr, &args))
    }

    /// The arguments that have `msgr` use DPDK at our end.
    pub(crate) fn dpdk(&self) -> Vec<String> {
        let ip = |ips: Ips| format!("--ip={}/{}", ips.ours, ips.prefix_len);
        vec![
            "--transport=dpdk".to_owned(),
            format!("--dpdk-device={}", self.link.device()),
            format!("--mtu={}", self.link.mtu()),
            ip(V4),
            ip(V6),
        ]
    }
}
