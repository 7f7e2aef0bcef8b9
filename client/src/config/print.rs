//! `headwater config print`: what a command would go by.
//!
//! It is TOML, which can be used as the file; behind each setting stands where it is from.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::layers::Property;
use super::secret::{self, REDACTED};
use super::table::{KAFKA, Kind, Secrecy, Setting};
use super::{Environment, Purpose, Refusal, Resolved};

/// The column in which places begin, where there is room: it leaves forty for them on a terminal.
const COLUMN: usize = 40;

/// What `headwater config print` prints.
///
/// # Errors
/// What is wrong keeps a command from being described; what is missing does not.
pub fn print(
    words: &[OsString],
    environment: &Environment,
    as_json: bool,
) -> Result<String, Refusal> {
    let resolved = Resolved::new(words, environment, Purpose::Show)?;
    Ok(match as_json {
        true => resolved.json(),
        false => resolved.toml(),
    })
}

/// A setting as it is shown.
struct Shown {
    key: String,
    value: serde_json::Value,
    /// The kind of place: `command line`, `environment`, `file` or `default`.
    source: &'static str,
    /// The variable, or the file and its line.
    place: Option<String>,
}

impl Shown {
    fn origin(&self) -> &str {
        self.place.as_deref().unwrap_or(self.source)
    }
}

impl Resolved {
    fn json(&self) -> String {
        let objects = |shown: Vec<Shown>| -> Vec<serde_json::Value> {
            let shown = shown.into_iter();
            shown
                .map(|shown| {
                    serde_json::json!({
                        "name": shown.key,
                        "value": shown.value,
                        "source": shown.source,
                        "place": shown.place,
                    })
                })
                .collect()
        };
        let object = serde_json::json!({
            "command": self.command,
            "settings": objects(self.settings()),
            "kafka": objects(self.properties()),
        });
        format!("{object}\n")
    }

    fn toml(&self) -> String {
        let (own, shared): (Vec<Shown>, Vec<Shown>) = self
            .settings()
            .into_iter()
            .partition(|shown| self.table.is_ambiguous(&shown.key));
        let mut text = format!("# headwater {}\n", self.command);
        text.extend(shared.iter().map(line));
        for (table, settings) in [(KAFKA, self.properties()), (&self.command, own)] {
            if !settings.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "\n[{table}]");
            }
            text.extend(settings.iter().map(line));
        }
        text
    }

    fn settings(&self) -> Vec<Shown> {
        let Some((_, matches)) = self.matches.subcommand() else {
            return Vec::new();
        };
        let command = self.table.command(&self.command);
        let settings = command.map_or(&self.table.global, |command| &command.settings);
        settings
            .iter()
            .filter_map(|setting| self.setting(setting, matches))
            .collect()
    }

    /// A setting that has a value.
    fn setting(&self, setting: &Setting, matches: &ArgMatches) -> Option<Shown> {
        let id = setting.arg.get_id().as_str();
        let assignment = self
            .assignments
            .iter()
            .find(|assignment| assignment.setting.key == setting.key);
        let value = match setting.kind() {
            Kind::Flag => matches.get_flag(id).into(),
            Kind::Count => matches.get_count(id).into(),
            Kind::Value => value(setting, matches.get_raw(id)?.next()?),
            Kind::List => matches
                .get_raw(id)?
                .map(|text| value(setting, text))
                .collect(),
        };
        let (source, place) = if self.flags.iter().any(|flag| flag == id) {
            ("command line", None)
        } else if let Some(assignment) = assignment {
            let origin = &assignment.origin;
            (origin.kind(), Some(origin.to_string()))
        } else if matches.value_source(id) == Some(ValueSource::DefaultValue) {
            ("default", None)
        } else {
            return None;
        };
        Some(Shown {
            key: setting.key.clone(),
            value,
            source,
            place,
        })
    }

    /// Properties by their names, of each the one that counts.
    fn properties(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::new();
        let mut add = |one: Shown| {
            shown.retain(|other| other.key != one.key);
            shown.push(one);
        };
        for Property {
            name,
            value,
            origin,
        } in &self.properties
        {
            add(property(
                name,
                &value.to_string_lossy(),
                origin.kind(),
                Some(origin.to_string()),
            ));
        }
        for text in &self.property_flags {
            let text = text.to_string_lossy();
            if let Some((name, value)) = text.split_once('=') {
                add(property(name.trim(), value, "command line", None));
            }
        }
        shown
    }
}

fn property(name: &str, value: &str, source: &'static str, place: Option<String>) -> Shown {
    Shown {
        key: name.to_owned(),
        value: plain(&secret::redacted_property(name, value)),
        source,
        place,
    }
}

fn value(setting: &Setting, text: &OsStr) -> serde_json::Value {
    let text = text.to_string_lossy();
    match setting.secrecy() {
        Secrecy::Open => plain(&text),
        Secrecy::Partly => secret::redacted(&text).into(),
        Secrecy::Secret => REDACTED.into(),
    }
}

/// A number as a number.
fn plain(text: &str) -> serde_json::Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => text.into(),
    }
}

/// A line of TOML: the strings of JSON are strings of TOML, and so are its lists.
fn line(shown: &Shown) -> String {
    let setting = format!("{} = {}", shown.key, shown.value);
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        line,
        "{setting:<width$}  # {}",
        shown.origin(),
        width = COLUMN - 2
    );
    line
}
