//! Reads `frames.txt`.

use std::fs;
use std::path::Path;

/// One frame of the file.
pub(crate) struct Vector {
    pub(crate) name: String,
    /// The lines as they stand, hexadecimal digits and what they mean.
    pub(crate) text: String,
}

impl Vector {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.text
            .lines()
            .flat_map(|line| {
                let hex = line.split_once("  ").map_or(line, |(hex, _)| hex);
                hex.split_ascii_whitespace()
                    .map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{line}")))
                    .collect::<Vec<u8>>()
            })
            .collect()
    }
}

pub(crate) fn load() -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/frames.txt");
    let file =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut vectors: Vec<Vector> = Vec::new();
    for line in file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix("== ") {
            vectors.push(Vector {
                name: name.to_owned(),
                text: String::new(),
            });
        } else if let Some(vector) = vectors.last_mut() {
            vector.text.push_str(line);
            vector.text.push('\n');
        }
    }
    vectors
}
