//! The contrast of the texts of a page.

use crate::browser::Page;

/// The lowest contrast of a text with what is behind it, and which text that is.
const LOWEST_CONTRAST: &str = "(() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    let lowest = [100, ''];
    for (const element of document.querySelectorAll('body *')) {
        const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join('').trim();
        if (!text || !element.getClientRects().length || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
        const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < lowest[0]) lowest = [contrast, text];
    }
    return lowest;
})()";

/// Checks that each text can be read, in light and dark.
pub(crate) async fn check_contrast(page: &mut Page) {
    for scheme in ["light", "dark"] {
        page.prefer(scheme).await;
        let background = page
            .text("getComputedStyle(document.body).backgroundColor")
            .await;
        let lowest = page.value(LOWEST_CONTRAST).await;
        assert!(
            lowest[0].as_f64().is_some_and(|contrast| contrast >= 4.5),
            "{scheme} on {background}: {lowest}"
        );
    }
    page.prefer("light").await;
}
