//! Why a token does not count.

use shardcast_shard::app::TokenOutcome;

/// Why a token does not count: what its bearer is told. Nothing of the token is repeated in it, and it fits into a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing of it was looked at.
    #[error("the token has more than {0} bytes")]
    TooLarge(u64),
    /// It is not what RFC 7515 §7.1 and RFC 7519 describe.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `alg` is `none`, in any case.
    #[error("the token is not signed: its algorithm is none")]
    AlgorithmNone,
    /// The algorithm in the header is unknown, or not that of the key.
    #[error("the token's algorithm is not permitted by the key")]
    AlgorithmNotPermitted,
    /// No key has the name in the header, or none is named and there are several.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// `iss` is missing or another.
    #[error("the token is from another issuer")]
    Issuer,
    /// `aud` is missing or names others.
    #[error("the token is for another audience")]
    Audience,
    /// A claim is missing, of the wrong type or out of bounds.
    #[error("the token's claims do not fit: {0}")]
    Claims(&'static str),
    /// No keys are configured, so tokens are not looked at.
    #[error("no token is asked for here")]
    NotAsked,
    /// The set of keys could not be fetched so far.
    #[error("the keys for tokens are not there yet; try again shortly")]
    NoKeys,
}

impl Refused {
    /// What it counts as.
    #[must_use]
    pub fn outcome(&self) -> TokenOutcome {
        match self {
            Self::TooLarge(_) => TokenOutcome::TooLarge,
            Self::Malformed(_) => TokenOutcome::Malformed,
            Self::AlgorithmNone => TokenOutcome::AlgorithmNone,
            Self::AlgorithmNotPermitted => TokenOutcome::AlgorithmNotPermitted,
            Self::UnknownKey => TokenOutcome::UnknownKey,
            Self::Signature => TokenOutcome::Signature,
            Self::Expired => TokenOutcome::Expired,
            Self::NotYetValid => TokenOutcome::NotYetValid,
            Self::Issuer => TokenOutcome::Issuer,
            Self::Audience => TokenOutcome::Audience,
            Self::Claims(_) => TokenOutcome::Claims,
            Self::NotAsked | Self::NoKeys => TokenOutcome::NoKeys,
        }
    }
}
