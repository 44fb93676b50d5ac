//! [`Keys`]: what the two ends of a comparison in secure mode share.

use std::sync::Arc;

use msgr::System;
use msgr_protocol::cephx::{Cephx, CryptoKey, Keyring, ParseKeyError};
use msgr_protocol::{AuthName, Config, EntityName, EntityType, Mode, PerPeer};
use zeroize::Zeroizing;

/// The client's key, made for this run; none in crc mode.
#[derive(Debug)]
pub(super) struct Keys(Option<CryptoKey>);

impl Keys {
    pub(super) fn for_mode(mode: Mode) -> Self {
        Self((mode == Mode::Secure).then(|| CryptoKey::generate(&System)))
    }

    /// The key as text; nothing if there is none.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        self.0
            .as_ref()
            .map(CryptoKey::to_base64)
            .unwrap_or_default()
    }

    /// What [`Self::to_text`] has made.
    pub(super) fn from_text(text: &str) -> Result<Self, ParseKeyError> {
        let key = (!text.is_empty()).then(|| text.parse());
        Ok(Self(key.transpose()?))
    }

    pub(super) fn apply_to_client(&self, config: &mut Config) {
        if let Some(key) = &self.0 {
            config.auth = Arc::new(Cephx::client(client(), key.clone(), Arc::new(System)));
            config.modes = PerPeer::new(vec![Mode::Secure]);
        }
    }

    pub(super) fn apply_to_server(&self, config: &mut Config) {
        if let Some(key) = &self.0 {
            let mut keyring = Keyring::default();
            keyring.insert(client(), key.clone());
            let name = config.name.into();
            config.auth = Arc::new(Cephx::server(name, Arc::new(System)).with_keyring(keyring));
            config.modes = PerPeer::new(vec![Mode::Secure]);
        }
    }
}

fn client() -> AuthName {
    let kind = EntityType::Client;
    EntityName { kind, num: 0 }.into()
}
