//! Where a stream's records go.

use std::sync::Arc;

use super::launch::Store;
use crate::assemble;
use crate::cli::{ErrorMode, StreamOptions};
use crate::dead_letters::DeadLetters;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::registry::Registrar;
use crate::sink::{Keying, Sink};
use crate::source::plugin::Plugin;
use crate::stop::Stop;

/// Where everything goes.
pub(super) struct Target {
    pub(super) sink: Arc<dyn Sink>,
    /// Where changes go that cannot be delivered; none to stop at them.
    pub(super) dead_letters: Option<DeadLetters>,
    /// By which the ids of schemas are learned; none where records have no schema.
    pub(super) registrar: Option<Registrar>,
    /// How far the stream has come.
    pub(super) store: Store,
}

impl Target {
    pub(super) fn open(
        options: &StreamOptions,
        plugin: &Plugin,
        database: &str,
        stop: &Stop,
        metrics: &Metrics,
    ) -> Result<Self> {
        let sink = assemble::sink(options)?;
        if options.message_topic.is_some() && plugin.sends_messages() {
            // Asked for by name: a broker that refuses it is better heard now than with the
            // first message.
            sink.open_topic(&options.messages(), Keying::Events)?;
        }
        let dead_letters = match options.on_error {
            ErrorMode::Stop => None,
            ErrorMode::Quarantine => {
                let topic = options.dead_letters();
                Some(DeadLetters::open(sink.as_ref(), &topic, metrics)?)
            }
        };
        let store = assemble::state_store(
            options.sink,
            &assemble::kafka_options(options),
            &options.topic_prefix,
            database,
            &options.slot,
        )?;
        Ok(Target {
            sink,
            dead_letters,
            registrar: assemble::registrar(options, database, stop, metrics)?,
            store,
        })
    }
}
