//! The JSON protocol, version 1: one object a text message, in both directions.

mod decode;
mod encode;

pub use decode::{DecodeError, JsonDecoder};
pub use encode::{HEARTBEAT, encode, encode_welcome};
