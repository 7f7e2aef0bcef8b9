//! Defects on demand, for tests.
//!
//! A library that is built with the feature `panics` has a setting `headwater.test_panic`
//! with the place of the defect: `change` panics at every change, `change:7` at every
//! seventh that a process sees. Where many are met in turn and each retry gets a little
//! further, as a stream does, the second form lets it come to its end. Each panic is named
//! on standard error first, as it was asked for: some must leave no other trace.
//!
//! Any other library has no such setting, and nothing is left of the calls.

/// Where a panic can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "panics"), allow(dead_code))]
pub(crate) enum Place {
    /// `_PG_output_plugin_init`
    Init,
    /// `startup_cb`
    Startup,
    /// `begin_cb`
    Begin,
    /// `change_cb`
    Change,
    /// `truncate_cb`
    Truncate,
    /// `message_cb`
    Message,
    /// `commit_cb`
    Commit,
    /// `filter_by_origin_cb`
    Filter,
    /// `shutdown_cb`
    Shutdown,
    /// The encoder, at a row.
    Encode,
    /// A SQL function.
    Function,
    /// A callback of the caches.
    Invalidation,
    /// What a memory context drops as it goes.
    Drop,
}

#[cfg(feature = "panics")]
pub(crate) use on_demand::panic_point;
#[cfg(feature = "panics")]
pub(super) use on_demand::{define, is_setting};

/// Whether this is the setting's name, in lower case.
#[cfg(not(feature = "panics"))]
pub(super) fn is_setting(_: &str) -> bool {
    false
}

/// The place is reached.
#[cfg(not(feature = "panics"))]
#[inline(always)]
pub(crate) fn panic_point(_: Place) {}

#[cfg(feature = "panics")]
mod on_demand {
    use std::cell::Cell;
    use std::ffi::CString;

    use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

    use super::Place;

    static SETTING: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

    thread_local! {
        // One thread runs all server code.
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether this is the setting's name, in lower case.
    pub(crate) fn is_setting(name: &str) -> bool {
        name == "headwater.test_panic"
    }

    /// Defines the setting.
    pub(crate) fn define() {
        GucRegistry::define_string_guc(
            c"headwater.test_panic",
            c"Where Headwater panics: PLACE, or PLACE:N at every N-th call. For tests.",
            c"",
            &SETTING,
            GucContext::Suset,
            GucFlags::default(),
        );
    }

    impl Place {
        fn name(self) -> String {
            format!("{self:?}").to_lowercase()
        }
    }

    /// The place is reached.
    pub(crate) fn panic_point(place: Place) {
        let Some(setting) = SETTING.get().and_then(|text| text.into_string().ok()) else {
            return;
        };
        let (name, every) = match setting.split_once(':') {
            Some((name, every)) => (name, every.parse().unwrap_or(1)),
            None => (setting.as_str(), 1),
        };
        if name != place.name() {
            return;
        }
        let reached = REACHED.get() + 1;
        REACHED.set(reached);
        if reached.is_multiple_of(every) {
            eprintln!("headwater: a panic on demand: {setting}");
            panic!("a panic on demand: {name}");
        }
    }
}
