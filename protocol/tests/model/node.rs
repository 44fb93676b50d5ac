//! [`Node`] and [`Entry`]: what a messenger keeps about its one peer.

use std::sync::Arc;

use msgr_protocol::{Connection, State};

use crate::shape::Shape;

/// A messenger and its application.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The last place given out in its sequence of connections.
    pub(crate) place: u64,
    /// Its connections; a hole only while a step is under way.
    pub(crate) entries: Vec<Option<Arc<Entry>>>,
    /// Whether the application has asked for a connection.
    pub(crate) asked: bool,
    /// How many messages the application has sent, numbered from 1.
    pub(crate) sent: u8,
    /// How many it has received, in order.
    pub(crate) received: u8,
}

impl Node {
    pub(crate) fn new(place: u64) -> Self {
        Self {
            place,
            entries: Vec::new(),
            asked: false,
            sent: 0,
            received: 0,
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten().map(Arc::as_ref)
    }

    fn find(&self, which: impl Fn(&Entry) -> bool) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.as_deref().is_some_and(&which))
    }

    /// The connection that is found by the peer's address.
    pub(crate) fn registered(&self) -> Option<usize> {
        self.find(|entry| entry.registered)
    }

    /// The connection that uses a stream.
    pub(crate) fn using(&self, stream: u64) -> Option<usize> {
        self.find(|entry| entry.stream == Some(stream))
    }

    /// The session that waits before it connects again.
    pub(crate) fn waiting(&self) -> Option<usize> {
        let waits = |state| matches!(state, State::StartConnect | State::Wait);
        self.find(|entry| entry.registered && waits(entry.protocol.state()))
    }
}

/// A connection of a messenger's: what `Entry` and `Wire` are to a reactor.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) protocol: Connection,
    pub(crate) stream: Option<u64>,
    /// Whether the stream is up.
    pub(crate) up: bool,
    /// Whether it is found by the peer's address: we opened it, or it was ready once.
    pub(crate) registered: bool,
    /// Made when a step ends.
    pub(crate) shape: Option<Shape>,
}

impl Entry {
    pub(crate) fn new(protocol: Connection, registered: bool) -> Self {
        Self {
            protocol,
            stream: None,
            up: false,
            registered,
            shape: None,
        }
    }

    pub(crate) fn make_shape(&mut self) {
        let Self {
            stream,
            up,
            registered,
            ..
        } = &self;
        let text = format!("{} {stream:?} {up} {registered}", self.connection_text());
        self.shape = Some(Shape::new(&text));
    }

    /// All that the connection consists of, without what can no longer have any effect: it would
    /// only tell apart worlds that behave alike. Fields that this function does not know are in.
    fn connection_text(&self) -> String {
        let connection = &self.protocol;
        let attached = self.stream.is_some();
        let ready = connection.state() == State::Ready;
        assert!(
            !(self.up && connection.is_mid_frame()),
            "the reader is left out, for it is between frames"
        );
        let mut out = String::new();
        for (name, value) in fields(&format!("{connection:?}")) {
            let dead = |field: &str| match (name, field) {
                // Each node has one place to connect from, and there is one mode.
                ("peer", "socket" | "mode") | ("stream", "local" | "reader" | "laid_out") => true,
                // The next stream is a new one.
                ("stream", field) if !attached => field != "state",
                // Of use until the session is open or asked for.
                ("stream", "opening") | ("session", "global_seq") => ready || !attached,
                // Set when the next stream resumes or opens the session.
                ("messages", "transmitted" | "told_seq") => !ready,
                _ => false,
            };
            match name {
                "config" => {}
                "peer" | "stream" | "session" | "messages" => {
                    for (field, value) in fields(value).filter(|(field, _)| !dead(field)) {
                        put(&mut out, field, value);
                    }
                }
                _ => put(&mut out, name, value),
            }
        }
        out
    }
}

/// Appends a field, without what is set again when a message is sent again.
fn put(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    for part in value.split("ack_seq: ") {
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
}

/// The fields of a struct in its debug form.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let inside = text
        .split_once(" { ")
        .and_then(|(_, rest)| rest.strip_suffix(" }"))
        .unwrap_or_else(|| panic!("not a struct: {text}"));
    let mut rest = inside;
    std::iter::from_fn(move || {
        let (name, behind) = rest.split_once(": ")?;
        let (mut depth, mut quoted, mut escaped) = (0, false, false);
        let end = behind.bytes().position(|byte| {
            match byte {
                b'"' if !escaped => quoted = !quoted,
                b'{' | b'[' | b'(' if !quoted => depth += 1,
                b'}' | b']' | b')' if !quoted => depth -= 1,
                _ => {}
            }
            escaped = byte == b'\\' && !escaped;
            depth == 0 && !quoted && byte == b','
        });
        let (value, next) = behind.split_at(end.unwrap_or(behind.len()));
        rest = next.strip_prefix(", ").unwrap_or_default();
        Some((name, value))
    })
}
