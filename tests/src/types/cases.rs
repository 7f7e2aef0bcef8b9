//! Values of each type: the edges of its range, and random ones.

use super::random_text as text;
use crate::Random;

/// What to try of one type.
pub(super) struct Case {
    pub(super) edges: Vec<String>,
    pub(super) random: Option<RandomValue>,
}

type RandomValue = fn(&mut Random) -> String;

/// The values of a type of this name on a server of this major version; none if nobody
/// thought of it.
pub(super) fn case(type_name: &str, version: u32) -> Option<Case> {
    if let Some(element) = element_of_range(type_name) {
        let element = case(element, version)?;
        return Some(ranges(&element, type_name.ends_with("multirange")));
    }
    let (edges, random): (&[&str], Option<RandomValue>) = match type_name {
        "bool" => (&["true", "false"], None),
        "int2" => (
            &["0", "-32768", "32767"],
            Some(|r| (r.number() as i16).to_string()),
        ),
        "int4" => (
            &["0", "-2147483648", "2147483647"],
            Some(|r| (r.number() as i32).to_string()),
        ),
        "int8" => (
            &[
                "0",
                "-9223372036854775808",
                "9223372036854775807",
                "9007199254740993",
            ],
            Some(|r| (r.number() as i64 >> r.below(64)).to_string()),
        ),
        "float4" => (
            &[
                "0",
                "-0",
                "1e-45",
                "3.4028235e38",
                "0.1",
                "1234567.8",
                "1e6",
                "1e15",
                "NaN",
                "Infinity",
                "-Infinity",
            ],
            Some(text::float4),
        ),
        "float8" => (
            &[
                "0",
                "-0",
                "5e-324",
                "1.7976931348623157e308",
                "0.1",
                "1e15",
                "1e16",
                "1e-5",
                "0.0001",
                "123456789012345680",
                "NaN",
                "Infinity",
                "-Infinity",
            ],
            Some(text::float8),
        ),
        "numeric" => return Some(numerics()),
        "money" => (
            &[
                "0",
                "-0.05",
                "999.99",
                "1000",
                "92233720368547758.07",
                "-92233720368547758.08",
            ],
            Some(|r| format!("{:.2}", (r.number() as i64 >> r.below(64)) as f64 / 1e6)),
        ),
        "oid" | "xid" | "cid" => (
            &["0", "4294967295"],
            Some(|r| (r.number() as u32).to_string()),
        ),
        "xid8" => (
            &["0", "18446744073709551615"],
            Some(|r| r.number().to_string()),
        ),
        "pg_lsn" => (
            &["0/0", "FFFFFFFF/FFFFFFFF", "1/A"],
            Some(|r| {
                format!(
                    "{:X}/{:X}",
                    r.number() as u32,
                    r.number() as u32 >> r.below(32)
                )
            }),
        ),
        "tid" => (
            &["(0,0)", "(4294967295,65535)", "(65536,1)"],
            Some(|r| format!("({},{})", r.number() as u32, r.number() as u16)),
        ),
        "text" | "varchar" | "bpchar" | "citext" | "refcursor" | "character_data" => {
            return Some(texts(8_000));
        }
        "name" | "sql_identifier" => return Some(texts(60)),
        "char" => return Some(chars(version)),
        "yes_or_no" => (&["YES", "NO"], None),
        "cardinal_number" => (&["0", "2147483647"], None),
        "bytea" => (
            &["", "\\x00ff80", "\\x5c22"],
            Some(|r| {
                format!(
                    "\\x{}",
                    text::of(r, 60, &["00", "7f", "80", "ff", "5c", "41"])
                )
            }),
        ),
        "uuid" => (
            &[
                "00000000-0000-0000-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
            ],
            Some(|r| format!("{:016x}{:016x}", r.number(), r.number())),
        ),
        "bit" | "varbit" => (
            &["", "0", "1", "10110", "11111111", "000000001"],
            Some(|r| text::of(r, 70, &["0", "1"])),
        ),
        "date" => (
            &[
                "2024-02-29",
                "0001-01-01",
                "0001-01-01 BC",
                "4714-11-24 BC",
                "0044-03-15 BC",
                "5874897-12-31",
                "12024-01-01",
                "infinity",
                "-infinity",
            ],
            Some(|r| text::date(r, 5_874_897)),
        ),
        "time" => (
            &["00:00", "23:59:59.999999", "24:00", "12:34:56.1"],
            Some(text::time),
        ),
        "timetz" => (
            &[
                "00:00+00",
                "24:00:00+15:59:59",
                "12:34:56.123456-08:30",
                "01:02:03-15:59:59",
                "00:00-00:00:01",
            ],
            Some(|r| {
                format!(
                    "{}{:+03}:{:02}",
                    text::time(r),
                    r.below(29) as i64 - 14,
                    r.below(60)
                )
            }),
        ),
        "timestamp" | "timestamptz" | "time_stamp" => (
            &[
                "2024-02-29 12:34:56.789",
                "0001-01-01 BC",
                "4714-11-24 00:00:00 BC",
                "294276-12-31 23:59:59.999999",
                "1999-12-31 23:59:59.999999",
                "1969-12-31 23:59:59.000001",
                "infinity",
                "-infinity",
            ],
            Some(text::timestamp),
        ),
        "interval" => return Some(intervals(version)),
        "inet" | "cidr" => (
            &[
                "0.0.0.0/0",
                "255.255.255.255",
                "10.0.0.0/8",
                "::/0",
                "::1",
                "::ffff:1.2.3.4",
                "::1.2.3.4",
                "1::",
                "2001:db8::/32",
                "fe80:0:0:1::",
                "1:0:0:2:0:0:0:3",
                "::5:0:0:0",
            ],
            Some(text::address),
        ),
        "macaddr" => (
            &["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"],
            Some(|r| format!("{:012x}", r.number() >> 16)),
        ),
        "macaddr8" => (
            &["00:00:00:00:00:00:00:00"],
            Some(|r| format!("{:016x}", r.number())),
        ),
        "json" => return Some(documents(true)),
        "jsonb" => return Some(documents(false)),
        "jsonpath" => (
            &[
                "$",
                "$.a[*] ? (@.b > 1.5 && @.c like_regex \"x\\\"y\")",
                "strict $.\"q\\\"\"",
                "lax $[last]",
            ],
            None,
        ),
        "xml" => (
            &[
                "<a/>",
                "",
                "plain text",
                "\n<a/>",
                "\n",
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><b/>",
                "<?xml version=\"1.0\" standalone=\"yes\"?>\n<b/>",
                "<?xml version=\"1.1\"?><b/>",
                "<?xml-stylesheet href=\"s\"?><a/>",
                "<a b=\"%s\">ü\"</a>",
            ],
            None,
        ),
        "hstore" => (
            &[
                "",
                "a=>1",
                "a=>NULL",
                "a=>\"NULL\", b=>\"\"",
                "\"q\\\"\\\\\"=>\"\\t %s\"",
                "\"\"=>\"empty key\"",
                "日=>ü, true=>false, 1=>2.50",
            ],
            Some(text::hstore),
        ),
        "point" => (
            &["(0,0)", "(-0,1e300)", "(NaN,Infinity)", "(1.5,-2)"],
            Some(|r| text::points(r, 1)),
        ),
        "lseg" => (
            &["[(0,0),(1,1)]"],
            Some(|r| format!("[{}]", text::points(r, 2))),
        ),
        "box" => (
            &["(0,0),(1,1)", "(1,1),(0,0)"],
            Some(|r| text::points(r, 2)),
        ),
        "path" => (
            &["[(0,0)]", "((0,0),(1,1))"],
            Some(|r| format!("[{}]", text::points(r, 4))),
        ),
        "polygon" => (
            &["((0,0))", "((0,0),(1,1),(2,0))"],
            Some(|r| format!("({})", text::points(r, 5))),
        ),
        "line" => (&["{1,-1,0}", "{0,1,-2.5}"], None),
        "circle" => (
            &["<(0,0),0>", "<(1,2),1e10>"],
            Some(|r| format!("<{},{}>", text::points(r, 1), r.below(99))),
        ),
        "tsvector" => (&["", "fat:2A,5 cat:1 'it''s':3B", "'a b' 'c\\\\d'"], None),
        "tsquery" => (
            &[
                "",
                "fat & (rat | !cat)",
                "'super star':*AB <-> x",
                "a <3> b",
            ],
            None,
        ),
        "int2vector" | "oidvector" => (
            &["", "0", "1 2 3"],
            Some(|r| format!("{} {}", r.below(9), r.below(32_767))),
        ),
        "aclitem" => (
            &[
                "postgres=r/postgres",
                "=X/postgres",
                "postgres=arwdDxt/postgres",
            ],
            None,
        ),
        "pg_snapshot" | "txid_snapshot" => (&["10:10:", "10:20:10,14,15"], None),
        // Its cast from text takes no numbers.
        "regclass" => (&["pg_class", "information_schema.tables"], None),
        "regproc" => (&["now", "0", "4294967295"], None),
        "regprocedure" => (&["abs(integer)", "0"], None),
        "regoper" => (&["||/", "0"], None),
        "regoperator" => (&["+(integer,integer)", "0"], None),
        "regtype" => (&["integer", "integer[]", "0", "4294967295"], None),
        "regrole" => (&["postgres", "0"], None),
        "regnamespace" => (&["pg_catalog", "0"], None),
        "regconfig" => (&["english", "0"], None),
        "regdictionary" => (&["simple", "0"], None),
        "regcollation" => (&["\"C\"", "0"], None),
        // The tests' own.
        "mood" => (&["sad", "it's \"complicated\"", "日本 %s"], None),
        "pair" => (&["(1,\"{a,NULL}\")", "(,)", "(-1,{})"], None),
        "nested" => (
            &[
                "(\"(1,\"\"{a,b}\"\")\",\"{NULL,\"\"(2,)\"\"}\",sad,2024-01-01)",
                "(,,,)",
            ],
            None,
        ),
        // No text makes a value of these. Those of the first row come out of catalogs, in
        // the catalogs' own row types; those of the second live in indexes alone.
        "pg_node_tree"
        | "pg_ndistinct"
        | "pg_dependencies"
        | "pg_mcv_list"
        | "pg_brin_bloom_summary"
        | "pg_brin_minmax_multi_summary"
        | "gtsvector"
        | "ghstore" => (&[], None),
        _ => return None,
    };
    Some(Case {
        edges: strings(edges),
        random,
    })
}

fn element_of_range(type_name: &str) -> Option<&str> {
    Some(match type_name {
        "int4range" | "int4multirange" => "int4",
        "int8range" | "int8multirange" => "int8",
        "numrange" | "nummultirange" => "numeric",
        "daterange" | "datemultirange" => "date",
        "tsrange" | "tsmultirange" => "timestamp",
        "tstzrange" | "tstzmultirange" => "timestamptz",
        // The tests' own.
        "textrange" | "textmultirange" => "text",
        _ => return None,
    })
}

/// Ranges that need no order between elements. What begins at the largest element has no
/// canonical form where elements are counted, so these begin or end at the others.
fn ranges(element: &Case, multi: bool) -> Case {
    let quoted = |element: &String| {
        let escaped = element.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    };
    let mut edges: Vec<String> = element
        .edges
        .iter()
        .filter(|edge| {
            !matches!(
                edge.as_str(),
                "2147483647" | "9223372036854775807" | "5874897-12-31"
            )
        })
        .filter(|edge| edge.len() < 10_000)
        .map(quoted)
        .flat_map(|edge| {
            [
                format!("[{edge},)"),
                format!("(,{edge})"),
                format!("[{edge},{edge}]"),
            ]
        })
        .chain(["empty".to_owned(), "(,)".to_owned()])
        .collect();
    if multi {
        edges.retain(|range| range != "empty");
        edges = edges.iter().map(|range| format!("{{{range}}}")).collect();
        edges.push("{}".to_owned());
    }
    Case {
        edges,
        random: None,
    }
}

/// What is not ASCII is no text before 16.
fn chars(version: u32) -> Case {
    let mut edges = strings(&["", "x", "\"", "\\", "\t", "\u{1f}", "\u{7f}"]);
    if version >= 16 {
        edges.extend(strings(&["\\200", "\\377"]));
    }
    Case {
        edges,
        random: None,
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn numerics() -> Case {
    let exact = [
        "0",
        "0.00",
        "-0.0000",
        "-1.50",
        "1e40",
        "1e-40",
        "10000",
        "0.0001",
        "9999.9999",
        "1e130",
        "-1e-130",
        "12345678901234567890123456789.123456789",
        "NaN",
        "Infinity",
        "-Infinity",
    ];
    let mut edges: Vec<String> = exact.iter().map(|&edge| edge.to_owned()).collect();
    // The most digits before the point, and behind it.
    edges.push("9".repeat(131_072));
    edges.push(format!("-1.{}7", "0".repeat(16_382)));
    Case {
        edges,
        random: Some(text::numeric),
    }
}

fn texts(longest: usize) -> Case {
    let mut edges: Vec<String> = [
        "",
        "plain",
        "%s %n %d %%",
        "tab\there",
        "line\nfeed\r\n",
        "\u{1}\u{1f}\u{7f}",
        "\"quoted\" \\ / back",
        "Grüße, 世界 🐘",
        "\u{2028}\u{2029}\u{feff}",
        "{\"not\":\"json\"}",
        "NULL",
        "{}",
        "  spaces  ",
    ]
    .iter()
    .map(|&edge| edge.to_owned())
    .collect();
    // Compressed where there is room for it.
    edges.push("long ".repeat(longest / 5));
    Case {
        edges,
        random: Some(|r| text::unicode(r, 40)),
    }
}

fn intervals(version: u32) -> Case {
    let mut edges: Vec<String> = [
        "0",
        "1 year",
        "-1 year",
        "1 mon",
        "-1 mon 1 day",
        "1 day -1 mon 00:00:01",
        "-1 day 01:00",
        "1 day -01:00",
        "-00:00:00.000001",
        "100:00:00",
        "-100000000:59:59.999999",
        "178956970 years 7 mons",
        "-178956970 years -8 mons",
        "2147483647 days",
        "-2147483648 days",
    ]
    .iter()
    .map(|&edge| edge.to_owned())
    .collect();
    if version >= 17 {
        edges.extend(["infinity".to_owned(), "-infinity".to_owned()]);
    }
    Case {
        edges,
        random: Some(text::interval),
    }
}

/// A `json` keeps its text; CR, LF and TAB in it would differ between lines and frames.
fn documents(as_text: bool) -> Case {
    let mut edges: Vec<String> = [
        "null",
        "true",
        "\"\"",
        "0",
        "-12.50",
        "[]",
        "{}",
        "[[],{}]",
        "{\"a\": [1, 2.50, null], \"a\": \"twice\"}",
        "\"\\u0041\\n\\\"%s\\\\\"",
        "{\"b\":{\"c\":[true,\"世界\"]},\"\":1.50}",
        "123456789012345678901234567890.5",
    ]
    .iter()
    .map(|&edge| edge.to_owned())
    .collect();
    edges.push(format!("{}{}", "[".repeat(500), "]".repeat(500)));
    edges.push(format!("{}1{}", "{\"a\": ".repeat(300), "}".repeat(300)));
    edges.push(format!("[{}0]", "\"element\", 1, ".repeat(200)));
    if as_text {
        edges.extend(["  \"spaced\"  ".to_owned(), "1e400".to_owned()]);
    }
    Case {
        edges,
        random: Some(|r| text::document(r, 4)),
    }
}
