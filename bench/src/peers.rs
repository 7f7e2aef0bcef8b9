//! The output plugins that are compared, and which changes a write of each holds.
//!
//! Every run is counted: a plugin that left something out would look fast.

use headwater_protocol::frame::{Frame, Frames, Op};

use crate::workload::Changes;

/// A plugin as one run uses it.
pub(crate) struct Peer {
    /// In results and tables.
    pub(crate) name: &'static str,
    /// The library.
    pub(crate) plugin: &'static str,
    /// Its options.
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// Adds the changes of rows in one write.
    pub(crate) count: fn(&[u8], &mut Changes),
    /// Whether it sends the changes at all.
    pub(crate) sends: bool,
}

/// What everything else is a ratio of.
pub(crate) const BASE: &str = "pgoutput, text";

/// Each plugin.
pub(crate) const PEERS: [Peer; 10] = [
    Peer {
        name: BASE,
        plugin: "pgoutput",
        options: &[("proto_version", "1"), ("publication_names", "everything")],
        count: pgoutput,
        sends: true,
    },
    Peer {
        name: "pgoutput, binary",
        plugin: "pgoutput",
        options: &[
            ("proto_version", "1"),
            ("publication_names", "everything"),
            ("binary", "true"),
        ],
        count: pgoutput,
        sends: true,
    },
    Peer {
        name: "decoding alone",
        plugin: "pgoutput",
        options: &[("proto_version", "1"), ("publication_names", "nothing")],
        count: pgoutput,
        sends: false,
    },
    Peer {
        name: "headwater, frames",
        plugin: "headwater",
        options: &[("output", "frames")],
        count: frames,
        sends: true,
    },
    Peer {
        name: "headwater, frames in Avro",
        plugin: "headwater",
        options: &[("output", "frames"), ("format", "avro")],
        count: frames,
        sends: true,
    },
    Peer {
        name: "headwater, lines",
        plugin: "headwater",
        options: &[("output", "lines"), ("envelope", "change")],
        count: lines,
        sends: true,
    },
    Peer {
        name: "test_decoding",
        plugin: "test_decoding",
        // Its default; the grammar wants at least one option.
        options: &[("include-xids", "true")],
        count: test_decoding,
        sends: true,
    },
    Peer {
        name: "wal2json v1",
        plugin: "wal2json",
        options: &[("format-version", "1")],
        count: wal2json_1,
        sends: true,
    },
    Peer {
        name: "wal2json v2",
        plugin: "wal2json",
        options: &[("format-version", "2")],
        count: wal2json_2,
        sends: true,
    },
    Peer {
        name: "decoderbufs",
        plugin: "decoderbufs",
        options: &[("debug-mode", "false")],
        count: decoderbufs,
        sends: true,
    },
];

impl Changes {
    fn add(&mut self, op: u8) {
        match op {
            b'I' => self.inserts += 1,
            b'U' => self.updates += 1,
            b'D' => self.deletes += 1,
            _ => {}
        }
    }
}

fn pgoutput(write: &[u8], changes: &mut Changes) {
    changes.add(write.first().copied().unwrap_or_default());
}

fn frames(write: &[u8], changes: &mut Changes) {
    for frame in Frames::new(write) {
        match frame {
            Ok(Frame::Change(change)) => match change.op {
                Op::Create => changes.inserts += 1,
                Op::Update => changes.updates += 1,
                Op::Delete => changes.deletes += 1,
                Op::Read => {}
            },
            Ok(_) => {}
            Err(e) => panic!("the plugin sent what is no frame: {e}"),
        }
    }
}

/// A line ends with `"op":"c","ts_ms":1795408852587}`, or `u`, or `d`.
fn lines(write: &[u8], changes: &mut Changes) {
    const OP: &[u8] = b"\"op\":\"";
    const LONGEST_END: usize = 48;
    for line in write.split(|byte| *byte == b'\n') {
        let end = &line[line.len().saturating_sub(LONGEST_END)..];
        let op = end.windows(OP.len()).rposition(|window| window == OP);
        match op.and_then(|at| end.get(at + OP.len())) {
            Some(b'c') => changes.inserts += 1,
            Some(b'u') => changes.updates += 1,
            Some(b'd') => changes.deletes += 1,
            _ => {}
        }
    }
}

/// `table public.mixed: INSERT: …`: no table here has a colon in its name.
fn test_decoding(write: &[u8], changes: &mut Changes) {
    if let Some(change) = write.strip_prefix(b"table ")
        && let Some(colon) = change.iter().position(|byte| *byte == b':')
    {
        changes.add(change.get(colon + 2).copied().unwrap_or_default());
    }
}

fn wal2json_1(write: &[u8], changes: &mut Changes) {
    // A quote within a value stands behind a backslash, so this is always a change.
    const KIND: &[u8] = b"\"kind\":\"";
    for (at, window) in write.windows(KIND.len()).enumerate() {
        if window == KIND && (at == 0 || write[at - 1] != b'\\') {
            let kind = write.get(at + KIND.len()).copied().unwrap_or_default();
            changes.add(kind.to_ascii_uppercase());
        }
    }
}

fn wal2json_2(write: &[u8], changes: &mut Changes) {
    let action = write.strip_prefix(b"{\"action\":\"").unwrap_or_default();
    changes.add(action.first().copied().unwrap_or_default());
}

/// A message is one `RowMessage`: field 4 is the operation, INSERT 0 to DELETE 2, then
/// those of transactions.
fn decoderbufs(write: &[u8], changes: &mut Changes) {
    let mut rest = write;
    while let Some((key, after)) = varint(rest) {
        rest = match key & 7 {
            0 => match varint(after) {
                Some((value, _)) if key >> 3 == 4 => {
                    let op = usize::try_from(value).ok().and_then(|at| b"IUD".get(at));
                    return changes.add(op.copied().unwrap_or_default());
                }
                Some((_, after)) => after,
                None => break,
            },
            1 => after.get(8..).unwrap_or_default(),
            2 => match varint(after) {
                Some((length, after)) => usize::try_from(length)
                    .ok()
                    .and_then(|length| after.get(length..))
                    .unwrap_or_default(),
                None => break,
            },
            _ => after.get(4..).unwrap_or_default(),
        };
    }
}

/// Protocol Buffers' base-128 integer.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
