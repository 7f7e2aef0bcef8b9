//! What a pipeline remembers between runs, kept beside the data in Kafka.

mod cut;
mod kafka;
mod runs;
mod schema_ids;
mod shape;
mod stale;

pub use kafka::{KafkaSchemaIds, KafkaState, StateKey, read, record};
pub(crate) use kafka::{TOPIC as STATE_TOPIC, read_all};
pub use runs::{Ended, Part, Place, Run, Runs, Sent};
pub use schema_ids::{SchemaIds, SubjectIds};
pub use shape::{Difference, Shape};
pub use stale::{Mark, StaleTables};

use headwater_protocol::Lsn;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// How far a pipeline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Every row of the snapshot is in Kafka; the permanent slot may not exist yet.
    Copied,
    /// The permanent slot exists and the stream follows it.
    Streaming,
}

/// The newest record of one pipeline in the state topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `IDENTIFY_SYSTEM`'s system identifier.
    pub system_identifier: String,
    /// The timeline on which it was written.
    pub timeline: u32,
    /// How far it has come.
    pub phase: Phase,
    /// Where the stream begins and up to where the snapshot holds everything.
    pub consistent_point: Lsn,
    /// Every transaction that ends at or before it is durable in Kafka.
    pub position: Lsn,
    /// The oldest WAL that the slot needs: it only moves ahead, also over crashes of the server.
    /// None until it is known.
    pub restart_lsn: Option<Lsn>,
    /// What decides the topics, the keys and the form of everything sent up to there.
    pub shape: Shape,
    /// What a transaction up to there left behind that only a snapshot mends.
    pub stale: StaleTables,
    /// What is copied again meanwhile, as far as it has come up to there.
    pub runs: Runs,
}

/// Where the state is kept: a compacted topic, keyed by prefix, database and slot.
pub trait StateStore: Send {
    /// The newest state, none if nothing was ever stored or it was cleared.
    fn load(&mut self) -> Result<Option<State>>;

    /// Returns once the state is durable.
    fn store(&mut self, state: &State) -> Result<()>;

    /// How many processes have stored a state since it was cleared last, this one among them once it
    /// has; none before anything is loaded or stored, and where nobody counts.
    fn starts(&self) -> Option<u64>;

    /// Forgets the state, returning once that is durable.
    fn clear(&mut self) -> Result<()>;
}
