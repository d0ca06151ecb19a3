//! A WebSocket server session (RFC 6455) that does no IO.
//!
//! The caller owns the socket. It gives the bytes that arrived to [`Session::next`] and gets events
//! back, one at a time, until the bytes are used up; what is to be sent it builds with
//! [`handshake::response`], [`Rejection::response`], [`Refusal::response`] and the functions of [`frame`].
//! A client opens its connection with [`handshake::client`] and reads and writes frames with [`frame`] alone.
//!
//! ```
//! use shardcast_shard::ws::{Incoming, Input, Session, SessionLimits, frame, handshake};
//!
//! fn receive(session: &mut Session, received: &mut [u8], limits: &SessionLimits, send: &mut Vec<u8>) {
//!     let mut input = Input::new(received);
//!     while let Some(event) = session.next(&mut input, limits) {
//!         match event {
//!             Incoming::Upgrade(request) => send.extend_from_slice(&handshake::response(&request, None)),
//!             Incoming::Rejected(rejection) => send.extend_from_slice(&rejection.response()),
//!             Incoming::Message(message) => frame::encode(message.kind.opcode(), message.payload, send),
//!             Incoming::Ping(payload) => send.extend_from_slice(&frame::pong(payload)),
//!             Incoming::Pong(_) => {}
//!             Incoming::Close { code, .. } => send.extend_from_slice(&frame::close(code, "")),
//!             Incoming::Violation(violation) => {
//!                 send.extend_from_slice(&frame::close(violation.code(), &violation.to_string()));
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! Invariants:
//!
//! * **Every split of the byte stream gives the same events.** All checks depend on positions in the stream, never
//!   on where a buffer happened to end.
//! * **A message that lies whole in the input is never copied.** It is unmasked in place and lent.
//! * **An idle session owns no heap.** Whatever is partial lives in one box, which is freed at the
//!   call of [`Session::next`] after the one that lent its contents.
//! * **Memory follows what arrived, never what was announced**, and stops at the [`SessionLimits`].
//! * **A violation is reported as soon as the bytes that prove it are here**, also inside a partial frame.

pub mod close;
pub mod frame;
pub mod handshake;
pub mod mask;

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
