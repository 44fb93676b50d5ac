//! The frames that open, resume or refuse a session.

use bytes::{BufMut, BytesMut};

use super::{Control, EntityAddr, EntityAddrVec, Features, Malformed, Reader, Tag};

/// Flags of the ident frames: `CEPH_MSG_CONNECT_*` in Ceph's `src/include/msgr.h`.
pub mod ident_flags {
    /// A broken connection takes the session with it.
    pub const LOSSY: u64 = 1;

    /// The flags of an end that is lossy or not.
    pub const fn of(lossy: bool) -> u64 {
        if lossy { LOSSY } else { 0 }
    }
}

/// Connector: open a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdent {
    /// The connector's addresses; never empty.
    pub addrs: EntityAddrVec,
    /// The address that was dialled.
    pub target: EntityAddr,
    /// The number in the connector's name.
    pub gid: i64,
    /// The connector's place in its sequence of connections.
    pub global_seq: u64,
    /// Features offered.
    pub supported: Features,
    /// Features insisted on.
    pub required: Features,
    /// See [`ident_flags`].
    pub flags: u64,
    /// The connector's name for the session; 0 if lossy.
    pub cookie: u64,
}

impl Control for ClientIdent {
    const TAG: Tag = Tag::ClientIdent;

    fn encode(&self, out: &mut BytesMut) {
        self.addrs.encode(out);
        self.target.encode(out);
        out.put_i64_le(self.gid);
        out.put_u64_le(self.global_seq);
        out.put_u64_le(self.supported.0);
        out.put_u64_le(self.required.0);
        out.put_u64_le(self.flags);
        out.put_u64_le(self.cookie);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            addrs: own_addrs(reader)?,
            target: EntityAddr::decode(reader)?,
            gid: reader.i64("gid")?,
            global_seq: reader.u64("global sequence")?,
            supported: Features(reader.u64("supported features")?),
            required: Features(reader.u64("required features")?),
            flags: reader.u64("flags")?,
            cookie: reader.u64("cookie")?,
        })
    }
}

/// Who opens a session has an address, or there would be nobody to find again.
fn own_addrs(reader: &mut Reader<'_>) -> Result<EntityAddrVec, Malformed> {
    let addrs = EntityAddrVec::decode(reader)?;
    if addrs.is_empty() {
        Err(Malformed::Empty {
            what: "own addresses",
        })
    } else {
        Ok(addrs)
    }
}

/// Acceptor: the session is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdent {
    /// The acceptor's addresses.
    pub addrs: EntityAddrVec,
    /// The number in the acceptor's name.
    pub gid: i64,
    /// The acceptor's place in its sequence of connections.
    pub global_seq: u64,
    /// Features offered.
    pub supported: Features,
    /// Features insisted on.
    pub required: Features,
    /// See [`ident_flags`].
    pub flags: u64,
    /// The acceptor's name for the session; 0 if lossy.
    pub cookie: u64,
}

impl Control for ServerIdent {
    const TAG: Tag = Tag::ServerIdent;

    fn encode(&self, out: &mut BytesMut) {
        self.addrs.encode(out);
        out.put_i64_le(self.gid);
        out.put_u64_le(self.global_seq);
        out.put_u64_le(self.supported.0);
        out.put_u64_le(self.required.0);
        out.put_u64_le(self.flags);
        out.put_u64_le(self.cookie);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            addrs: EntityAddrVec::decode(reader)?,
            gid: reader.i64("gid")?,
            global_seq: reader.u64("global sequence")?,
            supported: Features(reader.u64("supported features")?),
            required: Features(reader.u64("required features")?),
            flags: reader.u64("flags")?,
            cookie: reader.u64("cookie")?,
        })
    }
}

/// Connector: resume a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReconnect {
    /// The connector's addresses; never empty.
    pub addrs: EntityAddrVec,
    /// The cookie of the session's client.
    pub client_cookie: u64,
    /// The cookie of the session's server.
    pub server_cookie: u64,
    /// The connector's place in its sequence of connections.
    pub global_seq: u64,
    /// How often this session was connected.
    pub connect_seq: u64,
    /// The last message that the connector received.
    pub msg_seq: u64,
}

impl Control for SessionReconnect {
    const TAG: Tag = Tag::SessionReconnect;

    fn encode(&self, out: &mut BytesMut) {
        self.addrs.encode(out);
        out.put_u64_le(self.client_cookie);
        out.put_u64_le(self.server_cookie);
        out.put_u64_le(self.global_seq);
        out.put_u64_le(self.connect_seq);
        out.put_u64_le(self.msg_seq);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let reader = &mut Reader::new(payload);
        Ok(Self {
            addrs: own_addrs(reader)?,
            client_cookie: reader.u64("client cookie")?,
            server_cookie: reader.u64("server cookie")?,
            global_seq: reader.u64("global sequence")?,
            connect_seq: reader.u64("connect sequence")?,
            msg_seq: reader.u64("message sequence")?,
        })
    }
}

/// Acceptor: I do not know that session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionReset {
    /// Whether messages queued for it must be dropped too.
    pub full: bool,
}

impl Control for SessionReset {
    const TAG: Tag = Tag::SessionReset;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.full.into());
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            full: Reader::new(payload).u8("full reset")? != 0,
        })
    }
}

macro_rules! sequence_frames {
    ($($(#[$doc:meta])* $name:ident { $(#[$field_doc:meta])* $field:ident },)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $name {
                $(#[$field_doc])*
                pub $field: u64,
            }

            impl Control for $name {
                const TAG: Tag = Tag::$name;

                fn encode(&self, out: &mut BytesMut) {
                    out.put_u64_le(self.$field);
                }

                fn decode(payload: &[u8]) -> Result<Self, Malformed> {
                    Ok(Self { $field: Reader::new(payload).u64(stringify!($field))? })
                }
            }
        )*
    };
}

sequence_frames! {
    /// Acceptor: the session has been connected more often than you say.
    SessionRetry {
        /// How often.
        connect_seq
    },
    /// Acceptor: a later connection of yours came first.
    SessionRetryGlobal {
        /// That connection's place.
        global_seq
    },
    /// Acceptor: the session goes on.
    SessionReconnectOk {
        /// The last message that the acceptor received.
        msg_seq
    },
}

/// Acceptor: I need features that you do not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentMissingFeatures {
    /// Those that are missing.
    pub features: Features,
}

impl Control for IdentMissingFeatures {
    const TAG: Tag = Tag::IdentMissingFeatures;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.features.0);
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            features: Features(Reader::new(payload).u64("missing features")?),
        })
    }
}

/// Acceptor: a connection of mine to you is under way; wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait;

impl Control for Wait {
    const TAG: Tag = Tag::Wait;

    fn encode(&self, _: &mut BytesMut) {}

    fn decode(_: &[u8]) -> Result<Self, Malformed> {
        Ok(Self)
    }
}
