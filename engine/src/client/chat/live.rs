//! A session on real connections: connects, connects again, hands over what comes and goes, and watches the clock.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::backoff::End;
use super::link::{Heard, Identity, Link, ServerUrl, Telling};
use super::session::{Next, Session};
use crate::client::text::harmless;

/// What connections have told and nobody has looked at yet. While so much waits, they are not read.
const TELLINGS_MAX: usize = 256;

/// Heartbeats without a sign of the server after which the connection counts as broken. The server gives up a client after two.
const HEARTBEATS_SILENT_MAX: u64 = 3;

/// Between two ticks of the session.
const TICK: Duration = Duration::from_secs(1);

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A connection is being made.
    Connecting,
    /// There is one.
    Connected,
    /// There will be another attempt.
    Waiting {
        /// What ended the last one.
        why: String,
        /// When.
        seconds: u64,
    },
    /// There will be none.
    Stopped(String),
}

/// The session with its connection.
#[derive(Debug)]
pub struct Live {
    /// What is said.
    pub session: Session,
    url: ServerUrl,
    identity: Identity,
    link: Option<Link>,
    number: u64,
    tell: Sender<Telling>,
    tellings: Receiver<Telling>,
    /// What the connection has not taken yet.
    held: Option<String>,
    heard: Instant,
    ticked: Instant,
    /// When to connect again, and why.
    retry: Option<(Instant, End)>,
    stopped: Option<End>,
}

impl Live {
    /// Begins to connect.
    ///
    /// # Errors
    /// The process can have no further descriptors or threads.
    pub fn start(session: Session, url: ServerUrl, identity: Identity) -> io::Result<Self> {
        let (tell, tellings) = bounded(TELLINGS_MAX);
        let now = Instant::now();
        let mut live = Self {
            session,
            url,
            identity,
            link: None,
            number: 0,
            tell,
            tellings,
            held: None,
            heard: now,
            ticked: now,
            retry: None,
            stopped: None,
        };
        live.connect()?;
        Ok(live)
    }

    /// What connections tell; each is for [`Live::handle`].
    #[must_use]
    pub const fn tellings(&self) -> &Receiver<Telling> {
        &self.tellings
    }

    /// The server.
    #[must_use]
    pub const fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (&self.stopped, &self.retry) {
            (Some(end), _) => Standing::Stopped(harmless(&end.text())),
            (None, Some((when, end))) => Standing::Waiting {
                why: harmless(&end.text()),
                // Rounded up: it is not the time before it says 0.
                seconds: when
                    .saturating_duration_since(Instant::now())
                    .as_millis()
                    .div_ceil(1000) as u64,
            },
            (None, None) if self.session.is_open() => Standing::Connected,
            (None, None) => Standing::Connecting,
        }
    }

    /// The end after which no connection is made any more.
    #[must_use]
    pub const fn stopped(&self) -> Option<&End> {
        self.stopped.as_ref()
    }

    /// How the last connection ended, where there is no other yet.
    #[must_use]
    pub fn ended(&self) -> Option<&End> {
        let waiting = self.retry.as_ref().map(|(_, end)| end);
        self.stopped.as_ref().or(waiting)
    }

    /// Takes what a connection has told.
    pub fn handle(&mut self, (number, heard): Telling) {
        // Of a connection that was given up.
        if number != self.number || self.link.is_none() {
            return;
        }
        self.heard = Instant::now();
        match heard {
            Heard::Opened | Heard::Alive => {}
            Heard::Text(text) => self.session.handle_text(&text),
            Heard::Ended(end) => self.end(end),
        }
        self.transmit();
    }

    /// Does what is due. To be called a few times a second.
    ///
    /// # Errors
    /// The process can have no further descriptors or threads.
    pub fn tick(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.retry.as_ref().is_some_and(|(when, _)| *when <= now) {
            self.connect()?;
        }
        let silent_max = Duration::from_millis(self.session.heartbeat_ms() * HEARTBEATS_SILENT_MAX);
        if self.session.is_open() && !silent_max.is_zero() && now - self.heard > silent_max {
            self.end(End::Lost(format!(
                "nothing was heard of the server for {} s",
                silent_max.as_secs()
            )));
        }
        if now - self.ticked >= TICK {
            self.ticked = now;
            self.session.handle_tick();
        }
        self.transmit();
        Ok(())
    }

    /// Connects at once, whatever was said of it.
    ///
    /// # Errors
    /// The process can have no further descriptors or threads.
    pub fn connect_now(&mut self) -> io::Result<()> {
        if self.link.is_none() {
            self.connect()?;
        }
        Ok(())
    }

    /// Hands what the session wants to send to the connection, as far as it takes it.
    pub fn transmit(&mut self) {
        let Some(link) = &self.link else {
            return;
        };
        while let Some(text) = self.held.take().or_else(|| self.session.poll_transmit()) {
            if let Err(text) = link.send(text) {
                self.held = Some(text);
                return;
            }
        }
    }

    /// Says good-bye.
    pub fn close(mut self) {
        self.transmit();
        if let Some(link) = self.link.take() {
            link.close();
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        (self.retry, self.stopped) = (None, None);
        self.number += 1;
        let link = Link::open(self.number, &self.url, &self.identity, self.tell.clone())?;
        self.link = Some(link);
        self.heard = Instant::now();
        Ok(())
    }

    fn end(&mut self, end: End) {
        // Its thread ends by itself, as nobody writes to it any more.
        (self.link, self.held) = (None, None);
        let next = self.session.handle_end(&end);
        // A token may be renewed in its file; where there is none, nothing will be.
        let is_hopeless = end.wants_token() && self.identity.token.is_none();
        match next {
            Next::Retry(ms) if !is_hopeless => {
                let when = Instant::now() + Duration::from_millis(ms);
                self.retry = Some((when, end));
            }
            Next::Retry(_) | Next::Stop => self.stopped = Some(end),
        }
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}
