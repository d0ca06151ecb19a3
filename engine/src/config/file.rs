//! The configuration file: from TOML to the text form of each setting, with the line of each for messages.

use std::ops::Range;
use std::path::Path;

use shardcast_shard::pattern::Pattern;
use shardcast_shard::room_settings::RoomSettings;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rooms::{PATTERN_KEY, ROOMS_TABLE, RoomEntry, RoomKey, one_of, room_keys};
use super::{ConfigError, Section, Setting, Shape, settings, without_userinfo};

/// Name of the table that holds the limits.
const LIMITS_TABLE: &str = "limits";

/// Least likeness, from 0 to 1, of a known name that is proposed for an unknown one.
const LIKENESS_MIN: f64 = 0.5;

/// One line of the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// The value in the form that flags and variables use.
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// In the order of their lines.
    pub(super) entries: Vec<Entry>,
    pub(super) rooms: Vec<RoomEntry>,
}

/// What a file says. The first thing wrong with it is reported.
pub(super) fn parse(path: &Path, text: &str) -> Result<Parsed, ConfigError> {
    let document = Document { path, text };
    let table = DeTable::parse(text).map_err(|error| document.syntax_error(&error))?;
    let mut parsed = Parsed::default();
    let entries = &mut parsed.entries;
    for (key, value) in by_line(table.get_ref()) {
        if key.get_ref() == ROOMS_TABLE {
            parsed.rooms = document.rooms(key, value)?;
            continue;
        }
        if key.get_ref() != LIMITS_TABLE {
            entries.push(document.entry(Section::Server, key, value)?);
            continue;
        }
        let DeValue::Table(limits) = value.get_ref() else {
            return Err(document.wrong_limits(key, value));
        };
        for (key, value) in by_line(limits) {
            entries.push(document.entry(Section::Limits, key, value)?);
        }
    }
    Ok(parsed)
}

type Pair<'t, 'i> = (
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
);

/// The pairs of a table in the order of the file: the parser keeps them in alphabetical order.
fn by_line<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Pair<'t, 'i>> {
    let mut pairs: Vec<Pair<'t, 'i>> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

/// A file, for the messages about it.
struct Document<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Document<'_> {
    fn entry(
        &self,
        section: Section,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Entry, ConfigError> {
        let line = self.line(key.span().start);
        let setting = settings()
            .iter()
            .find(|setting| setting.section == section && setting.name == key.get_ref())
            .ok_or_else(|| ConfigError::UnknownKey {
                path: self.path.to_path_buf(),
                line,
                key: match section {
                    Section::Server => key.get_ref().to_string(),
                    Section::Limits => format!("{LIMITS_TABLE}.{}", key.get_ref()),
                },
                advice: advice(section, key.get_ref()),
            })?;
        let text =
            text_form(setting.shape(), value.get_ref()).ok_or_else(|| ConfigError::Value {
                given: format!(
                    "{}:{line}: {} = {}",
                    self.path.display(),
                    setting.name,
                    without_userinfo(self.excerpt(value.span()))
                ),
                permitted: match setting.shape() {
                    Shape::Number => setting.permitted.clone(),
                    Shape::Text => format!("a string with {}", setting.permitted),
                    Shape::List => format!("an array of strings with {}", setting.permitted),
                },
                default: setting.default.clone(),
            })?;
        Ok(Entry {
            setting,
            text,
            line,
        })
    }

    /// The entries of `[[rooms]]`.
    fn rooms(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<RoomEntry>, ConfigError> {
        let tables = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| match item.get_ref() {
                DeValue::Table(table) => Some((item.span().start, table)),
                _ => None,
            }),
            _ => return Err(self.wrong_rooms(key, value)),
        };
        let tables: Option<Vec<_>> = tables.collect();
        let tables = tables.ok_or_else(|| self.wrong_rooms(key, value))?;
        let entries = tables.into_iter();
        entries
            .map(|(start, table)| self.room(self.line(start), table))
            .collect()
    }

    fn room(&self, line: usize, table: &DeTable<'_>) -> Result<RoomEntry, ConfigError> {
        let mut entry = RoomEntry {
            settings: RoomSettings::new(Pattern::all()),
            lines: Vec::new(),
        };
        for (key, value) in by_line(table) {
            let line = self.line(key.span().start);
            let known = room_keys()
                .iter()
                .find(|known| known.name == key.get_ref())
                .ok_or_else(|| ConfigError::UnknownKey {
                    path: self.path.to_path_buf(),
                    line,
                    key: format!("{ROOMS_TABLE}.{}", key.get_ref()),
                    advice: room_advice(key.get_ref()),
                })?;
            let text = text_form(known.shape, value.get_ref());
            let assigned =
                text.is_some_and(|text| known.assign(&mut entry.settings, &text).is_ok());
            if !assigned {
                return Err(ConfigError::Value {
                    given: format!(
                        "{}:{line}: {ROOMS_TABLE}.{} = {}",
                        self.path.display(),
                        known.name,
                        self.excerpt(value.span())
                    ),
                    permitted: match known.shape {
                        Shape::Number => known.permitted.clone(),
                        Shape::Text | Shape::List => format!("a string with {}", known.permitted),
                    },
                    default: known.default.to_owned(),
                });
            }
            entry.lines.push((known.name, line));
        }
        if entry.line(PATTERN_KEY) == 0 {
            return Err(ConfigError::Rooms {
                place: format!("{}:{line}", self.path.display()),
                message: format!(
                    "this entry [[{ROOMS_TABLE}]] does not say which rooms it means; add a line such as {PATTERN_KEY} = \"chat.*\""
                ),
            });
        }
        Ok(entry)
    }

    fn wrong_rooms(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> ConfigError {
        let permitted = format!(
            "a list of tables: for each pattern a line [[{ROOMS_TABLE}]] and its keys below it"
        );
        self.wrong_table(key, value, permitted, "none: all rooms are alike")
    }

    fn wrong_limits(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> ConfigError {
        let permitted = format!("a table: a line [{LIMITS_TABLE}] and the limits below it");
        self.wrong_table(key, value, permitted, "every limit's own")
    }

    /// What stands where a table should.
    fn wrong_table(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        permitted: String,
        default: &str,
    ) -> ConfigError {
        ConfigError::Value {
            given: format!(
                "{}:{}: {} = {}",
                self.path.display(),
                self.line(key.span().start),
                key.get_ref(),
                self.excerpt(value.span())
            ),
            permitted,
            default: default.to_owned(),
        }
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        let line_start = self.before(start).rfind('\n').map_or(0, |end| end + 1);
        let in_line = self.text.get(line_start..start).unwrap_or("");
        ConfigError::FileSyntax {
            path: self.path.to_path_buf(),
            line: self.line(start),
            column: in_line.chars().count() + 1,
            message: error.message().to_owned(),
        }
    }

    fn before(&self, offset: usize) -> &str {
        self.text.get(..offset).unwrap_or(self.text)
    }

    fn line(&self, offset: usize) -> usize {
        self.before(offset).matches('\n').count() + 1
    }

    /// The first line of a value as it stands in the file.
    fn excerpt(&self, span: Range<usize>) -> &str {
        let value = self.text.get(span).unwrap_or("");
        value.lines().next().unwrap_or("")
    }
}

/// The value in the form that flags and variables use, where it is of the right kind.
fn text_form(shape: Shape, value: &DeValue<'_>) -> Option<String> {
    match (shape, value) {
        (Shape::Number, DeValue::Integer(number)) => {
            // A number that is negative or beyond 64 bits keeps its own form: its range refuses it.
            let text = u64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.to_string(), |number| number.to_string());
            Some(text)
        }
        (Shape::Text | Shape::List, DeValue::String(text)) => Some(text.to_string()),
        (Shape::List, DeValue::Array(items)) => {
            let items: Option<Vec<&str>> =
                items.iter().map(|item| item.get_ref().as_str()).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

/// What to do about an unknown key of an entry of `[[rooms]]`.
fn room_advice(key: &str) -> String {
    let likeness = |known: &RoomKey| strsim::normalized_damerau_levenshtein(known.name, key);
    let nearest = room_keys()
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|known| likeness(known) >= LIKENESS_MIN);
    match nearest {
        Some(known) => format!("the nearest known name is `{}`", known.name),
        None => {
            let names: Vec<&str> = room_keys().iter().map(|known| known.name).collect();
            format!("known are {}", one_of(&names))
        }
    }
}

/// What to do about an unknown key.
fn advice(section: Section, key: &str) -> String {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let likeness = |setting: &Setting| strsim::normalized_damerau_levenshtein(setting.name, &key);
    let nearest = settings()
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|setting| likeness(setting) >= LIKENESS_MIN);
    match nearest {
        Some(setting) if setting.section == section => {
            format!("the nearest known name is `{}`", setting.name)
        }
        Some(setting) if setting.section == Section::Limits => format!(
            "the nearest known name is `{}`, which belongs below [{LIMITS_TABLE}]",
            setting.name
        ),
        Some(setting) => format!(
            "the nearest known name is `{}`, which belongs at the top of the file, above [{LIMITS_TABLE}]",
            setting.name
        ),
        None => "`shardcast config` lists every name".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(&'static str, String, usize)>, String> {
        parse(Path::new("a.toml"), text)
            .map(|parsed| {
                let entries = parsed.entries.into_iter();
                entries
                    .map(|entry| (entry.setting.name, entry.text, entry.line))
                    .collect()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn entries_come_in_the_order_of_their_lines() {
        let text = "shards = 2\n\ncores = '0-1'\norigins = [\n  'https://a',\n  'https://b',\n]\n[limits]\nrooms_max = 0x10\nids_max = 1_000\n";
        assert_eq!(
            parsed(text).unwrap(),
            [
                ("shards", "2".to_owned(), 1),
                ("cores", "0-1".to_owned(), 3),
                ("origins", "https://a,https://b".to_owned(), 4),
                ("rooms_max", "16".to_owned(), 9),
                ("ids_max", "1000".to_owned(), 10),
            ]
        );
        assert_eq!(parsed("").unwrap(), []);
        assert_eq!(
            parsed("limits.ids_max = 1").unwrap(),
            [("ids_max", "1".to_owned(), 1)]
        );
        assert_eq!(
            parsed("origins = 'https://a'").unwrap(),
            [("origins", "https://a".to_owned(), 1)]
        );
    }

    #[test]
    fn entries_about_rooms_keep_their_order_and_their_lines() {
        let text = "shards = 2\n[[rooms]]\nhistory_messages_max = 0\npattern = 'ticker.*'\n\n[limits]\nids_max = 3\n\n[[rooms]]\npattern = '*'\n";
        let parsed = parse(Path::new("a.toml"), text).unwrap();
        assert_eq!(parsed.entries.len(), 2);
        let found: Vec<(&str, usize, usize)> = parsed
            .rooms
            .iter()
            .map(|entry| {
                let line = |key| entry.line(key);
                let pattern = entry.settings.pattern.as_str();
                (pattern, line("pattern"), line("history_messages_max"))
            })
            .collect();
        assert_eq!(found, [("ticker.*", 4, 3), ("*", 10, 0)]);
        assert_eq!(parsed.rooms[0].settings.history_messages_max, Some(0));
        assert_eq!(parsed.rooms[1].settings.history_messages_max, None);
    }

    #[test]
    fn what_is_wrong_and_where() {
        // Text of the file, parts of the message.
        let cases: &[(&str, &[&str])] = &[
            (
                "\nshard = 2",
                &["a.toml:2:", "unknown key `shard`", "`shards`"],
            ),
            (
                "[limits]\nshard-connections_max = 2",
                &["a.toml:2:", "`shard_connections_max`"],
            ),
            (
                "rooms_max = 2",
                &["a.toml:1:", "`rooms_max`", "below [limits]"],
            ),
            (
                "[limits]\nlisten = ''",
                &["a.toml:2:", "`limits.listen`", "above [limits]"],
            ),
            (
                "# one\n[qqq]\nx = 1",
                &["a.toml:2:", "`qqq`", "shardcast config"],
            ),
            (
                "shards = 'two'",
                &["a.toml:1: shards = 'two'", "from 1 to 1_024"],
            ),
            ("shards = 2.5", &["a.toml:1: shards = 2.5", "whole number"]),
            ("listen = 9000", &["listen = 9000", "a string with"]),
            (
                "origins = [1]",
                &["origins = [1]", "an array of strings with"],
            ),
            (
                "auth_jwks = ['https://me:secret@id.example']",
                &["auth_jwks = ['https://…@id.example']", "a string with"],
            ),
            ("limits = 3", &["a.toml:1: limits = 3", "a table"]),
            (
                "\nshards = 1\nshards = 2",
                &["a.toml:3:1:", "duplicate key"],
            ),
            ("rooms = 3", &["a.toml:1: rooms = 3", "a list of tables"]),
            ("rooms = [3]", &["a.toml:1: rooms = [3]", "[[rooms]]"]),
            (
                "[[rooms]]\npattern = 'a'\n\n[[rooms]]\npublish = 'server'",
                &["a.toml:4:", "which rooms", "pattern = "],
            ),
            (
                "[[rooms]]\npattern = 'a'\nhistroy_bytes_max = 3",
                &[
                    "a.toml:3:",
                    "`rooms.histroy_bytes_max`",
                    "`history_bytes_max`",
                ],
            ),
            (
                "[[rooms]]\npattern = 'a'\nqqq = 3",
                &["a.toml:3:", "`rooms.qqq`", "known are `pattern`"],
            ),
            (
                "[[rooms]]\npattern = ''",
                &["a.toml:2: rooms.pattern = ''", "a string with a name"],
            ),
            (
                "[[rooms]]\npresence = 'none'\npattern = 'a'",
                &["a.toml:2: rooms.presence = 'none'", "`count` or `off`"],
            ),
            (
                "[[rooms]]\npattern = 'a'\nmessage_size_max = 0",
                &["a.toml:3: rooms.message_size_max = 0", "from 1 to"],
            ),
            (
                "[[rooms]]\npattern = 'a'\nslow_consumer = true",
                &["a.toml:3: rooms.slow_consumer = true", "`conflate`"],
            ),
            ("shards = ", &["a.toml:1:"]),
            ("é = \"", &["a.toml:1:"]),
        ];
        for (text, parts) in cases {
            let message = parsed(text).unwrap_err();
            for part in *parts {
                assert!(message.contains(part), "{text:?}: {message}");
            }
        }
    }

    #[test]
    fn the_first_line_that_is_wrong_is_reported() {
        let message = parsed("zzz = 1\naaa = 1").unwrap_err();
        assert!(message.contains("a.toml:1:"), "{message}");
    }
}
