//! Properties of librdkafka, as users give them.

use std::fmt;

use crate::config::Origin;
use crate::config::secret::redacted_property;

/// A property and who gave it. Its value may be a secret; it prints without.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name, one of those that librdkafka knows it by.
    pub name: String,
    /// Its value, as text.
    pub value: String,
    pub(crate) origin: Origin,
}

impl Property {
    /// One of the command line.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Property {
            name: name.into(),
            value: value.into(),
            origin: Origin::Flag,
        }
    }

    /// Where it is from and its name, for an error about a value that says too much or nothing:
    /// `-X acks`, `HEADWATER_KAFKA_ACKS: acks`, `headwater.toml:7: acks`.
    pub(crate) fn place_and_name(&self) -> String {
        match &self.origin {
            Origin::Flag => format!("-X {}", self.name),
            origin => format!("{origin}: {}", self.name),
        }
    }
}

impl From<&(&str, &str)> for Property {
    fn from((name, value): &(&str, &str)) -> Self {
        Property::new(*name, *value)
    }
}

/// With where it is from: `-X acks=1`, `headwater.toml:7: acks=1`.
impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = redacted_property(&self.name, &self.value);
        write!(f, "{}={value}", self.place_and_name())
    }
}

// Properties hold passwords.
impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
