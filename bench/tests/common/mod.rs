//! What the process tests share: the `msgr` executable, a server that ends with its test, and a
//! blocking client for when a test wants a connection by hand.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use msgr_protocol::{
    Config, Connection, EntityAddr, EntityType, Event, FrameWriter, HeapBlocks, Message, Opening,
    Policy, TxQueue,
};
use serde_json::Value;

/// Runs `msgr` with these arguments to its end.
pub(crate) fn msgr(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_msgr"))
        .args(args)
        .output()
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON object that a command printed last.
pub(crate) fn json(output: &[u8]) -> Value {
    serde_json::from_str(text(output).lines().last().unwrap()).unwrap()
}

/// A `msgr serve` in a process of its own.
pub(crate) struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    pub(crate) addr: EntityAddr,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_at("v2:127.0.0.1:0/0", args)
    }

    pub(crate) fn start_at(addr: &str, args: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_msgr")), addr, args)
    }

    /// `msgr` is a command that runs it, to which its arguments are added.
    pub(crate) fn start_by(msgr: Command, addr: &str, args: &[&str]) -> Self {
        Self::try_start_by(msgr, addr, args).expect("it is ready")
    }

    /// The same, if it comes so far.
    pub(crate) fn try_start_by(mut msgr: Command, addr: &str, args: &[&str]) -> Option<Self> {
        let mut child = msgr
            .args(["serve", "--bind", addr, "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let Some(addr) = line.trim_end().strip_prefix("ready ") else {
            child.wait().unwrap();
            return None;
        };
        let addr = addr.parse().unwrap();
        Some(Self { child, out, addr })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn threads(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let threads = status
            .lines()
            .find_map(|line| line.strip_prefix("Threads:"))
            .unwrap();
        threads.trim().parse().unwrap()
    }

    /// Ends it with SIGKILL, and starts its successor at the same address.
    pub(crate) fn kill_and_restart(self, args: &[&str]) -> Self {
        let addr = self.addr.to_string();
        drop(self);
        Self::start_at(&addr, args)
    }

    /// Stops it where it is; returns when none of its threads runs any more.
    pub(crate) fn pause(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let stopped = rustix::process::WaitOptions::UNTRACED;
        rustix::process::waitpid(Some(pid), stopped).unwrap();
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    }

    /// Ends it with SIGTERM and returns its totals.
    pub(crate) fn stop(mut self) -> Value {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = Vec::new();
        self.out.read_to_end(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        json(&rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Unless the test failed or means it, it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Ceph monitor, which ends when its script's standard input does, and that ends with us.
pub(crate) struct Monitor {
    script: Child,
    pub(crate) addr: String,
    pub(crate) configuration: PathBuf,
}

impl Monitor {
    /// One with these arguments for `ci/ceph-mon`, which `spawn` runs.
    pub(crate) fn start(args: &[&str], spawn: impl FnOnce(&mut Command) -> Child) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let nth = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("msgr-mon-{}-{nth}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/ceph-mon");
        let mut command = Command::new(script);
        command.arg("hold").arg(&directory).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = spawn(&mut command);
        let mut addr = String::new();
        let out = script.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut addr).unwrap();
        assert!(!addr.is_empty(), "there is no monitor: {:?}", script.wait());
        Self {
            script,
            addr: addr.trim_end().to_owned(),
            configuration: directory.join("ceph.conf"),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// A connection driven by blocking reads and writes.
pub(crate) struct Client {
    stream: TcpStream,
    connection: Connection,
}

impl Client {
    /// Connects with `config` and waits until the connection is ready.
    pub(crate) fn connect(config: Config, kind: EntityType, target: EntityAddr) -> Self {
        let stream = TcpStream::connect(target.socket.unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let opening = Opening {
            global_seq: 1,
            cookie: 1,
        };
        let connection = Connection::connect(Arc::new(config), target, kind, ends, opening);
        let mut client = Self { stream, connection };
        assert!(matches!(client.next(), Event::Ready));
        client
    }

    pub(crate) fn lossy(target: EntityAddr) -> Self {
        let config = Config::new("client.9".parse().unwrap(), Policy::LOSSY_CLIENT);
        Self::connect(config, EntityType::Osd, target)
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.connection.send(message).unwrap();
    }

    /// The next event; sends what is due while it waits.
    pub(crate) fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.connection.poll().unwrap() {
                return event;
            }
            self.transmit();
            let mut buffer = vec![0; 64 << 10];
            let n = self.stream.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "the peer hung up");
            self.connection
                .receive(Bytes::copy_from_slice(&buffer[..n]));
        }
    }

    fn transmit(&mut self) {
        let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
        let mut blocks = HeapBlocks;
        let mut writer = FrameWriter::new(usize::MAX, &mut block, &mut blocks, &mut queue);
        self.connection.transmit(&mut writer, usize::MAX);
        for slice in queue {
            self.stream.write_all(&slice).unwrap();
        }
    }
}

/// What a process writes to its standard error.
pub(crate) struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    pub(crate) fn of(process: &mut Child) -> Self {
        Self(BufReader::new(process.stderr.take().unwrap()).lines())
    }

    /// Waits for a line that contains this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str) {
        let seen = self.0.any(|line| line.unwrap().contains(what));
        assert!(seen, "it never said {what:?}");
    }
}

/// Lets `happen` what is to happen while messages are under way, and returns how it ended.
pub(crate) fn while_sending(mut client: Child, happen: impl FnOnce(&mut Log)) -> Value {
    let mut log = Log::of(&mut client);
    log.wait_for("connected to");
    happen(&mut log);
    let log: Vec<_> = log.0.map(Result::unwrap).collect();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", log.join("\n"));
    json(&output.stdout)
}

pub(crate) fn assert_exactly_once(result: &Value, count: u64) {
    for (field, expected) in [
        ("received", count),
        ("duplicates", 0),
        ("out_of_order", 0),
        ("corrupt", 0),
    ] {
        assert_eq!(result[field], expected, "{field} in {result}");
    }
}
