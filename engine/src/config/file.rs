//! The configuration file: from TOML to the text form of each setting, with the line of each for messages.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

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

/// The entries of a file, in the order of their lines. The first thing wrong with it is reported.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let document = Document { path, text };
    let table = DeTable::parse(text).map_err(|error| document.syntax_error(&error))?;
    let mut entries = Vec::new();
    for (key, value) in by_line(table.get_ref()) {
        if key.get_ref() != LIMITS_TABLE {
            entries.push(document.entry(Section::Server, key, value)?);
            continue;
        }
        let DeValue::Table(limits) = value.get_ref() else {
            return Err(document.wrong_table(key, value));
        };
        for (key, value) in by_line(limits) {
            entries.push(document.entry(Section::Limits, key, value)?);
        }
    }
    Ok(entries)
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

    fn wrong_table(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> ConfigError {
        ConfigError::Value {
            given: format!(
                "{}:{}: {LIMITS_TABLE} = {}",
                self.path.display(),
                self.line(key.span().start),
                self.excerpt(value.span())
            ),
            permitted: format!("a table: a line [{LIMITS_TABLE}] and the limits below it"),
            default: "every limit's own".to_owned(),
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
            .map(|entries| {
                entries
                    .into_iter()
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
