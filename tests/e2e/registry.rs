//! The registry that the other tests stand on: what they take for granted of it.

use headwater_tests::Registry;
use headwater_tests::registry::Compatibility;

use crate::world;

const ONE: &str = r#"{"type":"record","name":"Row","namespace":"registry.t","fields":[{"name":"id","type":"long"}]}"#;
/// A column more, and no default: what was written before cannot be read with it.
const TWO: &str = r#"{"type":"record","name":"Row","namespace":"registry.t","fields":[{"name":"id","type":"long"},{"name":"n","type":"long"}]}"#;

#[test]
fn it_hands_out_ids_and_refuses_what_full_compatibility_forbids() {
    let registry = world::registry();
    let subject = "registry.a subject/of its own-value";
    let id = registry.register(subject, ONE).unwrap();
    assert_eq!(registry.register(subject, ONE), Ok(id));
    assert_eq!(registry.newest(subject), (id, ONE.to_owned()));
    assert_eq!(registry.schema(id).as_deref(), Ok(ONE));
    let refused = registry.register(subject, TWO).unwrap_err();
    assert_eq!(refused.status, 409, "{refused}");
    assert_eq!(registry.versions(subject), [1]);
}

#[test]
fn killed_and_started_it_is_empty_and_as_strict_as_before() {
    let mut registry = Registry::new(Compatibility::Forward);
    registry.register("a-value", TWO).unwrap();
    registry.kill();
    registry.start();
    assert_eq!(registry.subjects(), [] as [&str; 0]);
    assert_eq!(registry.versions("a-value"), [] as [u64; 0]);
    registry.register("a-value", TWO).unwrap();
    // Whoever expects the column cannot read what is written without it.
    assert_eq!(registry.register("a-value", ONE).unwrap_err().status, 409);
}
