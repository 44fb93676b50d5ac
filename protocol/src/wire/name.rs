//! Who an entity is: [`EntityType`], [`EntityName`] to the messenger, [`AuthName`] to
//! authentication.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

use super::codec::put_blob;
use super::{Malformed, Reader};

/// The longest id that is accepted, in bytes.
const MAX_ID: usize = 256;

macro_rules! entity_types {
    ($($number:literal $variant:ident $name:literal,)*) => {
        /// What kind of entity somebody is: `CEPH_ENTITY_TYPE_*` in Ceph's `src/include/msgr.h`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum EntityType {
            $($variant = $number,)*
        }

        impl EntityType {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)*];

            /// As Ceph writes it, for example `osd`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub(crate) fn from_number(number: u64) -> Result<Self, Malformed> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    value => Err(Malformed::UnknownValue { what: "entity type", value }),
                }
            }
        }
    };
}

entity_types! {
    0x01 Mon "mon",
    0x02 Mds "mds",
    0x04 Osd "osd",
    0x08 Client "client",
    0x10 Mgr "mgr",
    0x20 Auth "auth",
}

impl EntityType {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::from_number(reader.u8("entity type")?.into())
    }
}

impl fmt::Display for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseNameError {
    /// There is no such type of entity.
    #[error("unknown entity type {0:?}, one of: mon, mds, osd, client, mgr, auth")]
    UnknownType(String),
    /// A name is a type, a dot and an id.
    #[error("{0:?} is not of the form TYPE.ID, for example osd.0")]
    NoId(String),
    /// The id of an entity is a number.
    #[error("{0:?} is not a number")]
    NotANumber(String),
    /// The id that authentication knows is too long, in bytes.
    #[error("id of {0} bytes, the limit is {MAX_ID}")]
    TooLong(usize),
}

impl FromStr for EntityType {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, kind)| *kind)
            .ok_or_else(|| ParseNameError::UnknownType(text.to_owned()))
    }
}

/// Who an entity is to a messenger: `osd.0`. Clients have the number of their session, -1 before
/// they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityName {
    /// What it is.
    pub kind: EntityType,
    /// Which one.
    pub num: i64,
}

impl EntityName {
    /// Appends type (1 byte) and number (LE64).
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.kind as u8);
        out.put_i64_le(self.num);
    }

    /// Parses a name.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            kind: EntityType::decode(reader)?,
            num: reader.i64("entity number")?,
        })
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.num < 0 {
            write!(f, "{}.?", self.kind)
        } else {
            write!(f, "{}.{}", self.kind, self.num)
        }
    }
}

fn split(text: &str) -> Result<(EntityType, &str), ParseNameError> {
    let (kind, id) = text
        .split_once('.')
        .ok_or_else(|| ParseNameError::NoId(text.to_owned()))?;
    if id.is_empty() {
        return Err(ParseNameError::NoId(text.to_owned()));
    }
    Ok((kind.parse()?, id))
}

impl FromStr for EntityName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let (kind, id) = split(text)?;
        match id.parse() {
            Ok(num) if num >= 0 => Ok(Self { kind, num }),
            _ => Err(ParseNameError::NotANumber(id.to_owned())),
        }
    }
}

/// Who an entity is to authentication: `client.admin`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuthName {
    /// What it is.
    pub kind: EntityType,
    /// Which one, up to 256 bytes.
    pub id: String,
}

impl AuthName {
    /// Appends type (LE32) and id (length LE32, bytes).
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(u32::from(self.kind as u8));
        put_blob(out, self.id.as_bytes());
    }

    /// Parses a name.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        const WHAT: &str = "entity id";
        let kind = EntityType::from_number(reader.u32("entity type")?.into())?;
        let len = reader.count(WHAT, MAX_ID)?;
        let id = str::from_utf8(reader.bytes(WHAT, len)?);
        Ok(Self {
            kind,
            id: id
                .map_err(|_| Malformed::NotUtf8 { what: WHAT })?
                .to_owned(),
        })
    }
}

impl From<EntityName> for AuthName {
    fn from(name: EntityName) -> Self {
        Self {
            kind: name.kind,
            id: name.num.to_string(),
        }
    }
}

impl fmt::Display for AuthName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.id)
    }
}

impl FromStr for AuthName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let (kind, id) = split(text)?;
        if id.len() > MAX_ID {
            return Err(ParseNameError::TooLong(id.len()));
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
