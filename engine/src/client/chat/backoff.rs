//! When to connect again.

use fastrand::Rng;

/// The longest first pause. It doubles with each attempt in vain.
const PAUSE_MS: u64 = 500;

/// The longest pause of all.
const PAUSE_MS_MAX: u64 = 30_000;

/// The longest pause that a server may ask for.
const ASKED_MS_MAX: u64 = 120_000;

/// How a connection ended, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The handshake was answered with another status.
    Refused {
        /// Which.
        status: u16,
        /// When to come again, in seconds.
        retry_after_s: Option<u64>,
        /// What the server says.
        detail: String,
    },
    /// The server has closed it.
    Closed {
        /// With this code.
        code: u16,
        /// And this reason.
        reason: String,
    },
    /// It broke, or nobody was there.
    Lost(String),
}

impl End {
    /// What happened, in a few words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Refused { status, detail, .. } if detail.is_empty() => {
                format!("refused with {status}")
            }
            Self::Refused { status, detail, .. } => format!("refused with {status}: {detail}"),
            Self::Closed { code, reason } if reason.is_empty() => format!("closed with {code}"),
            Self::Closed { code, reason } => format!("closed with {code}: {reason}"),
            Self::Lost(why) => why.clone(),
        }
    }

    /// Whether it would be the same again.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused { status, .. } => !matches!(status, 408 | 429 | 500..=599),
            Self::Closed { code, .. } => matches!(code, 4403 | 4429),
            Self::Lost(_) => false,
        }
    }

    /// Whether the server wants a token, or another one.
    #[must_use]
    pub const fn wants_token(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 401, .. } | Self::Closed { code: 4401, .. }
        )
    }

    /// Whether the server could not bear what it was sent last.
    #[must_use]
    pub const fn blames_message(&self) -> bool {
        matches!(
            self,
            Self::Closed {
                code: 1002 | 1003 | 1007 | 1009,
                ..
            }
        )
    }

    /// The pause that the server asks for: in the reason of a close frame, or by `Retry-After`.
    fn asked_ms(&self) -> Option<u64> {
        let asked = match self {
            Self::Refused { retry_after_s, .. } => retry_after_s.map(|s| s.saturating_mul(1000)),
            Self::Closed { code: 1001, reason } => {
                let (_, rest) = reason.split_once("reconnect in ")?;
                rest.strip_suffix(" ms")?.parse().ok()
            }
            Self::Closed { .. } | Self::Lost(_) => None,
        };
        asked.map(|ms: u64| ms.min(ASKED_MS_MAX))
    }
}

/// The pauses between attempts: longer and longer, and each client's its own, so that a server that comes back is not met by all at once.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    random: Rng,
}

impl Backoff {
    /// Pauses that depend on the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            random: Rng::with_seed(seed),
        }
    }

    /// All has been well for a while.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Milliseconds until the next attempt.
    pub fn pause_ms(&mut self, end: &End) -> u64 {
        let most = PAUSE_MS.saturating_mul(1 << self.failures.min(16));
        let most = most.min(PAUSE_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = most / 2 + self.random.u64(0..=most / 2);
        match end.asked_ms() {
            // The server has spread these already; a little of one's own does no harm where many are told the same.
            Some(asked) => asked + self.random.u64(0..=asked / 10),
            None => pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str) -> End {
        End::Closed {
            code,
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let lost = End::Lost("gone".to_owned());
        let mut backoff = Backoff::new(1);
        for most in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let pause = backoff.pause_ms(&lost);
            assert!((most / 2..=most).contains(&pause), "{pause} of {most}");
        }
        backoff.reset();
        assert!(backoff.pause_ms(&lost) <= 500);
        let first = |seed| Backoff::new(seed).pause_ms(&lost);
        assert!((0..20).map(first).any(|pause| pause != first(0)));
    }

    #[test]
    fn what_the_server_asks_for_counts() {
        let refused = |status, retry_after_s| End::Refused {
            status,
            retry_after_s,
            detail: String::new(),
        };
        let cases = [
            (
                closed(1001, "server is shutting down; reconnect in 7000 ms"),
                7000,
            ),
            (refused(503, Some(3)), 3000),
            (
                closed(1001, "server is shutting down; reconnect in 99999999 ms"),
                ASKED_MS_MAX,
            ),
        ];
        for (end, asked) in cases {
            let pause = Backoff::new(3).pause_ms(&end);
            assert!((asked..=asked + asked / 10).contains(&pause), "{end:?}");
            assert!(!end.is_final());
        }
        for end in [closed(1001, "reconnect in x ms"), closed(1013, "")] {
            assert!(Backoff::new(3).pause_ms(&end) <= PAUSE_MS);
        }
        assert!(refused(401, None).is_final());
        assert!(closed(4403, "banned").is_final());
        assert!(!closed(4401, "token expired").is_final());
        assert!(closed(1009, "").blames_message());
    }
}
