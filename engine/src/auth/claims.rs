//! What a token says (RFC 7519 §4), and what of it is granted.

use serde::{Deserialize, Deserializer};
use shardcast_shard::hub::Name;
use shardcast_shard::limits::Limits;
use shardcast_shard::pattern::{PATTERN_SIZE_MAX, Pattern};
use shardcast_shard::rights::{Rights, RoomRule, Rules};
use shardcast_shard::wire::check_name;

use super::refused::Refused;

/// Seconds since 1970 at the end of the year 9999: times beyond are mistakes.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// The claims that mean something here. Others are ignored (RFC 7519 §4); none of these may come twice, and none may be `null`.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "present")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
    /// Only its type counts.
    #[serde(default, deserialize_with = "present")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "present")]
    rooms: Option<Vec<RoomClaim>>,
    #[serde(default, deserialize_with = "present")]
    direct: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct RoomClaim {
    room: String,
    rights: Vec<String>,
}

/// A claim that is there. Without this `null` would count as absent, and absent rooms are all rooms.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What a token must say to count here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    /// How far this clock and the issuer's may be apart.
    pub(super) leeway_ms: u64,
}

impl Claims {
    /// Checks times, issuer and audience; answers when what is granted ends, in milliseconds since 1970.
    pub(super) fn check(&self, expected: &Expected, now_unix_ms: u64) -> Result<u64, Refused> {
        let exp = self.exp.ok_or(Refused::Claims("`exp` is missing"))?;
        let expires = milliseconds(exp)
            .ok_or(Refused::Claims("`exp` is no time"))?
            .saturating_add(expected.leeway_ms);
        if now_unix_ms >= expires {
            return Err(Refused::Expired);
        }
        if let Some(nbf) = self.nbf {
            let begins = milliseconds(nbf).ok_or(Refused::Claims("`nbf` is no time"))?;
            if now_unix_ms.saturating_add(expected.leeway_ms) < begins {
                return Err(Refused::NotYetValid);
            }
        }
        if self.iat.is_some_and(|iat| milliseconds(iat).is_none()) {
            return Err(Refused::Claims("`iat` is no time"));
        }
        if expected.issuer.is_some() && self.iss != expected.issuer {
            return Err(Refused::Issuer);
        }
        if let Some(expected) = &expected.audience {
            let is_meant = match &self.aud {
                None => false,
                Some(Audience::One(audience)) => audience == expected,
                Some(Audience::Several(audiences)) => audiences.contains(expected),
            };
            if !is_meant {
                return Err(Refused::Audience);
            }
        }
        Ok(expires)
    }

    /// Whose token it is.
    pub(super) fn user(&self, limits: &Limits) -> Result<Name, Refused> {
        let user = self
            .sub
            .as_deref()
            .ok_or(Refused::Claims("`sub` is missing"))?;
        check_name(user, limits.user_name_size_max)
            .map_err(|_| Refused::Claims("`sub` is no name of a user"))?;
        Ok(user.into())
    }

    /// What its user may do; `None`: everything.
    pub(super) fn rules(&self, limits: &Limits) -> Result<Option<Rules>, Refused> {
        if self.rooms.is_none() && self.direct.is_none() {
            return Ok(None);
        }
        let count = |length: Option<usize>| length.unwrap_or(0) as u64;
        let rules =
            count(self.rooms.as_ref().map(Vec::len)) + count(self.direct.as_ref().map(Vec::len));
        if rules > limits.token_rules_max {
            return Err(Refused::Claims("too many entries in `rooms` and `direct`"));
        }
        let rooms = match &self.rooms {
            None => vec![RoomRule {
                rooms: everything()?,
                rights: Rights::all(),
            }],
            Some(rooms) => rooms
                .iter()
                .map(RoomClaim::rule)
                .collect::<Result<_, _>>()?,
        };
        let direct = match &self.direct {
            None => vec![everything()?],
            Some(users) => users
                .iter()
                .map(|user| pattern(user, Refused::Claims("a pattern in `direct` is none")))
                .collect::<Result<_, _>>()?,
        };
        Ok(Some(Rules { rooms, direct }))
    }
}

impl RoomClaim {
    fn rule(&self) -> Result<RoomRule, Refused> {
        let rooms = pattern(&self.room, Refused::Claims("a `room` is no pattern"))?;
        let mut rights = Rights::empty();
        for right in &self.rights {
            rights |= match right.as_str() {
                "join" => Rights::JOIN,
                "publish" => Rights::PUBLISH,
                "presence" => Rights::PRESENCE,
                "history" => Rights::HISTORY,
                _ => {
                    return Err(Refused::Claims(
                        "a right is none of join, publish, presence, history",
                    ));
                }
            };
        }
        Ok(RoomRule { rooms, rights })
    }
}

fn everything() -> Result<Pattern, Refused> {
    pattern("*", Refused::Claims("no pattern"))
}

/// Names are compared byte by byte, so a pattern that is not in normalisation form C would match nothing.
fn pattern(text: &str, refused: Refused) -> Result<Pattern, Refused> {
    check_name(text, PATTERN_SIZE_MAX as u64).map_err(|_| refused)?;
    text.parse().map_err(|_| refused)
}

/// Milliseconds of a `NumericDate`: seconds since 1970, perhaps with a fraction (RFC 7519 §2).
fn milliseconds(seconds: f64) -> Option<u64> {
    (0.0..=SECONDS_MAX)
        .contains(&seconds)
        .then_some((seconds * 1000.0) as u64)
}
