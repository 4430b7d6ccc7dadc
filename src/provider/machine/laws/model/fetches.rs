//! Ends of fetches, and the laws of what they change.

use super::*;

impl FetchEnd {
    /// Returns the offer of a fetch that ends so.
    pub(super) fn offer(self, now: Timestamp) -> Option<Offer> {
        match self {
            Self::New(number, ttl) => {
                let expiry = ttl.map_or(Expiry::never(), |ttl| {
                    Expiry::after(now, Duration::from_secs(ttl))
                });
                Some(Offer::New(lease(&number.to_string(), expiry)))
            }
            Self::Renewed(ttl) => {
                Some(Offer::Renewed(Expiry::after(now, Duration::from_secs(ttl))))
            }
            Self::Unchanged => Some(Offer::Unchanged),
            Self::Fails(_) | Self::Hangs | Self::Lost => None,
        }
    }

    /// Returns the input of a fetch that ends so.
    pub(super) fn input(self, fetch: FetchId, offer: Option<Offer>) -> ProviderInput {
        let jitter = 0.0;
        let result = match (offer, self) {
            (Some(offer), _) => Ok(offer),
            (None, Self::Fails(kind)) => Err(error(kind)),
            (None, Self::Hangs) => {
                let error = error(ProviderErrorKind::TimedOut);
                return ProviderInput::FetchHangs {
                    fetch,
                    error,
                    jitter,
                };
            }
            (None, _) => return ProviderInput::FetchLost(fetch),
        };
        ProviderInput::FetchDone {
            fetch,
            result,
            jitter,
        }
    }
}

impl ModelledProvider {
    pub(in super::super) fn fetch_ends(&mut self, ending: FetchEnd) {
        let Some((fetch, started, trigger)) = self.running.take() else {
            return;
        };
        if matches!(ending, FetchEnd::Lost) && trigger_has_no_timer(trigger) {
            self.requested = true;
            // A renewal serves no request, and is repeated for the jump.
            self.jumped |= self.renews;
        }
        let now = self.provider.now;
        let offer = match ending {
            FetchEnd::New(..) if self.renews => Some(Offer::Unchanged),
            _ => ending.offer(now),
        };
        let before = self.current();
        if matches!(ending, FetchEnd::Hangs) {
            self.hanging.push(fetch);
        }
        self.feed(ending.input(fetch, offer.clone()));
        let outcomes = self.provider.take(|effect| match effect {
            ProviderEffect::Report { outcome, .. } => Some(outcome.clone()),
            _ => None,
        });
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
