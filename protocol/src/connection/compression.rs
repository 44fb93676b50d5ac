//! Agreeing on compression, behind the signatures, on streams whose banners both offer it.
//!
//! Source: msgr2 specification, "On-wire compression"; `handle_compression_request` and
//! `handle_compression_done` in Ceph's `src/msg/async/ProtocolV2.cc`. The acceptor takes the first
//! of the connector's algorithms that it has, as the code does, whatever the specification says.

use super::{Connection, State};
use crate::compression::Algorithm;
use crate::error::PeerMisbehaved;
use crate::frame::FrameCompressor;
use crate::wire::{CompressionDone, CompressionRequest, Mode};

impl Connection {
    /// The algorithms for this peer, the preferred one first; none if nothing is compressed.
    fn algorithms(&self) -> &[Algorithm] {
        let config = &self.config.compression;
        match self.peer.kind {
            Some(kind) if config.under_secure || self.peer.mode != Some(Mode::Secure) => {
                config.algorithms.of(kind)
            }
            _ => &[],
        }
    }

    /// Connector: asks, even if only to say that we do not want to.
    pub(super) fn request_compression(&mut self) {
        let algorithms = self.algorithms();
        let request = CompressionRequest {
            is_compress: !algorithms.is_empty(),
            preferred_methods: algorithms.iter().map(|known| *known as u32).collect(),
        };
        self.control(&request);
        self.stream.state = State::CompressionConnecting;
    }

    /// Connector: the acceptor's answer. Ends of different minds do not compress.
    pub(super) fn compression_done(&mut self, done: CompressionDone) -> Result<(), PeerMisbehaved> {
        let ours = self.algorithms();
        if done.is_compress && !ours.is_empty() {
            let chosen = Algorithm::from_id(done.method).filter(|known| ours.contains(known));
            let chosen = chosen.ok_or(PeerMisbehaved::UnofferedCompression(done.method))?;
            self.compress(chosen);
        }
        Ok(())
    }

    /// Acceptor: answers, even if nobody wants to.
    pub(super) fn compression_request(&mut self, request: &CompressionRequest) {
        let ours = self.algorithms();
        let theirs = request.preferred_methods.iter();
        let chosen = theirs
            .filter_map(|id| Algorithm::from_id(*id))
            .find(|known| request.is_compress && ours.contains(known));
        self.control(&CompressionDone {
            is_compress: chosen.is_some(),
            method: chosen.map_or(Algorithm::NONE, |chosen| chosen as u32),
        });
        if let Some(chosen) = chosen {
            self.compress(chosen);
        }
        self.stream.state = State::SessionAccepting;
    }

    /// From the next frame on, either way.
    fn compress(&mut self, algorithm: Algorithm) {
        let min_size = self.config.compression.min_size;
        let compressor = FrameCompressor::new(algorithm, min_size);
        self.stream.assembler.compress(compressor);
        self.stream.reader.decompress(algorithm);
        self.peer.compression = Some(algorithm);
    }
}
