#![allow(clippy::unwrap_used)]

use super::*;

fn parse(options: &[(&str, &str)]) -> Result<PluginOptions, OptionError> {
    PluginOptions::parse(
        options
            .iter()
            .map(|(name, argument)| (*name, Some(*argument))),
    )
}

fn parsed(options: &[(&str, &str)]) -> PluginOptions {
    parse(options).unwrap_or_else(|error| panic!("{options:?}: {error}"))
}

/// The message and the hint of the error that `options` must be.
fn refused(options: &[(&str, &str)]) -> (String, String) {
    match parse(options) {
        Ok(options) => panic!("accepted: {options:?}"),
        Err(error) => (error.message, error.hint.unwrap_or_default()),
    }
}

#[test]
fn no_options_mean_lines_of_every_change() {
    let options = parsed(&[]);
    assert_eq!(options, PluginOptions::default());
    assert_eq!(options.output, Output::Lines);
    assert_eq!(options.envelope, Envelope::Change);
    assert_eq!(options.operations, Operations::ALL);
    assert!(options.selects("shop", "orders"));
}

#[test]
fn every_option_can_be_given() {
    let options = parsed(&[
        ("output", "frames"),
        ("format", "json"),
        ("envelope", "change"),
        ("tables", "shop.*"),
        ("exclude_tables", "shop.*_log"),
        ("operations", "insert, delete"),
        ("origin", "none"),
        ("partitions", "leaf"),
        ("numbers", "string"),
        ("enum", "string"),
        ("encoding", "assume-utf8"),
        ("quarantine", "1/2:3, 0/1:0,1/2:3"),
        ("batch_bytes", "1024"),
        ("max_row_bytes", "268435456"),
        ("protocol", "1"),
    ]);
    assert_eq!(
        options,
        PluginOptions {
            output: Output::Frames,
            format: Format::Json,
            envelope: Envelope::Change,
            tables: Some(TablePatterns::parse("shop.*").unwrap()),
            exclude_tables: TablePatterns::parse("shop.*_log").unwrap(),
            operations: Operations {
                insert: true,
                delete: true,
                ..Operations::NONE
            },
            origin: Origin::None,
            partitions: Partitions::Leaf,
            numbers: Numbers::String,
            enums: Enums::String,
            encoding: Encoding::AssumeUtf8,
            batch_bytes: 1024,
            max_row_bytes: 256 << 20,
            quarantine: vec!["0/1:0".parse().unwrap(), "1/2:3".parse().unwrap()],
            protocol: 1,
        }
    );
    assert!(options.selects("shop", "orders"));
    assert!(!options.selects("shop", "audit_log"));
    assert!(!options.selects("other", "orders"));
    assert!(options.quarantines("1/2:3".parse().unwrap()));
    assert!(!options.quarantines("1/2:4".parse().unwrap()));
}

#[test]
fn a_list_of_changes_without_end_is_refused() {
    let list = |count: usize| -> String {
        let changes: Vec<String> = (0..count).map(|seq| format!("1/2:{seq}")).collect();
        changes.join(",")
    };
    let most = parsed(&[("quarantine", &list(MAX_QUARANTINED))]);
    assert_eq!(most.quarantine.len(), MAX_QUARANTINED);
    let (message, hint) = refused(&[("quarantine", &list(MAX_QUARANTINED + 1))]);
    assert_eq!(
        message,
        "option \"quarantine\" names 1001 changes, more than 1000"
    );
    assert!(hint.contains("exclude_tables"), "{hint}");
}

#[test]
fn the_envelope_follows_the_output_wherever_it_is_given() {
    for (given, expected) in [
        (&[("output", "frames")][..], Envelope::Row),
        (&[("output", "lines")], Envelope::Change),
        (&[("envelope", "row"), ("output", "lines")], Envelope::Row),
        (
            &[("envelope", "change"), ("output", "frames")],
            Envelope::Change,
        ),
        (
            &[("output", "frames"), ("envelope", "change")],
            Envelope::Change,
        ),
    ] {
        assert_eq!(parsed(given).envelope, expected, "{given:?}");
    }
}

#[test]
fn an_unknown_option_is_quoted_and_a_close_name_offered() {
    for (given, hint) in [
        ("outputs", "Perhaps you meant the option \"output\"."),
        ("Format", "Perhaps you meant the option \"format\"."),
        ("table", "Perhaps you meant the option \"tables\"."),
        (
            "max_rowbytes",
            "Perhaps you meant the option \"max_row_bytes\".",
        ),
    ] {
        assert_eq!(
            refused(&[(given, "x")]),
            (format!("unknown option \"{given}\""), hint.to_owned())
        );
    }
    let (message, hint) = refused(&[("include-xids", "1")]);
    assert_eq!(message, "unknown option \"include-xids\"");
    assert!(
        hint.starts_with("Valid options are: output, format, "),
        "{hint}"
    );
    assert!(
        refused(&[(&"x".repeat(100_000), "")])
            .0
            .starts_with("unknown option")
    );
}

#[test]
fn an_unknown_argument_is_quoted_and_the_valid_ones_listed() {
    for (name, argument, valid) in [
        ("output", "LINES", "lines, frames"),
        ("output", "", "lines, frames"),
        ("envelope", "rows", "change, row"),
        ("origin", "local", "any, none"),
        ("partitions", "top", "root, leaf"),
        ("numbers", "float", "exact, string"),
        ("encoding", "utf8", "strict, assume-utf8"),
        (
            "quarantine",
            "1/2",
            "a comma list of LSN:SEQ, as in 16/B374D878:5, at most 1000",
        ),
        (
            "operations",
            "insert,upsert",
            "a comma list of insert, update, delete, truncate, message",
        ),
        (
            "operations",
            "",
            "a comma list of insert, update, delete, truncate, message",
        ),
        (
            "batch_bytes",
            "64kB",
            "a number of bytes from 1024 to 16777216",
        ),
        (
            "batch_bytes",
            "1023",
            "a number of bytes from 1024 to 16777216",
        ),
        (
            "batch_bytes",
            "16777217",
            "a number of bytes from 1024 to 16777216",
        ),
        (
            "batch_bytes",
            "-1",
            "a number of bytes from 1024 to 16777216",
        ),
        (
            "batch_bytes",
            "+4096",
            "a number of bytes from 1024 to 16777216",
        ),
        (
            "max_row_bytes",
            "268435457",
            "a number of bytes from 1024 to 268435456",
        ),
        (
            "max_row_bytes",
            "99999999999999999999999",
            "a number of bytes from 1024 to 268435456",
        ),
        ("protocol", "newest", "1"),
    ] {
        let (message, hint) = refused(&[(name, argument)]);
        let quoted = if name == "operations" && !argument.is_empty() {
            "upsert"
        } else {
            argument
        };
        assert_eq!(
            message,
            format!("invalid argument for option \"{name}\": \"{quoted}\"")
        );
        assert_eq!(hint, format!("Valid arguments: {valid}."));
    }
}

#[test]
fn avro_is_for_frames_and_has_its_own_enums() {
    let options = parsed(&[("format", "avro"), ("output", "frames"), ("enum", "avro")]);
    assert_eq!(options.format, Format::Avro);
    assert_eq!(options.enums, Enums::Avro);
    for (given, message) in [
        (
            &[("format", "avro")][..],
            "option \"format=avro\" needs \"output=frames\"",
        ),
        (
            &[("enum", "avro")],
            "option \"enum=avro\" needs \"format=avro\"",
        ),
        (
            &[
                ("numbers", "string"),
                ("format", "avro"),
                ("output", "frames"),
            ],
            "option \"numbers=string\" needs \"format=json\"",
        ),
    ] {
        assert_eq!(refused(given).0, message);
    }
}

#[test]
fn a_table_pattern_in_error_is_quoted() {
    let (message, hint) = refused(&[("tables", "a.b,c.d.e")]);
    assert_eq!(
        message,
        "invalid argument for option \"tables\": too many names in table pattern \"c.d.e\""
    );
    assert_eq!(
        hint,
        "Write schema.table; a name that holds a dot goes into double quotes."
    );
    assert!(parse(&[("exclude_tables", "")]).is_err());
}

#[test]
fn a_protocol_that_is_not_spoken_is_refused_with_both_numbers() {
    for asked in ["0", "2", "65537"] {
        let (message, _) = refused(&[("protocol", asked)]);
        assert_eq!(
            message,
            format!("protocol version {asked} was asked for, but this plugin speaks 1")
        );
    }
}

#[test]
fn a_missing_argument_and_a_repeated_option_are_refused() {
    let error = PluginOptions::parse([("output", None)]).unwrap_err();
    assert_eq!(error.message, "option \"output\" needs an argument");
    assert_eq!(
        error.hint.as_deref(),
        Some("Valid arguments: lines, frames.")
    );
    assert_eq!(
        refused(&[("origin", "any"), ("output", "lines"), ("origin", "any")]).0,
        "option \"origin\" is given twice"
    );
}

#[test]
fn a_default_that_is_an_argument_means_the_same_as_nothing() {
    for option in OPTIONS {
        let is_in_words = option.default.contains(' ') || option.default == "none";
        if !is_in_words || option.values().contains(option.default) {
            assert_eq!(
                parsed(&[(option.name, option.default)]),
                parsed(&[]),
                "{}",
                option.name
            );
        }
    }
}

#[test]
fn help_names_every_option_with_its_values() {
    let help = help();
    for option in OPTIONS {
        assert!(help.contains(option.name), "{help}");
        assert!(help.contains(&option.values()), "{help}");
    }
}
