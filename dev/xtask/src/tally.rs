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
    /// Adds a line `test result: …` of libtest; ignores other lines.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
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

/// Reads a stream in pieces and sums its lines.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    tally: Tally,
    line: Vec<u8>,
}

impl Reader {
    /// Reads the next piece, which may end anywhere.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        for &byte in piece {
            if byte == b'\n' {
                self.end_line();
            } else {
                self.line.push(byte);
            }
        }
    }

    /// Returns the sum at the end of the stream.
    pub(crate) fn finish(mut self) -> Tally {
        self.end_line();
        self.tally
    }

    fn end_line(&mut self) {
        self.tally.add_line(&String::from_utf8_lossy(&self.line));
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s

running 2 tests
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 12.34s
";

    #[test]
    fn the_result_lines_are_summed_wherever_the_pieces_end() {
        let expected = Tally {
            passed: 4,
            failed: 2,
            skipped: 1,
        };
        for size in 1..=OUTPUT.len() {
            let mut reader = Reader::default();
            OUTPUT
                .as_bytes()
                .chunks(size)
                .for_each(|piece| reader.feed(piece));
            assert_eq!(reader.finish(), expected, "in pieces of {size}");
        }
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
    fn a_last_line_without_a_line_break_counts() {
        let mut reader = Reader::default();
        reader.feed(b"test result: ok. 2 passed; 0 failed; 0 ignored");
        assert_eq!(reader.finish().passed, 2);
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
