//! Filters texts of servers and backends for the log: one line, bounded, without control
//! characters.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Most characters of a message.
const MAX_MESSAGE: usize = 500;
/// Most characters of a code: a SQLSTATE has five, a MySQL error number four.
const MAX_CODE: usize = 16;
/// Most causes that are kept behind one filtered error.
const MAX_CAUSES: usize = 16;

/// Returns the message on one line of at most 500 characters.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    filtered(text, MAX_MESSAGE)
}

/// Returns the code in at most 16 characters.
pub(super) fn code(text: &str) -> Cow<'_, str> {
    filtered(text, MAX_CODE)
}

/// Replaces each run of unprintable characters by one space, and cuts the text at `max` characters.
fn filtered(text: &str, max: usize) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) && text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len().min(4 * max));
    let mut count = 0;
    let mut gap = false;
    for one in text.chars() {
        if is_unprintable(one) {
            gap = count > 0;
            continue;
        }
        let needed = 1 + usize::from(gap && !kept.ends_with(' ') && one != ' ');
        if count + needed > max - 1 {
            kept.push('…');
            return Cow::Owned(kept);
        }
        if needed == 2 {
            kept.push(' ');
        }
        kept.push(one);
        count += needed;
        gap = false;
    }
    Cow::Owned(kept)
}

/// Returns whether this character ends, hides or reorders text. Those are control characters (line
/// ends, the escape of ANSI sequences), line separators, and characters without a glyph. Without a
/// glyph are Unicode's `Default_Ignorable_Code_Point` and category Cf, except the visible signs of
/// Arabic, Syriac and Kaithi numbers and quotations.
fn is_unprintable(one: char) -> bool {
    one.is_control()
        || matches!(
            one,
            '\u{2028}' | '\u{2029}'
                | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
                | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The cause of an error: the original for a downcast, and a chain of texts that is safe to print.
#[derive(Clone)]
pub(super) struct Source {
    original: Arc<dyn StdError + Send + Sync + 'static>,
    /// Replaces the original if a text of its chain is not printable.
    filtered: Option<Arc<Filtered>>,
}

impl Source {
    pub(super) fn new(original: impl StdError + Send + Sync + 'static) -> Self {
        let texts: Vec<String> =
            std::iter::successors(Some(&original as &(dyn StdError + 'static)), |error| {
                (*error).source()
            })
            .take(MAX_CAUSES)
            .map(ToString::to_string)
            .collect();
        let is_printable = texts
            .iter()
            .all(|text| matches!(message(text), Cow::Borrowed(_)));
        let filtered = if is_printable {
            None
        } else {
            Filtered::chain(&texts)
        };
        Self {
            original: Arc::new(original),
            filtered,
        }
    }

    pub(super) fn original(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.original
    }

    /// Returns the cause for [`StdError::source`].
    pub(super) fn printable(&self) -> &(dyn StdError + 'static) {
        match &self.filtered {
            Some(filtered) => &**filtered,
            None => &*self.original,
        }
    }
}

/// One text of a chain, filtered.
struct Filtered {
    text: String,
    next: Option<Arc<Filtered>>,
}

impl Filtered {
    fn chain(texts: &[String]) -> Option<Arc<Self>> {
        texts.iter().rev().fold(None, |next, text| {
            Some(Arc::new(Self {
                text: message(text).into_owned(),
                next,
            }))
        })
    }
}

impl fmt::Display for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl StdError for Filtered {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next
            .as_deref()
            .map(|next| next as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
    use super::*;

    const HOSTILE: &str =
        "no\r\n2026-11-28 INFO all is well\u{1b}[2J\u{9b}31m\u{0}\u{202e}drow\u{2028}end";

    /// Returns every text of the error and of its causes.
    fn printed(error: &(dyn StdError + 'static)) -> Vec<String> {
        std::iter::successors(Some(error), |error| (*error).source())
            .flat_map(|error| [error.to_string(), format!("{error:?}")])
            .collect()
    }

    fn assert_printable(texts: &[String]) {
        for text in texts {
            assert!(!text.chars().any(is_unprintable), "{text:?}");
            assert!(
                text.chars().count() < MAX_MESSAGE + 150,
                "{} characters",
                text.chars().count()
            );
        }
    }

    #[test]
    fn a_server_cannot_write_lines_or_colours_into_the_log() {
        let cause = std::io::Error::other(ProviderError::new(ProviderErrorKind::Other, HOSTILE));
        let connect_error = ConnectError::new(ConnectErrorKind::Rejected, HOSTILE)
            .with_code("28\n01")
            .with_source(std::io::Error::other(HOSTILE));
        let error = ProviderError::new(ProviderErrorKind::Denied, HOSTILE).with_source(cause);
        assert_eq!(
            connect_error.message(),
            "no 2026-11-28 INFO all is well [2J 31m drow end"
        );
        assert_eq!(connect_error.code(), Some("28 01"));
        assert_eq!(printed(&connect_error).len(), 4);
        assert_printable(&printed(&connect_error));
        assert_printable(&printed(&error));
        assert_printable(&printed(&crate::Error::from_pool(
            "orders",
            "login",
            None,
            connect_error,
        )));
        assert_printable(&printed(&crate::Error::from_provider("login", None, error)));
    }

    #[test]
    fn hidden_and_reordering_characters_are_replaced() {
        for one in [
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{206a}',
            '\u{feff}',
            '\u{fff9}',
            '\u{180e}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{1d173}',
            '\u{1bca0}',
            '\u{13430}',
        ] {
            let error = ConnectError::new(ConnectErrorKind::Rejected, format!("pass{one}word"));
            assert_eq!(error.message(), "pass word", "U+{:04X}", u32::from(one));
        }
        for text in [
            "größe",
            "пароль",
            "密码",
            "パスワード",
            "سلام",
            "e\u{301}",
            "🔑",
            "-'\u{a0}\u{2026}\u{2013}",
        ] {
            assert_eq!(
                ConnectError::new(ConnectErrorKind::Rejected, text).message(),
                text
            );
        }
    }

    #[test]
    fn a_long_text_is_cut_at_five_hundred_characters() {
        for one in ["x", "ä", "\n"] {
            let long = format!("start{}end", one.repeat(100_000));
            let connect_error = ConnectError::new(ConnectErrorKind::Other, long.clone())
                .with_source(std::io::Error::other(long.clone()));
            let error = ProviderError::new(ProviderErrorKind::Other, long);
            assert!(
                connect_error.message().chars().count() <= MAX_MESSAGE
                    && error.message().chars().count() <= MAX_MESSAGE
            );
            assert!(connect_error.message().starts_with("start"));
            assert_printable(&printed(&connect_error));
        }
        let exact = "x".repeat(MAX_MESSAGE);
        assert_eq!(
            ConnectError::new(ConnectErrorKind::Other, exact.clone()).message(),
            exact
        );
        let cut = ConnectError::new(ConnectErrorKind::Other, "x".repeat(MAX_MESSAGE + 1));
        assert_eq!(cut.message(), format!("{}…", "x".repeat(MAX_MESSAGE - 1)));
    }

    #[test]
    fn a_cause_is_found_by_its_type_whatever_its_text() {
        for text in ["connection refused", HOSTILE] {
            let error = ConnectError::new(ConnectErrorKind::Unreachable, text)
                .with_source(std::io::Error::other(text));
            assert!(
                error
                    .cause()
                    .is_some_and(|cause| cause.downcast_ref::<std::io::Error>().is_some())
            );
        }
        let error = ConnectError::new(ConnectErrorKind::Unreachable, "down")
            .with_source(std::io::Error::other("down"));
        assert!(
            error
                .source()
                .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_some())
        );
    }
}
