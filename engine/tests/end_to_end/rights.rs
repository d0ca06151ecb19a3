//! A client that tries everything its token does not allow, a right at a time: it is told `forbidden` and hears nothing, and those who may hear of nothing.

use serde_json::{Value, json};

use crate::client::Client;
use crate::file::File;
use crate::server::Server;
use crate::signer::Signer;
use crate::tokens::claims_with;

/// A server of one shard, on which all happens in order, with two connections: `ada`, whom her token restricts, and `omar`, who may do everything.
struct Scene {
    server: Server,
    signer: Signer,
    _key: File,
    ada: Client,
    omar: Client,
}

impl Scene {
    fn new(rules: &Value) -> Self {
        let signer = Signer::secret();
        let key = File::new(signer.public_file());
        let server = Server::start(&["--shards", "1", "--auth-key", key.path()]);
        let connect = |user: &str, rules: &Value| {
            Client::connect_with_token(&server, &signer.token(&claims_with(user, rules)))
        };
        let (ada, omar) = (connect("ada", rules), connect("omar", &json!({})));
        Self {
            server,
            signer,
            _key: key,
            ada,
            omar,
        }
    }

    fn rooms(rules: &Value) -> Self {
        Self::new(&json!({ "rooms": rules }))
    }

    /// Ada asks for something and is refused.
    fn refused(&mut self, request: &Value, code: &str) {
        self.ada.send(request);
        let error = self.ada.expect("error");
        assert_eq!(error["code"], code, "{request}: {error}");
    }

    /// What Ada has heard of all that has happened so far, and nobody has asked for yet.
    fn heard(&mut self) -> Vec<Value> {
        self.omar.heartbeat();
        self.omar
            .send(&json!({"type": "direct", "to": "ada", "content": "fence"}));
        self.ada
            .expect_where("fence", |object| object["content"] == "fence");
        self.ada.take_all()
    }

    /// What Omar has heard likewise.
    fn omar_heard(&mut self) -> Vec<Value> {
        self.ada.heartbeat();
        self.omar.heartbeat();
        self.omar.take_all()
    }
}

#[test]
fn without_the_right_to_join() {
    let mut scene =
        Scene::rooms(&json!([{"room": "secret", "rights": ["publish", "presence", "history"]}]));
    scene.omar.join("secret");
    scene.refused(&json!({"type": "join", "room": "secret"}), "forbidden");
    scene.refused(
        &json!({"type": "join", "room": "secret", "since": {"epoch": 1, "seq": 0}}),
        "forbidden",
    );
    // The right to publish is one of members.
    scene.refused(
        &json!({"type": "message", "room": "secret", "content": 1}),
        "not_joined",
    );
    scene.omar.publish("secret", &json!("for members"));
    scene.omar.expect("message");
    assert_eq!(scene.heard(), [] as [Value; 0]);
    assert_eq!(scene.omar_heard(), [] as [Value; 0]);
}

#[test]
fn a_room_that_no_rule_fits_is_as_one_that_is_not_there() {
    let mut scene = Scene::rooms(
        &json!([{"room": "chat.*", "rights": ["join", "publish", "presence", "history"]}]),
    );
    scene.omar.join("secret");
    for room in ["secret", "not there"] {
        for kind in ["join", "presence", "history"] {
            scene.refused(&json!({"type": kind, "room": room}), "forbidden");
        }
        scene.refused(
            &json!({"type": "message", "room": room, "content": 1}),
            "forbidden",
        );
    }
    scene.ada.join("chat.a");
    scene.ada.take_all();
    scene.omar.publish("secret", &json!(1));
    scene.omar.expect("message");
    assert_eq!(scene.heard(), [] as [Value; 0]);
    assert_eq!(scene.omar_heard(), [] as [Value; 0]);
}

#[test]
fn without_the_right_to_publish() {
    let mut scene =
        Scene::rooms(&json!([{"room": "news", "rights": ["join", "presence", "history"]}]));
    scene.ada.join("news");
    scene.omar.join("news");
    scene.omar.take_all();
    for id in [json!({}), json!({"id": "1"})] {
        let mut message = json!({"type": "message", "room": "news", "content": "mine"});
        message
            .as_object_mut()
            .unwrap()
            .extend(id.as_object().unwrap().clone());
        scene.refused(&message, "forbidden");
    }
    assert_eq!(scene.omar_heard(), [] as [Value; 0]);
    scene.omar.send(&json!({"type": "history", "room": "news"}));
    assert_eq!(scene.omar.expect("history")["messages"], json!([]));
}

#[test]
fn without_the_right_to_presence() {
    let mut scene =
        Scene::rooms(&json!([{"room": "chat", "rights": ["join", "publish", "history"]}]));
    scene.omar.join("chat");
    let joined = scene.ada.join("chat");
    assert!(joined.get("members").is_none(), "{joined}");
    scene.refused(&json!({"type": "presence", "room": "chat"}), "forbidden");
    let token = scene.signer.token(&claims_with("eve", &json!({})));
    let mut eve = Client::connect_with_token(&scene.server, &token);
    eve.join("chat");
    eve.send(&json!({"type": "leave", "room": "chat"}));
    eve.expect("left");
    scene.omar.expect("user_joined");
    scene.omar.expect("user_left");
    assert_eq!(scene.heard(), [] as [Value; 0]);
}

#[test]
fn without_the_right_to_history() {
    let mut scene =
        Scene::rooms(&json!([{"room": "chat", "rights": ["join", "publish", "presence"]}]));
    let epoch = scene.omar.join("chat")["epoch"].as_u64().unwrap();
    for number in 1..=3 {
        scene.omar.publish("chat", &json!(number));
        scene.omar.expect("message");
    }
    scene.refused(&json!({"type": "history", "room": "chat"}), "forbidden");
    scene.refused(&json!({"type": "history", "room": "chat", "since": {"epoch": epoch, "seq": 0}, "limit": 1}), "forbidden");
    let joined = scene.ada.join_since("chat", epoch, 0);
    assert_eq!(joined["recovered"], false, "{joined}");
    assert_eq!(scene.heard(), [] as [Value; 0]);
    scene.omar.publish("chat", &json!("new"));
    assert_eq!(scene.ada.expect("message")["content"], "new");
}

#[test]
fn direct_messages_to_those_whom_the_token_names_alone() {
    let mut scene = Scene::new(&json!({"direct": ["bob*"]}));
    scene.refused(
        &json!({"type": "direct", "to": "omar", "content": 1}),
        "forbidden",
    );
    scene.refused(
        &json!({"type": "direct", "to": "omar", "content": 1, "id": "1"}),
        "forbidden",
    );
    assert_eq!(scene.omar_heard(), [] as [Value; 0]);
    scene
        .ada
        .send(&json!({"type": "direct", "to": "bobby", "content": 1, "id": "2"}));
    scene.ada.expect("ack");
}

#[test]
fn the_inbox_of_another_user() {
    let mut scene = Scene::new(&json!({}));
    // Under another name than the token's.
    let token = scene.signer.token(&claims_with("ada", &json!({})));
    let posing = Client::open(&scene.server, &format!("/ws?user=omar&token={token}")).unwrap();
    assert_eq!(posing.welcome["user"], "ada");
    // With a token of another user's, once connected.
    let other = scene.signer.token(&claims_with("omar", &json!({})));
    scene.refused(&json!({"type": "auth", "token": other}), "forbidden");
    // As a room of that name.
    scene.ada.join("omar");
    let token = scene.signer.token(&claims_with("eve", &json!({})));
    let mut eve = Client::connect_with_token(&scene.server, &token);
    eve.send(&json!({"type": "direct", "to": "omar", "content": "for omar", "id": "1"}));
    eve.expect("ack");
    assert_eq!(scene.omar.expect("direct")["content"], "for omar");
    scene.ada.send(&json!({"type": "history", "room": "omar"}));
    assert_eq!(scene.ada.expect("history")["messages"], json!([]));
    assert_eq!(scene.heard(), [] as [Value; 0]);
}

#[test]
fn names_that_differ_in_unicode_normalisation_alone() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let all = json!(["join", "publish", "presence", "history"]);
    let mut scene = Scene::rooms(&json!([{"room": composed, "rights": all}]));
    scene.ada.join(composed);
    for kind in ["join", "leave", "presence", "history"] {
        scene.refused(&json!({"type": kind, "room": decomposed}), "bad_request");
    }
    scene.refused(
        &json!({"type": "message", "room": decomposed, "content": 1}),
        "bad_request",
    );
    scene.refused(
        &json!({"type": "direct", "to": decomposed, "content": 1}),
        "bad_request",
    );
    // Letters that only look alike are other names, which no rule fits.
    for alike in ["cafe", "CAF\u{c9}", "caf\u{435}", "caf\u{e9} "] {
        scene.refused(&json!({"type": "join", "room": alike}), "forbidden");
    }
    // No token makes two users of one name.
    let token = scene.signer.token(&claims_with(decomposed, &json!({})));
    let refused = Client::open(&scene.server, &format!("/ws?token={token}"));
    assert!(refused.is_err_and(|error| error.contains("401")));
}
