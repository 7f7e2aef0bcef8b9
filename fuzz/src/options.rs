//! The plugin's options, as any role with REPLICATION may write them: `name=value` a line,
//! a line without `=` being an option without argument.

use headwater_protocol::options::PluginOptions;

/// Numbers are within the ranges that the documentation gives, or the option is refused
/// with a sentence.
pub(crate) fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let options = text.lines().map(|line| match line.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (line, None),
    });
    match PluginOptions::parse(options) {
        Ok(options) => {
            assert!((1 << 10..=16 << 20).contains(&options.batch_bytes));
            assert!((1 << 10..=256 << 20).contains(&options.max_row_bytes));
            assert!(options.quarantine.is_sorted(), "it is searched by halves");
            for change in &options.quarantine {
                assert!(options.quarantines(*change));
            }
            assert!(!options.selects("pg_catalog", "pg_class"));
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(!error.message.ends_with('.'), "{error}");
        }
    }
}
