//! What a member with a grant may do and hear, as far as it can know.

use std::collections::VecDeque;

use shardcast_shard::driver::Clock;
use shardcast_shard::rights::{Rights, Rules};

use super::books::Place;
use super::granting::{Asked, rules};
use super::heard::Heard;

/// One grant that a member asked for.
#[derive(Clone, Debug)]
struct Granted {
    rules: Rules,
    /// When it ends, on the monotonic clock.
    ends_us: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// The kind of grant that it asks for next, and how long that lasts.
    kind: u64,
    pub(crate) lasts_ms: u64,
    /// Whether it says who it is with its first message.
    names_late: bool,
    /// What it was granted on this connection, the oldest first: until a renewal is answered, it may hear what any of them permits.
    /// What it asks for is judged by the last, as its requests are heard in order.
    grants: VecDeque<Granted>,
    /// Requests that must be refused and were not yet.
    refusals_due: u64,
    pub(crate) refusals: u64,
}

/// What must hold, and did not.
type Broken = &'static str;

fn ensure(holds: bool, what: Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what) }
}

impl Guard {
    pub(crate) fn new(kind: u64, lasts_ms: u64, names_late: bool) -> Self {
        Self {
            kind,
            lasts_ms,
            names_late,
            grants: VecDeque::new(),
            refusals_due: 0,
            refusals: 0,
        }
    }

    /// A connection begins; answers what it asks for and, where that does not say who it is, its first message.
    pub(crate) fn connect(&mut self, user: &str, clock: Clock) -> (String, Option<String>) {
        self.grants.clear();
        self.refusals_due = 0;
        let asked = self.ask_grant(clock).text();
        match self.names_late {
            true => ("/ws?later".to_owned(), Some(format!("{user} {asked}"))),
            false => (format!("/ws?user={user}&grant={asked}"), None),
        }
    }

    /// The message that asks for a grant of this kind.
    pub(crate) fn renew(&mut self, kind: u64, clock: Clock) -> String {
        self.kind = kind;
        format!("renew {}", self.ask_grant(clock).text())
    }

    fn ask_grant(&mut self, clock: Clock) -> Asked {
        self.grants.push_back(Granted {
            rules: rules(self.kind),
            ends_us: (clock.monotonic_ms() + self.lasts_ms) * 1000,
        });
        Asked {
            kind: self.kind,
            expires_unix_ms: clock.unix_ms + self.lasts_ms,
        }
    }

    /// Whether everything that had to be refused was, and every renewal is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.refusals_due == 0 && self.grants.len() == 1
    }

    fn last(&self) -> &Rules {
        &self.grants.back().expect("it has connected").rules
    }

    /// It asks for something in a room that needs a right.
    pub(crate) fn ask(&mut self, room: &str, needed: Rights) {
        let may = self.last().rights_in(room).contains(needed);
        self.refusals_due += u64::from(!may);
    }

    /// It publishes; answers whether it may.
    pub(crate) fn publish(&mut self, place: &Place) -> bool {
        let may = match place {
            Place::Room(room) => self.last().rights_in(room).contains(Rights::PUBLISH),
            Place::Inbox(user) => self.last().may_direct(user),
        };
        self.refusals_due += u64::from(!may);
        may
    }

    /// Whether a member may know who is in a room, from what it asks for next on.
    pub(crate) fn may_know(guard: &Option<Self>, room: &str) -> bool {
        let rights = guard.as_ref().map(|guard| guard.last().rights_in(room));
        rights.is_none_or(|rights| rights.contains(Rights::PRESENCE))
    }

    /// Whether the grant that is known to be in force permits to know who is in a room.
    pub(crate) fn is_told_of_presence(&self, room: &str) -> bool {
        let in_force = self.grants.front().expect("it has connected");
        in_force.rules.rights_in(room).contains(Rights::PRESENCE)
    }

    /// Asserts that what was granted has ended.
    pub(crate) fn assert_ended(&self, now_us: u64) {
        let first_us = self.grants.iter().map(|granted| granted.ends_us).min();
        assert!(
            first_us.is_some_and(|first_us| first_us <= now_us),
            "closed as expired at {now_us}: {self:?}"
        );
    }

    /// Checks what the member hears against what it was granted.
    ///
    /// # Errors
    /// It must not hear that.
    pub(crate) fn hear(&mut self, heard: &Heard) -> Result<(), Broken> {
        let mut all = self.grants.iter().map(|granted| &granted.rules);
        let has = |rules: &Rules, room: &str, right| rules.rights_in(room).contains(right);
        let may = |room: &str, right| all.clone().any(|rules| has(rules, room, right));
        match heard {
            Heard::Joined {
                room,
                members,
                recovered,
                ..
            } => {
                ensure(may(room, Rights::JOIN), "it may not join")?;
                let may_know = may(room, Rights::PRESENCE);
                ensure(members.is_none() || may_know, "it may not know how many")?;
                let must_know = all.all(|rules| has(rules, room, Rights::PRESENCE));
                ensure(members.is_some() || !must_know, "it may know how many")?;
                let may_recover = self
                    .grants
                    .iter()
                    .any(|granted| has(&granted.rules, room, Rights::HISTORY));
                ensure(!recovered || may_recover, "it may not recover")
            }
            Heard::Message { room, .. } | Heard::Reset { room, .. } | Heard::Gap { room, .. } => {
                ensure(may(room, Rights::JOIN), "it may not be there")
            }
            Heard::UserJoined { room, .. }
            | Heard::UserLeft { room, .. }
            | Heard::Presence { room, .. } => {
                ensure(may(room, Rights::PRESENCE), "it may not know who is there")
            }
            Heard::History { room } => ensure(may(room, Rights::HISTORY), "it may not look back"),
            Heard::Left {
                room,
                reason: Some(_),
            } => {
                let must_stay = all.all(|rules| has(rules, room, Rights::JOIN));
                ensure(!must_stay, "it may stay")
            }
            // What was asked for before a renewal and is answered after it.
            Heard::Error { message, .. } if message.contains("any more") => Ok(()),
            Heard::Error { code, .. } if code == "forbidden" => {
                ensure(self.refusals_due > 0, "it may do what it asked for")?;
                self.refusals_due -= 1;
                self.refusals += 1;
                Ok(())
            }
            Heard::Heartbeat {} => {
                ensure(self.grants.len() > 1, "it asked for nothing")?;
                self.grants.pop_front();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
