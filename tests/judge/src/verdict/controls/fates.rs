//! Controls for what becomes of changes, and for what the end of a gap claims.

use serde_json::{Value, json};

use super::super::Census;
use super::{Events, Life, Story, hex, life, merge, objects, record};

fn census(story: &Story) -> Census {
    story.judged(|case| case.census())
}

/// The right story with another life in it.
fn with_life(path: &str, versions: &[(u64, &str)], died: Option<u64>, is_hidden: bool) -> Story {
    let mut story = Story::right();
    let other = life(versions, died);
    story.truth.lives.entry(path.to_owned()).or_default().push(other);
    if is_hidden {
        story.truth.closed.insert(path.to_owned());
    }
    story
}

/// The right story with its gap from another zxid.
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
        "version 1 of /r/a at 0x0000000000000007 was not told",
    );
    objects(
        with_gap_from(8),
        "version 2 of /r/a at 0x0000000000000008 was not told",
    );
    objects(
        with_gap_from(9),
        "the create of /r/b at 0x0000000000000009 was not told",
    );
    objects(
        Story::with(6, "/fidelity", json!("reconciled")),
        "the delete of /r/a at 0x0000000000000005 was not told",
    );
}

#[test]
fn what_is_listed_as_overwritten_must_have_been_written() {
    objects(
        Story::with(5, "/superseded", json!([hex(9)])),
        "its superseded 0x0000000000000009 was no write of this life",
    );
    // A count alone is enough only where no zxid can be known.
    objects(Story::with(5, "/superseded", json!([])), "version 1 of /r/a");
    let mut story = Story::with(5, "/superseded", json!([]));
    story.events = Events::WithoutZxid;
    assert_eq!(census(&story).missed, 1);
}

#[test]
fn the_end_of_a_gap_must_not_claim_what_does_not_stand_before_it() {
    let claims = |to: u64| Story::with(11, "/gap/to_zxid", json!(hex(to)));
    objects(claims(10), "claims 0xa, and /r/d is not told");
    objects(claims(99), "claims 0x63, which never was");
    objects(
        Story::without(9),
        "claims 0x9, and /r/a is told as of Some(6), it is of 0x8",
    );
    let older = Story::of(|records| {
        records.retain(|record| record["path"] != "/r/a" || record["seq"] == 0 && record["zxid"] == hex(2));
    });
    objects(older, "claims 0x9, and /r/a is told as 0x2");
    let mut story = Story::right();
    story.truth.lives.get_mut("/r/a").unwrap()[1].died = Some(9);
    objects(story, "claims 0x9, and /r/a lives on with 0x6");
    objects(
        Story::with(3, "/zxid", json!(hex(6))),
        "claims 0x6, and /r/a is not told",
    );
}

#[test]
fn only_what_could_not_be_read_may_be_untold() {
    let hidden = with_life("/r/s", &[(10, "secret")], Some(11), true);
    assert_eq!(hidden.complaints(), [""; 0]);
    assert_eq!(census(&hidden).unreadable, 2);
    let open = with_life("/r/s", &[(10, "secret")], Some(11), false);
    objects(open, "the create of /r/s at 0x000000000000000a was not told");
}

#[test]
fn a_delete_of_what_nobody_read_stands_for_lives_that_ended_by_then_and_for_no_others() {
    let blind = |bound: u64| {
        let more = json!({"missed": null, "ephemeral": null, "zxid_kind": "upper_bound"});
        let end = record(Some("/r/e"), "delete", Some(bound), more);
        let mut story = Story::of(|records| records.push(end));
        story.events = Events::WithoutZxid;
        let lives = [
            life(&[(9, "1"), (10, "2")], Some(10)),
            life(&[(11, "3")], Some(12)),
        ];
        story.truth.lives.insert("/r/e".to_owned(), lives.to_vec());
        story
    };
    let story = blind(12);
    assert_eq!(story.complaints(), [""; 0]);
    assert_eq!((census(&story).missed, census(&story).gap), (2, 3));
    objects(blind(11), "the create of /r/e at 0x000000000000000b was not told");
}

/// The right story but for its last record, and for what became of `/r/c`.
fn ending(end: Value, lives: &[Life], events: Events) -> Story {
    let mut story = Story::of(|records| *records.last_mut().unwrap() = end);
    story.truth.lives.insert("/r/c".to_owned(), lives.to_vec());
    story.events = events;
    story
}

#[test]
fn a_life_that_nobody_read_needs_a_delete_of_its_own() {
    let hidden = |events| {
        let end = record(
            Some("/r/c"),
            "delete",
            Some(11),
            json!({"before": super::state(10, 10, 0, "c")}),
        );
        let lives = [life(&[(3, "1")], Some(5)), life(&[(10, "c")], Some(11))];
        ending(end, &lives, events)
    };
    for events in [Events::WithoutZxid, Events::WithZxid] {
        objects(
            hidden(events),
            "the create of /r/c at 0x0000000000000003 was not told",
        );
    }
}

#[test]
fn a_life_behind_the_end_of_a_gap_is_not_told_by_a_delete_that_its_comparison_found() {
    let passed = |events| {
        let before = super::state(10, 10, 0, "c");
        let more =
            json!({"before": before, "fidelity": "reconciled", "zxid_kind": "upper_bound", "missed": null});
        let end = record(Some("/r/c"), "delete", Some(15), more);
        let lives = [life(&[(10, "c")], Some(11)), life(&[(12, "1")], Some(14))];
        ending(end, &lives, events)
    };
    for events in [Events::WithZxid, Events::WithoutZxid] {
        objects(
            passed(events),
            "the create of /r/c at 0x000000000000000c was not told",
        );
    }
}

#[test]
fn a_log_that_cannot_be_trusted_is_a_complaint() {
    let mut story = Story::right();
    story
        .truth
        .faults
        .push("no log has what stands between".to_owned());
    objects(story, "no log has what stands between");
}

#[test]
fn what_may_not_be_read_is_no_reason_to_hide_its_children() {
    let child = |more: Value| {
        let mut fields = json!({"after": super::state(12, 12, 0, "below")});
        merge(&mut fields, more);
        record(Some("/r/s/below"), "create", Some(12), fields)
    };
    let told = |is_hidden: bool| {
        let mut story = with_life("/r/s", &[(8, "secret")], Some(14), is_hidden);
        let below = life(&[(12, "below")], Some(13));
        story.truth.lives.insert("/r/s/below".to_owned(), vec![below]);
        let end = record(
            Some("/r/s/below"),
            "delete",
            Some(13),
            json!({"before": super::state(12, 12, 0, "below")}),
        );
        story.deliveries = Story::of(|records| records.extend([child(json!({})), end])).deliveries;
        story
    };
    assert_eq!(told(true).complaints(), [""; 0]);
    objects(told(false), "begins before its parent");
}
