//! Times and durations as texts. `page.js` has the same rules for texts that change with time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::node::{Node, SINCE, UNTIL, node};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns the seconds since 1970, rounded, so that two readings of one time are equal.
fn unix_seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_millis() >= 500)
}

/// Returns an element with the time that is left: `13 min 05 s`.
pub(super) fn until(now: SystemTime, remaining: Duration) -> Node {
    // Beyond year 10000 a script has no dates.
    let remaining = remaining.min(Duration::from_secs(10_000 * DAY));
    let at = unix_seconds(now + remaining);
    let left = at.saturating_sub(unix_seconds(now));
    node("span")
        .with(UNTIL, at.to_string())
        .text(left_text(left))
}

/// Returns an element with the time since `at`: `5 min ago`.
pub(super) fn since(now: SystemTime, at: SystemTime) -> Node {
    let at = unix_seconds(at);
    let ago = unix_seconds(now).saturating_sub(at);
    node("span").with(SINCE, at.to_string()).text(ago_text(ago))
}

fn left_text(seconds: u64) -> String {
    if seconds == 0 {
        "now".to_owned()
    } else if seconds < MINUTE {
        format!("{seconds} s")
    } else if seconds < HOUR {
        format!("{} min {:02} s", seconds / MINUTE, seconds % MINUTE)
    } else if seconds < DAY {
        format!("{} h {:02} min", seconds / HOUR, seconds % HOUR / MINUTE)
    } else {
        format!("{} d {:02} h", seconds / DAY, seconds % DAY / HOUR)
    }
}

fn ago_text(seconds: u64) -> String {
    if seconds < 5 {
        "just now".to_owned()
    } else if seconds < MINUTE {
        format!("{seconds} s ago")
    } else if seconds < HOUR {
        format!("{} min ago", seconds / MINUTE)
    } else if seconds < DAY {
        format!("{} h ago", seconds / HOUR)
    } else {
        format!("{} d ago", seconds / DAY)
    }
}

/// Returns a measured duration: `42 ms`, `1.24 s`.
pub(super) fn took(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 && !duration.is_zero() {
        "<1 ms".to_owned()
    } else if millis < 1_000 {
        format!("{millis} ms")
    } else if millis < 60_000 {
        format!("{:.2} s", duration.as_secs_f64())
    } else {
        left_text(duration.as_secs())
    }
}

/// Returns an element with a time of day in UTC, as in the log: `14:03:22`. Another day than today
/// is written, too: `2026-11-29 14:03:22`.
pub(super) fn time_of_day(now: SystemTime, at: SystemTime) -> Node {
    // After year 9999 the format has no text.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let rfc3339 = |at: SystemTime| {
        let at = at.clamp(UNIX_EPOCH, last);
        humantime::format_rfc3339_seconds(at).to_string()
    };
    let (full, today) = (rfc3339(at), rfc3339(now));
    let clock = full.get(11..19).unwrap_or_default();
    let date = full.get(..10).unwrap_or_default();
    let text = if today.starts_with(date) {
        clock.to_owned()
    } else {
        format!("{date} {clock}")
    };
    let title = format!("{date} {clock} UTC");
    node("time")
        .with("datetime", full)
        .with("title", title)
        .text(text)
}

/// Returns `1 pool`, `3 pools`.
pub(super) fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remaining_time_has_two_units() {
        for (seconds, text) in [
            (0, "now"),
            (59, "59 s"),
            (60, "1 min 00 s"),
            (785, "13 min 05 s"),
            (3_600, "1 h 00 min"),
            (86_399, "23 h 59 min"),
            (200_000, "2 d 07 h"),
        ] {
            assert_eq!(left_text(seconds), text);
        }
    }

    #[test]
    fn a_measured_duration_has_three_digits() {
        for (micros, text) in [
            (0, "0 ms"),
            (300, "<1 ms"),
            (42_400, "42 ms"),
            (1_244_000, "1.24 s"),
            (75_000_000, "1 min 15 s"),
        ] {
            assert_eq!(took(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn a_time_beyond_all_calendars_is_shown() {
        let far = until(UNIX_EPOCH, Duration::MAX);
        let mut html = String::new();
        far.write_html(&mut html);
        assert!(html.ends_with(">10000 d 00 h</span>"), "{html}");
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        time_of_day(far, far).write_html(&mut html);
    }

    #[test]
    fn a_time_of_another_day_has_a_date() {
        let midnight = UNIX_EPOCH + Duration::from_secs(20_000 * DAY);
        let noon = midnight + Duration::from_secs(DAY + DAY / 2);
        for (hours, text) in [
            (23, "2024-10-04 23:00:00"),
            (24, "00:00:00"),
            (36, "12:00:00"),
            (47, "23:00:00"),
            (48, "2024-10-06 00:00:00"),
        ] {
            let at = midnight + Duration::from_secs(hours * HOUR);
            let mut html = String::new();
            time_of_day(noon, at).write_html(&mut html);
            assert!(html.ends_with(&format!(">{text}</time>")), "{html}");
        }
    }
}
