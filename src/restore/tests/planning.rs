//! The operations, omissions and refusals of a plan.

use bridge_core::number::Zxid;
use bridge_core::record::{Lifetime, LifetimeKind, Stat};
use bridge_query::{Certainty, Doubt};

use super::*;
use crate::restore::planner::LeftReason;

fn uncertain(then: ZnodeAsOf, doubt: Doubt) -> ZnodeAsOf {
    ZnodeAsOf {
        doubts: vec![doubt],
        ..then
    }
}

/// A znode of which only the version is known.
fn of_version(data: DataAsOf, stat: &Stat) -> ZnodeAsOf {
    ZnodeAsOf {
        existence: Existence::Persistent {
            version: Some(version_of(stat)),
            data,
        },
        doubts: Vec::new(),
    }
}

#[test]
fn parents_are_created_first_and_deleted_last() {
    let then = [
        ("/t", persistent("")),
        ("/t/a", persistent("")),
        ("/t/a/x", persistent("1")),
        ("/t/b", persistent("new")),
    ];
    let now = [
        ("/t", live("", 0)),
        ("/t/b", live("old", 4)),
        ("/t/c", live("", 0)),
        ("/t/c/x", live("", 0)),
    ];
    let without = drafted(&rules(false), &then, &now);
    assert_eq!((without.unchanged, without.extra), (1, 2));
    assert_eq!(lines_of(without), ["create /t/a", "create /t/a/x", "set /t/b"]);
    let with = lines_of(drafted(&rules(true), &then, &now));
    assert_eq!(with[3..], ["delete /t/c/x", "delete /t/c"]);
}

#[test]
fn a_version_that_never_changed_is_left_alone_whatever_is_open_about_it() {
    let stat = Stat {
        czxid: Zxid(3),
        mzxid: Zxid(5),
        ..Stat::default()
    };
    for data in [DataAsOf::Unread, DataAsOf::Masked, DataAsOf::Cut(None)] {
        let then = uncertain(of_version(data, &stat), Doubt::Removed);
        let now = LiveZnode::Found(LiveState::new(&stat, b"x", false));
        let draft = drafted(&rules(true), &[("/t", then.clone())], &[("/t", now.clone())]);
        assert!(draft.refusals.is_empty() && draft.unchanged == 1, "{draft:?}");
        // The control: elsewhere the same version proves nothing.
        let elsewhere = PlanRules {
            is_in_place: false,
            ..rules(true)
        };
        assert!(
            !drafted(&elsewhere, &[("/t", then)], &[("/t", now)])
                .refusals
                .is_empty()
        );
    }
}

#[test]
fn a_value_that_the_journal_does_not_have_whole_is_never_written() {
    let whole = digest_text("whole");
    for (data, is_refused) in [
        (DataAsOf::Unread, true),
        (DataAsOf::Masked, true),
        (DataAsOf::Cut(None), true),
        (DataAsOf::Cut(Some(digest_text("other"))), true),
        // The digest of a value that was cut shows that it is the same.
        (DataAsOf::Cut(Some(whole)), false),
    ] {
        let then = of_version(data.clone(), &Stat::default());
        let draft = drafted(&rules(false), &[("/t", then)], &[("/t", live("whole", 1))]);
        assert_eq!(!draft.refusals.without_value.is_empty(), is_refused, "{data:?}");
        assert_eq!(draft.unchanged, u64::from(!is_refused));
    }
}

fn digest_text(text: &str) -> crate::restore::state::ValueDigest {
    crate::restore::state::digest_of(text.as_bytes())
}

#[test]
fn an_uncertain_znode_is_refused_unless_its_kind_is_accepted() {
    let overwritten = Doubt::Overwritten(Zxid(9));
    let then = uncertain(persistent("new"), overwritten.clone());
    let now = [("/t", live("old", 0))];
    let draft = drafted(&rules(false), &[("/t", then.clone())], &now);
    assert_eq!(
        draft.refusals.uncertain,
        [(path("/t"), vec![overwritten.clone()])]
    );
    let mut accepting = rules(false);
    accepting.accepted.insert(Certainty::Superseded);
    assert_eq!(lines_of(drafted(&accepting, &[("/t", then)], &now)), ["set /t"]);
    // Without a value there is nothing to put back.
    let unread = ZnodeAsOf {
        doubts: vec![overwritten],
        ..of_version(DataAsOf::Unread, &Stat::default())
    };
    let draft = drafted(&accepting, &[("/t", unread)], &now);
    assert_eq!(draft.left[&path("/t")], LeftReason::ValueUnknown);
    assert!(operations_of(draft).is_empty());
    // Records that retention has removed are never accepted.
    let all = [
        Certainty::Superseded,
        Certainty::Missed,
        Certainty::Bounded,
        Certainty::Gap,
    ];
    accepting.accepted.extend(all);
    for existence in [Existence::Absent, Existence::Unknown] {
        let removed = ZnodeAsOf {
            existence,
            doubts: vec![Doubt::Removed],
        };
        assert_eq!(
            drafted(&accepting, &[("/t", removed)], &now)
                .refusals
                .uncertain
                .len(),
            1
        );
    }
}

#[test]
fn ephemeral_znodes_are_left_out_and_keep_the_znodes_above_them() {
    let then = [("/t", persistent("")), ("/t/was", ephemeral())];
    let now = [
        ("/t", live("", 0)),
        ("/t/new", live("", 0)),
        ("/t/new/is", live_ephemeral("")),
        ("/t/new/other", live("", 0)),
    ];
    let draft = drafted(&rules(true), &then, &now);
    let left: Vec<(&str, LeftReason)> = draft
        .left
        .iter()
        .map(|(path, reason)| (&**path, *reason))
        .collect();
    assert_eq!(
        left,
        [
            ("/t/new", LeftReason::StaysAbove),
            ("/t/new/is", LeftReason::IsEphemeral),
            ("/t/was", LeftReason::WasEphemeral),
        ]
    );
    assert_eq!(lines_of(draft), ["delete /t/new/other"]);
    // A znode below a live ephemeral one cannot be created.
    let then = [
        ("/t", persistent("")),
        ("/t/a", persistent("")),
        ("/t/a/x", persistent("")),
    ];
    let draft = drafted(
        &rules(false),
        &then,
        &[("/t", live("", 0)), ("/t/a", live_ephemeral(""))],
    );
    assert_eq!(draft.left[&path("/t/a")], LeftReason::IsEphemeral);
    assert_eq!(draft.left[&path("/t/a/x")], LeftReason::NoParent);
}

#[test]
fn a_znode_that_is_older_than_the_moment_or_not_captured_is_never_deleted() {
    let stat = Stat {
        czxid: Zxid(1),
        ..Stat::default()
    };
    let older = LiveZnode::Found(LiveState::new(&stat, b"", false));
    let now = [
        ("/t", live("", 0)),
        ("/t/old", older),
        ("/t/excluded", LiveZnode::NotCaptured),
        ("/t/denied", LiveZnode::Denied),
        ("/t/new", live("", 0)),
        ("/t/new/excluded", LiveZnode::NotCaptured),
    ];
    let draft = drafted(&rules(true), &[("/t", persistent(""))], &now);
    let left: Vec<(&str, LeftReason)> = draft
        .left
        .iter()
        .map(|(path, reason)| (&**path, *reason))
        .collect();
    assert_eq!(
        left,
        [
            ("/t/denied", LeftReason::Unreadable),
            ("/t/new", LeftReason::StaysAbove),
            ("/t/old", LeftReason::IsOlder),
        ]
    );
    assert!(operations_of(draft).is_empty());
}

#[test]
fn a_create_needs_a_list_that_is_known_and_has_its_digests() {
    let then = [
        ("/t", persistent("")),
        ("/t/a", persistent("")),
        ("/t/a/x", persistent("")),
    ];
    let now = [("/t", live("", 0))];
    let drafted = || drafted(&rules(false), &then, &now);
    let refused = drafted().settle(&AclRule::Refuse, &BTreeMap::new()).unwrap_err();
    assert_eq!(refused.without_acl.len(), 2);

    // The list of the parent goes on to everything that is created below it.
    let mut lists = BTreeMap::new();
    assert_eq!(
        drafted().parents_to_ask(&AclRule::Parent),
        BTreeSet::from([path("/t")])
    );
    assert_eq!(
        drafted()
            .settle(&AclRule::Parent, &lists)
            .unwrap_err()
            .without_acl
            .len(),
        2
    );
    lists.insert(path("/t"), open_list());
    let (operations, _) = drafted().settle(&AclRule::Parent, &lists).unwrap();
    let acls = operations.iter().map(|one| match one {
        Operation::Create { acl, .. } => acl.clone(),
        other => panic!("{other:?}"),
    });
    assert!(acls.into_iter().all(|acl| acl == open_list()));

    let digest = |id: &str| {
        vec![Acl {
            scheme: "digest".to_owned(),
            id: id.to_owned(),
            perms: "cdrwa".to_owned(),
        }]
    };
    let mut draft = drafted();
    draft.set_facts(&path("/t/a"), Some(digest("user:x")), None);
    draft.set_facts(&path("/t/a/x"), Some(digest("user:hash=")), None);
    let refused = draft.settle(&AclRule::Refuse, &BTreeMap::new()).unwrap_err();
    let paths: Vec<&str> = refused.without_acl.iter().map(|(path, _)| &**path).collect();
    assert_eq!(paths, ["/t/a"]);
}

#[test]
fn a_lifetime_that_the_journal_knows_comes_back_and_a_sequence_ahead_of_its_counter_is_named() {
    let then = [
        ("/t", persistent("")),
        ("/t/n-0000000001", persistent("")),
        ("/t/n-0000000009", persistent("")),
    ];
    let mut draft = drafted(&rules(false), &then, &[("/t", live("", 0))]);
    let live = LiveTree(BTreeMap::from([(path("/t"), live("", 0))]));
    // Two creates move the counter to 2.
    assert_eq!(draft.ahead_of_counter(&live), [path("/t/n-0000000009")]);
    let ttl = Lifetime {
        kind: LifetimeKind::Ttl,
        ttl: Some(60_000),
    };
    draft.set_facts(&path("/t/n-0000000001"), Some(open_list()), Some(ttl));
    assert_eq!(draft.of_unknown_lifetime(), 1);
    let first = operations_of(draft).remove(0);
    assert!(matches!(first, Operation::Create { lifetime, .. } if lifetime == ttl));
}

#[test]
fn a_plan_that_is_too_large_is_refused() {
    let then = [
        ("/t", persistent("")),
        ("/t/a", persistent("12")),
        ("/t/b", persistent("34")),
    ];
    let now = [("/t", live("", 0))];
    let few = PlanRules {
        changes_max: 1,
        ..rules(false)
    };
    assert_eq!(drafted(&few, &then, &now).refusals.too_many, Some(2));
    let small = PlanRules {
        bytes_max: 3,
        ..rules(false)
    };
    assert_eq!(drafted(&small, &then, &now).refusals.too_large, Some(4));
}
