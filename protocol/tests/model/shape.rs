//! [`Key`]: what a world is known by. Two worlds of one key behave alike.
//!
//! A key is a hash of texts whose tokens are renamed: of places in a messenger's sequence only the
//! order counts, of cookies and streams only which are the same. So they are numbered anew, by
//! their order or by when they come up first, and histories of different lengths that lead to the
//! same situation are one.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Tokens are the numbers from here on; nothing else in a text is that large and this small.
const TOKENS: u64 = 1_000_000;
const BEHIND_TOKENS: u64 = 7_000_000;

/// The place before the first in the sequence of a node.
pub(crate) const fn first_place(node: usize) -> u64 {
    TOKENS * (node as u64 + 1)
}

/// The cookie that goes with a place.
pub(crate) const fn cookie(place: u64) -> u64 {
    place + 3 * TOKENS
}

/// The number before the first stream's.
pub(crate) const FIRST_STREAM: u64 = 6 * TOKENS;

/// 128 bits: that two of some hundred million are the same by chance is as likely as an error of
/// the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64, u64);

fn hash(value: &impl Hash) -> Key {
    let [low, high] = [0u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        value.hash(&mut hasher);
        hasher.finish()
    });
    Key(low, high)
}

/// A text without its tokens, and the tokens.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    rest: Key,
    tokens: Vec<u64>,
}

impl Shape {
    pub(crate) fn new(text: &str) -> Self {
        let (mut rest, mut tokens) = (Vec::with_capacity(text.len()), Vec::new());
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit());
            let len = digits.count();
            let number = text[at..at + len].parse().unwrap_or(0);
            if (TOKENS..BEHIND_TOKENS).contains(&number) {
                tokens.push(number);
                rest.push(0);
                at += len;
            } else {
                rest.extend_from_slice(&bytes[at..at + len.max(1)]);
                at += len.max(1);
            }
        }
        let rest = hash(&rest);
        Self { rest, tokens }
    }
}

/// Collects what makes up a world.
#[derive(Debug, Default)]
pub(crate) struct KeyMaker {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, Hash)]
enum Part {
    Plain(u64),
    Shape(Key),
    Token(u64),
}

impl KeyMaker {
    pub(crate) fn plain(&mut self, number: impl Into<u64>) {
        self.parts.push(Part::Plain(number.into()));
    }

    pub(crate) fn token(&mut self, token: u64) {
        self.parts.push(Part::Token(token));
    }

    pub(crate) fn shape(&mut self, shape: &Shape) {
        self.parts.push(Part::Shape(shape.rest));
        let tokens = shape.tokens.iter().copied();
        self.parts.extend(tokens.map(Part::Token));
    }

    pub(crate) fn finish(mut self) -> Key {
        let is_place = |token: u64| token < first_place(2);
        let (mut places, mut names) = (Vec::new(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Token(token) if is_place(*token) => places.push(*token),
                Part::Token(token) if !names.contains(token) => names.push(*token),
                _ => {}
            }
        }
        places.sort_unstable();
        places.dedup();
        for part in &mut self.parts {
            if let Part::Token(token) = part {
                let among = if is_place(*token) { &places } else { &names };
                let at = among.iter().position(|one| one == token).unwrap_or(0);
                *token = at as u64;
            }
        }
        hash(&self.parts)
    }
}
