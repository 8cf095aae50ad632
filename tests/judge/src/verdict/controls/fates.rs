//! Controls for the classes of changes, and for the claims at the end of a gap.

use serde_json::{Value, json};

use super::super::Census;
use super::{Events, Incarnation, Story, hex, incarnation, merge, objects, record};

fn census(story: &Story) -> Census {
    story.judged(|case| case.census())
}

/// The correct history with another incarnation.
fn with_incarnation(path: &str, versions: &[(u64, &str)], died: Option<u64>, is_hidden: bool) -> Story {
    let mut story = Story::right();
    let other = incarnation(versions, died);
    story
        .truth
        .incarnations
        .entry(path.to_owned())
        .or_default()
        .push(other);
    if is_hidden {
        story.truth.closed.insert(path.to_owned());
    }
    story
}

/// The correct history with its gap from another zxid.
fn with_gap_from(from: u64) -> Story {
    Story::of(|records| {
        for at in [7, 10] {
            records[at]["gap"]["from_zxid"] = json!(hex(from));
        }
    })
}

#[test]
fn every_change_of_the_right_story_has_its_fate() {
    let expected = Census {
        exact: 7,
        superseded: 1,
        found: 3,
        gap: 1,
        gaps: 1,
        ..Census::default()
    };
    let mut story = Story::right();
    assert_eq!(census(&story), expected);
    story.deliveries.push(story.deliveries[4].clone());
    assert_eq!(census(&story).duplicates, 1);
    assert_eq!(
        census(&story).to_string(),
        "12 changes: exact 58.33 %, bounded 0.00 %, superseded 8.33 %, missed 0.00 %, in 1 gaps and listings 25.00 % \
         found and 8.33 % gone before, unreadable 0.00 %; 1 duplicates"
    );
}

#[test]
fn a_gap_excuses_nothing_before_the_zxid_from_which_it_claims_to_be() {
    objects(
        with_gap_from(7),
        "version 1 of /r/a at 0x0000000000000007 was not reported",
    );
    objects(
        with_gap_from(8),
        "version 2 of /r/a at 0x0000000000000008 was not reported",
    );
    objects(
        with_gap_from(9),
        "the create of /r/b at 0x0000000000000009 was not reported",
    );
    objects(
        Story::with(6, "/fidelity", json!("reconciled")),
        "the delete of /r/a at 0x0000000000000005 was not reported",
    );
}

#[test]
fn a_version_listed_as_overwritten_must_have_been_written() {
    objects(
        Story::with(5, "/superseded", json!([hex(9)])),
        "its superseded 0x0000000000000009 was no write of this incarnation",
    );
    // A count without zxids is enough only if no zxid can be known.
    objects(Story::with(5, "/superseded", json!([])), "version 1 of /r/a");
    let mut story = Story::with(5, "/superseded", json!([]));
    story.events = Events::WithoutZxid;
    assert_eq!(census(&story).missed, 1);
}

#[test]
fn the_end_of_a_gap_must_not_claim_what_does_not_stand_before_it() {
    let claims = |to: u64| Story::with(11, "/gap/to_zxid", json!(hex(to)));
    objects(claims(10), "claims 0xa, and /r/d is not reported");
    objects(claims(99), "claims 0x63, which never existed");
    objects(
        Story::without(9),
        "claims 0x9, and /r/a is reported with mzxid Some(6), it has 0x8",
    );
    let older = Story::of(|records| {
        records.retain(|record| record["path"] != "/r/a" || record["seq"] == 0 && record["zxid"] == hex(2));
    });
    objects(older, "claims 0x9, and /r/a is reported as 0x2");
    let mut story = Story::right();
    story.truth.incarnations.get_mut("/r/a").unwrap()[1].died = Some(9);
    objects(story, "claims 0x9, and /r/a exists with 0x6");
    objects(
        Story::with(3, "/zxid", json!(hex(6))),
        "claims 0x6, and /r/a is not reported",
    );
}

#[test]
fn only_an_unreadable_znode_may_lack_records() {
    let hidden = with_incarnation("/r/s", &[(10, "secret")], Some(11), true);
    assert_eq!(hidden.complaints(), [""; 0]);
    assert_eq!(census(&hidden).unreadable, 2);
    let open = with_incarnation("/r/s", &[(10, "secret")], Some(11), false);
    objects(open, "the create of /r/s at 0x000000000000000a was not reported");
}

#[test]
fn the_delete_of_an_unread_incarnation_covers_only_those_that_had_ended() {
    let blind = |bound: u64| {
        let more = json!({"missed": null, "ephemeral": null, "zxid_kind": "upper_bound"});
        let end = record(Some("/r/e"), "delete", Some(bound), more);
        let mut story = Story::of(|records| records.push(end));
        story.events = Events::WithoutZxid;
        let incarnations = [
            incarnation(&[(9, "1"), (10, "2")], Some(10)),
            incarnation(&[(11, "3")], Some(12)),
        ];
        story
            .truth
            .incarnations
            .insert("/r/e".to_owned(), incarnations.to_vec());
        story
    };
    let story = blind(12);
    assert_eq!(story.complaints(), [""; 0]);
    assert_eq!((census(&story).missed, census(&story).gap), (2, 3));
    objects(
        blind(11),
        "the create of /r/e at 0x000000000000000b was not reported",
    );
}

/// The correct history without its last record, and with other changes of `/r/c`.
fn ending(end: Value, incarnations: &[Incarnation], events: Events) -> Story {
    let mut story = Story::of(|records| *records.last_mut().unwrap() = end);
    story
        .truth
        .incarnations
        .insert("/r/c".to_owned(), incarnations.to_vec());
    story.events = events;
    story
}

#[test]
fn an_unread_incarnation_needs_its_own_delete() {
    let hidden = |events| {
        let end = record(
            Some("/r/c"),
            "delete",
            Some(11),
            json!({"before": super::state(10, 10, 0, "c")}),
        );
        let incarnations = [
            incarnation(&[(3, "1")], Some(5)),
            incarnation(&[(10, "c")], Some(11)),
        ];
        ending(end, &incarnations, events)
    };
    for events in [Events::WithoutZxid, Events::WithZxid] {
        objects(
            hidden(events),
            "the create of /r/c at 0x0000000000000003 was not reported",
        );
    }
}

#[test]
fn a_delete_found_by_comparing_does_not_cover_an_incarnation_after_the_end_of_its_gap() {
    let passed = |events| {
        let before = super::state(10, 10, 0, "c");
        let more =
            json!({"before": before, "fidelity": "reconciled", "zxid_kind": "upper_bound", "missed": null});
        let end = record(Some("/r/c"), "delete", Some(15), more);
        let incarnations = [
            incarnation(&[(10, "c")], Some(11)),
            incarnation(&[(12, "1")], Some(14)),
        ];
        ending(end, &incarnations, events)
    };
    for events in [Events::WithZxid, Events::WithoutZxid] {
        objects(
            passed(events),
            "the create of /r/c at 0x000000000000000c was not reported",
        );
    }
}

#[test]
fn a_log_that_cannot_be_trusted_is_a_complaint() {
    let mut story = Story::right();
    story
        .truth
        .faults
        .push("no log has the transactions between".to_owned());
    objects(story, "no log has the transactions between");
}

#[test]
fn an_unreadable_znode_is_no_reason_to_hide_its_children() {
    let child = |more: Value| {
        let mut fields = json!({"after": super::state(12, 12, 0, "below")});
        merge(&mut fields, more);
        record(Some("/r/s/below"), "create", Some(12), fields)
    };
    let reported = |is_hidden: bool| {
        let mut story = with_incarnation("/r/s", &[(8, "secret")], Some(14), is_hidden);
        let below = incarnation(&[(12, "below")], Some(13));
        story
            .truth
            .incarnations
            .insert("/r/s/below".to_owned(), vec![below]);
        let end = record(
            Some("/r/s/below"),
            "delete",
            Some(13),
            json!({"before": super::state(12, 12, 0, "below")}),
        );
        story.deliveries = Story::of(|records| records.extend([child(json!({})), end])).deliveries;
        story
    };
    assert_eq!(reported(true).complaints(), [""; 0]);
    objects(reported(false), "begins before its parent");
}
