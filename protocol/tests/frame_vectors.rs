//! The test vectors of the frame protocol, read and written. A change that breaks this
//! test changes the protocol, and needs a new version of it.

#![allow(missing_docs)]

mod vectors;

use headwater_protocol::Lsn;
use headwater_protocol::frame::{
    Begin, Change, Column, Commit, Frame, Frames, Hello, Message, Op, Quarantine,
    QuarantinedMessage, Relation, ReplicaIdentity, Schemas, Stale, Truncate, write,
};

const COMMIT: Lsn = Lsn(0x16_B374_D848);
const END: Lsn = Lsn(0x16_B374_D878);
const ORDERS: u32 = 16_385;

fn expected() -> Vec<(&'static str, Frame<'static>)> {
    vec![
        (
            "hello",
            Frame::Hello(Hello {
                protocol: 1,
                server_version: 150_015,
                plugin_version: "0.1.0",
            }),
        ),
        (
            "begin",
            Frame::Begin(Begin {
                xid: 740,
                commit_lsn: COMMIT,
                end_lsn: END,
                commit_time: 1_764_000_000_123_456,
            }),
        ),
        ("relation", Frame::Relation(orders())),
        (
            "schemas",
            Frame::Schemas(Schemas {
                relation: ORDERS,
                key: Some(r#""long""#),
                value: r#"{"type":"string"}"#,
            }),
        ),
        (
            "create",
            Frame::Change(Change {
                key: Some(br#"{"id":1}"#),
                value: Some(r#"{"id":1,"città":"Roma","doc":null}"#.as_bytes()),
                ..change(Op::Create, 0)
            }),
        ),
        (
            "update",
            Frame::Change(Change {
                key: Some(br#"{"id":2}"#),
                old_key: Some(br#"{"id":1}"#),
                value: Some(r#"{"id":2,"città":"Roma"}"#.as_bytes()),
                unchanged: vec!["doc"],
                ..change(Op::Update, 1)
            }),
        ),
        (
            "delete",
            Frame::Change(Change {
                key: Some(br#"{"id":2}"#),
                ..change(Op::Delete, 2)
            }),
        ),
        (
            "truncate",
            Frame::Truncate(Truncate {
                seq: 3,
                cascade: false,
                restart_identity: true,
                relations: vec![(ORDERS, None)],
                partitions: vec![],
            }),
        ),
        (
            "truncate-partition",
            Frame::Truncate(Truncate {
                seq: 3,
                cascade: false,
                restart_identity: false,
                relations: vec![(ORDERS, None)],
                partitions: vec![("shop", "orders_2024")],
            }),
        ),
        (
            "message",
            Frame::Message(Message {
                transactional: true,
                lsn: Lsn(0x16_B374_D7A0),
                seq: 4,
                prefix: "outbox",
                content: b"hello",
            }),
        ),
        (
            "quarantine",
            Frame::Quarantine(Quarantine {
                relation: ORDERS,
                op: Op::Create,
                seq: 5,
                key: Some(br#"{"id":3}"#),
                reason: "row too large",
            }),
        ),
        (
            "quarantined message",
            Frame::QuarantinedMessage(QuarantinedMessage {
                transactional: true,
                lsn: Lsn(0x16_B374_D7E8),
                seq: 6,
                prefix: "outbox",
                reason: "content too large",
            }),
        ),
        (
            "stale",
            Frame::Stale(Stale {
                relation: ORDERS,
                gone: false,
                reason: "its key changed",
            }),
        ),
        (
            "commit",
            Frame::Commit(Commit {
                end_lsn: END,
                changes: 8,
            }),
        ),
        (
            "read",
            Frame::Change(Change {
                key: Some(br#"{"id":1}"#),
                value: Some(br#"{"id":1}"#),
                ..change(Op::Read, 0)
            }),
        ),
    ]
}

fn orders() -> Relation<'static> {
    let column = |name, is_key, type_oid, type_modifier| Column {
        is_key,
        type_oid,
        type_modifier,
        name,
    };
    Relation {
        id: ORDERS,
        identity: ReplicaIdentity::Default,
        schema: "shop",
        table: "orders",
        columns: vec![
            column("id", true, 20, -1),
            column("città", false, 1_043, 24),
            column("doc", false, 25, -1),
        ],
    }
}

fn change(op: Op, seq: u64) -> Change<'static> {
    Change {
        op,
        relation: ORDERS,
        seq,
        key: None,
        old_key: None,
        value: None,
        unchanged: vec![],
    }
}

#[test]
fn there_is_a_vector_for_every_frame_and_no_other() {
    let names: Vec<String> = vectors::load()
        .into_iter()
        .map(|vector| vector.name)
        .collect();
    let expected: Vec<&str> = expected().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, expected);
}

#[test]
fn vectors_read_as_the_frames_they_show() {
    for (vector, (_, frame)) in vectors::load().iter().zip(expected()) {
        let bytes = vector.bytes();
        let frames: Result<Vec<Frame<'_>>, _> = Frames::new(&bytes).collect();
        assert_eq!(frames, Ok(vec![frame]), "{}", vector.name);
    }
}

#[test]
fn frames_write_as_the_vectors_that_show_them() {
    for (vector, (_, frame)) in vectors::load().iter().zip(expected()) {
        let mut bytes = Vec::new();
        write::frame(&mut bytes, &frame);
        assert_eq!(bytes, vector.bytes(), "{}", vector.name);
    }
}
