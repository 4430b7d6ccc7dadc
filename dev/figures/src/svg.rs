//! A picture in SVG, readable on light and on dark pages, without scripts or outside references.

use std::fmt::Write;

/// Colours and fonts. The picture has a background of its own, because a page may be dark on a
/// light desktop.
const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 }
  .code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
  .small { font-size: 11.5px; fill: #59636e }
  .strong { font-weight: 600 }
  .paper { fill: #ffffff; stroke: #d1d9e0 }
  .grid { stroke: #d1d9e0 }
  .mark { stroke: #59636e; stroke-dasharray: 4 3 }
  .neutral { fill: #818b98 }
  .blue { fill: #0969da }
  .green { fill: #1a7f37 }
  .amber { fill: #bf8700 }
  .red { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #9198a1 }
    .paper { fill: #0d1117; stroke: #3d444d }
    .grid { stroke: #3d444d }
    .mark { stroke: #9198a1 }
    .neutral { fill: #7d8590 }
    .blue { fill: #4493f8 }
    .green { fill: #3fb950 }
    .amber { fill: #d29922 }
    .red { fill: #f85149 }
  }
";

/// Edge of a text that is at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture under construction. Units are pixels.
#[derive(Debug)]
pub(crate) struct Svg {
    width: f64,
    head: String,
    body: String,
}

impl Svg {
    /// Begins a picture. Screen readers read the title and the description.
    pub(crate) fn new(width: f64, title: &str, description: &str) -> Self {
        let (title, description) = (escaped(title), escaped(description));
        let mut picture = Self {
            width,
            head: format!(
                "<title id=\"title\">{title}</title>\n<desc id=\"desc\">{description}</desc>\n\
                 <style>{STYLE}</style>\n"
            ),
            body: String::new(),
        };
        let _ = writeln!(
            picture.body,
            "<text class=\"title\" x=\"20\" y=\"32\">{title}</text>"
        );
        picture
    }

    /// Draws a bar. It is at least 2 pixels wide, so that short times are visible.
    pub(crate) fn bar(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let width = width.max(2.0);
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"1\"/>"
        );
    }

    /// Draws a vertical line.
    pub(crate) fn vertical(&mut self, class: &str, x: f64, from: f64, to: f64) {
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\"/>"
        );
    }

    pub(crate) fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let class = if class.is_empty() {
            String::new()
        } else {
            format!(" class=\"{class}\"")
        };
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            "<text{class} x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{text}</text>"
        );
    }

    /// Returns the text of the file.
    pub(crate) fn finish(self, height: f64) -> String {
        let Self { width, head, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
             aria-labelledby=\"title desc\">\n{head}\
             <rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>\n\
             {body}</svg>\n",
            width - 1.0,
            height - 1.0
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Returns a distance between two marks of an axis of this length, such that there are 3 to 8.
pub(crate) fn tick(length: f64) -> f64 {
    let rough = (length / 8.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

/// Checks of files.
#[cfg(test)]
pub(crate) mod check {
    /// Longest accepted file, in bytes.
    const LONGEST: usize = 30_000;

    /// Checks that a picture is well-formed, small, accessible and has no outside reference.
    pub(crate) fn picture(svg: &str) {
        assert!(svg.len() <= LONGEST, "{} bytes", svg.len());
        for part in ["role=\"img\"", "<title", "<desc", "prefers-color-scheme"] {
            assert!(svg.contains(part), "there is no {part}");
        }
        let without_namespace = svg.replacen("http://www.w3.org/2000/svg", "", 1);
        for part in ["http", "<script", "<image", "@import", "url(", "href"] {
            assert!(!without_namespace.contains(part), "there is {part}");
        }
        well_formed(svg);
    }

    /// Checks that elements are closed in order, attributes are quoted, and texts are escaped.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let end = part.find('>').unwrap_or_else(|| unreachable!("{part}"));
            let (tag, text) = (&part[..end], &part[end + 1..]);
            assert!(!text.contains('>'), "an unescaped text: {text}");
            for reference in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;", "quot;"];
                assert!(
                    known.iter().any(|name| reference.starts_with(name)),
                    "{text}"
                );
            }
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
                continue;
            }
            assert!(tag.matches('"').count() % 2 == 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap_or_default());
            }
        }
        assert!(open.is_empty(), "not closed: {open:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_well_formed_and_its_texts_are_escaped() {
        let mut picture = Svg::new(300.0, "a < b & c", "\"quoted\"");
        picture.bar("blue", 1.0, 2.0, 0.0, 10.0);
        picture.vertical("grid", 1.0, 2.0, 3.0);
        picture.text("", 1.0, 2.0, Anchor::End, "x > y");
        let svg = picture.finish(100.0);
        check::picture(&svg);
        assert!(svg.contains(">a &lt; b &amp; c</text>") && svg.contains(">x &gt; y</text>"));
        assert!(
            svg.contains("width=\"2.0\""),
            "a bar of no length is visible"
        );
    }

    #[test]
    fn an_axis_has_three_to_eight_marks() {
        for length in [0.7, 8.0, 12.0, 99.0, 164.0, 1_493.0] {
            let marks = length / tick(length);
            assert!((3.0..=8.0).contains(&marks), "{length}: {marks}");
        }
        assert!((tick(12.0) - 2.0).abs() < 1e-9);
    }
}
