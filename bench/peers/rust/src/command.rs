//! The commands of the plain protocol.

/// The longest NAME or ROOM, in bytes.
pub const NAME_LENGTH_MAX: usize = 64;

/// The longest TEXT, in bytes.
pub const TEXT_LENGTH_MAX: usize = 64 * 1024;

/// What a message on `/rooms` asks for. The message itself is what others get, so a TEXT is checked and not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command<'message> {
    /// The sender is this user from now on.
    Login(&'message str),
    /// The sender is a member of this room from now on.
    Join(&'message str),
    /// Every member of this room gets the message.
    Send(&'message str),
    /// The connection of this user gets the message.
    Direct(&'message str),
}

/// A message that is no command of the protocol. Its sender is closed with code 1003.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a command of the plain protocol")]
pub struct BadCommand;

/// Reads one message.
///
/// # Errors
///
/// [`BadCommand`] where the verb is unknown, a name has none or more than [`NAME_LENGTH_MAX`] characters or one that is
/// not of `[A-Za-z0-9_.-]`, or the text is missing, empty or longer than [`TEXT_LENGTH_MAX`].
pub fn parse(message: &str) -> Result<Command<'_>, BadCommand> {
    let (verb, rest) = message.split_once(' ').ok_or(BadCommand)?;
    match verb {
        "login" => name(rest).map(Command::Login),
        "join" => name(rest).map(Command::Join),
        "send" => name_before_text(rest).map(Command::Send),
        "direct" => name_before_text(rest).map(Command::Direct),
        _ => Err(BadCommand),
    }
}

fn name_before_text(rest: &str) -> Result<&str, BadCommand> {
    let (word, text) = rest.split_once(' ').ok_or(BadCommand)?;
    if text.is_empty() || text.len() > TEXT_LENGTH_MAX {
        return Err(BadCommand);
    }
    name(word)
}

fn name(word: &str) -> Result<&str, BadCommand> {
    let length_allowed = (1..=NAME_LENGTH_MAX).contains(&word.len());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if length_allowed && word.bytes().all(allowed) {
        Ok(word)
    } else {
        Err(BadCommand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(parse("login ada"), Ok(Command::Login("ada")));
        assert_eq!(parse("join room-1_a.b"), Ok(Command::Join("room-1_a.b")));
        assert_eq!(parse("send r x"), Ok(Command::Send("r")));
        assert_eq!(parse("send r  two  spaces "), Ok(Command::Send("r")));
        assert_eq!(parse("direct ada ä text"), Ok(Command::Direct("ada")));
    }

    #[test]
    fn anything_else_is_refused() {
        for message in [
            "",
            " ",
            "login",
            "login ",
            "login a b",
            "login  a",
            "join",
            "join r x",
            "join é",
            "join a/b",
            "send",
            "send r",
            "send r ",
            "send  r x",
            "direct ada",
            "leave r",
            "JOIN r",
            " join r",
            "join\tr",
        ] {
            assert_eq!(parse(message), Err(BadCommand), "{message:?}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let longest = "n".repeat(NAME_LENGTH_MAX);
        assert_eq!(
            parse(&format!("join {longest}")),
            Ok(Command::Join(&longest))
        );
        assert_eq!(parse(&format!("join {longest}n")), Err(BadCommand));
        let text = "t".repeat(TEXT_LENGTH_MAX);
        assert_eq!(parse(&format!("send r {text}")), Ok(Command::Send("r")));
        assert_eq!(parse(&format!("send r {text}t")), Err(BadCommand));
    }
}
