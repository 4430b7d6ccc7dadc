//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: demo [--seconds N]

  --seconds N   how long the service runs, 5 to 86400 (default 30)
";

/// Two changes of each kind fit into the shortest run.
const SHORTEST: u64 = 5;
const LONGEST: u64 = 86_400;

pub(crate) struct Options {
    pub(crate) duration: Duration,
}

impl Options {
    /// Nothing when help was asked for.
    pub(crate) fn from_arguments() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut seconds = 30;
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seconds") => seconds = parser.value()?.parse()?,
                Short('h') | Long("help") => return Ok(None),
                argument => return Err(argument.unexpected()),
            }
        }
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            return Err(format!("--seconds {seconds}: give between {SHORTEST} and {LONGEST}").into());
        }
        Ok(Some(Self { duration: Duration::from_secs(seconds) }))
    }
}
