//! `shardcast rooms`: which rooms there are, or one of them with who is in it and what was said.

use std::io::{self, Write as _};
use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ClientError;
use super::api::{Api, ApiError, ApiOptions, escaped};
use super::figures::{bytes, grouped};
use super::text::shown_content;
use super::text::{self, harmless};

/// Entries that one request may ask for.
const PAGE_MAX: usize = 1000;

/// Requests that one list may take. With a prefix, an answer may be empty and not the last.
const PAGES_MAX: usize = 10_000;

/// Columns of a message in the table of one room.
const MESSAGE_COLUMNS: usize = 100;

/// What the command was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Through which admin API.
    pub api: ApiOptions,
    /// One room.
    pub room: Option<String>,
    /// Rooms whose names begin so.
    pub prefix: Option<String>,
    /// How many entries at most.
    pub limit: usize,
    /// Whether JSON is printed.
    pub json: bool,
}

/// A room, with all that the admin API says of it.
#[derive(Debug, Deserialize, Serialize)]
struct Room {
    room: String,
    users: u64,
    connections: u64,
    history_messages: u64,
    history_bytes: u64,
    last_message_unix_ms: Option<u64>,
    home: u32,
    epoch: u64,
    seq: u64,
}

#[derive(Debug, Deserialize)]
struct Rooms {
    rooms: Vec<Room>,
    next: Option<String>,
}

/// A user in a room, on one shard.
#[derive(Debug, Deserialize, Serialize)]
struct Member {
    user: String,
    shard: u32,
    connections: u64,
}

#[derive(Debug, Deserialize)]
struct Members {
    members: Vec<Member>,
    next: Option<String>,
}

/// A message that was published.
#[derive(Debug, Deserialize, Serialize)]
struct PastMessage {
    seq: u64,
    user: String,
    content: Value,
    timestamp: u64,
}

#[derive(Debug, Deserialize)]
struct History {
    messages: Vec<PastMessage>,
}

/// One room as JSON.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    room: &'a Room,
    members: &'a [Member],
    messages: &'a [PastMessage],
}

/// Prints them.
///
/// # Errors
/// The admin API cannot be asked, or knows no such room.
pub fn run(options: &Options) -> Result<ExitCode, ClientError> {
    let api = Api::new(&options.api)?;
    let text = match &options.room {
        Some(room) => one(&api, room, options)?,
        None => list(&api, options)?,
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn list(api: &Api, options: &Options) -> Result<String, ClientError> {
    let prefix = options.prefix.as_deref().map(escaped);
    let (mut rooms, more) = pages(options.limit, |limit, cursor| {
        let mut path = format!("/v1/rooms?limit={limit}");
        if let Some(prefix) = &prefix {
            path.push_str(&format!("&prefix={prefix}"));
        }
        if let Some(cursor) = cursor {
            path.push_str(&format!("&cursor={}", escaped(cursor)));
        }
        let page: Rooms = api.get(&path)?;
        Ok((page.rooms, page.next))
    })?;
    rooms.sort_by(|one, other| {
        let most = other.connections.cmp(&one.connections);
        most.then_with(|| one.room.cmp(&other.room))
    });
    if options.json {
        return json(&rooms);
    }
    if rooms.is_empty() {
        let of = options.prefix.as_deref().map(harmless);
        return Ok(match of {
            Some(prefix) => format!("no room has a name that begins with {prefix}\n"),
            None => "there are no rooms\n".to_owned(),
        });
    }
    let mut text = rooms_table(&rooms);
    if more {
        text.push_str("… there are more; --limit N shows up to N of them\n");
    }
    Ok(text)
}

fn one(api: &Api, name: &str, options: &Options) -> Result<String, ClientError> {
    let path = format!("/v1/rooms/{}", escaped(name));
    let room: Room = api.get(&path)?;
    let (mut members, more_members) = pages(options.limit, |limit, cursor| {
        let cursor = cursor.map(|cursor| format!("&cursor={}", escaped(cursor)));
        let page: Members = api.get(&format!(
            "{path}/members?limit={limit}{}",
            cursor.unwrap_or_default()
        ))?;
        Ok((page.members, page.next))
    })?;
    members.sort_by(|one, other| (&one.user, one.shard).cmp(&(&other.user, other.shard)));
    let limit = options.limit.min(PAGE_MAX);
    let history: History = api.get(&format!("{path}/history?limit={limit}"))?;
    if options.json {
        return json(&Whole {
            room: &room,
            members: &members,
            messages: &history.messages,
        });
    }
    let mut text = rooms_table(std::slice::from_ref(&room));
    text.push('\n');
    text.push_str(&members_table(&members));
    if more_members {
        text.push_str("… there are more; --limit N shows up to N of them\n");
    }
    text.push('\n');
    text.push_str(&messages_table(&history.messages));
    Ok(text)
}

/// Collects up to so many entries from as many answers as it takes, and says whether there are more.
fn pages<T>(
    limit: usize,
    mut page: impl FnMut(usize, Option<&str>) -> Result<(Vec<T>, Option<String>), ApiError>,
) -> Result<(Vec<T>, bool), ApiError> {
    let (mut entries, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let wanted = (limit - entries.len()).min(PAGE_MAX);
        let (further, next) = page(wanted, cursor.as_deref())?;
        entries.extend(further);
        match next {
            None => return Ok((entries, false)),
            Some(_) if entries.len() >= limit => break,
            next => cursor = next,
        }
    }
    Ok((entries, true))
}

fn json(value: &impl Serialize) -> Result<String, ClientError> {
    // Nothing here has keys that are no strings.
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    Ok(text + "\n")
}

fn rooms_table(rooms: &[Room]) -> String {
    let mut table = table(
        &[
            "ROOM",
            "USERS",
            "CONNECTIONS",
            "KEPT",
            "SIZE",
            "LAST MESSAGE",
        ],
        1..5,
    );
    for room in rooms {
        table.add_row([
            harmless(&room.room),
            grouped(room.users),
            grouped(room.connections),
            grouped(room.history_messages),
            bytes(room.history_bytes as f64),
            room.last_message_unix_ms
                .map_or_else(|| "–".to_owned(), text::moment),
        ]);
    }
    printed(&table)
}

fn members_table(members: &[Member]) -> String {
    if members.is_empty() {
        return "nobody is in it\n".to_owned();
    }
    let mut table = table(&["USER", "SHARD", "CONNECTIONS"], 1..3);
    for member in members {
        table.add_row([
            harmless(&member.user),
            member.shard.to_string(),
            grouped(member.connections),
        ]);
    }
    printed(&table)
}

fn messages_table(messages: &[PastMessage]) -> String {
    if messages.is_empty() {
        return "no message of it is kept\n".to_owned();
    }
    let mut table = table(&["SEQ", "TIME", "USER", "MESSAGE"], 0..1);
    for message in messages {
        let content = harmless(&shown_content(&message.content));
        table.add_row([
            message.seq.to_string(),
            text::moment(message.timestamp),
            harmless(&message.user),
            text::fit(&content, MESSAGE_COLUMNS),
        ]);
    }
    printed(&table)
}

/// Lines of columns without borders; numbers stand at the right.
fn table(header: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn printed(table: &Table) -> String {
    let text = table.to_string();
    text.lines().fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn room(name: &str, connections: u64) -> Room {
        Room {
            room: name.to_owned(),
            users: 1,
            connections,
            history_messages: 1234,
            history_bytes: 2048,
            last_message_unix_ms: None,
            home: 0,
            epoch: 1,
            seq: 2,
        }
    }

    #[test]
    fn pages_until_the_limit_or_the_end() {
        // Of seven entries, in pages of at most three; the second page is empty, as with a prefix.
        let source = |limit: usize, cursor: Option<&str>| {
            let from: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
            let entries: Vec<usize> = match cursor {
                Some("3") => Vec::new(),
                _ => (from..7).take(limit.min(3)).collect(),
            };
            let next = match cursor {
                None => Some("3"),
                Some("3") => Some("4"),
                Some(_) => None,
            };
            Ok((entries, next.map(str::to_owned)))
        };
        let cases = [(2, 2, true), (3, 3, true), (5, 5, false), (100, 6, false)];
        for (limit, count, more) in cases {
            let (entries, further) = pages(limit, source).unwrap();
            assert_eq!((entries.len(), further), (count, more), "{limit}");
        }
    }

    #[test]
    fn a_table_of_rooms() {
        let text = rooms_table(&[room("tea", 12_345), room("\u{1b}[2Jevil", 1)]);
        assert_eq!(
            text,
            "ROOM      USERS  CONNECTIONS   KEPT      SIZE  LAST MESSAGE\n\
             tea           1       12,345  1,234  2.00 KiB  –\n\
             ␛[2Jevil      1            1  1,234  2.00 KiB  –\n"
        );
    }

    #[test]
    fn messages_cannot_drive_the_terminal() {
        let message = PastMessage {
            seq: 7,
            user: "eve".to_owned(),
            content: Value::from("\u{1b}]0;title\u{7}\nnext"),
            timestamp: 0,
        };
        let text = messages_table(&[message]);
        assert!(text.contains("␛]0;title␇␊next"), "{text}");
    }
}
