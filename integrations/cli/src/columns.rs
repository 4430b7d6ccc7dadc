//! Texts in columns of a terminal, where a letter may be two columns wide, or none.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Returns the number of columns of a text.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns the beginning of the text that is at most this wide, and the rest.
pub(crate) fn split(text: &str, columns: usize) -> (&str, &str) {
    let mut used = 0;
    let end = text.char_indices().find(|(_, letter)| {
        used += letter.width().unwrap_or_default();
        used > columns
    });
    let end = end.map_or(text.len(), |(at, _)| at);
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Returns the text with spaces up to this width, cut if it is longer.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let (text, _) = split(text, columns);
    let missing = columns.saturating_sub(width(text));
    text.to_owned() + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_letter_takes_two_columns_and_an_accent_none() {
        assert_eq!(width("注文-db"), 7);
        assert_eq!(width("cafe\u{301}"), 4);
        assert_eq!(split("注文-db", 3), ("注", "文-db"));
        assert_eq!(padded("注文", 6), "注文  ");
        assert_eq!(padded("orders", 3), "ord");
    }
}
