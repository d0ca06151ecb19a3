//! A shard's end of the webhooks: it says what happens and asks what is to be decided, and waits for nothing.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shardcast_shard::app::{Context, Dismissal};
use shardcast_shard::close_reason::CloseReason;
use shardcast_shard::connection_id::ConnectionId;
use shardcast_shard::driver::ConnectionKey;
use shardcast_shard::hub::event::ErrorCode;
use shardcast_shard::hub::{Name, Target};
use shardcast_shard::pattern::Pattern;
use shardcast_shard::verdict::{Hooks, Occupancy, Question, Ruling, Standing};
use shardcast_shard::ws::close::TRY_AGAIN_LATER;
use tokio::sync::mpsc;

use super::budget::Budget;
use super::counters::Counters;
use super::report::{Happened, Inquiry, Publish, Report};
use crate::config::{OnFailure, WebhookConfig};

/// How often a shard that had to drop events looks whether it can say so, in milliseconds.
const SAY_DROPPED_MS: u64 = 500;

/// Says and asks for one shard. Each shard has a clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    hooks: Hooks,
    tells_connected: bool,
    tells_disconnected: bool,
    tells_occupied: bool,
    tells_vacated: bool,
    /// Empty: every message.
    publish_rooms: Arc<[Pattern]>,
    on_failure: OnFailure,
    reports: crossbeam_channel::Sender<Report>,
    queue: Arc<Budget>,
    questions: mpsc::Sender<Inquiry>,
    contents: Arc<Budget>,
    counters: Arc<Counters>,
    /// Events of this shard that were dropped and whose absence was not said yet.
    dropped: u64,
}

/// What reporters are made from.
pub(super) struct ReporterOptions<'a> {
    pub(super) config: &'a WebhookConfig,
    pub(super) reports: crossbeam_channel::Sender<Report>,
    pub(super) queue: Arc<Budget>,
    pub(super) questions: mpsc::Sender<Inquiry>,
    pub(super) contents: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
}

impl Reporter {
    pub(super) fn new(options: ReporterOptions<'_>) -> Self {
        let config = options.config;
        let tells_occupancy = config.includes("room_occupied") || config.includes("room_vacated");
        let mut hooks = Hooks::empty();
        hooks.set(Hooks::IDENTITY, config.includes("connect"));
        hooks.set(Hooks::PUBLISH, config.includes("publish"));
        hooks.set(Hooks::OCCUPANCY, tells_occupancy);
        let patterns = config.publish_rooms.iter();
        Self {
            hooks,
            tells_connected: config.includes("connected"),
            tells_disconnected: config.includes("disconnected"),
            tells_occupied: config.includes("room_occupied"),
            tells_vacated: config.includes("room_vacated"),
            // The setting permits patterns alone.
            publish_rooms: patterns.filter_map(|text| text.parse().ok()).collect(),
            on_failure: config.on_failure,
            reports: options.reports,
            queue: options.queue,
            questions: options.questions,
            contents: options.contents,
            counters: options.counters,
            dropped: 0,
        }
    }

    /// What the shard is to ask and tell its application.
    pub(crate) fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// The shard has started: whatever was said of it before is over.
    pub(crate) fn started(&mut self, context: &mut Context<'_>) {
        let tells = self.tells_connected || self.tells_disconnected;
        if tells || self.hooks.contains(Hooks::OCCUPANCY) {
            self.tell(context, Happened::ShardStarted);
        }
    }

    pub(crate) fn connected(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        user: &Name,
    ) {
        if self.tells_connected {
            let connection = id_of(context, connection);
            let user = user.clone();
            self.tell(context, Happened::Connected { connection, user });
        }
    }

    pub(crate) fn disconnected(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        reason: CloseReason,
    ) {
        if self.tells_disconnected {
            let user = context.user_of(connection).cloned().unwrap_or_default();
            let connection = id_of(context, connection);
            let happened = Happened::Disconnected {
                connection,
                user,
                reason,
            };
            self.tell(context, happened);
        }
    }

    pub(crate) fn occupancy(
        &mut self,
        context: &mut Context<'_>,
        room: &Name,
        occupancy: Occupancy,
    ) {
        let tells = match occupancy {
            Occupancy::Occupied => self.tells_occupied,
            Occupancy::Vacated => self.tells_vacated,
        };
        if tells {
            let room = room.clone();
            self.tell(context, Happened::Room { room, occupancy });
        }
    }

    /// It may be possible by now to say that events were dropped.
    pub(crate) fn timer_fired(&mut self, context: &mut Context<'_>) {
        self.say_dropped(context);
    }

    /// Whether the connection of a user may come in.
    pub(crate) fn ask_connect(
        &self,
        context: &Context<'_>,
        question: Question,
        user: &Name,
    ) -> Standing {
        self.ask(Inquiry {
            connection: id_of(context, question.connection),
            question,
            unix_ms: context.clock().unix_ms,
            asked: Instant::now(),
            user: user.clone(),
            publish: None,
        })
    }

    /// Whether a message may be published. What would not be published anyway is not asked about, and neither is what is said in other rooms than those that are configured.
    pub(crate) fn ask_publish(
        &self,
        context: &Context<'_>,
        question: Question,
        target: &Target,
        content: &Bytes,
        id: Option<&Name>,
    ) -> Standing {
        let connection = question.connection;
        let allowed = Standing::Decided(Ruling::Allow);
        if !self.is_asked_about(target) || !context.may_publish(connection, target, content.len()) {
            return allowed;
        }
        let Some(user) = context.user_of(connection) else {
            return allowed;
        };
        self.ask(Inquiry {
            connection: id_of(context, connection),
            question,
            unix_ms: context.clock().unix_ms,
            asked: Instant::now(),
            user: user.clone(),
            publish: Some(Publish {
                target: target.clone(),
                content: content.clone(),
                id: id.cloned(),
            }),
        })
    }

    fn is_asked_about(&self, target: &Target) -> bool {
        match target {
            _ if self.publish_rooms.is_empty() => true,
            Target::Room(room) => self.publish_rooms.iter().any(|rooms| rooms.matches(room)),
            Target::Inbox(_) => false,
        }
    }

    fn ask(&self, inquiry: Inquiry) -> Standing {
        let (bytes, is_publish) = (inquiry.bytes(), inquiry.publish.is_some());
        if self.contents.take(bytes) {
            // Wakes the control thread where it sleeps. To do that its runtime takes a lock for as long as it takes to put one pointer into a list.
            if self.questions.try_send(inquiry).is_ok() {
                return Standing::Held;
            }
            self.contents.give_back(1, bytes);
        }
        self.counters.decisions_overloaded.add(1);
        Standing::Decided(undecided(self.on_failure, is_publish, &self.counters))
    }

    fn tell(&mut self, context: &mut Context<'_>, happened: Happened) {
        if self.say_dropped(context) && self.push(context, happened) {
            return;
        }
        self.dropped += 1;
        self.counters.events_dropped.add(1);
        context.timer_after(SAY_DROPPED_MS);
    }

    /// Says how many events were dropped, where some were. False where that does not fit either.
    fn say_dropped(&mut self, context: &mut Context<'_>) -> bool {
        if self.dropped == 0 {
            return true;
        }
        let count = self.dropped;
        let said = self.push(context, Happened::Dropped { count });
        match said {
            true => self.dropped = 0,
            false => context.timer_after(SAY_DROPPED_MS),
        }
        said
    }

    fn push(&self, context: &Context<'_>, happened: Happened) -> bool {
        let report = Report {
            shard: context.shard(),
            unix_ms: context.clock().unix_ms,
            happened,
        };
        let (bytes, events) = (report.bytes(), report.events());
        if !self.queue.take(bytes) {
            return false;
        }
        let sent = self.reports.send(report).is_ok();
        match sent {
            true => self.counters.events_queued.add(events),
            // The control thread has ended.
            false => self.queue.give_back(1, bytes),
        }
        sent
    }
}

/// What becomes of whoever waits for a decision that does not come.
pub(super) fn undecided(on_failure: OnFailure, is_publish: bool, counters: &Counters) -> Ruling {
    match (on_failure, is_publish) {
        (OnFailure::Allow, _) => {
            counters.decisions_failed_open.add(1);
            Ruling::Allow
        }
        (OnFailure::Refuse, false) => {
            counters.decisions_failed_closed.add(1);
            Ruling::Dismiss(Dismissal {
                code: TRY_AGAIN_LATER,
                reason: "it cannot be decided now whether you may connect; try again later".into(),
            })
        }
        (OnFailure::Refuse, true) => {
            counters.decisions_failed_closed.add(1);
            Ruling::Refuse {
                code: ErrorCode::Unavailable,
                message: "it cannot be decided now whether this may be published; try again later"
                    .into(),
            }
        }
    }
}

fn id_of(context: &Context<'_>, key: ConnectionKey) -> ConnectionId {
    ConnectionId {
        shard: context.shard(),
        key,
    }
}
