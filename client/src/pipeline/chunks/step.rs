//! What the thread that reads tables and the stream tell each other.

use std::sync::Arc;

use super::visibility::Visible;
use crate::error::Error;
use crate::registry::Ids;
use crate::sink::{Keys, TopicId};
use crate::snapshot_request::RowsOf;
use crate::state::Place;

/// To the stream.
pub(super) enum Report {
    /// A snapshot was taken: what it sees need not be remembered.
    Seen(Visible),
    /// Keys that may be gone: remember which of them the stream sends from now on.
    Watch(Watch),
    /// What is to be done where the watermark of this number stands.
    Step(Box<Step>),
    /// The stream may not go on.
    Failed(Error),
}

/// Keys to watch in a topic.
pub(super) struct Watch {
    pub(super) number: u64,
    pub(super) topic: TopicId,
    pub(super) keys: Arc<Keys>,
}

/// What is done at a watermark.
pub(super) struct Step {
    pub(super) number: u64,
    /// The last step whose verdict was heard.
    pub(super) heard: u64,
    /// What the chunk was read under.
    pub(super) snapshot: Visible,
    pub(super) table: Option<RowsOf>,
    pub(super) work: Work,
    pub(super) then: Then,
}

/// Records to send.
pub(super) enum Work {
    None,
    /// Rows as frames, back to back.
    Rows {
        topic: TopicId,
        /// What keys and values begin with; none where they begin with nothing.
        ids: Option<Ids>,
        frames: Vec<u8>,
        count: u64,
    },
    /// Rows of single keys, and keys that no row has, as the topic has them.
    Keys {
        topic: TopicId,
        /// What keys and values begin with; none where they begin with nothing.
        ids: Option<Ids>,
        frames: Vec<u8>,
        count: u64,
        absent: Vec<Vec<u8>>,
    },
    /// Keys that are gone if they have not come again: neither to the topic, which was read,
    /// nor through the stream, which watched.
    Ghosts {
        /// Of these keys.
        watch: u64,
        topic: TopicId,
        partition: i32,
        keys: Arc<Keys>,
        renewed: Keys,
    },
}

/// What the record says of the run behind it.
pub(super) enum Then {
    /// It goes on here.
    Place(Place),
    /// The table equals its topic.
    Mended(Place),
    /// The table cannot be copied, for this reason.
    Left(Place, String),
    /// There is no table to copy, for this reason.
    Nothing(String),
    /// The run has ended.
    End,
}

/// From the stream.
pub(super) enum Order {
    /// It has begun to watch these keys, and all it sent before is delivered.
    Watching(u64),
    /// What came of the step of this number.
    Verdict(u64, Verdict),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Applied,
    /// Nothing was sent: the stream has sent keys that it does not remember. Read it again.
    Again,
    /// As [`Verdict::Again`], and none of them will be known soon: begin like the first time.
    Anew,
    /// Nothing was sent: the table has gone stale meanwhile. Begin it anew, here.
    Over(Place),
}
