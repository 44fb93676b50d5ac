//! [`Capture`]: writes frames to a file that every packet analyser reads, pcap-savefile(5).

use std::io::{self, Write};
use std::time::Instant;

/// What a file with times in microseconds begins with.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
const LINKTYPE_ETHERNET: u32 = 1;
/// The most bytes that are kept of a frame.
const SNAP_LEN: usize = 65535;

pub(super) struct Capture {
    to: Box<dyn Write + Send>,
    /// When the first frame was sent. Times count from there: nobody tells what time of day it is.
    start: Option<Instant>,
    failed: io::Result<()>,
}

impl Capture {
    pub(super) fn start(mut to: Box<dyn Write + Send>) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC.to_le_bytes());
        header.extend(VERSION.into_iter().flat_map(u16::to_le_bytes));
        header.extend([0; 8]);
        header.extend((SNAP_LEN as u32).to_le_bytes());
        header.extend(LINKTYPE_ETHERNET.to_le_bytes());
        to.write_all(&header)?;
        Ok(Self {
            to,
            start: None,
            failed: Ok(()),
        })
    }

    /// Adds a frame, unless something has gone wrong before.
    pub(super) fn record(&mut self, now: Instant, frame: &[u8]) {
        if self.failed.is_ok() {
            self.failed = self.write(now, frame);
        }
    }

    fn write(&mut self, now: Instant, frame: &[u8]) -> io::Result<()> {
        let time = now.saturating_duration_since(*self.start.get_or_insert(now));
        let kept = &frame[..frame.len().min(SNAP_LEN)];
        let mut header = [0; 16];
        let fields = [
            time.as_secs() as u32,
            time.subsec_micros(),
            kept.len() as u32,
            frame.len() as u32,
        ];
        for (bytes, field) in header.chunks_exact_mut(4).zip(fields) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        self.to.write_all(&header)?;
        self.to.write_all(kept)
    }

    /// Ends the file. Returns the first error that there was.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.failed.and_then(|()| self.to.flush())
    }
}
