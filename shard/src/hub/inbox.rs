//! The inboxes that a shard is home to: one a connected user, and few of them ever see a message.

use ahash::RandomState;

use super::Name;
use super::interest::Interest;
use super::order::{Order, Shelf};
use super::slab::Slab;
use super::table::{Entry, NameTable};
use crate::driver::{Clock, ShardId};

/// What stands under a user's name.
#[derive(Clone, Copy, Debug)]
enum Inbox {
    /// Connections on this shard alone, and no message yet: the state of nearly every inbox.
    Single(ShardId),
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

/// All inboxes of a home shard.
#[derive(Debug)]
pub(super) struct Inboxes {
    table: NameTable<Inbox>,
    full: Slab<Box<FullInbox>>,
    full_max: usize,
}

impl Inboxes {
    /// No inboxes; at most `full_max` may hold messages.
    pub(super) fn new(full_max: usize, hasher: RandomState) -> Self {
        Self {
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

    /// The shard has connections of the user.
    pub(super) fn open(&mut self, user: Name, shard: ShardId, shelf: &mut Shelf, clock: Clock) {
        let Some(entry) = self.table.find(&user) else {
            self.table.insert(user, Inbox::Single(shard));
            return;
        };
        let full = match self.table.get(entry) {
            Some(Inbox::Single(other)) if *other == shard => return,
            Some(Inbox::Full(full)) => *full,
            _ => self.fill(entry, shelf, clock),
        };
        if let Some(inbox) = self.get_mut(full) {
            inbox.interest.set(shard, 1);
        }
    }

    /// The shard has no connection of the user any more; false where it was not known to have one.
    pub(super) fn close(&mut self, user: &str, shard: ShardId) -> bool {
        let Some(entry) = self.table.find(user) else {
            return false;
        };
        self.close_entry(entry, shard)
    }

    fn close_entry(&mut self, entry: u32, shard: ShardId) -> bool {
        match self.table.get(entry) {
            Some(Inbox::Single(other)) if *other == shard => {
                self.table.remove(entry);
                true
            }
            Some(Inbox::Full(full)) => {
                let full = *full;
                let known = self
                    .get_mut(full)
                    .is_some_and(|inbox| inbox.interest.remove(shard));
                self.tidy(full);
                known
            }
            _ => false,
        }
    }

    /// The shard has started again: it has no connection of anybody. Walks all inboxes, which is rare.
    pub(super) fn close_shard(&mut self, shard: ShardId) {
        let entries: Vec<u32> = self.table.iter().map(|(entry, _, _)| entry).collect();
        for entry in entries {
            self.close_entry(entry, shard);
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
        if let Some(Inbox::Single(shard)) = self.table.get(entry) {
            interest.set(*shard, 1);
        }
        let full = self.full.insert(Box::new(FullInbox {
            order: Order::new(shelf, clock),
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
        } else if let Some(shard) = only
            && inbox.order.position().seq == 0
        {
            self.full.remove(full);
            if let Some(inbox) = self.table.get_mut(entry) {
                *inbox = Inbox::Single(shard);
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

    fn inboxes() -> (Inboxes, Shelf) {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let shelf = Shelf::new(&Limits::default(), hasher.clone());
        (Inboxes::new(2, hasher), shelf)
    }

    #[test]
    fn one_shard_costs_no_full_inbox() {
        let (mut inboxes, mut shelf) = inboxes();
        let clock = Clock::default();
        inboxes.open("ada".into(), 3, &mut shelf, clock);
        inboxes.open("ada".into(), 3, &mut shelf, clock);
        assert_eq!((inboxes.len(), inboxes.full.len()), (1, 0));
        inboxes.open("ada".into(), 4, &mut shelf, clock);
        assert_eq!((inboxes.len(), inboxes.full.len()), (1, 1));
        assert!(inboxes.close("ada", 3));
        assert_eq!((inboxes.len(), inboxes.full.len()), (1, 0), "small again");
        assert!(!inboxes.close("ada", 3), "closed before");
        assert!(!inboxes.close("bob", 3), "never open");
        assert!(inboxes.close("ada", 4));
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
        };
        let inbox = inboxes.get_mut(full).unwrap();
        inbox.order.publish(publish, &mut shelf, clock);
        inboxes.tidy(full);
        assert_eq!(inboxes.full(&user, &mut shelf, clock), Some(full));

        inboxes.open(user.clone(), 1, &mut shelf, clock);
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
