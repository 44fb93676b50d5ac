//! The transports by name: which this host has, how to open them, and what the others lack.

mod dpdk;
mod probe;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use msgr_transport::middleware::Fallback;
use msgr_transport::posix::Posix;
use msgr_transport::rdma::{Rdma, RdmaConfig, Setup};
use msgr_transport::ring::{Ring, RingNetwork};
use msgr_transport::tcp::wire::{Wire, WireConfig};
use msgr_transport::tcp::{Tcp, TcpConfig};
use msgr_transport::{OpenError, Transport};

use dpdk::{DpdkArgs, OpenPort, Vhost};
pub(crate) use probe::{Fact, Finding, Status, findings};

/// A transport that `--transport` can name. `ring` and `wire` stay within one process and cannot be
/// asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// A port of DPDK that is named; queue pairs, and sockets for whom these do not reach; or
    /// sockets.
    Auto,
    Posix,
    Dpdk,
    Rdma,
}

/// The text names no transport.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown transport {0:?}, one of: auto, posix, dpdk, rdma")]
pub(crate) struct UnknownTransport(String);

impl FromStr for Named {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, UnknownTransport> {
        match text {
            "auto" => Ok(Self::Auto),
            "posix" => Ok(Self::Posix),
            "dpdk" => Ok(Self::Dpdk),
            "rdma" => Ok(Self::Rdma),
            other => Err(UnknownTransport(other.to_owned())),
        }
    }
}

/// Arguments that choose a transport.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Choice {
    /// What carries the bytes: auto, posix, dpdk or rdma. auto is dpdk if --dpdk-device is given;
    /// else, on a host with an RDMA device, both rdma and posix: it listens on both, and connects
    /// over posix whom it does not reach over rdma; else posix. It says which.
    #[arg(long, default_value = "auto", verbatim_doc_comment)]
    transport: Named,
    #[command(flatten)]
    dpdk: DpdkArgs,
    #[command(flatten)]
    rdma: RdmaArgs,
}

/// Arguments of RDMA.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "With --transport rdma")]
struct RdmaArgs {
    /// How connections are set up: cm (by `rdma_cm`), or ceph (as Ceph's async+rdma does).
    #[arg(long, value_name = "HOW", default_value = "cm", value_parser = rdma_config)]
    rdma_setup: RdmaConfig,
}

/// The settings that go with a way of setting up.
fn rdma_config(setup: &str) -> Result<RdmaConfig, UnknownSetup> {
    match setup {
        "cm" => Ok(RdmaConfig::default()),
        "ceph" => Ok(RdmaConfig::ceph()),
        other => Err(UnknownSetup(other.to_owned())),
    }
}

/// The text names no way of setting up connections.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown setup {0:?}, one of: cm, ceph")]
struct UnknownSetup(String);

impl Choice {
    /// What opens a transport for each of so many reactors.
    pub(crate) fn opener(
        &self,
        reactors: usize,
    ) -> anyhow::Result<impl Fn() -> Result<Box<dyn Transport>, OpenError> + Clone + Send + 'static>
    {
        let setup = self.rdma.rdma_setup.setup;
        anyhow::ensure!(
            setup == Setup::default() || self.transport == Named::Rdma,
            "--rdma-setup needs --transport rdma"
        );
        let carrier = match self.transport {
            Named::Auto => self.best(reactors)?,
            Named::Posix => Carrier::Posix,
            Named::Dpdk => Carrier::Dpdk(self.dpdk.open(reactors)?),
            Named::Rdma => Carrier::Rdma(self.rdma.rdma_setup),
        };
        Ok(move || carrier.open())
    }

    /// The best there is, never silently.
    fn best(&self, reactors: usize) -> anyhow::Result<Carrier> {
        if self.dpdk.is_wanted() {
            eprintln!("msgr: transport: dpdk");
            return Ok(Carrier::Dpdk(self.dpdk.open(reactors)?));
        }
        Ok(match Rdma::new(RdmaConfig::default()) {
            Ok(_) => {
                eprintln!("msgr: transport: rdma, and posix for whom it does not reach");
                Carrier::RdmaOrPosix
            }
            Err(error) => {
                eprintln!("msgr: transport: posix ({error})");
                Carrier::Posix
            }
        })
    }
}

/// What a transport is opened on.
#[derive(Clone)]
enum Carrier {
    Posix,
    Dpdk(OpenPort),
    Rdma(RdmaConfig),
    RdmaOrPosix,
}

impl Carrier {
    fn open(&self) -> Result<Box<dyn Transport>, OpenError> {
        Ok(match self {
            Self::Posix => Box::new(Posix::new()?),
            Self::Dpdk(port) => port.take()?,
            Self::Rdma(config) => Box::new(Rdma::new(*config)?),
            Self::RdmaOrPosix => {
                let rdma = Rdma::new(RdmaConfig::default())?;
                Box::new(Fallback::new(rdma, Posix::new()?)?)
            }
        })
    }
}

/// Where the two ends of a comparison meet.
#[derive(Clone)]
pub(crate) enum Network {
    /// The loopback interface of this host.
    Loopback,
    /// Shared memory.
    Ring(RingNetwork),
    /// An Ethernet within the process, for userspace TCP.
    Wire(Wire),
    /// Two of DPDK's ports, connected within the process.
    Ports([OpenPort; 2]),
    /// Two of DPDK's ports in two processes.
    Vhost(Arc<Vhost>),
    /// An RDMA device of this host, at these addresses.
    Rdma(Vec<IpAddr>),
}

/// One of the two ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Server,
    Client,
}

impl Network {
    /// What a transport of this host is compared on, by name.
    pub(crate) fn names(transport: &str) -> &'static [&'static str] {
        match transport {
            "posix" => &["posix"],
            "rdma" => &["rdma"],
            "ring" => &["ring"],
            "wire" => &["wire"],
            "dpdk" => &["dpdk", "dpdk 9000", "vhost", "vhost 9000"],
            _ => &[],
        }
    }

    /// A new one, by one of those names.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let ports = |mtu| {
            let configs = [SERVER, CLIENT].map(|ip| TcpConfig::new(ip.into(), 24));
            Ok(Self::Ports(dpdk::connected(configs, mtu)?))
        };
        match name {
            "dpdk" => ports(1500),
            "dpdk 9000" => ports(9000),
            "vhost" => Ok(Self::Vhost(Arc::new(Vhost::new(1500)?))),
            "vhost 9000" => Ok(Self::Vhost(Arc::new(Vhost::new(9000)?))),
            "ring" => Ok(Self::Ring(RingNetwork::default())),
            "wire" => Ok(Self::Wire(Wire::new(WireConfig::default()))),
            "posix" => Ok(Self::Loopback),
            "rdma" => Ok(Self::Rdma(probe::rdma_addresses())),
            other => Err(UnknownTransport(other.to_owned()).into()),
        }
    }

    /// If the server needs a process of its own: the arguments that have `msgr` meet us there.
    pub(crate) fn server_arguments(&self) -> Option<Vec<String>> {
        match self {
            Self::Vhost(vhost) => Some(vhost.server_arguments(SERVER.into())),
            Self::Rdma(_) => Some(vec!["--transport=rdma".to_owned()]),
            _ => None,
        }
    }

    /// A transport for one end; the client's end if the server needs a process of its own.
    pub(crate) fn open(&self, end: End) -> Result<Box<dyn Transport>, OpenError> {
        match self {
            Self::Loopback => Ok(Box::new(Posix::new()?)),
            Self::Ring(network) => Ok(Box::new(Ring::new(network)?)),
            Self::Wire(wire) => {
                let address = match end {
                    End::Server => SERVER,
                    End::Client => CLIENT,
                };
                let config = TcpConfig::new(address.into(), 24);
                Ok(Box::new(Tcp::new(wire.port(), config, Instant::now())?))
            }
            Self::Ports(ports) => ports[end as usize].take(),
            Self::Rdma(_) => Ok(Box::new(Rdma::new(RdmaConfig::default())?)),
            Self::Vhost(vhost) => vhost.open(TcpConfig::new(CLIENT.into(), 24)),
        }
    }

    /// Where the server may listen: at the first of these that works.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Wire(_) | Self::Ports(_) | Self::Vhost(_) => vec![SERVER.into()],
            Self::Rdma(addresses) => addresses.clone(),
            Self::Loopback | Self::Ring(_) => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
        }
    }
}

/// The two ends of a network of their own.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
