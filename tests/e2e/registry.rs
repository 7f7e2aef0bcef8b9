//! The registry that the other tests stand on: what they take for granted of it.

use headwater_tests::Registry;
use headwater_tests::registry::Compatibility;
use headwater_tests::registry::proxy::{Fault, Proxy};

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

#[test]
fn on_the_way_to_it_requests_are_answered_lost_or_refused() {
    let registry = world::registry();
    let proxy = Proxy::to(registry);
    let subject = "registry.proxied-value";
    let ask = |authorization: Option<&str>| {
        let mut request = ureq::post(format!("{}/subjects/{subject}/versions", proxy.url()))
            .config()
            .http_status_as_error(false)
            .build()
            .content_type("application/vnd.schemaregistry.v1+json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let body = serde_json::json!({ "schema": ONE }).to_string();
        request
            .send(body)
            .map(|answer| answer.status().as_u16())
            .ok()
    };
    proxy.answer(422, "no");
    assert_eq!(ask(None), Some(422));
    proxy.set(Fault::Closed);
    assert_eq!(ask(None), None);
    proxy.set(Fault::Guarded("Bearer right".to_owned()));
    assert_eq!(ask(Some("Bearer wrong")), Some(401));
    assert_eq!(registry.versions(subject), [] as [u64; 0]);
    proxy.set(Fault::Lost);
    assert_eq!(ask(None), None);
    assert_eq!(registry.versions(subject), [1], "lost was the answer alone");
    proxy.set(Fault::Guarded("Bearer right".to_owned()));
    assert_eq!(ask(Some("Bearer right")), Some(200));
    proxy.set(Fault::None);
    assert_eq!(ask(None), Some(200));
    let asked = format!("POST /apis/ccompat/v7/subjects/{subject}/versions");
    assert_eq!(proxy.requests(), vec![asked; 5]);
}
