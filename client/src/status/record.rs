//! What is on record of streams in Kafka, and how many dead letters there are.
//!
//! Dead letters are counted by the offsets of their topic, which a broker tells without a
//! record being read, and which a restart of the client does not set back as it does its
//! counters. A letter that came twice after a crash counts twice, and one that the topic has
//! expired does not count any more: it is how many there are to look at.

use std::collections::BTreeMap;

use super::source::Asked;
use crate::error::Result;
use crate::kafka::{Connection, KafkaOptions, Reader, Reading};
use crate::state::{self, STATE_TOPIC, State, StateKey};
use crate::stop::Stop;

/// What one look at Kafka saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// By their keys.
    pub streams: Vec<Recorded>,
    /// Topics of dead letters that there are, with the number of records in each.
    pub letters: BTreeMap<String, u64>,
}

/// What is on record of one stream.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub key: StateKey,
    /// Or why it cannot be read.
    pub state: Result<State, String>,
}

/// Asks one cluster, again and again over one connection.
pub(super) struct Questions {
    options: KafkaOptions,
    wanted: Wanted,
    stop: Stop,
    reader: Option<Reader>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// One slot's stream, or all.
    pub slot: Option<String>,
    /// Streams of one prefix, or all.
    pub prefix: Option<String>,
    /// The topic of dead letters, where it is not the usual one.
    pub letters: Option<String>,
}

impl Wanted {
    fn includes(&self, key: &StateKey) -> bool {
        self.slot.as_ref().is_none_or(|slot| *slot == key.slot)
            && self.prefix.as_ref().is_none_or(|it| *it == key.prefix)
    }

    /// The topic of a stream's dead letters.
    pub(super) fn letters_of(&self, prefix: &str) -> String {
        let given = self.letters.clone();
        given.unwrap_or_else(|| format!("{prefix}dead-letters"))
    }
}

impl Questions {
    pub(super) fn new(options: KafkaOptions, wanted: Wanted, stop: Stop) -> Self {
        Questions {
            options,
            wanted,
            stop,
            reader: None,
        }
    }

    /// Looks, connecting where that is needed.
    ///
    /// # Errors
    /// Kafka does not answer, or a topic may not be read.
    pub(super) fn look(&mut self, asked: &Asked) -> Result<Records> {
        let mut tick = || self.stop.check();
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => {
                asked.connecting();
                let reader = Reader::connect(
                    &self.options,
                    Reading::Own,
                    Connection::silent,
                    STATE_TOPIC,
                    &mut tick,
                )?;
                asked.connected();
                reader
            }
        };
        let streams: Vec<Recorded> = state::read_all(&reader, &self.options, &mut tick)?
            .into_iter()
            .filter(|(key, _)| self.wanted.includes(key))
            .map(|(key, state)| Recorded {
                key,
                state: state.map_err(|error| error.to_string()),
            })
            .collect();
        let mut letters = BTreeMap::new();
        for stream in &streams {
            let topic = self.wanted.letters_of(&stream.key.prefix);
            if !letters.contains_key(&topic)
                && let Some(count) = reader.count(&topic, &mut tick)?
            {
                letters.insert(topic, count);
            }
        }
        self.reader = Some(reader);
        Ok(Records { streams, letters })
    }
}
