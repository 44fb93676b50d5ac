//! [`Window`]: messages of one length in a fixed buffer, on their way into or out of a socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Small messages share a buffer of this many bytes, which stays in the cache.
const SMALL: usize = 256 << 10;

/// Messages of one length, filled in at one end and taken out at the other. No message wraps, as
/// the buffer holds a whole number of them. A message begins with its tid.
#[derive(Debug)]
pub(super) struct Window {
    buffer: Vec<u8>,
    message: usize,
    /// Bytes filled in and taken out; a message begins at each multiple of its length.
    filled: usize,
    taken: usize,
}

impl Window {
    pub(super) fn new(message: usize) -> Self {
        let count = (SMALL / message).max(1);
        Self {
            buffer: vec![0xa5; count * message],
            message,
            filled: 0,
            taken: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.filled == self.taken
    }

    /// Whether there is something to send.
    pub(super) fn is_due(&self) -> bool {
        self.complete() > self.taken
    }

    /// Where the last complete message ends.
    fn complete(&self) -> usize {
        self.filled - self.filled % self.message
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled - self.taken == self.buffer.len()
    }

    /// Reads once, as much as there is room for in one run. 0: nothing is there, or no room.
    pub(super) fn receive(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        let at = self.filled % self.buffer.len();
        let room = self.buffer.len() - (self.filled - self.taken);
        let run = room.min(self.buffer.len() - at);
        if run == 0 {
            return Ok(0);
        }
        let received = match socket.read(&mut self.buffer[at..at + run]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            outcome => or_none(outcome)?,
        };
        self.filled += received;
        Ok(received)
    }

    /// Writes once, as much as is there of complete messages in one run. 0: nothing goes out now.
    pub(super) fn send(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        let at = self.taken % self.buffer.len();
        let run = (self.complete() - self.taken).min(self.buffer.len() - at);
        if run == 0 {
            return Ok(0);
        }
        let sent = or_none(socket.write(&self.buffer[at..at + run]))?;
        self.take(sent);
        Ok(sent)
    }

    /// Fills in a message. Returns whether there was room.
    pub(super) fn push(&mut self, tid: u64) -> bool {
        if self.buffer.len() - (self.filled - self.taken) < self.message {
            return false;
        }
        let at = self.filled % self.buffer.len();
        self.buffer[at..at + 8].copy_from_slice(&tid.to_le_bytes());
        self.filled += self.message;
        true
    }

    /// Takes out a complete message and returns its tid.
    pub(super) fn pop(&mut self) -> Option<u64> {
        if self.filled - self.taken < self.message {
            return None;
        }
        let at = self.taken % self.buffer.len();
        let mut tid = [0; 8];
        tid.copy_from_slice(&self.buffer[at..at + 8]);
        self.take(self.message);
        Some(u64::from_le_bytes(tid))
    }

    fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        // An empty buffer is used from its start again: longer runs, and the same cache lines.
        if self.is_empty() {
            (self.filled, self.taken) = (0, 0);
        }
    }
}

/// Not now is no error.
fn or_none(outcome: io::Result<usize>) -> io::Result<usize> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_across_the_end_of_the_buffer() {
        let mut window = Window::new(100 << 10);
        let (mut pushed, mut popped) = (0, 0);
        for _ in 0..10 {
            while window.push(pushed) {
                pushed += 1;
            }
            assert!(window.is_full());
            assert_eq!(window.pop(), Some(popped));
            popped += 1;
            assert!(window.is_due() && !window.is_full());
        }
        while let Some(tid) = window.pop() {
            assert_eq!(tid, popped);
            popped += 1;
        }
        assert_eq!((popped, window.is_due()), (pushed, false));
    }

    #[test]
    fn a_message_that_does_not_fit_often_has_a_buffer_of_its_own() {
        let mut window = Window::new(1 << 20);
        assert!(window.push(7) && window.is_full() && !window.push(8));
        assert_eq!(window.pop(), Some(7));
    }
}
