//! What was found, as lines for people and as JSON for programs.
//!
//! A line is as wide as a terminal of 80 columns at most. Cures alone are as long as they are: they
//! are there to be copied.

use std::io::{self, Write};

use serde::Serialize;

use super::check::{Area, Check, ID_WIDTH};
use super::finding::{By, Cure, Finding, Severity};
use super::words::count;
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::{COLUMNS, CURE, FAIL, FAINT, HEADING, OK, WARNING, paint, plain, wrap};

/// The word that a line begins with is this wide, and two blanks stand before it.
const WORD_WIDTH: usize = 4;

/// Where the sentence of a line begins.
const SENTENCE: usize = 2 + WORD_WIDTH + 2 + ID_WIDTH + 2;

/// Where a cure's heading begins; the cure itself stands two further.
const HEADING_INDENT: usize = 2 + WORD_WIDTH + 2;

/// Everything that was found, in the order in which it is mended.
pub(super) struct Report {
    entries: Vec<Entry>,
    /// The command that starts the stream.
    command: String,
}

struct Entry {
    area: &'static str,
    check: &'static Check,
    finding: Finding,
}

/// As `docs/doctor.md` describes it.
#[derive(Serialize)]
struct Json<'a> {
    /// Of this form. Fields may come to it; one that goes or changes its meaning counts it up.
    version: u32,
    worst: Severity,
    checks: Vec<JsonCheck<'a>>,
    /// None where something has to be mended first.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    area: &'a str,
    id: &'a str,
    severity: Severity,
    found: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<&'a Cure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Report {
    pub(super) fn new(command: String) -> Self {
        Report {
            entries: Vec::new(),
            command,
        }
    }

    pub(super) fn add(
        &mut self,
        area: &'static Area,
        check: &'static Check,
        findings: Vec<Finding>,
    ) {
        let entries = findings.into_iter().map(|finding| Entry {
            area: area.name,
            check,
            finding,
        });
        self.entries.extend(entries);
    }

    fn worst(&self) -> Severity {
        let severities = self.entries.iter().map(|entry| entry.finding.severity);
        severities.max().unwrap_or(Severity::Ok)
    }

    /// The first thing that would keep a stream from starting decides the exit code, as it would
    /// that of a start.
    pub(super) fn verdict(&self, strict: bool) -> Result<()> {
        let of = |severity: Severity| {
            let entries = self.entries.iter();
            entries.filter(move |entry| entry.finding.severity == severity)
        };
        let fails = of(Severity::Fail).count();
        if let Some(first) = of(Severity::Fail).next() {
            let kind = match first.finding.kind {
                ErrorKind::Gap => ErrorKind::Gap,
                ErrorKind::Usage => ErrorKind::Usage,
                _ => ErrorKind::Failed,
            };
            let what = count(fails, "thing keeps", "things keep");
            let text = format!("{what} a stream from starting, {} first", first.check.id);
            return Err(Error::new(kind, text));
        }
        let (warnings, skipped) = (of(Severity::Warning).count(), of(Severity::Skipped).count());
        if strict && warnings + skipped > 0 {
            return Err(Error::failed(format!(
                "{}, and {} not looked at, which --strict does not let pass",
                count(warnings, "warning", "warnings"),
                count(skipped, "thing", "things")
            )));
        }
        Ok(())
    }

    pub(super) fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let checks = self.entries.iter().map(|entry| JsonCheck {
            area: entry.area,
            id: entry.check.id,
            severity: entry.finding.severity,
            found: &entry.finding.found,
            cure: entry.finding.cure.as_ref(),
            hint: entry.finding.hint.as_deref(),
        });
        let worst = self.worst();
        let json = Json {
            version: 1,
            worst,
            checks: checks.collect(),
            next: (worst < Severity::Fail).then_some(&*self.command),
        };
        serde_json::to_writer(&mut *out, &json)?;
        writeln!(out)
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for area in self.entries.chunk_by(|one, next| one.area == next.area) {
            if let Some(first) = area.first() {
                writeln!(out, "{}", paint(HEADING, first.area))?;
            }
            // What could not be looked at for one and the same reason has one line.
            for alike in area.chunk_by(Entry::is_skipped_as) {
                match alike {
                    [entry] => print_entry(out, entry)?,
                    entries => print_skipped(out, entries)?,
                }
            }
            writeln!(out)?;
        }
        self.print_summary(out)
    }

    fn print_summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let number = |severity| {
            let entries = self.entries.iter();
            let of = entries.filter(|entry| entry.finding.severity == severity);
            of.count()
        };
        let fails = number(Severity::Fail);
        writeln!(
            out,
            "{fails} to mend, {}, {} not looked at, {} well",
            count(number(Severity::Warning), "warning", "warnings"),
            number(Severity::Skipped),
            number(Severity::Ok)
        )?;
        match fails {
            0 => writeln!(
                out,
                "\nA stream can start:\n  {}",
                paint(CURE, &self.command)
            ),
            _ => writeln!(out, "\nMend what fails, from the top, and run this again."),
        }
    }
}

impl Entry {
    fn is_skipped_as(&self, other: &Entry) -> bool {
        self.finding.severity == Severity::Skipped
            && other.finding.severity == Severity::Skipped
            && self.finding.found == other.finding.found
    }
}

fn print_entry(out: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let Finding {
        severity,
        found,
        cure,
        hint,
        ..
    } = &entry.finding;
    print_line(out, *severity, entry.check.id, found)?;
    if let Some(cure) = cure {
        print_cure(out, cure)?;
    }
    if let Some(hint) = hint {
        for line in wrap(hint, COLUMNS - HEADING_INDENT) {
            writeln!(out, "{:HEADING_INDENT$}{line}", "")?;
        }
    }
    Ok(())
}

fn print_skipped(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let who = format!("{} checks", entries.len());
    print_line(out, Severity::Skipped, &who, &first.finding.found)
}

/// The line of a finding, and as many more as its sentence takes.
fn print_line(out: &mut dyn Write, severity: Severity, who: &str, found: &str) -> io::Result<()> {
    let (word, style) = match severity {
        Severity::Ok => ("ok", OK),
        Severity::Skipped => ("skip", FAINT),
        Severity::Warning => ("warn", WARNING),
        Severity::Fail => ("FAIL", FAIL),
    };
    let word = paint(style, &format!("{word:<WORD_WIDTH$}"));
    let mut lines = wrap(found, COLUMNS - SENTENCE).into_iter();
    let first = lines.next().unwrap_or_default();
    writeln!(out, "  {word}  {who:<ID_WIDTH$}  {first}")?;
    for line in lines {
        writeln!(out, "{:SENTENCE$}{line}", "")?;
    }
    Ok(())
}

fn print_cure(out: &mut dyn Write, cure: &Cure) -> io::Result<()> {
    let heading = match (cure.by, &cure.database) {
        (By::Sql, None) => "in psql, as a superuser:".to_owned(),
        (By::Sql, Some(database)) => format!("in psql, as a superuser, in database {database}:"),
        (By::Shell, _) => "in a shell:".to_owned(),
        (By::Hba, _) => "in pg_hba.conf, as its first line, then reload the server:".to_owned(),
        (By::Option, _) => "as an option of stream and doctor:".to_owned(),
    };
    writeln!(out, "{:HEADING_INDENT$}{}", "", plain(&heading))?;
    for line in cure.text.lines() {
        writeln!(out, "{:HEADING_INDENT$}  {}", "", paint(CURE, line))?;
    }
    if cure.restart {
        writeln!(out, "{:HEADING_INDENT$}then restart the server", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::doctor::check::AREAS;

    fn report(findings: Vec<Finding>) -> Report {
        let mut report = Report::new("headwater stream".to_owned());
        for finding in findings {
            report.add(&AREAS[0], &AREAS[0].checks[0], vec![finding]);
        }
        report
    }

    fn text(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut text = anstream::StripStream::new(Vec::new());
        print(&mut text).unwrap();
        String::from_utf8(text.into_inner()).unwrap()
    }

    fn broken() -> Finding {
        Finding::fail("something long that is to be broken into lines, ".repeat(4))
            .cured_by(Cure::restarted("wal_level", "'logical'"))
            .with_hint("And something to know before it is done, which is long as well, in words.")
    }

    #[test]
    fn lines_fit_a_terminal_and_cures_stand_as_they_are() {
        let printed = text(|out| report(vec![broken(), Finding::ok("fine")]).print(out));
        for line in printed.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        let cure =
            "          ALTER SYSTEM SET wal_level = 'logical';\n        then restart the server\n";
        assert!(printed.contains(cure), "{printed}");
        assert!(!printed.contains("headwater stream"), "{printed}");
    }

    #[test]
    fn what_could_not_be_looked_at_for_one_reason_has_one_line() {
        let findings = vec![
            Finding::skipped("gone"),
            Finding::skipped("gone"),
            Finding::ok("a"),
        ];
        let printed = text(|out| report(findings).print(out));
        assert_eq!(printed.matches("gone").count(), 1, "{printed}");
        assert!(printed.contains("2 checks"), "{printed}");
    }

    #[test]
    fn json_has_the_worst_and_the_command_once_nothing_is_to_be_mended() {
        let json = |findings| -> serde_json::Value {
            serde_json::from_str(&text(|out| report(findings).print_json(out))).unwrap()
        };
        let failing = json(vec![Finding::ok("fine"), broken(), Finding::warning("hm")]);
        assert_eq!(failing["worst"], "fail");
        assert_eq!(failing["checks"][1]["cure"]["restart"], true);
        assert_eq!(failing["checks"][1]["cure"]["by"], "sql");
        assert!(failing.get("next").is_none());
        let passing = json(vec![Finding::warning("hm"), Finding::skipped("no")]);
        assert_eq!(passing["worst"], "warning");
        assert_eq!(passing["next"], "headwater stream");
    }

    #[test]
    fn the_exit_code_is_that_of_the_start() {
        let gap = Finding::refusal(&Error::new(ErrorKind::Gap, "gone"));
        let code = |findings, strict| {
            let verdict = report(findings).verdict(strict);
            verdict.map_or_else(|error| error.kind().exit_code(), |()| 0)
        };
        assert_eq!(
            code(vec![Finding::ok("a"), Finding::warning("b")], false),
            0
        );
        assert_eq!(code(vec![Finding::ok("a"), Finding::warning("b")], true), 1);
        assert_eq!(code(vec![Finding::skipped("a")], true), 1);
        assert_eq!(
            code(vec![Finding::ok("a"), broken(), gap.clone()], false),
            1
        );
        assert_eq!(code(vec![gap, broken()], false), 3);
    }
}
