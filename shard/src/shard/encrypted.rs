//! Connections over TLS: what arrives is decrypted before anything else looks at it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Core;
use crate::app::App;
use crate::close_reason::CloseReason;
use crate::connection::State;
use crate::driver::ConnectionKey;
use crate::tls::{Established, Heard, TlsError};
use crate::ws::{Refusal, RefusalStatus};

/// Bytes that the buffer for decrypted bytes keeps: what one receive brings, unless somebody has raised `receive_buffer_bytes`.
const SPARE_PLAIN_BYTES_MAX: usize = 64 << 10;

impl<A: App> Core<A> {
    /// Bytes of a connection arrived, as they came from the network.
    pub(super) fn received_records(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let mut plain = std::mem::take(&mut self.plain);
        let decodes = self.table.state(key).decodes();
        if let Some(session) = self.table.tls(key).filter(|_| decodes) {
            let heard = catch_unwind(AssertUnwindSafe(|| session.receive(bytes, &mut plain)));
            if session.has_outgoing() {
                self.table.mark_dirty(key);
            }
            if !plain.is_empty() {
                self.received(key, &mut plain);
            }
            match heard {
                Ok(Ok(heard)) => self.heard_tls(key, heard),
                Ok(Err(error)) => self.tls_failed(key, &error),
                // Nothing that could be said would be understood.
                Err(_) => {
                    self.stats.close_panic.add(1);
                    self.terminate(key, CloseReason::Panic);
                }
            }
        }
        plain.clear();
        plain.shrink_to(SPARE_PLAIN_BYTES_MAX);
        self.plain = plain;
    }

    fn heard_tls(&mut self, key: ConnectionKey, heard: Heard) {
        match heard.established {
            Some(Established::Full) => self.stats.tls_handshakes_full.add(1),
            Some(Established::Resumed) => self.stats.tls_handshakes_resumed.add(1),
            None => {}
        }
        if heard.peer_closed {
            self.peer_ended(key);
            self.table.mark_dirty(key);
        }
    }

    /// The connection ends; the peer is told why as far as TLS has words for it.
    pub(super) fn tls_failed(&mut self, key: ConnectionKey, error: &TlsError) {
        self.stats.tls_errors.add(1);
        tracing::debug!(shard = self.id, slot = key.slot, %error, "a connection over TLS failed");
        if *error == TlsError::NotTls
            && let Some(session) = self.table.tls(key)
        {
            let refusal = Refusal::new(
                RefusalStatus::BadRequest,
                "this port speaks TLS: connect with wss://",
            );
            session.answer_plainly(&refusal.response());
        }
        self.table.clear_waiting(key);
        // Nothing but the alert can be said any more, so no close frame either.
        self.retire(key, CloseReason::Tls);
        self.await_close(key, State::Finishing);
        self.work_off();
    }
}
