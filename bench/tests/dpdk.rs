//! Userspace TCP over DPDK against the kernel's own, each in a network namespace, with a pair of
//! virtual Ethernet interfaces in between.
//!
//! Namespaces, and with them everything in them, are removed when a test ends, however it does.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Server, json, text};
use serde_json::Value;

const KERNEL: &str = "10.9.0.1";
const OURS: &str = "10.9.0.2";

/// Two hosts with a wire between them: at one end the kernel's TCP, at the other ours.
struct Hosts {
    kernel: String,
    ours: String,
    mtu: usize,
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let complaint = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    output
}

fn words(program: &str, words: &str) -> Command {
    let mut command = Command::new(program);
    command.args(words.split_whitespace());
    command
}

/// A command on one of the hosts.
fn on(host: &str, program: &str) -> Command {
    words("ip", &format!("netns exec {host} {program}"))
}

fn msgr(host: &str) -> Command {
    on(host, env!("CARGO_BIN_EXE_msgr"))
}

impl Hosts {
    fn new(mtu: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end: char| format!("msgr-{}-{number}{end}", std::process::id());
        let (kernel, ours) = (name('k'), name('o'));
        let hosts = Self { kernel, ours, mtu };
        let Self { kernel, ours, .. } = &hosts;
        for line in [
            format!("netns add {kernel}"),
            format!("netns add {ours}"),
            format!("link add veth0 mtu {mtu} netns {kernel} type veth peer veth1 netns {ours}"),
            format!("-n {ours} link set veth1 mtu {mtu}"),
            format!("-n {kernel} addr add {KERNEL}/24 dev veth0"),
            format!("-n {kernel} link set veth0 up"),
            format!("-n {ours} link set veth1 up"),
        ] {
            run(&mut words("ip", &line));
        }
        // Else what the kernel sends has no checksums yet, and is not cut into packets.
        let mut ethtool = on(kernel, "ethtool");
        run(ethtool.args("-K veth0 tx off tso off gso off gro off".split(' ')));
        hosts
    }

    /// The arguments that have `msgr` use DPDK at our end.
    fn dpdk(&self) -> Vec<String> {
        // A block of the kernel's ring holds frames of a power of two.
        let frame = (self.mtu + 100).next_power_of_two();
        let device = format!(
            "net_af_packet0,iface=veth1,blocksz=65536,framesz={frame},framecnt={}",
            (1 << 21) / frame
        );
        let (ip, mtu) = (format!("{OURS}/24"), self.mtu.to_string());
        let args = ["--transport", "dpdk", "--dpdk-device", &device, "--ip", &ip];
        args.into_iter()
            .chain(["--mtu", &mtu])
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.kernel, &self.ours] {
            let _ = words("ip", &format!("netns del {host}")).output();
        }
    }
}

fn ping(host: &str, addr: &str, args: &[String]) -> Value {
    let mut command = msgr(host);
    command
        .args(["ping", addr, "--json", "--timeout", "120"])
        .args(args);
    json(&run(&mut command).stdout)
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Both ways of who serves and who pings, with small and large messages, and what else a host on an
/// Ethernet does.
fn against_the_kernel(mtu: usize) {
    let hosts = Hosts::new(mtu);
    let load = |count: &str, data: &str| {
        ["--count", count, "--in-flight", "16", "--data", data].map(str::to_owned)
    };
    let loads = [
        load("5000", "64"),
        load("2000", "4096"),
        load("40", "1048576"),
    ];
    let all: u64 = 5000 + 2000 + 40;

    let serving = hosts.dpdk();
    let addr = format!("v2:{OURS}:7100/0");
    let server = Server::start_by(msgr(&hosts.ours), &addr, &strs(&serving));
    run(on(&hosts.kernel, "ping").args(["-c", "3", "-i", "0.2", OURS]));
    for load in &loads {
        let result = ping(&hosts.kernel, &addr, load);
        assert_eq!(result["received"], result["sent"], "{result}");
        assert_eq!(result["corrupt"], 0, "{result}");
    }
    let totals = server.stop();
    assert_eq!(totals["messages"], all, "{totals}");
    assert_eq!(totals["accepted"], loads.len(), "{totals}");

    let addr = format!("v2:{KERNEL}:7101/0");
    let server = Server::start_by(msgr(&hosts.kernel), &addr, &[]);
    for load in &loads {
        let result = ping(&hosts.ours, &addr, &[&hosts.dpdk(), &load[..]].concat());
        assert_eq!(result["received"], result["sent"], "{result}");
        assert_eq!(result["corrupt"], 0, "{result}");
    }
    assert_eq!(server.stop()["messages"], all);
}

#[test]
#[ignore = "needs DPDK and network namespaces"]
fn packets_of_1500_bytes() {
    against_the_kernel(1500);
}

#[test]
#[ignore = "needs DPDK and network namespaces"]
fn packets_of_9000_bytes() {
    against_the_kernel(9000);
}

/// Whoever is killed comes back, and the session goes on: here nothing of it is left in a kernel.
#[test]
#[ignore = "needs DPDK and network namespaces"]
fn a_killed_server_comes_back() {
    let hosts = Hosts::new(1500);
    let mut serving = hosts.dpdk();
    serving.extend(["--policy", "stateful-server"].map(str::to_owned));
    let addr = format!("v2:{OURS}:7100/7");
    let server = Server::start_by(msgr(&hosts.ours), &addr, &strs(&serving));
    let mut client = msgr(&hosts.kernel);
    client.args([
        "ping",
        &addr,
        "--policy",
        "lossless-client",
        "--count",
        "100000",
    ]);
    client.args(["--initial-backoff", "5", "--timeout", "120", "--json"]);
    let client = client.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(server);
    let server = Server::start_by(msgr(&hosts.ours), &addr, &strs(&serving));
    let output = client.wait_with_output().unwrap();
    let result = json(&output.stdout);
    assert!(output.status.success(), "{result}");
    assert_eq!(result["remote_resets"], 1, "{result}");
    assert_eq!(result["duplicates"], 0, "{result}");
    server.stop();
}
