//! A model of everything around the window: a server with its snapshots, row locks and
//! commits that are in the WAL before anybody sees them; a stream that lags; a reader of
//! chunks; a client that is killed. Whatever the order of their steps, the topic comes to be
//! the table; and without any one of the rules there is an order in which it does not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::visibility::Visible;
use super::window::Window;
use crate::sink::TopicId;

const TOPIC: TopicId = TopicId(0);
const KEYS: u8 = 6;
/// Keys that one chunk holds.
const CHUNK: u8 = 2;
const WRITERS: usize = 3;
/// Of the table's rows before anything begins.
const FIRST_XID: u32 = 100;

/// What can be left out, to see that it is missed.
#[derive(Clone, Copy)]
struct Rules {
    /// Who reads chunks first waits for the transactions that run.
    waits: bool,
    /// Before that, a transaction of his own ends.
    ends_one: bool,
    /// Keys of the window are left out of a chunk.
    leaves_out: bool,
    /// A chunk is read again while keys are missing from the window.
    reads_again: bool,
    /// What is on record of the run is no further than the position.
    resumes_behind: bool,
    /// A step whose reader has begun again is not taken.
    forgets: bool,
    /// Room in the window, in keys.
    room: usize,
}

const ALL: Rules = Rules {
    waits: true,
    ends_one: true,
    leaves_out: true,
    reads_again: true,
    resumes_behind: true,
    forgets: true,
    room: 100,
};

#[derive(Clone, Copy, Debug)]
enum Event {
    Write {
        writer: usize,
        key: u8,
        delete: bool,
    },
    Commit {
        writer: usize,
    },
    Abort {
        writer: usize,
    },
    Appear {
        writer: usize,
    },
    Stream,
    Read,
    /// The reader's session breaks, and another begins.
    Break,
    Kill {
        back: usize,
        lost: usize,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let writer = 0..WRITERS;
    let event = prop_oneof![
        6 => (writer.clone(), 0..KEYS, prop::bool::weighted(0.3))
            .prop_map(|(writer, key, delete)| Event::Write { writer, key, delete }),
        3 => writer.clone().prop_map(|writer| Event::Commit { writer }),
        1 => writer.clone().prop_map(|writer| Event::Abort { writer }),
        3 => writer.prop_map(|writer| Event::Appear { writer }),
        5 => Just(Event::Stream),
        5 => Just(Event::Read),
        1 => Just(Event::Break),
        1 => (0_usize..6, 0_usize..8).prop_map(|(back, lost)| Event::Kill { back, lost }),
    ];
    prop::collection::vec(event, 1..100)
}

type Change = (u8, Option<u64>);

enum Entry {
    Transaction { xid: u32, changes: Vec<Change> },
    Watermark { number: u64 },
}

/// A backend with a transaction.
struct Writer {
    xid: u32,
    changes: Vec<Change>,
    /// Its commit is in the WAL, and nobody sees it yet.
    committed: bool,
}

/// What the reader of chunks does next.
enum Reader {
    Begin,
    Wait(Visible),
    Read,
    Mark,
    Listen,
    Done,
}

struct Step {
    number: u64,
    snapshot: Visible,
    rows: Vec<(u8, u64)>,
    next: u8,
}

struct Model {
    rules: Rules,
    next_xid: u32,
    /// The newest that has ended for everybody, or been aborted.
    ended: u32,
    next_version: u64,
    writers: Vec<Option<Writer>>,
    /// By key: who wrote which version, oldest first; aborted ones are taken out.
    versions: BTreeMap<u8, Vec<(u32, Option<u64>)>>,
    wal: Vec<Entry>,

    /// Every record in its order.
    topic: Vec<Change>,
    /// How many records there were at each place in the WAL.
    records: Vec<usize>,
    streamed: usize,
    window: Window,
    pending: Option<Step>,
    reader: Reader,
    next_number: u64,
    /// Where the next chunk begins, and from which end of the WAL on that is on record.
    progress: Vec<(usize, u8)>,
}

impl Model {
    fn new(rules: Rules) -> Self {
        let rows = (0..KEYS).map(|key| (key, vec![(1, Some(u64::from(key)))]));
        Model {
            rules,
            next_xid: FIRST_XID,
            ended: FIRST_XID - 1,
            next_version: 1000,
            writers: (0..WRITERS).map(|_| None).collect(),
            versions: rows.collect(),
            wal: Vec::new(),
            topic: Vec::new(),
            records: vec![0],
            streamed: 0,
            window: window(rules),
            pending: None,
            reader: Reader::Begin,
            next_number: 0,
            progress: vec![(0, 0)],
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Write {
                writer,
                key,
                delete,
            } => self.write(writer, key, delete),
            Event::Commit { writer } => {
                if let Some(writer) = self.writers[writer].as_mut().filter(|w| !w.committed) {
                    writer.committed = true;
                    self.wal.push(Entry::Transaction {
                        xid: writer.xid,
                        changes: writer.changes.clone(),
                    });
                }
            }
            Event::Abort { writer } => {
                if let Some(aborted) = self.writers[writer].take_if(|w| !w.committed) {
                    self.end(aborted.xid);
                    for versions in self.versions.values_mut() {
                        versions.retain(|(xid, _)| *xid != aborted.xid);
                    }
                }
            }
            Event::Appear { writer } => {
                if let Some(seen) = self.writers[writer].take_if(|w| w.committed) {
                    self.end(seen.xid);
                }
            }
            Event::Stream => self.stream(),
            Event::Read => self.read(),
            Event::Break => self.break_off(),
            Event::Kill { back, lost } => self.kill(back, lost),
        }
    }

    fn write(&mut self, writer: usize, key: u8, delete: bool) {
        let others = self
            .writers
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != writer);
        let is_locked = others
            .filter_map(|(_, other)| other.as_ref())
            .any(|other| other.changes.iter().any(|(locked, _)| *locked == key));
        if is_locked {
            return;
        }
        let next_xid = &mut self.next_xid;
        let writer = self.writers[writer].get_or_insert_with(|| {
            *next_xid += 1;
            Writer {
                xid: *next_xid - 1,
                changes: Vec::new(),
                committed: false,
            }
        });
        if writer.committed {
            return;
        }
        self.next_version += 1;
        let version = (!delete).then_some(self.next_version);
        writer.changes.push((key, version));
        self.versions
            .entry(key)
            .or_default()
            .push((writer.xid, version));
    }

    fn end(&mut self, xid: u32) {
        self.ended = self.ended.max(xid);
    }

    /// A transaction of the reader's own, from its beginning to its end.
    fn end_one(&mut self) {
        self.end(self.next_xid);
        self.next_xid += 1;
    }

    /// As a server takes it: of what is newer than all that has ended it says nothing.
    fn snapshot(&self) -> Visible {
        let xmax = self.ended + 1;
        let ids = self.writers.iter().flatten().map(|w| w.xid);
        let running: Vec<u32> = ids.filter(|xid| *xid < xmax).collect();
        let xmin = running.iter().copied().min().unwrap_or(xmax);
        let running: Vec<String> = running.iter().map(u32::to_string).collect();
        Visible::parse(&format!("{xmin}:{xmax}:{}", running.join(","))).unwrap()
    }

    fn row(&self, key: u8, snapshot: &Visible) -> Option<u64> {
        let versions = self.versions.get(&key)?.iter().rev();
        versions.clone().find(|(xid, _)| snapshot.sees(*xid))?.1
    }

    fn stream(&mut self) {
        let Some(entry) = self.wal.get(self.streamed) else {
            return;
        };
        self.streamed += 1;
        match entry {
            Entry::Transaction { xid, changes } => {
                for (key, version) in changes {
                    self.window.touch(TOPIC, &[*key], *xid);
                    self.topic.push((*key, *version));
                }
            }
            Entry::Watermark { number } => {
                if let Some(step) = self.pending.take_if(|step| step.number == *number) {
                    self.apply(step);
                }
            }
        }
        self.records.truncate(self.streamed);
        self.records.push(self.topic.len());
    }

    fn apply(&mut self, step: Step) {
        self.reader = Reader::Read;
        if self.rules.reads_again && !self.window.is_whole_for(&step.snapshot) {
            return;
        }
        for (key, version) in step.rows {
            if !(self.rules.leaves_out && self.window.holds(TOPIC, &[key])) {
                self.topic.push((key, Some(version)));
            }
        }
        self.progress.push((self.streamed, step.next));
        if step.next >= KEYS {
            self.reader = Reader::Done;
        }
    }

    fn read(&mut self) {
        match &self.reader {
            Reader::Begin if !self.rules.waits => self.reader = Reader::Read,
            Reader::Begin => {
                if self.rules.ends_one {
                    self.end_one();
                }
                self.reader = Reader::Wait(self.snapshot());
            }
            Reader::Wait(first) => {
                if first.is_over_by(&self.snapshot()) {
                    self.reader = Reader::Read;
                }
            }
            Reader::Read => {
                let snapshot = self.snapshot();
                let from = self.progress.last().unwrap().1;
                let next = from + CHUNK;
                let row = |key| Some((key, self.row(key, &snapshot)?));
                let rows = (from..next).filter_map(row).collect();
                self.next_number += 1;
                self.pending = Some(Step {
                    number: self.next_number,
                    rows,
                    next,
                    snapshot: snapshot.clone(),
                });
                self.window.seen_by(&snapshot);
                self.reader = Reader::Mark;
            }
            Reader::Mark => {
                self.end_one();
                let number = self.next_number;
                self.wal.push(Entry::Watermark { number });
                self.reader = Reader::Listen;
            }
            Reader::Listen | Reader::Done => {}
        }
    }

    /// The step's watermark is in the WAL or not, and its reader does not know. The next session
    /// may have to wait for a lock, and tells what is seen meanwhile.
    fn break_off(&mut self) {
        if matches!(self.reader, Reader::Mark | Reader::Listen) {
            self.reader = Reader::Read;
            if self.rules.forgets {
                self.pending = None;
            }
            self.window.seen_by(&self.snapshot());
        }
    }

    /// The client comes again with a position that may be behind what it has sent. Of what it
    /// sent after that, some is lost.
    fn kill(&mut self, back: usize, lost: usize) {
        self.streamed = self.streamed.saturating_sub(back);
        let durable = self.records[self.streamed];
        self.topic
            .truncate(durable.max(self.topic.len().saturating_sub(lost)));
        let streamed = self.streamed;
        if self.rules.resumes_behind {
            self.progress.retain(|(end, _)| *end <= streamed);
        }
        self.window = window(self.rules);
        self.pending = None;
        let is_done = self.progress.last().unwrap().1 >= KEYS;
        self.reader = if is_done { Reader::Done } else { Reader::Begin };
    }

    fn finish(&mut self) {
        for writer in 0..WRITERS {
            self.step(Event::Commit { writer });
        }
        for _ in 0..10 {
            self.step(Event::Stream);
        }
        for writer in 0..WRITERS {
            self.step(Event::Appear { writer });
        }
        while self.streamed < self.wal.len() || !matches!(self.reader, Reader::Done) {
            self.step(Event::Read);
            self.step(Event::Stream);
        }
    }

    fn table(&self) -> BTreeMap<u8, u64> {
        let now = self.snapshot();
        (0..KEYS)
            .filter_map(|key| Some((key, self.row(key, &now)?)))
            .collect()
    }
}

fn window(rules: Rules) -> Window {
    Window::bounded(rules.room * 73)
}

fn outcome(rules: Rules, events: &[Event]) -> (BTreeMap<u8, u64>, BTreeMap<u8, u64>) {
    let mut model = Model::new(rules);
    for event in events {
        model.step(*event);
    }
    model.finish();
    let mut topic = BTreeMap::new();
    for (key, version) in &model.topic {
        match version {
            Some(version) => drop(topic.insert(*key, *version)),
            None => drop(topic.remove(key)),
        }
    }
    (topic, model.table())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_topic_comes_to_be_the_table(events in events(), room in 0_usize..8) {
        let (topic, table) = outcome(Rules { room, ..ALL }, &events);
        prop_assert_eq!(topic, table);
    }
}

/// Looks for an order of steps in which a rule is missed.
fn is_missed(rules: Rules) -> bool {
    let mut runner = TestRunner::deterministic();
    (0..5_000).any(|_| {
        let events = events().new_tree(&mut runner).unwrap().current();
        let (topic, table) = outcome(rules, &events);
        topic != table
    })
}

#[test]
fn every_rule_is_needed() {
    assert!(
        is_missed(Rules {
            waits: false,
            ..ALL
        }),
        "waiting at the beginning"
    );
    assert!(
        is_missed(Rules {
            ends_one: false,
            ..ALL
        }),
        "ending a transaction before that"
    );
    assert!(
        is_missed(Rules {
            leaves_out: false,
            ..ALL
        }),
        "leaving keys out"
    );
    assert!(
        is_missed(Rules {
            reads_again: false,
            room: 1,
            ..ALL
        }),
        "reading again"
    );
    assert!(
        is_missed(Rules {
            resumes_behind: false,
            ..ALL
        }),
        "recording late"
    );
    assert!(
        is_missed(Rules {
            forgets: false,
            ..ALL
        }),
        "forgetting a step"
    );
}
