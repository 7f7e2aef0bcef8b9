//! Which tables: `-t` and `-T`, as every command that works on tables has them.

use clap::Args;
use headwater_protocol::table_pattern::{TablePatternError, TablePatterns};

/// The tables.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Tables")]
pub struct TableOptions {
    /// Tables, `schema.table` with `*` as wildcard; all where it is not given
    #[arg(
        short = 't',
        long = "table",
        value_name = "PATTERN",
        value_parser = patterns,
    )]
    pub tables: Vec<TablePatterns>,

    /// Tables to leave out, whatever --table says
    #[arg(
        short = 'T',
        long = "exclude-table",
        value_name = "PATTERN",
        value_parser = patterns,
    )]
    pub exclude_tables: Vec<TablePatterns>,
}

impl TableOptions {
    /// The tables asked for, none for all.
    pub fn included(&self) -> Option<TablePatterns> {
        (!self.tables.is_empty()).then(|| merge(&self.tables))
    }

    /// The tables left out.
    pub fn excluded(&self) -> TablePatterns {
        merge(&self.exclude_tables)
    }
}

fn merge(lists: &[TablePatterns]) -> TablePatterns {
    lists.iter().flatten().cloned().collect()
}

pub(super) fn patterns(text: &str) -> Result<TablePatterns, String> {
    TablePatterns::parse(text)
        .map_err(|error: TablePatternError| format!("{error}. {}", error.hint()))
}
