//! Sums the results of test programs.

/// Numbers of passed, failed and skipped tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Passed tests.
    pub(crate) passed: u64,
    /// Failed tests, and programs that failed without a failed test.
    pub(crate) failed: u64,
    /// Tests that did not run.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Adds a line `test result: …` of libtest, with which a test program ends. Returns whether it
    /// is one; ignores other lines.
    pub(crate) fn add_line(&mut self, line: &str) -> bool {
        let Some(result) = line.strip_prefix("test result: ") else {
            return false;
        };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let Some(Ok(count)) = words.next().map(str::parse::<u64>) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
        true
    }

    /// Adds another sum to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Returns the last line of the output.
    pub(crate) fn line(self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let mut tally = Tally::default();
        let ignored = "1 ignored; 0 measured; 7 filtered out; finished in 0.00s";
        assert!(tally.add_line(&format!("test result: ok. 3 passed; 0 failed; {ignored}\n")));
        assert!(tally.add_line("test result: FAILED. 1 passed; 2 failed; 0 ignored"));
        let expected = Tally {
            passed: 4,
            failed: 2,
            skipped: 1,
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn colours_are_ignored() {
        let mut tally = Tally::default();
        tally.add_line("test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 5 passed; 0 failed; 0 ignored");
        assert_eq!(
            tally,
            Tally {
                passed: 5,
                ..Tally::default()
            }
        );
    }

    #[test]
    fn other_lines_are_ignored() {
        let mut tally = Tally::default();
        for line in [
            "3 passed; 4 failed",
            "assertion: test result: ok. 9 passed",
            "test result: 7 ok",
            "test result: ",
        ] {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn the_last_line_has_the_three_sums() {
        assert_eq!(
            Tally {
                passed: 12,
                failed: 1,
                skipped: 3
            }
            .line(),
            "12 passed, 1 failed, 3 skipped"
        );
    }
}
