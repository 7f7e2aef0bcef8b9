//! What a server lets be read of it: its settings `headwater.tables` and
//! `headwater.exclude_columns`.
//!
//! ```text
//! headwater.tables          := patterns                of tables: see table_pattern
//! headwater.exclude_columns := column { "," column }
//! column                    := name "." name "." name  schema, table and column
//! ```
//!
//! An empty text limits nothing. The grammar of names is that of table patterns. No schema is
//! taken for granted: `orders.card` could then be a table as well as a column.
//!
//! # A name that no table has
//!
//! Postgres cuts a name to [`NAME_BYTES`] bytes in the database's encoding, with a NOTICE at
//! most (`truncate_identifier` in `scansup.c`). A limit that was written with the whole name
//! would match nothing, and what it was to hide would be sent: such a text is refused. No
//! encoding of a server has a character in less than a byte, so what [`Limits::parse`] refuses by its
//! characters is too long in each of them; [`Limits::check`] counts the bytes themselves.
//!
//! # By which name
//!
//! `headwater.tables` is about the name that rows are sent under, as the option `tables` is: that of
//! the partitioned table at the top, or the partition's own under `partitions=leaf`. It says what
//! may be read, so that another name can only hide more. `headwater.exclude_columns` says
//! what may not, and there another name must not show more: a column is excluded under the name
//! of the partition, of the table at the top and of each between, whichever its rows are sent
//! under.

use std::fmt;

use crate::table_pattern::{
    NamePattern, PatternOf, TablePattern, TablePatternError, TablePatternErrorKind, TablePatterns,
    parse, selects,
};

/// The setting with the tables that may be sent.
pub const TABLES: &str = "headwater.tables";

/// The setting with the columns that may not.
pub const EXCLUDE_COLUMNS: &str = "headwater.exclude_columns";

/// What Postgres keeps of a name: `NAMEDATALEN` in `pg_config_manual.h`, less the byte that ends it.
pub const NAME_BYTES: usize = 63;

/// The limits of a server. None by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    tables: Option<TablePatterns>,
    columns: Vec<ColumnPattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ColumnPattern {
    table: TablePattern,
    column: NamePattern,
}

/// A setting whose text is no list of patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitError {
    /// [`TABLES`] or [`EXCLUDE_COLUMNS`].
    pub setting: &'static str,
    /// What is wrong.
    pub error: TablePatternError,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid value for setting \"{}\": {}",
            self.setting, self.error
        )
    }
}

impl std::error::Error for LimitError {}

impl Limits {
    /// Reads the values of both settings.
    ///
    /// # Errors
    /// The first that is no list of patterns, or has a name of more than [`NAME_BYTES`] characters.
    pub fn parse(tables: &str, exclude_columns: &str) -> Result<Self, LimitError> {
        let of = |setting| move |error| LimitError { setting, error };
        let tables = (!tables.is_empty())
            .then(|| table_patterns(tables).map_err(of(TABLES)))
            .transpose()?;
        let columns = if exclude_columns.is_empty() {
            Vec::new()
        } else {
            parse::list(exclude_columns, PatternOf::Column, column).map_err(of(EXCLUDE_COLUMNS))?
        };
        Ok(Limits { tables, columns })
    }

    /// Judges the values of both settings in whatever encoding they have: the grammar is one of
    /// ASCII, and whatever lies beyond it a letter, in every encoding that a server can have.
    ///
    /// # Errors
    /// As of [`Limits::parse`], but each byte counts.
    pub fn check(tables: &[u8], exclude_columns: &[u8]) -> Result<(), LimitError> {
        // A character for each byte, and back.
        let read = |bytes: &[u8]| -> String { bytes.iter().copied().map(char::from).collect() };
        let shown = |text: &str| {
            let bytes = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?'));
            String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
        };
        match Limits::parse(&read(tables), &read(exclude_columns)) {
            Ok(_) => Ok(()),
            Err(LimitError { setting, error }) => Err(LimitError {
                setting,
                error: error.map_text(shown),
            }),
        }
    }

    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        self.tables.is_none() && self.columns.is_empty()
    }

    /// Whether there are columns that may not be sent.
    pub fn excludes_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Whether [`TABLES`] names a table. Names are given unquoted, as the catalog holds them,
    /// here and below.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        self.tables.is_none()
            || selects(
                self.tables.as_ref(),
                &TablePatterns::default(),
                schema,
                table,
            )
    }

    /// Whether a table as a whole may not be sent, as `schema.table.*` is among the columns.
    pub fn hides(&self, schema: &str, table: &str) -> bool {
        self.columns
            .iter()
            .any(|pattern| pattern.column.is_any() && pattern.table.matches(schema, table))
    }

    /// Whether a column may not be sent.
    pub fn excludes(&self, schema: &str, table: &str, column: &str) -> bool {
        self.columns
            .iter()
            .any(|pattern| pattern.column.matches(column) && pattern.table.matches(schema, table))
    }
}

fn table_patterns(text: &str) -> Result<TablePatterns, TablePatternError> {
    let patterns = TablePatterns::parse(text)?;
    for pattern in &patterns {
        let longest = pattern.longest_name();
        refuse_too_long(longest, PatternOf::Table, || pattern.to_string())?;
    }
    Ok(patterns)
}

fn column(text: &str) -> Result<(ColumnPattern, usize), TablePatternError> {
    let (table, column, end) = parse::column_pattern(text)?;
    let longest = table.longest_name().max(column.literal_chars());
    refuse_too_long(longest, PatternOf::Column, || format!("{table}.{column}"))?;
    Ok((ColumnPattern { table, column }, end))
}

fn refuse_too_long(
    longest: usize,
    of: PatternOf,
    text: impl FnOnce() -> String,
) -> Result<(), TablePatternError> {
    if longest <= NAME_BYTES {
        return Ok(());
    }
    let kind = TablePatternErrorKind::NameTooLong(longest);
    Err(TablePatternError::new(kind, of, text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tables: &str, columns: &str) -> Limits {
        match Limits::parse(tables, columns) {
            Ok(limits) => limits,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn nothing_is_limited_where_nothing_is_said() {
        let none = limits("", "");
        assert!(none.is_none());
        assert!(none.names("pg_catalog", "pg_class"));
        assert!(!none.hides("a", "t") && !none.excludes("a", "t", "c"));
    }

    #[test]
    fn tables_are_named_as_by_the_option() {
        let limits = limits("shop.*, orders", "");
        for (schema, table, expected) in [
            ("shop", "anything", true),
            ("public", "orders", true),
            ("public", "other", false),
            ("pg_catalog", "pg_authid", false),
        ] {
            assert_eq!(limits.names(schema, table), expected, "{schema}.{table}");
        }
    }

    #[test]
    fn a_column_is_excluded_by_all_three_names() {
        let limits = limits("", "*.*.ssn, shop.\"My.Table\".C*d, secret.*.*");
        for (schema, table, column, expected) in [
            ("any", "thing", "ssn", true),
            ("any", "thing", "ssn2", false),
            ("shop", "My.Table", "card", true),
            ("shop", "My.Table", "cd", true),
            ("shop", "My.Table", "Card", false),
            ("shop", "my.table", "card", false),
            ("secret", "t", "x", true),
        ] {
            let excluded = limits.excludes(schema, table, column);
            assert_eq!(excluded, expected, "{schema}.{table}.{column}");
        }
        assert!(limits.hides("secret", "t"));
        assert!(!limits.hides("any", "thing"), "it has other columns");
    }

    #[test]
    fn a_text_that_is_no_list_is_refused_with_the_way_to_write_one() {
        for (columns, message, hint) in [
            (
                "t.c",
                "too few names in column pattern \"t.c\"",
                "schema.table.column",
            ),
            (
                "c",
                "too few names in column pattern \"c\"",
                "schema.table.column",
            ),
            (
                "a.b.c.d",
                "too many names in column pattern \"a.b.c.d\"",
                "schema.table.column",
            ),
            ("a.b.c,", "a column pattern is empty", "schema.table.column"),
            (
                "a..c",
                "a name is missing in column pattern \"a..c\"",
                "schema.table.column",
            ),
            (
                "a.b.c d",
                "unexpected 'd' in column pattern \"a.b.c d\"",
                "double quotes",
            ),
            (" ", "a column pattern is empty", "schema.table.column"),
        ] {
            let error = Limits::parse("", columns).expect_err(columns);
            assert_eq!(
                error.to_string(),
                format!("invalid value for setting \"headwater.exclude_columns\": {message}")
            );
            assert!(
                error.error.hint().contains(hint),
                "{columns}: {}",
                error.error.hint()
            );
        }
        let error = Limits::parse("a.b.c", "").expect_err("three names");
        assert_eq!(error.setting, TABLES);
    }

    #[test]
    fn a_name_that_postgres_would_have_cut_is_refused() {
        let (fits, too_long) = ("n".repeat(63), "n".repeat(64));
        for name in [
            fits.clone(),
            format!("\"{fits}\""),
            format!("*{fits}*"),
            format!("{}*{}", "n".repeat(31), "n".repeat(32)),
        ] {
            let columns = format!("{name}.{name}.{name}");
            assert!(Limits::parse(&format!("s.{name}"), &columns).is_ok());
        }
        for name in [
            too_long.clone(),
            format!("\"{too_long}\""),
            format!("*{too_long}*"),
            format!("{}*{}", "n".repeat(32), "n".repeat(32)),
        ] {
            for (tables, columns) in [
                (format!("a,s.{name}"), String::new()),
                (format!("{name}.*"), String::new()),
                (String::new(), format!("{name}.t.c")),
                (String::new(), format!("a.b.c,s.{name}.c")),
                (String::new(), format!("s.t.{name}")),
            ] {
                let error = Limits::parse(&tables, &columns).expect_err(&name);
                let sentence = error.to_string();
                assert!(
                    sentence.contains("a name of 64 bytes matches nothing in"),
                    "{sentence}"
                );
                assert!(error.error.hint().contains("63 bytes"), "{sentence}");
            }
        }
    }

    #[test]
    fn a_name_is_as_long_as_its_bytes_in_the_encoding_that_it_has() {
        // 40 characters: 80 bytes in UTF-8, 40 in LATIN1.
        let name = "é".repeat(40);
        let latin: Vec<u8> = [b"t.", [0xe9; 40].as_slice()].concat();
        assert_eq!(Limits::check(&latin, b""), Ok(()));
        let utf8 = format!("a.b.c, a.b.\"{name}!\"");
        let error = Limits::check(b"", utf8.as_bytes()).expect_err("81 bytes");
        assert_eq!(
            error.to_string(),
            format!(
                "invalid value for setting \"headwater.exclude_columns\": \
                 a name of 81 bytes matches nothing in column pattern \"a.b.\"{name}!\"\""
            )
        );
        assert!(Limits::parse("", &utf8).is_ok(), "41 characters");
    }
}
