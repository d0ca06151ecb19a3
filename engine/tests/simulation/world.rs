//! A cluster with its members, run until nothing moves any more.

use std::collections::{BTreeMap, BTreeSet};

use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::Position;

use super::books::{Books, Place};
use super::cluster::{Cluster, ClusterOptions};
use super::guard::Guard;
use super::member::{Act, Member};
use super::seeds::{Met, Run};
use super::view::{Rules, Standing, View};

/// Somebody besides the members; answers whether it did anything.
pub(crate) type Stranger = Box<dyn FnMut(&mut Cluster) -> bool>;

/// How long it may take until everything that was asked for has happened, in microseconds: less than any timer that
/// would hide a lost wake, and more than every pause that the engine means to make.
const PATIENCE_US: u64 = 10_000_000;

/// Time passes by itself between two rounds in so many of 1000 cases.
const DRIFT_PER_MILLE: u16 = 100;

/// See the module.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) members: Vec<Member>,
    pub(crate) strangers: Vec<Stranger>,
    pub(crate) books: Books,
    pub(crate) rules: Rules,
    verbose: bool,
}

impl World {
    pub(crate) fn new(run: Run, options: ClusterOptions) -> Self {
        let history_messages = options.limits.history_messages_max;
        Self {
            cluster: Cluster::new(options),
            members: Vec::new(),
            strangers: Vec::new(),
            books: Books::default(),
            rules: Rules {
                history_messages,
                resets: false,
                gaps: false,
                kept: None,
                conflating: None,
                losses: false,
            },
            verbose: run.verbose,
        }
    }

    /// A new member, whose connection is on its way.
    pub(crate) fn add(&mut self, user: String, shard: ShardId) -> &mut Member {
        self.add_guarded(user, shard, None)
    }

    /// The same, where its connections have grants.
    pub(crate) fn add_guarded(
        &mut self,
        user: String,
        shard: ShardId,
        guard: Option<Guard>,
    ) -> &mut Member {
        let member = Member::new(&self.cluster, user, shard, guard, self.verbose);
        self.members.push(member);
        self.members.last_mut().expect("it was just added")
    }

    /// Lets shards and clients act in a random order. Answers whether anything happened.
    fn round(&mut self) -> bool {
        let mut happened = false;
        for _ in 0..self.cluster.shards() {
            happened |= self.cluster.turn();
        }
        // Where only clients can go on, all of them may: otherwise chance would be taken for rest.
        let patient = !happened;
        let first = self.cluster.random.index(self.members.len().max(1));
        let count = self.members.len();
        for index in 0..count {
            let member = &mut self.members[(first + index) % count];
            if patient || !self.cluster.random.chance(member.idle_per_mille) {
                happened |= member.act(&mut self.cluster, &mut self.books, &self.rules);
            }
        }
        for stranger in &mut self.strangers {
            happened |= stranger(&mut self.cluster);
        }
        if self.cluster.random.chance(DRIFT_PER_MILLE) {
            let microseconds = self.cluster.random.below(200);
            self.cluster.network.advance(microseconds);
            // Time alone may make somebody due.
            happened = true;
        }
        happened
    }

    /// Runs so many rounds; where nothing happens, time passes.
    pub(crate) fn run_rounds(&mut self, count: usize) {
        for _ in 0..count {
            if !self.round() {
                self.pass_time();
            }
        }
    }

    /// Runs until nothing happens any more unless time passes.
    pub(crate) fn run_to_rest(&mut self) {
        while self.round() {}
        assert!(self.cluster.is_at_rest());
        self.cluster.assert_no_mail_waits();
    }

    /// Lets time pass up to the next thing that is due; false where nothing is.
    fn pass_time(&mut self) -> bool {
        let Some(next_us) = self.next_us() else {
            return false;
        };
        let now_us = self.cluster.now_us();
        self.cluster.network.advance(next_us.saturating_sub(now_us));
        true
    }

    fn next_us(&self) -> Option<u64> {
        let now_us = self.cluster.now_us();
        let members = self
            .members
            .iter()
            .filter_map(Member::due_us)
            .filter(|due_us| *due_us > now_us);
        members.chain(self.cluster.deadline_us()).min()
    }

    /// Runs until something is so, all mail has arrived and no output waits for more.
    ///
    /// # Panics
    /// It is not so in time.
    pub(crate) fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun_us = self.cluster.now_us() - self.cluster.leapt_us;
        loop {
            self.run_to_rest();
            if is_so(self) && self.cluster.mails_waiting() == 0 && self.cluster.unsettled() == 0 {
                return;
            }
            let went_on = self.pass_time();
            let passed_us = self.cluster.now_us() - self.cluster.leapt_us - begun_us;
            assert!(
                went_on && passed_us < PATIENCE_US,
                "after {passed_us} µs in which everything came to rest, {what} is still not so: {}",
                self.unfinished()
            );
        }
    }

    /// Lets so many microseconds pass, and everything happen that falls due.
    pub(crate) fn pass(&mut self, microseconds: u64) {
        let end_us = self.cluster.now_us() + microseconds;
        loop {
            self.run_to_rest();
            let now_us = self.cluster.now_us();
            if now_us >= end_us {
                return;
            }
            let next_us = self.next_us().unwrap_or(end_us).min(end_us);
            self.cluster.network.advance(next_us.saturating_sub(now_us));
        }
    }

    fn unfinished(&self) -> String {
        let unfinished = self.members.iter().filter(|member| !member.is_done());
        let lines = unfinished.map(|member| {
            format!(
                "\n  {}@{} (open: {}) is about to {:?}, waits for acks of {:?} and sees {:?}",
                member.user,
                member.shard,
                member.open,
                member.script.front(),
                member.unacked,
                member.rooms
            )
        });
        lines.collect()
    }

    /// Runs until every member has done what it meant to do.
    pub(crate) fn run_scripts(&mut self) {
        self.run_until("that every member is done", |world| {
            world.members.iter().all(Member::is_done)
        });
    }

    /// Asserts that all members of a room stand at the same place, behind which nobody has heard anything.
    pub(crate) fn assert_caught_up(&self) {
        let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for member in &self.members {
            for (room, view) in &member.rooms {
                // Who could not recover knows how far a room got, though perhaps nobody saw it.
                let known = view.position.into_iter().chain(self.books.last(room));
                let known = known
                    .map(|position| (position.epoch, position.seq))
                    .max()
                    .unwrap_or_default();
                let last = last.entry(room).or_default();
                *last = known.max(*last);
            }
        }
        for member in self.members.iter().filter(|member| member.open) {
            for (room, view) in member
                .rooms
                .iter()
                .filter(|(_, view)| view.standing == Standing::In)
            {
                let heard = view.position.map(|position| (position.epoch, position.seq));
                assert_eq!(
                    heard,
                    last.get(room.as_str()).copied(),
                    "{} is not where others are in {room}: {view:?}",
                    member.user
                );
            }
        }
    }

    /// Somebody joins every room that has a member, from as far back as the room must remember: what was acknowledged is there.
    pub(crate) fn audit(&mut self) {
        let mut rooms: BTreeMap<String, View> = BTreeMap::new();
        let members = self.members.iter().filter(|member| member.open);
        for (room, view) in members.flat_map(|member| &member.rooms) {
            let Some(position) = view.position.filter(|_| view.standing == Standing::In) else {
                continue;
            };
            let since = Position {
                seq: position.seq.saturating_sub(self.rules.history_messages),
                ..position
            };
            let lost = View {
                standing: Standing::Lost,
                position: Some(since),
                ..View::default()
            };
            rooms.insert(room.clone(), lost);
        }
        self.books.audit_begins(&rooms);
        let shard = self.cluster.any_shard();
        let auditor = self.add("auditor".to_owned(), shard);
        auditor.comes_back = true;
        auditor.rooms = rooms;
        self.run_scripts();
        self.assert_caught_up();
        self.books.assert_audited();
        let mut random = self.cluster.random.fork();
        let auditor = self.members.last_mut().expect("it was just added");
        auditor.hang_up(&mut random);
        auditor.read_max = usize::MAX;
        self.run_until("that the auditor is gone", |world| {
            world
                .members
                .iter()
                .all(|member| !member.leaves || member.socket.is_none())
        });
    }

    /// Whether every connection has heard as many direct messages as were sent to its user.
    pub(crate) fn are_directs_heard(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| member.directs.len() >= self.books.directs_to(&member.user))
    }

    /// Asserts that every connection that has been open all the time has heard each direct message to its user once, in the
    /// order of the others.
    pub(crate) fn assert_directs_heard(&self) {
        let publications = self.books.publications.iter().enumerate();
        let expected = |user: &str| -> BTreeSet<usize> {
            let to_user = publications
                .clone()
                .filter(|(_, publication)| publication.place == Place::Inbox(user.to_owned()));
            to_user.map(|(number, _)| number).collect()
        };
        for member in &self.members {
            let heard: BTreeSet<usize> = member.directs.iter().copied().collect();
            assert_eq!(
                heard.len(),
                member.directs.len(),
                "{} heard something twice",
                member.user
            );
            assert_eq!(
                heard,
                expected(&member.user),
                "direct messages of {}",
                member.user
            );
            let twin = self
                .members
                .iter()
                .find(|other| other.user == member.user)
                .expect("at least itself");
            assert_eq!(
                member.directs, twin.directs,
                "connections of {} disagree",
                member.user
            );
        }
    }

    /// Users who are in a room now.
    pub(crate) fn users_in(&self, room: &str) -> BTreeSet<String> {
        let inside = self.members.iter().filter(|member| member.is_in(room));
        inside.map(|member| member.user.clone()).collect()
    }

    /// Asks on every connection who is in its rooms, and asserts that the answers are true.
    pub(crate) fn assert_presence(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.open) {
            let guard = &member.guard;
            for (room, view) in member.rooms.iter_mut().filter(|(room, view)| {
                view.standing == Standing::In && Guard::may_know(guard, room)
            }) {
                view.present = None;
                member.script.push_back(Act::Presence(room.clone()));
            }
        }
        self.run_until("that everybody was told who is there", |world| {
            let mut members = world.members.iter().filter(|member| member.open);
            members.all(|member| {
                member.rooms.iter().all(|(room, view)| {
                    view.standing != Standing::In
                        || view.present.is_some()
                        || !Guard::may_know(&member.guard, room)
                })
            })
        });
        self.assert_presence_known();
    }

    /// Asserts that whoever knows who is in a room is right.
    pub(crate) fn assert_presence_known(&self) {
        let mut truths: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.open) {
            for (room, view) in member
                .rooms
                .iter()
                .filter(|(_, view)| view.standing == Standing::In)
            {
                if let Some(present) = &view.present {
                    let truth = truths.entry(room).or_insert_with(|| self.users_in(room));
                    assert_eq!(present, truth, "{} is wrong about {room}", member.user);
                }
            }
        }
    }

    /// Some members go for good.
    pub(crate) fn some_leave(&mut self) {
        let mut random = self.cluster.random.fork();
        for member in &mut self.members {
            if random.chance(250) {
                member.hang_up(&mut random);
            }
        }
        self.run_until("that whoever goes is gone", |world| {
            let mut members = world.members.iter();
            members.all(|member| !member.leaves || member.socket.is_none())
        });
    }

    /// Every client goes, time passes until nothing is remembered, and nothing must be left.
    pub(crate) fn end(mut self, met: &mut Met) {
        self.books.assert_consistent();
        let mut random = self.cluster.random.clone();
        self.strangers.clear();
        for member in &mut self.members {
            member.hang_up(&mut random);
            member.read_max = usize::MAX;
        }
        loop {
            self.run_to_rest();
            if !self.pass_time() {
                break;
            }
        }
        assert!(
            self.members.iter().all(|member| member.socket.is_none()),
            "a client's close was never answered"
        );
        self.cluster.assert_nothing_is_left();
        met.add("steps", self.cluster.steps());
        met.add("wakes", self.cluster.count(|stats| stats.wakes.value()));
        met.add("sleeps", self.cluster.count(|stats| stats.sleeps.value()));
        met.add(
            "deliveries",
            self.members
                .iter()
                .flat_map(|member| member.rooms.values())
                .map(|view| view.heard)
                .sum(),
        );
    }

    /// Counts what members heard and what has gone wrong, for [`Met`].
    pub(crate) fn meet(&self, met: &mut Met) {
        for (what, count) in self.cluster.network.struck().readings() {
            met.add(what, count);
        }
        met.add(
            "pings",
            self.cluster.count(|stats| stats.pings_sent.value()),
        );
        met.add(
            "coalesced passes",
            self.cluster.count(|stats| stats.passes_coalesced.value()),
        );
        met.add(
            "paced accepts",
            self.cluster.count(|stats| stats.accepts_paced.value()),
        );
        met.add("verdicts", self.cluster.verdicts);
        met.add(
            "stale verdicts",
            self.cluster.count(|stats| stats.verdicts_stale.value()),
        );
        met.add("clock jumps", self.cluster.jumps);
        met.add("shard deaths", self.cluster.crashed.len() as u64);
        met.add("audited", self.books.audited());
        met.add("acks checked", self.books.acks_checked());
        let views = || self.members.iter().flat_map(|member| member.rooms.values());
        met.add("recoveries", views().map(|view| view.recoveries).sum());
        met.add("losses", views().map(|view| view.losses).sum());
        met.add("expulsions", views().map(|view| view.expulsions).sum());
        met.add("resets", views().map(|view| view.resets).sum());
        met.add("dropped", views().map(|view| view.dropped).sum());
        met.add(
            "gaps behind a join",
            views().map(|view| view.gaps_at_join).sum(),
        );
        met.add("duplicates", self.books.duplicates());
        met.add(
            "reconnections",
            self.members
                .iter()
                .map(|member| member.connections - 1)
                .sum(),
        );
        met.add(
            "mailboxes found full",
            self.cluster.count(|stats| stats.mailbox_full.value()),
        );
    }
}
