//! `Sec-WebSocket-Extensions`: extensions and their parameters (RFC 6455 §9.1).

use std::borrow::Cow;

use super::headers::{is_token, trim};

/// An extension that a client offers, with its parameters in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ws) struct Offer<'a> {
    /// What the extension is called.
    pub(in crate::ws) name: &'a str,
    /// What follows the name, from behind the first semicolon on.
    parameters: Option<&'a str>,
}

/// A parameter and, where it has one, its value.
pub(in crate::ws) type Parameter<'a> = (&'a str, Option<Cow<'a, str>>);

impl<'a> Offer<'a> {
    /// One member of the list, without white space around it. `None` where it breaks the grammar.
    pub(in crate::ws) fn parse(member: &'a str) -> Option<Self> {
        let (name, parameters) = match member.split_once(';') {
            Some((name, parameters)) => (trim(name), Some(parameters)),
            None => (member, None),
        };
        let offer = Self { name, parameters };
        let is_valid = is_token(name) && offer.raw().all(|raw| parameter(raw).is_some());
        is_valid.then_some(offer)
    }

    /// The parameters, in their order.
    pub(in crate::ws) fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> {
        self.raw().filter_map(parameter)
    }

    /// No value may hold a separator, also when it is quoted: what is quoted must be a token too.
    fn raw(&self) -> impl Iterator<Item = &'a str> {
        self.parameters
            .into_iter()
            .flat_map(|parameters| parameters.split(';'))
    }
}

/// `name`, `name=token` or `name="token"`.
fn parameter(raw: &str) -> Option<Parameter<'_>> {
    let (name, value) = match raw.split_once('=') {
        Some((name, value)) => (trim(name), Some(unquote(trim(value))?)),
        None => (trim(raw), None),
    };
    let is_valid = is_token(name) && value.as_deref().is_none_or(is_token);
    is_valid.then_some((name, value))
}

/// Takes the quotes and backslashes of a quoted string away (RFC 9110 §5.6.4).
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(Cow::Borrowed(value));
    };
    let mut unquoted = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => unquoted.push(characters.next()?),
            character => unquoted.push(character),
        }
    }
    characters
        .as_str()
        .is_empty()
        .then_some(Cow::Owned(unquoted))
}
