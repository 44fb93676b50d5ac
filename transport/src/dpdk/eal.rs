//! [`Eal`]: DPDK's environment abstraction layer, of which a process has one, for ever.

use std::ffi::CString;
use std::io;
use std::sync::Mutex;

use super::port::{self, PortConfig};
use super::shim::Dpdk;
use super::{DpdkDevice, DpdkError};

/// What an operator decides about DPDK's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Whether memory comes from huge pages, which must have been reserved. Needs no hugetlbfs.
    pub huge_pages: bool,
    /// Memory for frames and rings, in MiB.
    pub memory: u32,
    /// Whether PCI devices are looked for. Those that are bound to a driver of DPDK are taken.
    pub pci: bool,
    /// More arguments, in DPDK's own syntax (Getting Started Guide for Linux, EAL parameters).
    pub arguments: Vec<String>,
}

impl Default for EalConfig {
    /// What needs no privilege and nothing reserved: 256 MiB of ordinary pages, virtual devices.
    fn default() -> Self {
        Self {
            huge_pages: false,
            memory: 256,
            pci: false,
            arguments: Vec::new(),
        }
    }
}

impl EalConfig {
    /// The arguments of the environment. It gets no files, no telemetry and no cores: it is one
    /// thread that may run wherever this process may. Threads that poll are not its business.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--lcores=0@({})", allowed_cores()),
            "--no-telemetry".into(),
            "-m".into(),
            self.memory.to_string(),
        ];
        let memory: &[&str] = if self.huge_pages {
            // A vhost-user peer maps our memory, and takes no more than eight files.
            &["--in-memory", "--single-file-segments"]
        } else {
            &["--no-huge", "--no-shconf"]
        };
        arguments.extend(memory.iter().copied().map(String::from));
        if !self.pci {
            arguments.push("--no-pci".into());
        }
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

/// The processors that this thread may run on, separated by commas.
fn allowed_cores() -> String {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return "0".into();
    };
    let cores: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .map(|core| core.to_string())
        .collect();
    cores.join(",")
}

/// DPDK's environment, running.
///
/// It cannot be ended, nor started again, and does not survive `fork(2)`.
#[derive(Debug)]
pub struct Eal {
    dpdk: Dpdk,
    config: EalConfig,
}

static EAL: Mutex<Option<&'static Eal>> = Mutex::new(None);

impl Eal {
    /// Starts DPDK's environment on a thread of its own. If it runs already with the same
    /// configuration, that is the one.
    ///
    /// Some of DPDK's drivers change the variables of the process's environment (`setenv(3)`) when
    /// they are loaded, here: no other thread may read them or start a process meanwhile.
    ///
    /// # Errors
    /// [`DpdkError::Unavailable`], [`DpdkError::Start`] or [`DpdkError::AlreadyStarted`].
    pub fn start(config: &EalConfig) -> Result<&'static Self, DpdkError> {
        let mut running = EAL.lock().expect("nobody panics with it");
        if let Some(eal) = *running {
            return if eal.config == *config {
                Ok(eal)
            } else {
                Err(DpdkError::AlreadyStarted {
                    arguments: eal.config.to_arguments(),
                })
            };
        }
        let calls = msgr_dpdk_sys::calls()?;
        let arguments = config.to_arguments();
        let failed = |(source, log): (io::Error, _)| DpdkError::Start {
            arguments: arguments.clone(),
            source,
            log,
        };
        let argv = ["msgr"]
            .into_iter()
            .chain(arguments.iter().map(String::as_str))
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|nul| failed((nul.into(), Vec::new())))?;
        let dpdk = Dpdk::start(calls, argv).map_err(failed)?;
        let eal: &'static Self = Box::leak(Box::new(Self {
            dpdk,
            config: config.clone(),
        }));
        *running = Some(eal);
        Ok(eal)
    }

    /// Opens a port and returns its queues in order. They may go to different threads; the port is
    /// closed when the last of them is dropped, and its device unplugged.
    ///
    /// `device` is what DPDK calls device arguments: a PCI address or the name of a virtual device,
    /// and maybe options behind commas, for example `0000:03:00.0` or `net_af_packet0,iface=veth1`.
    ///
    /// # Errors
    /// [`DpdkError::Device`] or [`DpdkError::Setting`].
    pub fn open(&self, device: &str, config: &PortConfig) -> Result<Vec<DpdkDevice>, DpdkError> {
        config.check(device)?;
        port::remove_stale_socket(device);
        let port = CString::new(device)
            .map_err(|nul| (nul.into(), Vec::new()))
            .and_then(|devargs| self.dpdk.attach(&devargs))
            .map_err(|(source, log)| DpdkError::Device {
                device: device.into(),
                source,
                log,
            })?;
        port::open(port, device, config)
    }

    /// Opens two ports that are connected to each other inside this process: what one transmits
    /// with queue *i*, the other receives with queue *i*.
    ///
    /// # Errors
    /// [`DpdkError::Device`] (of kind [`Unsupported`](io::ErrorKind::Unsupported) where the driver
    /// `net_ring` is not installed) or [`DpdkError::Setting`].
    pub fn ring_pair(&self, config: &PortConfig) -> Result<[Vec<DpdkDevice>; 2], DpdkError> {
        let device = "net_ring";
        config.check(device)?;
        let [a, b] = self
            .dpdk
            .ring_pair(config.queues)
            .map_err(|(source, log)| DpdkError::Device {
                device: device.into(),
                source,
                log,
            })?;
        Ok([
            port::open(a, device, config)?,
            port::open(b, device, config)?,
        ])
    }
}
