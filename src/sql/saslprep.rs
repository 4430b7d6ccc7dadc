//! A password as SASLprep (RFC 4013) prepares it, exactly as PostgreSQL does.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;

/// Returns the prepared password, or `None` where libpq and the server use the password unchanged.
///
/// PostgreSQL checks for prohibited and unassigned characters before it normalises (`pg_saslprep`
/// in `src/common/saslprep.c`), and uses a password with one of them unchanged.
/// `stringprep::saslprep` checks afterwards, which gives another result for some passwords.
pub(crate) fn prepared(password: &str) -> Option<String> {
    if password.is_ascii() {
        return None;
    }
    let mapped = password
        .replace(tables::non_ascii_space_character, " ")
        .replace(tables::commonly_mapped_to_nothing, "");
    if mapped.is_empty() || mapped.contains(is_prohibited) || is_mixed_in_direction(&mapped) {
        return None;
    }
    let prepared: String = mapped.nfkc().collect();
    (prepared != password).then_some(prepared)
}

/// Returns whether sqlx 0.8.6 panics in SCRAM with this user ("Failed to saslprep username"): it
/// prepares the name together with the Latin `n=` before it.
pub(crate) fn is_unfit_user(user: &str) -> bool {
    stringprep::saslprep(&format!("n={user}")).is_err()
}

fn is_prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// Returns whether the text violates the bidirectional rule of RFC 3454. Right-to-left text must
/// begin and end with such a character, and have none of the other direction.
fn is_mixed_in_direction(text: &str) -> bool {
    let is_right_to_left = tables::bidi_r_or_al;
    text.contains(is_right_to_left)
        && (text.contains(tables::bidi_l)
            || !text.starts_with(is_right_to_left)
            || !text.ends_with(is_right_to_left))
}
