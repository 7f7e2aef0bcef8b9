//! What the server says of a replication slot.

use crate::session::Session;

/// Whether there is a slot of this name.
pub fn exists(sql: &Session, slot: &str) -> bool {
    sql.holds(&format!(
        "select exists (select from pg_replication_slots where slot_name = '{slot}')"
    ))
}

/// Whether the slot's confirmed position has reached `lsn`: everything before is delivered. A
/// slot that is not there has reached nothing.
pub fn has_passed(sql: &Session, slot: &str, lsn: &str) -> bool {
    sql.holds(&format!(
        "select exists (select from pg_replication_slots \
                        where slot_name = '{slot}' and confirmed_flush_lsn >= '{lsn}')"
    ))
}
