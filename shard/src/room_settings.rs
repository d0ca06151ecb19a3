//! What holds in rooms by the pattern of their names: history, presence, who may publish what, and what happens to slow consumers.
//!
//! A [`RoomSettings`] is what an operator says about the rooms of one pattern. A room's kind, the number of the first entry that fits it, is found once, when
//! its home or its slice is made; from then on the room carries the number alone.

use std::fmt;

use crate::limits::Limits;
use crate::outbox::SlowConsumer;
use crate::pattern::Pattern;

/// The most entries. Each is compared with the name of a room when its first member joins, and their numbers are to fit into a byte.
pub const ROOM_SETTINGS_MAX: usize = 255;

/// Whether members are told who is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PresenceMode {
    /// Each user who comes or goes is told, up to `presence_individual_max` users; beyond it how many there are.
    #[default]
    Individual,
    /// How many users there are is told, never who.
    Count,
    /// Nothing is told. Whoever asks gets the error `forbidden`.
    Off,
}

/// Who may publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishers {
    /// Every member.
    #[default]
    Members,
    /// The application alone, on behalf of the server. A member gets the error `forbidden`.
    Server,
}

/// What is said about the rooms of one pattern. What is `None` is as it is in all rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSettings {
    /// Which rooms. The first entry whose pattern fits a room counts.
    pub pattern: Pattern,
    /// In place of [`Limits::history_messages_max`].
    pub history_messages_max: Option<u64>,
    /// In place of [`Limits::history_bytes_max`].
    pub history_bytes_max: Option<u64>,
    /// In place of [`Limits::history_age_ms_max`].
    pub history_age_ms_max: Option<u64>,
    /// In all rooms [`PresenceMode::Individual`].
    pub presence: Option<PresenceMode>,
    /// In place of [`Limits::presence_individual_max`].
    pub presence_individual_max: Option<u64>,
    /// In place of the server's policy.
    pub slow_consumer: Option<SlowConsumer>,
    /// Bytes of the content that a member may publish. Above it: the error `too_large`. In all rooms what fits into a message of
    /// [`Limits::message_size_max`].
    pub message_size_max: Option<u64>,
    /// In all rooms [`Publishers::Members`].
    pub publish: Option<Publishers>,
}

impl RoomSettings {
    /// Settings that say nothing yet.
    #[must_use]
    pub fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            history_messages_max: None,
            history_bytes_max: None,
            history_age_ms_max: None,
            presence: None,
            presence_individual_max: None,
            slow_consumer: None,
            message_size_max: None,
            publish: None,
        }
    }

    /// The numbers that are set, with the names of the rows whose ranges they share.
    fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("history_messages_max", self.history_messages_max),
            ("history_bytes_max", self.history_bytes_max),
            ("history_age_ms_max", self.history_age_ms_max),
            ("presence_individual_max", self.presence_individual_max),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Checks this entry for itself and against the limits.
    fn check(&self, limits: &Limits) -> Result<(), (&'static str, String)> {
        for (name, value) in self.numbers() {
            if let Err(error) = Limits::default().set(name, value) {
                return Err((name, error.to_string()));
            }
        }
        if let (Some(mode @ (PresenceMode::Count | PresenceMode::Off)), Some(_)) =
            (self.presence, self.presence_individual_max)
        {
            let message = format!(
                "presence_individual_max has no meaning with presence = \"{mode}\"; remove one of them"
            );
            return Err(("presence_individual_max", message));
        }
        match self.message_size_max {
            Some(0) => Err((
                "message_size_max",
                "message_size_max = 0 permits no message; where members are to publish nothing, say publish = \"server\"".to_owned(),
            )),
            Some(size) if size > limits.message_size_max => Err((
                "message_size_max",
                format!(
                    "message_size_max = {size} must not exceed the limit message_size_max = {}, above which a connection is closed; lower the first or raise the second",
                    limits.message_size_max
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// What is wrong with a list of entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomSettingsError {
    /// More than [`ROOM_SETTINGS_MAX`].
    #[error("{0} entries are more than {ROOM_SETTINGS_MAX}; let fewer patterns fit more rooms")]
    TooMany(usize),
    /// An entry that never counts.
    #[error(
        "pattern = \"{pattern}\" never counts, as \"{by}\" before it fits the same rooms; put it before that, or remove it"
    )]
    Covered {
        /// Its place in the list.
        entry: usize,
        /// Its pattern.
        pattern: Pattern,
        /// The place of the entry before it.
        by_entry: usize,
        /// The pattern of the entry before it.
        by: Pattern,
    },
    /// A value out of its range, or one that contradicts another.
    #[error("{message}")]
    Value {
        /// Its entry's place in the list.
        entry: usize,
        /// Which.
        key: &'static str,
        /// What is wrong, with the remedy.
        message: String,
    },
}

/// Checks a list of entries: each for itself, against the limits, and against those before it.
///
/// # Errors
/// The first thing found.
pub fn check(entries: &[RoomSettings], limits: &Limits) -> Result<(), RoomSettingsError> {
    if entries.len() > ROOM_SETTINGS_MAX {
        return Err(RoomSettingsError::TooMany(entries.len()));
    }
    for (entry, settings) in entries.iter().enumerate() {
        let pattern = &settings.pattern;
        let mut before = entries[..entry].iter().enumerate();
        if let Some((by_entry, by)) = before.find(|(_, by)| by.pattern.covers(pattern)) {
            return Err(RoomSettingsError::Covered {
                entry,
                pattern: pattern.clone(),
                by_entry,
                by: by.pattern.clone(),
            });
        }
        settings
            .check(limits)
            .map_err(|(key, message)| RoomSettingsError::Value {
                entry,
                key,
                message,
            })?;
    }
    Ok(())
}

/// What holds in the rooms of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoomKind {
    pub(crate) history_messages_max: u64,
    pub(crate) history_bytes_max: u64,
    pub(crate) history_age_ms_max: u64,
    pub(crate) presence: PresenceMode,
    pub(crate) presence_individual_max: u64,
    pub(crate) slow_consumer: SlowConsumer,
    /// Bytes of a member's content.
    pub(crate) message_size_max: u64,
    pub(crate) publish: Publishers,
}

impl RoomKind {
    /// This kind with what an entry says about its rooms.
    fn with(self, settings: &RoomSettings) -> Self {
        Self {
            history_messages_max: settings
                .history_messages_max
                .unwrap_or(self.history_messages_max),
            history_bytes_max: settings.history_bytes_max.unwrap_or(self.history_bytes_max),
            history_age_ms_max: settings
                .history_age_ms_max
                .unwrap_or(self.history_age_ms_max),
            presence: settings.presence.unwrap_or(self.presence),
            presence_individual_max: settings
                .presence_individual_max
                .unwrap_or(self.presence_individual_max),
            slow_consumer: settings.slow_consumer.unwrap_or(self.slow_consumer),
            message_size_max: settings.message_size_max.unwrap_or(self.message_size_max),
            publish: settings.publish.unwrap_or(self.publish),
        }
    }
}

/// The number of a kind; 0 is that of the rooms that no entry fits, and of inboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindId(u8);

/// All kinds of rooms. The same on every shard of a process.
#[derive(Clone, Debug)]
pub struct RoomKinds {
    kinds: Vec<RoomKind>,
    patterns: Vec<Pattern>,
}

impl RoomKinds {
    /// The kinds of rooms that the entries make, of which only the first [`ROOM_SETTINGS_MAX`] count.
    #[must_use]
    pub fn new(limits: &Limits, slow_consumer: SlowConsumer, entries: &[RoomSettings]) -> Self {
        let plain = RoomKind {
            history_messages_max: limits.history_messages_max,
            history_bytes_max: limits.history_bytes_max,
            history_age_ms_max: limits.history_age_ms_max,
            presence: PresenceMode::default(),
            presence_individual_max: limits.presence_individual_max,
            slow_consumer,
            // The decoder bounds whole messages.
            message_size_max: u64::MAX,
            publish: Publishers::default(),
        };
        let entries = &entries[..entries.len().min(ROOM_SETTINGS_MAX)];
        let special = entries.iter().map(|entry| plain.with(entry));
        Self {
            kinds: std::iter::once(plain).chain(special).collect(),
            patterns: entries.iter().map(|entry| entry.pattern.clone()).collect(),
        }
    }

    /// The kind of a room.
    pub(crate) fn of_room(&self, room: &str) -> KindId {
        let found = self
            .patterns
            .iter()
            .position(|pattern| pattern.matches(room));
        // There are no more than a byte holds.
        KindId(found.map_or(0, |place| place as u8 + 1))
    }

    pub(crate) fn get(&self, id: KindId) -> &RoomKind {
        // Numbers come from `of_room` and from nowhere else.
        &self.kinds[usize::from(id.0)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RoomKind> {
        self.kinds.iter()
    }

    /// Whether messages of any room may be left out.
    pub(crate) fn may_drop(&self) -> bool {
        self.iter()
            .any(|kind| kind.slow_consumer != SlowConsumer::Disconnect)
    }
}

impl KindId {
    /// Its place in a list of all kinds.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($type:ident: $( $variant:ident = $word:literal ),*) => {
        impl $type {
            /// The words that stand for its values in the configuration.
            pub const WORDS: &'static [&'static str] = &[$( $word ),*];

            /// The value that a word stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $( $word => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $( Self::$variant => $word, )*
                })
            }
        }
    };
}

words!(PresenceMode: Individual = "individual", Count = "count", Off = "off");
words!(Publishers: Members = "members", Server = "server");
words!(SlowConsumer: Disconnect = "disconnect", DropOldest = "drop_oldest", Conflate = "conflate");

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn entry(pattern: &str) -> RoomSettings {
        RoomSettings::new(pattern.parse().unwrap())
    }

    #[test]
    fn a_room_costs_a_byte() {
        assert_eq!(size_of::<KindId>(), 1);
    }

    #[test]
    fn the_first_entry_that_fits_counts_and_the_rest_is_as_everywhere() {
        let entries = [
            RoomSettings {
                history_messages_max: Some(0),
                slow_consumer: Some(SlowConsumer::Conflate),
                ..entry("ticker.*")
            },
            RoomSettings {
                presence: Some(PresenceMode::Off),
                ..entry("*.big")
            },
        ];
        let limits = Limits::default();
        let kinds = RoomKinds::new(&limits, SlowConsumer::DropOldest, &entries);
        let of = |room: &str| *kinds.get(kinds.of_room(room));
        let plain = of("lobby");
        assert_eq!(plain.history_messages_max, limits.history_messages_max);
        assert_eq!(plain.slow_consumer, SlowConsumer::DropOldest);
        let ticker = of("ticker.big");
        assert_eq!(ticker.slow_consumer, SlowConsumer::Conflate);
        assert_eq!(ticker.presence, PresenceMode::Individual, "the first entry");
        assert_eq!(ticker.history_messages_max, 0);
        assert_eq!(ticker.history_bytes_max, limits.history_bytes_max);
        assert_eq!(of("chat.big").presence, PresenceMode::Off);
    }

    #[test]
    fn what_is_wrong_with_a_list() {
        let limits = Limits::default();
        let with = |change: fn(&mut RoomSettings)| {
            let mut settings = entry("a*");
            change(&mut settings);
            vec![entry("b*"), settings]
        };
        let cases = [
            (vec![entry("b*"), entry("b*")], "\"b*\" never counts"),
            (vec![entry("*"), entry("b*c")], "\"*\" before it fits"),
            (
                (0..256).map(|n| entry(&n.to_string())).collect(),
                "256 entries",
            ),
            (
                with(|settings| settings.history_messages_max = Some(1 << 40)),
                "history_messages_max = 1099511627776 is out of range",
            ),
            (
                with(|settings| settings.message_size_max = Some(0)),
                "publish = \"server\"",
            ),
            (
                with(|settings| settings.message_size_max = Some(1 << 21)),
                "must not exceed the limit message_size_max = 1048576",
            ),
            (
                with(|settings| {
                    settings.presence = Some(PresenceMode::Off);
                    settings.presence_individual_max = Some(3);
                }),
                "no meaning with presence = \"off\"",
            ),
        ];
        for (entries, part) in cases {
            let message = check(&entries, &limits).unwrap_err().to_string();
            assert!(message.contains(part), "{part:?} is not in {message}");
        }
        let fine = [entry("b.*"), entry("b*"), entry("*")];
        assert_eq!(check(&fine, &limits), Ok(()), "the narrow come first");
    }

    #[test]
    fn words_read_back() {
        for word in SlowConsumer::WORDS {
            assert_eq!(SlowConsumer::from_word(word).unwrap().to_string(), *word);
        }
        for word in PresenceMode::WORDS {
            assert_eq!(PresenceMode::from_word(word).unwrap().to_string(), *word);
        }
        for word in Publishers::WORDS {
            assert_eq!(Publishers::from_word(word).unwrap().to_string(), *word);
        }
        assert_eq!(SlowConsumer::from_word("wait"), None);
    }
}
