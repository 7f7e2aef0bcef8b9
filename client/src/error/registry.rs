//! Errors of a schema registry: statuses of HTTP, and the numbers that Confluent's protocol puts
//! beside them (`error_code`), which say more.

use super::Remedy::{self, Data, Operator, Retry};

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct RegistryRow {
    /// The statuses, or numbers of Confluent's protocol, that it is about.
    pub codes: &'static [u32],
    /// What may be done.
    pub remedy: Remedy,
    /// What they mean.
    pub meaning: &'static str,
    /// What mends it, as a sentence; empty where nobody has to do anything.
    pub cure: &'static str,
}

/// No code is in two lines.
pub const REGISTRY: &[RegistryRow] = &[
    RegistryRow {
        codes: &[
            408, 425, 429, 500, 502, 503, 504, 50001, 50002, 50003, 50004,
        ],
        remedy: Retry,
        meaning: "the registry, its store or a proxy before it is not able to answer now",
        cure: "",
    },
    RegistryRow {
        codes: &[409],
        remedy: Data,
        meaning: "the schema is not compatible with those that the subject has",
        cure: "Make the table as it was, set another compatibility level for the subject, or let the \
               table go into new topics (--topic).",
    },
    RegistryRow {
        codes: &[400, 413, 422, 42201, 42202, 42203, 42205],
        remedy: Data,
        meaning: "the registry takes the schema for none or for too large, or the subject is closed to \
                  new ones",
        cure: "The registry's words say why; a subject in mode READONLY takes schemas again in mode \
               READWRITE.",
    },
    RegistryRow {
        codes: &[401, 40101, 407],
        remedy: Operator,
        meaning: "the login is refused",
        cure: "Check --registry-user and --registry-password-file, or --registry-token-file.",
    },
    RegistryRow {
        codes: &[403, 40301],
        remedy: Operator,
        meaning: "the user may not do this",
        cure: "Allow the user to read and write the subjects of the stream's topics.",
    },
    RegistryRow {
        codes: &[301, 302, 303, 307, 308],
        remedy: Operator,
        meaning: "the registry is somewhere else",
        cure: "Name that place with --registry.",
    },
    RegistryRow {
        codes: &[404, 405],
        remedy: Operator,
        meaning: "there is no such thing, or no registry behind this URL",
        cure: "Check the URL's path: Confluent's registry has none, Apicurio's is \
               /apis/ccompat/v7.",
    },
];

/// What may be done about an answer with this status and, where it has one, this `error_code`.
pub fn of(status: u16, code: Option<u32>) -> Remedy {
    match row(status, code) {
        Some(row) => row.remedy,
        // A server that fails in a way of its own may well be another one soon.
        None if status >= 500 => Retry,
        None => Operator,
    }
}

/// What mends it, where something is known to.
pub fn cure(status: u16, code: Option<u32>) -> Option<&'static str> {
    row(status, code)
        .map(|row| row.cure)
        .filter(|cure| !cure.is_empty())
}

fn row(status: u16, code: Option<u32>) -> Option<&'static RegistryRow> {
    let by = |code: u32| REGISTRY.iter().find(|row| row.codes.contains(&code));
    // A 400 of no registry's is what a TLS port says to plain HTTP, whatever the schema.
    let by_status = || by(u32::from(status)).filter(|_| status != 400 || code.is_some());
    code.and_then(by).or_else(by_status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_one_row_and_decided_by_it() {
        for row in REGISTRY {
            for code in row.codes {
                let rows = REGISTRY.iter().filter(|row| row.codes.contains(code));
                assert_eq!(rows.count(), 1, "{code} is in several rows");
                let decided = match u16::try_from(*code) {
                    Ok(400) => of(400, Some(400)),
                    Ok(status) if status < 1000 => of(status, None),
                    _ => of(400, Some(*code)),
                };
                assert_eq!(decided, row.remedy, "{code}");
            }
            let is_told = row.remedy == Retry || !row.cure.is_empty();
            assert!(is_told, "{row:?} says no cure");
        }
    }

    #[test]
    fn what_the_registry_says_of_itself_counts_more_than_the_status() {
        assert_eq!(of(400, Some(42201)), Data);
        assert_eq!(of(400, Some(40001)), Data);
        assert_eq!(
            of(400, None),
            Operator,
            "it is not the registry that says it"
        );
        assert_eq!(of(200, Some(50002)), Retry);
        assert_eq!(of(409, Some(7)), Data, "a number that nobody knows");
    }

    #[test]
    fn what_nobody_has_thought_of_is_for_a_person_unless_the_server_failed() {
        assert_eq!(of(418, None), Operator);
        assert_eq!(of(599, None), Retry);
    }
}
