//! Elements of the page: described once, and written as HTML for the first response and as JSON for
//! updates.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// An element. Names of elements and attributes are constants of this crate; only values and texts
/// come from elsewhere, and are escaped.
#[derive(Clone, Debug)]
pub(super) struct Node {
    name: &'static str,
    attributes: Vec<(&'static str, Cow<'static, str>)>,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
enum Child {
    Text(String),
    Node(Node),
}

/// Attributes whose element's text depends on the time: the page's script writes it, so updates
/// omit it.
pub(super) const UNTIL: &str = "data-until";
/// As [`UNTIL`], for a time in the past.
pub(super) const SINCE: &str = "data-since";

/// Attribute that identifies an element among its siblings, so that an update keeps it.
const KEY: &str = "data-key";

/// Creates an element.
pub(super) fn node(name: &'static str) -> Node {
    Node {
        name,
        attributes: Vec::new(),
        children: Vec::new(),
    }
}

impl Node {
    /// Adds an attribute.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// Sets the class, unless it is empty.
    pub(super) fn class(self, class: &'static str) -> Self {
        if class.is_empty() {
            self
        } else {
            self.with("class", class)
        }
    }

    /// Sets the key, by which an update finds the element again.
    pub(super) fn key(self, key: impl Into<String>) -> Self {
        self.with(KEY, key.into())
    }

    /// Adds text. Texts beside each other are one.
    pub(super) fn text(mut self, text: impl AsRef<str>) -> Self {
        match self.children.last_mut() {
            Some(Child::Text(before)) => before.push_str(text.as_ref()),
            _ => self.children.push(Child::Text(text.as_ref().to_owned())),
        }
        self
    }

    /// Adds an element.
    pub(super) fn child(mut self, child: Node) -> Self {
        self.children.push(Child::Node(child));
        self
    }

    /// Adds elements.
    pub(super) fn children(mut self, children: impl IntoIterator<Item = Node>) -> Self {
        self.children.extend(children.into_iter().map(Child::Node));
        self
    }

    /// Writes the element as HTML. All values are escaped.
    pub(super) fn write_html(&self, html: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(html, "<{}", self.name);
        for (name, value) in &self.attributes {
            let _ = write!(html, " {name}=\"{}\"", Escaped(value));
        }
        html.push('>');
        for child in &self.children {
            match child {
                Child::Text(text) => {
                    let _ = write!(html, "{}", Escaped(text));
                }
                Child::Node(node) => node.write_html(html),
            }
        }
        let _ = write!(html, "</{}>", self.name);
    }

    fn depends_on_time(&self) -> bool {
        let mut names = self.attributes.iter().map(|(name, _)| *name);
        names.any(|name| name == UNTIL || name == SINCE)
    }
}

/// `["tr", {"class": "bad"}, "text", ["td", {}]]`.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_seq(None)?;
        parts.serialize_element(self.name)?;
        parts.serialize_element(&Attributes(&self.attributes))?;
        if !self.depends_on_time() {
            for child in &self.children {
                match child {
                    Child::Text(text) => parts.serialize_element(text)?,
                    Child::Node(node) => parts.serialize_element(node)?,
                }
            }
        }
        parts.end()
    }
}

struct Attributes<'n>(&'n [(&'static str, Cow<'static, str>)]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Text in HTML, in an element or in an attribute with double quotes.
struct Escaped<'t>(&'t str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for one in self.0.chars() {
            match one {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // A parser of HTML replaces it.
                '\0' => f.write_str("\u{fffd}")?,
                one => f.write_char(one)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_in_html_and_kept_in_json() {
        let hostile = "<img src=x onerror=\"alert('1')\">&";
        let built = node("td").with("title", hostile).text(hostile);
        let mut html = String::new();
        built.write_html(&mut html);
        let escaped = "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;";
        assert_eq!(html, format!("<td title=\"{escaped}\">{escaped}</td>"));
        assert_eq!(
            serde_json::to_value(&built).ok(),
            Some(serde_json::json!(["td", { "title": hostile }, hostile]))
        );
    }

    #[test]
    fn a_text_that_depends_on_the_time_is_not_in_updates() {
        let built = node("p").child(node("time").with(UNTIL, "1700000000").text("12 s"));
        assert_eq!(
            serde_json::to_value(&built).ok(),
            Some(serde_json::json!(["p", {}, ["time", { "data-until": "1700000000" }]]))
        );
    }
}
