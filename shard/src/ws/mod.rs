//! A WebSocket server session (RFC 6455) that does no IO.
//!
//! The caller owns the socket. It gives the bytes that arrived to [`Session::next`] and gets events
//! back, one at a time, until the bytes are used up; what is to be sent it builds with
//! [`handshake::response`], [`Rejection::response`], [`Refusal::response`] and the functions of [`frame`].
//! A client opens its connection with [`handshake::client`] and reads and writes frames with [`frame`] alone.
//!
//! ```
//! use shardcast_shard::ws::deflate::{Inflater, Policy};
//! use shardcast_shard::ws::{Incoming, Input, Session, SessionLimits, frame, handshake};
//!
//! /// Every message is compressed by itself, so one inflater serves all sessions.
//! const POLICY: Policy = Policy {
//!     server_window_bits: 15,
//!     client_window_bits: 15,
//!     server_takeover: false,
//!     client_takeover: false,
//! };
//!
//! fn receive(
//!     session: &mut Session,
//!     received: &mut [u8],
//!     limits: &SessionLimits,
//!     inflater: &mut Inflater,
//!     send: &mut Vec<u8>,
//! ) {
//!     let mut agreed = None;
//!     let mut input = Input::new(received);
//!     while let Some(event) = session.next(&mut input, limits, inflater) {
//!         match event {
//!             Incoming::Upgrade(request) => {
//!                 agreed = POLICY.negotiate(&request);
//!                 send.extend_from_slice(&handshake::response(&request, None, agreed.as_ref()));
//!             }
//!             Incoming::Rejected(rejection) => send.extend_from_slice(&rejection.response()),
//!             Incoming::Message(message) => frame::encode(message.kind.opcode(), message.payload, send),
//!             Incoming::Ping(payload) => send.extend_from_slice(&frame::pong(payload)),
//!             Incoming::Pong(_) | Incoming::Fragments => {}
//!             Incoming::Close { code, .. } => send.extend_from_slice(&frame::close(code, "")),
//!             Incoming::Violation(violation) => {
//!                 send.extend_from_slice(&frame::close(violation.code(), &violation.to_string()));
//!             }
//!         }
//!         if let Some(agreement) = agreed.take() {
//!             session.agree(agreement);
//!         }
//!     }
//! }
//! ```
//!
//! Invariants:
//!
//! * **Every split of the byte stream gives the same events.** All checks depend on positions in the stream, never
//!   on where a buffer happened to end.
//! * **A message that lies whole in the input is never copied.** It is unmasked in place and lent; a compressed one is inflated
//!   from there.
//! * **An idle session owns no heap.** Whatever is partial lives in one box, which is freed at the
//!   call of [`Session::next`] after the one that lent its contents.
//! * **Memory follows what arrived, never what was announced**, and stops at the [`SessionLimits`].
//! * **A violation is reported as soon as the bytes that prove it are here**, also inside a partial frame. What is compressed is
//!   looked at when the message is whole: the inflater may serve other sessions meanwhile.

pub mod close;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod mask;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod oracle;

mod decoder;
mod input;
mod session;
mod utf8;

#[cfg(test)]
mod tests;

pub use close::Violation;
pub use handshake::{Refusal, RefusalStatus, Rejection, UpgradeRequest};
pub use input::Input;
pub use session::{Incoming, Message, MessageKind, Session, SessionLimits};
