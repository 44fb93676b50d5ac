//! HELLO and the authentication frames.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{put_blob, put_list};
use super::{Control, EntityAddr, EntityType, Malformed, Reader, Tag};

/// Both ends: what I am, and where I see you.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What the sender is.
    pub entity_type: EntityType,
    /// The receiver as the sender sees it: it may learn its own address from that.
    pub peer_addr: EntityAddr,
}

impl Control for Hello {
    const TAG: Tag = Tag::Hello;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.entity_type as u8);
        self.peer_addr.encode(out);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            entity_type: EntityType::decode(reader)?,
            peer_addr: EntityAddr::decode(reader)?,
        })
    }
}

/// How the frames of a connection are protected: `CEPH_CON_MODE_*` in Ceph's
/// `src/include/ceph_fs.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Checksums, which show accidents only.
    Crc = 1,
    /// AES-128-GCM.
    Secure = 2,
}

impl Mode {
    /// The mode of this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Crc),
            2 => Some(Self::Secure),
            _ => None,
        }
    }

    /// As Ceph's options write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc => "crc",
            Self::Secure => "secure",
        }
    }
}

/// The text names no connection mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}, one of: crc, secure")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let mut modes = [Self::Crc, Self::Secure].into_iter();
        modes
            .find(|mode| mode.name() == text)
            .ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Connector: authenticate me by this method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// `CEPH_AUTH_*`.
    pub method: u32,
    /// Connection modes (`CEPH_CON_MODE_*`), the preferred one first.
    pub preferred_modes: Vec<u32>,
    /// The method's own bytes.
    pub payload: Bytes,
}

impl Control for AuthRequest {
    const TAG: Tag = Tag::AuthRequest;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.method);
        put_list(out, &self.preferred_modes);
        put_blob(out, &self.payload);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            method: reader.u32("auth method")?,
            preferred_modes: reader.list("connection modes")?,
            payload: Bytes::copy_from_slice(reader.blob("auth payload")?),
        })
    }
}

/// Acceptor: not by this method, or not in these modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthBadMethod {
    /// The method that was asked for.
    pub method: u32,
    /// A negative errno.
    pub result: i32,
    /// Methods that would do.
    pub allowed_methods: Vec<u32>,
    /// Connection modes that would do.
    pub allowed_modes: Vec<u32>,
}

impl Control for AuthBadMethod {
    const TAG: Tag = Tag::AuthBadMethod;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.method);
        out.put_i32_le(self.result);
        put_list(out, &self.allowed_methods);
        put_list(out, &self.allowed_modes);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            method: reader.u32("auth method")?,
            result: reader.i32("auth result")?,
            allowed_methods: reader.list("auth methods")?,
            allowed_modes: reader.list("connection modes")?,
        })
    }
}

macro_rules! blob_frames {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name(pub Bytes);

            impl Control for $name {
                const TAG: Tag = Tag::$name;

                fn encode(&self, out: &mut BytesMut) {
                    put_blob(out, &self.0);
                }

                fn decode(payload: &[u8]) -> Result<Self, Malformed> {
                    let blob = Reader::new(payload).blob("auth payload")?;
                    Ok(Self(Bytes::copy_from_slice(blob)))
                }
            }
        )*
    };
}

blob_frames! {
    /// Acceptor: the method takes another step.
    AuthReplyMore,
    /// Connector: the method's next step.
    AuthRequestMore,
}

/// Acceptor: authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthDone {
    /// The connector's id, from now on.
    pub global_id: u64,
    /// The connection mode chosen (`CEPH_CON_MODE_*`).
    pub con_mode: u32,
    /// The method's own bytes.
    pub payload: Bytes,
}

impl Control for AuthDone {
    const TAG: Tag = Tag::AuthDone;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.global_id);
        out.put_u32_le(self.con_mode);
        put_blob(out, &self.payload);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            global_id: reader.u64("global id")?,
            con_mode: reader.u32("connection mode")?,
            payload: Bytes::copy_from_slice(reader.blob("auth payload")?),
        })
    }
}

/// Both ends: HMAC-SHA256 over all that I received up to here; zeros without a session key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSignature(pub [u8; 32]);

impl Control for AuthSignature {
    const TAG: Tag = Tag::AuthSignature;

    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut signature = [0; 32];
        signature.copy_from_slice(Reader::new(payload).bytes("signature", 32)?);
        Ok(Self(signature))
    }
}
