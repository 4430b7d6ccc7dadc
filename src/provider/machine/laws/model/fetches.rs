//! Ends of fetches, and the laws of what they change.

use super::*;

impl ModelledProvider {
    pub(in super::super) fn fetch_ends(&mut self, ending: FetchEnd) {
        let Some((fetch, started, trigger)) = self.running.take() else {
            return;
        };
        if matches!(ending, FetchEnd::Lost) && trigger_has_no_timer(trigger) && !self.rehearses {
            self.requested = true;
        }
        let now = self.provider.now;
        let done = |result| ProviderInput::FetchDone {
            fetch,
            result,
            jitter: 0.0,
        };
        let offer = match ending {
            FetchEnd::New(..) if self.renews && !self.rehearses => Some(Offer::Unchanged),
            FetchEnd::New(number, ttl) => {
                let expiry = ttl.map_or(Expiry::never(), |ttl| {
                    Expiry::after(now, Duration::from_secs(ttl))
                });
                Some(Offer::New(lease(&number.to_string(), expiry)))
            }
            FetchEnd::Renewed(ttl) => {
                Some(Offer::Renewed(Expiry::after(now, Duration::from_secs(ttl))))
            }
            FetchEnd::Unchanged => Some(Offer::Unchanged),
            _ => None,
        };
        let before = self.current();
        if matches!(ending, FetchEnd::Hangs) {
            self.hanging.push(fetch);
        }
        self.feed(match (ending, &offer) {
            (_, Some(offer)) => done(Ok(offer.clone())),
            (FetchEnd::Fails(kind), _) => done(Err(error(kind))),
            (FetchEnd::Hangs, _) => ProviderInput::FetchHangs {
                fetch,
                error: error(ProviderErrorKind::TimedOut),
                jitter: 0.0,
            },
            _ => ProviderInput::FetchLost(fetch),
        });
        let outcomes = self.provider.take(|effect| match effect {
            ProviderEffect::Report { outcome, .. } => Some(outcome.clone()),
            _ => None,
        });
        if std::mem::take(&mut self.rehearses) {
            assert!(outcomes.is_empty(), "a rehearsal is no rotation");
            let of = |lease: &Option<(LeaseId, Facts)>| {
                lease.as_ref().map(|(id, facts)| (*id, facts.expiry))
            };
            let after = self.current();
            assert_eq!(of(&before), of(&after), "a rehearsal changes nothing");
            return;
        }
        // The fetch listed a past rejection, and is repeated for its requests. Or it began before a
        // hold, and is repeated after it.
        self.requested |= !self.waiting.is_empty() || self.held;
        let after = self.current();
        let offered = match &offer {
            Some(Offer::New(facts)) => Some(facts),
            _ => None,
        };
        match outcomes.first() {
            None => assert!(matches!(ending, FetchEnd::Lost)),
            Some(FetchOutcome::Failed(_)) => {
                assert_eq!(before, after, "law 3: a failure changes no lease");
                self.refresh = None;
            }
            Some(FetchOutcome::Adopted) => {
                let offered = offered.map(|facts| &facts.revision);
                let of = |lease: &Option<(LeaseId, Facts)>| {
                    lease.as_ref().map(|(_, facts)| facts.revision.clone())
                };
                assert_ne!(of(&before).as_ref(), offered, "law 4: equal revision");
                assert_eq!(of(&after).as_ref(), offered);
                assert!(after.is_some_and(|(_, facts)| !facts.expiry.is_expired(now)));
                self.schedule(started);
            }
            Some(_) => {
                let of = |lease: &Option<(LeaseId, Facts)>| lease.as_ref().map(|(lease, _)| *lease);
                assert_eq!(of(&before), of(&after));
                let has_expired = |(_, facts): (LeaseId, Facts)| facts.expiry.is_expired(now);
                let is_other = offered.is_some_and(|facts| !self.is_current(&facts.revision));
                // The lease of a held provider stays, even if it has expired.
                assert!(
                    self.closed || (self.was_held && is_other) || !after.is_some_and(has_expired),
                    "law 3: an expired renewal is a failure"
                );
                let is_stale = matches!(outcomes[0], FetchOutcome::Stale { .. });
                if self.renews && matches!(offer, Some(Offer::Unchanged)) {
                    // It cannot be renewed: a fetch is due after the hold.
                    self.refresh = Some(now.mono());
                } else if !is_other || is_stale {
                    self.schedule(started);
                }
            }
        }
    }

    fn schedule(&mut self, started: Timestamp) {
        self.refresh = self
            .current()
            .map(|(_, facts)| started.mono() + schedule::refresh_after(&facts, started, POLL, 0.0));
    }
}
