//! The nearest known name of a misspelt one.

/// Smallest similarity of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.5;

/// Smallest similarity at which a name counts as misspelt. A less similar one may be another
/// program's.
const MISSPELT: f64 = 0.75;

/// Names of other libraries and drivers for keys of this file.
const SYNONYMS: [(&str, &str); 22] = [
    ("address", "host"),
    ("ca", "ca_file"),
    ("ca_cert", "ca_file"),
    ("db", "database"),
    ("db_name", "database"),
    ("dbname", "database"),
    ("dsn", "url"),
    ("hostname", "host"),
    ("max_open_conns", "max_connections"),
    ("max_pool_size", "max_connections"),
    ("max_size", "max_connections"),
    ("min_idle", "min_connections"),
    ("pass", "password"),
    ("passwd", "password"),
    ("pool_size", "max_connections"),
    ("pwd", "password"),
    ("root_cert", "ca_file"),
    ("server", "host"),
    ("sslrootcert", "ca_file"),
    ("timeout", "acquire_timeout"),
    ("uri", "url"),
    ("username", "user"),
];

/// Returns the part of a message that suggests the nearest known name, or lists all of them.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some((similarity, nearest)) if similarity >= MIN_SIMILARITY => {
            format!("did you mean `{nearest}`?")
        }
        _ if known.is_empty() => "there is none".to_owned(),
        _ => format!("give one of {}", list(known)),
    }
}

/// Returns the nearest known name with its similarity, from 0 to 1.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<(f64, &'k str)> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name);
    if let Some(nearest) = synonym.and_then(|(_, own)| known.iter().find(|known| *known == own)) {
        return Some((1.0, nearest));
    }
    let similarity = |one: &str| {
        let one = one.to_ascii_lowercase().replace('-', "_");
        // Such as `max_lifetime`, which is part of `connection_max_lifetime`.
        if name.len() > 3 && one.contains(&name) {
            let part = name.len() as f64 / one.len() as f64;
            return 0.75 + part / 5.0;
        }
        strsim::normalized_damerau_levenshtein(&name, &one)
    };
    most_similar(known, similarity)
}

/// Returns the known name of which this is probably a misspelling.
pub(crate) fn misspelt<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let similarity = |one: &str| strsim::normalized_damerau_levenshtein(name, one);
    most_similar(known, similarity)
        .filter(|(similarity, _)| *similarity >= MISSPELT)
        .map(|(_, nearest)| nearest)
}

/// Returns the name with the greatest similarity, from 0 to 1.
fn most_similar<'k>(known: &[&'k str], similarity: impl Fn(&str) -> f64) -> Option<(f64, &'k str)> {
    let similar = known.iter().map(|one| (similarity(one), *one));
    similar.max_by(|(left, _), (right, _)| left.total_cmp(right))
}

pub(crate) fn list(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_library_leads_to_the_key() {
        let known = [
            "acquire_timeout",
            "database",
            "idle_timeout",
            "max_connections",
            "user",
        ];
        for (name, nearest) in [
            ("dbname", "database"),
            ("username", "user"),
            ("timeout", "acquire_timeout"),
            ("Max-Connections", "max_connections"),
            ("idle_timout", "idle_timeout"),
        ] {
            assert_eq!(
                suggestion(name, &known),
                format!("did you mean `{nearest}`?")
            );
        }
        assert!(suggestion("zzz", &known).starts_with("give one of `acquire_timeout`, "));
        assert_eq!(suggestion("pwd", &[]), "there is none");
    }
}
