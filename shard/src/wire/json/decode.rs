//! From the text of one object to a [`Command`].
//!
//! simd-json works in place and rewrites strings with escapes, while `content` must reach members exactly
//! as it was sent, down to the digits of a number. So a copy is parsed, which proves the text to be JSON, and the content is
//! then cut out of the original, between the structural characters whose places the parser has noted.

use std::ops::Range;

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use crate::hub::Position;
use crate::limits::Limits;
use crate::wire::{Command, check_name};

/// Objects and arrays inside each other, counted from the outermost. Deeper text is malformed.
const DEPTH_MAX: usize = 128;

/// Bytes of working memory that are kept between messages; what a large message took beyond is given back.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// Why a text is not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not the text of a JSON object, or is nested too deeply: the connection is closed.
    #[error("malformed message")]
    Malformed,
    /// It is an object that asks for nothing known, or a field is missing or wrong: the connection stays.
    #[error("{message}")]
    BadRequest {
        /// What is wrong, with the name of the field.
        message: String,
        /// The request's id, where it had a valid one.
        id: Option<String>,
        /// The request's room, where it had a valid one.
        room: Option<String>,
    },
}

/// Decodes the messages of a shard's connections, one after the other, in the same working memory.
pub struct JsonDecoder {
    buffers: Buffers,
    /// The copy that is parsed in place, with the padding that the parser wants.
    copy: Vec<u8>,
    /// Empty between messages; kept for its memory.
    tape: Tape<'static>,
}

impl Default for JsonDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl JsonDecoder {
    /// A decoder that holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffers: Buffers::with_max_depth(0, DEPTH_MAX),
            copy: Vec::new(),
            tape: Tape(Vec::new()),
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`]: it is not the text of a JSON object. [`DecodeError::BadRequest`]: the object asks for nothing known,
    /// or not in the right way.
    pub fn decode<'a>(
        &'a mut self,
        text: &'a [u8],
        limits: &Limits,
    ) -> Result<Command<'a>, DecodeError> {
        if self.copy.capacity() > SPARE_BYTES_MAX && text.len() < SPARE_BYTES_MAX {
            *self = Self::new();
        }
        let Self {
            buffers,
            copy,
            tape: spare,
        } = self;
        copy.clear();
        copy.extend_from_slice(text);
        copy.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = std::mem::replace(spare, Tape(Vec::new())).reset();
        let filled = simd_json::fill_tape_padded(copy, text.len(), buffers, &mut tape);
        let command = match filled {
            Ok(()) => Object::new(&tape.0)
                .ok_or(DecodeError::Malformed)
                .and_then(|object| {
                    let source = Source {
                        text,
                        structurals: buffers.structural_indexes(),
                    };
                    Request::read(&object, limits)
                        .and_then(|request| request.command(&source, limits))
                }),
            Err(_) => Err(DecodeError::Malformed),
        };
        *spare = tape.reset();
        command
    }
}

/// The original text and where its structural characters are.
struct Source<'a, 'b> {
    text: &'a [u8],
    structurals: &'b [u32],
}

impl<'a> Source<'a, '_> {
    /// The text of a member's value, by the member's number in the outermost object.
    fn value(&self, member: usize) -> &'a [u8] {
        let range = self.span(member).unwrap_or(0..0);
        self.text.get(range).unwrap_or_default().trim_ascii()
    }

    fn span(&self, wanted: usize) -> Option<Range<usize>> {
        let (mut depth, mut member, mut start) = (0_usize, 0, None);
        for &place in self.structurals {
            let place = place as usize;
            match self.text.get(place)? {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return start.map(|start| start..place);
                    }
                }
                b':' if depth == 1 && member == wanted => start = Some(place + 1),
                b',' if depth == 1 => {
                    if let Some(start) = start {
                        return Some(start..place);
                    }
                    member += 1;
                }
                _ => {}
            }
        }
        None
    }
}

/// The members of the outermost object.
struct Object<'tape, 'a> {
    /// Keys and values in turn.
    nodes: &'tape [Node<'a>],
    members: usize,
}

impl<'tape, 'a> Object<'tape, 'a> {
    fn new(nodes: &'tape [Node<'a>]) -> Option<Self> {
        match nodes.split_first()? {
            (&Node::Object { len, .. }, nodes) => Some(Self {
                nodes,
                members: len,
            }),
            _ => None,
        }
    }

    /// Each member's key, and the nodes of its value: a scalar's one, or a container's with all it contains.
    fn members(&self) -> impl Iterator<Item = (&'a str, &'tape [Node<'a>])> {
        let mut rest = self.nodes;
        (0..self.members).map_while(move |_| {
            let (&Node::String(key), values) = rest.split_first()? else {
                return None;
            };
            let size = match values.first()? {
                Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
                Node::String(_) | Node::Static(_) => 1,
            };
            let (value, after) = values.split_at_checked(size)?;
            rest = after;
            Some((key, value))
        })
    }
}

/// The members that mean something. The last of several with the same key counts.
#[derive(Default)]
struct Request<'tape, 'a> {
    kind: Option<&'a str>,
    room: Option<&'tape [Node<'a>]>,
    to: Option<&'tape [Node<'a>]>,
    id: Option<&'tape [Node<'a>]>,
    since: Option<&'tape [Node<'a>]>,
    limit: Option<&'tape [Node<'a>]>,
    token: Option<&'tape [Node<'a>]>,
    /// Number of the member that holds the content.
    content: Option<usize>,
}

/// What is wrong with a member.
type Problem = String;

impl<'tape, 'a> Request<'tape, 'a> {
    fn read(object: &Object<'tape, 'a>, limits: &Limits) -> Result<Self, DecodeError> {
        let mut request = Self::default();
        let mut kind = None;
        for (number, (key, value)) in object.members().enumerate() {
            match key {
                "type" => kind = Some(value),
                "room" => request.room = Some(value),
                "to" => request.to = Some(value),
                "id" => request.id = present(value),
                "since" => request.since = present(value),
                "limit" => request.limit = present(value),
                "token" => request.token = Some(value),
                "content" => request.content = Some(number),
                _ => {}
            }
        }
        request.kind = match kind {
            Some([Node::String(kind)]) => Some(kind),
            Some(_) => return Err(request.refuse("`type` must be a string".to_owned(), limits)),
            None => return Err(request.refuse("`type` is missing".to_owned(), limits)),
        };
        Ok(request)
    }

    fn command(
        &self,
        source: &Source<'a, '_>,
        limits: &Limits,
    ) -> Result<Command<'a>, DecodeError> {
        self.try_command(source, limits)
            .map_err(|problem| self.refuse(problem, limits))
    }

    fn try_command(
        &self,
        source: &Source<'a, '_>,
        limits: &Limits,
    ) -> Result<Command<'a>, Problem> {
        Ok(match self.kind.unwrap_or_default() {
            "join" => Command::Join {
                room: self.room(limits)?,
                since: self.since()?,
            },
            "leave" => Command::Leave {
                room: self.room(limits)?,
            },
            "message" => Command::Message {
                room: self.room(limits)?,
                content: self.content(source)?,
                id: self.id(limits)?,
            },
            "direct" => Command::Direct {
                to: name("to", self.to, limits.user_name_size_max)?,
                content: self.content(source)?,
                id: self.id(limits)?,
            },
            "presence" => Command::Presence {
                room: self.room(limits)?,
            },
            "history" => Command::History {
                room: self.room(limits)?,
                since: self.since()?,
                limit: match self.limit {
                    None => None,
                    Some(value) => Some(number("limit", value)?),
                },
            },
            "heartbeat" => Command::Heartbeat,
            "auth" => Command::Auth {
                token: self.token()?,
            },
            _ => {
                return Err("`type` must be one of join, leave, message, direct, presence, history, heartbeat, auth"
                    .to_owned());
            }
        })
    }

    fn room(&self, limits: &Limits) -> Result<&'a str, Problem> {
        name("room", self.room, limits.room_name_size_max)
    }

    fn id(&self, limits: &Limits) -> Result<Option<&'a str>, Problem> {
        match self.id {
            None => Ok(None),
            id => name("id", id, limits.id_size_max).map(Some),
        }
    }

    /// What a token may be is for whoever checks it.
    fn token(&self) -> Result<&'a str, Problem> {
        match self.token {
            None => Err(missing("token")),
            Some(&[Node::String(token)]) => Ok(token),
            Some(_) => Err("`token` must be a string".to_owned()),
        }
    }

    fn content(&self, source: &Source<'a, '_>) -> Result<&'a [u8], Problem> {
        let member = self.content.ok_or_else(|| missing("content"))?;
        Ok(source.value(member))
    }

    fn since(&self) -> Result<Option<Position>, Problem> {
        let Some(nodes) = self.since else {
            return Ok(None);
        };
        let object = Object::new(nodes)
            .ok_or_else(|| "`since` must be an object with `epoch` and `seq`".to_owned())?;
        let (mut epoch, mut seq) = (None, None);
        for (key, value) in object.members() {
            match key {
                "epoch" => epoch = Some(number("since.epoch", value)?),
                "seq" => seq = Some(number("since.seq", value)?),
                _ => {}
            }
        }
        Ok(Some(Position {
            epoch: epoch.ok_or_else(|| missing("since.epoch"))?,
            seq: seq.ok_or_else(|| missing("since.seq"))?,
        }))
    }

    /// A refusal that carries what the client knows the request by.
    fn refuse(&self, message: Problem, limits: &Limits) -> DecodeError {
        DecodeError::BadRequest {
            message,
            id: self.id(limits).ok().flatten().map(str::to_owned),
            room: self.room(limits).ok().map(str::to_owned),
        }
    }
}

/// Clients that fill in every field write `null` where they mean none.
fn present<'tape, 'a>(value: &'tape [Node<'a>]) -> Option<&'tape [Node<'a>]> {
    (!matches!(value, [Node::Static(StaticNode::Null)])).then_some(value)
}

fn missing(field: &str) -> Problem {
    format!("`{field}` is missing")
}

fn name<'a>(field: &str, value: Option<&[Node<'a>]>, size_max: u64) -> Result<&'a str, Problem> {
    match value {
        None => Err(missing(field)),
        Some(&[Node::String(name)]) => check_name(name, size_max)
            .map(|()| name)
            .map_err(|error| format!("`{field}` {error}")),
        Some(_) => Err(format!("`{field}` must be a string")),
    }
}

fn number(field: &str, value: &[Node<'_>]) -> Result<u64, Problem> {
    let number = match *value {
        [Node::Static(StaticNode::U64(number))] => Some(number),
        [Node::Static(StaticNode::I64(number))] => u64::try_from(number).ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("`{field}` must be a whole number, 0 or greater"))
}

#[cfg(test)]
mod tests;
