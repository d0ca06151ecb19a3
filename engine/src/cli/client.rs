//! The subcommands that talk to a server, and their options.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use crate::client::api::ApiOptions;
use crate::client::chat::link::ServerUrl;
use crate::client::publish::Content;
use crate::client::{Task, api, chat, publish, rooms, top};

/// Where a server of this host listens when nobody says otherwise.
const SERVER: &str = "ws://127.0.0.1:9000/ws";

/// Where its admin API is.
const API: &str = "http://127.0.0.1:9001";

/// Rooms or messages that are shown where nobody says how many.
const LIMIT: &str = "100";

/// All of them.
pub(super) fn commands() -> [Command; 4] {
    [
        chat_command(),
        publish_command(),
        rooms_command(),
        top_command(),
    ]
}

/// What a subcommand of this name is to do.
///
/// # Errors
/// Arguments that do not go together, as clap says it.
pub(super) fn task_of(name: &str, matches: &ArgMatches) -> Result<Task, clap::Error> {
    Ok(match name {
        "publish" => Task::Publish(publish_of(matches)?),
        "rooms" => Task::Rooms(rooms_of(matches)),
        "top" => Task::Top(top::Options {
            api: api_of(matches),
            once: matches.get_flag("once"),
        }),
        _ => Task::Chat(chat_of(matches)),
    })
}

fn chat_command() -> Command {
    Command::new("chat")
        .about("Talk in rooms: history, who is there, direct messages; it survives restarts of the server")
        .after_help(
            "In a terminal it takes the screen, and /help says what can be typed. Where standard input or output is none it prints each message as a line and sends each line \
             of standard input, as it stands, to the first room; at the end of the input it goes as soon as the server has everything, unless --follow is given.\n\
             Exits with 0 after /quit or the end of the input, 1 where the server cannot be reached or refuses, 2 where the command line is wrong.",
        )
        .arg(
            Arg::new("rooms")
                .value_name("ROOM")
                .num_args(0..)
                .value_parser(parse_name)
                .help("Rooms to join; /join takes further ones"),
        )
        .arg(
            Arg::new("server")
                .long("server")
                .value_name("URL")
                .env("SHARDCAST_SERVER")
                .hide_env_values(true)
                .default_value(SERVER)
                .value_parser(parse_server)
                .value_hint(ValueHint::Url)
                .help("The server, ws:// or wss://"),
        )
        .arg(
            Arg::new("user")
                .long("user")
                .value_name("NAME")
                .env("USER")
                .hide_env_values(true)
                .value_parser(parse_name)
                .help("Who you are, where no token says so"),
        )
        .arg(
            file("token", "A file with your token, where the server wants one; it is read again at each reconnect")
                .env("SHARDCAST_TOKEN")
                .hide_env_values(true),
        )
        .arg(file(
            "tls-ca",
            "Certificates to believe over wss://, as a PEM file, in place of the public authorities",
        ))
        .arg(
            Arg::new("follow")
                .long("follow")
                .action(ArgAction::SetTrue)
                .help("Without a terminal: go on printing after the end of standard input"),
        )
}

fn publish_command() -> Command {
    let published = "Text is published as a JSON string, an object or an array of JSON as what it is; --json takes any JSON value, --text takes none. The content - reads standard input: each line is \
                     a message. Prints the message's place in the order, EPOCH.SEQ.\n\
                     Exits with 0, with 1 where something was not published, with 2 where the command line is wrong.";
    with_api(
        Command::new("publish")
            .about("Publish to a room, or to every connection of a user")
            .override_usage("shardcast publish [OPTIONS] ROOM CONTENT\n       shardcast publish [OPTIONS] --user NAME CONTENT")
            .after_help(published)
            .arg(
                Arg::new("arguments")
                    .value_name("ROOM CONTENT")
                    .action(ArgAction::Append)
                    .required(true)
                    .help("The room, unless --user is given, and what to publish; - reads lines, and -- goes before what begins with a dash"),
            )
            .arg(
                Arg::new("user")
                    .long("user")
                    .value_name("NAME")
                    .value_parser(parse_name)
                    .help("To this user, in place of a room"),
            )
            .arg(
                Arg::new("as")
                    .long("as")
                    .value_name("NAME")
                    .value_parser(parse_name)
                    .help("In whose name [default: server]"),
            )
            .arg(
                Arg::new("id")
                    .long("id")
                    .value_name("KEY")
                    .help("Makes a repeat harmless: the same again with the same key is not published again; of lines KEY/1, KEY/2 and so on"),
            )
            .arg(
                Arg::new("json")
                    .long("json")
                    .action(ArgAction::SetTrue)
                    .conflicts_with("text")
                    .help("The content is JSON of any kind, and refused where it is none"),
            )
            .arg(
                Arg::new("text")
                    .long("text")
                    .action(ArgAction::SetTrue)
                    .help("The content is text, whatever it looks like"),
            ),
    )
}

fn rooms_command() -> Command {
    with_api(
        Command::new("rooms")
            .about("List rooms with who is in them, or show one with its members and last messages")
            .arg(
                Arg::new("room")
                    .value_name("ROOM")
                    .value_parser(parse_name)
                    .conflicts_with("prefix")
                    .help("Show this one"),
            )
            .arg(
                Arg::new("prefix")
                    .long("prefix")
                    .value_name("TEXT")
                    .help("Only rooms whose names begin so"),
            )
            .arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("N")
                    .default_value(LIMIT)
                    .value_parser(clap::value_parser!(u32).range(1..=1_000_000))
                    .help("So many rooms; of one room so many members and messages"),
            )
            .arg(
                Arg::new("json")
                    .long("json")
                    .action(ArgAction::SetTrue)
                    .help("Print JSON: an array of rooms, or one object"),
            ),
    )
}

fn top_command() -> Command {
    with_api(
        Command::new("top")
            .about("Watch a server: rates, latencies, shards, the busiest rooms, slow consumers")
            .after_help(
                "Keys: q ends, Tab and the arrows go between the lists, s sorts by another column, p pauses, ? explains.",
            )
            .arg(
                Arg::new("once")
                    .long("once")
                    .action(ArgAction::SetTrue)
                    .help("Print one picture as text and end; so it is also where standard output is no terminal"),
            ),
    )
}

/// A command with the options that lead to the admin API.
fn with_api(command: Command) -> Command {
    command
        .arg(
            Arg::new("api")
                .long("api")
                .value_name("URL")
                .env("SHARDCAST_API")
                .hide_env_values(true)
                .default_value(API)
                .value_parser(parse_api)
                .value_hint(ValueHint::Url)
                .help("The admin API of the server, http:// or https://"),
        )
        .arg(
            file(
                "api-token",
                "A file with the token of the admin API, where it wants one",
            )
            .env("SHARDCAST_API_TOKEN")
            .hide_env_values(true),
        )
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help(help)
}

fn parse_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a name has at least one character".to_owned()),
        _ if text.chars().any(char::is_control) => {
            Err("a name has no control characters".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// A variable that is empty counts as not set.
fn parse_server(text: &str) -> Result<ServerUrl, String> {
    ServerUrl::parse(if text.is_empty() { SERVER } else { text })
}

/// The same of the admin API.
fn parse_api(text: &str) -> Result<String, String> {
    api::parse_url(if text.is_empty() { API } else { text })
}

fn api_of(matches: &ArgMatches) -> ApiOptions {
    // It has a default.
    let url = matches.get_one::<String>("api").cloned();
    ApiOptions {
        url: url.unwrap_or_else(|| API.to_owned()),
        token: path_of(matches, "api-token"),
    }
}

/// A path that was given; an empty one, as of a variable that is not set, was not.
fn path_of(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    let path = matches.get_one::<PathBuf>(name);
    path.filter(|path| !path.as_os_str().is_empty()).cloned()
}

fn text_of(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn publish_of(matches: &ArgMatches) -> Result<publish::Options, clap::Error> {
    let mut arguments = matches
        .get_many::<String>("arguments")
        .into_iter()
        .flatten()
        .cloned();
    let user = text_of(matches, "user");
    let (first, second, more) = (arguments.next(), arguments.next(), arguments.next());
    let (target, content) = match (user, first, second) {
        _ if more.is_some() => {
            return Err(misused(
                "CONTENT is one argument; quote it where it has spaces",
            ));
        }
        (Some(user), Some(content), None) => (publish::Target::User(user), content),
        (None, Some(room), Some(content)) => {
            let checked = parse_name(&room).map_err(|why| misused(&format!("ROOM: {why}")))?;
            (publish::Target::Room(checked), content)
        }
        (Some(_), ..) => {
            return Err(misused(
                "with --user there is one argument, CONTENT; quote it where it has spaces",
            ));
        }
        (None, ..) => {
            return Err(misused(
                "CONTENT is missing: `shardcast publish ROOM CONTENT`, or `-` in its place to read lines",
            ));
        }
    };
    let form = match (matches.get_flag("json"), matches.get_flag("text")) {
        (true, _) => Content::Json,
        (_, true) => Content::Text,
        _ => Content::Either,
    };
    Ok(publish::Options {
        api: api_of(matches),
        target,
        content,
        form,
        sender: text_of(matches, "as"),
        id: text_of(matches, "id"),
    })
}

fn misused(why: &str) -> clap::Error {
    super::command().error(ErrorKind::WrongNumberOfValues, why)
}

fn rooms_of(matches: &ArgMatches) -> rooms::Options {
    rooms::Options {
        api: api_of(matches),
        room: text_of(matches, "room"),
        prefix: text_of(matches, "prefix"),
        // It has a default.
        limit: matches.get_one::<u32>("limit").copied().unwrap_or(100) as usize,
        json: matches.get_flag("json"),
    }
}

fn chat_of(matches: &ArgMatches) -> chat::Options {
    let rooms = matches.get_many::<String>("rooms").into_iter().flatten();
    chat::Options {
        // It has a default.
        server: matches
            .get_one::<ServerUrl>("server")
            .cloned()
            .unwrap_or_default(),
        user: text_of(matches, "user"),
        token: path_of(matches, "token"),
        authorities: path_of(matches, "tls-ca"),
        rooms: rooms.cloned().collect(),
        follow: matches.get_flag("follow"),
    }
}
