//! The message that stands behind a chunk in the WAL.

use serde::{Deserialize, Serialize};

/// Which chunk of which process's run: a watermark of another is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watermark {
    pub(super) slot: String,
    pub(super) run: String,
    /// Of the thread that read the chunk.
    pub(super) reader: String,
    pub(super) number: u64,
}

impl Watermark {
    /// None for what is no watermark of this release, which cannot be one of this process.
    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        serde_json::from_slice(content).ok()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
