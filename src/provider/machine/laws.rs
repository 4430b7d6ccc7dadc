//! Checks every law at each step of random sequences of inputs.

mod model;

use proptest::prelude::*;

use self::model::{FetchEnd, LawStep, ModelledProvider};
use crate::error::ProviderErrorKind;

fn kinds() -> impl Strategy<Value = ProviderErrorKind> {
    prop_oneof![
        Just(ProviderErrorKind::Unavailable),
        Just(ProviderErrorKind::Denied)
    ]
}

/// Few revisions, so that they repeat.
fn revisions() -> std::ops::Range<usize> {
    0..5
}

fn endings() -> impl Strategy<Value = FetchEnd> {
    prop_oneof![
        6 => (revisions(), prop::option::of(60u64..4_000))
            .prop_map(|(revision, ttl)| FetchEnd::New(revision, ttl)),
        1 => revisions().prop_map(|revision| FetchEnd::New(revision, Some(0))),
        1 => prop_oneof![3 => 60u64..4_000, 1 => Just(0)].prop_map(FetchEnd::Renewed),
        1 => Just(FetchEnd::Unchanged),
        3 => kinds().prop_map(FetchEnd::Fails),
        1 => Just(FetchEnd::Hangs),
        1 => Just(FetchEnd::Lost),
    ]
}

fn steps() -> impl Strategy<Value = LawStep> {
    prop_oneof![
        6 => (0u64..2_000).prop_map(LawStep::Pass),
        2 => (2_000u64..15_000).prop_map(LawStep::Pass),
        1 => (15_000u64..700_000).prop_map(LawStep::Pass),
        1 => Just(LawStep::Jump),
        12 => Just(LawStep::Wake),
        2 => Just(LawStep::Hint),
        1 => Just(LawStep::Manual),
        1 => Just(LawStep::Rehearse),
        1 => Just(LawStep::Hold),
        2 => Just(LawStep::Resume),
        1 => revisions().prop_map(|revision| LawStep::Verified(Some(revision))),
        3 => Just(LawStep::Verified(None)),
        2 => revisions().prop_map(|revision| LawStep::Rejected(Some(revision))),
        6 => Just(LawStep::Rejected(None)),
        1 => prop::option::of(revisions()).prop_map(LawStep::PoolLeaves),
        3 => Just(LawStep::Take),
        3 => (0usize..9).prop_map(LawStep::Return),
        9 => endings().prop_map(LawStep::FetchEnds),
        2 => endings().prop_map(LawStep::RehearsalEnds),
        1 => (0usize..3, prop::option::of(revisions()))
            .prop_map(|(which, lease)| LawStep::HangingEnds(which, lease)),
        4 => (0usize..9, prop::option::of(prop_oneof![Just(Ok(())), kinds().prop_map(Err)]))
            .prop_map(|(which, result)| LawStep::ReleaseEnds(which, result)),
        1 => Just(LawStep::PoolsDone),
        1 => Just(LawStep::PoolsGone),
    ]
}

proptest! {
    #[test]
    fn the_laws_hold_over_any_sequence_of_inputs(
        steps in prop::collection::vec(steps(), 1..150),
        stops: bool,
    ) {
        let mut world = ModelledProvider::new();
        for step in steps {
            world.step(step);
        }
        if stops {
            world.step(LawStep::Stop);
            world.fetch_ends(FetchEnd::New(97, None));
        }
        world.close();
    }
}
