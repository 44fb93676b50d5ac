//! Userspace TCP over DPDK's ports against the kernel's own, and against a Ceph monitor there.
//!
//! All of it needs DPDK, and privileges to make network namespaces; `ci/test` knows.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod hosts;
mod monitor;
mod raw;

use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, json};
use frames::all_memory_is_sent;
use hosts::{Host, Hosts, Ips, Link, V4, V6, run};
use serde_json::Value;

/// A test for each of these.
macro_rules! tests {
    ($($name:ident: $test:ident($link:expr);)+) => {$(
        #[test]
        #[ignore = "needs DPDK and network namespaces"]
        fn $name() {
            $test(&Hosts::new($link));
        }
    )+};
}

/// A frame, with DPDK's and the kernel's room in front, must be shorter than a page.
const LARGEST_AT_AF_XDP: usize = 3392;

tests! {
    af_packet_of_1500_bytes: against_the_kernel(Link::AfPacket { mtu: 1500 });
    af_packet_of_9000_bytes: against_the_kernel(Link::AfPacket { mtu: 9000 });
    af_xdp_of_1500_bytes: against_the_kernel(Link::AfXdp { mtu: 1500 });
    af_xdp_of_3392_bytes: against_the_kernel(Link::AfXdp { mtu: LARGEST_AT_AF_XDP });
    tap: against_the_kernel(Link::Tap);
    all_memory_of_af_packet: all_memory_is_sent(Link::AfPacket { mtu: 1500 });
    all_memory_of_af_xdp: all_memory_is_sent(Link::AfXdp { mtu: 1500 });
    all_memory_of_tap: all_memory_is_sent(Link::Tap);
    killed_at_af_packet: a_killed_server_comes_back(Link::AfPacket { mtu: 1500 });
    killed_at_af_xdp: a_killed_server_comes_back(Link::AfXdp { mtu: 1500 });
    killed_at_tap: a_killed_server_comes_back(Link::Tap);
}

/// The XDP program of a killed server stays with the interface, and no longer than that.
#[test]
#[ignore = "needs DPDK and network namespaces"]
fn programs_end_with_their_host() {
    let hosts = Hosts::new(Link::AfXdp { mtu: 1500 });
    let server = hosts.serve(&address(V4.ours), &hosts.dpdk());
    drop(server);
    let program = hosts.program().expect("nobody has taken it off");
    let is_loaded = || {
        let mut show = Command::new("bpftool");
        show.args(["prog", "show", "id", &program.to_string()]);
        show.output().unwrap().status.success()
    };
    assert!(is_loaded());
    drop(hosts);
    let deadline = Instant::now() + Duration::from_secs(300);
    while is_loaded() {
        assert!(
            Instant::now() < deadline,
            "program {program} is still there"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Messages of a size, some of which are under way at a time.
struct Load {
    count: u64,
    data: u64,
}

const LOADS: [Load; 3] = [
    Load {
        count: 5000,
        data: 64,
    },
    Load {
        count: 2000,
        data: 4096,
    },
    Load {
        count: 40,
        data: 1 << 20,
    },
];

fn address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("v2:{ip}:7100/0"),
        IpAddr::V6(ip) => format!("v2:[{ip}]:7100/0"),
    }
}

/// The messages of a load go from our end to a server and come back.
fn exchange_from_ours(hosts: &Hosts, args: &[String], addr: &str, load: &Load) {
    hosts.opened(|| {
        let output = ping(hosts.ours(), args, addr, load).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let is_open = !complaint.contains("Failed to create xsk socket");
        is_open.then(|| check(&output, load))
    });
}

/// The same from `host`.
fn exchange(host: &Host, addr: &str, load: &Load) {
    check(&host.run_watched(&mut ping(host, &[], addr, load)), load);
}

fn ping(host: &Host, args: &[String], addr: &str, load: &Load) -> Command {
    let mut ping = host.msgr();
    ping.args(["ping", addr, "--json", "--timeout", "300"])
        .args(["--in-flight", "16"])
        .args(["--count", &load.count.to_string()])
        .args(["--data", &load.data.to_string()])
        .args(args);
    ping
}

fn check(output: &Output, load: &Load) {
    let result = json(&output.stdout);
    assert_eq!(result["received"], load.count, "{result}");
    assert_eq!(result["corrupt"], 0, "{result}");
    assert_eq!(result["interruptions"], 0, "{result}");
}

fn stop(server: Server) {
    let totals = server.stop();
    let messages: u64 = LOADS.iter().map(|load| load.count).sum();
    assert_eq!(totals["messages"], messages, "{totals}");
    assert_eq!(totals["accepted"], LOADS.len(), "{totals}");
}

/// Either end serves and the other pings, with small and large messages, over either IP; and what
/// else is expected of a host.
fn against_the_kernel(hosts: &Hosts) {
    let dpdk = hosts.dpdk();
    for ips in [V4, V6] {
        let addr = address(ips.ours);
        let server = hosts.serve(&addr, &dpdk);
        echo_requests(hosts, &ips);
        for load in &LOADS {
            exchange(&hosts.kernel, &addr, load);
        }
        stop(server);

        let addr = address(ips.kernel);
        let server = Server::start_by(hosts.kernel.msgr(), &addr, &[]);
        for load in &LOADS {
            exchange_from_ours(hosts, &dpdk, &addr, load);
        }
        stop(server);
    }
    raw::clients_of_the_kernel(hosts);
}

/// The least there can be, and as many bytes as there can be.
fn echo_requests(hosts: &Hosts, ips: &Ips) {
    for len in [0, hosts.link.mtu() - ips.header_len] {
        let mut ping = hosts.kernel.command("ping");
        ping.args(["-c", "3", "-i", "0.01", "-W", "10", "-M", "do"])
            .args(["-s", &len.to_string(), &ips.ours.to_string()]);
        run(&mut ping);
    }
}

/// Whoever is killed comes back, and the session goes on: here nothing of it is left in a kernel.
fn a_killed_server_comes_back(hosts: &Hosts) {
    let mut serving = hosts.dpdk();
    serving.extend(["--policy", "stateful-server"].map(str::to_owned));
    let addr = address(V4.ours);
    let server = hosts.serve(&addr, &serving);
    let before = hosts.kernel.received();
    let mut client = hosts
        .kernel
        .msgr()
        .args(["ping", &addr, "--json", "--timeout", "300"])
        .args(["--policy", "lossless-client", "--count", "100000"])
        .args(["--initial-backoff", "5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Killed with everything acknowledged, it would not be missed: nothing would come for it again.
    loop {
        thread::sleep(Duration::from_millis(1));
        let is_over = client.try_wait().unwrap().is_some();
        assert!(!is_over, "never with something under way");
        server.pause();
        if hosts.kernel.received() > before + 1000 && hosts.kernel.unacknowledged() {
            break;
        }
        server.resume();
    }
    drop(server);
    let server = hosts.serve(&addr, &serving);
    let output = client.wait_with_output().unwrap();
    let result: Value = json(&output.stdout);
    assert!(output.status.success(), "{result}");
    assert_eq!(result["remote_resets"], 1, "{result}");
    assert_eq!(result["duplicates"], 0, "{result}");
    server.stop();
}
