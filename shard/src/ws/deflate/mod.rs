//! Compressed messages: permessage-deflate (RFC 7692).
//!
//! A [`Policy`] says what the server is willing to agree to; with a client's request it makes an [`Agreement`], which the answer
//! names and which permits the session compressed messages ([`super::Session::agree`]). A [`Deflater`] makes frames of messages, an
//! [`Inflater`] messages of what arrived.
//!
//! Either end compresses with a window over what it sent before. Where it *takes the window over* from message to message, each
//! connection needs a compressor or decompressor of its own. Where it does not, one of each serves any number of connections, and
//! an idle connection holds nothing.
//!
//! Invariants:
//!
//! * **A message is inflated whole**, when its last byte is here. Nothing of a message is in an inflater between two inputs, so one
//!   inflater can serve many sessions.
//! * **What comes out is bounded, not what is announced**: output grows with what has come out, at most twofold, and ends
//!   one byte above the limit for a message.
//! * **Nothing is compressed that does not become smaller**, but where the window is taken over: there the peer's window must see it.

mod compress;
mod inflate;
mod negotiation;

pub use compress::Deflater;
pub use inflate::Inflater;
pub use negotiation::{Agreement, Policy, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// What ends a compressed message and is not sent: the lengths of an empty stored block (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
