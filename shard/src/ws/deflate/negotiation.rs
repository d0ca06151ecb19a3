//! What both ends agree on (RFC 7692 §5 and §7.1).

use std::fmt;

use crate::ws::handshake::{Offer, UpgradeRequest};

/// The smallest window: 256 bytes.
pub const WINDOW_BITS_MIN: u8 = 8;
/// The largest window, and what holds where none is named: 32 KiB.
pub const WINDOW_BITS_MAX: u8 = 15;

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";

/// What the server is willing to agree to. Windows are in bits, 8 to 15; values outside count as the nearest within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The largest window to compress with. A client can ask for a smaller one.
    pub server_window_bits: u8,
    /// The largest window of a client. Below 15, offers that do not let the server say so are declined.
    pub client_window_bits: u8,
    /// Whether the server may compress a message with the window of those before it. A client can ask it not to.
    pub server_takeover: bool,
    /// Whether a client may compress a message with the window of those before it.
    pub client_takeover: bool,
}

impl Policy {
    /// Takes up the first acceptable offer of the request, `None` where there is none.
    ///
    /// An offer with a parameter that is unknown, named twice or has no or a wrong value is declined, and the next one is looked at.
    #[must_use]
    pub fn negotiate(&self, request: &UpgradeRequest<'_>) -> Option<Agreement> {
        request
            .offers()
            .filter(|offer| offer.name == NAME)
            .find_map(|offer| self.accept(&Parameters::parse(&offer)?))
    }

    fn accept(&self, offered: &Parameters) -> Option<Agreement> {
        let client_window_bits = match offered.client_window {
            ClientWindow::Fixed if within(self.client_window_bits) < WINDOW_BITS_MAX => {
                return None;
            }
            ClientWindow::Fixed => WINDOW_BITS_MAX,
            ClientWindow::UpTo(bits) => within(self.client_window_bits).min(bits),
        };
        let server_window_bits =
            within(self.server_window_bits).min(offered.server_window.unwrap_or(WINDOW_BITS_MAX));
        Some(Agreement {
            server_window_bits,
            client_window_bits,
            server_takeover: self.server_takeover && !offered.server_no_takeover,
            client_takeover: self.client_takeover && !offered.client_no_takeover,
            server_window_named: offered.server_window.is_some(),
        })
    }
}

const fn within(bits: u8) -> u8 {
    if bits < WINDOW_BITS_MIN {
        WINDOW_BITS_MIN
    } else if bits > WINDOW_BITS_MAX {
        WINDOW_BITS_MAX
    } else {
        bits
    }
}

/// What both ends have agreed on. Written out it is the value of the answer's `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The window that the server may compress with, in bits: 8 to 15.
    pub server_window_bits: u8,
    /// The window that the client may compress with, in bits: 8 to 15.
    pub client_window_bits: u8,
    /// Whether the server may compress a message with the window of those before it.
    pub server_takeover: bool,
    /// Whether the client may compress a message with the window of those before it.
    pub client_takeover: bool,
    /// Whether the client named the server's window. Then the answer has to name it too, also the largest (§7.1.2.1).
    pub server_window_named: bool,
}

impl fmt::Display for Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(NAME)?;
        if !self.server_takeover {
            write!(formatter, "; {SERVER_NO_TAKEOVER}")?;
        }
        if !self.client_takeover {
            write!(formatter, "; {CLIENT_NO_TAKEOVER}")?;
        }
        if self.server_window_named || self.server_window_bits < WINDOW_BITS_MAX {
            write!(formatter, "; {SERVER_WINDOW}={}", self.server_window_bits)?;
        }
        // Below the largest only where the client has offered to be told so: it must not be told otherwise.
        if self.client_window_bits < WINDOW_BITS_MAX {
            write!(formatter, "; {CLIENT_WINDOW}={}", self.client_window_bits)?;
        }
        Ok(())
    }
}

/// The parameters of one offer.
#[derive(Clone, Copy, Debug)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window: Option<u8>,
    client_window: ClientWindow,
}

/// What a client says of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientWindow {
    /// It cannot be told: the window is the largest.
    Fixed,
    /// It can be told, and never uses a larger one than this.
    UpTo(u8),
}

impl Parameters {
    /// `None` where a parameter is unknown, named twice, or has no or a wrong value.
    fn parse(offer: &Offer<'_>) -> Option<Self> {
        let mut parameters = Self {
            server_no_takeover: false,
            client_no_takeover: false,
            server_window: None,
            client_window: ClientWindow::Fixed,
        };
        for (name, value) in offer.parameters() {
            let is_fresh = match (name, value.as_deref()) {
                (SERVER_NO_TAKEOVER, None) => {
                    !std::mem::replace(&mut parameters.server_no_takeover, true)
                }
                (CLIENT_NO_TAKEOVER, None) => {
                    !std::mem::replace(&mut parameters.client_no_takeover, true)
                }
                (SERVER_WINDOW, Some(value)) => {
                    let bits = window_bits(value)?;
                    parameters.server_window.replace(bits).is_none()
                }
                (CLIENT_WINDOW, value) => {
                    let bits = value.map_or(Some(WINDOW_BITS_MAX), window_bits)?;
                    let before =
                        std::mem::replace(&mut parameters.client_window, ClientWindow::UpTo(bits));
                    before == ClientWindow::Fixed
                }
                _ => false,
            };
            if !is_fresh {
                return None;
            }
        }
        Some(parameters)
    }
}

/// A decimal number from 8 to 15 without leading zeros (§7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).find(|bits| bits.to_string() == value)
}
