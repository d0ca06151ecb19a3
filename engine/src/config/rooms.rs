//! The entries `[[rooms]]` of the file: what holds in rooms by the pattern of their names. One declaration each, as for the settings.
//!
//! They stand in the file alone: a list of tables is nothing for a flag or a variable.

use std::sync::LazyLock;

use shardcast_shard::limits::Limits;
use shardcast_shard::pattern::PATTERN_SIZE_MAX;
use shardcast_shard::room_settings::{
    self, PresenceMode, Publishers, RoomSettings, RoomSettingsError,
};
use shardcast_shard::wire::check_name;

use super::setting::{NotPermitted, Shape, number_between, parse_number};
use super::{Config, ConfigError, SlowConsumer, Source};

/// Name of the list of tables.
pub(super) const ROOMS_TABLE: &str = "rooms";

/// The key that every entry must have.
pub(super) const PATTERN_KEY: &str = "pattern";

/// One key of an entry.
#[derive(Debug)]
pub struct RoomKey {
    /// The key in the file.
    pub name: &'static str,
    /// The sentences of its documentation.
    pub help: &'static str,
    /// What holds where an entry does not have it, for people.
    pub default: &'static str,
    /// The values permitted; completes the sentence "it must be".
    pub permitted: String,
    /// The kind of value.
    pub shape: Shape,
    read: fn(&RoomSettings) -> Option<String>,
    write: fn(&mut RoomSettings, &str) -> Result<(), NotPermitted>,
}

impl RoomKey {
    /// Its value in an entry, in text form; `None` where the entry does not have it.
    #[must_use]
    pub fn text(&self, settings: &RoomSettings) -> Option<String> {
        (self.read)(settings)
    }

    /// Sets its value from the text form.
    ///
    /// # Errors
    /// The value is not permitted; the entry is unchanged.
    pub(super) fn assign(
        &self,
        settings: &mut RoomSettings,
        text: &str,
    ) -> Result<(), NotPermitted> {
        (self.write)(settings, text)
    }

    /// A text form as the file writes it.
    pub(super) fn toml_value(&self, text: &str) -> String {
        match self.shape {
            Shape::Number => text.to_owned(),
            Shape::Text | Shape::List => toml::Value::from(text).to_string(),
        }
    }
}

/// Every key, in the order of the documentation.
#[must_use]
pub fn room_keys() -> &'static [RoomKey] {
    static KEYS: LazyLock<Vec<RoomKey>> = LazyLock::new(|| {
        let mut keys = vec![RoomKey {
            name: PATTERN_KEY,
            help: "Names of the rooms; every `*` stands for any characters, none included. The first entry that fits a room counts.",
            default: "none: every entry has one",
            permitted: "a name of at most 4,096 bytes with at most 8 stars and without control characters, in Unicode normalisation form C".to_owned(),
            shape: Shape::Text,
            read: |settings| Some(settings.pattern.to_string()),
            write: |settings, text| {
                // What no name can be fits none.
                check_name(text, PATTERN_SIZE_MAX as u64).map_err(|_| NotPermitted)?;
                settings.pattern = text.parse().map_err(|_| NotPermitted)?;
                Ok(())
            },
        }];
        keys.extend(history_keys());
        keys.extend(presence_keys());
        keys.extend(message_keys());
        keys
    });
    &KEYS
}

/// The range of a limit.
fn range_of(name: &str) -> (u64, u64) {
    Limits::field(name).map_or((0, u64::MAX), |field| (field.least, field.most))
}

/// A key whose value is a number.
macro_rules! number {
    ($name:ident, $range:expr, $default:literal, $help:literal) => {{
        let (least, most) = $range;
        RoomKey {
            name: stringify!($name),
            help: $help,
            default: $default,
            permitted: number_between(least, most),
            shape: Shape::Number,
            read: |settings| Some(settings.$name?.to_string()),
            write: |settings, text| {
                let (least, most) = $range;
                let number = parse_number(text)?;
                if !(least..=most).contains(&number) {
                    return Err(NotPermitted);
                }
                settings.$name = Some(number);
                Ok(())
            },
        }
    }};
}

/// A key whose value is one of the words of a type.
macro_rules! word {
    ($name:ident: $type:ty, $default:literal, $help:literal) => {
        RoomKey {
            name: stringify!($name),
            help: $help,
            default: $default,
            permitted: one_of(<$type>::WORDS),
            shape: Shape::Text,
            read: |settings| Some(settings.$name?.to_string()),
            write: |settings, text| {
                settings.$name = Some(<$type>::from_word(text).ok_or(NotPermitted)?);
                Ok(())
            },
        }
    };
}

/// The words as a sentence lists them.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match &quoted[..] {
        [firsts @ .., last] if !firsts.is_empty() => format!("{} or {last}", firsts.join(", ")),
        _ => quoted.concat(),
    }
}

fn history_keys() -> [RoomKey; 3] {
    [
        number!(
            history_messages_max,
            range_of("history_messages_max"),
            "that of `[limits]`",
            "Messages of a room's history; 0 turns history off."
        ),
        number!(
            history_bytes_max,
            range_of("history_bytes_max"),
            "that of `[limits]`",
            "Bytes of a room's history."
        ),
        number!(
            history_age_ms_max,
            range_of("history_age_ms_max"),
            "that of `[limits]`",
            "Age of a message in the history, in milliseconds."
        ),
    ]
}

fn presence_keys() -> [RoomKey; 2] {
    [
        word!(
            presence: PresenceMode,
            "individual",
            "What members are told of each other: `individual`, who comes and goes, and who is there when they ask; `count`, how many there are, never who; `off`, nothing: \
             whoever asks gets the error `forbidden`, and `joined` has no `members`."
        ),
        number!(
            presence_individual_max,
            range_of("presence_individual_max"),
            "that of `[limits]`",
            "Members up to which each user who comes or goes is announced; beyond it only counts are sent. Only with `presence = \"individual\"`."
        ),
    ]
}

fn message_keys() -> [RoomKey; 3] {
    [
        word!(
            slow_consumer: SlowConsumer,
            "that of the server",
            "What happens to a consumer that is too slow, as for the server's setting of this name."
        ),
        number!(
            message_size_max,
            (1, range_of("message_size_max").1),
            "what fits into a message",
            "Bytes of the content that a member may publish, at most the limit of this name. Above it: the error `too_large`."
        ),
        word!(
            publish: Publishers,
            "members",
            "Who may publish: `members`, or the `server` alone, which is the application that embeds the engine; a member gets the error `forbidden`."
        ),
    ]
}

/// An entry of the file, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct RoomEntry {
    pub(super) settings: RoomSettings,
    /// The line of each of its keys, counted from 1.
    pub(super) lines: Vec<(&'static str, usize)>,
}

impl RoomEntry {
    /// The line of a key.
    pub(super) fn line(&self, key: &str) -> usize {
        let found = self.lines.iter().find(|(name, _)| *name == key);
        found.map_or(0, |(_, line)| *line)
    }
}

/// Checks the entries of a configuration. `source_of` says where a key of the entry in a place comes from, `limit_source` where a limit does.
///
/// # Errors
/// The first thing found.
pub(super) fn check(
    config: &Config,
    source_of: &dyn Fn(usize, &str) -> Source,
    limit_source: &dyn Fn(&str) -> Source,
) -> Result<(), ConfigError> {
    let place = |entry: usize, key: &str| match source_of(entry, key) {
        Source::Program | Source::Default => format!("{ROOMS_TABLE}[{entry}]"),
        source => source.to_string(),
    };
    room_settings::check(&config.rooms, &config.limits).map_err(|error| {
        let mut message = error.to_string();
        let place = match &error {
            RoomSettingsError::TooMany(_) => place(room_settings::ROOM_SETTINGS_MAX, PATTERN_KEY),
            RoomSettingsError::Covered {
                entry, by_entry, ..
            } => {
                message.push_str(&format!(" (at {})", place(*by_entry, PATTERN_KEY)));
                place(*entry, PATTERN_KEY)
            }
            RoomSettingsError::Value { entry, key, .. } => {
                if *key == "message_size_max" && message.contains("the limit") {
                    message.push_str(&format!(" (limit: {})", limit_source(key)));
                }
                place(*entry, key)
            }
        };
        ConfigError::Rooms { place, message }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use shardcast_shard::pattern::Pattern;

    #[test]
    fn every_key_reads_back_and_says_what_is_permitted() {
        let cases = [
            ("pattern", "ticker.*", "a\u{7}"),
            ("history_messages_max", "0", "1000001"),
            ("history_bytes_max", "4096", "-1"),
            ("history_age_ms_max", "1000", "86400001"),
            ("presence", "off", "none"),
            ("presence_individual_max", "7", "x"),
            ("slow_consumer", "conflate", "wait"),
            ("message_size_max", "4096", "0"),
            ("publish", "server", "nobody"),
        ];
        assert_eq!(cases.len(), room_keys().len());
        for (key, (name, good, bad)) in room_keys().iter().zip(cases) {
            assert_eq!(key.name, name);
            let mut settings = RoomSettings::new(Pattern::all());
            assert_eq!(key.assign(&mut settings, bad), Err(NotPermitted), "{name}");
            assert_eq!(settings, RoomSettings::new(Pattern::all()));
            key.assign(&mut settings, good).unwrap();
            assert_eq!(key.text(&settings).as_deref(), Some(good), "{name}");
            assert!(
                key.help.ends_with('.') && !key.help.contains("  "),
                "{name}"
            );
            assert!(!key.permitted.is_empty());
        }
    }

    #[test]
    fn words_are_listed() {
        assert_eq!(one_of(&["a"]), "`a`");
        assert_eq!(one_of(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
