//! Which rooms are busiest, which consumers slowest, on all shards together.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shardcast_shard::connection_id::ConnectionId;
use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::Name;
use shardcast_shard::orders::{Activity, BUSIEST_MAX, Order, SLOWEST_MAX};
use tokio::time::Instant;

use crate::control::Shards;

/// How old an answer may be that is given again.
const AGE_MAX: Duration = Duration::from_millis(900);

/// How long shards are waited for: one that does not answer must not keep the others' numbers back.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Looks over which rates are averaged, so that a room in which something is said now and then does not come and go.
const LOOKS_AVERAGED: usize = 5;

/// What a room costs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RoomRates {
    pub(crate) room: Name,
    pub(crate) connections: u64,
    pub(crate) messages_per_s: f64,
    pub(crate) deliveries_per_s: f64,
}

impl RoomRates {
    fn new(room: Name) -> Self {
        Self {
            room,
            connections: 0,
            messages_per_s: 0.0,
            deliveries_per_s: 0.0,
        }
    }
}

/// A connection that does not read as fast as it is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlowConsumer {
    pub(crate) id: ConnectionId,
    pub(crate) user: Name,
    pub(crate) outbox_bytes: u64,
}

/// What was counted of rooms from one look to the next.
#[derive(Debug)]
struct Counted {
    seconds: f64,
    rooms: HashMap<Name, RoomRates>,
}

/// What all shards are busy with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// By shard, whether it answered.
    pub(crate) answers: Vec<bool>,
    /// The busiest first.
    pub(crate) busiest_rooms: Vec<RoomRates>,
    /// The slowest first.
    pub(crate) slow_consumers: Vec<SlowConsumer>,
}

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: Option<(Instant, Look)>,
    /// The oldest first.
    counted: VecDeque<Counted>,
}

impl Looks {
    /// The last look, or a new one where that is too old.
    pub(super) async fn take(&mut self, shards: &Shards) -> Look {
        let now = Instant::now();
        if let Some((at, look)) = &self.last
            && now.duration_since(*at) < AGE_MAX
        {
            return look.clone();
        }
        let all = 0..shards.handle().shards();
        let pending: Vec<_> = all
            .map(|shard| shards.send(shard, |reply| Order::Activity { reply }))
            .collect();
        let mut answers = Vec::with_capacity(pending.len());
        for one in pending {
            answers.push(shards.answer(one, now + WAIT_MAX).await.ok());
        }
        let look = self.look(&answers);
        self.last = Some((now, look.clone()));
        look
    }

    fn look(&mut self, answers: &[Option<Activity>]) -> Look {
        self.count(answers);
        let mut slow_consumers: Vec<SlowConsumer> = (0..)
            .zip(answers)
            .filter_map(|(shard, activity)| Some(slow_of(shard, activity.as_ref()?)))
            .flatten()
            .collect();
        slow_consumers.sort_by_key(|slow| Reverse(slow.outbox_bytes));
        slow_consumers.truncate(SLOWEST_MAX);
        Look {
            answers: answers.iter().map(Option::is_some).collect(),
            busiest_rooms: self.busiest_rooms(),
            slow_consumers,
        }
    }

    fn count(&mut self, answers: &[Option<Activity>]) {
        let mut counted = Counted {
            seconds: 0.0,
            rooms: HashMap::new(),
        };
        for activity in answers.iter().flatten() {
            add_rooms(&mut counted, activity);
        }
        if counted.seconds <= 0.0 {
            // Nobody has looked for a while, so nothing was counted.
            self.counted.clear();
            return;
        }
        if self.counted.len() == LOOKS_AVERAGED {
            self.counted.pop_front();
        }
        self.counted.push_back(counted);
    }

    fn busiest_rooms(&self) -> Vec<RoomRates> {
        let seconds: f64 = self.counted.iter().map(|counted| counted.seconds).sum();
        let mut rooms: HashMap<&Name, RoomRates> = HashMap::new();
        for counted in &self.counted {
            let share = counted.seconds / seconds;
            for (name, rates) in &counted.rooms {
                let room = rooms
                    .entry(name)
                    .or_insert_with(|| RoomRates::new(name.clone()));
                room.connections = rates.connections;
                room.messages_per_s += share * rates.messages_per_s;
                room.deliveries_per_s += share * rates.deliveries_per_s;
            }
        }
        let mut busiest: Vec<RoomRates> = rooms.into_values().collect();
        // By name where they are equal, so that tables keep still.
        busiest.sort_by(|one, other| {
            let by_deliveries = other.deliveries_per_s.total_cmp(&one.deliveries_per_s);
            by_deliveries.then_with(|| one.room.cmp(&other.room))
        });
        busiest.truncate(BUSIEST_MAX);
        busiest
    }
}

/// Every shard with members of a room delivers each of its messages: deliveries add up, messages are the same ones.
fn add_rooms(counted: &mut Counted, activity: &Activity) {
    let seconds = activity.counted_us as f64 / 1e6;
    if seconds <= 0.0 {
        return;
    }
    counted.seconds = counted.seconds.max(seconds);
    for traffic in &activity.busiest_rooms {
        let room = counted
            .rooms
            .entry(traffic.room.clone())
            .or_insert_with(|| RoomRates::new(traffic.room.clone()));
        room.connections += traffic.members;
        room.messages_per_s = room.messages_per_s.max(traffic.messages as f64 / seconds);
        room.deliveries_per_s += traffic.deliveries as f64 / seconds;
    }
}

fn slow_of(shard: ShardId, activity: &Activity) -> impl Iterator<Item = SlowConsumer> {
    activity
        .slow_consumers
        .iter()
        .map(move |slow| SlowConsumer {
            id: ConnectionId::new(shard, slow.key),
            user: slow.user.clone(),
            outbox_bytes: slow.outbox_bytes,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_shard::busiest::RoomTraffic;
    use shardcast_shard::driver::ConnectionKey;
    use shardcast_shard::orders;

    fn traffic(room: &str, messages: u64, deliveries: u64, members: u64) -> RoomTraffic {
        RoomTraffic {
            room: room.into(),
            messages,
            deliveries,
            members,
        }
    }

    fn slow(slot: u32, outbox_bytes: u64) -> orders::SlowConsumer {
        orders::SlowConsumer {
            key: ConnectionKey {
                slot,
                generation: 3,
            },
            user: "ada".into(),
            outbox_bytes,
        }
    }

    #[test]
    fn deliveries_add_up_over_shards_and_messages_do_not() {
        let first = Activity {
            counted_us: 2_000_000,
            busiest_rooms: vec![traffic("tea", 20, 200, 10), traffic("rum", 2, 2, 1)],
            slow_consumers: vec![slow(1, 10), slow(2, 5)],
        };
        let second = Activity {
            counted_us: 1_000_000,
            busiest_rooms: vec![traffic("tea", 10, 40, 4), traffic("milk", 500, 500, 1)],
            slow_consumers: vec![slow(1, 7)],
        };
        let never_counted = Activity {
            counted_us: 0,
            busiest_rooms: vec![traffic("tea", 1, 1, 1)],
            slow_consumers: Vec::new(),
        };
        let mut looks = Looks::default();
        let look = looks.look(&[Some(first), None, Some(second), Some(never_counted)]);
        assert_eq!(look.answers, [true, false, true, true]);
        let rows: Vec<_> = look
            .busiest_rooms
            .iter()
            .map(|room| {
                (
                    room.room.as_str(),
                    room.connections,
                    room.messages_per_s,
                    room.deliveries_per_s,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("milk", 1, 500.0, 500.0),
                ("tea", 14, 10.0, 140.0),
                ("rum", 1, 1.0, 1.0)
            ]
        );
        let slow: Vec<_> = look
            .slow_consumers
            .iter()
            .map(|slow| (slow.id.to_string(), slow.outbox_bytes))
            .collect();
        let expected = [("0-1-3", 10), ("2-1-3", 7), ("0-2-3", 5)];
        assert_eq!(slow, expected.map(|(id, bytes)| (id.to_owned(), bytes)));
    }

    #[test]
    fn rates_are_those_of_the_last_looks() {
        let mut looks = Looks::default();
        let mut rates = |counted_us, messages| {
            let look = looks.look(&[Some(Activity {
                counted_us,
                busiest_rooms: match messages {
                    0 => Vec::new(),
                    messages => vec![traffic("tea", messages, 2 * messages, 2)],
                },
                slow_consumers: Vec::new(),
            })]);
            let room = look.busiest_rooms.first()?.clone();
            Some((room.messages_per_s, room.deliveries_per_s))
        };
        assert_eq!(rates(0, 0), None);
        assert_eq!(rates(1_000_000, 8), Some((8.0, 16.0)));
        assert_eq!(rates(3_000_000, 0), Some((2.0, 4.0)));
        for _ in 0..3 {
            assert!(rates(1_000_000, 0).is_some());
        }
        assert_eq!(rates(1_000_000, 0), None, "it is too long ago");
        assert_eq!(rates(1_000_000, 1).map(|rates| rates.0), Some(0.2));
        assert_eq!(rates(0, 0), None, "nobody has looked for a while");
    }

    #[test]
    fn no_more_is_told_than_fits_on_a_page() {
        let rooms = (0..2 * BUSIEST_MAX as u64).map(|n| traffic(&format!("room-{n}"), 1, n, 1));
        let consumers = (0..2 * SLOWEST_MAX as u32).map(|slot| slow(slot, u64::from(slot)));
        let look = Looks::default().look(&[Some(Activity {
            counted_us: 1_000_000,
            busiest_rooms: rooms.collect(),
            slow_consumers: consumers.collect(),
        })]);
        assert_eq!(look.busiest_rooms.len(), BUSIEST_MAX);
        assert_eq!(look.busiest_rooms[0].room, "room-39");
        assert_eq!(look.slow_consumers.len(), SLOWEST_MAX);
        assert_eq!(look.slow_consumers[0].outbox_bytes, 39);
    }
}
