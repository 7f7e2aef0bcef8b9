//! The messages within a replication stream.

use headwater::source::replication::{ServerMessage, WAL_DATA_HEADER_BYTES};

/// A message is as long as its fields, and its position is the one that its bytes say.
pub(crate) fn target(bytes: &[u8]) {
    let lsn = match ServerMessage::parse(bytes) {
        Ok(ServerMessage::WalData { start }) => {
            assert!(bytes.len() >= WAL_DATA_HEADER_BYTES);
            start
        }
        Ok(ServerMessage::Keepalive { wal_end, reply }) => {
            assert_eq!(bytes.get(17).map(|byte| *byte != 0), Some(reply));
            wal_end
        }
        Err(_) => return,
    };
    assert_eq!(bytes.get(1..9), Some(lsn.0.to_be_bytes().as_slice()));
}
