//! The name of a slot that a stream may have to create.

/// Reads a name as `ReplicationSlotValidateName` in Postgres' `slot.c` does. The server would
/// say so itself, but only when the slot is created: behind the whole of a first snapshot.
pub(super) fn slot_name(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    match text.len() {
        1..=63 if text.bytes().all(is_letter) => Ok(text.to_owned()),
        _ => Err(EXPECTED.to_owned()),
    }
}

const EXPECTED: &str = "expected 1 to 63 lower-case letters, digits and underscores";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_named_as_postgres_takes_it() {
        let longest = "x".repeat(63);
        for name in ["headwater", "0", "_a_9", &longest] {
            assert_eq!(slot_name(name).as_deref(), Ok(name));
        }
        let too_long = "x".repeat(64);
        for name in ["", "Bad", "bad-slot", "a b", "größe", "a.b", &too_long] {
            assert!(slot_name(name).is_err(), "{name:?} was taken");
        }
    }
}
