//! A handshake in pieces of the input's choice: every split gives the same answer, what is accepted holds up before a
//! naive reader and before tungstenite, what is beyond doubt is accepted, and answers are HTTP with the right accept key.
#![no_main]

use arbitrary::Unstructured;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use libfuzzer_sys::fuzz_target;
use sha1::{Digest, Sha1};
use shardcast_fuzz::offers::is_extension;
use shardcast_fuzz::{Cuts, short_bytes};
use shardcast_shard::ws::deflate::Inflater;
use shardcast_shard::ws::oracle::{Event, LIMITS, begun_bytes, events_of, feed};
use shardcast_shard::ws::{Incoming, Input, Rejection, Session, UpgradeRequest, handshake};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server;

const HEAD_END: &[u8] = b"\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let (Ok(cuts), Ok(protocol)) = (Cuts::read(&mut input), short_bytes(&mut input)) else {
        return;
    };
    let stream = input.take_rest();
    let cuts = cuts.within(stream.len());
    let whole = events_of(Session::new(), stream, &[]);
    assert_eq!(events_of(Session::new(), stream, &cuts), whole);
    assert_bounded(stream, &cuts);

    let head = head_of(stream);
    let mut received = stream.to_vec();
    let (mut session, mut inflater) = (Session::new(), Inflater::shared());
    match session.next(&mut Input::new(&mut received), &LIMITS, &mut inflater) {
        Some(Incoming::Upgrade(request)) => {
            let head = head.expect("only a whole head is accepted");
            assert_valid(&request, head);
            assert_answer(&request, head, &String::from_utf8_lossy(protocol));
        }
        Some(Incoming::Rejected(rejection)) => {
            assert_refusal(&rejection);
            let doubtless = head
                .and_then(Naive::read)
                .is_some_and(|naive| naive.is_strict);
            assert!(!doubtless, "{rejection:?}: {}", stream.escape_ascii());
        }
        Some(other) => panic!("{other:?} before the handshake"),
        None => assert!(head.is_none(), "a whole head was not judged"),
    }
});

/// The head of a request, where it is whole and not too large.
fn head_of(stream: &[u8]) -> Option<&[u8]> {
    let window = &stream[..stream.len().min(LIMITS.handshake_size_max)];
    let mut ends = window.windows(HEAD_END.len());
    let end = ends.position(|bytes| bytes == HEAD_END)?;
    Some(&stream[..end + HEAD_END.len()])
}

/// A request that is not whole is held up to the bound of handshakes, and no byte beyond.
fn assert_bounded(stream: &[u8], cuts: &[usize]) {
    let (mut session, mut events) = (Session::new(), Vec::new());
    let mut start = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        feed(&mut session, &stream[start..cut], &mut events);
        if matches!(events[..], [Event::Upgrade { .. }, ..]) {
            return;
        }
        assert!(session.buffered_bytes() <= begun_bytes() + LIMITS.handshake_size_max);
        start = cut;
    }
}

/// A request as somebody reads it who has only the RFC and knows no library.
struct Naive<'a> {
    target: &'a str,
    host: &'a str,
    key: &'a str,
    /// No server may find anything wrong with it.
    is_strict: bool,
}

impl<'a> Naive<'a> {
    /// Reads a head that fulfils RFC 6455 §4.2.1; `None` where it does not.
    fn read(head: &'a [u8]) -> Option<Self> {
        // Values of other headers may be any bytes. What counts here is ASCII.
        let is_ascii = head.is_ascii();
        let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
        let (request, headers) = lines.split_first()?;
        let request = std::str::from_utf8(request).ok()?;
        let words: Vec<&str> = request.split_ascii_whitespace().collect();
        let [method, target, version] = words[..] else {
            return None;
        };
        let headers: Vec<(&str, &[u8])> = headers
            .iter()
            .filter(|line| !line.trim_ascii().is_empty())
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let name = std::str::from_utf8(&line[..colon]).ok()?;
                Some((name.trim_ascii(), line[colon + 1..].trim_ascii()))
            })
            .collect::<Option<_>>()?;
        let values = |wanted: &str| {
            let same = headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            same.filter_map(|(_, value)| std::str::from_utf8(value).ok())
                .collect::<Vec<_>>()
        };
        let single = |wanted: &str| match values(wanted)[..] {
            [value] => Some(value),
            _ => None,
        };
        let names = |wanted: &str, token: &str| {
            let values = values(wanted);
            let mut tokens = values.iter().flat_map(|value| value.split(','));
            tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token))
        };
        let (host, key) = (single("host")?, single("sec-websocket-key")?);
        // A malformed one fails the connection (RFC 6455 §9.1).
        let extensions = values("sec-websocket-extensions");
        let mut extensions = extensions.iter().flat_map(|value| value.split(','));
        let are_extensions = extensions.all(|member| {
            let member = member.trim_matches([' ', '\t']);
            member.is_empty() || is_extension(member)
        });
        let is_valid = (method, version) == ("GET", "HTTP/1.1")
            && !host.is_empty()
            && is_key(key)
            && single("sec-websocket-version") == Some("13")
            && names("upgrade", "websocket")
            && names("connection", "upgrade")
            && are_extensions;
        let is_strict = is_ascii
            && request == format!("GET {target} HTTP/1.1\r")
            && target.starts_with('/')
            && target.bytes().all(|byte| byte.is_ascii_graphic())
            && headers.len() <= LIMITS.handshake_headers_max
            && lines[1..lines.len() - 2]
                .iter()
                .all(|line| is_strict_header(line))
            && lines[lines.len() - 2..] == [&b"\r"[..], &b""[..]];
        is_valid.then_some(Self {
            target,
            host,
            key,
            is_strict,
        })
    }
}

/// Whether a header line, without its line feed, is as RFC 9112 §5 wants it.
fn is_strict_header(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_printable = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && value
            .strip_suffix(b"\r")
            .is_some_and(|value| value.iter().all(is_printable))
}

/// Whether it has the form of 16 bytes in base64. The last digit has bits to spare that some clients set.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.strip_suffix("==")
        .is_some_and(|digits| digits.len() == 22 && digits.bytes().all(is_digit))
}

/// What was accepted is valid, and was understood.
fn assert_valid(request: &UpgradeRequest<'_>, head: &[u8]) {
    let Some(naive) = Naive::read(head) else {
        panic!("not valid, but accepted: {}", head.escape_ascii())
    };
    assert_eq!((request.key(), request.host()), (naive.key, naive.host));
    let resource = match request.query() {
        Some(query) => format!("{}?{query}", request.path()),
        None => request.path().to_owned(),
    };
    assert!(resource.starts_with('/'));
    // The absolute form names the host first, perhaps without a path.
    let target = naive.target;
    assert!(
        target.ends_with(&resource) || target.ends_with(resource.trim_start_matches('/')),
        "{target} is not {resource}"
    );
    let query = request.query().unwrap_or_default();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        assert_parameter(request, query, &name);
    }
}

/// The first parameter of a name has the value that a decoder of forms gives it.
fn assert_parameter(request: &UpgradeRequest<'_>, query: &str, name: &str) {
    // What is not UTF-8 becomes this character there, and is no value here.
    let is_clean = |text: &str| !text.contains(char::REPLACEMENT_CHARACTER);
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let Some((_, expected)) = parameters.find(|(found, _)| found == name) else {
        return;
    };
    if is_clean(name) && is_clean(&expected) && !name.is_empty() {
        assert_eq!(
            request.query_value(name),
            Some(expected),
            "{name} of {query}"
        );
    }
}

/// The answer is HTTP, carries the right key, and says what tungstenite would say.
fn assert_answer(request: &UpgradeRequest<'_>, head: &[u8], protocol: &str) {
    // Mostly one that was offered.
    let offered: Vec<&str> = request.protocols().collect();
    let chosen = match protocol.len() {
        0 => None,
        length if protocol.starts_with('#') => offered.get(length % (offered.len() + 1)).copied(),
        _ => Some(protocol),
    };
    let answer = handshake::response(request, chosen, None);
    let (status, headers, body) = parse(&answer);
    let named: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert!(
        named
            .iter()
            .all(|named| offered.contains(named) && chosen == Some(named))
    );
    assert_eq!((status, body), (101, String::new()));
    assert_eq!(headers.len(), 3 + named.len());

    let digest = Sha1::digest(format!(
        "{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
        request.key()
    ));
    let accept = BASE64_STANDARD.encode(digest);
    assert_eq!(
        value(&headers, "sec-websocket-accept"),
        Some(accept.as_str())
    );
    assert_eq!(value(&headers, "upgrade"), Some("websocket"));
    assert_eq!(value(&headers, "connection"), Some("Upgrade"));
    assert_tungstenite(head, &accept);
}

/// Where tungstenite can read the request at all, it gives the same answer.
fn assert_tungstenite(head: &[u8], accept: &str) {
    let Ok(Some((size, request))) = server::Request::try_parse(head) else {
        // Its rules for targets and values are narrower than those of HTTP.
        return;
    };
    assert_eq!(size, head.len());
    let count = |name: &str| request.headers().get_all(name).iter().count();
    let is_plain = |name: &str| {
        let value = request.headers().get(name);
        let text = value.and_then(|value| value.to_str().ok());
        text.filter(|text| count(name) == 1 && !text.contains('\t'))
    };
    // It looks at the first header of a name only, takes no list for `Upgrade`, and no key whose spare bits are set.
    let key = request.headers()["sec-websocket-key"].as_bytes();
    let comparable = is_plain("connection").is_some()
        && BASE64_STANDARD.decode(key).is_ok()
        && is_plain("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    if comparable {
        let answer = server::create_response(&request).expect("tungstenite accepts it too");
        assert_eq!(answer.headers()["sec-websocket-accept"], accept);
    }
}

/// A rejection is a whole HTTP answer whose length is right.
fn assert_refusal(rejection: &Rejection) {
    let (status, headers, body) = parse(&rejection.response());
    assert_eq!(status, rejection.status().0);
    let length = body.len().to_string();
    assert_eq!(value(&headers, "content-length"), Some(length.as_str()));
}

fn value<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    let mut same = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    same.next().map(|(_, value)| value.as_str())
}

/// Status, headers and body of an answer.
fn parse(answer: &[u8]) -> (u16, Vec<(String, String)>, String) {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(size)) = response.parse(answer) else {
        panic!("not an HTTP answer: {}", answer.escape_ascii())
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let headers = response.headers.iter();
    let headers = headers.map(|header| (header.name.to_owned(), text(header.value)));
    (
        response.code.expect("a status"),
        headers.collect(),
        text(&answer[size..]),
    )
}
