//! Removes a password from texts that a server or driver made: some repeat what they received.

use claviger::Credentials;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for a password.
pub(crate) const HIDDEN: &str = "***";
/// Beginning of a password that is hidden as the whole: a server may cut it. In bytes.
const SHORTEST: usize = 4;

/// All but the characters that no part of a URL needs to encode.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A password in the forms in which a text may contain it.
pub(crate) struct Secret {
    /// Each form, and the length of the beginning that is hidden.
    forms: Vec<(String, usize)>,
}

impl Secret {
    /// Returns the password of these credentials. Of a token, the beginning is hidden from its
    /// query on: before it is the host.
    pub(crate) fn of(credentials: &Credentials) -> Self {
        let password = credentials.expose_password();
        let shortest = |form: &str| match form.find('?') {
            Some(query) if credentials.is_token() => query + 1,
            _ if credentials.is_token() => form.len(),
            _ => SHORTEST.min(form.len()),
        };
        let with_shortest = |form: String| {
            let shortest = shortest(&form);
            (form, shortest)
        };
        Self {
            forms: forms(password).into_iter().map(with_shortest).collect(),
        }
    }

    /// Returns the text with `***` for each form of the password, and for a cut one.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let hidden = self.forms.iter().filter_map(|(form, shortest)| {
                let common = common_prefix(rest, form);
                (common >= *shortest).then_some(common)
            });
            let taken = match hidden.max() {
                Some(length) => {
                    shown.push_str(HIDDEN);
                    length
                }
                None => {
                    shown.push(first);
                    first.len_utf8()
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        shown
    }
}

/// Returns the password as it is, on one line, percent-encoded and quoted. None is empty.
fn forms(password: &str) -> Vec<String> {
    let spaced = password.replace(char::is_control, " ");
    let words: Vec<_> = password.split_whitespace().collect();
    let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
    let of_url = utf8_percent_encode(password, ENCODED).to_string();
    let of_form: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
    let debug = format!("{password:?}");
    let json = serde_json::to_string(password).unwrap_or_default();
    let unquoted = |text: &str| text.trim_matches('"').to_owned();
    let mut forms = vec![
        password.to_owned(),
        spaced,
        words.join(" "),
        with_lower_case(&encoded),
        with_lower_case(&of_url),
        with_lower_case(&of_form),
        encoded,
        of_url,
        of_form,
        password.replace('\'', "''"),
        password.replace('"', "\"\""),
        password.replace('\\', "\\\\").replace('\'', "\\'"),
        unquoted(&debug),
        unquoted(&json),
    ];
    forms.retain(|form| !form.is_empty());
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Returns a percent-encoded text with `%c3` for `%C3`.
fn with_lower_case(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        text.push('%');
        text.push_str(&code.to_lowercase());
        text.push_str(rest);
    }
    text
}

/// Returns the length of the common beginning, in bytes.
fn common_prefix(text: &str, form: &str) -> usize {
    let pairs = text.chars().zip(form.chars());
    let equal = pairs.take_while(|(one, other)| one == other);
    equal.map(|(letter, _)| letter.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hide(password: &str, text: &str) -> String {
        Secret::of(&Credentials::new("app", password)).hide(text)
    }

    #[test]
    fn a_password_is_hidden_in_every_form() {
        let password = "p'a\\s s\"w@é/1";
        for form in [
            password,
            "p''a\\s s\"w@é/1",
            "p\\'a\\\\s s\"w@é/1",
            "p'a\\\\s s\\\"w@é/1",
            "p%27a%5Cs%20s%22w%40%C3%A9%2F1",
            "p%27a%5cs%20s%22w%40%c3%a9%2f1",
            "p%27a%5Cs+s%22w%40%C3%A9%2F1",
        ] {
            let shown = hide(password, &format!("args 'AUTH' '{form}' end"));
            assert_eq!(shown, "args 'AUTH' '***' end", "{form}");
        }
        assert_eq!(
            hide("two\r\nlines", "'two  lines' 'two lines'"),
            "'***' '***'"
        );
        assert_eq!(hide("", "nothing"), "nothing");
        assert_eq!(hide("ab", "ab and abc, a"), "*** and ***c, a");
    }

    #[test]
    fn a_cut_password_is_hidden() {
        assert_eq!(
            hide("s3cret-pw", "beginning with: 'app' 's3cret' "),
            "beginning with: 'app' '***' "
        );
        assert_eq!(hide("s3cret-pw", "app s3c"), "app s3c");
    }

    #[test]
    fn of_a_token_the_host_is_shown() {
        let token = "db.internal:5432/?Action=connect&X-Amz-Signature=00";
        let secret = Secret::of(&Credentials::new("app", token).with_password_as_token());
        assert_eq!(secret.hide(&format!("no {token}, sorry")), "no ***, sorry");
        assert_eq!(
            secret.hide("no db.internal:5432 here"),
            "no db.internal:5432 here"
        );
        assert_eq!(secret.hide("db.internal:5432/?Action"), "***");
    }
}
