//! `shardcast chat`: rooms in a terminal, or as lines where there is none.
//!
//! [`session`] is what a chat is, without a socket or a clock; [`link`] is one connection, [`live`] the session on one after the other. [`screen`] draws it, and [`lines`]
//! prints it.

pub mod backoff;
pub mod conversation;
pub mod lines;
pub mod link;
pub mod live;
pub mod screen;
pub mod session;
pub mod typed;
pub mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use ratatui::crossterm::event::Event as TerminalEvent;

use self::backoff::End;
use self::link::{Identity, ServerUrl, read_token};
use self::live::{Live, Standing, now_unix_ms};
use self::screen::{Doing, View};
use self::session::{CONVERSATIONS_MAX, Session};
use super::ClientError;
use super::terminal::{self, Screen};
use super::text::harmless;

/// Between two looks at the clock, and so at the screen, where nothing happens.
const PAUSE: Duration = Duration::from_millis(250);

/// Events that are handled before the screen is drawn again.
const EVENTS_PER_PICTURE_MAX: usize = 512;

/// What the command was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The server.
    pub server: ServerUrl,
    /// Who, where no token says it.
    pub user: Option<String>,
    /// The file of the token.
    pub token: Option<PathBuf>,
    /// Certificates to believe in place of the public authorities.
    pub authorities: Option<PathBuf>,
    /// What is joined.
    pub rooms: Vec<String>,
    /// Whether to go on after the end of standard input.
    pub follow: bool,
}

/// Why there is no chat, or no more.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// Nobody answered.
    #[error("cannot reach {url}: {why}; is the server running? name another with --server")]
    Unreachable {
        /// The server.
        url: String,
        /// What came of it.
        why: String,
    },
    /// The server does not want this user.
    #[error("{url} does not let you in: {why}{hint}")]
    Refused {
        /// The server.
        url: String,
        /// What it says.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file cannot be used.
    #[error("{0}", why)]
    File {
        /// Which and why.
        why: String,
    },
    /// The command line names more rooms than there may be.
    #[error("{rooms} rooms are more than {CONVERSATIONS_MAX}; name fewer")]
    Rooms {
        /// How many.
        rooms: usize,
    },
}

/// Talks until the user has enough.
///
/// # Errors
/// There was no connection to begin with, the server refuses one, or the terminal is gone.
pub fn run(options: &Options) -> Result<ExitCode, ClientError> {
    if options.rooms.len() > CONVERSATIONS_MAX {
        let rooms = options.rooms.len();
        return Err(ChatError::Rooms { rooms }.into());
    }
    if let Some(path) = &options.token {
        read_token(path).map_err(|why| ChatError::File { why })?;
    }
    let identity = Identity {
        user: options.user.clone(),
        token: options.token.clone(),
        authorities: options.authorities.clone(),
    };
    let session = Session::new(&options.rooms, fastrand::u64(..));
    let endings = terminal::endings()?;
    let live = Live::start(session, options.server.clone(), identity)?;
    let Some(live) = reached(live, &endings)? else {
        return Ok(ExitCode::SUCCESS);
    };
    match terminal::is_interactive() {
        true => on_screen(live, &endings),
        false => lines::run(live, options.follow, &endings),
    }
}

/// Waits for what becomes of the first attempt: before there is a chat, whoever started it is told why there is none. Nothing where a signal ended it.
fn reached(mut live: Live, endings: &Receiver<i32>) -> Result<Option<Live>, ClientError> {
    while live.standing() == Standing::Connecting {
        select! {
            recv(endings) -> _ => return Ok(None),
            recv(live.tellings()) -> telling => {
                if let Ok(telling) = telling {
                    live.handle(telling);
                }
            }
        }
    }
    let Some(end) = live.ended() else {
        return Ok(Some(live));
    };
    Err(refusal(&live, end).into())
}

/// Why there is no connection, for whoever wanted one.
fn refusal(live: &Live, end: &End) -> ChatError {
    let (url, why) = (live.url().text(), harmless(&end.text()));
    match end {
        End::Lost(_) => ChatError::Unreachable { url, why },
        End::Refused { .. } | End::Closed { .. } => {
            let hint = match end.wants_token() {
                true => "; --token names the file of a token",
                false => "",
            };
            ChatError::Refused { url, why, hint }
        }
    }
}

fn on_screen(mut live: Live, endings: &Receiver<i32>) -> Result<ExitCode, ClientError> {
    let mut view = View::default();
    let mut screen = Screen::take()?;
    let keys = terminal::events();
    loop {
        screen.draw(|frame| view.draw(frame, &live.session, &live.standing(), live.url()))?;
        let ended = select! {
            recv(endings) -> _ => true,
            recv(keys) -> event => match event {
                Ok(event) => handle_key(&mut live, &mut view, &event)?,
                // The terminal is gone.
                Err(_) => true,
            },
            recv(live.tellings()) -> telling => {
                if let Ok(telling) = telling {
                    live.handle(telling);
                }
                false
            }
            default(PAUSE) => false,
        };
        let mut ended = ended;
        // All that has come by now is one picture.
        for _ in 0..EVENTS_PER_PICTURE_MAX {
            if let Ok(event) = keys.try_recv() {
                ended |= handle_key(&mut live, &mut view, &event)?;
            } else if let Ok(telling) = live.tellings().try_recv() {
                live.handle(telling);
            } else {
                break;
            }
        }
        live.tick()?;
        while let Some(events) = live.session.poll_event() {
            for event in events {
                view.handle_event(&event, &live.session);
            }
        }
        if ended {
            break;
        }
    }
    drop(screen);
    live.close();
    Ok(ExitCode::SUCCESS)
}

/// Does what a key asks for. Tells whether that was to end.
fn handle_key(
    live: &mut Live,
    view: &mut View,
    event: &TerminalEvent,
) -> Result<bool, ClientError> {
    let doing = view.handle(event, &mut live.session);
    match doing {
        Doing::Nothing => {}
        Doing::Quit => return Ok(true),
        Doing::Reconnect => live.connect_now()?,
        Doing::Command(command) => {
            if let Err(refused) = live.session.command(command, now_unix_ms()) {
                view.say(refused.0);
            }
        }
    }
    live.transmit();
    Ok(false)
}
