//! [`State`]: how far a connection has come, and which frames may come next.
//!
//! ```text
//!   connector                                        acceptor
//!   BANNER_CONNECTING   ── banner ──▶ ◀── banner ──   BANNER_ACCEPTING
//!   HELLO_CONNECTING    ── HELLO ───▶ ◀── HELLO ───   HELLO_ACCEPTING
//!   AUTH_CONNECTING     ── AUTH_REQUEST ──────────▶   AUTH_ACCEPTING
//!                       ◀─ AUTH_BAD_METHOD, or ────
//!                       ◀──────────── AUTH_DONE ───
//!   SIGN_CONNECTING     ── AUTH_SIGNATURE, both ───   SIGN_ACCEPTING
//!   SESSION_CONNECTING  ── CLIENT_IDENT ──────────▶   SESSION_ACCEPTING
//!                       ◀── SERVER_IDENT ──────────
//!   READY               ── MESSAGE, ACK, KEEPALIVE2 ─ READY
//! ```
//!
//! Source: msgr2 specification, "Message flow"; the states are those of Ceph's
//! `src/msg/async/ProtocolV2.h`.

use std::fmt;

use crate::wire::Tag;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // The names are the protocol's own.
pub enum State {
    BannerConnecting,
    HelloConnecting,
    AuthConnecting,
    SignConnecting,
    SessionConnecting,
    BannerAccepting,
    HelloAccepting,
    AuthAccepting,
    SignAccepting,
    SessionAccepting,
    Ready,
    Closed,
}

impl State {
    /// Every state, in the order of the picture above.
    pub const ALL: [Self; 12] = [
        Self::BannerConnecting,
        Self::HelloConnecting,
        Self::AuthConnecting,
        Self::SignConnecting,
        Self::SessionConnecting,
        Self::BannerAccepting,
        Self::HelloAccepting,
        Self::AuthAccepting,
        Self::SignAccepting,
        Self::SessionAccepting,
        Self::Ready,
        Self::Closed,
    ];

    /// The frames that are legal in this state. Any other ends the connection.
    pub const fn expects(self) -> &'static [Tag] {
        match self {
            Self::BannerConnecting | Self::BannerAccepting | Self::Closed => &[],
            Self::HelloConnecting | Self::HelloAccepting => &[Tag::Hello],
            Self::AuthConnecting => &[Tag::AuthBadMethod, Tag::AuthDone],
            Self::AuthAccepting => &[Tag::AuthRequest],
            Self::SignConnecting | Self::SignAccepting => &[Tag::AuthSignature],
            Self::SessionConnecting => &[Tag::ServerIdent, Tag::IdentMissingFeatures],
            Self::SessionAccepting => &[Tag::ClientIdent, Tag::SessionReconnect],
            Self::Ready => &[Tag::Message, Tag::Ack, Tag::Keepalive2, Tag::Keepalive2Ack],
        }
    }

    /// The name as Ceph logs it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BannerConnecting => "BANNER_CONNECTING",
            Self::HelloConnecting => "HELLO_CONNECTING",
            Self::AuthConnecting => "AUTH_CONNECTING",
            Self::SignConnecting => "AUTH_CONNECTING_SIGN",
            Self::SessionConnecting => "SESSION_CONNECTING",
            Self::BannerAccepting => "BANNER_ACCEPTING",
            Self::HelloAccepting => "HELLO_ACCEPTING",
            Self::AuthAccepting => "AUTH_ACCEPTING",
            Self::SignAccepting => "AUTH_ACCEPTING_SIGN",
            Self::SessionAccepting => "SESSION_ACCEPTING",
            Self::Ready => "READY",
            Self::Closed => "CLOSED",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
