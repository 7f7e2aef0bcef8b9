//! Whose records carry an id, and what they mean by it.
//!
//! Asked for every schema that is new, by the stream too while the registry is away, so it may not
//! take longer the more tables there are. As a rule an id has one meaning: only a registry that gives
//! it away twice makes it two.

use std::collections::HashMap;

use super::desk::Used;

/// An index of ids. Who carries one twice, as for two tables with the same subject, lets go of it twice.
#[derive(Debug, Default)]
pub(super) struct Carriers(HashMap<u32, Vec<Meaning>>);

/// A meaning of an id, and by how many entries each subject carries it so. Never without one.
#[derive(Debug)]
struct Meaning {
    meaning: u128,
    subjects: HashMap<String, usize>,
}

impl Carriers {
    /// Records of the subject carry the id.
    pub(super) fn add(&mut self, subject: &str, used: Used) {
        let meanings = self.0.entry(used.id).or_default();
        let known = meanings.iter().position(|own| own.meaning == used.meaning);
        let place = known.unwrap_or_else(|| {
            meanings.push(Meaning {
                meaning: used.meaning,
                subjects: HashMap::new(),
            });
            meanings.len() - 1
        });
        let subjects = &mut meanings[place].subjects;
        match subjects.get_mut(subject) {
            Some(entries) => *entries += 1,
            None => drop(subjects.insert(subject.to_owned(), 1)),
        }
    }

    /// An entry that was added is there no more.
    pub(super) fn remove(&mut self, subject: &str, used: Used) {
        let Some(meanings) = self.0.get_mut(&used.id) else {
            return;
        };
        meanings.retain_mut(|own| {
            if own.meaning == used.meaning
                && let Some(entries) = own.subjects.get_mut(subject)
            {
                *entries -= 1;
                if *entries == 0 {
                    own.subjects.remove(subject);
                }
            }
            !own.subjects.is_empty()
        });
        if meanings.is_empty() {
            self.0.remove(&used.id);
        }
    }

    /// A subject whose records carry the id for something else.
    pub(super) fn other(&self, used: Used) -> Option<&str> {
        let mut meanings = self.0.get(&used.id)?.iter();
        let other = meanings.find(|own| own.meaning != used.meaning)?;
        other.subjects.keys().next().map(String::as_str)
    }
}
