//! Each target with its seeds and with what becomes of them.

#![allow(missing_docs, clippy::unwrap_used)]

mod mutations;

use std::time::Instant;

use headwater_fuzz::TARGETS;

/// Mutated inputs of each target: a few seconds for all of them.
const INPUTS: u32 = 2_000;

#[test]
fn every_reader_keeps_its_promises() {
    for target in TARGETS {
        for seed in mutations::seeds(target) {
            (target.run)(&seed);
        }
        let begun = Instant::now();
        mutations::mutated(target, INPUTS, target.run);
        println!(
            "fuzz: {}: {INPUTS} inputs in {:.1} s",
            target.name,
            begun.elapsed().as_secs_f64()
        );
    }
}
