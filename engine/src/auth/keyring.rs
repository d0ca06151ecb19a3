//! The keys in force, which shards read while the control thread replaces them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::key::{Algorithm, Key};
use super::refused::Refused;

/// All keys at one time.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    pub(super) keys: Vec<Arc<Key>>,
    /// Whether a set of keys was never there yet.
    pub(super) awaited: bool,
}

impl Keyring {
    /// The one key that may have signed a token: that of the name in its header, or else the only one without a name that permits the
    /// algorithm, or, for a token that names none, the only one of all. So a token costs the check of one signature.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Refused> {
        let all = || self.keys.iter().map(Arc::as_ref);
        let named = || all().filter(|key| id.is_some() && key.id.as_deref() == id);
        if let Some(key) = named().find(|key| key.algorithm() == algorithm) {
            return Ok(key);
        }
        if named().next().is_some() {
            return Err(Refused::AlgorithmNotPermitted);
        }
        let mut candidates = all()
            .filter(|key| id.is_none() || key.id.is_none())
            .filter(|key| key.algorithm() == algorithm);
        let names_say_nothing = || id.is_none() || all().all(|key| key.id.is_none());
        match (candidates.next(), candidates.next()) {
            (Some(key), None) => Ok(key),
            _ if self.awaited => Err(Refused::NoKeys),
            (None, _) if !self.keys.is_empty() && names_say_nothing() => {
                Err(Refused::AlgorithmNotPermitted)
            }
            _ => Err(Refused::UnknownKey),
        }
    }
}

/// The keyring in force. Readers neither lock nor wait.
#[derive(Debug, Default)]
pub(super) struct Keys {
    ring: ArcSwap<Keyring>,
    /// Whether a token has named a key that is not there.
    missed: AtomicBool,
}

impl Keys {
    pub(super) fn current(&self) -> Guard<Arc<Keyring>> {
        self.ring.load()
    }

    pub(super) fn replace(&self, ring: Keyring) {
        self.ring.store(Arc::new(ring));
    }

    /// The control thread may want to look for new keys.
    pub(super) fn note_missed(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }
}
