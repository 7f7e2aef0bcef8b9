#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::desk::{Desk, Found, KEPT, Known, Place, Used};
use super::*;
use crate::cli::RegistryOptions;
use crate::error::ErrorKind;
use crate::registry::meaning::meaning;
use crate::registry::refused::Grounds;
use crate::registry::replay::{Replay, Reply};
use crate::state::SubjectIds;

const PATIENCE: Duration = Duration::from_secs(20);

/// What is on record, as others see it.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<HashMap<String, SubjectIds>>>);

impl SchemaIds for Memory {
    fn load(&mut self) -> Result<HashMap<String, SubjectIds>> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn store(&mut self, subject: &str, ids: &SubjectIds) -> Result<()> {
        let subject = subject.to_owned();
        self.0.lock().unwrap().insert(subject, ids.clone());
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.0.lock().unwrap().clear();
        Ok(())
    }
}

impl Memory {
    fn with(entries: &[(&str, &str, u32)]) -> Self {
        let memory = Memory::default();
        for (subject, schema, id) in entries {
            let mut known = memory.0.lock().unwrap();
            let ids = known.entry((*subject).to_owned()).or_default();
            ids.put(schema, meaning(schema), *id);
        }
        memory
    }

    fn id(&self, subject: &str, schema: &str) -> Option<u32> {
        self.0.lock().unwrap().get(subject)?.id(schema)
    }
}

const KEY: &str = r#"{"type":"record","name":"Key","fields":[]}"#;
const VALUE: &str = r#"{"type":"record","name":"Row","fields":[{"name":"a","type":"int"}]}"#;

fn schemas() -> Schemas {
    Schemas::new("public.t".to_owned(), "t", Some(KEY), VALUE)
}

fn registrar(url: String, memory: &Memory) -> Registrar {
    let options = RegistryOptions {
        url: Some(url),
        ..RegistryOptions::default()
    };
    let registry = Registry::new(&options).unwrap().unwrap();
    let store: Box<dyn SchemaIds> = Box::new(memory.clone());
    Registrar::start(registry, Some(store), &Stop::default(), &Metrics::default()).unwrap()
}

fn awaited(registrar: &Registrar) -> Result<Result<Ids, Arc<Refused>>> {
    let begun = Instant::now();
    registrar.await_ids(&schemas(), &mut || match begun.elapsed() < PATIENCE {
        true => Ok(()),
        false => Err(Error::failed("no answer in time")),
    })
}

const ABSENT: Reply = Reply::Says(404, r#"{"error_code":40401,"message":"none"}"#);
const COMPATIBLE: Reply = Reply::Says(200, r#"{"is_compatible":true}"#);

#[test]
fn ids_are_on_record_when_they_are_known_and_asked_for_once() {
    let replay = Replay::new(vec![
        ABSENT,
        ABSENT,
        Reply::Says(200, r#"{"id":5}"#),
        Reply::Says(200, r#"{"id":6}"#),
    ])
    .unwrap();
    let memory = Memory::default();
    let registrar = registrar(replay.url(), &memory);
    for _ in 0..2 {
        let ids = awaited(&registrar).unwrap().unwrap();
        assert_eq!((ids.value, ids.key), (5, Some(6)));
    }
    assert_eq!(memory.id("t-value", VALUE), Some(5));
    assert_eq!(memory.id("t-key", KEY), Some(6));
    let questions = replay.questions();
    let lines: Vec<&str> = questions.iter().map(|it| it.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /subjects/t-value",
            "GET /subjects/t-value/versions/latest",
            "POST /subjects/t-value/versions",
            "POST /subjects/t-key",
        ]
    );
}

#[test]
fn while_nobody_answers_what_is_on_record_is_known_and_what_is_new_waits() {
    let gone = Replay::new(vec![]).unwrap().url();
    let memory = Memory::with(&[("t-key", KEY, 5), ("t-value", VALUE, 6)]);
    let registrar = registrar(gone, &memory);
    let ids = awaited(&registrar).unwrap().unwrap();
    assert_eq!((ids.key, ids.value), (Some(5), 6));
    let new = Schemas::new("public.u".to_owned(), "u", None, VALUE);
    let standing = registrar.standing(&new).unwrap();
    assert!(matches!(standing, Standing::Waiting), "{standing:?}");
    let known = registrar.standing(&schemas()).unwrap();
    assert!(matches!(known, Standing::Known(_)), "{known:?}");
}

#[test]
fn what_was_not_answered_is_asked_again() {
    let replay = Replay::new(vec![
        Reply::Says(503, ""),
        Reply::Closes,
        Reply::Says(200, r#"{"id":5}"#),
        Reply::Says(200, r#"{"id":6}"#),
    ])
    .unwrap();
    let memory = Memory::default();
    let registrar = registrar(replay.url(), &memory);
    let ids = awaited(&registrar).unwrap().unwrap();
    assert!(ids.key.is_some() && ids.value > 4, "{ids:?}");
}

/// Each wait ends after 100 ms at the latest, and no sooner without an answer.
#[test]
fn those_who_wait_do_not_wake_each_other() {
    let gone = Replay::new(vec![]).unwrap().url();
    let registrar = registrar(gone, &Memory::default());
    let (begun, length) = (Instant::now(), Duration::from_millis(600));
    let waiting = (0..2).map(|_| {
        let registrar = registrar.clone();
        std::thread::spawn(move || {
            let mut looks = 0;
            let _ = registrar.await_ids(&schemas(), &mut || {
                looks += 1;
                match begun.elapsed() < length {
                    true => Ok(()),
                    false => Err(Error::failed("long enough")),
                }
            });
            looks
        })
    });
    let waiting: Vec<_> = waiting.collect();
    let looks: Vec<u32> = waiting.into_iter().map(|it| it.join().unwrap()).collect();
    assert!(looks.iter().all(|looks| *looks < 30), "{looks:?}");
}

#[test]
fn what_is_known_of_tables_that_come_and_go_has_a_bound() {
    let place = |number: u128| Place {
        subject: "t-value".to_owned(),
        fingerprint: number,
    };
    let mut desk = Desk::default();
    desk.note(place(0), Known::Asked);
    for number in 1..=3 * KEPT as u128 {
        let used = Used { id: 7, meaning: 0 };
        desk.note(place(number), Known::Id(used));
    }
    assert!(desk.known.len() <= KEPT, "{}", desk.known.len());
    assert!(
        desk.known.contains_key(&place(0)),
        "it is still in the queue"
    );
    let kept = Place {
        subject: "u-value".to_owned(),
        fingerprint: 0,
    };
    desk.note(kept, Known::Id(Used { id: 8, meaning: 0 }));
    assert!(desk.contradicted(Used { id: 8, meaning: 1 }).is_some());
    for number in 1..=KEPT as u128 {
        let used = Used { id: 7, meaning: 0 };
        desk.note(place(number), Known::Id(used));
    }
    let let_go = desk.contradicted(Used { id: 8, meaning: 1 });
    assert_eq!(let_go, None, "what is let go is nobody's");
}

/// Whatever comes and goes, what is found at once is what a look at everything would find.
#[test]
fn an_id_is_contradicted_by_whoever_carries_it_for_another_schema() {
    let mut desk = Desk::default();
    let mut known: HashMap<(String, u128), Used> = HashMap::new();
    let mut records: HashMap<String, SubjectIds> = HashMap::new();
    // Knuth's MMIX generator: the same numbers each time.
    let mut seed = 1_u64;
    let mut any = |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for step in 0..3000 {
        let subject = format!("{}-value", any(5));
        let used = Used {
            id: any(4) as u32,
            meaning: any(3).into(),
        };
        let fingerprint = any(3).into();
        match any(3) {
            0 => {
                let ids = records.entry(subject.clone()).or_default();
                ids.put(&any(20).to_string(), used.meaning, used.id);
                desk.put_on_record(subject, ids.clone());
            }
            1 => {
                known.insert((subject.clone(), fingerprint), used);
                let place = Place {
                    subject,
                    fingerprint,
                };
                desk.note(place, Known::Id(used));
            }
            _ => {
                known.remove(&(subject.clone(), fingerprint));
                let place = Place {
                    subject,
                    fingerprint,
                };
                desk.note(place, Known::Asked);
            }
        }
        for (id, meaning) in (0..4).flat_map(|id| (0..3).map(move |meaning| (id, meaning))) {
            let differs = |(other, of): (u32, u128)| other == id && of != meaning;
            let mut expected: Vec<&str> = Vec::new();
            for ((subject, _), used) in &known {
                if differs((used.id, used.meaning)) {
                    expected.push(subject);
                }
            }
            for (subject, ids) in &records {
                if ids.carried().any(differs) {
                    expected.push(subject);
                }
            }
            let found = desk.contradicted(Used { id, meaning });
            match found {
                None => assert!(expected.is_empty(), "step {step}: {id} is {expected:?}'s"),
                Some(found) => assert!(expected.contains(&found), "step {step}: {found}"),
            }
        }
    }
}

#[test]
fn another_id_for_an_unchanged_key_is_refused() {
    let replay = Replay::new(vec![
        Reply::Says(200, r#"{"id":9}"#),
        Reply::Says(200, r#"{"id":1}"#),
    ])
    .unwrap();
    let memory = Memory::with(&[("t-key", KEY, 5), ("t-value", VALUE, 6)]);
    let registrar = registrar(replay.url(), &memory);
    let error = awaited(&registrar).unwrap_err();
    let text = error.to_string();
    for part in ["t-key", "id 1 ", "id 5", "topic \"t\"", &replay.url()] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let cures = error.hint().unwrap_or_default();
    assert!(
        cures.contains("Restore") && cures.contains("new topics"),
        "{cures}"
    );
    assert_eq!(memory.id("t-key", KEY), Some(5));
    assert_eq!(memory.id("t-value", VALUE), Some(9), "a value's may change");
}

#[test]
fn an_id_that_was_on_record_is_left_for_the_one_that_is_answered() {
    let replay = Replay::new(vec![
        Reply::Says(503, ""),
        Reply::Says(200, r#"{"id":2}"#),
        Reply::Says(200, r#"{"id":1}"#),
    ])
    .unwrap();
    let memory = Memory::with(&[("t-key", KEY, 2), ("t-value", VALUE, 5)]);
    let registrar = registrar(replay.url(), &memory);
    let (schemas, begun) = (schemas(), Instant::now());
    loop {
        let standing = registrar.standing(&schemas).unwrap();
        if let Standing::Known(Ids { key, value: 1 }) = standing {
            assert_eq!(key, Some(2));
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{standing:?}");
        registrar.wait(Duration::from_millis(10));
    }
}

#[test]
fn an_id_stands_for_one_schema() {
    let long = VALUE.replace("int", "long");
    let replay = Replay::new(vec![
        Reply::Says(200, r#"{"id":5}"#),
        Reply::Says(200, r#"{"id":5}"#),
        ABSENT,
        ABSENT,
        Reply::Says(200, r#"{"id":5}"#),
    ])
    .unwrap();
    let memory = Memory::default();
    let registrar = registrar(replay.url(), &memory);
    let ask = |table: &str, value: &str| {
        let begun = Instant::now();
        let schemas = Schemas::new(format!("public.{table}"), table, None, value);
        registrar.await_ids(&schemas, &mut || match begun.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(Error::failed("no answer in time")),
        })
    };
    let annotated = VALUE.replace("int\"", "int\",\"pgType\":\"integer\"");
    assert_eq!(ask("t", VALUE).unwrap().unwrap().value, 5);
    assert_eq!(ask("t", &annotated).unwrap().unwrap().value, 5);
    let error = ask("u", &long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let text = error.to_string();
    for part in ["u-value", "t-value", "id 5", &replay.url()] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let cure = error.hint().unwrap_or_default();
    assert!(cure.contains("Restore"), "{cure}");
    assert_eq!(memory.id("u-value", &long), None);
}

/// A registry was emptied between two runs, and gives the table that comes first the id of another.
#[test]
fn an_id_on_record_since_an_earlier_run_stands_for_its_schema_too() {
    let long = VALUE.replace("int", "long");
    let memory = Memory::with(&[("t-value", VALUE, 6), ("t-value", VALUE, 7)]);
    for id in ["6", "7"] {
        let body: &str = Box::leak(format!("{{\"id\":{id}}}").into_boxed_str());
        let replay = Replay::new(vec![Reply::Says(200, body)]).unwrap();
        let registrar = registrar(replay.url(), &memory);
        let begun = Instant::now();
        let schemas = Schemas::new("public.u".to_owned(), "u", None, &long);
        let asked = registrar.await_ids(&schemas, &mut || match begun.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(Error::failed("no answer in time")),
        });
        let error = asked.unwrap_err();
        let text = error.to_string();
        for part in ["u-value", "t-value", &format!("id {id}")] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(memory.id("u-value", &long), None);
    }
}

#[test]
fn an_id_that_is_on_record_for_two_schemas_is_not_used_while_nobody_answers() {
    let gone = Replay::new(vec![]).unwrap().url();
    let memory = Memory::with(&[
        ("t-value", VALUE, 6),
        ("u-value", "\"int\"", 6),
        ("v-value", VALUE, 7),
    ]);
    let registrar = registrar(gone, &memory);
    let of = |topic: &str| Schemas::new(format!("public.{topic}"), topic, None, VALUE);
    let begun = Instant::now();
    let known = registrar.await_ids(&of("v"), &mut || match begun.elapsed() < PATIENCE {
        true => Ok(()),
        false => Err(Error::failed("not known in time")),
    });
    assert_eq!(known.unwrap().unwrap().value, 7);
    let standing = registrar.standing(&of("t")).unwrap();
    assert!(matches!(standing, Standing::Waiting), "{standing:?}");
}

#[test]
fn what_is_not_compatible_is_refused_with_the_difference() {
    let replay = Replay::new(vec![
        ABSENT,
        Reply::Says(
            200,
            r#"{"id":1,"version":1,"schema":"{\"type\":\"record\",\"name\":\"Row\",\"fields\":[{\"name\":\"a\",\"type\":\"string\"}]}"}"#,
        ),
        Reply::Says(200, r#"{"is_compatible":false,"messages":["TYPE_MISMATCH"]}"#),
        Reply::Says(200, r#"{"compatibilityLevel":"FULL"}"#),
        Reply::Says(200, r#"{"id":6}"#),
    ])
    .unwrap();
    let registrar = registrar(replay.url(), &Memory::default());
    let refused = awaited(&registrar).unwrap().unwrap_err();
    assert_eq!(
        refused.reason(),
        "its schema is not compatible with what subject t-value has for topic \"t\" at level \
         FULL: Row: field a changed from string to int (the registry says: TYPE_MISMATCH)"
    );
}

#[test]
fn what_is_not_compatible_is_refused_even_where_nobody_may_ask_why() {
    let denied = || Reply::Says(403, r#"{"error_code":40301,"message":"denied"}"#);
    let replay = Replay::new(vec![
        ABSENT,
        denied(),
        Reply::Says(
            200,
            r#"{"is_compatible":false,"messages":["TYPE_MISMATCH"]}"#,
        ),
        denied(),
        Reply::Says(200, r#"{"id":6}"#),
    ])
    .unwrap();
    let registrar = registrar(replay.url(), &Memory::default());
    let refused = awaited(&registrar).unwrap().unwrap_err();
    assert_eq!(
        refused.reason(),
        "its schema is not compatible with what subject t-value has for topic \"t\" (the \
         registry says: TYPE_MISMATCH)"
    );
}

#[test]
fn a_login_that_is_refused_is_an_error_at_once_for_everybody() {
    let replay = Replay::new(vec![Reply::Says(401, "")]).unwrap();
    let registrar = registrar(replay.url(), &Memory::default());
    for asked in [
        awaited(&registrar).unwrap_err(),
        awaited(&registrar.clone()).unwrap_err(),
        registrar.check().unwrap_err(),
    ] {
        assert_eq!(asked.kind(), ErrorKind::Failed, "{asked}");
        assert!(asked.to_string().contains("401"), "{asked}");
        let hint = asked.hint().unwrap_or_default();
        assert!(hint.contains("--registry-user"), "{hint}");
    }
}

#[test]
fn nobody_waits_for_a_thread_that_has_panicked() {
    struct Panics;

    impl SchemaIds for Panics {
        fn load(&mut self) -> Result<HashMap<String, SubjectIds>> {
            Ok(HashMap::new())
        }

        fn store(&mut self, _: &str, _: &SubjectIds) -> Result<()> {
            panic!("as the test wants")
        }

        fn clear(&mut self) -> Result<()> {
            Ok(())
        }
    }

    let replay = Replay::new(vec![Reply::Says(200, r#"{"id":5}"#)]).unwrap();
    let options = RegistryOptions {
        url: Some(replay.url()),
        ..RegistryOptions::default()
    };
    let registry = Registry::new(&options).unwrap().unwrap();
    let registrar = Registrar::start(
        registry,
        Some(Box::new(Panics)),
        &Stop::default(),
        &Metrics::default(),
    )
    .unwrap();
    let error = awaited(&registrar).unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
}

/// The column `a` as version 3 of `t-value` has it.
const DAYS: Reply = Reply::Says(
    200,
    r#"{"id":1,"version":3,"schema":"{\"type\":\"record\",\"name\":\"Row\",\"fields\":[{\"name\":\"a\",\"type\":{\"type\":\"int\",\"logicalType\":\"date\"}}]}"}"#,
);

/// What is answered of [`VALUE`], a key of which is known, where version 3 has [`DAYS`].
fn answered(replies: Vec<Reply>) -> (Vec<String>, Result<Result<Ids, Arc<Refused>>>) {
    let mut all = vec![ABSENT, DAYS, COMPATIBLE];
    all.extend(replies);
    let replay = Replay::new(all).unwrap();
    let registrar = registrar(replay.url(), &Memory::default());
    let answer = awaited(&registrar);
    let questions = replay.questions().into_iter().map(|it| it.line);
    (questions.skip(3).collect(), answer)
}

const REGISTERED: Reply = Reply::Says(200, r#"{"id":5}"#);
const KEY_KNOWN: Reply = Reply::Says(200, r#"{"id":6}"#);

#[test]
fn what_the_registry_takes_and_readers_would_misread_is_refused() {
    let (_, answer) = answered(vec![
        Reply::Says(200, r#"{"compatibilityLevel":"BACKWARD"}"#),
        KEY_KNOWN,
    ]);
    assert_eq!(
        answer.unwrap().unwrap_err().reason(),
        "its schema is not compatible with what subject t-value has for topic \"t\" at level \
         BACKWARD: Row: field a changed from date(int) to int (the registry takes it, and readers \
         would misread it: field Row.a: date(int) of version 3 is read as int by the new schema)"
    );
    let (_, answer) = answered(vec![
        Reply::Says(200, r#"{"compatibilityLevel":"FORWARD"}"#),
        KEY_KNOWN,
    ]);
    let refused = answer.unwrap().unwrap_err();
    let told = "field Row.a: int is read as date(int) by version 3)";
    assert!(refused.reason().ends_with(told), "{}", refused.reason());
}

#[test]
fn it_is_refused_too_where_nobody_may_read_the_level() {
    let denied = Reply::Says(403, r#"{"error_code":40301,"message":"denied"}"#);
    let (_, answer) = answered(vec![denied, KEY_KNOWN]);
    let refused = answer.unwrap().unwrap_err();
    assert!(
        refused.reason().contains("by the new schema; field"),
        "{}",
        refused.reason()
    );
}

#[test]
fn under_none_nobody_asked_for_a_check() {
    let (questions, answer) = answered(vec![
        Reply::Says(200, r#"{"compatibilityLevel":"NONE"}"#),
        COMPATIBLE,
        REGISTERED,
        KEY_KNOWN,
    ]);
    assert_eq!(answer.unwrap().unwrap().value, 5);
    assert_eq!(
        questions,
        [
            "GET /config/t-value?defaultToGlobal=true",
            "POST /compatibility/subjects/t-value/versions?verbose=true",
            "POST /subjects/t-value/versions",
            "POST /subjects/t-key",
        ]
    );
}

/// As Apicurio says it of a subject that has no level of its own.
#[test]
fn a_none_under_which_something_is_refused_is_none_of_the_subjects_own() {
    let none = || Reply::Says(200, r#"{"compatibilityLevel":"NONE"}"#);
    let (_, answer) = answered(vec![
        none(),
        Reply::Says(200, r#"{"is_compatible":false}"#),
        none(),
        Reply::Says(200, r#"{"compatibilityLevel":"FULL"}"#),
        KEY_KNOWN,
    ]);
    let refused = answer.unwrap().unwrap_err();
    assert!(
        refused.reason().contains("at level FULL"),
        "{}",
        refused.reason()
    );
}

#[test]
fn a_transitive_level_is_held_for_every_version() {
    let version = |schema: &'static str| Reply::Says(200, schema);
    let replay = Replay::new(vec![
        ABSENT,
        version(r#"{"id":9,"version":5,"schema":"{\"type\":\"record\",\"name\":\"Row\",\"fields\":[]}"}"#),
        COMPATIBLE,
        Reply::Says(200, r#"{"compatibilityLevel":"FORWARD_TRANSITIVE"}"#),
        Reply::Says(200, "[3,4,5]"),
        // Deleted since.
        Reply::Says(404, r#"{"error_code":40402,"message":"no version"}"#),
        DAYS,
        KEY_KNOWN,
    ])
    .unwrap();
    let registrar = registrar(replay.url(), &Memory::default());
    let refused = awaited(&registrar).unwrap().unwrap_err();
    assert!(
        refused.reason().ends_with("by version 3)"),
        "{}",
        refused.reason()
    );
    let questions = replay.questions();
    let lines: Vec<&str> = questions.iter().map(|it| it.line.as_str()).collect();
    assert_eq!(
        lines[4..7],
        [
            "GET /subjects/t-value/versions",
            "GET /subjects/t-value/versions/4",
            "GET /subjects/t-value/versions/3",
        ]
    );
}

#[test]
fn who_may_not_read_the_newest_schema_is_told_what_to_allow() {
    let denied = || Reply::Says(403, r#"{"error_code":40301,"message":"denied"}"#);
    let replay = Replay::new(vec![ABSENT, denied(), COMPATIBLE]).unwrap();
    let registrar = registrar(replay.url(), &Memory::default());
    let error = awaited(&registrar).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("version latest of subject t-value"),
        "{error}"
    );
    assert!(
        error.hint().unwrap_or_default().contains("Allow the user"),
        "{error}"
    );
}

#[test]
fn a_refusal_stands_while_the_registry_is_away_and_is_asked_about_again_when_it_is_not() {
    let schemas = schemas();
    let question = || schemas.question(Part::Value, schemas.value());
    let refused = question().refused(&Grounds::Told("it does not take it".to_owned()));
    let long_ago = Instant::now().checked_sub(Duration::from_secs(3600));
    let mut desk = Desk::default();
    let known = Known::Refused(Arc::new(refused), long_ago.unwrap());
    desk.note(question().place(), known);
    desk.is_down = true;
    assert!(matches!(desk.look(question()), Found::Refused(_)), "away");
    assert!(desk.queue.is_empty(), "asked of nobody");
    desk.is_down = false;
    assert!(matches!(desk.look(question()), Found::Waiting), "back");
    assert_eq!(desk.queue.len(), 1);
    desk.is_down = true;
    assert!(
        matches!(desk.look(question()), Found::Refused(_)),
        "away once more"
    );
    assert_eq!(desk.queue.len(), 1, "asked once");
}
