//! What reads bytes that others wrote: each target takes any bytes and fails where a
//! promise of the reader is broken. That it does not panic is the least of them.
//!
//! Two ways run them. `cargo test -p headwater-fuzz`, a part of `make test`, takes the seeds
//! and thousands of mutations of each, the same at every run. `make fuzz` hands them to
//! libFuzzer, which looks for new paths through the code. Inputs that found something are
//! kept among the seeds, in `fuzz/seeds/TARGET/`.

mod copy_binary;
mod frames;
mod lsn;
mod options;
mod replication;
mod snapshot_request;
mod state;
mod table_patterns;

/// One reader under any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of the folder with its seeds.
    pub name: &'static str,
    /// Panics where the reader breaks a promise.
    pub run: fn(&[u8]),
    /// How many bytes it may allocate at most for each byte of its input, and
    /// [`ALLOCATED`] besides: nothing that a length or a count in the input merely claims.
    pub expansion: usize,
}

/// What a reader may allocate for any input: an error's sentence, a table of options.
pub const ALLOCATED: usize = 16 << 10;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "copy_binary",
        run: copy_binary::target,
        expansion: 64,
    },
    Target {
        name: "frames",
        run: frames::target,
        expansion: 256,
    },
    Target {
        name: "lsn",
        run: lsn::target,
        expansion: 16,
    },
    Target {
        name: "options",
        run: options::target,
        expansion: 256,
    },
    Target {
        name: "replication",
        run: replication::target,
        expansion: 16,
    },
    Target {
        name: "snapshot_request",
        run: snapshot_request::target,
        expansion: 256,
    },
    Target {
        name: "state",
        run: state::target,
        expansion: 256,
    },
    Target {
        name: "table_patterns",
        run: table_patterns::target,
        expansion: 256,
    },
];
