//! Settings as the reference and the example list them: each once, in groups.

use clap::builder::PossibleValue;

use super::table::{Setting, Table};

/// The group of options without a heading.
const OTHER: &str = "Other";

/// A setting and the commands that have it.
pub(super) struct Row<'a> {
    pub(super) setting: &'a Setting,
    pub(super) commands: Vec<&'a str>,
}

/// Settings under one heading, in the order of help.
pub(super) struct Group<'a> {
    pub(super) heading: &'a str,
    pub(super) rows: Vec<Row<'a>>,
}

/// All settings. Those of one name are one where commands mean the same by it.
pub(super) fn groups(table: &Table) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for command in &table.commands {
        for setting in &command.settings {
            let rows = groups.iter_mut().flat_map(|group| &mut group.rows);
            let same = rows
                .into_iter()
                .find(|row| row.setting.key == setting.key && row.setting.means_the_same(setting));
            if let Some(row) = same {
                row.commands.push(&command.name);
                continue;
            }
            let heading = setting.arg.get_help_heading().unwrap_or(OTHER);
            let row = Row {
                setting,
                commands: vec![&command.name],
            };
            match groups.iter_mut().find(|group| group.heading == heading) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group {
                    heading,
                    rows: vec![row],
                }),
            }
        }
    }
    // What every command has is the least of anybody's interest.
    groups.sort_by_key(|group| group.rows.iter().all(|row| row.setting.arg.is_global_set()));
    groups
}

impl Row<'_> {
    /// The help, as one sentence or several.
    pub(super) fn help(&self) -> String {
        let arg = &self.setting.arg;
        let help = arg.get_long_help().or_else(|| arg.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let words: Vec<&str> = help.split_whitespace().collect();
        let mut help = words.join(" ");
        if !help.is_empty() && !help.ends_with(['.', '…']) {
            help.push('.');
        }
        help
    }

    /// The values there are, where they can be listed.
    pub(super) fn possible_values(&self) -> Vec<PossibleValue> {
        match self.setting.arg.get_action().takes_values() {
            true => self.setting.arg.get_possible_values(),
            // True and false need no list.
            false => Vec::new(),
        }
    }

    /// The default, where there is one that is not empty.
    pub(super) fn default(&self) -> Option<String> {
        let values = self.setting.arg.get_default_values();
        let value = values.first()?.to_os_string().into_string().ok()?;
        let is_shown = !value.is_empty() && self.setting.arg.get_action().takes_values();
        is_shown.then_some(value)
    }
}
