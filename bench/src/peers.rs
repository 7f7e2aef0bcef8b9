//! The output plugins that are compared, and how many changes a write of each holds.
//!
//! Every run is counted: a plugin that left something out would look fast.

use headwater_protocol::frame::{Frame, Frames};

/// A plugin as one run uses it.
pub(crate) struct Peer {
    /// In results and tables.
    pub(crate) name: &'static str,
    /// The library.
    pub(crate) plugin: &'static str,
    /// Its options.
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// Changes of rows in one write.
    pub(crate) changes: fn(&[u8]) -> u64,
    /// Whether it sends the changes at all.
    pub(crate) sends: bool,
}

/// What everything else is a ratio of.
pub(crate) const BASE: &str = "pgoutput, text";

/// Each plugin.
pub(crate) const PEERS: [Peer; 9] = [
    Peer {
        name: BASE,
        plugin: "pgoutput",
        options: &[("proto_version", "1"), ("publication_names", "everything")],
        changes: pgoutput,
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
        changes: pgoutput,
        sends: true,
    },
    Peer {
        name: "decoding alone",
        plugin: "pgoutput",
        options: &[("proto_version", "1"), ("publication_names", "nothing")],
        changes: pgoutput,
        sends: false,
    },
    Peer {
        name: "headwater, frames",
        plugin: "headwater",
        options: &[("output", "frames")],
        changes: frames,
        sends: true,
    },
    Peer {
        name: "headwater, lines",
        plugin: "headwater",
        options: &[("output", "lines"), ("envelope", "change")],
        changes: lines,
        sends: true,
    },
    Peer {
        name: "test_decoding",
        plugin: "test_decoding",
        // Its default; the grammar wants at least one option.
        options: &[("include-xids", "true")],
        changes: test_decoding,
        sends: true,
    },
    Peer {
        name: "wal2json v1",
        plugin: "wal2json",
        options: &[("format-version", "1")],
        changes: wal2json_1,
        sends: true,
    },
    Peer {
        name: "wal2json v2",
        plugin: "wal2json",
        options: &[("format-version", "2")],
        changes: wal2json_2,
        sends: true,
    },
    Peer {
        name: "decoderbufs",
        plugin: "decoderbufs",
        options: &[("debug-mode", "false")],
        changes: decoderbufs,
        sends: true,
    },
];

fn pgoutput(write: &[u8]) -> u64 {
    u64::from(matches!(write.first(), Some(b'I' | b'U' | b'D')))
}

fn frames(write: &[u8]) -> u64 {
    Frames::new(write)
        .filter(|frame| match frame {
            Ok(frame) => matches!(frame, Frame::Change(_)),
            Err(e) => panic!("the plugin sent what is no frame: {e}"),
        })
        .count() as u64
}

fn lines(write: &[u8]) -> u64 {
    write.split(|byte| *byte == b'\n').count() as u64
}

fn test_decoding(write: &[u8]) -> u64 {
    u64::from(write.starts_with(b"table "))
}

fn wal2json_1(write: &[u8]) -> u64 {
    // A quote within a value stands behind a backslash, so this is always a change.
    const KIND: &[u8] = b"\"kind\":\"";
    write
        .windows(KIND.len())
        .enumerate()
        .filter(|(at, window)| *window == KIND && (*at == 0 || write[at - 1] != b'\\'))
        .count() as u64
}

fn wal2json_2(write: &[u8]) -> u64 {
    let action = write.strip_prefix(b"{\"action\":\"").unwrap_or_default();
    u64::from(matches!(action.first(), Some(b'I' | b'U' | b'D')))
}

/// A message is one `RowMessage`: field 4 is the operation, INSERT 0 to DELETE 2, then
/// those of transactions.
fn decoderbufs(write: &[u8]) -> u64 {
    let mut rest = write;
    while let Some((key, after)) = varint(rest) {
        rest = match key & 7 {
            0 => match varint(after) {
                Some((value, _)) if key >> 3 == 4 => return u64::from(value <= 2),
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
    0
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
