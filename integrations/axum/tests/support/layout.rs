//! What the page looks like at the widths of common screens.

use serde_json::json;

use crate::browser::Page;

/// Widths in CSS pixels with a font of 16: a telephone, a tablet, laptops, and two columns.
const WIDTHS: [u32; 9] = [360, 768, 1024, 1056, 1100, 1280, 1400, 1440, 1920];

/// Smallest width of a pool's or provider's name, in em.
const NARROWEST_NAME: u32 = 8;

/// Checks that nothing is wider than the window, and that every name has room.
pub(crate) async fn check_widths(page: &mut Page) {
    for font_size in [16, 24] {
        let sizes = json!({ "fontSizes": { "standard": font_size } });
        page.call("Page.setFontSizes", sizes).await;
        // With a large font, the narrowest screens are below the page's minimum width.
        let is_wide_enough = |width: &u32| *width >= WIDTHS[0] * font_size / 16;
        for width in WIDTHS.into_iter().filter(is_wide_enough) {
            page.resize(width, 1000).await;
            let widest = page.value("document.documentElement.scrollWidth").await;
            assert_eq!(widest, width, "at {width} pixels, font of {font_size}");
            let names = "Math.min(...[...document.querySelectorAll('tbody th')].map(name => \
                 Math.floor(name.getBoundingClientRect().width)))";
            let narrowest = page.value(names).await.as_u64().unwrap_or_default();
            assert!(
                narrowest >= u64::from(NARROWEST_NAME * font_size),
                "a name has {narrowest} pixels of {width}, font of {font_size}"
            );
        }
    }
    let sizes = json!({ "fontSizes": { "standard": 16 } });
    page.call("Page.setFontSizes", sizes).await;
    page.resize(1400, 1000).await;
}
