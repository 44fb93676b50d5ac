//! `--transport dpdk`: a port, and what our address there is. And the ports that are compared.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{env, fs, io, process};

use anyhow::Context as _;
use msgr_transport::dpdk::{DpdkDevice, DpdkFrame, Eal, EalConfig, PortConfig};
use msgr_transport::tcp::{Steering, Tcp, TcpConfig};
use msgr_transport::{OpenError, Operation, Transport};

/// Arguments of userspace TCP over DPDK.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "With --transport dpdk")]
pub(crate) struct DpdkArgs {
    /// The port: a PCI address, or a virtual device with its options, as DPDK writes them, for
    /// example `net_af_packet0,iface=veth1`.
    #[arg(long, value_name = "DEVARGS")]
    dpdk_device: Option<String>,
    /// Our address there, for example 10.0.0.2/24. May be given for IPv4 and for IPv6.
    #[arg(long, value_name = "IP/PREFIX")]
    ip: Vec<Address>,
    /// Where to send what is for other networks.
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// The most bytes of an IP packet.
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: usize,
    /// Take memory from huge pages, which must have been reserved.
    #[arg(long)]
    huge_pages: bool,
    /// One more argument for DPDK's environment, for example --eal=--iova-mode=va.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    eal: Vec<String>,
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy)]
struct Address(IpAddr, u8);

/// The text is no address with a prefix length.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not an address with a prefix length, as 10.0.0.2/24")]
pub(crate) struct NoAddress(String);

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let parse = || {
            let (ip, prefix_len) = text.split_once('/')?;
            Some(Self(ip.parse().ok()?, prefix_len.parse().ok()?))
        };
        parse().ok_or_else(|| NoAddress(text.to_owned()))
    }
}

/// A port that is open, with the queues that no reactor has taken yet.
#[derive(Clone)]
pub(crate) struct OpenPort {
    queues: Arc<Mutex<Vec<Queue>>>,
    config: Arc<TcpConfig>,
}

type Queue = (DpdkDevice, Steering<DpdkFrame>);

impl DpdkArgs {
    /// Whether a port is named.
    pub(super) fn is_wanted(&self) -> bool {
        self.dpdk_device.is_some()
    }

    /// Starts DPDK and opens the port, with a queue for each reactor.
    pub(super) fn open(&self, reactors: usize) -> anyhow::Result<OpenPort> {
        let device = self.dpdk_device.as_deref();
        let device = device.context("--transport dpdk needs --dpdk-device")?;
        let (Address(ip, prefix_len), more) = self
            .ip
            .split_first()
            .context("--transport dpdk needs --ip")?;
        let mut config = TcpConfig::new(*ip, *prefix_len);
        let more = more
            .iter()
            .map(|Address(ip, prefix_len)| (*ip, *prefix_len));
        config.addresses.extend(more);
        config.gateways.clone_from(&self.gateway);
        let environment = EalConfig {
            huge_pages: self.huge_pages,
            pci: device.contains(':'),
            arguments: self.eal.clone(),
            ..EalConfig::default()
        };
        let port = PortConfig {
            mtu: self.mtu,
            queues: reactors.try_into().context("so many reactors")?,
            ..PortConfig::default()
        };
        let queues = Eal::start(&environment)?.open(device, &port)?;
        Ok(OpenPort::new(queues, config))
    }
}

/// Two ports that share memory (vhost-user): one for a server in a process of its own, one for us.
/// Neither needs a privilege.
#[derive(Debug)]
pub(crate) struct Vhost {
    /// Of the device; there may be several at a time.
    number: u32,
    mtu: usize,
    /// Where the socket is by which they meet, for nobody else.
    directory: PathBuf,
}

impl Vhost {
    pub(super) fn new(mtu: usize) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("msgr-{}-{number}", process::id()));
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        Ok(Self {
            number,
            mtu,
            directory,
        })
    }

    /// The arguments that have `msgr` use the server's port, with the address `ip`.
    pub(super) fn server_arguments(&self, ip: IpAddr) -> Vec<String> {
        let Self { number, mtu, .. } = self;
        let socket = self.directory.join("vhost");
        vec![
            "--transport=dpdk".to_owned(),
            format!(
                "--dpdk-device=net_vhost{number},tso=1,iface={}",
                socket.display()
            ),
            format!("--ip={ip}/24"),
            format!("--mtu={mtu}"),
        ]
    }

    /// Opens our own port. The server's is open.
    pub(super) fn open(&self, config: TcpConfig) -> Result<Box<dyn Transport>, OpenError> {
        let socket = self.directory.join("vhost");
        let device = format!("net_virtio_user{},path={}", self.number, socket.display());
        let port = PortConfig {
            mtu: self.mtu,
            ..PortConfig::default()
        };
        let queues = Eal::start(&compared()).and_then(|eal| eal.open(&device, &port));
        let mut queues = queues.map_err(|error| not_opened(io::Error::other(error)))?;
        let device = queues.remove(0);
        Ok(Box::new(Tcp::new(device, config, Instant::now())?))
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // It was ours alone, and what is left of it is of no use.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn not_opened(source: io::Error) -> OpenError {
    OpenError {
        transport: "dpdk",
        operation: Operation::Start,
        address: None,
        source,
    }
}

/// DPDK's environment with memory for all ports that are compared with each other.
fn compared() -> EalConfig {
    EalConfig {
        memory: 512,
        ..EalConfig::default()
    }
}

/// Two ports that are connected to each other, with an address each.
pub(super) fn connected(configs: [TcpConfig; 2], mtu: usize) -> anyhow::Result<[OpenPort; 2]> {
    let port = PortConfig {
        mtu,
        ..PortConfig::default()
    };
    let [a, b] = Eal::start(&compared())?.ring_pair(&port)?;
    let [one, other] = configs;
    Ok([OpenPort::new(a, one), OpenPort::new(b, other)])
}

impl OpenPort {
    fn new(queues: Vec<DpdkDevice>, config: TcpConfig) -> Self {
        let steering = Steering::new(queues.len());
        let queues = queues.into_iter().zip(steering).collect();
        Self {
            queues: Arc::new(Mutex::new(queues)),
            config: Arc::new(config),
        }
    }

    /// The transport for one reactor.
    pub(super) fn take(&self) -> Result<Box<dyn Transport>, OpenError> {
        let queue = self.queues.lock().ok().and_then(|mut queues| queues.pop());
        let (device, steering) = queue.ok_or_else(|| {
            not_opened(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "every queue of the port is in use",
            ))
        })?;
        Ok(Box::new(Tcp::steered(
            device,
            steering,
            TcpConfig::clone(&self.config),
            Instant::now(),
        )?))
    }
}
