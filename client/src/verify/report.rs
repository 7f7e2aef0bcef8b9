//! What was found, and how it is said on stdout.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use headwater_protocol::Lsn;
use serde::Serialize;
use serde_json::value::RawValue;

use super::avro::Form;
use super::compare::Difference;
use super::records::Read;
use super::subject::Subjects;
use crate::error::{Error, Result};
use crate::source::catalog::TableName;

/// What is said of a key that was not found to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It differs.
    Is(Difference),
    /// It could not be compared.
    Undecided,
}

/// How many looks it took, and what they found.
pub(super) struct Report {
    /// The point of the first look.
    point: Lsn,
    looks: u32,
    tables: Vec<Table>,
    unkeyed: Vec<String>,
    limit: usize,
}

/// What was found of one table.
#[derive(Serialize)]
struct Table {
    schema: String,
    table: String,
    topic: String,
    rows: u64,
    records: u64,
    /// Records that do not say their LSN.
    foreign: u64,
    #[serde(flatten)]
    found: Found,
    /// How its keys are read, where they are in Avro.
    #[serde(skip)]
    form: Option<Arc<Form>>,
    /// What was found before it was sent again.
    #[serde(skip_serializing_if = "Found::is_empty")]
    repaired: Found,
}

/// Keys that are not the same, by kind.
#[derive(Default, Serialize)]
struct Found {
    missing: Keys,
    extra: Keys,
    different: Keys,
    undecided: Keys,
}

/// How many keys, and the first of them by their bytes.
#[derive(Default, Serialize)]
struct Keys {
    count: u64,
    #[serde(serialize_with = "as_json")]
    keys: BTreeSet<Box<[u8]>>,
}

impl Report {
    /// Nothing is found yet. At most `limit` keys of a kind are kept.
    pub(super) fn new(subjects: &Subjects, point: Lsn, limit: usize) -> Self {
        let tables = subjects.list.iter().map(|subject| Table {
            schema: subject.name.schema.clone(),
            table: subject.name.table.clone(),
            topic: subject.topic.clone(),
            rows: 0,
            records: 0,
            foreign: 0,
            found: Found::default(),
            form: subject.form.clone(),
            repaired: Found::default(),
        });
        Report {
            point,
            looks: 0,
            tables: tables.collect(),
            unkeyed: subjects.unkeyed.iter().map(TableName::display).collect(),
            limit,
        }
    }

    /// Another look begins.
    pub(super) fn looks(&mut self) {
        self.looks += 1;
    }

    /// What the tables hold.
    pub(super) fn rows(&mut self, rows: &[u64]) {
        for (table, rows) in self.tables.iter_mut().zip(rows) {
            table.rows += rows;
        }
    }

    /// What was read of the topics.
    pub(super) fn records(&mut self, read: &[Read]) {
        for (table, read) in self.tables.iter_mut().zip(read) {
            table.records += read.records;
            table.foreign += read.foreign;
        }
    }

    /// What was found of a key.
    pub(super) fn add(&mut self, subject: u32, key: &[u8], finding: Finding) {
        let limit = self.limit;
        let Some(table) = self.tables.get_mut(subject as usize) else {
            return;
        };
        let keys = match finding {
            Finding::Is(Difference::Missing) => &mut table.found.missing,
            Finding::Is(Difference::Extra) => &mut table.found.extra,
            Finding::Is(Difference::Different) => &mut table.found.different,
            Finding::Undecided => &mut table.found.undecided,
        };
        keys.count += 1;
        let json = table.form.as_ref().and_then(|form| form.json_key(key));
        keys.keys
            .insert(json.map_or_else(|| key.into(), |json| json.into_bytes().into()));
        if keys.keys.len() > limit {
            keys.keys.pop_last();
        }
    }

    /// What differs was sent again: what is found from now on is what is left of it.
    pub(super) fn repair(&mut self) {
        for table in &mut self.tables {
            let undecided = std::mem::take(&mut table.found.undecided);
            table.repaired = std::mem::take(&mut table.found);
            table.found.undecided = undecided;
        }
    }

    /// Whether any key differs.
    pub(super) fn differs(&self) -> bool {
        self.tables.iter().any(|table| table.found.differing() > 0)
    }

    /// Names in the log what the numbers do not say.
    pub(super) fn warn(&self) {
        if !self.unkeyed.is_empty() {
            tracing::warn!(
                tables = %self.unkeyed.join(", "),
                "tables without a key are not verified: no record says which row it is"
            );
        }
        for table in self.tables.iter().filter(|table| table.foreign > 0) {
            tracing::warn!(
                topic = table.topic,
                records = table.foreign,
                "the topic holds records without hw.lsn"
            );
        }
    }

    /// An error unless every key is the same.
    pub(super) fn verdict(&self) -> Result<()> {
        let wrong: u64 = self
            .tables
            .iter()
            .map(|table| table.found.differing())
            .sum();
        let undecided = self.tables.iter().map(|table| table.found.undecided.count);
        let undecided: u64 = undecided.sum();
        if wrong > 0 {
            let and = match undecided {
                0 => String::new(),
                count => format!(", and {count} could not be decided"),
            };
            return Err(Error::failed(format!(
                "topics do not equal their tables: {wrong} keys differ{and}"
            ))
            .with_hint(
                "To have the stream send these keys again, as the tables have them, add --repair.",
            ));
        }
        if undecided > 0 {
            return Err(Error::failed(format!(
                "topics are not proven to equal their tables: {undecided} keys could not be decided"
            ))
            .with_hint(
                "Keys that are written all the time may be decided by another run; rows whose \
                 records lack columns (--toast mark) cannot be.",
            ));
        }
        Ok(())
    }

    fn by_name(&self) -> Vec<&Table> {
        let mut tables: Vec<&Table> = self.tables.iter().collect();
        tables.sort_by_key(|table| (&table.schema, &table.table));
        tables
    }

    /// Prints the report, for people.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for table in self.by_name() {
            table.print(out)?;
        }
        for table in &self.unkeyed {
            writeln!(out, "{table}: no key, not verified")?;
        }
        let looks = match self.looks {
            1 => "one look".to_owned(),
            looks => format!("{looks} looks"),
        };
        writeln!(out, "compared at {}, in {looks}", self.point)?;
        out.flush()
    }

    /// Prints the report as one JSON object.
    pub(super) fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Json<'r> {
            equal: bool,
            lsn: String,
            looks: u32,
            tables: Vec<&'r Table>,
            unkeyed: &'r [String],
        }
        let json = Json {
            equal: self.verdict().is_ok(),
            lsn: self.point.to_string(),
            looks: self.looks,
            tables: self.by_name(),
            unkeyed: &self.unkeyed,
        };
        serde_json::to_writer(&mut *out, &json)?;
        writeln!(out)?;
        out.flush()
    }
}

impl Found {
    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Keys)> {
        let kinds = [
            ("missing", &self.missing),
            ("extra", &self.extra),
            ("different", &self.different),
            ("undecided", &self.undecided),
        ];
        kinds.into_iter().filter(|(_, keys)| keys.count > 0)
    }

    fn is_empty(&self) -> bool {
        self.kinds().next().is_none()
    }

    fn differing(&self) -> u64 {
        self.missing.count + self.extra.count + self.different.count
    }

    /// The keys, a line each.
    fn print(&self, what: &str, out: &mut impl Write) -> io::Result<()> {
        for (kind, keys) in self.kinds() {
            for key in &keys.keys {
                write!(out, "  {what}{kind} ")?;
                print_key(key, out)?;
                writeln!(out)?;
            }
            let more = keys.count - keys.keys.len() as u64;
            if more > 0 {
                writeln!(out, "  {more} more {what}{kind}")?;
            }
        }
        Ok(())
    }
}

impl Table {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let kinds = self.found.kinds();
        let mut said: Vec<String> = kinds
            .map(|(kind, keys)| format!("{} {kind}", keys.count))
            .collect();
        if said.is_empty() {
            said.push("equal".to_owned());
        }
        let repaired = self.repaired.differing();
        if repaired > 0 {
            said.push(format!("{repaired} sent again"));
        }
        writeln!(
            out,
            "{}.{}: {} rows, {} records: {}",
            self.schema,
            self.table,
            self.rows,
            self.records,
            said.join(", ")
        )?;
        self.repaired.print("was ", out)?;
        self.found.print("", out)
    }
}

/// A key that we wrote is JSON, without any control character. One that somebody else
/// wrote may be anything.
fn print_key(key: &[u8], out: &mut impl Write) -> io::Result<()> {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains(char::is_control) => out.write_all(key),
        _ => write!(out, "{}", key.escape_ascii()),
    }
}

fn as_json<S: serde::Serializer>(
    keys: &BTreeSet<Box<[u8]>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(|key| Key(key)))
}

/// The JSON that a key is, or a string if it is none.
struct Key<'k>(&'k [u8]);

impl Serialize for Key<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&RawValue>(self.0) {
            Ok(json) => json.serialize(serializer),
            Err(_) => serializer.collect_str(&self.0.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::verify::subject::Subject;

    fn report(limit: usize) -> Report {
        let subjects = Subjects {
            list: vec![Subject {
                name: TableName {
                    schema: "shop".to_owned(),
                    table: "items".to_owned(),
                },
                topic: "shop.items".to_owned(),
                form: None,
                schemas: None,
                relation: Some(1),
                estimated_rows: None,
            }],
            sources: Vec::new(),
            of_source: vec![0],
            unkeyed: Vec::new(),
        };
        let mut report = Report::new(&subjects, Lsn(0x16_0000_0001), limit);
        report.rows(&[3]);
        report.records(&[Read {
            records: 7,
            foreign: 0,
        }]);
        report.looks();
        report
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn equal_tables_are_one_line_each() {
        let report = report(1);
        assert_eq!(
            text(&report),
            "shop.items: 3 rows, 7 records: equal\ncompared at 16/1, in one look\n"
        );
        assert!(report.verdict().is_ok());
    }

    #[test]
    fn what_was_sent_again_is_told_from_what_is_left() {
        let mut report = report(5);
        report.add(0, b"1", Finding::Is(Difference::Missing));
        report.add(0, b"2", Finding::Is(Difference::Extra));
        assert!(report.differs());
        report.repair();
        assert!(!report.differs() && report.verdict().is_ok());
        report.add(0, b"2", Finding::Is(Difference::Extra));
        assert_eq!(
            text(&report),
            "shop.items: 3 rows, 7 records: 1 extra, 2 sent again\n  \
               was missing 1\n  \
               was extra 2\n  \
               extra 2\n\
             compared at 16/1, in one look\n"
        );
        assert!(report.verdict().is_err());
    }

    #[test]
    fn keys_are_printed_up_to_the_limit_and_counted_beyond() {
        let mut report = report(1);
        for key in [&b"{\"id\":2}"[..], b"{\"id\":1}"] {
            report.add(0, key, Finding::Is(Difference::Missing));
        }
        report.add(0, b"\x1b[2J", Finding::Is(Difference::Extra));
        report.add(0, b"{\"id\":3}", Finding::Undecided);
        assert_eq!(
            text(&report),
            "shop.items: 3 rows, 7 records: 2 missing, 1 extra, 1 undecided\n  \
               missing {\"id\":1}\n  \
               1 more missing\n  \
               extra \\x1b[2J\n  \
               undecided {\"id\":3}\n\
             compared at 16/1, in one look\n"
        );
        let error = report.verdict().unwrap_err();
        assert_eq!(
            error.to_string(),
            "topics do not equal their tables: 3 keys differ, and 1 could not be decided"
        );
        let mut json = Vec::new();
        report.print_json(&mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["equal"], false);
        assert_eq!(json["tables"][0]["missing"]["count"], 2);
        assert_eq!(json["tables"][0]["missing"]["keys"][0]["id"], 1);
        assert_eq!(json["tables"][0]["extra"]["keys"][0], "\\x1b[2J");
    }
}
