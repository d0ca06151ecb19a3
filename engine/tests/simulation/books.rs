//! What was published, and the one order in which everybody must see it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::{Value, json};
use shardcast_shard::hub::Position;
use shardcast_shard::sim::Random;

use super::heard::{Heard, Said};
use super::view::View;

/// Where something was published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Room(String),
    Inbox(String),
}

/// One publish by a client. Its number is part of its content, so that each content is published once.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) place: Place,
    pub(crate) user: String,
    pub(crate) content: Value,
    pub(crate) has_id: bool,
    /// How often it was sent.
    pub(crate) sent: u64,
    /// Whether its sender might publish it when it was sent, at least once.
    pub(crate) permitted: bool,
    /// The number it was given and whether it was a repeat, for each acknowledgement.
    pub(crate) acks: Vec<(u64, bool)>,
    /// Where members of a room have seen it: once, unless the room has lost its memory in between.
    pub(crate) seen: Vec<Position>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// By number.
    pub(crate) publications: Vec<Publication>,
    /// Each room's messages by epoch; in an epoch, by number less one.
    rooms: BTreeMap<String, BTreeMap<u64, Vec<Option<Said>>>>,
    /// Texts that were parsed lately: every member hears the same.
    parsed: HashMap<String, Rc<Heard>>,
    /// Acknowledged publications that an audit must find, by room, epoch and number.
    audit: Vec<(usize, String, Position)>,
    audited: u64,
    acks_checked: u64,
}

/// Texts that are remembered at most.
const PARSED_MAX: usize = 2000;

/// A JSON value of any kind.
fn any_value(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::Null,
        1 => json!(random.coin()),
        2 => json!(random.next_u64()),
        3 => json!(-0.25),
        4 => json!("\u{1F600} \"quoted\" \\ \u{8} \u{7f} \u{2028} ünïcode"),
        5 => json!({"a": [1, {"b": null}], "content": {"room": "x"}, "": []}),
        _ => Value::String("x".repeat(random.magnitude_between(1, 200))),
    }
}

impl Books {
    /// Notes a new publish and gives its number.
    pub(crate) fn publish(
        &mut self,
        place: Place,
        user: &str,
        has_id: bool,
        random: &mut Random,
    ) -> usize {
        let number = self.publications.len();
        let content = json!([number, any_value(random)]);
        let (user, sent, acks, seen) = (user.to_owned(), 0, Vec::new(), Vec::new());
        self.publications.push(Publication {
            place,
            user,
            content,
            has_id,
            sent,
            permitted: false,
            acks,
            seen,
        });
        number
    }

    /// The request of a publish that was noted before.
    pub(crate) fn request(&mut self, number: usize) -> String {
        let publication = &mut self.publications[number];
        publication.sent += 1;
        let mut request = json!({"content": publication.content});
        match &publication.place {
            Place::Room(room) => {
                request["type"] = json!("message");
                request["room"] = json!(room);
            }
            Place::Inbox(user) => {
                request["type"] = json!("direct");
                request["to"] = json!(user);
            }
        }
        if publication.has_id {
            request["id"] = json!(id_of(number));
        }
        request.to_string()
    }

    /// Parses what a client heard.
    pub(crate) fn parse(&mut self, text: &str) -> Rc<Heard> {
        if let Some(heard) = self.parsed.get(text) {
            return Rc::clone(heard);
        }
        if self.parsed.len() >= PARSED_MAX {
            self.parsed.clear();
        }
        let heard = Rc::new(Heard::parse(text));
        self.parsed.insert(text.to_owned(), Rc::clone(&heard));
        heard
    }

    /// Checks a message that a member of a room has heard against what others have heard.
    pub(crate) fn message(&mut self, room: &str, position: Position, said: &Said) {
        let epochs = match self.rooms.get_mut(room) {
            Some(epochs) => epochs,
            None => self.rooms.entry(room.to_owned()).or_default(),
        };
        let messages = epochs.entry(position.epoch).or_default();
        let index = position.seq as usize - 1;
        if messages.len() <= index {
            messages.resize(index + 1, None);
        }
        if let Some(known) = &messages[index] {
            assert_eq!(known, said, "members of {room} disagree about {position:?}");
            return;
        }
        messages[index] = Some(said.clone());
        let number = said.number();
        let publication = &mut self.publications[number];
        assert_eq!(
            said.content, publication.content,
            "the content has changed on its way"
        );
        assert_eq!(
            (&said.user, &Place::Room(room.to_owned())),
            (&publication.user, &publication.place)
        );
        assert!(publication.permitted, "{publication:?} was forbidden");
        publication.seen.push(position);
        assert!(
            publication
                .seen
                .iter()
                .filter(|seen| seen.epoch == position.epoch)
                .count()
                == 1,
            "the room {room} has publication {number} twice: {:?}",
            publication.seen
        );
    }

    pub(crate) fn ack(&mut self, id: &str, seq: u64, duplicate: bool) {
        let number = number_of(id);
        self.publications[number].acks.push((seq, duplicate));
    }

    /// Where a room stands as far as anybody knows: its last epoch and the last number in it.
    pub(crate) fn last(&self, room: &str) -> Option<Position> {
        let (epoch, messages) = self.rooms.get(room)?.last_key_value()?;
        Some(Position {
            epoch: *epoch,
            seq: messages.len() as u64,
        })
    }

    /// Asserts what holds for every run: a room's messages are numbered without a gap and its times do not go back, and what was
    /// acknowledged has the number that members saw.
    pub(crate) fn assert_consistent(&self) {
        for (room, epochs) in &self.rooms {
            for (epoch, messages) in epochs {
                let times: Vec<_> = messages
                    .iter()
                    .map(|said| said.as_ref().map(|said| said.timestamp_ms))
                    .collect();
                assert!(
                    times.iter().flatten().is_sorted(),
                    "times of {room} go back in {epoch}: {times:?}"
                );
            }
        }
        for (number, publication) in self.publications.iter().enumerate() {
            let Publication {
                has_id, sent, acks, ..
            } = publication;
            assert!(
                acks.len() as u64 <= *sent && (*has_id || acks.is_empty()),
                "{number}: {publication:?}"
            );
        }
    }

    /// An acknowledgement came after its delivery.
    pub(crate) fn count_ack(&mut self) {
        self.acks_checked += 1;
    }

    pub(crate) fn acks_checked(&self) -> u64 {
        self.acks_checked
    }

    /// Somebody reads each of these rooms from a place on: notes what must be found there, whether anybody has seen it or not.
    pub(crate) fn audit_begins(&mut self, rooms: &BTreeMap<String, View>) {
        for (number, publication) in self.publications.iter().enumerate() {
            let Place::Room(room) = &publication.place else {
                continue;
            };
            let Some(since) = rooms.get(room).and_then(|view| view.position) else {
                continue;
            };
            // An acknowledgement names no epoch: where rooms have lost their memory, only what was seen is known to be of this one.
            let is_only = self.rooms.get(room).is_none_or(|epochs| epochs.len() <= 1);
            let place = match publication.seen.last() {
                Some(seen) => (seen.epoch == since.epoch).then_some(seen.seq),
                None => publication
                    .acks
                    .last()
                    .map(|(seq, _)| *seq)
                    .filter(|_| is_only),
            };
            if let Some(seq) = place.filter(|seq| *seq > since.seq && publication.has_id) {
                let position = Position {
                    epoch: since.epoch,
                    seq,
                };
                self.audit.push((number, room.clone(), position));
            }
        }
    }

    /// Asserts that what was acknowledged is where it was said to be.
    pub(crate) fn assert_audited(&mut self) {
        for (number, room, position) in std::mem::take(&mut self.audit) {
            let epochs = self.rooms.get(&room);
            let messages = epochs.and_then(|epochs| epochs.get(&position.epoch));
            let said = messages.and_then(|messages| messages.get(position.seq as usize - 1));
            assert!(
                matches!(said, Some(Some(said)) if said.number() == number),
                "publication {number} was acknowledged as {position:?} in {room}, where nothing like it is: {said:?}"
            );
            self.audited += 1;
        }
    }

    /// Acknowledged publications that were found again.
    pub(crate) fn audited(&self) -> u64 {
        self.audited
    }

    /// Bytes of all contents that were published.
    pub(crate) fn bytes(&self) -> usize {
        let publications = self.publications.iter();
        publications
            .map(|publication| publication.content.to_string().len())
            .sum()
    }

    /// Whether somebody has seen every message to a room.
    pub(crate) fn are_seen(&self) -> bool {
        let is_seen = |publication: &Publication| {
            !publication.seen.is_empty() || matches!(publication.place, Place::Inbox(_))
        };
        self.publications.iter().all(is_seen)
    }

    /// How many direct messages were sent to a user.
    pub(crate) fn directs_to(&self, user: &str) -> usize {
        let to_user = |publication: &&Publication| matches!(&publication.place, Place::Inbox(to) if to == user);
        self.publications.iter().filter(to_user).count()
    }

    /// Asserts that every publish was carried out exactly once, acknowledged as often as it was sent, and that each user's
    /// messages stand in the order in which they were sent.
    ///
    /// Only rooms and users that matter are looked at.
    pub(crate) fn assert_complete(
        &self,
        room_matters: impl Fn(&str) -> bool,
        user_matters: impl Fn(&str) -> bool,
    ) {
        let mut last_of: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (number, publication) in self.publications.iter().enumerate() {
            let Publication {
                place,
                user,
                has_id,
                sent,
                acks,
                seen,
                ..
            } = publication;
            let Place::Room(room) = place else { continue };
            if !room_matters(room) || !user_matters(user) {
                continue;
            }
            let [seen] = seen[..] else {
                panic!(
                    "publication {number} was seen at {seen:?}, which is not one place: {publication:?}"
                )
            };
            let before = last_of.insert((user, room), seen.seq);
            assert!(
                before < Some(seen.seq),
                "{user} overtook itself in {room} with {publication:?}"
            );
            self.assert_acks(number, *sent, *has_id, acks);
            assert!(
                acks.iter().all(|(seq, _)| *seq == seen.seq),
                "{publication:?}"
            );
        }
        for (room, epochs) in self.rooms.iter().filter(|(room, _)| room_matters(room)) {
            assert_eq!(
                epochs.len(),
                1,
                "{room} has lost its memory: {:?}",
                epochs.keys()
            );
        }
    }

    /// Asserts that every number of every room was seen by somebody, where each room has had a member all the time.
    pub(crate) fn assert_without_holes(&self, room_matters: impl Fn(&str) -> bool) {
        for (room, epochs) in self.rooms.iter().filter(|(room, _)| room_matters(room)) {
            assert!(
                epochs.values().flatten().all(Option::is_some),
                "nobody has seen a message of {room}: {epochs:?}"
            );
        }
    }

    /// Asserts that what had an id was carried out once however often it was sent, where connections may have broken.
    pub(crate) fn assert_ids_recognised(&self, room_matters: impl Fn(&str) -> bool) {
        for (number, publication) in self.publications.iter().enumerate() {
            let Publication {
                has_id, acks, seen, ..
            } = publication;
            if matches!(&publication.place, Place::Room(room) if !room_matters(room)) {
                continue;
            }
            assert!(seen.len() <= 1, "{number}: {publication:?}");
            assert!(
                !acks.is_empty() || !has_id,
                "{number} was never acknowledged: {publication:?}"
            );
            assert!(
                acks.iter().filter(|(_, duplicate)| !duplicate).count() <= 1,
                "{number}: {publication:?}"
            );
            let given = seen.first().map(|position| position.seq);
            let given = given.or_else(|| acks.first().map(|(seq, _)| *seq));
            assert!(
                acks.iter().all(|(seq, _)| Some(*seq) == given),
                "{number}: {publication:?}"
            );
        }
    }

    /// Asserts that there is one acknowledgement for each request, and that all but one call it a repeat.
    pub(crate) fn assert_acks(&self, number: usize, sent: u64, has_id: bool, acks: &[(u64, bool)]) {
        let expected = if has_id { sent } else { 0 };
        assert_eq!(
            acks.len() as u64,
            expected,
            "{number}: {:?}",
            self.publications[number]
        );
        let first = acks.iter().filter(|(_, duplicate)| !duplicate).count();
        assert_eq!(
            first,
            usize::from(has_id),
            "{number}: {:?}",
            self.publications[number]
        );
        assert!(
            acks.iter().all(|(seq, _)| *seq == acks[0].0),
            "{number}: {acks:?}"
        );
    }

    /// Repeats that were recognised.
    pub(crate) fn duplicates(&self) -> u64 {
        let acks = self
            .publications
            .iter()
            .flat_map(|publication| &publication.acks);
        acks.filter(|(_, duplicate)| *duplicate).count() as u64
    }
}

fn id_of(number: usize) -> String {
    format!("id-{number}")
}

/// The number of the publication with this id.
pub(crate) fn number_of(id: &str) -> usize {
    id.strip_prefix("id-")
        .and_then(|number| number.parse().ok())
        .expect("an id that was given here")
}
