//! The keys that the stream has sent and that a chunk's snapshot may not have seen: a chunk's
//! rows of these keys are older than what the topic holds, and are left out.
//!
//! A key is here from when the stream sends it until some snapshot has seen its transaction:
//! every later snapshot sees it too. If several transactions changed one key, the last counts.
//! It waited for those before it, whose row it changed, until they had ended for everybody, so a
//! snapshot that sees the last sees them all.
//!
//! # Memory
//!
//! Bounded in bytes. What does not fit, a transaction of millions of rows, is known by its id
//! alone; until a snapshot has seen it, nothing can be said of any key, and chunks are read
//! again. Even ids are bounded: beyond that the window is [blind](Window::is_blind), and
//! whoever reads chunks has to begin as if it had just been opened.

use std::collections::{HashMap, HashSet};

use super::visibility::Visible;
use crate::sink::TopicId;

/// What the keys may take. A chunk is read in less than a second, as a rule, in which a busy
/// server changes some ten thousand rows: this is about 150,000 keys of 40 bytes.
const KEYS_BYTES: usize = 16 * 1024 * 1024;

/// What an entry takes beside its key: map, allocation, and the growth of either.
const ENTRY_BYTES: usize = 72;

/// Transactions that are known by their ids alone: about 4 MB.
const LOST: usize = 500_000;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Window {
    keys: HashMap<TopicId, HashMap<Box<[u8]>, u32>>,
    bytes: usize,
    limit: usize,
    /// Transactions of which keys are missing.
    lost: HashSet<u32>,
    blind: bool,
    /// The newest snapshot that was told: what it sees is no news.
    newest: Option<Visible>,
}

impl Default for Window {
    fn default() -> Self {
        Window::bounded(KEYS_BYTES)
    }
}

impl Window {
    pub(super) fn bounded(limit: usize) -> Self {
        Window {
            keys: HashMap::new(),
            bytes: 0,
            limit,
            lost: HashSet::new(),
            blind: false,
            newest: None,
        }
    }

    /// The stream sends a change of `key`, or one from it to another.
    pub(super) fn touch(&mut self, topic: TopicId, key: &[u8], xid: u32) {
        if self.is_seen(xid) || self.lost.contains(&xid) {
            return;
        }
        let keys = self.keys.entry(topic).or_default();
        if let Some(last) = keys.get_mut(key) {
            *last = xid;
            return;
        }
        if self.bytes + key.len() + ENTRY_BYTES > self.limit {
            self.lose_all();
            self.lose(xid);
            return;
        }
        keys.insert(key.into(), xid);
        self.bytes += key.len() + ENTRY_BYTES;
    }

    /// The stream sends a change whose key is not known.
    pub(super) fn lose(&mut self, xid: u32) {
        if self.is_seen(xid) {
            return;
        }
        self.lost.insert(xid);
        if self.lost.len() > LOST {
            self.blind = true;
            self.lost = HashSet::new();
        }
    }

    /// A snapshot was taken: forgets what it sees.
    pub(super) fn seen_by(&mut self, snapshot: &Visible) {
        let mut freed = 0;
        for keys in self.keys.values_mut() {
            keys.retain(|key, xid| {
                let is_kept = !snapshot.sees(*xid);
                freed += if is_kept { 0 } else { key.len() + ENTRY_BYTES };
                is_kept
            });
            // What a burst took is given back.
            if keys.len() < keys.capacity() / 4 {
                keys.shrink_to_fit();
            }
        }
        self.bytes -= freed;
        self.lost.retain(|xid| !snapshot.sees(*xid));
        self.newest = Some(snapshot.clone());
    }

    /// Whether it is known of every key whether it is in the window, for a chunk of this
    /// snapshot.
    pub(super) fn is_whole_for(&self, snapshot: &Visible) -> bool {
        !self.blind && self.lost.iter().all(|xid| snapshot.sees(*xid))
    }

    /// Whether so much was lost that no later snapshot can make up for it.
    pub(super) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Whether a row of this key is older than what the topic holds.
    pub(super) fn holds(&self, topic: TopicId, key: &[u8]) -> bool {
        self.keys
            .get(&topic)
            .is_some_and(|keys| keys.contains_key(key))
    }

    fn is_seen(&self, xid: u32) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.sees(xid))
    }

    /// Keeps the transactions in place of their keys.
    pub(super) fn lose_all(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        self.bytes = 0;
        for xid in keys.into_values().flat_map(HashMap::into_values) {
            self.lose(xid);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TOPIC: TopicId = TopicId(1);

    fn snapshot(text: &str) -> Visible {
        Visible::parse(text).unwrap()
    }

    #[test]
    fn a_key_stays_until_a_snapshot_has_seen_its_last_transaction() {
        let mut window = Window::default();
        window.touch(TOPIC, b"a", 5);
        window.touch(TOPIC, b"b", 6);
        window.touch(TOPIC, b"a", 7);
        window.seen_by(&snapshot("7:9:7"));
        assert!(window.holds(TOPIC, b"a"), "7 was running");
        assert!(!window.holds(TOPIC, b"b"));
        assert!(!window.holds(TopicId(2), b"a"), "another topic");
        window.seen_by(&snapshot("9:9:"));
        assert!(!window.holds(TOPIC, b"a"));
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn what_the_newest_snapshot_has_seen_is_not_kept() {
        let mut window = Window::default();
        window.seen_by(&snapshot("5:9:5"));
        window.touch(TOPIC, b"a", 5);
        window.touch(TOPIC, b"b", 8);
        assert!(window.holds(TOPIC, b"a"));
        assert!(
            !window.holds(TOPIC, b"b"),
            "a stream that lags fills nothing"
        );
    }

    #[test]
    fn a_window_that_is_full_knows_transactions_alone() {
        let mut window = Window::bounded(10 * (ENTRY_BYTES + 4));
        for key in 0..100_u32 {
            window.touch(TOPIC, &key.to_be_bytes(), 7);
        }
        assert!(window.bytes <= window.limit);
        assert!(!window.is_whole_for(&snapshot("7:9:7")));
        let later = snapshot("9:9:");
        assert!(window.is_whole_for(&later), "7 has ended");
        window.seen_by(&later);
        window.touch(TOPIC, b"a", 9);
        assert!(window.holds(TOPIC, b"a"), "there is room again");
    }

    #[test]
    fn a_window_that_has_lost_too_much_is_blind() {
        let mut window = Window::default();
        for xid in 0..=u32::try_from(LOST).unwrap() {
            window.lose(xid);
        }
        assert!(window.is_blind());
        assert!(!window.is_whole_for(&snapshot("9999999:9999999:")));
    }
}
