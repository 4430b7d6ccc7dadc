//! Difference between this machine's clock and the `Date` of AWS's response.

use std::time::{Duration, SystemTime};

use aws_smithy_types::date_time::{DateTime, Format};

/// Smallest difference that is reported. A response has whole seconds, and takes time.
const REPORTED_FROM: Duration = Duration::from_secs(30);

/// Describes the difference between `now` and the date of a response, if it is half a minute or
/// more.
pub(super) fn skew(date: Option<&str>, now: SystemTime) -> Option<String> {
    let theirs = SystemTime::try_from(DateTime::from_str(date?, Format::HttpDate).ok()?).ok()?;
    let (difference, side) = match theirs.duration_since(now) {
        Ok(behind) => (behind, "behind"),
        Err(ahead) => (ahead.duration(), "ahead of"),
    };
    let seconds = difference.as_secs();
    (difference >= REPORTED_FROM).then(|| {
        format!(
            "this machine's clock is {} min {} s {side} AWS's",
            seconds / 60,
            seconds % 60
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_difference_of_half_a_minute_or_more_is_reported() {
        let date = Some("Thu, 01 Jan 1970 01:00:00 GMT");
        let at = |seconds| skew(date, UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(
            at(3_600 - 750).as_deref(),
            Some("this machine's clock is 12 min 30 s behind AWS's")
        );
        assert_eq!(
            at(3_600 + 61).as_deref(),
            Some("this machine's clock is 1 min 1 s ahead of AWS's")
        );
        assert_eq!((at(3_600), at(3_629), at(3_571)), (None, None, None));
        for date in [None, Some(""), Some("yesterday"), Some("Thu, 01 Jan 1970")] {
            assert_eq!(
                skew(date, UNIX_EPOCH + Duration::from_secs(3_600)),
                None,
                "{date:?}"
            );
        }
    }
}
