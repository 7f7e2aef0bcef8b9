//! No reader allocates what a number in its input merely claims. Alone in its program: every
//! allocation counts.

#![allow(missing_docs, clippy::unwrap_used)]

mod mutations;

use std::alloc::System;
use std::cell::Cell;

use headwater_fuzz::{ALLOCATED, TARGETS};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Mutated inputs of each target.
const INPUTS: u32 = 1_000;

#[test]
fn no_reader_allocates_more_than_its_input_is_worth() {
    for target in TARGETS {
        let most = Cell::new(0);
        mutations::mutated(target, INPUTS, |input| {
            let region = Region::new(ALLOCATOR);
            (target.run)(input);
            let allocated = region.change().bytes_allocated;
            let worth = input.len() * target.expansion + ALLOCATED;
            assert!(allocated <= worth, "{allocated} bytes for {input:?}");
            most.set(most.get().max(allocated));
        });
        println!("fuzz: {}: at most {} bytes", target.name, most.get());
    }
}
