//! The headers of a head, of either direction (RFC 9110 §5).

use httparse::Header;

/// The values of all headers called `name`; `None` stands for one that is not UTF-8.
pub(super) fn values<'a>(
    headers: &[Header<'a>],
    name: &str,
) -> impl Iterator<Item = Option<&'a str>> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| std::str::from_utf8(header.value).ok().map(trim))
}

/// The value of the header called `name`, when there is exactly one.
pub(super) fn single<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a str> {
    let mut values = values(headers, name);
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        _ => None,
    }
}

/// The members of a comma-separated list, which may be spread over several headers (RFC 9110 §5.6.1).
pub(super) fn tokens<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a str> {
    values(headers, name).flatten().flat_map(members)
}

/// The members of a list in one header. Empty ones do not count (RFC 9110 §5.6.1.2).
pub(super) fn members(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(trim)
        .filter(|member| !member.is_empty())
}

/// Whether a list holds the token, in any case.
pub(super) fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    tokens(headers, name).any(|candidate| candidate.eq_ignore_ascii_case(token))
}

/// Appends one header.
pub(super) fn push(head: &mut String, name: &str, value: &str) {
    head.push_str(name);
    head.push_str(": ");
    head.push_str(value);
    head.push_str("\r\n");
}

/// Whether the value is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Optional white space of HTTP is spaces and tabs.
pub(super) fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
