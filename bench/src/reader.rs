//! Reads a slot to its end, as fast as it comes, and says what that cost the server.
//!
//! It reads as the client does, through libpq, and does nothing with what it reads but
//! count: a reader that is slower than the server would be measured in its place. The
//! walsender's CPU time is taken while it still lives, once it has said that it sent
//! everything.

use std::time::{Duration, Instant};

use headwater::error::Error;
use headwater::source::connection::{Connection, Connector};
use headwater::source::conninfo::Conninfo;
use headwater::source::replication::{Event, ReplicationStream};
use headwater::stop::Stop;
use headwater_protocol::Lsn;
use serde::Serialize;

use crate::peers::Peer;
use crate::process::Watch;
use crate::workload::Changes;

/// A server that says nothing for so long has ended the run.
const SILENCE: Duration = Duration::from_secs(120);

/// What one reading of a slot cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Reading {
    /// Seconds from the start of the stream to its end.
    pub(crate) wall: f64,
    /// CPU seconds of the walsender.
    pub(crate) cpu: f64,
    /// Bytes that the plugin wrote.
    pub(crate) bytes: u64,
    /// Writes of the plugin.
    pub(crate) writes: u64,
    /// Changes of rows, counted.
    pub(crate) changes: Changes,
    /// The most memory of its own that the walsender held, in bytes.
    pub(crate) memory: u64,
}

/// Reads `slot` from `conninfo` up to `end`.
///
/// # Panics
///
/// If the server ends the stream.
pub(crate) fn read(conninfo: &str, slot: &str, peer: &Peer, end: Lsn) -> Reading {
    let connection = connect(conninfo);
    let pid = connection.backend_pid();
    let options: Vec<(&str, String)> = peer
        .options
        .iter()
        .map(|&(name, value)| (name, value.to_owned()))
        .collect();
    let watch = Watch::of(pid);
    let (cpu, start) = (watch.cpu_seconds(), Instant::now());
    let mut stream = ReplicationStream::start(connection, slot, Lsn::INVALID, &options)
        .map_err(Error::from)
        .unwrap_or_else(|e| panic!("cannot read slot {slot} with {}: {e}", peer.name));
    let (mut bytes, mut writes, mut heard) = (0, 0, start);
    let mut changes = Changes::default();
    loop {
        let event = stream
            .read(SILENCE)
            .unwrap_or_else(|e| panic!("{}: {e}", peer.name));
        match event {
            Event::Write(write) => {
                heard = Instant::now();
                let payload = write.payload();
                bytes += payload.len() as u64;
                writes += 1;
                (peer.count)(payload, &mut changes);
            }
            Event::Keepalive { wal_end, .. } if wal_end >= end => break,
            Event::Keepalive { reply, .. } => {
                heard = Instant::now();
                if reply {
                    let _answered = stream.send_status(Lsn::INVALID, false);
                }
            }
            // A part of a message, or silence.
            Event::Nothing => assert!(
                heard.elapsed() < SILENCE,
                "{}: nothing for {} s",
                peer.name,
                SILENCE.as_secs()
            ),
        }
    }
    Reading {
        wall: start.elapsed().as_secs_f64(),
        cpu: watch.cpu_seconds() - cpu,
        bytes,
        writes,
        changes,
        memory: watch.peak(),
    }
}

fn connect(conninfo: &str) -> Connection {
    let conninfo = Conninfo {
        dbname: Some(conninfo.to_owned()),
        ..Conninfo::default()
    };
    Connector::new(conninfo, Stop::default())
        .connect_replication()
        .map_err(Error::from)
        .unwrap_or_else(|e| panic!("cannot connect: {e}"))
}
