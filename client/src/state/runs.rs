//! Copies of tables into the running stream: what was asked for, and how far it has come.
//!
//! A run becomes part of the record when the position is past its request, and each step of
//! it when the position is past the step's records, so that whatever process goes on repeats
//! at most the last step. The last key of a chunk is a row's value: it is kept here, beside the
//! data, and told nowhere else.

use headwater_protocol::Lsn;
use serde::{Deserialize, Serialize};

use super::cut::cut;
use crate::snapshot_request::{RowsOf, SnapshotRequest};

/// Ended runs on record, for those who wait for them.
const ENDED: usize = 16;

/// Failures of a run that are named: the others are counted.
const FAILURES: usize = 100;

/// Runs that wait for their turn, in bytes of their requests: the record they are part of
/// may have a megabyte.
const WAITING_BYTES: usize = 4 * crate::snapshot_request::MAX_BYTES;

/// The runs of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The first is under way, the others wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<Run>,
    /// The last ones that have ended, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Ended>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What was asked for.
    pub request: SnapshotRequest,
    /// The end of the transaction that asked: what a topic has from before then, and not
    /// from this run or from the stream, is gone from the table.
    #[serde(with = "lsn")]
    pub since: Lsn,
    /// How far it is; nothing is done where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What it has done.
    #[serde(default)]
    pub sent: Sent,
    /// What it could not do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// How much more it could not do.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_failures: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Run {
    /// Something could not be done.
    pub fn fail(&mut self, failure: String) {
        if self.failures.len() < FAILURES {
            self.failures.push(cut(failure));
        } else {
            self.more_failures += 1;
        }
    }
}

/// Records that a run has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Rows that were read, also those of which the topic had newer ones.
    pub rows: u64,
    /// Tombstones for rows that are gone.
    pub tombstones: u64,
}

/// Where a run goes on: tables are taken in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The table that rows are sent as.
    pub table: RowsOf,
    /// As in [`Run::since`], for this table: it may have been begun anew.
    #[serde(with = "lsn")]
    pub since: Lsn,
    /// What of it is next.
    pub part: Part,
}

/// A part of a table's copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Nothing is done.
    Begin,
    /// Rows of this leaf behind the key, all of them where it is absent; then the leaves that
    /// come after it by name.
    Rows {
        /// The table itself where it has no partitions.
        leaf: RowsOf,
        /// The last key, as in the topic.
        after: Option<String>,
    },
    /// The keys of a request from this one on, counted from 0.
    Keys(usize),
    /// Keys that are gone, of the topic's partitions from this number on.
    Ghosts(i32),
    /// All is done.
    Done,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The request's id.
    pub id: String,
    /// What it could not do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// What it has done.
    pub sent: Sent,
}

impl Runs {
    /// Takes up a request. False if it is known already; an error says why it is refused,
    /// and is on record.
    pub fn add(&mut self, request: SnapshotRequest, since: Lsn) -> Result<bool, String> {
        let is_known = self.queue.iter().any(|run| run.request.id == request.id)
            || self.ended.iter().any(|ended| ended.id == request.id);
        if is_known {
            return Ok(false);
        }
        let size = |request: &SnapshotRequest| request.encode().map_or(0, |text| text.len());
        let waiting: usize = self.queue.iter().map(|run| size(&run.request)).sum();
        if waiting + size(&request) > WAITING_BYTES {
            let failure = "too many requests wait for their turn".to_owned();
            self.end(Ended {
                id: request.id,
                failures: vec![failure.clone()],
                sent: Sent::default(),
            });
            return Err(failure);
        }
        self.queue.push(Run {
            request,
            since,
            place: None,
            sent: Sent::default(),
            failures: Vec::new(),
            more_failures: 0,
        });
        Ok(true)
    }

    /// Changes up to a position are lost: whatever was copied before is worth nothing.
    pub fn begin_anew(&mut self, position: Lsn) {
        for run in &mut self.queue {
            run.since = position;
            run.place = None;
        }
    }

    /// The first run has ended.
    pub fn finish(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let mut run = self.queue.remove(0);
        if run.more_failures > 0 {
            run.failures.push(format!("and {} more", run.more_failures));
        }
        self.end(Ended {
            id: run.request.id,
            failures: run.failures,
            sent: run.sent,
        });
    }

    /// Whether there never was one.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.ended.is_empty()
    }

    fn end(&mut self, ended: Ended) {
        if self.ended.len() >= ENDED {
            self.ended.remove(0);
        }
        self.ended.push(ended);
    }
}

/// As Postgres prints it.
mod lsn {
    use headwater_protocol::Lsn;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use headwater_protocol::table_pattern::TablePatterns;

    use super::*;
    use crate::snapshot_request::Scope;

    fn request(id: &str, size: usize) -> SnapshotRequest {
        SnapshotRequest {
            slot: "s".to_owned(),
            id: id.to_owned(),
            scope: Scope::Keys {
                table: RowsOf {
                    schema: "public".to_owned(),
                    name: "t".to_owned(),
                },
                keys: vec!["k".repeat(size)],
            },
        }
    }

    #[test]
    fn a_request_that_comes_again_is_taken_up_once() {
        let mut runs = Runs::default();
        assert_eq!(runs.add(request("a", 1), Lsn(1)), Ok(true));
        assert_eq!(runs.add(request("a", 1), Lsn(1)), Ok(false));
        runs.finish();
        assert_eq!(runs.add(request("a", 1), Lsn(1)), Ok(false), "it has ended");
        assert!(runs.queue.is_empty());
    }

    #[test]
    fn failures_have_a_bound_and_a_count() {
        let mut runs = Runs::default();
        runs.add(request("a", 1), Lsn(1)).unwrap();
        for number in 0..FAILURES + 7 {
            runs.queue[0].fail(number.to_string());
        }
        runs.finish();
        let failures = &runs.ended[0].failures;
        assert_eq!(failures.len(), FAILURES + 1);
        assert_eq!(failures.last().unwrap(), "and 7 more");
        runs.add(request("b", 1), Lsn(2)).unwrap();
        runs.queue[0].fail("its schema differs ".repeat(1_000));
        assert!(runs.queue[0].failures[0].len() < 500);
    }

    #[test]
    fn requests_that_wait_have_a_bound() {
        let mut runs = Runs::default();
        let size = crate::snapshot_request::MAX_BYTES / 2;
        let taken = (0..100)
            .filter(|number| runs.add(request(&number.to_string(), size), Lsn(1)) == Ok(true));
        assert_eq!(taken.count(), 7);
        assert_eq!(runs.ended.len(), ENDED, "refused, on record");
    }

    #[test]
    fn what_is_on_record_reads_back() {
        let scope = Scope::Tables {
            tables: Some(TablePatterns::parse("a.*").unwrap()),
            exclude: TablePatterns::default(),
        };
        let table = || RowsOf {
            schema: "a".to_owned(),
            name: "T".to_owned(),
        };
        let mut runs = Runs::default();
        runs.add(request("0", 1), Lsn(1)).unwrap();
        runs.queue[0].failures.push("no".to_owned());
        runs.finish();
        for (id, part) in [
            Part::Begin,
            Part::Rows {
                leaf: table(),
                after: Some("{\"id\":1}".to_owned()),
            },
            Part::Keys(7),
            Part::Ghosts(3),
            Part::Done,
        ]
        .into_iter()
        .enumerate()
        {
            let request = SnapshotRequest {
                slot: "s".to_owned(),
                id: format!("run {id}"),
                scope: scope.clone(),
            };
            runs.add(request, Lsn(0x16_B374_D848)).unwrap();
            runs.queue.last_mut().unwrap().place = Some(Place {
                table: table(),
                since: Lsn(0x16_B374_D848),
                part,
            });
        }
        let text = serde_json::to_string(&runs).unwrap();
        assert!(text.contains(r#""since":"16/B374D848""#), "{text}");
        assert_eq!(serde_json::from_str::<Runs>(&text).unwrap(), runs);
    }
}
