//! What a command goes by, from the command line down to the file.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::cli::{Command, DropOptions, SnapshotMode, StreamOptions, TailOptions};
use crate::error::Error;

/// A file of settings, with others beside it.
struct Files(TempDir);

impl Files {
    fn new(settings: &str) -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        files.put("h.toml", settings);
        files
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn settings(&self) -> PathBuf {
        self.0.path().join("h.toml")
    }

    /// A text without the folder, whose name is never the same.
    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn words(line: &str) -> Vec<OsString> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    std::iter::once("headwater")
        .chain(words)
        .map(OsString::from)
        .collect()
}

fn load_with<const N: usize>(
    file: &str,
    environment: [(&str, &str); N],
    line: &str,
) -> Result<Settings, String> {
    let files = Files::new(file);
    let mut words = words(line);
    words.push("--config".into());
    words.push(files.settings().into());
    load(&words, &Environment::from(environment)).map_err(|refusal| match refusal {
        Refusal::CommandLine(error) => format!("clap: {error}"),
        Refusal::Settings(errors) => {
            let errors: Vec<String> = errors.iter().map(sentence).collect();
            files.shorten(&errors.join("\n"))
        }
    })
}

fn sentence(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}. {hint}"),
        None => error.to_string(),
    }
}

fn stream<const N: usize>(
    file: &str,
    environment: [(&str, &str); N],
    line: &str,
) -> Box<StreamOptions> {
    match load_with(file, environment, &format!("stream {line}"))
        .unwrap()
        .cli
        .command
    {
        Command::Stream(options) => options,
        other => panic!("{other:?}"),
    }
}

fn refused<const N: usize>(file: &str, environment: [(&str, &str); N], line: &str) -> String {
    load_with(file, environment, line)
        .map(|settings| settings.cli)
        .unwrap_err()
}

#[test]
fn the_command_line_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let file = "slot = \"file\"\n";
    let environment = [("HEADWATER_SLOT", "variable")];
    assert_eq!(stream(file, environment, "-S flag").slot, "flag");
    assert_eq!(stream(file, environment, "").slot, "variable");
    assert_eq!(stream(file, [], "").slot, "file");
    assert_eq!(stream("", [], "").slot, "headwater");
    assert_eq!(stream(file, [("HEADWATER_SLOT", "")], "").slot, "file");
}

#[test]
fn the_table_of_a_command_wins_there_and_nowhere_else() {
    let file = "slot = \"all\"\n[drop]\nslot = \"dropped\"\n";
    assert_eq!(stream(file, [], "").slot, "all");
    let settings = load_with(file, [], "drop").unwrap();
    let Command::Drop(options) = settings.cli.command else {
        panic!("not the drop command");
    };
    let options: DropOptions = *options;
    assert_eq!(options.stream.slot, "dropped");
}

#[test]
fn every_kind_of_option_has_its_value_from_the_file() {
    let file = "verbose = 2\nno-create-topics = true\ntable = [\"a,b\", \"s.c\"]\n\
                exclude-table = \"d\"\nsnapshot-workers = 7\nmax-retained-wal = \"2GB\"\n\
                topic-prefix = \"\"\nquarantine = [\"0/1:2\", \"0/3:4\"]\n\
                [stream]\nsnapshot = \"never\"\nheaders = \"off\"\n";
    let settings = load_with(file, [], "stream").unwrap();
    assert_eq!(settings.cli.general.verbose, 2);
    let Command::Stream(options) = settings.cli.command else {
        panic!("not the stream command");
    };
    assert!(options.no_create_topics);
    assert!(!options.headers);
    assert_eq!(options.snapshot, SnapshotMode::Never);
    assert_eq!(options.snapshot_workers, 7);
    assert_eq!(options.max_retained_wal, Some(2 << 30));
    assert_eq!(options.quarantine.len(), 2);
    let tables: Vec<String> = options
        .tables
        .tables
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(tables, ["public.a,public.b", "s.c"]);
}

#[test]
fn a_list_of_the_file_is_replaced_as_a_whole() {
    let file = "table = [\"a\", \"b\"]\n";
    assert_eq!(stream(file, [], "").tables.tables.len(), 2);
    assert_eq!(stream(file, [], "-t c").tables.tables.len(), 1);
    assert_eq!(
        stream(file, [("HEADWATER_TABLE", "c")], "")
            .tables
            .tables
            .len(),
        1
    );
}

#[test]
fn a_variable_takes_back_what_the_file_says() {
    let file = "no-create-topics = true\n";
    for (value, expected) in [
        ("0", false),
        ("off", false),
        ("false", false),
        ("YES", true),
    ] {
        let options = stream(file, [("HEADWATER_NO_CREATE_TOPICS", value)], "");
        assert_eq!(options.no_create_topics, expected, "{value}");
    }
    let error = refused(file, [("HEADWATER_NO_CREATE_TOPICS", "maybe")], "stream");
    assert!(
        error.starts_with(
            "HEADWATER_NO_CREATE_TOPICS: invalid value 'maybe' for no-create-topics: expected true or false"
        ),
        "{error}"
    );
}

#[test]
fn properties_are_merged_and_the_last_word_is_the_command_lines() {
    let file = "[kafka]\nlinger.ms = 1\nretries = 1\nacks = \"all\"\ndebug = [\"broker\", \"topic\"]\n\
                batch.size = 1000\nsasl.username = \"ann\"\n[stream.kafka]\nretries = 2\nbatch.size = 2000\n";
    let environment = [
        ("HEADWATER_KAFKA_BATCH_SIZE", "3000"),
        ("HEADWATER_KAFKA_LINGER_MS", "3"),
        ("HEADWATER_PROPERTIES", "linger.ms=4\n\nclient.id=x\n"),
    ];
    let properties = stream(file, environment, "-X linger.ms=5").kafka.properties;
    let last = |name: &str| {
        let mut properties = properties.iter().rev();
        properties
            .find(|property| property.name == name)
            .map(|property| property.value.as_str())
    };
    for (name, expected) in [
        ("linger.ms", "5"),
        ("client.id", "x"),
        ("batch.size", "3000"),
        ("retries", "2"),
        ("sasl.username", "ann"),
        ("debug", "broker,topic"),
    ] {
        assert_eq!(last(name), Some(expected), "{name}");
    }
}

#[test]
fn an_error_about_a_property_names_where_it_is_from() {
    for (file, environment, line, place) in [
        ("", [("X", "x")], "-X acks=1", "-X acks=1"),
        ("[kafka]\nacks = 1\n", [("X", "x")], "", "h.toml:2: acks=1"),
        (
            "[kafka]\nacks = \"all\"\n[stream.kafka]\nacks = 1\n",
            [("X", "x")],
            "-X linger.ms=5",
            "h.toml:4: acks=1",
        ),
        (
            "[kafka]\nacks = \"all\"\n",
            [("HEADWATER_KAFKA_ACKS", "1")],
            "",
            "HEADWATER_KAFKA_ACKS: acks=1",
        ),
        (
            "",
            [(
                "HEADWATER_PROPERTIES",
                "linger.ms=5\nrequest.required.acks=1",
            )],
            "",
            "HEADWATER_PROPERTIES: request.required.acks=1",
        ),
        (
            "[kafka]\nacks = \"all\"\n",
            [("HEADWATER_KAFKA_LINGER_MS", "5")],
            "-X acks=1",
            "-X acks=1",
        ),
    ] {
        let files = Files::new(file);
        let mut words = words(&format!("stream {line}"));
        words.extend(["--config".into(), files.settings().into()]);
        let cli = load(&words, &Environment::from(environment)).unwrap().cli;
        let error = files.shorten(&cli.command.check().unwrap_err().to_string());
        let expected =
            format!("{place} would report records as delivered that a broker can still lose");
        assert_eq!(error, expected);
    }
    let files = Files::new("[stream.kafka]\nacks = 1\n");
    let report = check(Some(&files.settings()), &Environment::default());
    let warning = files.shorten(&report.warnings[0].to_string());
    assert!(warning.contains(": h.toml:2: acks=1 would"), "{warning}");
}

#[test]
fn what_does_not_go_together_is_refused_across_layers_with_where_it_is_set() {
    for (file, environment, line) in [
        ("resnapshot = true\naccept-gap = \"0/1\"\n", [], "stream"),
        ("resnapshot = true\n", [], "stream --accept-gap 0/1"),
    ] {
        let error = refused(file, environment, line);
        assert!(error.contains("cannot be used with"), "{error}");
        assert!(error.contains("resnapshot is set by h.toml:1"), "{error}");
    }
    let file = "resnapshot = true\naccept-gap = \"0/1\"\n";
    let options = stream(file, [("HEADWATER_RESNAPSHOT", "false")], "");
    assert!(options.accept_gap.is_some() && !options.resnapshot);
}

#[test]
fn what_is_required_may_come_from_the_file() {
    assert!(load_with("table = \"orders\"\n", [], "snapshot").is_ok());
    let error = refused("", [], "snapshot");
    assert!(error.contains("--table <PATTERN>"), "{error}");
}

#[test]
fn unknown_keys_and_wrong_values_are_named_with_their_line_and_what_is_like_them() {
    for (file, expected) in [
        (
            "\ntopic_prefix = \"x\"\n",
            "h.toml:2: unknown key \"topic_prefix\". Did you mean topic-prefix?",
        ),
        (
            "[verify]\nworker = 3\n",
            "h.toml:2: unknown key \"worker\". Did you mean workers?",
        ),
        (
            "[verfy]\nworkers = 3\nlimit = 1\n",
            "h.toml:2: unknown table [verfy]. Did you mean [verify]?",
        ),
        (
            "[drop]\nworkers = 1\n",
            "h.toml:2: headwater drop has no option --workers. Put it before the first table, or into [verify].",
        ),
        ("slot.x = 1\n", "h.toml:1: slot is a key, and no table"),
        (
            "[[verify]]\nlimit = 1\n",
            "h.toml:1: verify is a table. Write [verify], once, and its keys below.",
        ),
        (
            "origin = \"nine\"\n",
            "h.toml:1: invalid value 'nine' for origin: expected one of any, none. Did you mean none?",
        ),
        (
            "snapshot-workers = 65\n",
            "h.toml:1: invalid value '65' for snapshot-workers: 65 is not in 1..=64",
        ),
        (
            "slot = true\nno-create-topics = \"yes\"\n",
            "h.toml:2: no-create-topics takes true or false, not a string",
        ),
        (
            "slot = [\"a\"]\n",
            "h.toml:1: slot takes a string or a number, not a list",
        ),
        (
            "max-retained-wal = \"20 parsecs\"\n",
            "h.toml:1: invalid value '20 parsecs' for max-retained-wal: expected a number of bytes, or one with kB, MB, GB or TB, such as 20GB",
        ),
    ] {
        assert_eq!(refused(file, [], "stream"), expected);
    }
    let error = refused("headers = \"on\"\n", [], "stream");
    assert!(
        error.starts_with("h.toml:1: headers means different things to different commands."),
        "{error}"
    );
    assert!(
        error.contains("[stream]") && error.contains("[tail]"),
        "{error}"
    );
    let error = refused("", [("HEADWATER_ORIGIN", "some")], "stream");
    assert_eq!(
        error,
        "HEADWATER_ORIGIN: invalid value 'some' for origin: expected one of any, none"
    );
    let error = refused("[kafka]\nlinger.mss = 5\n", [], "stream");
    assert!(
        error.starts_with("h.toml:2: ") && error.contains("linger.mss"),
        "{error}"
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let file = "slott = 1\norigin = \"nine\"\nbroker = 2\n[kafka]\nlinger.ms = \"soon\"\n";
    let environment = [("HEADWATER_TOAST", "fech")];
    let error = refused(file, environment, "stream --take-over=perhaps");
    let errors: Vec<&str> = error.lines().collect();
    let expected = [
        "h.toml:1: unknown key \"slott\". Did you mean slot?",
        "h.toml:3: unknown key \"broker\". Did you mean brokers?",
        "h.toml:2: invalid value 'nine' for origin: expected one of any, none. Did you mean none?",
        "HEADWATER_TOAST: invalid value 'fech' for toast: expected one of fetch, require-full, mark. \
         Did you mean fetch?",
        "h.toml:5: Kafka refuses the property linger.ms: ",
        "invalid value 'perhaps' for --take-over: expected true or false, 1 or 0, yes or no, on or off",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (is, ought) in errors.iter().zip(expected) {
        assert!(is.starts_with(ought), "{is}\n{ought}");
    }
    // What the environment says is wrong whether the file can be read or not.
    let error = refused("slot = \n", environment, "stream");
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn the_command_line_takes_back_what_environment_and_file_say() {
    let file = "no-create-topics = true\nresnapshot = true\n";
    let environment = [("HEADWATER_TAKE_OVER", "yes")];
    let options = stream(file, environment, "");
    assert!(options.no_create_topics && options.resnapshot && options.take_over);
    for value in ["false", "0", "no", "Off"] {
        let line = format!("--no-create-topics={value} --take-over={value}");
        let options = stream(file, environment, &line);
        assert!(!options.no_create_topics && !options.take_over, "{value}");
        assert!(options.resnapshot);
    }
    let options = stream("", [], "--take-over=true --resnapshot=1 --no-create-topics");
    assert!(options.no_create_topics && options.resnapshot && options.take_over);
    // What is taken back is in nothing's way.
    let options = stream(file, [], "--resnapshot=false --accept-gap 0/1");
    assert!(options.accept_gap.is_some() && !options.resnapshot);
}

/// One rule for all options that are there or not, of every command.
#[test]
fn every_flag_of_every_command_can_be_taken_back() {
    let table = Table::new(&cli::command());
    let mut count = 0;
    for command in &table.commands {
        let flags = command.settings.iter();
        for setting in flags.filter(|setting| setting.kind() == table::Kind::Flag) {
            let file = format!("[{}]\n{} = true\n", command.name, setting.key);
            let files = Files::new(&file);
            let of = |value: &str| {
                let mut words = words(&format!("{} --{}{value}", command.name, setting.key));
                words.extend(["--config".into(), files.settings().into()]);
                let shown = print(&words, &Environment::default(), true).unwrap();
                let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
                let settings = shown["settings"].as_array().unwrap().iter();
                let mut of_key = settings.filter(|shown| shown["name"] == setting.key.as_str());
                let shown = of_key.next().unwrap();
                (shown["value"].clone(), shown["source"].clone())
            };
            for (value, expected) in [("=false", false), ("=true", true), ("", true)] {
                let expected = (expected.into(), "command line".into());
                assert_eq!(of(value), expected, "{} --{}", command.name, setting.key);
            }
            count += 1;
        }
    }
    assert!(count > 5, "{count} flags");
}

#[test]
fn a_value_of_a_flag_stands_in_no_ones_way() {
    for line in ["--take-over=false --bogus", "--bogus --take-over=maybe"] {
        let error = refused("", [], &format!("stream {line}"));
        assert!(error.contains("'--bogus'"), "{line}: {error}");
    }
    let error = refused("", [], "tail orders --take-over=false");
    assert!(
        error.contains("unexpected argument '--take-over'"),
        "{error}"
    );
    let help = refused("", [], "stream --take-over=false --help");
    assert!(help.contains("Usage: headwater stream"), "{help}");
    assert!(help.contains("      --take-over\n"), "{help}");
    // A topic may have any name.
    let files = Files::new("");
    let mut line = words("tail");
    line.extend(["--config".into(), files.settings().into()]);
    line.extend(words("-- --exit=false").into_iter().skip(1));
    let cli = load(&line, &Environment::default()).unwrap().cli;
    let Command::Tail(options) = cli.command else {
        panic!("not the tail command");
    };
    assert_eq!(options.topics, ["--exit=false"]);
    assert!(!options.exit);
}

#[test]
fn secrets_come_from_variables_from_files_and_from_what_the_file_refers_to() {
    let files = Files::new("");
    let secret = files.put("secret", "hunter2\n");
    let secret = secret.to_str().unwrap();
    let reference = format!(
        "password = {{ file = {secret:?} }}\n[kafka]\nsasl.password = {{ file = {secret:?} }}\n"
    );
    let options = stream(&reference, [], "");
    let password = |options: &StreamOptions| {
        options
            .connection
            .password
            .as_ref()
            .map(|it| it.reveal().to_owned())
    };
    assert_eq!(password(&options).as_deref(), Some("hunter2"));
    let first = |options: &StreamOptions| {
        let property = options.kafka.properties.first().unwrap();
        (property.name.clone(), property.value.clone())
    };
    let expected = ("sasl.password".to_owned(), "hunter2".to_owned());
    assert_eq!(first(&options), expected);

    let environment = [
        ("HEADWATER_PASSWORD_FILE", secret),
        ("HEADWATER_KAFKA_SASL_PASSWORD_FILE", secret),
        ("HEADWATER_DBNAME_FILE", secret),
    ];
    let options = stream("", environment, "");
    assert_eq!(password(&options).as_deref(), Some("hunter2"));
    assert_eq!(options.connection.dbname.as_deref(), Some("hunter2"));
    assert_eq!(first(&options), expected);

    let variable = "password = { env = \"PASSWORD_OF_POSTGRES\" }\n";
    let options = stream(variable, [("PASSWORD_OF_POSTGRES", "hunter2")], "");
    assert_eq!(password(&options).as_deref(), Some("hunter2"));
    let error = refused(variable, [], "stream");
    assert_eq!(error, "h.toml:1: variable PASSWORD_OF_POSTGRES is not set");
}

#[test]
fn a_secret_is_given_once_and_not_on_the_command_line() {
    let error = refused("", [], "stream --password hunter2");
    assert!(
        error.contains("HEADWATER_PASSWORD_FILE") && !error.contains("hunter2"),
        "{error}"
    );
    let both = [
        ("HEADWATER_PASSWORD", "hunter2"),
        ("HEADWATER_PASSWORD_FILE", "/run/x"),
    ];
    let error = refused("", both, "stream");
    assert_eq!(
        error,
        "HEADWATER_PASSWORD_FILE: HEADWATER_PASSWORD is set, too. Leave one of them out."
    );
    // The nearer one of a secret and the file that holds it.
    let files = Files::new("");
    let secret = files.put("secret", "of a file");
    let line = format!("stream --registry-password-file {}", secret.display());
    let settings = load_with("registry-password = \"x\"\n", [], &line).unwrap();
    let Command::Stream(options) = settings.cli.command else {
        panic!("not the stream command");
    };
    assert_eq!(options.registry.password, None);
    let file = "registry-password-file = \"/nowhere\"\n";
    let options = stream(file, [("HEADWATER_REGISTRY_PASSWORD", "x")], "");
    assert_eq!(options.registry.password_file, None);
    assert_eq!(
        options.registry.password.as_ref().map(Secret::reveal),
        Some("x")
    );
}

#[test]
fn no_refusal_and_no_print_shows_a_secret() {
    let file = "password = \"hunter2\"\nregistry = \"http://ann:hunter2@r\"\n\
                dbname = \"host=db password=hunter2\"\n\
                [kafka]\nsasl.password = \"hunter2\"\n";
    let files = Files::new(file);
    let mut words = words("stream -X ssl.key.password=hunter2");
    words.extend(["--config".into(), files.settings().into()]);
    for as_json in [false, true] {
        let shown = print(&words, &Environment::default(), as_json).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
    let settings = load(&words, &Environment::default()).unwrap();
    let warnings: Vec<String> = settings.warnings.iter().map(sentence).collect();
    let warnings = files.shorten(&warnings.join("\n"));
    assert!(
        warnings.contains("ssl.key.password is on the command line"),
        "{warnings}"
    );
    assert!(warnings.contains("chmod o-r h.toml"), "{warnings}");
    // What is no connection string is not known to hold one.
    for line in ["-d hots=1", "-d host=db"] {
        let warnings = load_with("", [], &format!("stream {line}"))
            .unwrap()
            .warnings;
        assert!(warnings.is_empty(), "{line}: {warnings:?}");
    }
    for file in [
        "[kafka]\nsasl.password = [[\"hunter2\"]]\n",
        "password = [\"hunter2\"]\n",
    ] {
        let error = refused(file, [], "stream");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_printed_says_where_each_setting_is_from_and_is_a_file_itself() {
    let files = Files::new("slot = \"s\"\nno-create-topics = true\n[kafka]\nlinger.ms = 5\n");
    let mut words = words("stream -h db");
    words.extend(["--config".into(), files.settings().into()]);
    let environment = Environment::from([("HEADWATER_BROKERS", "kafka:1")]);
    let shown = files.shorten(&print(&words, &environment, false).unwrap());
    for (setting, place) in [
        ("slot = \"s\"", "h.toml:1"),
        ("host = \"db\"", "command line"),
        ("brokers = \"kafka:1\"", "HEADWATER_BROKERS"),
        ("numbers = \"exact\"", "default"),
        ("no-create-topics = true", "h.toml:2"),
        ("linger.ms = 5", "h.toml:4"),
    ] {
        let mut lines = shown.lines();
        let line = lines
            .find(|line| line.starts_with(setting))
            .unwrap_or_else(|| panic!("{setting} in {shown}"));
        assert!(line.ends_with(&format!("# {place}")), "{line}");
    }
    // What a command requires is not required to describe it.
    let mut words = super::tests::words("tail");
    words.extend(["--config".into(), files.settings().into()]);
    let of_tail = print(&words, &environment, false).unwrap();
    assert!(of_tail.starts_with("# headwater tail\n"), "{of_tail}");
    let longest = shown.lines().map(str::len).max();
    assert!(longest <= Some(80), "{shown}");
    assert!(load_with(&shown, [], "verify").is_ok());
}

#[test]
fn a_check_finds_everything_that_is_wrong_and_says_what_is_set() {
    let files = Files::new(
        "slott = \"s\"\norigin = \"some\"\nbrokers = \"kafka:1\"\n[verify]\nworkers = 0\n[kafka]\nno.such = 1\n",
    );
    let environment = Environment::from([("HEADWATER_SLOTT", "x"), ("HEADWATER_TOAST", "mark")]);
    let report = check(Some(&files.settings()), &environment);
    assert_eq!(report.errors.len(), 4, "{:#?}", report.errors);
    assert_eq!(report.warnings.len(), 1, "{:#?}", report.warnings);
    assert_eq!(
        report.verdict().unwrap_err().to_string(),
        "the configuration has 4 errors"
    );
    let text = report.lines().join("\n");
    for expected in [
        "workers",
        "no.such",
        "some",
        "slott",
        "Did you mean HEADWATER_SLOT?",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let toast = report.set.iter().find(|set| set.key == "toast").unwrap();
    assert_eq!(toast.place, "HEADWATER_TOAST");
    assert!(toast.commands.contains(&"stream".to_owned()), "{toast:#?}");

    let files = Files::new("resnapshot = true\naccept-gap = \"0/1\"\n");
    let report = check(Some(&files.settings()), &Environment::default());
    assert_eq!(report.errors.len(), 1, "{:#?}", report.errors);
    let files = Files::new("format = \"avro\"\n");
    let report = check(Some(&files.settings()), &Environment::default());
    assert_eq!(report.errors.len(), 0, "{:#?}", report.errors);
    let warning = sentence(&report.warnings[0]);
    assert!(
        warning.starts_with("headwater stream would not run by this alone: "),
        "{warning}"
    );
    let missing = files.0.path().join("none.toml");
    assert_eq!(
        check(Some(&missing), &Environment::default()).errors.len(),
        1
    );
}

#[test]
fn a_command_line_that_is_asked_about_is_told_what_it_may_have_meant() {
    for (line, expected) in [
        (
            "strem",
            "unrecognized subcommand 'strem'. Did you mean stream?",
        ),
        (
            "stream --tabel x",
            "unexpected argument '--tabel' found. Did you mean --table?",
        ),
        (
            "stream --toast fech",
            "invalid value 'fech' for '--toast <TOAST>'. Did you mean fetch?",
        ),
    ] {
        let Err(Refusal::CommandLine(error)) = print(&words(line), &Environment::default(), false)
        else {
            panic!("{line} was printed");
        };
        assert_eq!(sentence(&command_line::as_error(&error)), expected);
    }
}

#[test]
fn a_file_that_is_wrong_stops_a_command_but_not_the_check_of_it() {
    assert!(refused("x = 1\n", [], "stream").contains("unknown key"));
    assert!(load_with("x = 1\n", [], "config check").is_ok());
}

#[test]
fn options_before_the_command_and_words_behind_two_dashes_stay_what_they_are() {
    let file = "brokers = \"kafka:1\"\n";
    for line in [
        "-v --log-format json tail orders --exit",
        "tail -v --log-format=json --exit -- orders",
    ] {
        let files = Files::new(file);
        let mut given = vec![OsString::from("headwater"), "--config".into()];
        given.push(files.settings().into());
        given.extend(words(line).into_iter().skip(1));
        let cli = load(&given, &Environment::default()).unwrap().cli;
        let Command::Tail(options) = cli.command else {
            panic!("not the tail command");
        };
        let options: TailOptions = *options;
        assert_eq!(
            (options.topics.as_slice(), options.kafka.brokers.as_str()),
            (["orders".to_owned()].as_slice(), "kafka:1")
        );
        assert_eq!(cli.general.verbose, 1);
    }
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let files = Files::new("slot = \"s\"\n");
    let path = files.settings();
    let environment = Environment::from([("HEADWATER_CONFIG", path.to_str().unwrap())]);
    let cli = load(&words("stream"), &environment).unwrap().cli;
    assert_eq!(cli.general.config.as_deref(), Some(path.as_path()));
    let Command::Stream(options) = cli.command else {
        panic!("not the stream command");
    };
    assert_eq!(options.slot, "s");
}

/// Every option gets a variable and a key by its name alone; this is what keeps the rule.
#[test]
fn names_follow_one_rule() {
    let table = Table::new(&cli::command());
    for command in &table.commands {
        for setting in &command.settings {
            let key = &setting.key;
            match setting.variable() {
                Some(name) => assert_eq!(name, table::variable(key), "{} --{key}", command.name),
                None => assert!(table.is_ambiguous(key), "{} --{key}", command.name),
            }
            assert!(
                !key.starts_with("kafka"),
                "--{key} would be taken for a property"
            );
        }
    }
}

#[test]
fn the_example_is_right_as_it_is_and_with_every_key_uncommented() {
    let text = example();
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with([' ', '-']) => setting,
            _ => line,
        })
        .collect();
    for text in [text.clone(), uncommented.join("\n")] {
        let files = Files::new(&text);
        let report = check(Some(&files.settings()), &Environment::default());
        let errors: Vec<String> = report
            .errors
            .iter()
            .map(ToString::to_string)
            // There are no such secrets here.
            .filter(|error| !error.contains("/run/secrets/"))
            .collect();
        assert_eq!(errors, [""; 0], "\n{text}");
    }
    let table = Table::new(&cli::command());
    for key in table.keys() {
        let entry = format!("#{key} = ");
        assert!(
            text.lines().any(|line| line.starts_with(&entry)),
            "{key} is missing"
        );
    }
    let longest = text
        .lines()
        .max_by_key(|line| line.chars().count())
        .unwrap_or_default();
    assert!(longest.chars().count() <= 80, "{longest}");
}

/// Words as a shell makes them of a line in which quotes are single and stand around whole words.
fn of_shell(line: &str) -> Vec<OsString> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    words
        .map(|word| OsString::from(word.trim_matches('\'')))
        .collect()
}

#[test]
fn the_examples_of_help_are_right() {
    fn examples(command: &clap::Command, all: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string);
        let lines = help.iter().flat_map(|help| help.lines());
        let lines = lines.filter(|line| line.starts_with("  "));
        all.extend(lines.map(|line| line.trim().to_owned()));
        let commands = command.get_subcommands();
        commands.for_each(|command| examples(command, all));
    }
    let files = Files::new("");
    let mut all = Vec::new();
    examples(&cli::command(), &mut all);
    assert!(all.len() > 20, "{all:#?}");
    for example in all {
        // What is before the name are variables, what is behind is for other commands.
        let line = &example[example.find("headwater ").unwrap()..];
        let line = line.split(['|', '>']).next().unwrap_or_default();
        let words: Vec<OsString> = of_shell(line)
            .into_iter()
            .map(|word| match word.to_str() {
                Some("headwater.toml") => files.settings().into(),
                _ => word,
            })
            .collect();
        let settings = load(&words, &Environment::default());
        let settings = settings.unwrap_or_else(|refusal| panic!("{example}: {refusal:?}"));
        let checked = settings.cli.command.check();
        checked.unwrap_or_else(|error| panic!("{example}: {error}"));
    }
}

#[test]
fn the_file_that_the_reference_shows_is_right() {
    let reference = reference();
    let shown = reference.split("```toml\n").nth(1).unwrap();
    let files = Files::new(shown.split("```").next().unwrap());
    let environment = Environment::from([("KAFKA_PASSWORD", "x")]);
    let report = check(Some(&files.settings()), &environment);
    let errors: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
    let errors = files.shorten(&errors.join("\n"));
    // There is no such secret here.
    let expected =
        "h.toml:2: /run/secrets/postgres cannot be read: No such file or directory (os error 2)";
    assert_eq!(errors, expected);
}
