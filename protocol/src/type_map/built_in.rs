//! The types that the server comes with, by their OIDs in `pg_type.dat`.

use super::Kind;

/// A type that the server comes with and that is not made of others.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// `pg_type.oid`.
    pub oid: u32,
    /// As people write it.
    pub name: &'static str,
    /// How its values are read and written.
    pub kind: Kind,
}

/// How values of a type are written; none for a type that is made of others, or that a user or an
/// extension has made.
pub fn built_in(oid: u32) -> Option<Kind> {
    BUILT_INS
        .iter()
        .find(|built_in| built_in.oid == oid)
        .map(|built_in| built_in.kind)
}

const fn of(oid: u32, name: &'static str, kind: Kind) -> BuiltIn {
    BuiltIn { oid, name, kind }
}

/// Every base type of the server, the common ones first. What it has none of for itself, such
/// as a type of a later release, goes by its text.
pub static BUILT_INS: &[BuiltIn] = &[
    of(23, "integer", Kind::Int4),
    of(20, "bigint", Kind::Int8),
    of(21, "smallint", Kind::Int2),
    of(25, "text", Kind::Text),
    of(1043, "varchar", Kind::Text),
    of(1042, "char(n)", Kind::Text),
    of(16, "boolean", Kind::Bool),
    of(1700, "numeric", Kind::Numeric),
    of(1184, "timestamptz", Kind::TimestampTz),
    of(1114, "timestamp", Kind::Timestamp),
    of(1082, "date", Kind::Date),
    of(2950, "uuid", Kind::Uuid),
    of(3802, "jsonb", Kind::Jsonb),
    of(114, "json", Kind::Json),
    of(701, "double precision", Kind::Float8),
    of(700, "real", Kind::Float4),
    of(17, "bytea", Kind::Bytea),
    of(1083, "time", Kind::Time),
    of(1266, "timetz", Kind::TimeTz),
    of(1186, "interval", Kind::Interval),
    of(790, "money", Kind::Money),
    of(19, "name", Kind::Name),
    of(18, "\"char\"", Kind::Char),
    of(142, "xml", Kind::Xml),
    of(1560, "bit", Kind::Bits),
    of(1562, "varbit", Kind::Bits),
    of(869, "inet", Kind::Inet),
    of(650, "cidr", Kind::Cidr),
    of(829, "macaddr", Kind::MacAddr),
    of(774, "macaddr8", Kind::MacAddr8),
    of(26, "oid", Kind::Oid),
    of(28, "xid", Kind::Oid),
    of(29, "cid", Kind::Oid),
    of(5069, "xid8", Kind::Xid8),
    of(3220, "pg_lsn", Kind::PgLsn),
    of(27, "tid", Kind::Tid),
    of(600, "point", Kind::Output),
    of(601, "lseg", Kind::Output),
    of(602, "path", Kind::Output),
    of(603, "box", Kind::Output),
    of(604, "polygon", Kind::Output),
    of(628, "line", Kind::Output),
    of(718, "circle", Kind::Output),
    of(3614, "tsvector", Kind::Output),
    of(3615, "tsquery", Kind::Output),
    of(3642, "gtsvector", Kind::Output),
    of(4072, "jsonpath", Kind::Output),
    of(1790, "refcursor", Kind::Output),
    of(24, "regproc", Kind::Output),
    of(2202, "regprocedure", Kind::Output),
    of(2203, "regoper", Kind::Output),
    of(2204, "regoperator", Kind::Output),
    of(2205, "regclass", Kind::Output),
    of(2206, "regtype", Kind::Output),
    of(4096, "regrole", Kind::Output),
    of(4089, "regnamespace", Kind::Output),
    of(4191, "regcollation", Kind::Output),
    of(3734, "regconfig", Kind::Output),
    of(3769, "regdictionary", Kind::Output),
    of(1033, "aclitem", Kind::Output),
    of(2970, "txid_snapshot", Kind::Output),
    of(5038, "pg_snapshot", Kind::Output),
    of(194, "pg_node_tree", Kind::Output),
    of(3361, "pg_ndistinct", Kind::Output),
    of(3402, "pg_dependencies", Kind::Output),
    of(5017, "pg_mcv_list", Kind::Output),
    of(4600, "pg_brin_bloom_summary", Kind::Output),
    of(4601, "pg_brin_minmax_multi_summary", Kind::Output),
];
