//! What each type of Postgres becomes: one table, by which values are written and from which
//! `docs/type-map.md` is generated.
//!
//! A [`Kind`] is how a value is read and written; the types that the server comes with have
//! theirs here, by OID, which is the same on every server. What users and extensions make
//! goes by how it was made, a [`Constructed`] type, and whatever is left by the text of its
//! output function. So every type is something, and none is left out.

mod built_in;
mod reference;

pub use built_in::{BUILT_INS, BuiltIn, built_in};
pub use reference::reference;

use crate::avro::{self, Decimal, Schema};

/// How values of a type that is not made of others are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `oid`, and `xid` and `cid`, which are 32 bits without a sign as well.
    Oid,
    /// 64 bits without a sign.
    Xid8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `money`.
    Money,
    /// Text of any length.
    Text,
    /// Text of at most 63 bytes.
    Name,
    /// `"char"`, a byte.
    Char,
    /// `xml`: text, but for a declaration that its output function takes away.
    Xml,
    /// `bytea`.
    Bytea,
    /// `uuid`.
    Uuid,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timetz`.
    TimeTz,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// `interval`.
    Interval,
    /// `json`, a text.
    Json,
    /// `jsonb`, a tree.
    Jsonb,
    /// `bit` and `varbit`.
    Bits,
    /// `inet`.
    Inet,
    /// `cidr`.
    Cidr,
    /// `macaddr`.
    MacAddr,
    /// `macaddr8`.
    MacAddr8,
    /// `pg_lsn`.
    PgLsn,
    /// `tid`.
    Tid,
    /// Any other: the text of its output function.
    Output,
}

/// How types that are made of others are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constructed {
    /// A type with checks of its own.
    Domain,
    /// A type with labels.
    Enum,
    /// A row type, and the rows of a table as values.
    Composite,
    /// A true array: `int2vector` and `oidvector` too.
    Array,
    /// A range.
    Range,
    /// A multirange.
    Multirange,
    /// `hstore` of the extension of that name.
    Hstore,
    /// Whatever else an extension or a user has made.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Kind] = &[
        Kind::Bool,
        Kind::Int2,
        Kind::Int4,
        Kind::Int8,
        Kind::Oid,
        Kind::Xid8,
        Kind::Float4,
        Kind::Float8,
        Kind::Numeric,
        Kind::Money,
        Kind::Text,
        Kind::Name,
        Kind::Char,
        Kind::Xml,
        Kind::Bytea,
        Kind::Uuid,
        Kind::Date,
        Kind::Time,
        Kind::TimeTz,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Interval,
        Kind::Json,
        Kind::Jsonb,
        Kind::Bits,
        Kind::Inet,
        Kind::Cidr,
        Kind::MacAddr,
        Kind::MacAddr8,
        Kind::PgLsn,
        Kind::Tid,
        Kind::Output,
    ];

    /// The schema of its values in Avro. Only a `numeric` depends on the type modifier, -1
    /// where there is none.
    pub fn schema(self, modifier: i32) -> Schema {
        match self {
            Kind::Bool => Schema::Boolean,
            Kind::Int2 | Kind::Int4 => Schema::Int,
            Kind::Int8 | Kind::Oid => Schema::Long,
            Kind::Float4 => Schema::Float,
            Kind::Float8 => Schema::Double,
            Kind::Numeric => Decimal::of_modifier(modifier).map_or(Schema::String, Schema::Decimal),
            Kind::Bytea => Schema::Bytes,
            Kind::Uuid => Schema::Uuid,
            Kind::Date => Schema::Date,
            Kind::Time => Schema::TimeMicros,
            Kind::TimeTz => avro::timetz_schema(),
            Kind::Timestamp => Schema::LocalTimestampMicros,
            Kind::TimestampTz => Schema::TimestampMicros,
            Kind::Interval => avro::interval_schema(),
            Kind::Json | Kind::Jsonb => Schema::json(),
            Kind::Xid8
            | Kind::Money
            | Kind::Text
            | Kind::Name
            | Kind::Char
            | Kind::Xml
            | Kind::Bits
            | Kind::Inet
            | Kind::Cidr
            | Kind::MacAddr
            | Kind::MacAddr8
            | Kind::PgLsn
            | Kind::Tid
            | Kind::Output => Schema::String,
        }
    }
}
