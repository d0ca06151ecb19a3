//! The inboxes that a shard is home to: one a connected user, and few of them ever see a message.

use ahash::RandomState;

use super::Name;
use super::interest::Interest;
use super::order::{Order, Shelf};
use super::slab::Slab;
use super::table::{Entry, NameTable};
use crate::driver::{Clock, ShardId};
use crate::room_settings::KindId;

/// What stands under a user's name.
#[derive(Clone, Copy, Debug)]
enum Inbox {
    /// Connections on this shard alone, so many, and no message yet: the state of nearly every inbox.
    Single(ShardId, u32),
    /// The number of a full inbox.
    Full(u32),
}

const _: () = assert!(
    size_of::<Option<Entry<Inbox>>>() <= 24,
    "one a connected user"
);

/// An inbox with messages, or with connections on several shards.
#[derive(Debug)]
pub(super) struct FullInbox {
    pub(super) order: Order,
    pub(super) interest: Interest,
    /// Its number in the table of names.
    entry: u32,
}

/// What a shard says of a user's connections when some of them wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) shard: ShardId,
    /// Those that it has let in.
    pub(super) open: u32,
    pub(super) waiting: u32,
}

/// All inboxes of a home shard. Shards tell it of all of a user's connections only where these are bounded, else of the first and the last.
#[derive(Debug)]
pub(super) struct Inboxes {
    table: NameTable<Inbox>,
    full: Slab<Box<FullInbox>>,
    full_max: usize,
    /// 0: no bound.
    user_connections_max: u64,
}

impl Inboxes {
    /// No inboxes; at most `full_max` may hold messages.
    pub(super) fn new(full_max: usize, user_connections_max: u64, hasher: RandomState) -> Self {
        Self {
            user_connections_max,
            table: NameTable::new(hasher),
            full: Slab::default(),
            full_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get_mut(&mut self, full: u32) -> Option<&mut FullInbox> {
        self.full.get_mut(full).map(Box::as_mut)
    }

    /// The shard has let in so many connections of the user, and more wait; answers how many of those may come in.
    pub(super) fn open(
        &mut self,
        user: &Name,
        asked: Asked,
        shelf: &mut Shelf,
        clock: Clock,
    ) -> u32 {
        let Asked {
            shard,
            open,
            waiting,
        } = asked;
        let entry = self.table.find(user);
        let admitted = match self.user_connections_max {
            0 => waiting,
            most => {
                let others = entry.map_or(0, |entry| self.elsewhere(entry, shard));
                let free = most.saturating_sub(others + u64::from(open));
                // No more than what waits.
                u64::from(waiting).min(free) as u32
            }
        };
        let connections = open.saturating_add(admitted);
        match entry {
            None if connections > 0 => {
                self.table
                    .insert(user.clone(), Inbox::Single(shard, connections));
            }
            None => {}
            Some(entry) => self.set(entry, shard, connections, shelf, clock),
        }
        admitted
    }

    /// Connections of an inbox's user on other shards.
    fn elsewhere(&self, entry: u32, shard: ShardId) -> u64 {
        match self.table.get(entry) {
            Some(Inbox::Single(other, connections)) if *other != shard => u64::from(*connections),
            Some(Inbox::Full(full)) => self
                .full
                .get(*full)
                .map_or(0, |inbox| inbox.interest.elsewhere(shard)),
            _ => 0,
        }
    }

    /// The shard has so many connections of an inbox's user.
    fn set(
        &mut self,
        entry: u32,
        shard: ShardId,
        connections: u32,
        shelf: &mut Shelf,
        clock: Clock,
    ) {
        let full = match self.table.get_mut(entry) {
            Some(Inbox::Single(other, count)) if *other == shard && connections > 0 => {
                *count = connections;
                return;
            }
            Some(Inbox::Full(full)) => *full,
            _ if connections > 0 => self.fill(entry, shelf, clock),
            _ => {
                self.close_entry(entry, shard, 0);
                return;
            }
        };
        if let Some(inbox) = self.get_mut(full) {
            inbox.interest.set(shard, connections);
        }
        self.tidy(full);
    }

    /// The shard has so many connections of the user left; false where it was not known to have any.
    pub(super) fn close(&mut self, user: &str, shard: ShardId, left: u32) -> bool {
        let Some(entry) = self.table.find(user) else {
            return false;
        };
        self.close_entry(entry, shard, left)
    }

    fn close_entry(&mut self, entry: u32, shard: ShardId, left: u32) -> bool {
        match self.table.get_mut(entry) {
            Some(Inbox::Single(other, count)) if *other == shard => {
                *count = left;
                if left == 0 {
                    self.table.remove(entry);
                }
                true
            }
            Some(Inbox::Full(full)) => {
                let full = *full;
                let known = self.get_mut(full).is_some_and(|inbox| {
                    let known = inbox.interest.has(shard);
                    if known {
                        inbox.interest.set(shard, left);
                    }
                    known
                });
                self.tidy(full);
                known
            }
            _ => false,
        }
    }

    /// Connections of a user on all shards.
    #[cfg(test)]
    pub(super) fn connections(&self, user: &str) -> u64 {
        // No shard has this number: none is left out.
        let entry = self.table.find(user);
        entry.map_or(0, |entry| self.elsewhere(entry, ShardId::MAX))
    }

    /// The shard has started again: it has no connection of anybody. Walks all inboxes, which is rare.
    pub(super) fn close_shard(&mut self, shard: ShardId) {
        let entries: Vec<u32> = self.table.iter().map(|(entry, _, _)| entry).collect();
        for entry in entries {
            self.close_entry(entry, shard, 0);
        }
    }

    /// The full inbox of a user, made where there is none; `None` where there are too many.
    pub(super) fn full(&mut self, user: &Name, shelf: &mut Shelf, clock: Clock) -> Option<u32> {
        let entry = self.table.find(user);
        if let Some(Inbox::Full(full)) = entry.and_then(|entry| self.table.get(entry)) {
            return Some(*full);
        }
        if self.full.len() >= self.full_max {
            return None;
        }
        // The entry of a user without a connection is put in as full at once: its number follows.
        let entry = entry.unwrap_or_else(|| self.table.insert(user.clone(), Inbox::Full(u32::MAX)));
        Some(self.fill(entry, shelf, clock))
    }

    /// Makes an entry's inbox a full one.
    fn fill(&mut self, entry: u32, shelf: &mut Shelf, clock: Clock) -> u32 {
        let mut interest = Interest::default();
        if let Some(Inbox::Single(shard, connections)) = self.table.get(entry) {
            interest.set(*shard, *connections);
        }
        let full = self.full.insert(Box::new(FullInbox {
            order: Order::new(KindId::default(), shelf, clock),
            interest,
            entry,
        }));
        if let Some(inbox) = self.table.get_mut(entry) {
            *inbox = Inbox::Full(full);
        }
        full
    }

    /// Drops a full inbox that has nothing to remember and nobody to tell, or makes it small again
    /// where it never had a message.
    pub(super) fn tidy(&mut self, full: u32) {
        let Some(inbox) = self.full.get(full) else {
            return;
        };
        let (entry, only) = (inbox.entry, inbox.interest.only());
        if inbox.interest.is_empty() && inbox.order.is_empty() {
            self.full.remove(full);
            self.table.remove(entry);
        } else if let Some((shard, connections)) = only
            && inbox.order.position().seq == 0
        {
            self.full.remove(full);
            if let Some(inbox) = self.table.get_mut(entry) {
                *inbox = Inbox::Single(shard, connections);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::hub::Target;
    use crate::hub::order::Publish;
    use crate::limits::Limits;
    use crate::outbox::SlowConsumer;
    use crate::room_settings::RoomKinds;

    fn inboxes() -> (Inboxes, Shelf) {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let kinds = RoomKinds::new(&Limits::default(), SlowConsumer::default(), &[]);
        let shelf = Shelf::new(&Limits::default(), &kinds, hasher.clone());
        (Inboxes::new(2, 0, hasher), shelf)
    }

    /// The first connection of a user on a shard.
    fn first(shard: ShardId) -> Asked {
        Asked {
            shard,
            open: 0,
            waiting: 1,
        }
    }

    #[test]
    fn no_more_connections_of_a_user_are_let_in_than_may_be_on_all_shards() {
        let (_, mut shelf) = inboxes();
        let mut inboxes = Inboxes::new(2, 3, RandomState::with_seeds(1, 2, 3, 4));
        let user = Name::from("ada");
        // Shard, connections that it has, that wait, that are let in, that there are then on all shards.
        let steps = [
            (0, 0, 2, 2, 2),
            (1, 0, 2, 1, 3),
            (2, 0, 1, 0, 3),
            (1, 1, 1, 0, 3),
            (0, 1, 2, 1, 3),
            // A shard that counts anew, as after a restart of the home, is believed.
            (2, 5, 1, 0, 8),
            (2, 0, 0, 0, 3),
        ];
        for (shard, open, waiting, admitted, all) in steps {
            let asked = Asked {
                shard,
                open,
                waiting,
            };
            let answer = inboxes.open(&user, asked, &mut shelf, Clock::default());
            assert_eq!((answer, inboxes.connections(&user)), (admitted, all));
        }
        assert!(inboxes.close(&user, 0, 1));
        assert_eq!(inboxes.connections(&user), 2);
        inboxes.close_shard(0);
        assert_eq!((inboxes.connections(&user), inboxes.full.len()), (1, 0));
        assert!(inboxes.close(&user, 1, 0));
        let nobody = Asked {
            shard: 1,
            open: 0,
            waiting: 0,
        };
        inboxes.open(&user, nobody, &mut shelf, Clock::default());
        assert_eq!(inboxes.len(), 0);
    }

    #[test]
    fn one_shard_costs_no_full_inbox() {
        let (mut inboxes, mut shelf) = inboxes();
        let clock = Clock::default();
        let mut open = |inboxes: &mut Inboxes, shard| {
            assert_eq!(
                inboxes.open(&"ada".into(), first(shard), &mut shelf, clock),
                1
            );
        };
        open(&mut inboxes, 3);
        open(&mut inboxes, 3);
        assert_eq!((inboxes.len(), inboxes.full.len()), (1, 0));
        open(&mut inboxes, 4);
        assert_eq!((inboxes.len(), inboxes.full.len()), (1, 1));
        assert!(inboxes.close("ada", 3, 0));
        assert_eq!((inboxes.len(), inboxes.full.len()), (1, 0), "small again");
        assert!(!inboxes.close("ada", 3, 0), "closed before");
        assert!(!inboxes.close("bob", 3, 0), "never open");
        assert!(inboxes.close("ada", 4, 0));
        assert_eq!(inboxes.len(), 0);
    }

    #[test]
    fn a_message_keeps_the_inbox_of_an_absent_user() {
        let (mut inboxes, mut shelf) = inboxes();
        let clock = Clock::default();
        let user = Name::from("ada");
        let full = inboxes.full(&user, &mut shelf, clock).unwrap();
        let publish = Publish {
            target: Target::Inbox(user.clone()),
            user: "bob".into(),
            content: "1".into(),
            id: None,
            taken_us: 0,
        };
        let inbox = inboxes.get_mut(full).unwrap();
        inbox.order.publish(publish, &mut shelf, clock);
        inboxes.tidy(full);
        assert_eq!(inboxes.full(&user, &mut shelf, clock), Some(full));

        inboxes.open(&user, first(1), &mut shelf, clock);
        inboxes.close_shard(1);
        assert_eq!(inboxes.len(), 1, "the message is still there");
        inboxes
            .get_mut(full)
            .unwrap()
            .order
            .expire(u64::MAX, &mut shelf);
        inboxes.tidy(full);
        assert_eq!((inboxes.len(), inboxes.full.len()), (0, 0));
    }

    #[test]
    fn full_inboxes_are_bounded() {
        let (mut inboxes, mut shelf) = inboxes();
        let clock = Clock::default();
        assert!(inboxes.full(&"ada".into(), &mut shelf, clock).is_some());
        assert!(inboxes.full(&"bob".into(), &mut shelf, clock).is_some());
        assert!(inboxes.full(&"eve".into(), &mut shelf, clock).is_none());
        assert!(inboxes.full(&"ada".into(), &mut shelf, clock).is_some());
        assert_eq!(inboxes.len(), 2);
    }
}
