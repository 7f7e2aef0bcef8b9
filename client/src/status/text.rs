//! The report for people, 80 columns wide.

use std::time::Duration;

use super::report::{Asked, Client, Postgres, Report};
use super::server::Copy;
use super::stream::{Limit, Snapshot, Standing, Stream};
use super::trouble::Trouble;
use crate::terminal::{
    COLUMNS, CURE, Cell, Column, FAINT, Level, OK, Table, bytes, count, counted, cut, duration,
    paint, plain, share, width, wrap,
};

/// Where what is told begins, behind what it is about.
const LABEL: usize = 10;

/// Of a bar.
const BAR: usize = 20;

/// A table's name beside a bar.
const NAME: usize = 24;

/// An answer that is older is said to be.
const OLD: f64 = 10.0;

impl Report {
    /// Its lines, without their ends.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.asked();
        lines.push(String::new());
        if !self.streams.is_empty() {
            lines.extend(table(&self.streams).lines(COLUMNS));
            lines.push(String::new());
        }
        let progress = self.progress();
        if !progress.is_empty() {
            lines.extend(progress);
            lines.push(String::new());
        }
        for trouble in &self.troubles {
            lines.extend(trouble.lines());
        }
        if self.is_well() {
            lines.push(paint(OK, "all is well"));
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Everybody has answered, and nothing is wrong.
    fn is_well(&self) -> bool {
        let all_said = self.postgres.answer.is_some()
            && self.kafka.as_ref().is_none_or(|it| it.answer.is_some())
            && self.client.as_ref().is_none_or(|it| it.answer.is_some());
        all_said && self.troubles.is_empty() && !self.streams.is_empty()
    }

    /// Who was asked, and what they said that is of no one stream.
    fn asked(&self) -> Vec<String> {
        let mut lines = line("Postgres", &said(&self.postgres, postgres));
        if let Some(kafka) = &self.kafka {
            let text = said(kafka, |it| {
                counted(it.recorded as u64, "stream on record", "streams on record")
            });
            lines.extend(line("Kafka", &format!("{}, {text}", kafka.name)));
        }
        if let Some(client) = &self.client {
            let text = said(client, client_text);
            lines.extend(line("Client", &format!("{}, {text}", client.name)));
        }
        lines
    }

    fn progress(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let of_client = self
            .client
            .as_ref()
            .and_then(|client| client.answer.as_ref());
        let under_way = of_client
            .and_then(|client| client.snapshot.as_ref())
            .filter(|snapshot| snapshot.tables_done < snapshot.tables);
        match under_way {
            Some(snapshot) => {
                let name = format!("{} of {} tables", snapshot.tables_done, snapshot.tables);
                lines.extend(bar(
                    "snapshot",
                    &name,
                    snapshot.rows,
                    snapshot.estimated_rows,
                    &rows(
                        snapshot.rows,
                        snapshot.estimated_rows,
                        snapshot.rows_per_second,
                    ),
                ));
            }
            None => lines.extend(self.copies.iter().flat_map(Copy::lines)),
        }
        for stream in &self.streams {
            if let Some(snapshot) = &stream.snapshot {
                lines.extend(snapshot.lines());
            }
        }
        lines
    }
}

/// What somebody said, or that nothing was said.
fn said<T>(asked: &Asked<T>, tell: impl Fn(&T) -> String) -> String {
    match (&asked.answer, &asked.error, asked.age_seconds) {
        (Some(answer), _, Some(age)) if age >= OLD => {
            let age = duration(Duration::from_secs_f64(age));
            format!("{} ({age} ago)", tell(answer))
        }
        (Some(answer), ..) => tell(answer),
        (None, Some(_), _) => "no answer".to_owned(),
        (None, None, _) => "asking".to_owned(),
    }
}

fn postgres(server: &Postgres) -> String {
    let mut text = format!("{}, database {}", server.server_version, server.database);
    if let Some(rate) = server.wal_rate {
        text.push_str(&format!("; {} of WAL a second", bytes(rate as u64)));
    }
    text.push_str(&match server.max_slot_wal_keep_size {
        Some(limit) => format!("; a slot may keep {}", bytes(limit)),
        None => "; a slot may keep all".to_owned(),
    });
    text.push_str(&match (server.disk_free, server.disk_unknown) {
        (Some(free), _) => format!("; {} free on its disk", bytes(free)),
        (None, Some(why)) => format!("; room on its disk unknown: {why}"),
        (None, None) => String::new(),
    });
    text
}

fn client_text(client: &Client) -> String {
    let mut parts = Vec::new();
    match client.ready {
        Some(true) => parts.push("ready".to_owned()),
        Some(false) => parts.push("not ready".to_owned()),
        None => {}
    }
    if let Some(rate) = client.records_per_second {
        parts.push(format!("{} records/s", count(rate.round() as u64)));
    }
    if let Some(rate) = client.bytes_per_second {
        parts.push(format!("{}/s", bytes(rate.round() as u64)));
    }
    if let Some(number) = client.delivered_records {
        parts.push(format!("{} delivered", count(number)));
    }
    if let Some(number) = client.in_flight_records {
        parts.push(format!("{} on their way", count(number)));
    }
    parts.join(", ")
}

fn table(streams: &[Stream]) -> Table {
    let mut table = Table::new([
        Column::names("SLOT"),
        Column::names("DATABASE"),
        Column::words("STATE"),
        Column::numbers("LAG"),
        Column::numbers("BEHIND"),
        Column::numbers("KEEPS"),
        Column::numbers("FULL IN"),
    ]);
    for stream in streams {
        let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), bytes);
        let state = Cell::new(stream.state.level().style(), stream.state.word());
        table.row([
            (&stream.slot.name).into(),
            (&stream.slot.database).into(),
            state,
            size(stream.lag_bytes).into(),
            behind(stream).into(),
            size(stream.retained_bytes).into(),
            full_in(stream).into(),
        ]);
    }
    table
}

fn behind(stream: &Stream) -> String {
    let Some(seconds) = stream.lag_seconds else {
        return "-".to_owned();
    };
    let text = duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    match stream.lag_seconds_at_least {
        true => format!("> {text}"),
        false => text,
    }
}

fn full_in(stream: &Stream) -> String {
    match (stream.limit, stream.seconds_until_limit) {
        _ if matches!(stream.state, Standing::Lost | Standing::Missing) => "-".to_owned(),
        (Some(Limit::MaxSlotWalKeepSize | Limit::Disk), Some(seconds)) => {
            duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }
        // Nothing is written, or there was one look.
        (Some(_), None) => "-".to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

impl Snapshot {
    fn lines(&self) -> Vec<String> {
        let name = self.table.as_deref().unwrap_or("waits for its turn");
        match self.part {
            "rows" => bar(
                "copy",
                name,
                self.rows,
                self.estimated_rows,
                &rows(self.rows, self.estimated_rows, self.rows_per_second),
            ),
            _ => {
                let text = format!(
                    "{} tombstones for rows that are gone",
                    count(self.tombstones)
                );
                bar("copy", name, self.rows, Some(self.rows), &text)
            }
        }
    }
}

impl Copy {
    fn lines(&self) -> Vec<String> {
        let text = format!("{} rows of this part", count(self.rows));
        bar("copy", &self.table, self.first_page, self.pages, &text)
    }
}

fn rows(rows: u64, estimate: Option<u64>, rate: Option<f64>) -> String {
    let mut text = format!("{} rows", count(rows));
    if let Some(rate) = rate {
        text.push_str(&format!(", {}/s", count(rate.round() as u64)));
        let left = estimate.map(|estimate| estimate.saturating_sub(rows) as f64 / rate);
        if let Some(left) = left.and_then(|left| Duration::try_from_secs_f64(left).ok()) {
            text.push_str(&format!(", {} left", duration(left)));
        }
    }
    text
}

/// `label  name  ████░░░░  40 %  text`, in two lines where one is too short; without the bar where
/// the whole is unknown.
fn bar(label: &str, name: &str, part: u64, whole: Option<u64>, text: &str) -> Vec<String> {
    let name = cut(&plain(name), NAME).into_owned();
    let mut line = format!("{label:<LABEL$}{name}");
    if let Some(whole) = whole {
        let full = u128::from(part.min(whole)) * BAR as u128 / u128::from(whole.max(1));
        let full = usize::try_from(full).unwrap_or(BAR);
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
        line.push_str(&format!("  {bar} {:>5}", share(part, whole)));
    }
    if width(&line) + 2 + width(text) <= COLUMNS {
        return vec![format!("{line}  {text}")];
    }
    vec![line, format!("{:LABEL$}{text}", "")]
}

impl Trouble {
    /// The level, the sentence, and on lines of its own what mends it.
    fn lines(&self) -> Vec<String> {
        let level = self.level;
        let mut lines = Vec::new();
        for (number, text) in wrap(&self.message, COLUMNS - LABEL).iter().enumerate() {
            let word = if number == 0 { level.word() } else { "" };
            let blanks = " ".repeat(LABEL - width(word));
            let word = paint(level.style(), word);
            lines.push(format!("{word}{blanks}{text}"));
        }
        for cure in self.cure.iter().flat_map(|cure| cure.lines()) {
            let cure = match cure.starts_with("headwater ") {
                true => folded(cure, COLUMNS - LABEL),
                false => wrap(cure, COLUMNS - LABEL),
            };
            lines.extend(
                cure.iter()
                    .map(|line| format!("{:LABEL$}{}", "", paint(CURE, line))),
            );
        }
        lines
    }
}

/// A command of a shell in lines that can be pasted as they are: cut between words, with a
/// backslash behind what goes on.
fn folded(command: &str, columns: usize) -> Vec<String> {
    let mut is_quoted = false;
    let words = command.split(|c| {
        is_quoted ^= c == '\'';
        c == ' ' && !is_quoted
    });
    // An option and its value stay together.
    let mut parts: Vec<String> = Vec::new();
    for word in words {
        match parts.last_mut() {
            Some(option) if option.starts_with('-') && !word.starts_with('-') => {
                option.push(' ');
                option.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if width(line) + width(&part) + 3 <= columns => {
                line.push(' ');
                line.push_str(&part);
            }
            Some(line) => {
                line.push_str(" \\");
                lines.push(format!("  {part}"));
            }
            None => lines.push(part),
        }
    }
    lines
}

/// `label     text`, wrapped, all of it faint but for the label.
fn line(label: &str, text: &str) -> Vec<String> {
    let wrapped = wrap(text, COLUMNS - LABEL);
    let lines = wrapped.iter().enumerate().map(|(number, text)| {
        let label = if number == 0 { label } else { "" };
        format!("{label:<LABEL$}{}", paint(FAINT, text))
    });
    lines.collect()
}

/// What a line in the log, or the end of the command, says of it.
pub(super) fn verdict(report: &Report) -> String {
    let worst = report
        .troubles
        .iter()
        .filter(|it| it.level == Level::Fail)
        .count();
    match worst {
        1 => "something is wrong".to_owned(),
        worst => format!("{worst} things are wrong"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_folded_between_its_words() {
        let command = "headwater snapshot -d shop -t 'public.\"a b\"' -b kafka:9092";
        assert_eq!(folded(command, 80), [command]);
        assert_eq!(
            folded(command, 34),
            [
                "headwater snapshot -d shop \\",
                "  -t 'public.\"a b\"' \\",
                "  -b kafka:9092",
            ]
        );
    }

    #[test]
    fn what_does_not_fit_beside_a_bar_stands_below() {
        assert_eq!(
            bar("copy", "public.t", 1, Some(2), "7 rows"),
            ["copy      public.t  ██████████░░░░░░░░░░  50 %  7 rows"]
        );
        let text = "1,234,567,890 rows, 123,456/s, 12 min left";
        assert_eq!(
            bar("copy", "public.t", 1, Some(2), text),
            [
                "copy      public.t  ██████████░░░░░░░░░░  50 %".to_owned(),
                format!("          {text}")
            ]
        );
        assert_eq!(bar("copy", "t", 1, None, "7 rows"), ["copy      t  7 rows"]);
    }
}
