//! The rooms with the most deliveries, found in bounded memory: Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data
//! streams" (2005), the algorithm Space-Saving with weights.
//!
//! A room that has no counter takes that of the room with the fewest deliveries and weighs from then on what that one did and its own, so that it is not the next to go. Of `n` deliveries,
//! a room with more than `n / ROOMS_COUNTED_MAX` has a counter. What is told of a room is what was counted for itself: never too much.

use std::cmp::Reverse;
use std::collections::HashMap;

use ahash::RandomState;

use crate::hub::Name;

/// Rooms that have a counter at a time.
pub const ROOMS_COUNTED_MAX: usize = 256;

/// What a room has cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomTraffic {
    /// Which.
    pub room: Name,
    /// Messages that went to its members here, at the least.
    pub messages: u64,
    /// Deliveries of them, at the least.
    pub deliveries: u64,
    /// Members here that the last of them went to.
    pub members: u64,
}

impl RoomTraffic {
    fn new(room: Name) -> Self {
        Self {
            room,
            messages: 0,
            deliveries: 0,
            members: 0,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Busiest {
    places: HashMap<Name, usize, RandomState>,
    rows: Vec<RoomTraffic>,
    /// By place: the deliveries, with those of the rooms that had the counter before. Apart, as the least of them is looked for.
    weights: Vec<u64>,
}

impl Busiest {
    /// A message went to so many members of a room.
    pub(crate) fn record(&mut self, room: &Name, deliveries: u64) {
        let place = match self.places.get(room) {
            Some(place) => *place,
            None => self.place_for(room.clone()),
        };
        self.weights[place] += deliveries;
        let traffic = &mut self.rows[place];
        traffic.messages += 1;
        traffic.deliveries += deliveries;
        traffic.members = deliveries;
    }

    /// A counter for a room that has none.
    fn place_for(&mut self, room: Name) -> usize {
        let fresh = RoomTraffic::new(room.clone());
        let place = if self.rows.len() < ROOMS_COUNTED_MAX {
            self.rows.push(fresh);
            self.weights.push(0);
            self.rows.len() - 1
        } else {
            let weights = self.weights.iter().enumerate();
            let (place, _) = weights
                .min_by_key(|(_, weight)| **weight)
                .unwrap_or((0, &0));
            let former = std::mem::replace(&mut self.rows[place], fresh);
            self.places.remove(&former.room);
            place
        };
        self.places.insert(room, place);
        place
    }

    /// The rooms with the most deliveries, the busiest first, at most so many; counting begins anew.
    pub(crate) fn take(&mut self, most: usize) -> Vec<RoomTraffic> {
        self.places.clear();
        self.weights.clear();
        let mut rooms = std::mem::take(&mut self.rows);
        rooms.sort_unstable_by_key(|room| Reverse(room.deliveries));
        rooms.truncate(most);
        rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_counting_begins_anew() {
        let mut busiest = Busiest::default();
        for (room, deliveries) in [("tea", 3), ("milk", 10), ("tea", 4), ("rum", 1), ("rum", 0)] {
            busiest.record(&Name::from(room), deliveries);
        }
        let rows: Vec<_> = busiest
            .take(2)
            .into_iter()
            .map(|room| {
                (
                    room.room.to_string(),
                    room.messages,
                    room.deliveries,
                    room.members,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [("milk".to_owned(), 1, 10, 10), ("tea".to_owned(), 2, 7, 4)]
        );
        assert!(busiest.take(2).is_empty());
        busiest.record(&Name::from("tea"), 1);
        assert_eq!(busiest.take(2)[0].deliveries, 1);
    }

    /// Whatever else is said, in however many rooms: a room with more than its share is found, nothing is overstated, and memory is bounded.
    #[test]
    fn a_busy_room_is_found_among_ten_thousand() {
        let mut busiest = Busiest::default();
        let (mut total, mut of_hall) = (0, 0);
        for number in 0..100_000_u64 {
            let room = Name::from(format!("room-{}", number.wrapping_mul(7919) % 10_000));
            busiest.record(&room, 1 + number % 3);
            total += 1 + number % 3;
            if number % 100 == 0 {
                busiest.record(&Name::from("hall"), 50);
                (total, of_hall) = (total + 50, of_hall + 50);
            }
        }
        assert!(of_hall > total / ROOMS_COUNTED_MAX as u64);
        assert_eq!(
            (
                busiest.rows.len(),
                busiest.places.len(),
                busiest.weights.len()
            ),
            (ROOMS_COUNTED_MAX, ROOMS_COUNTED_MAX, ROOMS_COUNTED_MAX)
        );
        assert_eq!(busiest.weights.iter().sum::<u64>(), total);
        let first = busiest.take(1).remove(0);
        assert_eq!(first.room, "hall");
        assert!(
            (of_hall * 9 / 10..=of_hall).contains(&first.deliveries),
            "{first:?} of {of_hall}"
        );
    }
}
