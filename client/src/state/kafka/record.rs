//! A state record: its key and its value, as JSON.
//!
//! The key is compared byte by byte, by compaction too, so its form never changes. The
//! value carries the version of its form: one that is newer than this program is an error,
//! since reading the rest of it by guesswork could skip changes.

use headwater_protocol::Lsn;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::state::{Mark, Phase, Runs, Shape, StaleTables, State};

/// The form that is written, and the newest that is read.
const VERSION: u32 = 1;

/// Whose state it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateKey {
    /// `--topic-prefix`, empty without one.
    pub prefix: String,
    /// The name of the database.
    pub database: String,
    /// The name of the slot.
    pub slot: String,
}

/// The value; LSNs as Postgres prints them.
#[derive(Serialize, Deserialize)]
struct Value {
    version: u32,
    /// Absent in what releases wrote that knew of none.
    #[serde(default)]
    epoch: u64,
    system_identifier: String,
    timeline: u32,
    phase: Phase,
    consistent_point: String,
    position: String,
    /// Absent in what releases wrote that kept none, and until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restart_lsn: Option<String>,
    /// Absent in what releases wrote that kept none.
    #[serde(default, skip_serializing_if = "Shape::is_unknown")]
    shape: Shape,
    /// Absent where there is none, as in what releases wrote that knew of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stale: Vec<StaleTable>,
    /// Absent where there never was one.
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    runs: Runs,
}

/// A table that is stale.
#[derive(Serialize, Deserialize)]
struct StaleTable {
    schema: String,
    table: String,
    since: String,
    reason: String,
}

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// What is read of every record of a key, whatever else it says.
#[derive(Deserialize)]
struct Numbered {
    #[serde(default)]
    epoch: u64,
}

/// Why a value cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It has a version that is newer than this program.
    Newer(u32),
    /// It is no state.
    Malformed(String),
}

impl DecodeError {
    /// The error for a person; `place` says where the record is.
    pub fn into_error(self, place: &str) -> Error {
        match self {
            DecodeError::Newer(version) => Error::failed(format!(
                "the state in {place} was written by a newer Headwater: it has version {version}, \
                 this one reads up to {VERSION}"
            ))
            .with_hint("Run the newer Headwater again."),
            DecodeError::Malformed(reason) => Error::failed(format!(
                "the state in {place} cannot be read: {reason}"
            ))
            .with_hint(
                "If nothing else writes to that topic, begin anew under another name with --slot, \
                 and drop the old slot with SELECT pg_drop_replication_slot(…).",
            ),
        }
    }
}

/// The key's bytes.
pub fn key(key: &StateKey) -> Result<Vec<u8>> {
    serde_json::to_vec(key)
        .map_err(|error| Error::failed("the state's key cannot be written").with_source(error))
}

/// The stream whose state a key is of; none for keys of anything else.
pub fn stream(key: &[u8]) -> Option<StateKey> {
    serde_json::from_slice(key).ok()
}

/// Which start wrote a value; none where that cannot be read.
pub fn epoch(bytes: &[u8]) -> Option<u64> {
    let numbered: Numbered = serde_json::from_slice(bytes).ok()?;
    Some(numbered.epoch)
}

/// The value's bytes.
pub fn encode(state: &State, epoch: u64) -> Result<Vec<u8>> {
    let value = Value {
        version: VERSION,
        epoch,
        system_identifier: state.system_identifier.clone(),
        timeline: state.timeline,
        phase: state.phase,
        consistent_point: state.consistent_point.to_string(),
        position: state.position.to_string(),
        restart_lsn: state.restart_lsn.map(|lsn| lsn.to_string()),
        shape: state.shape.clone(),
        stale: state
            .stale
            .iter()
            .map(|(schema, table, mark)| StaleTable {
                schema: schema.to_owned(),
                table: table.to_owned(),
                since: mark.since.to_string(),
                reason: mark.reason.clone(),
            })
            .collect(),
        runs: state.runs.clone(),
    };
    serde_json::to_vec(&value)
        .map_err(|error| Error::failed("the state cannot be written").with_source(error))
}

/// The state that a value holds.
pub fn decode(bytes: &[u8]) -> Result<State, DecodeError> {
    let malformed = |error: &dyn std::fmt::Display| DecodeError::Malformed(error.to_string());
    let lsn = |text: &str| text.parse::<Lsn>().map_err(|error| malformed(&error));
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    if version > VERSION {
        return Err(DecodeError::Newer(version));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    let mut stale = StaleTables::default();
    for table in value.stale {
        let mark = Mark {
            since: lsn(&table.since)?,
            reason: table.reason,
        };
        stale.mark(&table.schema, &table.table, mark);
    }
    Ok(State {
        stale,
        consistent_point: lsn(&value.consistent_point)?,
        position: lsn(&value.position)?,
        restart_lsn: value.restart_lsn.as_deref().map(lsn).transpose()?,
        system_identifier: value.system_identifier,
        timeline: value.timeline,
        phase: value.phase,
        shape: value.shape,
        runs: value.runs,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot_request::SnapshotRequest;
    use proptest::prelude::*;

    fn state() -> State {
        State {
            system_identifier: "7461234567890123456".to_owned(),
            timeline: 1,
            phase: Phase::Streaming,
            consistent_point: Lsn(0x16_B374_D848),
            position: Lsn(0x16_B374_E000),
            restart_lsn: None,
            shape: Shape::default(),
            stale: StaleTables::default(),
            runs: Runs::default(),
        }
    }

    #[test]
    fn the_form_is_fixed() {
        let id = StateKey {
            prefix: String::new(),
            database: "shop".to_owned(),
            slot: "headwater".to_owned(),
        };
        assert_eq!(
            String::from_utf8(key(&id).unwrap()).unwrap(),
            r#"{"prefix":"","database":"shop","slot":"headwater"}"#
        );
        assert_eq!(
            String::from_utf8(encode(&state(), 3).unwrap()).unwrap(),
            concat!(
                r#"{"version":1,"epoch":3,"system_identifier":"7461234567890123456","timeline":1,"#,
                r#""phase":"streaming","consistent_point":"16/B374D848","position":"16/B374E000"}"#
            )
        );
    }

    #[test]
    fn the_options_that_decide_stand_by_their_names() {
        let mut state = state();
        let numbers = ("numbers".to_owned(), "string".to_owned());
        state.shape = [numbers].into_iter().collect();
        let text = String::from_utf8(encode(&state, 3).unwrap()).unwrap();
        assert!(
            text.ends_with(r#","position":"16/B374E000","shape":{"numbers":"string"}}"#),
            "{text}"
        );
        assert_eq!(decode(text.as_bytes()), Ok(state));
        let malformed = decode(text.replace(r#"{"numbers":"string"}"#, "7").as_bytes());
        assert!(
            matches!(malformed, Err(DecodeError::Malformed(_))),
            "{malformed:?}"
        );
    }

    #[test]
    fn stale_tables_stand_in_a_field_of_their_own() {
        let mut state = state();
        let mark = Mark {
            since: Lsn(0x16_B374_D900),
            reason: "column \"a\" is \"b\" now".to_owned(),
        };
        assert!(state.stale.mark("shop", "orders", mark.clone()));
        assert!(!state.stale.mark("shop", "orders", mark), "it is no news");
        let text = String::from_utf8(encode(&state, 3).unwrap()).unwrap();
        assert!(
            text.ends_with(concat!(
                r#","position":"16/B374E000","stale":[{"schema":"shop","table":"orders","#,
                r#""since":"16/B374D900","reason":"column \"a\" is \"b\" now"}]}"#
            )),
            "{text}"
        );
        assert_eq!(decode(text.as_bytes()), Ok(state));
        let malformed = decode(text.replace("16/B374D900", "16").as_bytes());
        assert!(
            matches!(malformed, Err(DecodeError::Malformed(_))),
            "{malformed:?}"
        );
    }

    #[test]
    fn runs_stand_in_a_field_of_their_own() {
        let mut state = state();
        let request = br#"{"slot":"s","id":"7","tables":"shop.*"}"#;
        let request = SnapshotRequest::decode(request).unwrap();
        state.runs.add(request, Lsn(0x16_B374_D900)).unwrap();
        let text = String::from_utf8(encode(&state, 3).unwrap()).unwrap();
        assert!(
            text.ends_with(concat!(
                r#","runs":{"queue":[{"request":{"slot":"s","id":"7","tables":"shop.*"},"#,
                r#""since":"16/B374D900","sent":{"rows":0,"tombstones":0}}]}}"#
            )),
            "{text}"
        );
        assert_eq!(decode(text.as_bytes()), Ok(state));
    }

    #[test]
    fn a_newer_version_is_refused_with_both_numbers() {
        let error = decode(br#"{"version":2,"phase":"dreaming"}"#).unwrap_err();
        assert_eq!(error, DecodeError::Newer(2));
        let error = error.into_error("topic \"t\", offset 5");
        let text = error.to_string();
        assert!(
            text.contains("version 2") && text.contains("up to 1"),
            "{text}"
        );
        assert!(text.contains("offset 5"), "{text}");
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        for text in [
            "",
            "null",
            "{}",
            "[1]",
            r#"{"version":1}"#,
            r#"{"version":-1}"#,
            "\u{0}",
        ] {
            let decoded = decode(text.as_bytes());
            assert!(
                matches!(decoded, Err(DecodeError::Malformed(_))),
                "{text:?}: {decoded:?}"
            );
        }
        let text = String::from_utf8(encode(&state(), 3).unwrap()).unwrap();
        for (from, to) in [("16/B374D848", "16-B374D848"), ("streaming", "dreaming")] {
            let decoded = decode(text.replace(from, to).as_bytes());
            assert!(
                matches!(decoded, Err(DecodeError::Malformed(_))),
                "{to}: {decoded:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            system_identifier: String,
            timeline: u32,
            copied: bool,
            consistent_point: u64,
            position: u64,
            restart_lsn: Option<u64>,
            shape: Vec<(String, String)>,
            stale: Vec<(String, String, u64, String)>,
        ) {
            let mut marked = StaleTables::default();
            for (schema, table, since, reason) in stale {
                marked.mark(&schema, &table, Mark { since: Lsn(since), reason });
            }
            let state = State {
                system_identifier,
                timeline,
                phase: if copied { Phase::Copied } else { Phase::Streaming },
                consistent_point: Lsn(consistent_point),
                position: Lsn(position),
                restart_lsn: restart_lsn.map(Lsn),
                shape: shape.into_iter().collect(),
                stale: marked,
                runs: Runs::default(),
            };
            prop_assert_eq!(decode(&encode(&state, 3).unwrap()), Ok(state));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
