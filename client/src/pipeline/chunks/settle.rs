//! What the stream does at a watermark.

use headwater_protocol::Lsn;
use headwater_protocol::frame::{Frame, Frames, Op};

use super::step::{Then, Verdict, Work};
use super::window::Window;
use super::{Chunks, STEPS};
use crate::error::{Error, Result};
use crate::pipeline::apply::{Held, Policy};
use crate::pipeline::session::Session;
use crate::registry::{Ids, Stamp};
use crate::sink::{Headers, Keys, Record, Token, TopicId};
use crate::snapshot_request::RowsOf;
use crate::state::{Mark, Part, Place, Sent};

/// Where the records of a step stand: each has the end of the watermark's transaction and
/// its own number among them, so that both name it for ever. A chunk that is read again has
/// another watermark.
#[derive(Clone, Copy)]
struct Stand {
    token: Token,
    end_lsn: Lsn,
    next: u64,
}

impl Stand {
    fn headers(&mut self, op: Op) -> Headers<'static> {
        let seq = self.next;
        self.next += 1;
        Headers {
            op: op.code(),
            lsn: self.end_lsn,
            seq,
            transaction: None,
            unchanged: &[],
            fetched: false,
        }
    }
}

impl Chunks<'_> {
    /// Does what was handed over for the watermark of this number. If it was handed over for
    /// another one, its reader has begun the step again.
    pub(super) fn settle(
        &mut self,
        number: u64,
        token: Token,
        end_lsn: Lsn,
        held: &Held,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let Some(step) = active.pending.as_ref().filter(|step| step.number == number) else {
            return Ok(());
        };
        if let Some((owed, verdict)) = active.owed.take()
            && step.heard < owed
        {
            active.judge(number, verdict);
            return Ok(());
        }
        if let Some(table) = step.table.clone()
            && let Some(since) = active.stale.remove(&table)
        {
            self.begin_anew(number, table, since, end_lsn, session);
            return Ok(());
        }
        let needs_window = matches!(step.work, Work::Rows { .. } | Work::Keys { .. });
        if needs_window && !held.is_empty() {
            let of_table = step.table.as_ref().is_none_or(|it| held.holds_table(it));
            if of_table || session.delivery.positions.steps() >= STEPS {
                active.judge(number, Verdict::Again);
                return Ok(());
            }
        }
        let is_unwatched = match &step.work {
            Work::Ghosts { watch, .. } => {
                let watched = active.watched.as_ref();
                watched.is_none_or(|watched| watched.watch.number != *watch)
            }
            _ => false,
        };
        if is_unwatched || needs_window && !active.window.is_whole_for(&step.snapshot) {
            let verdict = if needs_window && active.window.is_blind() {
                active.window = Window::default();
                Verdict::Anew
            } else {
                Verdict::Again
            };
            active.judge(number, verdict);
            return Ok(());
        }
        let policy = Policy {
            options: self.parts.options,
            dead_letters: self.parts.dead_letters,
        };
        let mut stand = Stand {
            token,
            end_lsn,
            next: 0,
        };
        let place = self.runs.queue.first().and_then(|run| run.place.as_ref());
        let at_hand = step.table.as_ref().or(place.map(|place| &place.table));
        let table_of_rows = || at_hand.ok_or_else(|| Error::failed("a step has rows of no table"));
        let sent = match &step.work {
            Work::None => Sent::default(),
            Work::Rows {
                topic,
                ids,
                frames,
                count,
            } => {
                let rows = Rows {
                    table: table_of_rows()?,
                    topic: *topic,
                    ids: *ids,
                    frames,
                };
                rows.send(&active.window, policy, &mut stand, session)?;
                Sent {
                    rows: *count,
                    tombstones: 0,
                }
            }
            Work::Keys {
                topic,
                ids,
                frames,
                count,
                absent,
            } => {
                let rows = Rows {
                    table: table_of_rows()?,
                    topic: *topic,
                    ids: *ids,
                    frames,
                };
                rows.send(&active.window, policy, &mut stand, session)?;
                let gone = absent.iter().map(Vec::as_slice);
                let gone = gone.filter(|key| !active.window.holds(*topic, key));
                Sent {
                    rows: *count,
                    tombstones: send_tombstones(*topic, None, gone, &mut stand, session)?,
                }
            }
            Work::Ghosts {
                topic,
                partition,
                keys,
                renewed,
                ..
            } => {
                let none = Keys::new();
                let sent = active
                    .watched
                    .as_ref()
                    .map_or(&none, |watched| &watched.sent);
                let gone = keys
                    .iter()
                    .filter(|key| !renewed.contains(*key) && !sent.contains(*key));
                // A row among the dead letters has no record of the copy, and is not gone.
                let has_dead_letters = step.then.still_stale(session).is_some();
                let gone = gone.map(|key| &**key).filter(|_| !has_dead_letters);
                Sent {
                    rows: 0,
                    tombstones: send_tombstones(
                        *topic,
                        Some(*partition),
                        gone,
                        &mut stand,
                        session,
                    )?,
                }
            }
        };
        if matches!(step.work, Work::Ghosts { .. }) {
            active.watched = None;
        }
        let step = active.pending.take();
        active.judge(number, Verdict::Applied);
        if let Some(step) = step {
            self.advance(step.then, sent, end_lsn, session);
        }
        Ok(())
    }

    /// The run has come a step further.
    fn advance(&mut self, then: Then, sent: Sent, end_lsn: Lsn, session: &mut Session<'_, '_>) {
        session.delivery.tally.copied_rows += sent.rows;
        let Some(run) = self.runs.queue.first_mut() else {
            return;
        };
        let still_stale = then.still_stale(session);
        run.sent.rows += sent.rows;
        run.sent.tombstones += sent.tombstones;
        let mut mended = None;
        match then {
            Then::Place(place) => run.place = Some(place),
            Then::Mended(place) => {
                match still_stale {
                    None => tracing::info!(
                        table = %place.table,
                        run = run.request.id,
                        rows = run.sent.rows,
                        tombstones = run.sent.tombstones,
                        "copied again: the topic is what the table holds"
                    ),
                    Some(mark) => {
                        let reason = mark.reason;
                        tracing::error!(
                            table = %place.table,
                            run = run.request.id,
                            reason,
                            "copied again, and still stale"
                        );
                        run.fail(format!("{}: still stale: {reason}", place.table));
                    }
                }
                mended = Some((place.table.clone(), place.since));
                run.place = Some(place);
            }
            Then::Left(place, reason) => {
                tracing::error!(
                    table = %place.table,
                    run = run.request.id,
                    reason,
                    "a table is not copied again"
                );
                let RowsOf { schema, name } = &place.table;
                let mark = Mark {
                    since: end_lsn,
                    reason: format!("it could not be copied again: {reason}"),
                };
                session.delivery.positions.mark_stale(schema, name, mark);
                run.fail(format!("{}: {reason}", place.table));
                run.place = Some(place);
            }
            Then::Nothing(reason) => {
                tracing::error!(run = run.request.id, reason, "nothing is copied again");
                run.fail(reason);
                self.runs.finish();
                self.active = None;
            }
            Then::End => {
                tracing::info!(
                    run = run.request.id,
                    rows = run.sent.rows,
                    tombstones = run.sent.tombstones,
                    failures = run.failures.len(),
                    "nothing is left to be copied again"
                );
                self.runs.finish();
                self.active = None;
            }
        }
        self.record(end_lsn, mended, session);
    }

    /// The table has gone stale since its copy began. What is older than that transaction is
    /// to be replaced, and the window is to hold what is newer: whatever it has of before, a
    /// snapshot must have seen.
    fn begin_anew(
        &mut self,
        number: u64,
        table: RowsOf,
        since: Lsn,
        end_lsn: Lsn,
        session: &Session<'_, '_>,
    ) {
        let (Some(active), Some(run)) = (&mut self.active, self.runs.queue.first_mut()) else {
            return;
        };
        tracing::info!(%table, %since, "the table has gone stale meanwhile: copying it from its beginning");
        active.window.lose_all();
        let place = Place {
            table,
            since,
            part: Part::Begin,
        };
        run.place = Some(place.clone());
        active.judge(number, Verdict::Over(place));
        self.record(end_lsn, None, session);
    }
}

impl Then {
    /// What the table was marked with that its copy does not mend: dead letters, of the copy
    /// itself among them.
    fn still_stale(&self, session: &Session<'_, '_>) -> Option<Mark> {
        match self {
            Then::Place(place) | Then::Mended(place) => {
                let positions = &session.delivery.positions;
                positions.stale_behind(&place.table, place.since)
            }
            Then::Left(..) | Then::Nothing(_) | Then::End => None,
        }
    }
}

/// Rows of one table, as frames.
struct Rows<'a> {
    table: &'a RowsOf,
    topic: TopicId,
    ids: Option<Ids>,
    frames: &'a [u8],
}

impl Rows<'_> {
    /// Sends those whose keys are not in the window.
    fn send(
        &self,
        window: &Window,
        policy: Policy<'_>,
        stand: &mut Stand,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let mut stamp = Stamp::default();
        for frame in Frames::new(self.frames) {
            let (key, value, unencodable) = match frame {
                Ok(Frame::Change(change)) => (change.key, change.value, None),
                Ok(Frame::Quarantine(quarantine)) => {
                    (quarantine.key, None, Some(quarantine.reason))
                }
                // The reader has looked at each.
                _ => return Err(Error::failed("a chunk holds something else than rows")),
            };
            let (key, value) = match self.ids {
                None => (key, value),
                Some(ids) => stamp.pair(ids, key, value),
            };
            let headers = stand.headers(Op::Read);
            if key.is_some_and(|key| window.holds(self.topic, key)) {
                continue;
            }
            let record = Record {
                topic: self.topic,
                key,
                value,
                headers,
            };
            match unencodable {
                None => policy.deliver_row(self.table, &record, stand.token, session)?,
                Some(reason) => {
                    policy.bury_row(self.table, &record, reason, stand.token, session)?;
                }
            }
        }
        Ok(())
    }
}

fn send_tombstones<'k>(
    topic: TopicId,
    partition: Option<i32>,
    keys: impl Iterator<Item = &'k [u8]>,
    stand: &mut Stand,
    session: &mut Session<'_, '_>,
) -> Result<u64> {
    let before = stand.next;
    for key in keys {
        let record = Record {
            topic,
            key: Some(key),
            value: None,
            headers: stand.headers(Op::Delete),
        };
        session.send_tombstone(&record, partition, stand.token)?;
    }
    Ok(stand.next - before)
}
