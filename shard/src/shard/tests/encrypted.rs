//! Connections over TLS in the loop: they live and end as others do, whatever the network does to their records.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::*;
use crate::tls::ClientSession;
use crate::tls::tests::{VERSIONS, client_config, server_config};

fn session(config: &Arc<ClientConfig>) -> ClientSession {
    let name = ServerName::try_from("localhost").unwrap();
    ClientSession::client(Arc::clone(config), name).unwrap()
}

fn rig(seed: u64, limits: Limits) -> Rig {
    Rig::over(
        seed,
        1,
        limits,
        SlowConsumer::Disconnect,
        Compression::default(),
        Some(Arc::new(server_config(&[
            &rustls::version::TLS12,
            &rustls::version::TLS13,
        ]))),
    )
}

/// A client that has not said anything.
fn connect(rig: &Rig, config: &Arc<ClientConfig>) -> SimWebSocket {
    SimWebSocket::connect(&rig.network, 0, "/").over_tls(session(config))
}

/// Goes on until nothing happens any more; answers what the client has heard.
fn hear(rig: &mut Rig, client: &mut SimWebSocket) -> Vec<SimEvent> {
    let moved = |rig: &Rig| {
        let stats = &rig.stats[0];
        stats.bytes_received.value() + stats.bytes_sent.value()
    };
    let mut heard = Vec::new();
    let mut quiet = 0;
    // A delayed completion may come some polls late.
    while quiet < 40 {
        let before = moved(rig);
        heard.extend(client.step(usize::MAX));
        rig.rest(0);
        rig.advance_ms(1);
        quiet = if moved(rig) == before { quiet + 1 } else { 0 };
    }
    heard
}

fn open(rig: &mut Rig, config: &Arc<ClientConfig>) -> SimWebSocket {
    let mut client = connect(rig, config);
    let heard = hear(rig, &mut client);
    assert!(matches!(heard[..], [SimEvent::Upgraded(_)]), "{heard:?}");
    client
}

/// A network that tears everything apart and breaks nothing.
fn rough() -> Faults {
    Faults {
        split_per_mille: 500,
        receive_end_per_mille: 100,
        no_buffers_per_mille: 100,
        short_send_per_mille: 500,
        delay_per_mille: 200,
        delay_polls_max: 5,
        pipe_bytes_min: 300,
        pipe_bytes_max: 5000,
        ..Faults::none()
    }
}

#[test]
fn a_connection_lives_and_ends_whatever_becomes_of_its_records() {
    let mut resumed = 0;
    for seed in 0..20 {
        let mut rig = rig(seed, Limits::default());
        if seed > 0 {
            rig.network.set_faults(rough());
        }
        let config = Arc::new(client_config());
        let mut client = open(&mut rig, &config);
        for length in [0, 1, 125, 20_000, 70_000] {
            let text = "x".repeat(length);
            client.send_text(&format!("echo {text}"));
            client.send_ping(b"ping");
            let heard = hear(&mut rig, &mut client);
            assert!(
                heard == [SimEvent::Text(text), SimEvent::Pong(b"ping".to_vec())],
                "seed {seed}, {length} bytes"
            );
        }
        // The answer is no question.
        client.set_answers(false);
        client.send_close(Some(1000), "");
        let heard = hear(&mut rig, &mut client);
        assert!(
            matches!(heard[..], [SimEvent::Close { .. }, SimEvent::EndOfStream]),
            "seed {seed}: {heard:?}"
        );
        rig.rest(0);
        let stats = &rig.stats[0];
        assert_eq!(stats.tls_errors.value(), 0, "seed {seed}");
        assert_eq!(rig.shards[0].counts().connections, 0);
        rig.network.assert_quiescent(0);
        resumed += stats.tls_handshakes_resumed.value();
        assert_eq!(stats.tls_handshakes_full.value(), 1);
    }
    assert_eq!(resumed, 0);
}

#[test]
fn a_request_without_tls_is_told_so() {
    let mut rig = rig(1, Limits::default());
    let client = rig.network.connect(0);
    client.write(b"GET / HTTP/1.1\r\nHost: simulation\r\n\r\n");
    rig.rest(0);
    let answer = String::from_utf8(client.read(usize::MAX)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("wss://"), "{answer}");
    assert_eq!(rig.stats[0].tls_errors.value(), 1);
    rig.advance_ms(Limits::default().close_ms_max + 100);
    rig.rest(0);
    assert_eq!(rig.shards[0].counts().connections, 0);
}

#[test]
fn whom_there_is_no_place_for_is_told_so_without_a_handshake() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let mut rig = rig(1, limits);
    let config = Arc::new(client_config());
    let mut first = open(&mut rig, &config);
    let mut second = connect(&rig, &config);
    let heard = hear(&mut rig, &mut second);
    assert!(
        matches!(&heard[0], SimEvent::ProtocolError(error) if error.contains("InternalError")),
        "{heard:?}"
    );
    assert_eq!(rig.stats[0].refused_full.value(), 1);
    assert_eq!(rig.stats[0].tls_handshakes_full.value(), 1);
    first.send_text("echo still here");
    let heard = hear(&mut rig, &mut first);
    assert_eq!(texts(heard), ["still here"]);
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    let limits = Limits::default();
    let mut rig = rig(1, limits.clone());
    let config = Arc::new(client_config());
    let mut silent = connect(&rig, &config);
    rig.rest(0);
    // Of another one half a hello has come.
    let half = rig.network.connect(0);
    let hello = session(&config).take_outgoing();
    half.write(&hello[..hello.len() / 2]);
    rig.rest(0);
    assert_eq!(rig.shards[0].counts().connections, 2);
    rig.advance_ms(limits.handshake_ms_max + 100);
    rig.rest(0);
    assert_eq!(rig.stats[0].handshakes_rejected.value(), 2);
    assert_eq!(half.read(usize::MAX), b"", "no word that it could read");
    assert!(half.is_end_of_stream());
    let heard = silent.step(usize::MAX);
    assert!(
        matches!(&heard[0], SimEvent::ProtocolError(error) if error.contains("InternalError")),
        "{heard:?}"
    );
    rig.advance_ms(limits.close_ms_max + 100);
    rig.rest(0);
    assert_eq!(rig.shards[0].counts().connections, 0);
    rig.network.assert_quiescent(0);
}

#[test]
fn a_forged_record_ends_its_connection_and_no_other() {
    let mut rig = rig(1, Limits::default());
    let config = Arc::new(client_config());
    let (mut forged, mut other) = (open(&mut rig, &config), open(&mut rig, &config));
    let record = [23, 3, 3, 0, 20];
    forged.client().write(&record);
    forged.client().write(&[7; 20]);
    let heard = hear(&mut rig, &mut forged);
    assert!(
        matches!(&heard[0], SimEvent::ProtocolError(error) if error.contains("BadRecordMac")),
        "{heard:?}"
    );
    assert_eq!(rig.stats[0].tls_errors.value(), 1);
    rig.advance_ms(Limits::default().close_ms_max + 100);
    rig.rest(0);
    assert_eq!(rig.shards[0].counts().connections, 1);
    other.send_text("echo unharmed");
    assert_eq!(texts(hear(&mut rig, &mut other)), ["unharmed"]);
}

#[test]
fn many_are_sent_the_same_each_under_its_own_keys() {
    for versions in VERSIONS {
        let mut rig = Rig::over(
            1,
            1,
            Limits::default(),
            SlowConsumer::Disconnect,
            Compression::default(),
            Some(Arc::new(server_config(versions))),
        );
        let config = Arc::new(client_config());
        let mut clients: Vec<SimWebSocket> = (0..5).map(|_| open(&mut rig, &config)).collect();
        for text in ["direct a", "direct b", "direct c"] {
            clients[0].send_text(text);
        }
        for client in &mut clients {
            let heard = texts(hear(&mut rig, client));
            assert_eq!(heard.len(), 3, "{heard:?}");
        }
    }
}

#[test]
fn the_memory_of_a_session_goes_with_its_connection() {
    let mut rig = rig(1, Limits::default());
    let config = Arc::new(client_config());
    let clients: Vec<SimWebSocket> = (0..8).map(|_| open(&mut rig, &config)).collect();
    assert_eq!(rig.core().table.tls_sessions(), 8);
    for client in &clients {
        client.client().close();
    }
    rig.rest(0);
    assert_eq!(rig.shards[0].counts().connections, 0);
    assert_eq!(rig.core().table.tls_sessions(), 0);
}
