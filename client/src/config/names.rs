//! Whether what stands in the file is known.

use super::file::{Entry, File};
use super::suggestion::suggestion;
use super::table::{KAFKA, Table};
use crate::error::{Error, ErrorKind};

/// An error for each key that no option has.
pub(crate) fn unknown(file: &File, table: &Table) -> Vec<Error> {
    let mut errors: Vec<Error> = Vec::new();
    let mut tables: Vec<&str> = Vec::new();
    for entry in &file.entries {
        let name = entry.path.first().map_or("", String::as_str);
        let is_in_unknown_table =
            entry.path.len() > 1 && name != KAFKA && table.command(name).is_none();
        // A table's name is wrong once, however many keys it has.
        if is_in_unknown_table && tables.contains(&name) {
            continue;
        }
        if is_in_unknown_table {
            tables.push(name);
        }
        if let Some((what, hint)) = complaint(entry, table) {
            let place = format!("{}:{}", file.path.display(), entry.line);
            let error = Error::new(ErrorKind::Usage, format!("{place}: {what}"));
            errors.push(match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            });
        }
    }
    errors
}

/// What is wrong with an entry's name, and what mends it.
fn complaint(entry: &Entry, table: &Table) -> Option<(String, Option<String>)> {
    let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
    match *path.as_slice() {
        [key] if table.is_ambiguous(key) => Some((
            format!("{key} means different things to different commands"),
            Some(format!("Put it into {}.", tables_of(table, key))),
        )),
        [key] if table.having(key).next().is_some() => None,
        [name] if name == KAFKA || table.command(name).is_some() => Some((
            format!("{name} is a table"),
            Some(format!("Write [{name}], once, and its keys below.")),
        )),
        [key] => Some(unknown_key(key, &table.keys())),
        [KAFKA, ..] => None,
        [name, KAFKA, _, ..] if table.command(name).is_some() => {
            match table.command(name)?.properties {
                Some(_) => None,
                None => Some((format!("headwater {name} does not speak to Kafka"), None)),
            }
        }
        [name, key] if table.command(name).is_some() => {
            let command = table.command(name)?;
            if command.setting(key).is_some() {
                None
            } else if table.having(key).next().is_some() {
                Some((
                    format!("headwater {name} has no option --{key}"),
                    Some(match table.is_ambiguous(key) {
                        true => format!("Put it into {}.", tables_of(table, key)),
                        false => format!(
                            "Put it before the first table, or into {}.",
                            tables_of(table, key)
                        ),
                    }),
                ))
            } else {
                let keys: Vec<&str> = command.settings.iter().map(|s| s.key.as_str()).collect();
                Some(unknown_key(key, &keys))
            }
        }
        [name, ..] if table.command(name).is_some() => {
            Some((format!("unknown key \"{}\"", path.join(".")), None))
        }
        [key, ..] if table.having(key).next().is_some() => {
            Some((format!("{key} is a key, and no table"), None))
        }
        [name, ..] => {
            let commands = table.commands.iter().map(|command| command.name.as_str());
            let hint = suggestion(name, commands.chain([KAFKA])).map_or_else(
                || "Tables are [kafka] and those named as commands.".to_owned(),
                |similar| format!("Did you mean [{similar}]?"),
            );
            Some((format!("unknown table [{name}]"), Some(hint)))
        }
        [] => None,
    }
}

fn unknown_key(key: &str, keys: &[&str]) -> (String, Option<String>) {
    let hint = match suggestion(key, keys.iter().copied()) {
        Some(similar) => format!("Did you mean {similar}?"),
        None => "Keys are the long names of options, without the dashes before them.".to_owned(),
    };
    (format!("unknown key \"{key}\""), Some(hint))
}

fn tables_of(table: &Table, key: &str) -> String {
    let tables: Vec<String> = table
        .having(key)
        .map(|(command, _)| format!("[{}]", command.name))
        .collect();
    tables.join(" or ")
}
