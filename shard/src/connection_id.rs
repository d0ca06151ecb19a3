//! The name of a connection within the process, as logs, webhooks and operators speak of it.

use std::fmt;
use std::str::FromStr;

use crate::driver::{ConnectionKey, GENERATION_BITS, ShardId};
use crate::limits::SLOT_BITS;

/// A connection of one shard. As text: `SHARD-SLOT-GENERATION`, three decimal numbers.
///
/// It names a connection for as long as its shard runs: a shard that starts again gives the same names anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The shard that has it.
    pub shard: ShardId,
    /// Its name there.
    pub key: ConnectionKey,
}

impl ConnectionId {
    /// A connection of a shard.
    #[must_use]
    pub const fn new(shard: ShardId, key: ConnectionKey) -> Self {
        Self { shard, key }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, key } = self;
        write!(f, "{shard}-{}-{}", key.slot, key.generation)
    }
}

/// A text that names no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection is named SHARD-SLOT-GENERATION, such as 0-17-3")]
pub struct NotAConnection;

impl FromStr for ConnectionId {
    type Err = NotAConnection;

    fn from_str(text: &str) -> Result<Self, NotAConnection> {
        let mut parts = text.split('-');
        let mut next = |bits: u32| {
            let part = parts.next().filter(|part| !part.starts_with('+'))?;
            part.parse::<u32>()
                .ok()
                .filter(|number| number >> bits == 0)
        };
        let numbers = (next(ShardId::BITS), next(SLOT_BITS), next(GENERATION_BITS));
        let (Some(shard), Some(slot), Some(generation)) = numbers else {
            return Err(NotAConnection);
        };
        if parts.next().is_some() {
            return Err(NotAConnection);
        }
        Ok(Self {
            // It has no more bits than that.
            shard: shard as ShardId,
            key: ConnectionKey::new(slot, generation),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_names_no_connection_is_refused() {
        for text in [
            "",
            "1",
            "1-2",
            "1-2-3-4",
            "1-2-",
            "-1-2-3",
            "+1-2-3",
            "1-2-x",
            "65536-0-0",
            "0-1048576-0",
            "0-0-1048576",
            "0-0-99999999999",
            " 0-0-0",
        ] {
            assert_eq!(text.parse::<ConnectionId>(), Err(NotAConnection), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(shard: u16, slot in 0_u32..1 << SLOT_BITS, generation in 0_u32..1 << GENERATION_BITS) {
            let id = ConnectionId { shard, key: ConnectionKey::new(slot, generation) };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
