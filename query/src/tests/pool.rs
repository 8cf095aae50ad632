//! The pool of readers.

use std::sync::mpsc;
use std::time::Duration;

use super::scratch::{Scratch, created};
use crate::{QueryError, ReaderPool};

const NO_WAIT: Duration = Duration::ZERO;

/// Long enough for any machine; nothing waits that long unless the test fails.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_pool_lends_no_more_readers_than_its_maximum_and_says_so() {
    let scratch = Scratch::with([created("/a", 1, "1")]);
    let pool = ReaderPool::new(&scratch.file(), 2, NO_WAIT);
    let (one, other) = (pool.reader().unwrap(), pool.reader().unwrap());
    let Err(error) = pool.reader() else {
        panic!("a third reader was lent");
    };
    assert!(matches!(error, QueryError::Busy { readers: 2, .. }), "{error}");
    assert!(error.to_string().contains("help: "), "{error}");
    drop(one);
    let mut again = pool.reader().unwrap();
    assert_eq!(again.tail().unwrap().0, 1);
    drop((again, other));
}

#[test]
fn a_query_waits_for_a_reader_that_comes_back() {
    let scratch = Scratch::with([created("/a", 1, "1")]);
    let pool = ReaderPool::new(&scratch.file(), 1, BOUND);
    let lent = pool.reader().unwrap();
    let (asks, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            asks.send(()).unwrap();
            pool.reader().map(|mut reader| reader.tail().unwrap().0)
        });
        asked.recv_timeout(BOUND).unwrap();
        drop(lent);
        assert_eq!(waits.join().unwrap().unwrap(), 1);
    });
}

#[test]
fn a_journal_that_cannot_be_opened_uses_up_no_place_in_the_pool() {
    let scratch = Scratch::with([created("/a", 1, "1")]);
    let pool = ReaderPool::new(&scratch.file().with_extension("none"), 1, NO_WAIT);
    for _ in 0..3 {
        assert!(matches!(pool.reader(), Err(QueryError::Journal(_))));
    }
}
