//! What a connection may do, for how long, and in whose name.
//!
//! An application says so when it lets a connection in ([`Admission`](crate::app::Admission)); the shard sees to it, whatever the application asks for
//! afterwards. A connection without a [`Grant`] may do everything and is not closed by time. What is refused is answered with
//! [`ErrorCode::Forbidden`](crate::hub::event::ErrorCode::Forbidden), in the same way whether there is such a room or not.

use std::sync::Arc;

use crate::hub::Name;
use crate::pattern::Pattern;

bitflags::bitflags! {
    /// What may be done in a room.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// To become a member, and so to be sent what is said from then on.
        const JOIN = 1;
        /// To publish, as a member.
        const PUBLISH = 1 << 1;
        /// To ask who is there, and to be told how many there are and who comes and goes.
        const PRESENCE = 1 << 2;
        /// To be sent what was said before: by asking for it, and by joining with a position.
        const HISTORY = 1 << 3;
    }
}

/// The rights in the rooms of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomRule {
    /// Which rooms.
    pub rooms: Pattern,
    /// What may be done in them.
    pub rights: Rights,
}

/// What a connection may do. A shard keeps equal rules once, and looks through them at each request: they should be few.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// The first rule whose pattern fits a room counts; where none does, nothing may be done there.
    pub rooms: Vec<RoomRule>,
    /// Users to whom direct messages may be sent.
    pub direct: Vec<Pattern>,
}

impl Rules {
    /// The rights in a room.
    #[must_use]
    pub fn rights_in(&self, room: &str) -> Rights {
        let rule = self.rooms.iter().find(|rule| rule.rooms.matches(room));
        rule.map_or(Rights::empty(), |rule| rule.rights)
    }

    /// Whether direct messages may be sent to a user.
    #[must_use]
    pub fn may_direct(&self, user: &str) -> bool {
        self.direct.iter().any(|pattern| pattern.matches(user))
    }
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the connection may do; `None`: everything.
    pub rules: Option<Arc<Rules>>,
    /// When it ends, in milliseconds since 1970 (UTC); the connection is then closed 4401, 250 ms later at the most. What is set on the clock after
    /// the grant was given does not matter. `None`: never.
    pub expires_unix_ms: Option<u64>,
}

/// Whose connection it is, and what was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Direct messages to this user reach the connection, and what it publishes carries the name.
    pub user: Name,
    /// `None`: everything, for ever.
    pub grant: Option<Grant>,
}
