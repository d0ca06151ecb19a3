//! Extensions as RFC 6455 §9.1 has them and offers of permessage-deflate as RFC 7692 §7.1 does, read apart from the engine's own code.

use shardcast_shard::ws::deflate::{Agreement, Policy};

/// The parameters of a valid offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Whether it is there, and the value that it may have.
    client_max_window_bits: Option<Option<u8>>,
}

/// Reads one member of the header's list; `None` where it is no valid offer of permessage-deflate.
#[must_use]
pub fn read(member: &str) -> Option<Offer> {
    let mut parts = member.split(';').map(trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut offer = Offer::default();
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (trim(name), Some(unquoted(trim(value))?)),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value.as_deref()) {
            ("server_no_context_takeover", None) => offer.server_no_context_takeover = true,
            ("client_no_context_takeover", None) => offer.client_no_context_takeover = true,
            ("server_max_window_bits", Some(value)) => {
                offer.server_max_window_bits = Some(bits(value)?);
            }
            ("client_max_window_bits", None) => offer.client_max_window_bits = Some(None),
            ("client_max_window_bits", Some(value)) => {
                offer.client_max_window_bits = Some(Some(bits(value)?));
            }
            _ => return None,
        }
    }
    Some(offer)
}

/// Whether one member of the header's list is written as RFC 6455 §9.1 says, whatever extension it names.
#[must_use]
pub fn is_extension(member: &str) -> bool {
    let mut parts = member.split(';').map(trim);
    parts.next().is_some_and(is_token)
        && parts.all(|part| match part.split_once('=') {
            Some((name, value)) => {
                is_token(trim(name)) && unquoted(trim(value)).is_some_and(|value| is_token(&value))
            }
            None => is_token(part),
        })
}

impl Offer {
    /// Whether a server with this policy can take the offer up.
    #[must_use]
    pub fn permits(&self, policy: &Policy) -> bool {
        // Only a client that says that it can be told its window can be told a smaller one (§7.1.2.2).
        policy.client_window_bits >= 15 || self.client_max_window_bits.is_some()
    }

    /// Asserts that an answer says nothing that was not offered, and keeps to what was asked for and to the policy.
    ///
    /// # Panics
    /// It does not.
    pub fn assert_answered(&self, answer: &str, agreement: &Agreement, policy: &Policy) {
        let said = read(answer).expect("an answer has the form of an offer");
        let why = format!("{answer} to {self:?} by {policy:?}");
        // What is said is what is meant.
        assert_eq!(
            said.server_no_context_takeover, !agreement.server_takeover,
            "{why}"
        );
        assert_eq!(
            said.client_no_context_takeover, !agreement.client_takeover,
            "{why}"
        );
        let server_bits = said.server_max_window_bits.unwrap_or(15);
        assert_eq!(server_bits, agreement.server_window_bits, "{why}");
        let client_bits = said
            .client_max_window_bits
            .map(|bits| bits.expect("an answer has a value"));
        let own_bits = self.client_max_window_bits.flatten().unwrap_or(15);
        // Where the answer is silent, the client keeps to what it said itself (§7.1.2.2).
        assert_eq!(
            client_bits.unwrap_or(own_bits),
            agreement.client_window_bits,
            "{why}"
        );

        // §7.1.1.1 and §7.1.2.1: what a client asks for, an answer that accepts must say.
        assert!(
            !self.server_no_context_takeover || said.server_no_context_takeover,
            "{why}"
        );
        if let Some(asked) = self.server_max_window_bits {
            assert!(
                said.server_max_window_bits
                    .is_some_and(|bits| bits <= asked),
                "{why}"
            );
        }
        // §7.1.2.2: a client that has not offered it must not be told.
        assert!(
            client_bits.is_none() || self.client_max_window_bits.is_some(),
            "{why}"
        );
        assert!(client_bits.unwrap_or(8) <= own_bits, "{why}");

        let within = |bits: u8| bits.clamp(8, 15);
        assert!(
            agreement.server_window_bits <= within(policy.server_window_bits),
            "{why}"
        );
        assert!(
            agreement.client_window_bits <= within(policy.client_window_bits),
            "{why}"
        );
        assert!(
            !agreement.server_takeover || policy.server_takeover,
            "{why}"
        );
        assert!(
            !agreement.client_takeover || policy.client_takeover,
            "{why}"
        );
        assert!(
            !agreement.client_takeover || !self.client_no_context_takeover,
            "{why}"
        );
    }
}

/// A decimal number from 8 to 15 without leading zeros (§7.1.2.1).
fn bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok()?;
    (matches!(bits, 8..=15) && !value.starts_with(['0', '+'])).then_some(bits)
}

/// A token, or a token in quotes.
fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let (mut unquoted, mut characters) = (String::new(), rest.chars());
    loop {
        match characters.next()? {
            '\\' => unquoted.push(characters.next()?),
            '"' => return characters.next().is_none().then_some(unquoted),
            character => unquoted.push(character),
        }
    }
}

/// RFC 9110 §5.6.2: visible characters of ASCII that separate nothing.
fn is_token(text: &str) -> bool {
    let is_separator = |character| r#""(),/:;<=>?@[\]{}"#.contains(character);
    !text.is_empty()
        && text
            .chars()
            .all(|character| character.is_ascii_graphic() && !is_separator(character))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
