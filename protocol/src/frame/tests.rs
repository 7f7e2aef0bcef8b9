#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A frame that owns its bytes, for strategies; [`Owned::frame`] borrows it.
#[derive(Clone, Debug)]
enum Owned {
    Hello(u16, u32, String),
    Begin(Begin),
    Relation(
        u32,
        ReplicaIdentity,
        String,
        String,
        Vec<(bool, u32, i32, String)>,
    ),
    Change(Op, u32, u64, [Option<Vec<u8>>; 3], Vec<String>),
    Truncate(
        u64,
        bool,
        bool,
        Vec<(u32, Option<Vec<u8>>)>,
        Vec<(String, String)>,
    ),
    Message(bool, u64, u64, String, Vec<u8>),
    Quarantine(u32, Op, u64, Option<Vec<u8>>, String),
    QuarantinedMessage(bool, u64, u64, String, String),
    Stale(u32, bool, String),
    Schemas(u32, Option<String>, String),
    Commit(Commit),
}

impl Owned {
    fn frame(&self) -> Frame<'_> {
        match self {
            Owned::Hello(protocol, server_version, plugin_version) => Frame::Hello(Hello {
                protocol: *protocol,
                server_version: *server_version,
                plugin_version,
            }),
            Owned::Begin(begin) => Frame::Begin(*begin),
            Owned::Relation(id, identity, schema, table, columns) => Frame::Relation(Relation {
                id: *id,
                identity: *identity,
                schema,
                table,
                columns: columns.iter().map(column).collect(),
            }),
            Owned::Change(op, relation, seq, [key, old_key, value], unchanged) => {
                Frame::Change(Change {
                    op: *op,
                    relation: *relation,
                    seq: *seq,
                    key: key.as_deref(),
                    old_key: old_key.as_deref(),
                    value: value.as_deref(),
                    unchanged: unchanged.iter().map(String::as_str).collect(),
                })
            }
            Owned::Truncate(seq, cascade, restart_identity, relations, partitions) => {
                Frame::Truncate(Truncate {
                    seq: *seq,
                    cascade: *cascade,
                    restart_identity: *restart_identity,
                    relations: relations
                        .iter()
                        .map(|(id, bytes)| (*id, bytes.as_deref()))
                        .collect(),
                    partitions: partitions
                        .iter()
                        .map(|(schema, table)| (schema.as_str(), table.as_str()))
                        .collect(),
                })
            }
            Owned::Message(transactional, lsn, seq, prefix, content) => Frame::Message(Message {
                transactional: *transactional,
                lsn: Lsn(*lsn),
                seq: *seq,
                prefix,
                content,
            }),
            Owned::Quarantine(relation, op, seq, key, reason) => Frame::Quarantine(Quarantine {
                relation: *relation,
                op: *op,
                seq: *seq,
                key: key.as_deref(),
                reason,
            }),
            Owned::QuarantinedMessage(transactional, lsn, seq, prefix, reason) => {
                Frame::QuarantinedMessage(QuarantinedMessage {
                    transactional: *transactional,
                    lsn: Lsn(*lsn),
                    seq: *seq,
                    prefix,
                    reason,
                })
            }
            Owned::Stale(relation, gone, reason) => Frame::Stale(Stale {
                relation: *relation,
                gone: *gone,
                reason,
            }),
            Owned::Schemas(relation, key, value) => Frame::Schemas(Schemas {
                relation: *relation,
                key: key.as_deref(),
                value,
            }),
            Owned::Commit(commit) => Frame::Commit(*commit),
        }
    }
}

fn column((is_key, type_oid, type_modifier, name): &(bool, u32, i32, String)) -> Column<'_> {
    Column {
        is_key: *is_key,
        type_oid: *type_oid,
        type_modifier: *type_modifier,
        name,
    }
}

fn any_frame() -> impl Strategy<Value = Owned> {
    let op = || prop::sample::select(vec![Op::Create, Op::Update, Op::Delete, Op::Read]);
    let identity = prop::sample::select(vec![
        ReplicaIdentity::Default,
        ReplicaIdentity::Nothing,
        ReplicaIdentity::Full,
        ReplicaIdentity::Index,
    ]);
    let name = || "\\PC{0,12}";
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let begin = any::<(u32, u64, u64, i64)>().prop_map(|(xid, commit, end, commit_time)| Begin {
        xid,
        commit_lsn: Lsn(commit),
        end_lsn: Lsn(end),
        commit_time,
    });
    let columns = prop::collection::vec((any::<bool>(), any::<u32>(), any::<i32>(), name()), 0..5);
    prop_oneof![
        (any::<u16>(), any::<u32>(), name()).prop_map(|(p, s, v)| Owned::Hello(p, s, v)),
        begin.prop_map(Owned::Begin),
        (any::<u32>(), identity, name(), name(), columns)
            .prop_map(|(id, identity, s, t, columns)| Owned::Relation(id, identity, s, t, columns)),
        (
            op(),
            any::<u32>(),
            any::<u64>(),
            [bytes(), bytes(), bytes()],
            prop::collection::vec(name(), 0..4)
        )
            .prop_map(|(op, id, seq, sections, names)| Owned::Change(op, id, seq, sections, names)),
        (
            any::<u64>(),
            any::<bool>(),
            any::<bool>(),
            prop::collection::vec((any::<u32>(), bytes()), 0..4),
            any::<bool>(),
            name()
        )
            .prop_map(|(seq, cascade, restart, list, in_part, partition)| {
                let parts = if in_part { list.len() } else { 0 };
                let parts = (0..parts).map(|n| (partition.clone(), format!("{partition}_{n}")));
                let parts = parts.collect();
                Owned::Truncate(seq, cascade, restart, list, parts)
            }),
        (
            any::<bool>(),
            any::<u64>(),
            any::<u64>(),
            name(),
            prop::collection::vec(any::<u8>(), 0..20)
        )
            .prop_map(|(t, lsn, seq, prefix, content)| Owned::Message(
                t, lsn, seq, prefix, content
            )),
        (any::<u32>(), op(), any::<u64>(), bytes(), name())
            .prop_map(|(id, op, seq, key, reason)| Owned::Quarantine(id, op, seq, key, reason)),
        (any::<bool>(), any::<u64>(), any::<u64>(), name(), name()).prop_map(
            |(t, lsn, seq, prefix, reason)| Owned::QuarantinedMessage(t, lsn, seq, prefix, reason)
        ),
        (any::<u32>(), any::<bool>(), name())
            .prop_map(|(id, gone, reason)| Owned::Stale(id, gone, reason)),
        (any::<u32>(), prop::option::of(name()), name())
            .prop_map(|(id, key, value)| Owned::Schemas(id, key, value)),
        any::<(u64, u64)>().prop_map(|(end, changes)| {
            Owned::Commit(Commit {
                end_lsn: Lsn(end),
                changes,
            })
        }),
    ]
}

fn write_all(frames: &[Owned]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        write::frame(&mut bytes, &frame.frame());
    }
    bytes
}

fn read_all(bytes: &[u8]) -> Result<Vec<Frame<'_>>, FrameError> {
    Frames::new(bytes).collect()
}

#[test]
fn a_change_written_in_sections_is_the_change() {
    let mut bytes = b"kept".to_vec();
    let change = write::change(&mut bytes, Op::Update, 7, 3);
    let key = change.section(&mut bytes);
    assert_eq!(key.content_start(), bytes.len());
    bytes.extend_from_slice(b"{\"id\":1}");
    key.end(&mut bytes);
    change.absent(&mut bytes);
    let empty = change.section(&mut bytes);
    empty.end(&mut bytes);
    change.finish(&mut bytes, ["doc"].into_iter());
    assert_eq!(
        read_all(&bytes[4..]),
        Ok(vec![Frame::Change(Change {
            op: Op::Update,
            relation: 7,
            seq: 3,
            key: Some(b"{\"id\":1}"),
            old_key: None,
            value: Some(b""),
            unchanged: vec!["doc"],
        })])
    );
}

#[test]
fn a_text_too_long_for_its_length_is_cut_between_characters() {
    let reason = "é".repeat(40_000);
    let mut bytes = Vec::new();
    write::quarantine(
        &mut bytes,
        &Quarantine {
            relation: 1,
            op: Op::Create,
            seq: 0,
            key: None,
            reason: &reason,
        },
    );
    match read_all(&bytes).as_deref() {
        Ok([Frame::Quarantine(read)]) => assert_eq!(read.reason, "é".repeat(32_767)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_way_to_be_wrong_has_its_error() {
    let hello = |length: u8, body: &[u8]| [&[b'H', 0, 0, 0, length], body].concat();
    for (bytes, expected) in [
        (b"H".to_vec(), FrameError::Truncated),
        (hello(3, &[0, 1, 0]), FrameError::Truncated),
        (
            hello(9, &[0, 1, 0, 0, 0, 15, 0, 0, 9]),
            FrameError::TrailingBytes { tag: b'H' },
        ),
        (
            hello(9, &[0, 1, 0, 0, 0, 15, 0, 1, 0xFF]),
            FrameError::InvalidUtf8,
        ),
        (vec![b'Z', 0, 0, 0, 0], FrameError::UnknownTag(b'Z')),
        (
            vec![b'R', 0, 0, 0, 5, 0, 0, 0, 1, b'x'],
            FrameError::UnknownCode(b'x'),
        ),
        (vec![b'm', 0, 0, 0, 1, 2], FrameError::UnknownCode(2)),
        // Partitions of no relation.
        (
            [&[b't', 0, 0, 0, 13][..], &[0; 8], &[4, 0, 0, 0, 0]].concat(),
            FrameError::UnknownCode(4),
        ),
    ] {
        assert_eq!(read_all(&bytes), Err(expected), "{bytes:?}");
    }
}

#[test]
fn nothing_follows_an_error() {
    let mut bytes = vec![b'Z', 0, 0, 0, 0];
    write::commit(
        &mut bytes,
        &Commit {
            end_lsn: Lsn(1),
            changes: 0,
        },
    );
    let mut frames = Frames::new(&bytes);
    assert_eq!(frames.next(), Some(Err(FrameError::UnknownTag(b'Z'))));
    assert_eq!(frames.next(), None);
}

proptest! {
    #[test]
    fn frames_read_as_they_were_written(frames in prop::collection::vec(any_frame(), 0..6)) {
        let bytes = write_all(&frames);
        prop_assert_eq!(read_all(&bytes), Ok(frames.iter().map(Owned::frame).collect()));
    }

    #[test]
    fn every_cut_yields_the_frames_before_it_and_then_says_so(
        frames in prop::collection::vec(any_frame(), 1..4)
    ) {
        let bytes = write_all(&frames);
        let ends: Vec<usize> = (0..=frames.len()).map(|n| write_all(&frames[..n]).len()).collect();
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            let mut reader = Frames::new(&bytes[..cut]);
            for frame in &frames[..whole] {
                prop_assert_eq!(reader.next(), Some(Ok(frame.frame())));
            }
            let expected = (cut > ends[whole]).then_some(Err(FrameError::Truncated));
            prop_assert_eq!(reader.next(), expected, "cut at {}", cut);
        }
    }

    /// Whatever still reads after a byte changed, writes as the very bytes that were
    /// read: the reader accepts nothing that the writer would not write.
    #[test]
    fn a_corrupted_byte_is_an_error_or_another_valid_frame(
        frame in any_frame(),
        place: prop::sample::Index,
        mask in 1..=u8::MAX,
    ) {
        let mut bytes = write_all(&[frame]);
        let place = place.index(bytes.len());
        bytes[place] ^= mask;
        if let Ok(frames) = read_all(&bytes) {
            let mut again = Vec::new();
            frames.iter().for_each(|frame| write::frame(&mut again, frame));
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = read_all(&bytes);
    }
}
