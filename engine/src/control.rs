//! The admin API and the dashboard: HTTP on the control thread.
//!
//! It drives the engine with orders to shards ([`shardcast_shard::orders`]) and waits for their answers, never the other way round: no shard waits for
//! anything here. What it offers is described by an OpenAPI document that is made from the declarations of the handlers and served at `/openapi.json`.

mod api;
mod dashboard;
mod guard;
mod health;
mod listener;
mod node;
mod problem;
mod query;
mod shards;
mod token;

pub(crate) use node::{Node, Phase};
pub(crate) use shards::Shards;
pub use token::{AdminToken, AdminTokenError};

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::middleware;

use crate::config::Config;

/// Why there is no admin API.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The file of the token holds none.
    #[error(transparent)]
    Token(#[from] AdminTokenError),
    /// The address could not be bound.
    #[error(
        "cannot listen on {address} for the admin API: {source}; choose another with --admin ADDR:PORT, end what uses it, or do without: --admin off"
    )]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What the admin API needs of the machine, before the engine runs.
#[derive(Debug)]
pub(crate) struct Front {
    /// `None` where there is to be no admin API.
    listener: Option<TcpListener>,
    /// What requests must bring.
    pub(crate) token: Option<Arc<AdminToken>>,
}

impl Front {
    /// Takes the address and reads the token.
    ///
    /// # Errors
    /// The address is taken or not of this host, or there is no token in the file.
    pub(crate) fn open(config: &Config) -> Result<Self, AdminError> {
        let admin = &config.admin;
        let token = AdminToken::configured(admin)?;
        let Some(address) = admin.listen else {
            let listener = None;
            return Ok(Self { listener, token });
        };
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = bound.map_err(|source| AdminError::Listen { address, source })?;
        Ok(Self {
            listener: Some(listener),
            token,
        })
    }

    /// Serves the admin API in the background, for as long as the runtime of the caller runs; answers where, where there is one.
    ///
    /// # Errors
    /// The runtime does not take the listener.
    pub(crate) fn serve(self, node: &Arc<Node>) -> io::Result<Option<SocketAddr>> {
        let Some(listener) = self.listener else {
            return Ok(None);
        };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let connections_max = node.config().admin.connections_max;
        tokio::spawn(Arc::clone(node.activity()).keep());
        tokio::spawn(listener::serve(listener, router(node), connections_max));
        Ok(Some(address))
    }
}

/// All routes, with what every request passes.
fn router(node: &Arc<Node>) -> Router {
    api::router()
        .merge(dashboard::router())
        .fallback(problem::nothing_here)
        .layer(middleware::from_fn_with_state(
            Arc::clone(node),
            guard::check,
        ))
        .layer(middleware::from_fn(guard::trace))
        .with_state(Arc::clone(node))
}
