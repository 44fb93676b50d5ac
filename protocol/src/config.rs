//! [`Config`]: what one messenger is, accepts and requires; shared by all its connections.

use std::sync::Arc;

use crate::auth::{AuthNone, Authenticator, KeyLog};
use crate::compression::Algorithm;
use crate::frame::Limits;
use crate::policy::Policy;
use crate::wire::{EntityAddrVec, EntityName, EntityType, Features, Mode, features};

/// What one messenger is, accepts and requires.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are.
    pub name: EntityName,
    /// How we show peers who we are, and have them show who they are.
    pub auth: Arc<dyn Authenticator>,
    /// The connection modes that we ask for and grant, by the peer's entity type, the preferred one
    /// first. What is not listed is refused.
    pub modes: PerPeer<Vec<Mode>>,
    /// Whether connections may be encrypted in msgr2.0's way too, in which a frame's preamble is read
    /// before anything has proved it authentic.
    pub secure_rev0: bool,
    /// Who is told the secrets of our connections: nobody, but for debugging.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// Where we can be reached; empty for a messenger that is not bound.
    pub addrs: EntityAddrVec,
    /// Tells apart messengers that share an address. Part of every address of ours.
    pub nonce: u32,
    /// msgr2 features, exchanged in the banner; compression is added to them if it is configured.
    pub banner: FeaturePair,
    /// Connection features, exchanged in the ident frames.
    pub features: FeaturePair,
    /// The longest segments that we take or send.
    pub limits: Limits,
    /// Whether segments carry checksums in crc mode; both ends must agree on it. Ceph's `ms_crc_data`,
    /// which msgr2 of old versions (16, for one) does not heed.
    pub data_crc: bool,
    /// What is compressed.
    pub compression: CompressionConfig,
    /// How we treat which kind of peer.
    pub policies: PerPeer<Policy>,
}

impl Config {
    /// The defaults for the entity `name`: what Ceph sends, every limit as in [`Limits`], nobody
    /// proves who it is, nothing is encrypted.
    pub fn new(name: EntityName, policy: Policy) -> Self {
        Self {
            name,
            auth: Arc::new(AuthNone::new(name.into())),
            modes: PerPeer::new(vec![Mode::Crc]),
            secure_rev0: false,
            key_log: None,
            addrs: EntityAddrVec::default(),
            nonce: 0,
            banner: FeaturePair {
                supported: features::REVISION_1,
                required: Features::default(),
            },
            features: FeaturePair {
                supported: features::SUPPORTED,
                required: features::MSG_ADDR2,
            },
            limits: Limits::default(),
            data_crc: true,
            compression: CompressionConfig::default(),
            policies: PerPeer::new(policy),
        }
    }

    /// The features in our banner: compression is offered if there is somebody to compress for.
    pub(crate) fn banner(&self) -> FeaturePair {
        let mut banner = self.banner;
        if !self.compression.algorithms.iter().all(Vec::is_empty) {
            banner.supported.0 |= features::COMPRESSION.0;
        }
        banner
    }
}

/// What is compressed on its way, and how.
#[derive(Debug, Clone)]
pub struct CompressionConfig {
    /// The algorithms that we ask for and grant, by the peer's entity type, the preferred one first.
    /// Where there are none, nothing is compressed. (Ceph compresses between OSDs only.)
    pub algorithms: PerPeer<Vec<Algorithm>>,
    /// The fewest bytes of a frame's segments that are worth compressing.
    pub min_size: usize,
    /// Whether also in secure mode, in which the length of what was compressed tells something about
    /// it to whoever listens.
    pub under_secure: bool,
}

impl Default for CompressionConfig {
    /// Nothing; if algorithms are added, 1 KiB and more in crc mode, as in Ceph.
    fn default() -> Self {
        Self {
            algorithms: PerPeer::new(Vec::new()),
            min_size: 1 << 10,
            under_secure: false,
        }
    }
}

/// What we offer and what we insist on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeaturePair {
    /// Offered.
    pub supported: Features,
    /// Without these there is no connection.
    pub required: Features,
}

/// What differs by the peer's entity type.
#[derive(Debug, Clone)]
pub struct PerPeer<T> {
    default: T,
    by_type: Vec<(EntityType, T)>,
}

impl<T> PerPeer<T> {
    /// One for everybody.
    pub fn new(default: T) -> Self {
        Self {
            default,
            by_type: Vec::new(),
        }
    }

    /// Sets the one for peers of one type.
    #[must_use]
    pub fn with(mut self, peer: EntityType, value: T) -> Self {
        self.by_type.retain(|(kind, _)| *kind != peer);
        self.by_type.push((peer, value));
        self
    }

    /// The one for a peer.
    pub fn of(&self, peer: EntityType) -> &T {
        let found = self.by_type.iter().find(|(kind, _)| *kind == peer);
        found.map_or(&self.default, |(_, value)| value)
    }

    /// Every one that some peer may get.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let by_type = self.by_type.iter().map(|(_, value)| value);
        std::iter::once(&self.default).chain(by_type)
    }
}
