//! Both ends against each other, and what each of them holds.

use std::sync::LazyLock;

use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, RootCertStore};

use super::*;

/// A certificate of `localhost`, and its key.
static IDENTITY: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.der().clone(), made.signing_key.serialize_der())
});

pub(crate) fn server_config(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let (certificate, key) = &*IDENTITY;
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap()
}

pub(crate) fn client_config() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.0.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client and a server, and what each has decrypted.
struct Pair {
    client: ClientSession,
    server: ServerSession,
    at_client: Vec<u8>,
    at_server: Vec<u8>,
    established: Vec<Established>,
}

impl Pair {
    fn new(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            client: ClientSession::client(client, name).unwrap(),
            server: ServerSession::server(server).unwrap(),
            at_client: Vec::new(),
            at_server: Vec::new(),
            established: Vec::new(),
        }
    }

    fn of(versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        Self::new(Arc::new(client_config()), Arc::new(server_config(versions)))
    }

    fn give_server(&mut self, bytes: &[u8]) -> Result<Heard, TlsError> {
        self.server
            .receive(&mut bytes.to_vec(), &mut self.at_server)
    }

    fn give_client(&mut self, bytes: &[u8]) -> Result<Heard, TlsError> {
        self.client
            .receive(&mut bytes.to_vec(), &mut self.at_client)
    }

    /// Carries what TLS itself says, in pieces of so many bytes, until both are silent.
    fn talk(&mut self, piece: usize) -> Result<(), TlsError> {
        while self.client.has_outgoing() || self.server.has_outgoing() {
            for bytes in self.client.take_outgoing().chunks(piece) {
                let heard = self.give_server(bytes)?;
                self.established.extend(heard.established);
            }
            for bytes in self.server.take_outgoing().chunks(piece) {
                let heard = self.give_client(bytes)?;
                self.established.extend(heard.established);
            }
        }
        Ok(())
    }
}

pub(crate) const VERSIONS: [&[&rustls::SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

#[test]
fn both_versions_carry_bytes_both_ways_however_they_are_split() {
    for versions in VERSIONS {
        for piece in [1, 2, 3, 7, 100, 1 << 20] {
            let mut pair = Pair::of(versions);
            pair.talk(piece).unwrap();
            assert_eq!(pair.established, [Established::Full; 2]);
            for length in [1, 125, 16_384, 16_385, 100_000] {
                let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                for bytes in pair.client.seal(&payload).unwrap().chunks(piece) {
                    assert_eq!(pair.give_server(bytes), Ok(Heard::default()));
                }
                assert_eq!(std::mem::take(&mut pair.at_server), payload);
                for bytes in pair.server.seal(&payload).unwrap().chunks(piece) {
                    assert_eq!(pair.give_client(bytes), Ok(Heard::default()));
                }
                assert_eq!(std::mem::take(&mut pair.at_client), payload);
            }
        }
    }
}

proptest! {
    #[test]
    fn records_may_be_split_anywhere(cuts in prop::collection::vec(1usize..3000, 1..20)) {
        let mut pair = Pair::of(VERSIONS[1]);
        pair.talk(usize::MAX).unwrap();
        let payload: Vec<u8> = (0..40_000u32).map(|at| at as u8).collect();
        let sealed = pair.client.seal(&payload).unwrap();
        let mut rest = &sealed[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            prop_assert_eq!(pair.give_server(piece), Ok(Heard::default()));
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(pair.at_server == payload);
        prop_assert!(pair.server.incoming.capacity() == 0, "nothing is kept between records");
    }

    #[test]
    fn whatever_a_peer_sends_is_borne(bytes in prop::collection::vec(any::<u8>(), 0..2000), before in 0usize..300) {
        let mut pair = Pair::of(VERSIONS[1]);
        let hello = pair.client.take_outgoing();
        let begun = pair.give_server(&hello[..before.min(hello.len())]).is_ok();
        prop_assert!(begun);
        let _either: Result<Heard, TlsError> = pair.give_server(&bytes);
        prop_assert!(pair.server.incoming.len() <= INCOMING_BYTES_MAX + bytes.len());
    }
}

#[test]
fn a_second_connection_resumes() {
    for versions in VERSIONS {
        let client = Arc::new(client_config());
        let mut server = server_config(versions);
        server.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        let server = Arc::new(server);
        for expected in [Established::Full, Established::Resumed] {
            let mut pair = Pair::new(Arc::clone(&client), Arc::clone(&server));
            pair.talk(usize::MAX).unwrap();
            assert_eq!(pair.established, [expected; 2]);
        }
    }
}

#[test]
fn what_tls_has_to_say_leaves_before_what_is_sealed_later() {
    let mut pair = Pair::of(VERSIONS[1]);
    let hello = pair.client.take_outgoing();
    pair.give_server(&hello).unwrap();
    let flight = pair.server.take_outgoing();
    pair.give_client(&flight).unwrap();
    let finished = pair.client.take_outgoing();
    pair.give_server(&finished).unwrap();
    assert!(pair.server.has_outgoing(), "tickets wait");
    let sealed = pair.server.seal(b"hello").unwrap();
    assert!(!pair.server.has_outgoing());
    assert_eq!(pair.give_client(&sealed), Ok(Heard::default()));
    assert_eq!(pair.at_client, b"hello");
}

#[test]
fn the_end_is_said_once_and_heard() {
    let mut pair = Pair::of(VERSIONS[1]);
    pair.talk(usize::MAX).unwrap();
    pair.server.close();
    let last = pair.server.take_outgoing();
    pair.server.close();
    assert!(!pair.server.has_outgoing());
    assert_eq!(pair.server.seal(b"late"), Err(TlsError::NoKeys));
    let heard = pair.give_client(&last).unwrap();
    assert!(heard.peer_closed);
    let still = pair.client.seal(b"one more").unwrap();
    assert_eq!(pair.give_server(&still), Ok(Heard::default()));
    assert_eq!(pair.at_server, b"one more");
}

#[test]
fn the_peer_is_told_what_is_wrong() {
    let mut client = client_config();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut server = server_config(VERSIONS[1]);
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut pair = Pair::new(Arc::new(client), Arc::new(server));
    let hello = pair.client.take_outgoing();
    let error = pair.give_server(&hello).unwrap_err();
    assert!(matches!(error, TlsError::Protocol(_)), "{error}");
    let alert = pair.server.take_outgoing();
    assert_eq!(
        pair.give_client(&alert),
        Err(TlsError::Protocol(rustls::Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
        )))
    );
}

/// The hello, the certificate and more arrive in one record: what follows the certificate is never read.
#[test]
fn a_server_that_nobody_trusts_is_told_so() {
    for versions in VERSIONS {
        let mut client = client_config();
        client
            .dangerous()
            .set_certificate_verifier(untrusting_verifier());
        let mut pair = Pair::new(Arc::new(client), Arc::new(server_config(versions)));
        let error = pair.talk(usize::MAX).unwrap_err();
        assert!(
            matches!(
                error,
                TlsError::Protocol(rustls::Error::InvalidCertificate(_))
            ),
            "{error}"
        );
        let alert = pair.client.take_outgoing();
        let error = pair.give_server(&alert).unwrap_err();
        assert!(
            matches!(error, TlsError::Protocol(rustls::Error::AlertReceived(_))),
            "{error}"
        );
    }
}

/// A verifier that trusts another certificate of the same name.
fn untrusting_verifier() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap()
}

#[test]
fn messages_are_sealed_while_half_a_message_of_tls_has_arrived() {
    let mut server = server_config(VERSIONS[1]);
    server.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    // A ticket takes several records.
    server.max_fragment_size = Some(64);
    for ends in [false, true] {
        let mut pair = Pair::new(Arc::new(client_config()), Arc::new(server.clone()));
        let hello = pair.client.take_outgoing();
        pair.give_server(&hello).unwrap();
        let flight = pair.server.take_outgoing();
        pair.give_client(&flight).unwrap();
        let finished = pair.client.take_outgoing();
        pair.give_server(&finished).unwrap();
        let tickets = pair.server.take_outgoing();
        let (begun, rest) = tickets.split_at(tickets.len() / 2);
        assert_eq!(pair.give_client(begun), Ok(Heard::default()));
        assert!(!pair.client.incoming.is_empty());
        let sealed = match ends {
            false => pair.client.seal(b"hello").unwrap(),
            true => {
                pair.client.close();
                pair.client.take_outgoing()
            }
        };
        let heard = pair.give_server(&sealed).unwrap();
        assert_eq!(heard.peer_closed, ends);
        assert_eq!(pair.give_client(rest), Ok(Heard::default()));
        let sealed = pair.server.seal(b"and back").unwrap();
        pair.give_client(&sealed).unwrap();
        assert_eq!(pair.at_client, b"and back");
    }
}

#[test]
fn a_forged_record_ends_the_connection() {
    let mut pair = Pair::of(VERSIONS[1]);
    pair.talk(usize::MAX).unwrap();
    let mut sealed = pair.client.seal(b"pay 10").unwrap().to_vec();
    sealed[12] ^= 1;
    let error = pair.give_server(&sealed).unwrap_err();
    assert_eq!(error, TlsError::Protocol(rustls::Error::DecryptError));
    assert!(pair.at_server.is_empty());
    assert!(pair.server.has_outgoing(), "an alert");
    assert_eq!(pair.server.seal(b"more"), Err(TlsError::NoKeys));
}

#[test]
fn a_request_without_tls_is_answered_in_its_own_words() {
    let mut pair = Pair::of(VERSIONS[1]);
    assert_eq!(
        pair.give_server(b"GET /ws HTTP/1.1\r\n"),
        Err(TlsError::NotTls)
    );
    pair.server
        .answer_plainly(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    pair.server.close();
    assert_eq!(
        pair.server.take_outgoing(),
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]
    );
}

#[test]
fn a_hello_without_end_is_refused() {
    let mut pair = Pair::of(VERSIONS[1]);
    // A client hello of 60,000 bytes, in records of 16,000.
    let mut hello = vec![1, 0, 0xea, 0x60];
    hello.resize(4 + 60_000, 0);
    let mut refused = false;
    for fragment in hello.chunks(16_000) {
        let mut record = vec![22, 3, 1];
        record.extend_from_slice(&(fragment.len() as u16).to_be_bytes());
        record.extend_from_slice(fragment);
        refused |= pair.give_server(&record).is_err();
        assert!(pair.server.incoming.len() <= 2 * INCOMING_BYTES_MAX);
        if refused {
            break;
        }
    }
    assert!(refused);
}

/// Keys are renewed by a message of the handshake, of which a peer may send a part and then nothing.
#[test]
fn a_part_of_a_message_of_tls_itself_holds_nothing_up() {
    let mut pair = Pair::of(VERSIONS[1]);
    let hello = pair.client.take_outgoing();
    for cut in [1, 5, 6, 9, 100, hello.len() - 1] {
        let mut pair = Pair::of(VERSIONS[1]);
        let hello = pair.client.take_outgoing();
        pair.give_server(&hello[..cut]).unwrap();
        assert_eq!(pair.server.seal(b"early"), Err(TlsError::NoKeys));
        pair.server.close();
        assert!(!pair.server.has_outgoing());
    }
    // The first half of the hello in a record of its own, then something else.
    let (header, body) = hello.split_at(5);
    let record = |kind: u8, body: &[u8]| {
        let mut record = vec![kind, header[1], header[2]];
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    };
    for (kind, rest) in [
        (22, &body[100..]),
        (23, &body[100..]),
        (21, &[1, 0][..]),
        (99, &[0][..]),
    ] {
        let mut pair = Pair::of(VERSIONS[1]);
        pair.give_server(&record(22, &body[..100])).unwrap();
        assert_eq!(pair.server.seal(b"early"), Err(TlsError::NoKeys));
        let _either: Result<Heard, TlsError> = pair.give_server(&record(kind, rest));
        pair.server.close();
    }
}

#[test]
fn before_any_key_the_alert_is_one_that_every_client_reads() {
    let mut pair = Pair::of(VERSIONS[1]);
    pair.server.dismiss();
    let alert = pair.server.take_outgoing();
    assert_eq!(
        pair.give_client(&alert),
        Err(TlsError::Protocol(rustls::Error::AlertReceived(
            AlertDescription::InternalError
        )))
    );
}

/// What an idle session holds, in the form that README states.
#[test]
fn an_idle_session_holds_a_bounded_amount_of_memory() {
    for (versions, bytes_max) in [(VERSIONS[0], 4096), (VERSIONS[1], 4096)] {
        let client = Arc::new(client_config());
        let server = Arc::new(server_config(versions));
        // What is made once for all connections.
        Pair::new(Arc::clone(&client), Arc::clone(&server))
            .talk(usize::MAX)
            .unwrap();
        let mut client =
            ClientSession::client(client, ServerName::try_from("localhost").unwrap()).unwrap();
        let mut held = 0;
        let mut session = None;
        // Bytes move in memory that is not the session's.
        let mut bytes = Vec::with_capacity(1 << 16);
        let mut of_server = |work: &mut dyn FnMut(&mut Option<Box<ServerSession>>)| {
            held += allocation_counter::measure(|| work(&mut session)).bytes_current;
        };
        of_server(&mut |session| {
            let made = ServerSession::server(Arc::clone(&server)).unwrap();
            *session = Some(Box::new(made));
        });
        for _ in 0..3 {
            bytes.extend_from_slice(&client.take_outgoing());
            of_server(&mut |session| {
                let session = session.as_mut().unwrap();
                session.receive(&mut bytes, &mut Vec::new()).unwrap();
                bytes.clear();
                bytes.extend_from_slice(&session.take_outgoing());
            });
            client.receive(&mut bytes, &mut Vec::new()).unwrap();
            bytes.clear();
        }
        assert!(!client.is_handshaking());
        println!("{versions:?}: an idle session holds {held} bytes");
        assert!((500..bytes_max).contains(&held), "{held}");
    }
}
