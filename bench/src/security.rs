//! [`Security`]: what all commands that speak msgr2 have in common: how the ends show each other who
//! they are, and how frames are protected and compressed.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use msgr::System;
use msgr_protocol::auth::{AnyOf, AuthNone, Authenticator, KeyLog};
use msgr_protocol::cephx::{Cephx, Keyring};
use msgr_protocol::compression::Algorithm;
use msgr_protocol::{AuthName, CompressionConfig, Config, Mode, PerPeer};

/// Arguments of `serve`, `ping` and `mon`.
#[derive(Debug, clap::Args)]
pub(crate) struct Security {
    /// How the ends show each other who they are: none, cephx, or both, the preferred one first.
    #[arg(
        long,
        value_name = "METHOD",
        value_delimiter = ',',
        default_value = "none"
    )]
    auth: Vec<Method>,
    /// The file with our key, and with those of peers that we are to let in.
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// How frames are protected: crc, secure, or both, the preferred one first.
    #[arg(
        long,
        value_name = "MODE",
        value_delimiter = ',',
        default_value = "crc"
    )]
    mode: Vec<Mode>,
    /// Leave out the checksums of segments, as Ceph with `ms_crc_data=false`; the other end must, too.
    /// Only the transport notices then if something was altered on its way.
    #[arg(long)]
    no_data_crc: bool,
    /// Compress frames: snappy, zlib, zstd, lz4 or several, the preferred one first; both ends must
    /// want it.
    #[arg(long, value_name = "ALGORITHM", value_delimiter = ',')]
    compression: Vec<Algorithm>,
    /// The fewest bytes that are worth compressing.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    compression_min_size: usize,
    /// Compress in secure mode, too, where the length then tells something about the content.
    #[arg(long)]
    compression_under_secure: bool,
    /// Append the secrets of all connections to a file, to look into captures of one's own traffic.
    /// Who can read the file can read the connections.
    #[arg(long, value_name = "FILE")]
    key_log: Option<PathBuf>,
}

/// An authentication method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    None,
    Cephx,
}

/// Which end of connections a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Security {
    /// Sets what `config` says about authentication, for somebody of this name.
    pub(crate) fn apply(
        &self,
        name: &AuthName,
        side: Side,
        config: &mut Config,
    ) -> anyhow::Result<()> {
        if self.mode.contains(&Mode::Secure) && !self.auth.contains(&Method::Cephx) {
            bail!("--mode secure: without --auth cephx there is no key to encrypt with");
        }
        let methods = self.auth.iter();
        let methods = methods.map(|method| self.authenticator(*method, name, side));
        let mut methods = methods.collect::<anyhow::Result<Vec<_>>>()?.into_iter();
        if let Some(preferred) = methods.next() {
            config.auth = Arc::new(AnyOf::new(preferred, methods.collect()));
        }
        config.modes = PerPeer::new(self.mode.clone());
        config.data_crc = !self.no_data_crc;
        config.compression = CompressionConfig {
            algorithms: PerPeer::new(self.compression.clone()),
            min_size: self.compression_min_size,
            under_secure: self.compression_under_secure,
        };
        if let Some(path) = &self.key_log {
            config.key_log = Some(Arc::new(KeyFile::append(path)?));
        }
        Ok(())
    }

    fn authenticator(
        &self,
        method: Method,
        name: &AuthName,
        side: Side,
    ) -> anyhow::Result<Arc<dyn Authenticator>> {
        if method == Method::None {
            return Ok(Arc::new(AuthNone::new(name.clone())));
        }
        let Some(path) = &self.keyring else {
            bail!("--auth cephx needs --keyring FILE");
        };
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let keyring: Keyring = text.parse().with_context(|| path.display().to_string())?;
        let key = keyring.get(name).cloned();
        Ok(Arc::new(match (key, side) {
            (Some(key), Side::Client) => Cephx::client(name.clone(), key, Arc::new(System)),
            (Some(key), Side::Server) => {
                Cephx::client(name.clone(), key, Arc::new(System)).with_keyring(keyring)
            }
            (None, Side::Server) => {
                Cephx::server(name.clone(), Arc::new(System)).with_keyring(keyring)
            }
            (None, Side::Client) => bail!("{}: no key of {name}", path.display()),
        }))
    }
}

/// A file that secrets are appended to.
#[derive(Debug)]
struct KeyFile(Mutex<File>);

impl KeyFile {
    fn append(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Ok(Self(Mutex::new(file)))
    }
}

impl KeyLog for KeyFile {
    fn write(&self, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!("the key log: {error}");
        }
    }
}
