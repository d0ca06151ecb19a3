//! The room server as the conformance suite meets it: `SHARDCAST_ECHO=1` sends texts back as they came.

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, connect};

use crate::server::Server;

#[test]
fn each_connection_gets_its_own_texts_back_and_nothing_else() {
    let server = Server::start_as_echo(&["--shards", "1", "--messages-per-second-max", "0"]);
    let (mut ada, _) = connect(server.url()).expect("the server listens");
    let (mut bob, _) = connect(server.url()).expect("the server listens");

    // The order of a second connection's texts is its own: what the other one sends in between is not there.
    let texts = ["", "{", r#"{"type":"join","room":"hall"}"#, "\u{0}€😀"];
    for text in texts {
        ada.send(Message::text(text)).expect("it is open");
        bob.send(Message::text(format!("bob {text}")))
            .expect("it is open");
    }
    for text in texts {
        assert_eq!(ada.read().expect("an answer"), Message::text(text));
        assert_eq!(
            bob.read().expect("an answer"),
            Message::text(format!("bob {text}"))
        );
    }

    ada.send(Message::binary(vec![1, 2, 3]))
        .expect("it is open");
    match ada.read() {
        Ok(Message::Close(Some(close))) => assert_eq!(close.code, CloseCode::Unsupported),
        other => panic!("a binary message got {other:?}"),
    }
}
