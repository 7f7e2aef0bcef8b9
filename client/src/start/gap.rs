//! A gap: what a refusal says of it.

use headwater_protocol::Lsn;

use crate::error::{Error, ErrorKind};
use crate::source::slot::Slot;

/// Changes that no stream can bring any more.
pub(super) struct Gap {
    /// What happened.
    pub(super) message: String,
    /// What was delivered before it; unknown where nothing is on record.
    pub(super) lost_after: Option<Lsn>,
    /// What else may help.
    pub(super) advice: String,
}

impl Gap {
    pub(super) fn after(lost_after: Lsn, message: String) -> Self {
        Gap {
            message,
            lost_after: Some(lost_after),
            advice: String::new(),
        }
    }

    pub(super) fn of_slot_gone(name: &str, position: Lsn) -> Self {
        let message = format!(
            "replication slot \"{name}\" is gone: changes after {position} are lost to the stream"
        );
        Gap::after(position, message)
    }

    pub(super) fn of_slot_moved(name: &str, slot: &Slot, position: Lsn) -> Self {
        let message = format!(
            "replication slot \"{name}\" stands at {}, but only changes up to {position} are on \
             record as delivered: it was made again or moved ahead",
            slot.confirmed_flush
        );
        Gap::after(position, message)
    }

    pub(super) fn into_error(self) -> Error {
        let mut hint = "To begin anew with a snapshot, which mends the topics, start with \
                        --resnapshot."
            .to_owned();
        if let Some(position) = self.lost_after {
            hint.push_str(&format!(
                " To go on without the changes that are lost, start with --accept-gap {position}."
            ));
        }
        if !self.advice.is_empty() {
            hint.push(' ');
            hint.push_str(&self.advice);
        }
        Error::new(ErrorKind::Gap, self.message).with_hint(hint)
    }
}
