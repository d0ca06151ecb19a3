//! The application that the binary runs: rooms over the JSON protocol, version 1.

use bytes::Bytes;
use shardcast_shard::app::{Admission, App, Context, Count, Dismissal, Overload, TokenOutcome};
use shardcast_shard::close_reason::CloseReason;
use shardcast_shard::driver::ConnectionKey;
use shardcast_shard::hub::event::ErrorCode;
use shardcast_shard::hub::{Event, Name, Target};
use shardcast_shard::rights::Identity;
use shardcast_shard::verdict::{Hooks, Occupancy, Question, Ruling, Standing};
use shardcast_shard::wire::json::{self, DecodeError, JsonDecoder};
use shardcast_shard::wire::{Command, check_name};
use shardcast_shard::ws::close::{UNAUTHORIZED, UNSUPPORTED};
use shardcast_shard::ws::{Message, MessageKind, Refusal, RefusalStatus, UpgradeRequest};

use crate::auth::{self, Access, Authenticator, Refused, Visitor};
use crate::webhooks::Reporter;

/// The path of the protocol.
pub const PATH: &str = "/ws";

/// The query parameter that names the user where no token does.
const USER_PARAMETER: &str = "user";

/// What is said of a binary message.
const NOT_TEXT: &str = "malformed message: this protocol is JSON text";

/// Bytes that the message of a token may have besides the token.
const ENVELOPE_SIZE_MAX: u64 = 256;

/// Rooms, direct messages, presence and history for clients that speak JSON, on one shard.
pub struct Rooms {
    decoder: JsonDecoder,
    origins: Vec<String>,
    authenticator: Authenticator,
    /// Where a backend is asked and told.
    reporter: Option<Reporter>,
    faults: bool,
    scratch: Vec<u8>,
}

impl Rooms {
    /// The application for one shard. `origins` lists the values of the `Origin` header that may connect; when it is empty, every
    /// one may. A client that sends no `Origin`, as programs other than browsers do, is not held up by the list. Everybody is let in as whoever they say they are.
    #[must_use]
    pub fn new(origins: Vec<String>) -> Self {
        Self {
            decoder: JsonDecoder::new(),
            origins,
            authenticator: Access::default().authenticator(),
            reporter: None,
            faults: false,
            scratch: Vec::new(),
        }
    }

    /// Says who may connect otherwise.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.authenticator = access.authenticator();
        self
    }

    /// Has a backend asked and told what it is configured for.
    #[must_use]
    pub fn with_webhooks(mut self, reporter: Option<Reporter>) -> Self {
        self.reporter = reporter;
        self
    }

    /// Lets clients cause panics with `{"type":"fault","what":"panic_connection"|"panic_shard"}`: how tests show what a
    /// fault does to others.
    #[must_use]
    pub fn with_faults(mut self, faults: bool) -> Self {
        self.faults = faults;
        self
    }

    fn guest(context: &mut Context<'_>, request: &UpgradeRequest<'_>) -> Result<Name, Refusal> {
        let Some(user) = request.query_value(USER_PARAMETER) else {
            return Ok(guest_name(context.random()));
        };
        check_name(&user, context.limits().user_name_size_max).map_err(|problem| {
            let text = format!("the query parameter `{USER_PARAMETER}` {problem}");
            Refusal::new(RefusalStatus::BadRequest, text)
        })?;
        Ok(Name::from(user.as_ref()))
    }

    /// A name of one's choice would be that of a bearer's, and bring that user's direct messages.
    fn stranger(context: &mut Context<'_>, request: &UpgradeRequest<'_>) -> Result<Name, Refusal> {
        match request.query_value(USER_PARAMETER) {
            None => Ok(guest_name(context.random())),
            Some(_) => Err(Refusal::new(
                RefusalStatus::BadRequest,
                "here a token names the user; bring one, or connect without the query parameter `user` as a guest",
            )),
        }
    }

    fn carry_out(
        authenticator: &mut Authenticator,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        command: Command<'_>,
    ) -> Result<(), Overload> {
        match command {
            Command::Join { room, since } => context.join(connection, room.into(), since),
            Command::Leave { room } => context.leave(connection, room.into()),
            Command::Message { room, content, id } => context.publish(
                connection,
                Target::Room(room.into()),
                Bytes::copy_from_slice(content),
                id.map(Name::from),
            ),
            Command::Direct { to, content, id } => context.publish(
                connection,
                Target::Inbox(to.into()),
                Bytes::copy_from_slice(content),
                id.map(Name::from),
            ),
            Command::Presence { room } => context.presence(connection, room.into()),
            Command::History { room, since, limit } => {
                context.history(connection, room.into(), since, limit)
            }
            Command::Heartbeat => context.send(
                connection,
                MessageKind::Text,
                Bytes::from_static(json::HEARTBEAT.as_bytes()),
            ),
            Command::Auth { token } => renew(authenticator, context, connection, token),
        }
    }

    fn handle(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) -> Result<(), Overload> {
        if message.kind == MessageKind::Binary {
            context.count(Count::MalformedMessage)?;
            return context.close(connection, UNSUPPORTED, NOT_TEXT);
        }
        if self.faults {
            cause_fault(context, message.payload)?;
        }
        match self.decoder.decode(message.payload, context.limits()) {
            Ok(command) => Self::carry_out(&mut self.authenticator, context, connection, command),
            Err(DecodeError::Malformed) => {
                context.count(Count::MalformedMessage)?;
                context.close(connection, UNSUPPORTED, "malformed message")
            }
            Err(DecodeError::BadRequest { message, id, room }) => {
                context.count(Count::BadRequest)?;
                let (message, id, room) =
                    (message.into(), id.map(Name::from), room.map(Name::from));
                context.send_event(
                    connection,
                    Event::Error {
                        code: ErrorCode::BadRequest,
                        message,
                        id,
                        room,
                    },
                )
            }
        }
    }
}

/// A token on an open connection: what it grants counts from now on, or everything stays as it was.
fn renew(
    authenticator: &mut Authenticator,
    context: &mut Context<'_>,
    connection: ConnectionKey,
    token: &str,
) -> Result<(), Overload> {
    let (code, message): (ErrorCode, Name) = match authenticator.verify(context, token) {
        Err(Refused::NotAsked) => (
            ErrorCode::BadRequest,
            ecow::eco_format!("{}", Refused::NotAsked),
        ),
        Ok(identity) if context.user_of(connection) == Some(&identity.user) => {
            let grant = identity.grant;
            let expires_unix_ms = grant.as_ref().and_then(|grant| grant.expires_unix_ms);
            context.renew(connection, grant)?;
            return context.send_event(connection, Event::Authenticated { expires_unix_ms });
        }
        Ok(_) => {
            auth::count(context, TokenOutcome::OtherUser);
            let message = "the token is another user's; connect anew with it";
            (ErrorCode::Forbidden, message.into())
        }
        Err(refused) => {
            let code = match refused {
                Refused::NotAsked => ErrorCode::BadRequest,
                Refused::NoKeys => ErrorCode::Unavailable,
                _ => ErrorCode::Unauthorized,
            };
            (code, ecow::eco_format!("{refused}"))
        }
    };
    context.count(Count::BadRequest)?;
    context.send_event(
        connection,
        Event::Error {
            code,
            message,
            id: None,
            room: None,
        },
    )
}

/// A name for a connection that gave none: short enough to need no memory of its own, long enough (60 bits)
/// that two are hardly ever equal.
fn guest_name(random: u64) -> Name {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut name = Name::from("u-");
    for digit in 0..12 {
        name.push(char::from(
            ALPHABET[(random >> (5 * digit)) as usize % ALPHABET.len()],
        ));
    }
    name
}

#[expect(
    clippy::panic,
    reason = "the test that set SHARDCAST_FAULTS asked for it"
)]
fn cause_fault(context: &mut Context<'_>, text: &[u8]) -> Result<(), Overload> {
    match text {
        br#"{"type":"fault","what":"panic_connection"}"# => panic!("a client asked for this fault"),
        br#"{"type":"fault","what":"panic_shard"}"# => context.crash_shard(),
        _ => Ok(()),
    }
}

impl App for Rooms {
    fn hooks(&self) -> Hooks {
        let reporter = self.reporter.as_ref();
        reporter.map_or(Hooks::empty(), Reporter::hooks)
    }

    fn on_start(&mut self, context: &mut Context<'_>) {
        if let Some(reporter) = &mut self.reporter {
            reporter.started(context);
        }
    }

    fn on_upgrade(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal> {
        if request.path() != PATH {
            return Err(Refusal::new(
                RefusalStatus::NotFound,
                format!("nothing is here; connect to {PATH}"),
            ));
        }
        if let Some(origin) = request.origin()
            && !self.origins.is_empty()
            && !self
                .origins
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(origin))
        {
            return Err(Refusal::new(
                RefusalStatus::Forbidden,
                "this origin may not connect",
            ));
        }
        let identity = match self.authenticator.visitor(context, request)? {
            Visitor::Known(identity) => Some(identity),
            Visitor::Guest => Some(Identity {
                user: Self::guest(context, request)?,
                grant: None,
            }),
            Visitor::Stranger => Some(Identity {
                user: Self::stranger(context, request)?,
                grant: None,
            }),
            Visitor::Unnamed => None,
        };
        Ok(Admission {
            identity,
            protocol: None,
        })
    }

    fn on_first_message(
        &mut self,
        context: &mut Context<'_>,
        message: Message<'_>,
    ) -> Result<Identity, Dismissal> {
        let dismissal = |code, reason: &str| Dismissal {
            code,
            reason: reason.into(),
        };
        if message.kind == MessageKind::Binary {
            return Err(dismissal(UNSUPPORTED, NOT_TEXT));
        }
        let limits = context.limits();
        if message.payload.len() as u64 > limits.token_size_max + ENVELOPE_SIZE_MAX {
            auth::count(context, TokenOutcome::TooLarge);
            return Err(auth::dismissal(Refused::TooLarge(limits.token_size_max)));
        }
        match self.decoder.decode(message.payload, limits) {
            Ok(Command::Auth { token }) => self
                .authenticator
                .verify(context, token)
                .map_err(auth::dismissal),
            Err(DecodeError::Malformed) => Err(dismissal(UNSUPPORTED, "malformed message")),
            Ok(_) | Err(DecodeError::BadRequest { .. }) => Err(dismissal(
                UNAUTHORIZED,
                r#"say first who you are: {"type":"auth","token":TOKEN}"#,
            )),
        }
    }

    fn on_identity(
        &mut self,
        context: &mut Context<'_>,
        question: Question,
        identity: &Identity,
    ) -> Standing {
        match &self.reporter {
            Some(reporter) => reporter.ask_connect(context, question, &identity.user),
            None => Standing::Decided(Ruling::Allow),
        }
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: ConnectionKey, user: &Name) {
        self.scratch.clear();
        let session = ecow::eco_format!("{:016x}", context.random());
        let limits = context.limits();
        json::encode_welcome(user, &session, limits, &mut self.scratch);
        let welcome = Bytes::copy_from_slice(&self.scratch);
        // One action of at least sixteen that a call may ask for.
        let _: Result<(), Overload> = context.send(connection, MessageKind::Text, welcome);
        if let Some(reporter) = &mut self.reporter {
            reporter.connected(context, connection, user);
        }
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        // A message asks for two actions at most, and a call may ask for sixteen at least.
        let _: Result<(), Overload> = self.handle(context, connection, message);
    }

    fn on_publish(
        &mut self,
        context: &mut Context<'_>,
        question: Question,
        target: &Target,
        content: &Bytes,
        id: Option<&Name>,
    ) -> Standing {
        match &self.reporter {
            Some(reporter) => reporter.ask_publish(context, question, target, content, id),
            None => Standing::Decided(Ruling::Allow),
        }
    }

    fn on_occupancy(&mut self, context: &mut Context<'_>, room: &Name, occupancy: Occupancy) {
        if let Some(reporter) = &mut self.reporter {
            reporter.occupancy(context, room, occupancy);
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        reason: CloseReason,
    ) {
        if let Some(reporter) = &mut self.reporter {
            reporter.disconnected(context, connection, reason);
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_>) {
        if let Some(reporter) = &mut self.reporter {
            reporter.timer_fired(context);
        }
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        json::encode(event, out);
        Some(MessageKind::Text)
    }
}
