//! The messages within a replication stream's `CopyData`: pure, over slices.
//!
//! ```text
//! server:  w  start u64  end u64  clock i64  payload
//!          k  end u64  clock i64  reply u8
//! client:  r  written u64  flushed u64  applied u64  clock i64  reply u8
//! ```
//!
//! Clocks are microseconds since 2000-01-01 UTC.

use headwater_protocol::Lsn;

/// Bytes of an `w` before its payload.
pub const WAL_DATA_HEADER_BYTES: usize = 25;

/// What the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// `w`: a write of the plugin. The payload is what follows
    /// [`WAL_DATA_HEADER_BYTES`].
    WalData {
        /// Where it comes from in the WAL.
        start: Lsn,
    },
    /// `k`
    Keepalive {
        /// Everything before it was sent.
        wal_end: Lsn,
        /// The server wants an answer now, or ends the connection.
        reply: bool,
    },
}

/// The bytes are no message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Shorter than its fields.
    #[error("a message of the replication stream ends after {0} bytes")]
    Truncated(usize),
    /// A letter that the protocol does not have.
    #[error("unknown message {:?} in the replication stream", char::from(*.0))]
    UnknownTag(u8),
}

impl ServerMessage {
    /// Reads one message.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let truncated = MessageError::Truncated(bytes.len());
        match bytes.first() {
            Some(b'w') if bytes.len() >= WAL_DATA_HEADER_BYTES => Ok(ServerMessage::WalData {
                start: lsn(bytes, 1).ok_or(truncated)?,
            }),
            Some(b'k') => Ok(ServerMessage::Keepalive {
                wal_end: lsn(bytes, 1).ok_or(truncated)?,
                reply: *bytes.get(17).ok_or(truncated)? != 0,
            }),
            Some(b'w') | None => Err(truncated),
            Some(other) => Err(MessageError::UnknownTag(*other)),
        }
    }
}

fn lsn(bytes: &[u8], offset: usize) -> Option<Lsn> {
    let field = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(Lsn(u64::from_be_bytes(*field)))
}

/// `r`: how far the client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received.
    pub written: Lsn,
    /// Durable in the sink: the server may forget what is before it.
    pub flushed: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub clock: i64,
    /// The server is to answer with a keepalive.
    pub reply: bool,
}

impl StatusUpdate {
    /// The message's bytes. What is flushed counts as applied: a sink has no reader's
    /// view of its own, and a synchronous commit that waits for either gets its answer.
    pub fn encode(&self) -> [u8; 34] {
        let mut bytes = [0; 34];
        bytes[0] = b'r';
        bytes[1..9].copy_from_slice(&self.written.0.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.flushed.0.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.flushed.0.to_be_bytes());
        bytes[25..33].copy_from_slice(&self.clock.to_be_bytes());
        bytes[33] = u8::from(self.reply);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_server_sends() {
        let mut data = vec![b'w'];
        data.extend(0x1_0000_0002_u64.to_be_bytes());
        data.extend([0; 16]);
        assert_eq!(
            ServerMessage::parse(&data),
            Ok(ServerMessage::WalData {
                start: Lsn(0x1_0000_0002)
            })
        );
        let mut keepalive = vec![b'k'];
        keepalive.extend(7_u64.to_be_bytes());
        keepalive.extend([0; 8]);
        keepalive.push(1);
        assert_eq!(
            ServerMessage::parse(&keepalive),
            Ok(ServerMessage::Keepalive {
                wal_end: Lsn(7),
                reply: true
            })
        );
        assert_eq!(
            ServerMessage::parse(&keepalive[..17]),
            Err(MessageError::Truncated(17))
        );
        assert_eq!(
            ServerMessage::parse(b"z"),
            Err(MessageError::UnknownTag(b'z'))
        );
    }

    #[test]
    fn a_status_update_names_each_position_where_the_server_reads_it() {
        let update = StatusUpdate {
            written: Lsn(3),
            flushed: Lsn(2),
            clock: 1,
            reply: true,
        };
        let mut expected = vec![b'r'];
        for field in [3_u64, 2, 2, 1] {
            expected.extend(field.to_be_bytes());
        }
        expected.push(1);
        assert_eq!(update.encode().as_slice(), expected.as_slice());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = ServerMessage::parse(&bytes);
        }
    }
}
