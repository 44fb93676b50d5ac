//! [`findings`]: which transports this host has, and what the others lack.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use msgr_transport::posix::Posix;
use msgr_transport::rdma::{Rdma, RdmaConfig};
use msgr_transport::ring::{Ring, RingNetwork};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// What was found out about one transport.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    #[serde(rename = "transport")]
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) status: Status,
    /// What the transport stands on.
    pub(crate) host: Vec<Fact>,
}

/// Whether a transport can be used on this host.
#[derive(Debug, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum Status {
    Available { detail: String },
    Missing { reason: String, remedy: String },
}

/// One thing that a transport needs of its host.
#[derive(Debug, Serialize)]
pub(crate) struct Fact {
    pub(crate) needs: &'static str,
    pub(crate) found: String,
    /// What to do, if what was found is not enough.
    pub(crate) remedy: Option<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available { detail } => write!(f, "available: {detail}"),
            Self::Missing { reason, remedy } => write!(f, "missing: {reason}; {remedy}"),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.needs, self.found)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Looks at this host.
pub(crate) fn findings() -> Vec<Finding> {
    let root = Path::new("/");
    vec![
        Finding {
            name: "posix",
            status: posix(),
            host: Vec::new(),
        },
        Finding {
            name: "ring",
            status: ring(),
            host: Vec::new(),
        },
        Finding {
            name: "wire",
            status: wire(),
            host: Vec::new(),
        },
        Finding {
            name: "dpdk",
            status: dpdk_status(),
            host: dpdk(root),
        },
        Finding {
            name: "rdma",
            status: rdma_status(),
            host: rdma(root),
        },
    ]
}

fn rdma_status() -> Status {
    match Rdma::new(RdmaConfig::default()) {
        Ok(_) => Status::Available {
            detail: "reliable connections by rdma_cm".to_owned(),
        },
        Err(error) => Status::Missing {
            remedy: match error.source.kind() {
                ErrorKind::Unsupported => "install it (Debian: libibverbs1, librdmacm1)",
                ErrorKind::NotFound => "add an adapter, or make one in software, see below",
                _ => "load the connection manager: modprobe rdma_ucm",
            }
            .to_owned(),
            reason: error.to_string(),
        },
    }
}

fn posix() -> Status {
    let probe = |ip: IpAddr| TcpListener::bind((ip, 0));
    let (v4, v6) = (
        probe(Ipv4Addr::LOCALHOST.into()),
        probe(Ipv6Addr::LOCALHOST.into()),
    );
    let detail = match (v4, v6) {
        (Ok(_), Ok(_)) => "IPv4 and IPv6".to_owned(),
        (Ok(_), Err(error)) => format!("IPv4 only, no IPv6 here ({error})"),
        (Err(error), Ok(_)) => format!("IPv6 only, no IPv4 here ({error})"),
        (Err(error), Err(_)) => {
            return Status::Missing {
                reason: format!("neither IPv4 nor IPv6 has a loopback address ({error})"),
                remedy: "bring the loopback interface up: ip link set lo up".to_owned(),
            };
        }
    };
    match Posix::new() {
        Ok(_) => Status::Available { detail },
        Err(error) => no_descriptors(&error),
    }
}

fn ring() -> Status {
    match Ring::new(&RingNetwork::default()) {
        Ok(_) => Status::Available {
            detail: "within one process".to_owned(),
        },
        Err(error) => no_descriptors(&error),
    }
}

/// Userspace TCP needs nothing of the host here but memory.
fn wire() -> Status {
    Status::Available {
        detail: "userspace TCP, on an Ethernet within one process".to_owned(),
    }
}

/// The ports that are compared are virtual: they need nothing of the host but DPDK itself.
fn dpdk_status() -> Status {
    match msgr_transport::dpdk::version() {
        Ok(version) => Status::Available {
            detail: format!("{version}, compared on two connected rings"),
        },
        Err(error) => Status::Missing {
            reason: error.to_string(),
            remedy: "install it (Debian: dpdk and libdpdk-dev), and build msgr again".to_owned(),
        },
    }
}

fn no_descriptors(error: &msgr_transport::OpenError) -> Status {
    Status::Missing {
        reason: error.to_string(),
        remedy: "raise the limit of open files: ulimit -n".to_owned(),
    }
}

fn dpdk(root: &Path) -> Vec<Fact> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    vec![
        library(root, "DPDK", "librte_ethdev.so", "libdpdk-dev"),
        hugepages(&meminfo),
        ports(root),
    ]
}

fn rdma(root: &Path) -> Vec<Fact> {
    let memlock = getrlimit(Resource::Memlock).current;
    vec![
        library(root, "verbs", "libibverbs.so.1", "libibverbs1"),
        library(root, "connection manager", "librdmacm.so.1", "librdmacm1"),
        rdma_drivers(root),
        rdma_devices(root),
        lockable_memory(memlock, may_lock_all(root)),
    ]
}

/// Where linkers look for libraries.
fn library_folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["usr/local/lib", "usr/lib", "usr/lib64"]
        .map(|folder| root.join(folder))
        .into_iter()
        .flat_map(move |folder| [folder.join(&multiarch), folder])
}

/// What libibverbs loads for each kind of device.
fn rdma_drivers(root: &Path) -> Fact {
    let kind = |name: &String| Some(name.strip_prefix("lib")?.split_once("-rdmav")?.0.to_owned());
    let folders = library_folders(root).map(|folder| names(&folder.join("libibverbs")));
    let mut drivers: Vec<_> = folders.flatten().filter_map(|name| kind(&name)).collect();
    drivers.dedup();
    Fact {
        needs: "drivers of verbs",
        found: list(&drivers),
        remedy: drivers
            .is_empty()
            .then(|| "install them (Debian: ibverbs-providers)".to_owned()),
    }
}

/// A shared library, by the beginning of its file's name.
fn library(root: &Path, needs: &'static str, file: &str, package: &str) -> Fact {
    let found = library_folders(root).find_map(|folder| {
        let begins = |name: &String| name.starts_with(file);
        names(&folder)
            .into_iter()
            .find(begins)
            .map(|name| folder.join(name))
    });
    match found {
        Some(path) => Fact {
            needs,
            found: path.display().to_string(),
            remedy: None,
        },
        None => Fact {
            needs,
            found: format!("no {file}"),
            remedy: Some(format!("install it (Debian: {package})")),
        },
    }
}

/// Source: `HugePages_*` in `proc_meminfo(5)`.
fn hugepages(meminfo: &str) -> Fact {
    let field = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (total, free) = (field("HugePages_Total"), field("HugePages_Free"));
    let (total, free) = (total.unwrap_or(0), free.unwrap_or(0));
    let kib = field("Hugepagesize").unwrap_or(0);
    Fact {
        needs: "hugepages",
        found: format!("{free} of {total} free, {kib} KiB each"),
        remedy: (free == 0).then(|| "reserve some: sysctl vm.nr_hugepages=512".to_owned()),
    }
}

/// PCI devices of class 2 (network) and who drives them.
fn ports(root: &Path) -> Fact {
    let folder = root.join("sys/bus/pci/devices");
    let mut ports = Vec::new();
    let mut usable = false;
    for name in names(&folder) {
        let device = folder.join(&name);
        let class = fs::read_to_string(device.join("class")).unwrap_or_default();
        if class.starts_with("0x02") {
            let driver = fs::read_link(device.join("driver")).unwrap_or_default();
            let driver = driver.file_name().unwrap_or_default().to_string_lossy();
            usable |= matches!(
                &*driver,
                "vfio-pci" | "uio_pci_generic" | "igb_uio" | "mlx5_core"
            );
            let driver = if driver.is_empty() {
                "no driver"
            } else {
                &driver
            };
            ports.push(format!("{name} ({driver})"));
        }
    }
    let remedy = match (ports.is_empty(), usable) {
        (_, true) => None,
        (true, false) => Some("add a network adapter, or use a virtual device"),
        (false, false) => Some("bind one to userspace: dpdk-devbind.py --bind=vfio-pci"),
    };
    Fact {
        needs: "network adapters",
        found: list(&ports),
        remedy: remedy.map(str::to_owned),
    }
}

fn rdma_devices(root: &Path) -> Fact {
    let folder = root.join("sys/class/infiniband");
    let devices = names(&folder);
    let verbs = names(&root.join("dev/infiniband"));
    let is_iwarp = |device: &String| {
        let node = fs::read_to_string(folder.join(device).join("node_type"));
        node.is_ok_and(|node| node.trim().ends_with("RNIC"))
    };
    let remedy = if devices.iter().all(is_iwarp) {
        Some("add an adapter, or make one in software: rdma link add rxe0 type rxe netdev eth0")
    } else if !verbs.iter().any(|name| name.starts_with("uverbs")) {
        Some("no /dev/infiniband/uverbs*: modprobe ib_uverbs, and pass the devices to containers")
    } else {
        None
    };
    let described = devices.iter().map(|device| {
        if is_iwarp(device) {
            return format!("{device} (iWARP, which has no immediate data: not usable)");
        }
        let ports = folder.join(device).join("ports");
        let ports = names(&ports).into_iter().map(|port| {
            let folder = ports.join(&port);
            let read = |file| fs::read_to_string(folder.join(file)).unwrap_or_default();
            let (layer, state) = (read("link_layer"), read("state"));
            let text = format!("; port {port}: {}, {}", layer.trim(), state.trim());
            gids(&folder)
                .iter()
                .fold(text, |text, gid| format!("{text}, {gid}"))
        });
        device.clone() + &ports.collect::<String>()
    });
    Fact {
        needs: "RDMA devices",
        found: list(&described.collect::<Vec<_>>()),
        remedy: remedy.map(str::to_owned),
    }
}

/// The addresses by which a port of a device is reached over Ethernet: each is one of its GIDs.
fn gids(port: &Path) -> Vec<IpAddr> {
    let folder = port.join("gids");
    let read = |name: String| fs::read_to_string(folder.join(name)).ok();
    let gids = names(&folder).into_iter().filter_map(read);
    let parsed = gids.filter_map(|gid| gid.trim().parse::<Ipv6Addr>().ok());
    let global = parsed.filter(|ip| !ip.is_unspecified() && !ip.is_unicast_link_local());
    let mut addresses: Vec<_> = global.map(|ip| ip.to_canonical()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Where this host can be reached over its RDMA devices.
pub(super) fn rdma_addresses() -> Vec<IpAddr> {
    let devices = Path::new("/sys/class/infiniband");
    let ports = names(devices).into_iter().flat_map(|device| {
        let ports = devices.join(device).join("ports");
        names(&ports).into_iter().map(move |port| ports.join(port))
    });
    ports.flat_map(|port| gids(&port)).collect()
}

/// Registered memory is locked memory, of which a process has so many bytes unless it may lock all.
fn lockable_memory(limit: Option<u64>, may_lock_all: bool) -> Fact {
    let needed = RdmaConfig::default().registered_bytes() as u64;
    let limit = limit.filter(|_| !may_lock_all);
    let found = limit.map_or("unlimited".to_owned(), |bytes| {
        format!("{} KiB", bytes >> 10)
    });
    Fact {
        needs: "lockable memory",
        found: format!(
            "{found}, of {} KiB for each reactor and device",
            needed >> 10
        ),
        remedy: limit
            .is_some_and(|bytes| bytes < needed)
            .then(|| "raise the limit: ulimit -l unlimited".to_owned()),
    }
}

/// Whether we have `CAP_IPC_LOCK` (`capabilities(7)`; `CapEff` in `proc_pid_status(5)`).
fn may_lock_all(root: &Path) -> bool {
    const IPC_LOCK: u32 = 14;
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let mut lines = status.lines();
    let capabilities = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    capabilities.is_some_and(|set| set >> IPC_LOCK & 1 == 1)
}

/// What a folder holds, sorted; nothing if there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root file system with nothing in it, removed at the end.
    struct Root(PathBuf);

    impl Root {
        fn new(test: &str) -> Self {
            let root = std::env::temp_dir().join(format!("msgr-{test}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn an_empty_host_lacks_everything_and_says_what_to_do() {
        let root = Root::new("empty");
        for fact in dpdk(&root.0).iter().chain(&rdma(&root.0)[..4]) {
            assert!(fact.remedy.is_some(), "{fact}");
        }
        let dpdk = dpdk(&root.0)[0].to_string();
        assert!(dpdk.contains("Debian: libdpdk-dev"), "{dpdk}");
    }

    #[test]
    fn a_host_with_hardware_is_recognised() {
        let root = Root::new("hardware");
        root.put("usr/lib64/librte_ethdev.so.23.0", "");
        root.put("usr/local/lib/libibverbs.so.1", "");
        root.put("usr/lib/librdmacm.so.1", "");
        root.put("usr/lib/libibverbs/libmlx5-rdmav34.so", "");
        root.put(
            "proc/meminfo",
            "HugePages_Total: 8\nHugePages_Free:  3\nHugepagesize: 2048 kB\n",
        );
        root.put("sys/bus/pci/devices/0000:00:05.0/class", "0x020000\n");
        symlink(
            "../drivers/vfio-pci",
            root.0.join("sys/bus/pci/devices/0000:00:05.0/driver"),
        )
        .unwrap();
        root.put("sys/bus/pci/devices/0000:00:06.0/class", "0x010000\n");
        root.put("sys/class/infiniband/mlx5_0/node_type", "1: CA\n");
        let port = "sys/class/infiniband/mlx5_0/ports/1";
        for (file, text) in [
            ("link_layer", "Ethernet\n"),
            ("state", "4: ACTIVE\n"),
            ("gids/0", "fe80:0000:0000:0000:0000:0000:0000:0001\n"),
            ("gids/1", "0000:0000:0000:0000:0000:ffff:0a09:0001\n"),
            ("gids/2", "fd00:0009:0000:0000:0000:0000:0000:0001\n"),
        ] {
            root.put(&format!("{port}/{file}"), text);
        }
        root.put("sys/class/infiniband/siw0/node_type", "4: RNIC\n");
        root.put("dev/infiniband/uverbs0", "");
        let dpdk = dpdk(&root.0);
        assert!(dpdk.iter().all(|fact| fact.remedy.is_none()), "{dpdk:?}");
        assert_eq!(dpdk[1].found, "3 of 8 free, 2048 KiB each");
        assert_eq!(dpdk[2].found, "0000:00:05.0 (vfio-pci)");
        let rdma = rdma(&root.0);
        assert!(
            rdma[..4].iter().all(|fact| fact.remedy.is_none()),
            "{rdma:?}"
        );
        assert_eq!(rdma[2].found, "mlx5");
        let devices = "mlx5_0; port 1: Ethernet, 4: ACTIVE, 10.9.0.1, fd00:9::1, \
                       siw0 (iWARP, which has no immediate data: not usable)";
        assert_eq!(rdma[3].found, devices);
    }

    #[test]
    fn little_lockable_memory_is_too_little() {
        assert!(lockable_memory(None, false).remedy.is_none());
        let little = lockable_memory(Some(8 << 20), false);
        assert!(little.remedy.is_some());
        let told = "8192 KiB, of 65536 KiB for each reactor and device";
        assert_eq!(little.found, told);
        assert!(lockable_memory(Some(8 << 20), true).remedy.is_none());
    }

    #[test]
    fn whoever_has_the_capability_may_lock_all() {
        let root = Root::new("capabilities");
        for (capabilities, expected) in [("000001ffffffffff", true), ("0000000000003fff", false)] {
            let status = format!("Name:\tmsgr\nCapEff:\t{capabilities}\n");
            root.put("proc/self/status", &status);
            assert_eq!(may_lock_all(&root.0), expected);
        }
    }

    #[test]
    fn what_this_version_has_is_available_and_the_rest_is_said_to_be_missing() {
        let findings = findings();
        let missing: Vec<_> = findings
            .iter()
            .filter(|finding| matches!(finding.status, Status::Missing { .. }))
            .map(|finding| finding.name)
            .collect();
        let dpdk = msgr_transport::dpdk::version().err().map(|_| "dpdk");
        let rdma = Rdma::new(RdmaConfig::default()).err().map(|_| "rdma");
        let expected: Vec<_> = dpdk.into_iter().chain(rdma).collect();
        assert_eq!(missing, expected);
        let json = serde_json::to_value(&findings[4]).unwrap();
        let status = rdma.map_or("available", |_| "missing");
        assert_eq!(
            (&json["transport"], &json["status"]),
            (&"rdma".into(), &status.into())
        );
    }
}
