//! What the admin API knows of the node, and how it has the node drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;
use serde::Serialize;
use shardcast_shard::admission::{Admission, Fullness};
use shardcast_shard::limits::Limits;
use shardcast_shard::shard::StopPlan;
use tokio::sync::{mpsc, watch};
use utoipa::ToSchema;

use super::shards::Shards;
use super::token::{AdminToken, AdminTokenError};
use crate::activity::Activity;
use crate::config::{Config, EffectiveConfig};
use crate::engine::Running;
use crate::metrics::Metrics;

/// Where the node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It takes connections.
    Serving,
    /// It takes no more connections, and those that it has are told to come back elsewhere.
    Draining,
    /// Its connections are gone and its shards have ended.
    Drained,
}

/// The node.
pub(crate) struct Node {
    shards: Shards,
    effective: EffectiveConfig,
    admission: Arc<Admission>,
    address: SocketAddr,
    url: String,
    started: (Instant, SystemTime),
    stop_plan: StopPlan,
    token: ArcSwapOption<AdminToken>,
    phase: watch::Sender<Phase>,
    drains: mpsc::Sender<StopPlan>,
    metrics: Metrics,
    activity: Arc<Activity>,
}

impl Node {
    /// A node that serves WebSockets at `path`. Whoever holds the other end drains it when told to.
    pub(crate) fn new(
        running: &Running,
        effective: EffectiveConfig,
        token: Option<Arc<AdminToken>>,
        metrics: Metrics,
        path: &str,
    ) -> (Arc<Self>, mpsc::Receiver<StopPlan>) {
        // One is enough: a node is drained once.
        let (drains, drained) = mpsc::channel(1);
        let phase = watch::Sender::new(Phase::Serving);
        let admin = &effective.config().admin;
        let node = Self {
            shards: Shards::new(running.handle(), admin.wait_max, phase.subscribe()),
            admission: Arc::clone(running.admission()),
            address: running.address(),
            url: running.url(path),
            activity: Activity::new(metrics.clone()),
            started: (Instant::now(), SystemTime::now()),
            stop_plan: running.stop_plan(),
            token: ArcSwapOption::new(token),
            phase,
            drains,
            effective,
            metrics,
        };
        (Arc::new(node), drained)
    }

    /// Reads the file of the token again.
    ///
    /// # Errors
    /// It holds none; the one in force stays.
    pub(crate) fn reload_token(&self) -> Result<(), AdminTokenError> {
        self.token
            .store(AdminToken::configured(&self.config().admin)?);
        Ok(())
    }

    /// The token that requests must bring, where there is one.
    pub(super) fn token(&self) -> Option<Arc<AdminToken>> {
        self.token.load_full()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Has the node drained. That it is being drained already changes nothing.
    pub(super) fn drain(&self, plan: StopPlan) {
        // Full: it was told before.
        let told = self.drains.try_send(plan).is_ok();
        if told && self.phase() == Phase::Serving {
            self.set_phase(Phase::Draining);
        }
    }

    pub(super) fn shards(&self) -> &Shards {
        &self.shards
    }

    pub(super) fn effective(&self) -> &EffectiveConfig {
        &self.effective
    }

    pub(crate) fn config(&self) -> &Config {
        self.effective.config()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config().limits
    }

    pub(super) fn stop_plan(&self) -> StopPlan {
        self.stop_plan
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn started(&self) -> (Instant, SystemTime) {
        self.started
    }

    /// What it tells Prometheus.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What it has been doing.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Connections that it has.
    pub(super) fn connections(&self) -> u64 {
        self.admission.connections()
    }

    /// Why it takes no connections though it serves.
    pub(super) fn fullness(&self) -> Option<Fullness> {
        self.admission.is_full()
    }
}
