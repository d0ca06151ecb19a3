//! TLS between the ring and what connections say: a session each, by slot.

use std::sync::Arc;

use bytes::Bytes;
use shardcast_shard::driver::{BufferId, Driver};
use shardcast_shard::tls::{ClientSession, TlsError};

use super::super::books::Books;
use super::super::client::Phase;
use super::Worker;
use crate::tls::{TlsClient, reason};

/// The sessions of one thread.
pub(super) struct Sessions {
    client: Arc<TlsClient>,
    /// Beside the clients, which stay as small as they are where there is no TLS.
    sessions: Vec<Option<Box<ClientSession>>>,
    /// What was decrypted last: no more than one receive brings, and the record that it ends.
    plain: Vec<u8>,
}

impl Sessions {
    pub(super) const fn new(client: Arc<TlsClient>) -> Self {
        Self {
            client,
            sessions: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// There are so many more clients.
    pub(super) fn extend(&mut self, count: usize) {
        self.sessions.reserve_exact(count);
        self.sessions
            .resize_with(self.sessions.len() + count, || None);
    }

    /// What was decrypted last.
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain
    }

    fn open(&mut self, index: u32) -> Result<(), TlsError> {
        self.sessions[index as usize] = Some(Box::new(self.client.session()?));
        Ok(())
    }

    pub(super) fn close(&mut self, index: u32) {
        self.sessions[index as usize] = None;
    }

    /// What the next send of a connection carries: what TLS itself has to say, and behind it what is to be said. Records are numbered as they are
    /// made, so they are made when they are sent, and one send of a connection is under way at a time.
    ///
    /// # Errors
    /// Nothing can be encrypted.
    pub(super) fn records(
        &mut self,
        index: u32,
        plain: Option<Bytes>,
    ) -> Result<Option<Bytes>, TlsError> {
        let session = self.sessions[index as usize].as_mut();
        match (session, plain) {
            (Some(session), Some(plain)) => session.seal(&plain).map(Some),
            (Some(session), None) => Ok(session.has_outgoing().then(|| session.take_outgoing())),
            (None, Some(_)) => Err(TlsError::NoKeys),
            (None, None) => Ok(None),
        }
    }
}

impl Worker {
    /// Begins the handshake of TLS on a connection that has just been made.
    pub(super) fn secure(&mut self, index: u32, now_ns: u64, books: &mut Books) {
        let Some(tls) = &mut self.tls else {
            return;
        };
        self.clients[index as usize].phase = Phase::Securing;
        match tls.open(index) {
            Ok(()) => self.send_own(index),
            Err(error) => self.gone(index, &reason(&error), now_ns, books),
        }
    }

    /// Decrypts what has arrived, and goes on with the handshake. Answers why the connection is of no use any more after what was decrypted.
    pub(super) fn decrypt(
        &mut self,
        index: u32,
        buffer: BufferId,
        length: usize,
    ) -> Option<String> {
        let tls = self.tls.as_mut()?;
        tls.plain.clear();
        let client = &self.clients[index as usize];
        if matches!(client.phase, Phase::Free | Phase::Ending | Phase::Closing) {
            return None;
        }
        let session = tls.sessions[index as usize].as_mut()?;
        let bytes = self.driver.buffer(buffer, length);
        let heard = match session.receive(bytes, &mut tls.plain) {
            Ok(heard) => heard,
            Err(error) => return Some(reason(&error)),
        };
        if heard.established.is_some() {
            tls.client.note_agreed(session);
            self.request(index);
        }
        self.send_own(index);
        heard
            .peer_closed
            .then(|| "the server ended the stream".to_owned())
    }

    /// Sends what TLS itself has to say, unless something is being sent, behind which it leaves.
    fn send_own(&mut self, index: u32) {
        let Some(tls) = &mut self.tls else {
            return;
        };
        if self.clients[index as usize].outgoing.is_none()
            && let Ok(Some(own)) = tls.records(index, None)
        {
            self.transmit(index, own);
        }
    }
}
