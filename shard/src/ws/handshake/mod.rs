//! The opening handshake (RFC 6455 §4.2): from a client's request to the server's answer. [`client`] is its other side.

mod answer;
pub mod client;
mod extensions;
mod headers;
mod request;

pub use answer::{Refusal, RefusalStatus, Rejection, response};
pub use request::UpgradeRequest;

pub(super) use extensions::Offer;

use super::decoder::{self, Partial};
use super::input::Input;

/// What ends the head of a request or response.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Where the whole head of a request lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head<'input> {
    /// In the input: it was never copied.
    Input(&'input [u8]),
    /// In [`Partial::bytes`].
    Collected,
}

/// Takes the head of a request, `None` when the input is used up before its end.
///
/// What the answer is depends on the bytes alone, never on how they were split: the end is searched for first and the
/// head is parsed once, when it is whole. That also keeps a request that arrives byte by byte from being parsed each time.
///
/// # Errors
/// The head is larger than `size_max`, or its first byte shows that this is not HTTP.
pub(super) fn take_head<'input>(
    partial: &mut Option<Box<Partial>>,
    input: &mut Input<'input>,
    size_max: usize,
) -> Result<Option<Head<'input>>, Rejection> {
    if input.is_empty() {
        return Ok(None);
    }
    let collected = partial.as_ref().map_or(0, |partial| partial.bytes.len());
    let room = size_max.saturating_sub(collected);
    let fresh = &input.remaining()[..input.len().min(room)];
    if collected == 0 {
        // Methods are upper case. Whatever else speaks to this port, TLS for one, learns it at once instead of
        // by the timeout.
        if fresh.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Err(Rejection::Malformed);
        }
        if let Some(end) = head_end(fresh, 0) {
            return Ok(Some(Head::Input(input.take(end))));
        }
    }
    let bytes = &mut partial.get_or_insert_default().bytes;
    decoder::append(bytes, fresh, size_max);
    let fresh_size = fresh.len();
    match head_end(bytes, collected) {
        Some(end) => {
            bytes.truncate(end);
            input.take(end - collected);
            Ok(Some(Head::Collected))
        }
        None if bytes.len() >= size_max => Err(Rejection::TooLarge),
        None => {
            input.take(fresh_size);
            Ok(None)
        }
    }
}

/// Size of the head, when it ends within `bytes`. The first `searched` bytes are known not to hold its end.
fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    let start = searched.saturating_sub(HEAD_END.len() - 1);
    bytes[start..]
        .windows(HEAD_END.len())
        .position(|window| window == HEAD_END)
        .map(|position| start + position + HEAD_END.len())
}
