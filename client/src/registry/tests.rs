#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;

use super::replay::{Replay, Reply};
use super::*;

fn options(url: impl Into<String>) -> RegistryOptions {
    RegistryOptions {
        url: Some(url.into()),
        ..RegistryOptions::default()
    }
}

fn registry(replay: &Replay) -> Registry {
    Registry::new(&options(replay.url())).unwrap().unwrap()
}

fn replay(replies: Vec<Reply>) -> Replay {
    Replay::new(replies).unwrap()
}

#[test]
fn without_a_url_there_is_none() {
    assert!(
        Registry::new(&RegistryOptions::default())
            .unwrap()
            .is_none()
    );
}

#[test]
fn each_question_is_asked_as_the_protocol_has_it() {
    let replay = replay(vec![
        Reply::Says(404, r#"{"error_code":40401,"message":"no subject"}"#),
        Reply::Says(200, r#"{"is_compatible":true}"#),
        Reply::Says(200, r#"{"id":7}"#),
        Reply::Says(
            200,
            r#"{"id":7,"subject":"a.b-value","version":3,"schema":"\"int\""}"#,
        ),
        Reply::Says(404, r#"{"error_code":40408,"message":"no level"}"#),
        Reply::Says(200, r#"{"compatibilityLevel":"FULL"}"#),
        Reply::Says(200, r#"{"schema":"\"int\""}"#),
    ]);
    let registry = registry(&replay);
    let (subject, schema) = ("a.b-value", r#""int""#);
    assert_eq!(registry.find(subject, schema).unwrap(), None);
    assert_eq!(registry.check(subject, schema).unwrap(), None);
    assert_eq!(registry.register(subject, schema).unwrap(), 7);
    let latest = registry.latest(subject).unwrap().unwrap();
    assert_eq!((latest.id, latest.version, &*latest.schema), (7, 3, schema));
    assert_eq!(registry.compatibility(subject).unwrap(), "FULL");
    for _ in 0..2 {
        assert_eq!(&*registry.schema(7).unwrap(), schema, "asked for once");
    }
    let questions = replay.questions();
    let lines: Vec<&str> = questions.iter().map(|it| it.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /subjects/a.b-value",
            "POST /compatibility/subjects/a.b-value/versions?verbose=true",
            "POST /subjects/a.b-value/versions",
            "GET /subjects/a.b-value/versions/latest",
            "GET /config/a.b-value?defaultToGlobal=true",
            "GET /config",
            "GET /schemas/ids/7",
        ]
    );
    assert_eq!(questions[2].body, r#"{"schema":"\"int\""}"#);
    let sent = questions[2].header("content-type");
    assert_eq!(sent, Some("application/vnd.schemaregistry.v1+json"));
    assert_eq!(questions[2].header("authorization"), None);
}

#[test]
fn what_contradicts_the_schemas_that_are_there_is_said_in_the_registrys_words() {
    let replay = replay(vec![Reply::Says(
        200,
        r#"{"is_compatible":false,"messages":["READER_FIELD_MISSING_DEFAULT_VALUE: a"]}"#,
    )]);
    let reasons = registry(&replay).check("t-value", "{}").unwrap().unwrap();
    assert_eq!(reasons, ["READER_FIELD_MISSING_DEFAULT_VALUE: a"]);
}

#[test]
fn each_refusal_says_who_refuses_what_and_what_mends_it() {
    for (status, body, kind, words) in [
        (
            409,
            r#"{"error_code":409,"message":"incompatible"}"#,
            ErrorKind::Data,
            "compatibility",
        ),
        (
            422,
            r#"{"error_code":42201,"message":"no Avro"}"#,
            ErrorKind::Data,
            "registry's words",
        ),
        (
            400,
            r#"{"error_code":400,"message":"no Avro"}"#,
            ErrorKind::Data,
            "registry's words",
        ),
        (400, "<html>", ErrorKind::Failed, ""),
        (413, "<html>", ErrorKind::Data, "registry's words"),
        (
            401,
            r#"{"error_code":401,"message":"Unauthorized"}"#,
            ErrorKind::Failed,
            "--registry-user",
        ),
        (401, "<html>", ErrorKind::Failed, "--registry-user"),
        (
            403,
            r#"{"error_code":40301,"message":"denied"}"#,
            ErrorKind::Failed,
            "Allow the user",
        ),
        (404, "<html>", ErrorKind::Failed, "/apis/ccompat/v7"),
        (302, "", ErrorKind::Failed, "--registry"),
        (418, "", ErrorKind::Failed, ""),
    ] {
        let replay = replay(vec![Reply::Says(status, body)]);
        let url = replay.url().replace("//", "//ann:secret@");
        let registry = Registry::new(&options(url)).unwrap().unwrap();
        let error = registry.register("t-value", "{}").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        let expected = format!("at {} answers {status}", replay.url());
        assert!(
            text.contains("subject t-value") && text.contains(&expected),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(words), "{status}: {hint}");
    }
}

#[test]
fn what_passes_can_be_tried_again() {
    for reply in [
        Reply::Says(500, r#"{"error_code":50001,"message":"store"}"#),
        Reply::Says(503, "<html>busy</html>"),
        Reply::Says(429, ""),
        Reply::Says(521, ""),
        Reply::Closes,
    ] {
        let replay = replay(vec![reply]);
        let error = registry(&replay).register("t-value", "{}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        let text = error.to_string();
        assert!(text.contains(&replay.url()), "{text}");
    }
    let gone = replay(vec![]).url();
    let registry = Registry::new(&options(gone)).unwrap().unwrap();
    let error = registry.latest("t-value").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

#[test]
fn an_answer_that_does_not_come_is_given_up() {
    let replay = replay(vec![Reply::Stalls]);
    let url = replay.url();
    let timeout = std::time::Duration::from_millis(100);
    let registry = Registry {
        http: Http::within(timeout, &url, &options(url.clone())).unwrap(),
        schemas: Mutex::default(),
    };
    let error = registry.register("t-value", "{}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("in time"), "{error}");
}

#[test]
fn what_somebody_has_to_mend_is_found_out_before_anything_begins() {
    for (reply, expected) in [
        (Reply::Says(200, r#"["AVRO"]"#), None),
        (Reply::Says(404, ""), None),
        (Reply::Says(403, ""), None),
        (Reply::Says(503, ""), None),
        (Reply::Closes, None),
        (Reply::Says(401, ""), Some(ErrorKind::Failed)),
        (
            Reply::Says(200, "<html>It works!</html>"),
            Some(ErrorKind::Failed),
        ),
    ] {
        let replay = replay(vec![reply]);
        let found = registry(&replay).probe().err().map(|error| error.kind());
        assert_eq!(found, expected);
    }
}

#[test]
fn another_address_answers_where_the_first_does_not() {
    let ill = replay(vec![Reply::Says(500, "")]);
    let well = replay(vec![Reply::Says(200, r#"{"id":4}"#)]);
    let both = options(format!("{},{}", ill.url(), well.url()));
    let registry = Registry::new(&both).unwrap().unwrap();
    assert_eq!(registry.register("t-value", "{}").unwrap(), 4);
}

#[test]
fn what_is_no_registry_is_told_as_such() {
    for body in [
        "<html>It works!</html>",
        "",
        r#"{"hello":"world"}"#,
        r#"{"id":-1}"#,
    ] {
        let replay = replay(vec![Reply::Says(200, body)]);
        let error = registry(&replay).register("t-value", "{}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
        assert!(error.to_string().contains("no schema registry"), "{error}");
    }
}

#[test]
fn a_schema_that_the_registry_does_not_have_is_no_question_of_the_path() {
    let replay = replay(vec![Reply::Says(
        404,
        r#"{"error_code":40403,"message":"Schema not found"}"#,
    )]);
    let error = registry(&replay).schema(12).unwrap_err();
    assert!(error.to_string().contains("no schema 12"), "{error}");
}

#[test]
fn a_login_in_the_clear_is_told_where_it_leaves_the_machine() {
    let exposed = |url: &str, user: Option<&str>| {
        let options = RegistryOptions {
            user: user.map(str::to_owned),
            ..options(url.to_owned())
        };
        let registry = Registry::new(&options).unwrap().unwrap();
        registry.exposed_login().map(|warning| {
            assert!(warning.hint().is_some_and(|hint| hint.contains("https")));
            warning.to_string()
        })
    };
    let told = exposed("https://one,http://ann:s3cret@two:8081/x", None).unwrap();
    assert!(told.ends_with("--registry http://two:8081/x"), "{told}");
    assert!(exposed("http://one:8081", Some("ann")).is_some());
    for (url, user) in [
        ("http://one:8081", None),
        ("https://ann:s3cret@one:8081", None),
        ("http://ann:s3cret@localhost:8081,https://one", Some("ann")),
        ("http://[::1]:8081", Some("ann")),
    ] {
        assert_eq!(exposed(url, user), None, "{url}");
    }
}

#[test]
fn a_login_is_sent_as_it_was_given() {
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let (password, token) = (file("b:c\n"), file("a.b.c\n"));
    let by_options = RegistryOptions {
        user: Some("ann".to_owned()),
        password_file: Some(password.path().to_owned()),
        ..RegistryOptions::default()
    };
    let by_token = RegistryOptions {
        token_file: Some(token.path().to_owned()),
        ..RegistryOptions::default()
    };
    for (userinfo, options, expected) in [
        ("", by_options.clone(), "Basic YW5uOmI6Yw=="),
        (
            "ann:b%3Ac@",
            RegistryOptions::default(),
            "Basic YW5uOmI6Yw==",
        ),
        ("bob:x@", by_options, "Basic YW5uOmI6Yw=="),
        ("", by_token, "Bearer a.b.c"),
    ] {
        let replay = replay(vec![Reply::Says(200, r#"{"id":4}"#)]);
        let url = replay.url().replace("//", &format!("//{userinfo}"));
        let options = RegistryOptions {
            url: Some(url),
            ..options
        };
        let registry = Registry::new(&options).unwrap().unwrap();
        registry.register("t-value", "{}").unwrap();
        let questions = replay.questions();
        assert_eq!(questions[0].header("authorization"), Some(expected));
    }
}

#[test]
fn a_token_that_no_header_takes_is_wrong_usage() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all("sésame\n".as_bytes()).unwrap();
    let by_token = RegistryOptions {
        token_file: Some(file.path().to_owned()),
        ..options("http://localhost:1")
    };
    let error = Registry::new(&by_token).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(!format!("{error:?}").contains("same"), "{error:?}");
}

#[test]
fn options_that_contradict_each_other_or_name_nothing_are_wrong_usage() {
    let missing = || Some("/there/is/no/such/file".into());
    let url = || options("http://localhost:1");
    for options in [
        RegistryOptions {
            password_file: missing(),
            ..url()
        },
        RegistryOptions {
            ca: missing(),
            ..url()
        },
        RegistryOptions {
            ca: Some(file!().into()),
            ..url()
        },
        options("http://localhost:1,"),
    ] {
        let error = Registry::new(&options).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage, "{options:?}: {error}");
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.and_then(|mut it| it.write_all(b"HTTP/1.1 400 No TLS\r\n\r\n"));
        }
    });
    let url = format!("https://{address}");
    let registry = Registry::new(&options(url)).unwrap().unwrap();
    let error = registry.latest("t-value").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn a_connection_that_is_closed_before_tls_is_agreed_upon_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().flatten().enumerate() {
            let mut hello = [0; 4096];
            match number {
                // Unread bytes make it a reset.
                0 => drop(connection),
                1 => drop((&connection).read(&mut hello)),
                _ => {
                    // An alert, fatal: internal error (RFC 8446, 6.2).
                    let _ = (&connection).read(&mut hello);
                    let _ = (&connection).write_all(&[21, 3, 3, 0, 2, 2, 80]);
                }
            }
        }
    });
    let url = format!("https://{address}");
    let registry = Registry::new(&options(url)).unwrap().unwrap();
    for _ in 0..3 {
        let error = registry.latest("t-value").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    }
}

/// `tail` and `verify` ask by the id that a record names: no schema of theirs is at fault.
#[test]
fn what_is_refused_of_a_question_without_a_schema_is_no_fault_of_a_schema() {
    for (status, body) in [
        (400, r#"{"error_code":400,"message":"no number"}"#),
        (422, r#"{"error_code":42202,"message":"no version"}"#),
        (409, ""),
    ] {
        let replay = replay(vec![Reply::Says(status, body), Reply::Says(status, body)]);
        let registry = registry(&replay);
        let by_id = registry.schema(12).unwrap_err();
        let by_subject = registry.latest("t-value").unwrap_err();
        for error in [by_id, by_subject] {
            assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
            assert_eq!(error.hint(), None, "{error}");
        }
    }
}
