//! What operators request: holds and rehearsals.

use super::*;

/// The fetch of a rehearsal.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelledRehearsal {
    fetch: FetchId,
    hangs: bool,
}

impl ModelledProvider {
    pub(super) fn set_held(&mut self, held: bool) {
        self.held = held;
        self.feed(if held {
            ProviderInput::Hold
        } else {
            ProviderInput::Resume
        });
    }

    pub(super) fn rehearse(&mut self) {
        self.requests += 1;
        self.waiting.insert(RequestId(self.requests));
        self.feed(ProviderInput::Rehearse(RequestId(self.requests)));
    }

    pub(super) fn is_rehearsal(&self, fetch: FetchId) -> bool {
        self.rehearsal.is_some_and(|one| one.fetch == fetch)
    }

    /// Checks the start of a rehearsal. Other fetches may run or hang.
    pub(super) fn rehearsal_starts(&mut self, fetch: FetchId) {
        let now = self.provider.now.mono();
        assert!(!self.closed && self.rehearsal.is_none(), "one at a time");
        let last = self.last_request.replace(now);
        assert!(
            last.is_none_or(|last| now >= last + COALESCE),
            "law 7: as manual requests"
        );
        self.rehearsal = Some(ModelledRehearsal {
            fetch,
            hangs: false,
        });
    }

    /// Ends the rehearsal. If it hangs, it ends late, whichever the ending is.
    pub(in super::super) fn rehearsal_ends(&mut self, ending: FetchEnd) {
        let Some(rehearsal) = self.rehearsal else {
            return;
        };
        let (fetch, now) = (rehearsal.fetch, self.provider.now);
        let before = self.current();
        let next = self.provider.machine.next_fetch();
        let offer = ending.offer(now);
        if rehearsal.hangs {
            let lease = match offer {
                Some(Offer::New(facts)) => Some(facts),
                _ => None,
            };
            self.feed(ProviderInput::FetchLate { fetch, lease });
            self.rehearsal = None;
        } else {
            self.feed(ending.input(fetch, offer));
            let hangs = matches!(ending, FetchEnd::Hangs);
            self.rehearsal = hangs.then_some(ModelledRehearsal { fetch, hangs });
        }
        let reports = self.provider.take(|effect| match effect {
            ProviderEffect::Report { .. } => Some(()),
            _ => None,
        });
        assert!(reports.is_empty(), "a rehearsal is no rotation");
        assert_eq!(before, self.current(), "a rehearsal changes nothing");
        assert_eq!(
            next,
            self.provider.machine.next_fetch(),
            "it delays nothing"
        );
    }
}
