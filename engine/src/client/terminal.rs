//! The terminal, taken over by a full screen and given back however the program ends.

use std::io::{self, IsTerminal as _, Stdout, stdin, stdout};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// Keys and changes of size that may wait to be looked at. Whoever types more waits.
const EVENTS_MAX: usize = 256;

/// Whether the screen is taken. Whoever gives it back first has given it back for all.
static TAKEN: Mutex<bool> = Mutex::new(false);

/// Whether a full screen can be shown and typed at.
#[must_use]
pub fn is_interactive() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// The screen, until it is dropped.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the screen. A panic gives it back before it is told of.
    ///
    /// # Errors
    /// The terminal does not do what it is asked.
    pub fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let taken = enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match taken {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Draws a picture.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, picture: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was. Does so once.
fn give_back() {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *taken) {
        // Each step for itself: where one fails, the others help all the same. The terminal may be gone.
        drop(disable_raw_mode());
        drop(execute!(
            stdout(),
            DisableBracketedPaste,
            LeaveAlternateScreen,
            ratatui::crossterm::cursor::Show
        ));
    }
}

/// What is typed, on a thread of its own. Ends with the process, or where the terminal is gone.
#[must_use]
pub fn events() -> Receiver<Event> {
    let (sender, receiver) = bounded(EVENTS_MAX);
    thread::spawn(move || forward_events(&sender));
    receiver
}

fn forward_events(sender: &Sender<Event>) {
    while let Ok(event) = event::read() {
        if sender.send(event).is_err() {
            return;
        }
    }
}

/// Signals that ask the program to end. In place of dying of them it can give the screen back.
///
/// # Errors
/// The handlers cannot be installed.
pub fn endings() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    let (sender, receiver) = bounded(1);
    thread::spawn(move || {
        for signal in signals.forever() {
            // One is enough.
            let _ = sender.try_send(signal);
        }
    });
    Ok(receiver)
}
