//! Who may connect: keys, the tokens that are checked with them, and guests.
//!
//! A token is a JSON Web Token (RFC 7519) that is signed (RFC 7515). The control thread gets the keys ([`KeyKeeper`]) and puts them where the shards read them without
//! waiting; each shard has an [`Authenticator`] that its application asks.

mod claims;
mod credentials;
mod der;
mod jwk;
mod keeper;
mod key;
mod keyring;
mod refused;
mod rules;
#[cfg(test)]
mod tests;
mod token;

pub use credentials::TOKEN_PARAMETER;
pub use keeper::KeyKeeper;
pub use key::KeyError;
pub use refused::Refused;

use std::sync::Arc;

use shardcast_shard::app::{Context, Count, Dismissal, TokenOutcome};
use shardcast_shard::rights::Identity;
use shardcast_shard::ws::close::{TRY_AGAIN_LATER, UNAUTHORIZED};
use shardcast_shard::ws::{Refusal, RefusalStatus, UpgradeRequest};

use crate::config::{Anonymous, Config, ConfigError, EffectiveConfig};
use rules::RulesCache;
use token::Verifier;

/// Seconds after which a client whose token could not be checked may try again.
const RETRY_AFTER_SECONDS: u32 = 2;

/// Who may connect, for all shards.
#[derive(Clone, Debug)]
pub struct Access {
    guests: bool,
    /// `None` where no keys are configured: tokens are not looked at.
    verifier: Option<Arc<Verifier>>,
}

impl Default for Access {
    /// Everybody, and nobody is asked for a token.
    fn default() -> Self {
        Self {
            guests: true,
            verifier: None,
        }
    }
}

impl Access {
    /// What a configuration says, and who keeps the keys for it, where it has any. Reads the files; what is to be fetched is waited for a few seconds.
    ///
    /// # Errors
    /// Nobody could connect, or a file holds no keys.
    pub fn prepare(effective: &EffectiveConfig) -> Result<(Self, Option<KeyKeeper>), ConfigError> {
        let config = effective.config();
        let guests = permits_guests(config);
        if !config.access.has_keys() {
            return match guests {
                true => Ok((Self::default(), None)),
                false => Err(ConfigError::NobodyMayConnect {
                    listen: config.listen,
                    source_of_listen: effective.source("listen"),
                    source_of_anonymous: effective.source("anonymous"),
                }),
            };
        }
        let keeper = KeyKeeper::start(config).map_err(|(name, path, error)| ConfigError::Key {
            name,
            path,
            source_of_path: effective.source(name),
            error,
        })?;
        let verifier = Verifier {
            keys: keeper.keys(),
            expected: claims::Expected {
                issuer: config.access.issuer.clone(),
                audience: config.access.audience.clone(),
                leeway_ms: config.access.leeway.as_millis() as u64,
            },
        };
        let access = Self {
            guests,
            verifier: Some(Arc::new(verifier)),
        };
        Ok((access, Some(keeper)))
    }

    /// One for each shard.
    #[must_use]
    pub fn authenticator(self) -> Authenticator {
        Authenticator {
            access: self,
            rules: RulesCache::default(),
        }
    }
}

/// Whether those who say nothing of themselves are let in.
fn permits_guests(config: &Config) -> bool {
    match config.access.anonymous {
        Anonymous::On => true,
        Anonymous::Off => false,
        Anonymous::Auto => {
            config.listen.ip().to_canonical().is_loopback() && !config.access.has_keys()
        }
    }
}

/// Whom a handshake is from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// The bearer of a good token.
    Known(Identity),
    /// Nobody asks who it is: under whatever name it gives itself.
    Guest,
    /// Let in beside bearers of tokens, whose names it may not take: under one that the server makes up.
    Stranger,
    /// The first message says it.
    Unnamed,
}

/// Decides on one shard who a connection is.
#[derive(Debug)]
pub struct Authenticator {
    access: Access,
    rules: RulesCache,
}

impl Authenticator {
    /// Whom a handshake is from.
    ///
    /// # Errors
    /// 401 for a token that does not count, 400 for two, 503 while there are no keys.
    pub(crate) fn visitor(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Visitor, Refusal> {
        if self.access.verifier.is_none() {
            return Ok(Visitor::Guest);
        }
        let token = credentials::token(request).map_err(|credentials::Twice| {
            count(context, TokenOutcome::Malformed);
            Refusal::new(
                RefusalStatus::BadRequest,
                "more than one token came; send one, in the Authorization header or in the query",
            )
        })?;
        match token {
            None if self.access.guests => Ok(Visitor::Stranger),
            None => Ok(Visitor::Unnamed),
            Some(token) => match self.verify(context, &token) {
                Ok(identity) => Ok(Visitor::Known(identity)),
                Err(Refused::NoKeys) => {
                    let text = Refused::NoKeys.to_string();
                    Err(Refusal::new(RefusalStatus::Unavailable, text)
                        .retry_after(RETRY_AFTER_SECONDS))
                }
                Err(refused) => Err(Refusal::invalid_token(refused.to_string())),
            },
        }
    }

    /// Whose token it is, and what it grants. The outcome is counted.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn verify(
        &mut self,
        context: &mut Context<'_>,
        token: &str,
    ) -> Result<Identity, Refused> {
        let Some(verifier) = &self.access.verifier else {
            return Err(Refused::NotAsked);
        };
        let (now_unix_ms, limits) = (context.clock().unix_ms, context.limits());
        let verified = verifier.verify(token, now_unix_ms, limits, &mut self.rules);
        let outcome = match &verified {
            Ok(_) => TokenOutcome::Accepted,
            Err(refused) => refused.outcome(),
        };
        count(context, outcome);
        verified
    }
}

/// How a connection is told that the token in its first message does not count.
pub(crate) fn dismissal(refused: Refused) -> Dismissal {
    let code = match refused {
        Refused::NoKeys => TRY_AGAIN_LATER,
        _ => UNAUTHORIZED,
    };
    Dismissal {
        code,
        reason: ecow::eco_format!("{refused}"),
    }
}

/// Counts what became of a token.
pub(crate) fn count(context: &mut Context<'_>, outcome: TokenOutcome) {
    // A call asks for three actions at most, and may ask for sixteen at least.
    let counted = context.count(Count::Token(outcome));
    debug_assert!(counted.is_ok(), "a call may ask for sixteen actions");
}
