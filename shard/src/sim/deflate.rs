//! permessage-deflate as a client has it (RFC 7692), written apart from the engine's own on purpose.

use std::fmt;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

/// Bytes that every message lacks at its end (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Bytes that one message may inflate to before the simulation takes it for endless.
const INFLATED_MAX: usize = 1 << 26;

/// Both windows of a client, as its server has answered.
pub(super) struct SimDeflate {
    compressor: Deflate,
    decompressor: Inflate,
    /// The client's window ends with each message.
    client_forgets: bool,
    /// The server's window ends with each message.
    server_forgets: bool,
}

impl fmt::Debug for SimDeflate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimDeflate").finish_non_exhaustive()
    }
}

impl SimDeflate {
    /// What the server's `Sec-WebSocket-Extensions` says.
    ///
    /// # Errors
    /// A part of it that no client asked for, or that does not exist.
    pub(super) fn from_answer(answer: &str) -> Result<Self, String> {
        let mut parts = answer.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return Err(format!("an extension that nobody offered: {answer}"));
        }
        let (mut client_bits, mut server_bits) = (15, 15);
        let (mut client_forgets, mut server_forgets) = (false, false);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bits = || match value.parse() {
                Ok(bits @ 8..=15) => Ok(bits),
                _ => Err(format!("a window of {value:?} bits")),
            };
            match name {
                "client_no_context_takeover" => client_forgets = true,
                "server_no_context_takeover" => server_forgets = true,
                "client_max_window_bits" => client_bits = bits()?,
                "server_max_window_bits" => server_bits = bits()?,
                _ => return Err(format!("an unknown parameter: {part}")),
            }
        }
        // A raw stream with the smallest window cannot be written by zlib, which does no harm in what a client reads.
        let compressor = Deflate::new(1, false, client_bits.max(9));
        let decompressor = Inflate::new(false, server_bits);
        Ok(Self {
            compressor,
            decompressor,
            client_forgets,
            server_forgets,
        })
    }

    /// A message's payload as it goes out.
    pub(super) fn deflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let before = self.compressor.total_out();
        let mut out = vec![0; 2 * payload.len() + 64];
        self.compressor
            .compress(payload, &mut out, DeflateFlush::SyncFlush)
            .map_err(|error| format!("a message that does not deflate: {error:?}"))?;
        out.truncate((self.compressor.total_out() - before) as usize);
        if self.client_forgets {
            self.compressor.reset();
        }
        out.strip_suffix(&TAIL)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| "a flushed stream without its tail".to_owned())
    }

    /// The payload that a server's message carries.
    ///
    /// # Errors
    /// It is no deflate stream, or it ends nowhere.
    pub(super) fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let bytes = [payload, &TAIL].concat();
        let (mut taken, mut filled) = (0, 0);
        let mut out = vec![0; 4 * bytes.len()];
        loop {
            let before = (self.decompressor.total_in(), self.decompressor.total_out());
            let status = self
                .decompressor
                .decompress(&bytes[taken..], &mut out[filled..], InflateFlush::SyncFlush)
                .map_err(|error| format!("a message that does not inflate: {error:?}"))?;
            taken += (self.decompressor.total_in() - before.0) as usize;
            filled += (self.decompressor.total_out() - before.1) as usize;
            if status == Status::StreamEnd {
                return Err("a final block, which this server has no reason to send".to_owned());
            }
            if filled < out.len() {
                break;
            }
            if filled > INFLATED_MAX {
                return Err("a message that inflates without end".to_owned());
            }
            out.resize(2 * filled, 0);
        }
        if taken < bytes.len() {
            return Err("a message that ends before its bytes do".to_owned());
        }
        if self.server_forgets {
            self.decompressor.reset(false);
        }
        out.truncate(filled);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_a_client_must_not_accept() {
        for answer in [
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; fast",
        ] {
            assert!(SimDeflate::from_answer(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // Section 7.2.3.1, and the same message again with the window kept, section 7.2.3.2.
        let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let mut keeps =
            SimDeflate::from_answer("permessage-deflate").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(keeps.inflate(&first), Ok(b"Hello".to_vec()));
        assert_eq!(keeps.inflate(&again), Ok(b"Hello".to_vec()));
        let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let mut forgets = SimDeflate::from_answer(answer).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(forgets.inflate(&first), Ok(b"Hello".to_vec()));
        assert!(forgets.inflate(&again).is_err());
        assert_eq!(forgets.deflate(b"Hello"), forgets.deflate(b"Hello"));
    }

    #[test]
    fn what_is_deflated_is_inflated() {
        for answer in [
            "permessage-deflate",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
        ] {
            let mut deflate =
                SimDeflate::from_answer(answer).unwrap_or_else(|error| panic!("{error}"));
            for length in [0, 1, 1000, 100_000] {
                let payload: Vec<u8> = (0..length).map(|index: u32| (index % 251) as u8).collect();
                let deflated = deflate
                    .deflate(&payload)
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(deflate.inflate(&deflated), Ok(payload), "{length}");
            }
        }
    }
}
