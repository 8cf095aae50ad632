//! When the file changes, and when it stays as it is.

use std::fs;
use std::os::unix::fs::MetadataExt;

use bridge_core::amount::Span;
use bridge_core::record::Op;
use bridge_core::sink::{Sink, SinkErrorKind};
use bridge_core::testing::a_record;
use tokio::time::{Duration, Instant};

use super::{Place, deliver, lines};
use crate::Instead;

#[tokio::test]
async fn a_start_makes_the_file_that_of_the_present_tree_and_a_change_makes_a_new_one() {
    let mut place = Place::with(&[("a", "1"), ("b", "2")]);
    let mut sink = place.sink();
    sink.open().await.unwrap();
    assert_eq!(place.text(), "a=1\nb=2\n");
    let record = place.change(Op::Update, "/app/a", "3");
    deliver(&mut sink, &record).await.unwrap();
    assert_eq!(place.text(), "a=3\nb=2\n");
    let record = place.change(Op::Delete, "/app/b", "");
    deliver(&mut sink, &record).await.unwrap();
    assert_eq!(place.text(), "a=3\n");
    assert_eq!(place.names(), ["app.conf"]);
    sink.close().await.unwrap();
}

#[tokio::test]
async fn an_equal_text_is_not_written_and_not_reloaded() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.reload = place.script(&format!("echo x >> {}", place.at("reloads")));
    let mut sink = place.sink();
    sink.open().await.unwrap();
    let inode = || fs::metadata(place.file()).unwrap().ino();
    let first = inode();
    let mut again = place.sink();
    again.open().await.unwrap();
    assert_eq!((inode(), lines(place.at("reloads"))), (first, 1), "a restart");
    // A znode that the template does not show.
    let record = place.change(Op::Create, "/app/a/below", "9");
    deliver(&mut again, &record).await.unwrap();
    assert_eq!(lines(place.at("reloads")), 1);
    assert_eq!(fs::metadata(place.file()).unwrap().ino(), first);
}

#[tokio::test]
async fn a_record_that_comes_again_never_leads_back_to_an_older_state() {
    let mut place = Place::with(&[("a", "1")]);
    let old = place.change(Op::Update, "/app/a", "2");
    let mut sink = place.sink();
    sink.open().await.unwrap();
    place.change(Op::Update, "/app/a", "3");
    let newest = place.change(Op::Update, "/app/a", "4");
    for record in [&old, &newest, &old] {
        deliver(&mut sink, record).await.unwrap();
    }
    assert_eq!(place.text(), "a=4\n");
}

#[tokio::test]
async fn records_of_other_paths_and_of_states_that_are_shown_cost_no_look_at_the_tree() {
    let mut place = Place::with(&[("a", "1")]);
    let mut sink = place.sink();
    sink.open().await.unwrap();
    fs::write(place.file(), "changed by hand\n").unwrap();
    let shown = a_record().seq(1).path("/app/a").arc();
    let other = place.change(Op::Create, "/application", "1");
    for record in [&shown, &other] {
        deliver(&mut sink, record).await.unwrap();
    }
    assert_eq!(place.text(), "changed by hand\n");
    let own = place.change(Op::Create, "/app/b", "2");
    deliver(&mut sink, &own).await.unwrap();
    assert_eq!(place.text(), "a=1\nb=2\n");
}

#[tokio::test]
async fn a_listing_never_shows_a_part_of_the_tree() {
    let mut place = Place::with(&[("a", "1"), ("b", "2")]);
    for instead in [Instead::Keep, Instead::Render] {
        (place.config.gaps, place.config.missing) = (instead, instead);
        let begin = place.control(Op::SnapshotBegin);
        fs::write(place.file(), "before\n").unwrap();
        let mut sink = place.sink();
        sink.open().await.unwrap();
        deliver(&mut sink, &begin).await.unwrap();
        let some = place.change(Op::Snapshot, "/app/a", "1");
        deliver(&mut sink, &some).await.unwrap();
        assert_eq!(place.text(), "before\n");
        let end = place.control(Op::SnapshotEnd);
        deliver(&mut sink, &end).await.unwrap();
        assert_eq!(place.text(), "a=1\nb=2\n");
    }
}

#[tokio::test]
async fn in_a_gap_the_file_stays_as_it_is_or_follows_as_the_option_says() {
    for (gaps, expected) in [(Instead::Keep, "a=1\n"), (Instead::Render, "a=2\n")] {
        let mut place = Place::with(&[("a", "1")]);
        place.config.gaps = gaps;
        let mut sink = place.sink();
        sink.open().await.unwrap();
        let begin = place.control(Op::GapBegin);
        deliver(&mut sink, &begin).await.unwrap();
        let found = place.change(Op::Update, "/app/a", "2");
        deliver(&mut sink, &found).await.unwrap();
        assert_eq!(place.text(), expected, "{gaps:?}");
        let end = place.control(Op::GapEnd);
        deliver(&mut sink, &end).await.unwrap();
        assert_eq!(place.text(), "a=2\n");
    }
}

#[tokio::test]
async fn a_tree_that_is_missing_leaves_the_file_as_it_is_or_renders_none_as_the_option_says() {
    for (missing, expected) in [(Instead::Keep, "a=1\n"), (Instead::Render, "gone\n")] {
        let mut place = Place::with(&[("a", "1")]);
        place.config.template = format!("{{% if not node %}}\ngone\n{{% endif %}}\n{}", super::LINES);
        place.config.missing = missing;
        let mut sink = place.sink();
        sink.open().await.unwrap();
        assert_eq!(place.text(), "a=1\n");
        place.change(Op::Delete, "/app/a", "");
        let gone = place.change(Op::Delete, "/app", "");
        deliver(&mut sink, &gone).await.unwrap();
        assert_eq!(place.text(), expected, "{missing:?}");
        place.change(Op::Create, "/app", "");
        let back = place.change(Op::Create, "/app/c", "3");
        deliver(&mut sink, &back).await.unwrap();
        assert_eq!(place.text(), "c=3\n");
    }
}

#[tokio::test]
async fn a_tree_without_a_text_leaves_the_file_as_it_is_and_fails_until_it_has_one() {
    let mut place = Place::with(&[("a", "1")]);
    let mut sink = place.sink();
    sink.open().await.unwrap();
    let record = place.change(Op::Update, "/app/a", "1;\ninclude /etc/passwd;");
    let refused = deliver(&mut sink, &record).await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Content, "{refused}");
    assert!(refused.message.contains("multiline"), "{refused}");
    assert!(
        !refused.message.contains("passwd"),
        "no message shows a value: {refused}"
    );
    assert!(sink.open().await.is_err(), "as the engine tries it again");
    assert_eq!(place.text(), "a=1\n");
    let corrected = place.change(Op::Update, "/app/a", "5");
    assert!(sink.may_correct(&corrected), "the engine need not wait");
    assert!(!sink.may_correct(&place.change(Op::Create, "/other", "5")));
    sink.open().await.unwrap();
    deliver(&mut sink, &record).await.unwrap();
    assert_eq!(place.text(), "a=5\n");
}

#[tokio::test]
async fn a_tree_or_a_text_above_its_limit_is_refused_with_the_limit() {
    let mut place = Place::with(&[("a", "1"), ("b", "2")]);
    place.config.max_znodes = 2;
    let refused = place.sink().open().await.unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Content);
    assert!(refused.message.contains("more than 2 znodes"), "{refused}");
    place.config.max_znodes = 3;
    place.config.max_file.0 = 7;
    let refused = place.sink().open().await.unwrap_err();
    assert!(refused.message.contains("more than 7 bytes"), "{refused}");
    place.config.max_file.0 = 8;
    place.sink().open().await.unwrap();
    assert_eq!(place.text(), "a=1\nb=2\n");
}

#[tokio::test(start_paused = true)]
async fn two_renderings_are_at_least_the_debounce_apart_and_the_second_shows_all_that_came() {
    let mut place = Place::with(&[("a", "1")]);
    place.config.debounce = Span::secs(60);
    let mut sink = place.sink();
    assert_eq!(sink.linger(), Duration::from_secs(60));
    sink.open().await.unwrap();
    let began = Instant::now();
    let first = place.change(Op::Update, "/app/a", "2");
    let last = place.change(Op::Update, "/app/a", "3");
    deliver(&mut sink, &first).await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(place.text(), "a=3\n");
    let between = Instant::now();
    deliver(&mut sink, &last).await.unwrap();
    assert!(between.elapsed() < Duration::from_secs(1), "it is shown");
}

#[tokio::test]
async fn a_check_of_the_destination_renders_nothing() {
    let place = Place::with(&[("a", "1")]);
    let mut sink = crate::RenderSink::new(place.config.clone());
    sink.open().await.unwrap();
    assert_eq!(place.names(), [""; 0]);
    let refused = deliver(&mut sink, &a_record().path("/app/a").arc())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, SinkErrorKind::Broken);
}
