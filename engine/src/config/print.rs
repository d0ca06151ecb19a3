//! The effective configuration for people, as a file, and as a table of the documentation.

use std::fmt::Write as _;

use super::rooms::{ROOMS_TABLE, room_keys};
use super::{EffectiveConfig, Section, Setting, Source, settings};

/// Columns of a comment in the TOML form.
const COMMENT_COLUMNS: usize = 100;

/// How `shardcast config` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Name, value and source of each setting.
    #[default]
    Text,
    /// A configuration file that gives the same configuration. Defaults are comments.
    Toml,
    /// The options as tables for a page of documentation, without the values in effect.
    Markdown,
}

impl EffectiveConfig {
    /// The configuration in the form asked for, with a line feed at its end.
    #[must_use]
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Toml => self.toml(),
            Format::Markdown => markdown(),
        }
    }

    /// Name, value and source of each setting, those of entries about rooms included.
    #[must_use]
    pub fn rows(&self) -> Vec<(String, String, Source)> {
        let mut rows: Vec<(String, String, Source)> = settings()
            .iter()
            .map(|setting| {
                let value = setting.text(&self.config);
                (setting.name.to_owned(), value, self.source(setting.name))
            })
            .collect();
        for (entry, room) in self.config.rooms.iter().enumerate() {
            rows.extend(room_keys().iter().filter_map(|key| {
                let name = format!("{ROOMS_TABLE}[{entry}].{}", key.name);
                Some((name, key.text(room)?, self.room_source(entry, key.name)))
            }));
        }
        rows
    }

    fn text(&self) -> String {
        let mut rows = self.rows();
        for (_, value, _) in &mut rows {
            if value.is_empty() {
                value.push_str("(empty)");
            }
        }
        let name_columns = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
        let value_columns = rows
            .iter()
            .map(|row| row.1.chars().count())
            .max()
            .unwrap_or(0);
        rows.iter()
            .map(|(name, value, source)| {
                format!("{name:name_columns$}  {value:value_columns$}  {source}\n")
            })
            .collect()
    }

    fn toml(&self) -> String {
        let mut file = String::from(
            "# Configuration of shardcast. A line that is a comment shows a default; a flag or a variable outranks this file.\n",
        );
        let mut section = Section::Server;
        for setting in settings() {
            if setting.section != section {
                section = setting.section;
                file.push_str("\n[limits]\n");
            }
            file.push('\n');
            for line in comment(setting) {
                push_line(&mut file, format_args!("# {line}"));
            }
            let value = setting.toml_value(&setting.text(&self.config));
            match self.source(setting.name) {
                Source::Default => {
                    push_line(&mut file, format_args!("# {} = {value}", setting.name));
                }
                source => push_line(
                    &mut file,
                    format_args!("{} = {value} # {source}", setting.name),
                ),
            }
        }
        self.rooms_toml(&mut file);
        file
    }

    /// What the keys of `[[rooms]]` mean, and the entries.
    fn rooms_toml(&self, file: &mut String) {
        push_line(file, format_args!("\n# [[{ROOMS_TABLE}]]"));
        for key in room_keys() {
            let sentences = format!(
                "{}: {} Permitted: {}. Default: {}.",
                key.name, key.help, key.permitted, key.default
            );
            for line in lines_of(&sentences) {
                push_line(file, format_args!("# {line}"));
            }
        }
        for (entry, room) in self.config.rooms.iter().enumerate() {
            push_line(file, format_args!("\n[[{ROOMS_TABLE}]]"));
            for key in room_keys() {
                let Some(text) = key.text(room) else { continue };
                let (value, source) = (key.toml_value(&text), self.room_source(entry, key.name));
                push_line(file, format_args!("{} = {value} # {source}", key.name));
            }
        }
    }
}

/// Appends a line.
fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// The documentation of a setting as lines of at most [`COMMENT_COLUMNS`].
fn comment(setting: &Setting) -> Vec<String> {
    let sentences = format!(
        "{} Permitted: {}. Default: {}.",
        setting.help, setting.permitted, setting.default
    );
    lines_of(&sentences)
}

/// Sentences as lines of at most [`COMMENT_COLUMNS`].
fn lines_of(sentences: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentences.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= COMMENT_COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The tables of options for the documentation.
fn markdown() -> String {
    let mut page = String::from(
        "Each option is a flag (`--shard-connections-max 1000`), an environment variable (`SHARDCAST_SHARD_CONNECTIONS_MAX=1000`)\n\
         and a key of the TOML file that `--config` names (`shard_connections_max = 1000`). A flag outranks a variable, a\n\
         variable outranks the file. `shardcast config` prints every value in effect and where it comes from.\n",
    );
    let parts = [
        (
            Section::Server,
            "These keys stand at the top of the file.",
            "Option",
        ),
        (
            Section::Limits,
            "These keys stand below `[limits]`.",
            "Limit",
        ),
    ];
    for (section, note, heading) in parts {
        push_line(
            &mut page,
            format_args!(
                "\n{note}\n\n| {heading} | Default | Permitted | Meaning |\n|---|---|---|---|"
            ),
        );
        for setting in settings()
            .iter()
            .filter(|setting| setting.section == section)
        {
            push_line(
                &mut page,
                format_args!(
                    "| `{} {}` | {} | {} | {} |",
                    setting.flag(),
                    setting.placeholder,
                    cell(&setting.default),
                    cell(&setting.permitted),
                    cell(&setting.help)
                ),
            );
        }
    }
    push_rooms(&mut page);
    page
}

/// The keys of `[[rooms]]` as a table for the documentation.
fn push_rooms(page: &mut String) {
    push_line(
        page,
        format_args!(
            "\nThese keys stand below a line `[[{ROOMS_TABLE}]]` for each pattern of names, in the file alone. The first entry whose pattern fits a room counts.\n\n\
             | Key | Default | Permitted | Meaning |\n|---|---|---|---|"
        ),
    );
    for key in room_keys() {
        push_line(
            page,
            format_args!(
                "| `{}` | {} | {} | {} |",
                key.name,
                cell(key.default),
                cell(&key.permitted),
                cell(key.help)
            ),
        );
    }
}

/// Text that cannot end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1_000"),
            (20_000, "20_000"),
            (1_099_511_627_776, "1_099_511_627_776"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number, '_'), text);
        }
    }

    #[test]
    fn comments_are_narrow_and_whole() {
        for setting in settings() {
            let lines = comment(setting);
            assert!(lines.iter().all(|line| line.len() <= COMMENT_COLUMNS));
            assert!(lines.join(" ").starts_with(&setting.help));
        }
    }

    #[test]
    fn the_documentation_has_a_row_for_each_setting() {
        let page = markdown();
        let rows = page.lines().filter(|line| line.starts_with("| `--"));
        assert_eq!(rows.clone().count(), settings().len());
        for row in rows {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 5, "{row}");
        }
    }
}
