//! Reads frames out of one write of the plugin. The order of fields is that of
//! `frame/write.rs`. Nothing is copied: every name and value borrows from the input.

use std::fmt;

use super::{
    ABSENT, Begin, Change, Column, Commit, Frame, Hello, Message, Op, Quarantine,
    QuarantinedMessage, Relation, ReplicaIdentity, Schemas, Stale, Truncate, tag,
};
use crate::Lsn;

/// The bytes are not a sequence of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes end within a frame, or a length inside a frame passes its end.
    Truncated,
    /// A frame has more bytes than its fields.
    TrailingBytes {
        /// The frame's tag.
        tag: u8,
    },
    /// No frame of this version has the tag.
    UnknownTag(u8),
    /// A name or a schema is not UTF-8.
    InvalidUtf8,
    /// A field holds a code that this version does not know.
    UnknownCode(u8),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Truncated => f.write_str("a frame ends before its last field"),
            FrameError::TrailingBytes { tag } => {
                write!(f, "bytes follow the last field of frame {:?}", *tag as char)
            }
            FrameError::UnknownTag(tag) => write!(f, "unknown frame {:?}", *tag as char),
            FrameError::InvalidUtf8 => f.write_str("a text in a frame is not UTF-8"),
            FrameError::UnknownCode(code) => {
                write!(f, "unknown code {:?} in a frame", *code as char)
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// The frames of one write, in order. After an error it yields nothing more.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: Reader<'a>,
}

impl<'a> Frames<'a> {
    /// Reads `bytes`, the whole content of one `CopyData` message past its header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Frames {
            rest: Reader { bytes },
        }
    }

    fn next_frame(&mut self) -> Result<Frame<'a>, FrameError> {
        let tag = self.rest.u8()?;
        let length = self.rest.u32()? as usize;
        let mut body = Reader {
            bytes: self.rest.take(length)?,
        };
        let frame = body.frame(tag)?;
        if body.bytes.is_empty() {
            Ok(frame)
        } else {
            Err(FrameError::TrailingBytes { tag })
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.bytes.is_empty() {
            return None;
        }
        let frame = self.next_frame();
        if frame.is_err() {
            self.rest.bytes = &[];
        }
        Some(frame)
    }
}

#[derive(Clone, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn frame(&mut self, tag: u8) -> Result<Frame<'a>, FrameError> {
        Ok(match tag {
            tag::HELLO => Frame::Hello(Hello {
                protocol: self.u16()?,
                server_version: self.u32()?,
                plugin_version: self.text()?,
            }),
            tag::BEGIN => Frame::Begin(Begin {
                xid: self.u32()?,
                commit_lsn: self.lsn()?,
                end_lsn: self.lsn()?,
                commit_time: self.i64()?,
            }),
            tag::RELATION => Frame::Relation(self.relation()?),
            tag::SCHEMAS => Frame::Schemas(Schemas {
                relation: self.u32()?,
                key: self.bytes()?.map(utf8).transpose()?,
                value: self.long_text()?,
            }),
            tag::CREATE => Frame::Change(self.change(Op::Create)?),
            tag::UPDATE => Frame::Change(self.change(Op::Update)?),
            tag::DELETE => Frame::Change(self.change(Op::Delete)?),
            tag::READ => Frame::Change(self.change(Op::Read)?),
            tag::TRUNCATE => Frame::Truncate(self.truncate()?),
            tag::MESSAGE => Frame::Message(Message {
                transactional: self.flags(1)? != 0,
                lsn: self.lsn()?,
                seq: self.u64()?,
                prefix: self.long_text()?,
                content: self.present_bytes()?,
            }),
            tag::QUARANTINE => Frame::Quarantine(Quarantine {
                relation: self.u32()?,
                op: self.op()?,
                seq: self.u64()?,
                key: self.bytes()?,
                reason: self.text()?,
            }),
            tag::QUARANTINED_MESSAGE => Frame::QuarantinedMessage(QuarantinedMessage {
                transactional: self.flags(1)? != 0,
                lsn: self.lsn()?,
                seq: self.u64()?,
                prefix: self.text()?,
                reason: self.text()?,
            }),
            tag::STALE => Frame::Stale(Stale {
                relation: self.u32()?,
                gone: self.flags(1)? != 0,
                reason: self.text()?,
            }),
            tag::COMMIT => Frame::Commit(Commit {
                end_lsn: self.lsn()?,
                changes: self.u64()?,
            }),
            unknown => return Err(FrameError::UnknownTag(unknown)),
        })
    }

    fn relation(&mut self) -> Result<Relation<'a>, FrameError> {
        let id = self.u32()?;
        let identity = self.u8()?;
        let identity =
            ReplicaIdentity::from_code(identity).ok_or(FrameError::UnknownCode(identity))?;
        let schema = self.text()?;
        let table = self.text()?;
        let columns = self.u16()?;
        let columns = self.list(columns.into(), |reader| {
            Ok(Column {
                is_key: reader.flags(1)? != 0,
                type_oid: reader.u32()?,
                type_modifier: reader.u32()?.cast_signed(),
                name: reader.text()?,
            })
        })?;
        Ok(Relation {
            id,
            identity,
            schema,
            table,
            columns,
        })
    }

    fn change(&mut self, op: Op) -> Result<Change<'a>, FrameError> {
        let relation = self.u32()?;
        let seq = self.u64()?;
        let key = self.bytes()?;
        let old_key = self.bytes()?;
        let value = self.bytes()?;
        let unchanged = self.u16()?;
        Ok(Change {
            op,
            relation,
            seq,
            key,
            old_key,
            value,
            unchanged: self.list(unchanged.into(), Reader::text)?,
        })
    }

    fn truncate(&mut self) -> Result<Truncate<'a>, FrameError> {
        let seq = self.u64()?;
        let flags = self.flags(7)?;
        let count = self.u32()?;
        let relations = self.list(count, |reader| Ok((reader.u32()?, reader.bytes()?)))?;
        let partitions = match flags & 4 {
            0 => 0,
            _ if count == 0 => return Err(FrameError::UnknownCode(flags)),
            _ => count,
        };
        Ok(Truncate {
            seq,
            cascade: flags & 1 != 0,
            restart_identity: flags & 2 != 0,
            relations,
            partitions: self.list(partitions, |reader| Ok((reader.text()?, reader.text()?)))?,
        })
    }

    fn op(&mut self) -> Result<Op, FrameError> {
        Ok(match self.u8()? {
            tag::CREATE => Op::Create,
            tag::UPDATE => Op::Update,
            tag::DELETE => Op::Delete,
            tag::READ => Op::Read,
            unknown => return Err(FrameError::UnknownCode(unknown)),
        })
    }

    /// The items are parsed one by one, so a count that lies costs no memory.
    fn list<T>(
        &mut self,
        count: u32,
        mut item: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, FrameError> {
        match self.u32()? {
            ABSENT => Ok(None),
            length => self.take(length as usize).map(Some),
        }
    }

    /// A byte string that is always there. The mark of an absent one, taken for a
    /// length, passes the end of any frame.
    fn present_bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn long_text(&mut self) -> Result<&'a str, FrameError> {
        utf8(self.present_bytes()?)
    }

    fn text(&mut self) -> Result<&'a str, FrameError> {
        let length = self.u16()?;
        utf8(self.take(usize::from(length))?)
    }

    /// One byte of flags, of which this version knows those in `known`.
    fn flags(&mut self, known: u8) -> Result<u8, FrameError> {
        let flags = self.u8()?;
        if flags & !known == 0 {
            Ok(flags)
        } else {
            Err(FrameError::UnknownCode(flags))
        }
    }

    fn lsn(&mut self) -> Result<Lsn, FrameError> {
        self.u64().map(Lsn)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, FrameError> {
        self.array().map(i64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(FrameError::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (head, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(FrameError::Truncated)?;
        self.bytes = rest;
        Ok(head)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(bytes).map_err(|_| FrameError::InvalidUtf8)
}
