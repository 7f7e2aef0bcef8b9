//! The tables that are written to, one for each thing that tables differ in.
//!
//! Every row bears a stamp: who wrote it (`writer`), as which of its changes (`sequence`)
//! and in which transaction (`xid`). A record that turns up anywhere can so be traced to the
//! change that made it, without a look at the rest of the row.

use std::fmt;

/// A table, whose topic has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// A plain table with an integer for a key.
    Orders,
    /// A key of two columns, one of them text.
    Lines,
    /// `REPLICA IDENTITY FULL`.
    Notes,
    /// Large values out of line, which most updates leave where they are.
    Documents,
    /// Altered again and again by the one writer that it belongs to.
    Shifting,
    /// One row for each transaction: it tells whether a commit whose answer was lost came
    /// to pass.
    Ledger,
    /// Very many rows in one transaction.
    Bulk,
    /// Now and then a row that no encoder can print.
    Poisoned,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 8] = [
        Table::Orders,
        Table::Lines,
        Table::Notes,
        Table::Documents,
        Table::Shifting,
        Table::Ledger,
        Table::Bulk,
        Table::Poisoned,
    ];

    /// Its name, and its topic's.
    pub fn name(self) -> &'static str {
        match self {
            Table::Orders => "orders",
            Table::Lines => "lines",
            Table::Notes => "notes",
            Table::Documents => "documents",
            Table::Shifting => "shifting",
            Table::Ledger => "ledger",
            Table::Bulk => "bulk",
            Table::Poisoned => "poisoned",
        }
    }

    /// The key's columns, as `select` lists them.
    pub fn key_columns(self) -> &'static str {
        match self {
            Table::Lines => "item, n",
            Table::Ledger => "writer, number",
            _ => "id",
        }
    }

    /// Whether its updates may leave values out of the WAL, so that the client reads rows.
    pub fn is_fetched(self) -> bool {
        self == Table::Documents
    }
}

/// A row's key. No two writers have one in common, so that the order of a key's changes is
/// the order in which its writer made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where the row is.
    pub table: Table,
    /// Whose it is.
    pub writer: u32,
    /// Which of the writer's.
    pub number: u64,
}

/// More than there are writers: keys of one integer hold both number and writer.
pub const WRITERS_MAX: u32 = 16;

impl Key {
    /// The key of the row's records.
    pub fn json(&self) -> String {
        match self.table {
            Table::Lines => format!(
                "{{\"item\":\"item {}\",\"n\":{}}}",
                self.number, self.writer
            ),
            Table::Ledger => format!("{{\"writer\":{},\"number\":{}}}", self.writer, self.number),
            _ => format!("{{\"id\":{}}}", self.id()),
        }
    }

    /// The values of the key's columns in SQL.
    pub fn values(&self) -> String {
        match self.table {
            Table::Lines => format!("'item {}', {}", self.number, self.writer),
            Table::Ledger => format!("{}, {}", self.writer, self.number),
            _ => self.id().to_string(),
        }
    }

    /// The key's columns and their values as a condition in SQL.
    pub fn condition(&self) -> String {
        format!("({}) = ({})", self.table.key_columns(), self.values())
    }

    fn id(&self) -> u64 {
        self.number * u64::from(WRITERS_MAX) + u64::from(self.writer)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table.name(), self.json())
    }
}

/// Makes all of the tables. The ledger's key includes the writer, who is part of its stamp.
pub const CREATE: &str = "
    create table orders (id bigint primary key, writer int, sequence bigint, xid bigint, body text);
    create table lines (item text, n int, writer int, sequence bigint, xid bigint, body text,
                        primary key (item, n));
    create table notes (id bigint primary key, writer int, sequence bigint, xid bigint, body text);
    alter table notes replica identity full;
    create table documents (id bigint primary key, writer int, sequence bigint, xid bigint, body text);
    alter table documents alter column body set storage external;
    create table shifting (id bigint primary key, writer int, sequence bigint, xid bigint, body text,
                           width int);
    create table ledger (writer int, number bigint, sequence bigint, xid bigint,
                         primary key (writer, number));
    create table bulk (id bigint primary key, writer int, sequence bigint, xid bigint, body text);
    create type unprintable;
    create function unprintable_in(cstring) returns unprintable immutable strict language internal as 'oidin';
    create function unprintable_out(unprintable) returns cstring immutable strict language internal as 'enum_out';
    create type unprintable (input = unprintable_in, output = unprintable_out,
                             internallength = 4, alignment = int4, passedbyvalue);
    create table poisoned (id bigint primary key, writer int, sequence bigint, xid bigint,
                           value unprintable)";
