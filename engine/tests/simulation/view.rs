//! A room as one member sees it, and what it may hear of it when.

use std::collections::BTreeSet;

use shardcast_shard::hub::Position;

use super::heard::Heard;

/// What the members of a run may hear, and what not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Messages that a room remembers: whoever missed no more than this must recover.
    pub(crate) history_messages: u64,
    /// Rooms may lose their memory.
    pub(crate) resets: bool,
    /// Messages may be dropped, where a gap tells so.
    pub(crate) gaps: bool,
    /// But not in this room.
    pub(crate) kept: Option<&'static str>,
    /// The room in which a message may give way to the next, which is then the first that is heard behind what was said in between.
    pub(crate) conflating: Option<&'static str>,
    /// Joins may recover nothing though little was missed: time has passed, or too much of other rooms waits.
    pub(crate) losses: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Out,
    /// Asked to join, after this place.
    Asked {
        since: Option<Position>,
    },
    In,
    Leaving,
    /// The connection is gone; the next one joins again.
    Lost,
}

/// A room as a member sees it, over all of its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) standing: Standing,
    /// The last message that was heard, or told to be missing.
    pub(crate) position: Option<Position>,
    /// Users present, from the first answer to a presence request of this connection on.
    pub(crate) present: Option<BTreeSet<String>>,
    pub(crate) resets: u64,
    pub(crate) recoveries: u64,
    /// Joins that could not recover what was missed.
    pub(crate) losses: u64,
    /// Times that it had to leave.
    pub(crate) expulsions: u64,
    pub(crate) heard: u64,
    pub(crate) dropped: u64,
    /// The last thing heard is that something is missing.
    pub(crate) ends_with_gap: bool,
    /// Gaps that were the first thing said behind a join.
    pub(crate) gaps_at_join: u64,
    /// Nothing was said since it joined.
    pub(crate) just_joined: bool,
}

/// What must hold, and did not.
type Broken = &'static str;

fn ensure(holds: bool, what: Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what) }
}

impl View {
    /// Checks what the member hears of the room, and keeps it in mind.
    ///
    /// # Errors
    /// It must not hear that now; the view is as it was.
    pub(crate) fn hear(&mut self, heard: &Heard, rules: &Rules) -> Result<(), Broken> {
        match heard {
            Heard::Joined { recovered, .. } => {
                self.joined(heard.position().unwrap_or_default(), *recovered, rules)?;
                // An answer from before the join does not name the member itself, who is not told of its own coming.
                (self.standing, self.present) = (Standing::In, None);
                (self.just_joined, self.ends_with_gap) = (true, false);
            }
            Heard::Left { reason, .. } => {
                ensure(
                    self.standing == Standing::Leaving || reason.is_some(),
                    "it did not ask to leave",
                )?;
                self.expulsions += u64::from(reason.is_some());
                (self.standing, self.present) = (Standing::Out, None);
            }
            Heard::Reset { epoch, .. } => {
                let before = self.position.ok_or("it never joined")?.epoch;
                ensure(rules.resets, "no home has lost its memory")?;
                ensure(*epoch > before, "epochs grow")?;
                // The messages of the new epoch follow, from its first on.
                self.position = Some(Position {
                    epoch: *epoch,
                    seq: 0,
                });
                self.resets += 1;
            }
            Heard::Message { seq, .. } => {
                self.advance(*seq, *seq)?;
                (self.just_joined, self.ends_with_gap) = (false, false);
                self.heard += 1;
            }
            Heard::Gap { room, from, to } => {
                let may_be_dropped = rules.gaps && rules.kept != Some(room);
                ensure(may_be_dropped, "nothing may be dropped")?;
                self.ends_with_gap = true;
                self.advance(*from, *to)?;
                self.gaps_at_join += u64::from(std::mem::take(&mut self.just_joined));
                self.dropped += to - from + 1;
            }
            Heard::Presence { count, users, .. } => {
                let Some(users) = users else { return Ok(()) };
                ensure(
                    *count == users.len() as u64,
                    "the rooms here are small: all names are told",
                )?;
                self.present = Some(users.clone());
            }
            Heard::UserJoined { user, .. } => {
                let new = self
                    .present
                    .as_mut()
                    .is_none_or(|present| present.insert(user.clone()));
                ensure(new || rules.resets, "that user was there already")?;
            }
            Heard::UserLeft { user, .. } => {
                let known = self
                    .present
                    .as_mut()
                    .is_none_or(|present| present.remove(user));
                ensure(known || rules.resets, "that user was not there")?;
            }
            Heard::History { .. } => {}
            _ => return Err("this concerns no room"),
        }
        Ok(())
    }

    fn joined(&mut self, now: Position, recovered: bool, rules: &Rules) -> Result<(), Broken> {
        let Standing::Asked { since } = self.standing else {
            return Err("it did not ask to join");
        };
        let Some(since) = since else {
            ensure(!recovered, "there was nothing to recover")?;
            self.position = Some(now);
            return Ok(());
        };
        ensure(now.epoch >= since.epoch, "epochs grow")?;
        // A room that everybody has left and in which nothing was said is forgotten.
        let may_be_new = rules.resets || rules.losses || since.seq == 0;
        ensure(
            now.epoch == since.epoch || may_be_new,
            "the room has lost its memory",
        )?;
        let same_epoch = now.epoch == since.epoch;
        ensure(!same_epoch || now.seq >= since.seq, "the room went back")?;
        let can_recover = same_epoch && now.seq - since.seq <= rules.history_messages;
        ensure(
            recovered == can_recover || (rules.losses && !recovered),
            "it recovers what the room remembers, and nothing else",
        )?;
        if recovered {
            self.recoveries += 1;
        } else {
            self.losses += 1;
            self.position = Some(now);
        }
        Ok(())
    }

    /// The messages from one number to another are accounted for.
    fn advance(&mut self, from: u64, to: u64) -> Result<(), Broken> {
        let is_member = matches!(self.standing, Standing::In | Standing::Leaving);
        ensure(is_member, "it is not in the room")?;
        let position = self.position.as_mut().ok_or("it never joined")?;
        ensure(
            from == position.seq + 1 && from <= to,
            "the next message is another one",
        )?;
        position.seq = to;
        Ok(())
    }
}
