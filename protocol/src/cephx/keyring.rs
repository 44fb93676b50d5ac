//! [`Keyring`]: whose keys are known, as files that Ceph's tools write say it.

use std::collections::HashMap;
use std::str::FromStr;

use super::{CryptoKey, ParseKeyError};
use crate::wire::{AuthName, EntityType};

/// Names and their keys.
///
/// The text form is Ceph's: a line `[client.admin]` begins an entity, `key = BASE64` says its key.
/// Other settings, such as `caps`, are accepted and do nothing. `#` and `;` begin a comment. The
/// last of several keys counts.
///
/// Source: ceph-authtool(8).
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: HashMap<AuthName, CryptoKey>,
}

impl Keyring {
    /// The key of `name`.
    pub fn get(&self, name: &AuthName) -> Option<&CryptoKey> {
        self.keys.get(name)
    }

    /// Adds a key. Returns the one that `name` had.
    pub fn insert(&mut self, name: AuthName, key: CryptoKey) -> Option<CryptoKey> {
        self.keys.insert(name, key)
    }

    /// Whose keys there are, in no order.
    pub fn names(&self) -> impl Iterator<Item = &AuthName> {
        self.keys.keys()
    }
}

impl FromStr for Keyring {
    type Err = ParseKeyringError;

    fn from_str(text: &str) -> Result<Self, ParseKeyringError> {
        let mut keyring = Self::default();
        let mut entity: Option<AuthName> = None;
        for (index, line) in text.lines().enumerate() {
            let fault = |fault| ParseKeyringError {
                line: index + 1,
                fault,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']').ok_or(fault(KeyringFault::Syntax))?;
                let name = parse_name(name.trim()).ok_or(fault(KeyringFault::NotAName))?;
                entity = Some(name);
                continue;
            }
            let (setting, value) = line.split_once('=').ok_or(fault(KeyringFault::Syntax))?;
            let name = entity.as_ref().ok_or(fault(KeyringFault::NoEntity))?;
            if setting.trim() == "key" {
                let value = value.trim();
                let value = value
                    .strip_prefix('"')
                    .and_then(|value| value.strip_suffix('"'))
                    .unwrap_or(value);
                let key = value.parse().map_err(|e| fault(KeyringFault::Key(e)))?;
                keyring.insert(name.clone(), key);
            }
        }
        Ok(keyring)
    }
}

/// Unlike elsewhere, the id may be empty: `mon.` is all monitors together.
fn parse_name(text: &str) -> Option<AuthName> {
    if text == "mon." {
        return Some(AuthName {
            kind: EntityType::Mon,
            id: String::new(),
        });
    }
    text.parse().ok()
}

/// A text is not a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ParseKeyringError {
    /// Where, from 1.
    pub line: usize,
    /// Why.
    #[source]
    pub fault: KeyringFault,
}

/// What is wrong with a line of a keyring. What the line was is not told: it may be most of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringFault {
    /// A line is `[NAME]` or `SETTING = VALUE`.
    #[error("neither [NAME] nor SETTING = VALUE")]
    Syntax,
    /// What is in brackets is not the name of an entity.
    #[error("not a name of the form TYPE.ID, for example client.admin")]
    NotAName,
    /// A setting in front of the first name.
    #[error("a setting of nobody: there is no [NAME] above it")]
    NoEntity,
    /// The key cannot be used.
    #[error(transparent)]
    Key(ParseKeyError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQA4CwFrLILmIBAAM2WcZrp2Dpfv7a3K55w4Og==";

    fn error(text: &str) -> (usize, KeyringFault) {
        let error = text.parse::<Keyring>().unwrap_err();
        (error.line, error.fault)
    }

    /// As ceph-authtool writes it.
    #[test]
    fn what_ceph_writes() {
        let text = format!(
            "[mon.]\n\tkey = AQA/CwFru2+0LxAAx1fM/tJQYzQerGjv9Ne+8Q==\n\tcaps mon = \"allow *\"\n\
             [client.admin]\n\tkey = {KEY}\n\tauid = 0\n\tcaps mds = \"allow *\"\n\n\
             # comment\n; another\n[osd.0]\nkey=\"{KEY}\"\r\n"
        );
        let keyring: Keyring = text.parse().unwrap();
        assert_eq!(keyring.names().count(), 3);
        for name in ["client.admin", "osd.0"] {
            let key = keyring.get(&name.parse().unwrap()).unwrap();
            assert_eq!(*key.to_base64(), KEY);
        }
        assert!(keyring.get(&"client.b".parse().unwrap()).is_none());
        let mon = parse_name("mon.").unwrap();
        assert_ne!(*keyring.get(&mon).unwrap().to_base64(), KEY);
        assert!(!format!("{keyring:?}").contains("AQA"));
    }

    #[test]
    fn the_last_key_counts() {
        let other = "AQA/CwFru2+0LxAAx1fM/tJQYzQerGjv9Ne+8Q==";
        let text = format!("[osd.1]\nkey = {other}\n[osd.2]\nkey = {other}\n[osd.1]\nkey = {KEY}");
        let keyring: Keyring = text.parse().unwrap();
        let key = |name: &str| keyring.get(&name.parse().unwrap()).unwrap().to_base64();
        assert_eq!((&**key("osd.1"), &**key("osd.2")), (KEY, other));
    }

    #[test]
    fn what_is_not_a_keyring() {
        assert_eq!(error("\nkey = x"), (2, KeyringFault::NoEntity));
        assert_eq!(error("[osd.0"), (1, KeyringFault::Syntax));
        assert_eq!(error("[osd.0]\n\nkey"), (3, KeyringFault::Syntax));
        assert_eq!(error("[nobody.0]"), (1, KeyringFault::NotAName));
        assert_eq!(error("[osd.]"), (1, KeyringFault::NotAName));
        let key = |fault| (2, KeyringFault::Key(fault));
        assert_eq!(error("[osd.0]\nkey = !"), key(ParseKeyError::NotBase64));
        assert_eq!(error("[osd.0]\nkey ="), key(ParseKeyError::NotAKey));
        let text = format!("[osd.0]\nkey = Ag{}", &KEY[2..]);
        assert_eq!(error(&text), key(ParseKeyError::UnsupportedType(2)));
    }
}
