//! [`Config`]: what one messenger is, accepts and requires; shared by all its connections.

use crate::frame::Limits;
use crate::policy::Policy;
use crate::wire::{AuthName, EntityAddrVec, EntityName, EntityType, Features, features};

/// What one messenger is, accepts and requires.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are.
    pub name: EntityName,
    /// Who we are to authentication; the id is the operator's text, `admin` in `client.admin`.
    pub auth_name: AuthName,
    /// The id that a monitor gave us, 0 for none yet.
    pub global_id: u64,
    /// Where we can be reached; empty for a messenger that is not bound.
    pub addrs: EntityAddrVec,
    /// Tells apart messengers that share an address. Part of every address of ours.
    pub nonce: u32,
    /// msgr2 features, exchanged in the banner.
    pub banner: FeaturePair,
    /// Connection features, exchanged in the ident frames.
    pub features: FeaturePair,
    /// The longest segments that we take or send.
    pub limits: Limits,
    /// Whether segments carry checksums; both ends must agree on it.
    pub data_crc: bool,
    /// Whether peers may connect to us without proving who they are: authentication method `none`.
    pub accept_unauthenticated: bool,
    /// How we treat which kind of peer.
    pub policies: Policies,
}

impl Config {
    /// The defaults for the entity `name`: what Ceph sends, every limit as in [`Limits`].
    pub fn new(name: EntityName, policy: Policy) -> Self {
        Self {
            name,
            auth_name: name.into(),
            global_id: 0,
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
            accept_unauthenticated: true,
            policies: Policies::new(policy),
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

/// Policies by the peer's entity type.
#[derive(Debug, Clone)]
pub struct Policies {
    default: Policy,
    by_type: Vec<(EntityType, Policy)>,
}

impl Policies {
    /// One policy for everybody.
    pub fn new(default: Policy) -> Self {
        Self {
            default,
            by_type: Vec::new(),
        }
    }

    /// Sets the policy for peers of one type.
    #[must_use]
    pub fn with(mut self, peer: EntityType, policy: Policy) -> Self {
        self.by_type.retain(|(kind, _)| *kind != peer);
        self.by_type.push((peer, policy));
        self
    }

    /// The policy for a peer.
    pub fn of(&self, peer: EntityType) -> Policy {
        let found = self.by_type.iter().find(|(kind, _)| *kind == peer);
        found.map_or(self.default, |(_, policy)| *policy)
    }

    /// Every policy that some peer may get.
    pub fn iter(&self) -> impl Iterator<Item = Policy> {
        let by_type = self.by_type.iter().map(|(_, policy)| *policy);
        std::iter::once(self.default).chain(by_type)
    }
}
