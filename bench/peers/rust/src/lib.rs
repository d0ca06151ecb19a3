//! What the compared servers have in common: the plain protocol, the rooms behind it, and how a program starts.
//!
//! # The plain protocol
//!
//! `/echo` sends every text or binary message back as it came. `/rooms` takes text messages of words that one space
//! separates:
//!
//! | message | effect |
//! |---|---|
//! | `login NAME` | this connection is user NAME; the sender gets the same message as the answer |
//! | `join ROOM` | this connection is a member of ROOM; the sender gets the same message as the answer |
//! | `send ROOM TEXT` | every member of ROOM gets this very message, the sender too if it is one |
//! | `direct NAME TEXT` | the connection of user NAME gets this very message; nothing happens where there is none |
//!
//! Anything else, and a binary message, closes the connection with code 1003. Messages of one sender to one room reach
//! every member in the order in which they were sent. Compression is off and `TCP_NODELAY` on.
//!
//! Every server is what a good user of its library would write; its first comment says which choices that took.
//! All use the system's allocator.

pub mod command;
pub mod program;
pub mod registry;
