//! Seeds, and inputs that are made from them.

use std::fs;
use std::path::Path;

use headwater_fuzz::Target;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Numbers that lengths and counts go wrong at.
const NUMBERS: [u32; 9] = [
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    u32::MAX,
];

/// The inputs of `fuzz/seeds/TARGET/`, in the order of their names.
pub(crate) fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seed in {}", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Something that is done to an input. A place is one of the input as it is then.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Number(Index, u32, usize),
    /// The rest comes from another seed.
    Splice(Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        (place(), 1..=u8::MAX).prop_map(|(at, mask)| Edit::Flip(at, mask)),
        (place(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (place(), 1_usize..32).prop_map(|(at, length)| Edit::Remove(at, length)),
        (place(), 1_usize..16, 1_usize..40)
            .prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        (place(), prop::sample::select(&NUMBERS[..]), 1_usize..=4)
            .prop_map(|(at, number, width)| Edit::Number(at, number, width)),
        (place(), place(), place()).prop_map(|(at, seed, from)| Edit::Splice(at, seed, from)),
    ]
}

impl Edit {
    fn apply(&self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
        match self {
            Edit::Flip(at, mask) => {
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] ^= mask;
                }
            }
            Edit::Insert(at, bytes) => {
                let at = place(at, input);
                input.splice(at..at, bytes.iter().copied());
            }
            Edit::Remove(at, length) => {
                let at = place(at, input);
                input.drain(at..input.len().min(at + length));
            }
            Edit::Repeat(at, length, times) => {
                let at = place(at, input);
                let piece = input[at..input.len().min(at + length)].repeat(*times);
                input.splice(at..at, piece);
            }
            Edit::Number(at, number, width) => {
                let at = place(at, input);
                let number = &number.to_be_bytes()[4 - width..];
                let end = input.len().min(at + width);
                input.splice(at..end, number.iter().copied());
            }
            Edit::Splice(at, seed, from) => {
                let at = place(at, input);
                let seed = seed.get(seeds);
                input.truncate(at);
                input.extend_from_slice(&seed[place(from, seed)..]);
            }
        }
    }
}

/// Calls `each` with so many inputs, the same at every run. The one that fails is made as
/// simple as it still fails, and printed.
pub(crate) fn mutated(target: &Target, inputs: u32, each: impl Fn(&[u8])) {
    let seeds = seeds(target);
    let config = Config {
        cases: inputs,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let recipe = (any::<Index>(), prop::collection::vec(edit(), 0..8));
    let made = recipe.prop_map(|(seed, edits)| {
        let mut input = seed.get(&seeds).clone();
        for edit in &edits {
            edit.apply(&mut input, &seeds);
        }
        input
    });
    let run = TestRunner::new_with_rng(config, rng).run(&made, |input| {
        each(&input);
        Ok(())
    });
    if let Err(failed) = run {
        panic!("target {}: {failed}", target.name);
    }
}
