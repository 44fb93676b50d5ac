//! [`Protection`]: how the frames of a comparison are protected, and what its two ends share for it.

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum as _;
use msgr::System;
use msgr_protocol::cephx::{Cephx, CryptoKey, Keyring, ParseKeyError};
use msgr_protocol::{AuthName, Config, EntityName, EntityType, PerPeer};
use zeroize::Zeroizing;

use crate::transports::End;

/// What a user chooses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Checksums.
    Crc,
    /// Checksums of preambles only, as Ceph with `ms_crc_data=false`: the rest is left to the transport.
    NoDataCrc,
    /// Encryption.
    Secure,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is left out");
        f.write_str(value.get_name())
    }
}

/// What both ends know.
#[derive(Debug)]
pub(super) enum Protection {
    Crc,
    NoDataCrc,
    /// With a client's key that is made for this run.
    Secure(CryptoKey),
}

impl Protection {
    pub(super) fn new(mode: Mode) -> Self {
        match mode {
            Mode::Crc => Self::Crc,
            Mode::NoDataCrc => Self::NoDataCrc,
            Mode::Secure => Self::Secure(CryptoKey::generate(&System)),
        }
    }

    /// A line that tells it to the other end.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        match self {
            Self::Crc => Mode::Crc.to_string().into(),
            Self::NoDataCrc => Mode::NoDataCrc.to_string().into(),
            Self::Secure(key) => key.to_base64(),
        }
    }

    /// What [`Self::to_text`] has made.
    pub(super) fn from_text(text: &str) -> Result<Self, ParseKeyError> {
        let mut without_key = [Self::Crc, Self::NoDataCrc].into_iter();
        match without_key.find(|protection| *protection.to_text() == text) {
            Some(protection) => Ok(protection),
            None => text.parse().map(Self::Secure),
        }
    }

    /// Sets what `config` says about it.
    pub(super) fn apply(&self, end: End, config: &mut Config) {
        match self {
            Self::Crc => {}
            Self::NoDataCrc => config.data_crc = false,
            Self::Secure(key) => {
                config.modes = PerPeer::new(vec![msgr_protocol::Mode::Secure]);
                config.auth = Arc::new(match end {
                    End::Client => Cephx::client(client(), key.clone(), Arc::new(System)),
                    End::Server => {
                        let mut keyring = Keyring::default();
                        keyring.insert(client(), key.clone());
                        let name = config.name.into();
                        Cephx::server(name, Arc::new(System)).with_keyring(keyring)
                    }
                });
            }
        }
    }
}

fn client() -> AuthName {
    let kind = EntityType::Client;
    EntityName { kind, num: 0 }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_told_all_of_it() {
        for mode in Mode::value_variants() {
            let text = Protection::new(*mode).to_text();
            let told = Protection::from_text(&text).unwrap();
            assert_eq!(told.to_text(), text);
            let mut config = Config::new(
                "osd.0".parse().unwrap(),
                msgr_protocol::Policy::LOSSY_CLIENT,
            );
            told.apply(End::Server, &mut config);
            assert_eq!(config.data_crc, *mode != Mode::NoDataCrc);
            let encrypts = config
                .modes
                .iter()
                .all(|modes| *modes == [msgr_protocol::Mode::Secure]);
            assert_eq!(encrypts, *mode == Mode::Secure);
        }
    }
}
