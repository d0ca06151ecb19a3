//! What is typed into the line of `chat`.

use super::conversation::Target;
use super::session::Command;

/// What `/help` shows.
pub const HELP: &[(&str, &str)] = &[
    ("/join ROOM", "join a room, or look at it"),
    ("/leave", "leave the room that is shown"),
    ("/who", "who is here"),
    (
        "/msg USER TEXT",
        "write to one user; \"two words\" in quotes",
    ),
    ("/reconnect", "connect now"),
    ("/quit", "end; so does Ctrl-C"),
    ("//text", "say /text"),
    ("Tab, Shift-Tab", "the next conversation, the one before"),
    (
        "PageUp, PageDown",
        "back and forth; at the top older messages come",
    ),
    ("Up, Down", "what was typed before"),
    ("Esc", "to the end of the conversation"),
];

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing.
    Nothing,
    /// To be carried out by the session.
    Command(Command),
    /// Explain.
    Help,
    /// End.
    Quit,
    /// Connect now.
    Reconnect,
    /// It means nothing; says why.
    Wrong(String),
}

impl Typed {
    /// Understands a line, where this conversation is shown.
    #[must_use]
    pub fn parse(line: &str, shown: Option<&Target>) -> Self {
        let Some(command) = line.strip_prefix('/') else {
            return Self::say(line, shown);
        };
        if command.starts_with('/') {
            return Self::say(command, shown);
        }
        let (name, rest) = word(command);
        let rest = rest.trim();
        match (name.as_str(), rest, shown) {
            ("join" | "j", "", _) => Self::wrong("which room? /join ROOM"),
            ("join" | "j", name, _) => Self::Command(Command::Open(target_of(name))),
            ("leave" | "part", "", Some(shown)) => Self::Command(Command::Leave(shown.clone())),
            ("leave" | "part", "", None) => Self::wrong("there is nothing to leave"),
            ("leave" | "part", name, _) => Self::Command(Command::Leave(target_of(name))),
            ("who" | "names", _, Some(shown)) => Self::Command(Command::Who(shown.clone())),
            ("who" | "names", _, None) => Self::wrong("which room? /join one first"),
            ("msg" | "m", rest, _) => match word(rest) {
                (user, _) if user.is_empty() => Self::wrong("to whom? /msg USER TEXT"),
                (user, text) if text.trim().is_empty() => {
                    Self::Command(Command::Open(Target::User(user)))
                }
                (user, text) => Self::Command(Command::Say(
                    Target::User(user),
                    text.trim_start().to_owned(),
                )),
            },
            ("help" | "h" | "?", ..) => Self::Help,
            ("quit" | "q" | "exit", ..) => Self::Quit,
            ("reconnect", ..) => Self::Reconnect,
            (name, ..) => Self::Wrong(format!("there is no /{name}; /help tells what there is")),
        }
    }

    fn say(text: &str, shown: Option<&Target>) -> Self {
        match shown {
            _ if text.trim().is_empty() => Self::Nothing,
            Some(shown) => Self::Command(Command::Say(shown.clone(), text.to_owned())),
            None => Self::wrong("nobody would hear it: /join ROOM first"),
        }
    }

    fn wrong(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

/// A name as it is shown: users have an `@`.
fn target_of(name: &str) -> Target {
    match name.strip_prefix('@') {
        Some(user) if !user.is_empty() => Target::User(user.to_owned()),
        _ => Target::Room(name.to_owned()),
    }
}

/// The first word, which may stand in quotes, and what follows it.
fn word(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let (word, rest) = match text.strip_prefix('"').and_then(|text| text.split_once('"')) {
        Some(quoted) => quoted,
        None => text.split_once(' ').unwrap_or((text, "")),
    };
    (word.to_owned(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let (room, user) = (
            |name: &str| Target::Room(name.to_owned()),
            |name: &str| Target::User(name.to_owned()),
        );
        let say = |target, text: &str| Typed::Command(Command::Say(target, text.to_owned()));
        let tea = room("tea");
        let cases = [
            ("", Typed::Nothing),
            ("  ", Typed::Nothing),
            ("hello there", say(tea.clone(), "hello there")),
            ("//slash", say(tea.clone(), "/slash")),
            (
                "/join a room",
                Typed::Command(Command::Open(room("a room"))),
            ),
            ("/join @bob", Typed::Command(Command::Open(user("bob")))),
            ("/leave", Typed::Command(Command::Leave(tea.clone()))),
            (
                "/leave lobby",
                Typed::Command(Command::Leave(room("lobby"))),
            ),
            ("/who", Typed::Command(Command::Who(tea.clone()))),
            ("/msg bob how  are you", say(user("bob"), "how  are you")),
            ("/msg \"bob b\" hi", say(user("bob b"), "hi")),
            ("/msg bob", Typed::Command(Command::Open(user("bob")))),
            ("/quit", Typed::Quit),
            ("/help", Typed::Help),
            ("/reconnect", Typed::Reconnect),
        ];
        for (line, expected) in cases {
            assert_eq!(Typed::parse(line, Some(&tea)), expected, "{line}");
        }
        for (line, shown) in [
            ("/join", Some(&tea)),
            ("/msg", Some(&tea)),
            ("/nothing", Some(&tea)),
            ("hello", None),
            ("/who", None),
            ("/leave", None),
        ] {
            let typed = Typed::parse(line, shown);
            assert!(matches!(typed, Typed::Wrong(_)), "{line}: {typed:?}");
        }
    }
}
