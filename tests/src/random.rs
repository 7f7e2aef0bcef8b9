//! Reproducible randomness.

use std::time::SystemTime;

/// A seeded generator (SplitMix64): small, and good enough to choose moments and keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The seed in `HW_TEST_SEED`, or one from the clock; printed, so that a failing run
    /// can be repeated.
    ///
    /// # Panics
    ///
    /// If `HW_TEST_SEED` is no number.
    pub fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("HW_TEST_SEED") {
            Ok(seed) => seed
                .parse()
                .unwrap_or_else(|e| panic!("HW_TEST_SEED is \"{seed}\": {e}")),
            Err(_) => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(1, |since| since.as_micros() as u64),
        };
        println!("{test}: HW_TEST_SEED={seed}");
        Random(seed)
    }

    /// A generator of its own, for another thread.
    pub fn fork(&mut self) -> Self {
        Random(self.number())
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
