//! `msgr serve` and `msgr ping` over RDMA: separate processes, whichever of them dies, devices that go
//! and come back, hosts that lose packets or lose each other. For the devices and the addresses of a
//! guest of `ci/rdma-guest`.

#![allow(clippy::unwrap_used)]

mod between_hosts;
#[path = "../common/mod.rs"]
mod common;
mod device;

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Log, Server, assert_exactly_once, text, while_sending};
use device::Device;
use msgr_transport::rdma::RdmaConfig;

const AT: &str = "v2:10.9.0.1:0/7";

/// Tests take turns: they count on the devices.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rxe0() -> (Device, MutexGuard<'static, ()>) {
    let alone = alone();
    (Device::new("rxe0"), alone)
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn serve(policy: &'static str) -> [&'static str; 4] {
    ["--transport", "rdma", "--policy", policy]
}

fn ping(server: &Server, args: &[&str]) -> Child {
    ping_over("rdma", server, args)
}

fn ping_over(transport: &str, server: &Server, args: &[&str]) -> Child {
    let msgr = Command::new(env!("CARGO_BIN_EXE_msgr"));
    ping_by(msgr, transport, server, args)
}

/// `msgr` is a command that runs it, to which its arguments are added.
fn ping_by(mut msgr: Command, transport: &str, server: &Server, args: &[&str]) -> Child {
    msgr.args(["ping", &server.addr.to_string(), "--transport", transport])
        .args(["--initial-backoff", "50", "--max-backoff", "500"])
        .args(["--timeout", "1200", "--json"])
        .args(args)
        .env("RUST_LOG", "msgr=debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_hundred_thousand_messages_of_mixed_sizes() {
    let (device, _alone) = rxe0();
    let server = Server::start_at(AT, &serve("stateless-server"));
    for (data, count) in [
        (64, 90_000),
        (4096, 9_500),
        (65_536, 450),
        (1 << 20, 40),
        (4 << 20, 10),
    ] {
        let (data, number) = (data.to_string(), count.to_string());
        let client = ping(&server, &["--data", &data, "--count", &number]);
        assert_exactly_once(&while_sending(client, |_| ()), count);
    }
    assert_eq!(server.stop()["messages"], 100_000);
    device.assert_released();
}

/// Which transport connections take, by how much is sent over RDMA meanwhile.
#[test]
#[ignore = "needs an RDMA device"]
fn auto_reaches_whoever_has_one_transport_and_prefers_rdma() {
    let (device, _alone) = rxe0();
    for (serves, pings, by_rdma) in [
        ("auto", "auto", true),
        ("auto", "rdma", true),
        ("rdma", "auto", true),
        ("auto", "posix", false),
        ("posix", "auto", false),
    ] {
        let server = Server::start_at(AT, &["--transport", serves]);
        let before = device.sends();
        let client = ping_over(pings, &server, &["--count", "2000"]);
        let result = while_sending(client, |_| ());
        assert_exactly_once(&result, 2000);
        assert_eq!(result["reconnects"], 0, "{serves}, {pings}: {result}");
        // The connection manager sends a few as well.
        let sends = device.sends() - before;
        assert_eq!(sends > 100, by_rdma, "{serves}, {pings}: {sends}");
        server.stop();
    }
    device.assert_released();
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_server_that_is_killed_costs_no_message() {
    let (device, _alone) = rxe0();
    let policy = serve("stateful-server");
    let server = Server::start_at(AT, &policy);
    let client = ping(
        &server,
        &["--policy", "lossless-client", "--count", "20000"],
    );
    let mut successor = None;
    let result = while_sending(client, |_| {
        successor = Some(server.kill_and_restart(&policy));
    });
    assert_exactly_once(&result, 20_000);
    assert_eq!(result["remote_resets"], 1, "{result}");
    successor.unwrap().stop();
    device.assert_released();
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_client_that_is_killed_leaves_nothing_at_the_server() {
    let (device, _alone) = rxe0();
    let server = Server::start_at(AT, &serve("stateless-server"));
    let mut client = ping(&server, &["--count", "1000000"]);
    Log::of(&mut client).wait_for("connected to");
    client.kill().unwrap();
    client.wait().unwrap();
    let another = ping(&server, &["--count", "1000"]);
    assert_exactly_once(&while_sending(another, |_| ()), 1000);
    let totals = server.stop();
    assert_eq!(totals["accepted"], 2, "{totals}");
    device.assert_released();
}

/// The most memory that a process has had, and what of it is pinned, in bytes, see
/// `proc_pid_status(5)`; nothing once it has ended.
fn memory(process: u32) -> Option<[usize; 2]> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let bytes = |field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kib = line.trim().strip_suffix(" kB").unwrap();
        Some(kib.parse::<usize>().unwrap() << 10)
    };
    Some([bytes("VmHWM:")?, bytes("VmPin:")?])
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_server_that_stops_for_a_while_costs_nothing_but_time() {
    const SIZE: usize = 32 << 10;
    const IN_FLIGHT: usize = 512;
    /// How much more memory the client and the server may have had than before. To wait costs the client
    /// next to nothing. The server then has all that is under way once at most, when it takes it in
    /// faster than its answers leave, and it copies what is more than its spare blocks hold.
    const MORE: [usize; 2] = [SIZE * IN_FLIGHT / 4, SIZE * IN_FLIGHT];

    let (device, _alone) = rxe0();
    let server = Server::start_at(AT, &serve("stateful-server"));
    let (size, in_flight) = (SIZE.to_string(), IN_FLIGHT.to_string());
    let shape = [
        "--data",
        &size,
        "--in-flight",
        &in_flight,
        "--count",
        "4000",
    ];
    let lossless = ["--policy", "lossless-client"];
    let client = ping(&server, &[&lossless[..], &shape].concat());
    let both = [client.id(), server.id()];
    let mut measured = Vec::new();
    let result = while_sending(client, |_| {
        let before = both.map(|process| memory(process).unwrap());
        server.pause();
        std::thread::sleep(std::time::Duration::from_secs(5));
        let paused = both.map(memory);
        server.resume();
        // It has answered all that had come meanwhile when it answers this.
        let another = ping(
            &server,
            &[
                "--policy",
                "lossless-client",
                "--entity",
                "client.1",
                "--count",
                "1",
            ],
        );
        assert!(another.wait_with_output().unwrap().status.success());
        // By then the client may have ended.
        for (number, process) in both.into_iter().enumerate() {
            let [most, pinned] = memory(process).or(paused[number]).unwrap();
            measured.push((most - before[number][0], pinned));
        }
    });
    assert_exactly_once(&result, 4000);
    assert_eq!(result["reconnects"], 0, "{result}");
    println!("{measured:?} bytes more at most, and pinned, of the client and the server");
    let registered = RdmaConfig::default().registered_bytes();
    for ((more, pinned), most) in measured.into_iter().zip(MORE) {
        assert!(more <= most, "{more} > {most}");
        assert!(pinned <= registered, "{pinned} > {registered}");
    }
    server.stop();
    device.assert_released();
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_device_that_is_removed_and_comes_back_costs_no_message() {
    let (device, _alone) = rxe0();
    let server = Server::start_at(AT, &serve("stateful-server"));
    let client = ping(
        &server,
        &["--policy", "lossless-client", "--count", "20000"],
    );
    let result = while_sending(client, |_| {
        run("rdma", &["link", "delete", "rxe0"]);
        run(
            "rdma",
            &["link", "add", "rxe0", "type", "rxe", "netdev", "dummy0"],
        );
    });
    assert_exactly_once(&result, 20_000);
    assert_eq!(result["reconnects"], 1, "{result}");
    server.stop();
    device.assert_released();
}
