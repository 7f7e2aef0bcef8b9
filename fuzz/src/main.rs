//! The targets under libFuzzer: `HEADWATER_FUZZ=TARGET fuzz CORPUS…`, as `make fuzz` calls it.
#![no_main]

use std::sync::LazyLock;

use headwater_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("HEADWATER_FUZZ").unwrap_or_default();
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => *target,
        None => {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("HEADWATER_FUZZ={name:?} is none of: {}", names.join(" "));
            std::process::exit(2)
        }
    }
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
