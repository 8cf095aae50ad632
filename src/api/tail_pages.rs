//! The newest pages of a journal, for all streams at its end: each page is read once and each record encoded once.
//!
//! Invariants:
//!
//! * Pages follow each other without a hole, and have every record: a stream selects and hides by itself.
//! * They are few and young: a value that is masked from now on, or that retention removes, is soon gone from here.
//! * One stream reads the next page while the others wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use bridge_core::number::Seq;
use bridge_core::record::Record;
use bridge_query::{Follower, GapMark, JournalQuery, Selection};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::journals::SourceJournal;
use super::problem::Problem;

/// Records of one page.
const PAGE: usize = 1_000;

/// Bytes of values that all pages hold at most, beside one page.
const BYTES_MAX: usize = 8 << 20;

/// Bytes of a record beside its values.
const RECORD_BYTES: usize = 1 << 10;

/// The age of a page. Streams at the end of the journal look several times a second.
const AGE_MAX: Duration = Duration::from_secs(2);

/// A journal whose end was read is not asked again within this time: the streams share the answer.
const REST: Duration = Duration::from_millis(100);

/// A stream that is further from the end reads by itself, with the index of its filter.
const DISTANCE_MAX: u64 = 4_000;

/// A record, and its JSON once a stream has sent it.
pub(super) struct TailRecord {
    pub(super) record: Arc<Record>,
    /// The gap that begins or ends with it.
    pub(super) gap: Option<GapMark>,
    json: OnceLock<Bytes>,
}

impl TailRecord {
    /// The record for a caller who may see all of it.
    pub(super) fn json(&self) -> Bytes {
        self.json.get_or_init(|| self.record.to_json().into()).clone()
    }
}

/// The records after `after`, up to and including `until`.
pub(super) struct TailPage {
    after: Seq,
    pub(super) until: Seq,
    pub(super) records: Vec<TailRecord>,
    bytes: usize,
    read: Instant,
}

/// The next step of a stream.
pub(super) enum TailStep {
    /// The page with the next record.
    Page(Arc<TailPage>),
    /// There is no next record yet.
    AtEnd,
    /// The stream is elsewhere in the journal, and reads by itself.
    Elsewhere,
}

/// The newest pages of one journal.
pub(super) struct TailPages {
    state: Mutex<Pages>,
    /// Held by the stream that reads.
    turn: Semaphore,
    /// The last record of the last page.
    until: watch::Sender<Seq>,
}

#[derive(Default)]
struct Pages {
    pages: VecDeque<Arc<TailPage>>,
    bytes: usize,
    /// The end of the journal, and when it was read.
    end: Option<(Seq, Instant)>,
}

impl Default for TailPages {
    fn default() -> TailPages {
        TailPages {
            state: Mutex::default(),
            turn: Semaphore::new(1),
            until: watch::Sender::new(Seq::ZERO),
        }
    }
}

impl TailPages {
    /// Waits for a record after this one, at most for `bound`. Cancel safe.
    pub(super) async fn wait(&self, after: Seq, bound: Duration) {
        let mut until = self.until.subscribe();
        // The sender lives as long as this.
        let _ = tokio::time::timeout(bound, until.wait_for(|until| *until > after)).await;
    }

    /// The page after a record.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or too many questions wait for their turn.
    pub(super) async fn after(&self, after: Seq, journal: &SourceJournal) -> Result<TailStep, Problem> {
        if let Some(step) = self.lock().step(after, Instant::now()) {
            return Ok(step);
        }
        let turn = self.turn.acquire().await;
        let _turn = turn.map_err(|_| Problem::busy("the bridge ends"))?;
        // Another stream may have read it meanwhile.
        if let Some(step) = self.lock().step(after, Instant::now()) {
            return Ok(step);
        }
        let read = journal.read(move |journal| next_page(journal, after)).await?;
        let now = Instant::now();
        let mut state = self.lock();
        let step = match read {
            NextPage::Elsewhere => return Ok(TailStep::Elsewhere),
            NextPage::None => {
                state.end = Some((after, now));
                return Ok(TailStep::AtEnd);
            }
            NextPage::Read(page, tail) => {
                if page.until >= tail {
                    state.end = Some((page.until, now));
                }
                state.push(page)
            }
        };
        let until = state.pages.back().map_or(Seq::ZERO, |page| page.until);
        drop(state);
        self.until.send_replace(until);
        Ok(step)
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// The step from what is known; `None`: the journal must be asked.
    fn step(&mut self, after: Seq, now: Instant) -> Option<TailStep> {
        self.remove_old(now);
        if let Some(page) = self
            .pages
            .iter()
            .find(|page| page.after <= after && after < page.until)
        {
            return Some(TailStep::Page(Arc::clone(page)));
        }
        let is_at_end = self
            .end
            .is_some_and(|(end, read)| end == after && now.duration_since(read) < REST);
        if is_at_end {
            return Some(TailStep::AtEnd);
        }
        // A page between others would leave a hole.
        let is_next = self.pages.back().is_none_or(|last| last.until == after);
        (!is_next).then_some(TailStep::Elsewhere)
    }

    fn push(&mut self, page: TailPage) -> TailStep {
        let page = Arc::new(page);
        self.bytes += page.bytes;
        self.pages.push_back(Arc::clone(&page));
        while self.bytes > BYTES_MAX && self.pages.len() > 1 {
            self.remove_first();
        }
        TailStep::Page(page)
    }

    fn remove_old(&mut self, now: Instant) {
        while self
            .pages
            .front()
            .is_some_and(|page| now.duration_since(page.read) >= AGE_MAX)
        {
            self.remove_first();
        }
    }

    fn remove_first(&mut self) {
        let removed = self.pages.pop_front();
        self.bytes -= removed.map_or(0, |page| page.bytes);
    }
}

/// The records of the journal after a record.
enum NextPage {
    /// A page, and the end of the journal.
    Read(TailPage, Seq),
    /// Nothing yet.
    None,
    /// Retention has removed the next record, the journal ends before this one, or it is too far from the end.
    Elsewhere,
}

fn next_page(journal: &JournalQuery, after: Seq) -> Result<NextPage, Problem> {
    let tail = journal.tail()?;
    if after == tail {
        return Ok(NextPage::None);
    }
    let oldest = journal.oldest()?;
    let is_kept = oldest.is_some_and(|oldest| oldest <= after.next());
    if after > tail || !is_kept || tail.0 - after.0 > DISTANCE_MAX {
        return Ok(NextPage::Elsewhere);
    }
    let mut follower = Follower::new(after);
    let Some(page) = follower.next_within(journal, &Selection::default(), PAGE)? else {
        return Ok(NextPage::None);
    };
    let mut gaps = page.gaps.into_iter().peekable();
    let mut bytes = 0;
    let records = page.records.into_iter().map(|record| {
        while gaps.next_if(|gap| gap.seq < record.seq).is_some() {}
        bytes += weight_of(&record);
        TailRecord {
            gap: gaps.next_if(|gap| gap.seq == record.seq),
            record,
            json: OnceLock::new(),
        }
    });
    let records = records.collect();
    Ok(NextPage::Read(
        TailPage {
            after,
            until: follower.after(),
            records,
            bytes,
            read: Instant::now(),
        },
        tail,
    ))
}

/// About the bytes of a record.
fn weight_of(record: &Record) -> usize {
    let states = record.before.iter().chain(&record.after);
    let values = states.filter_map(|state| state.data.as_ref());
    RECORD_BYTES + values.map(|data| data.bytes.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: u64, until: u64, bytes: usize, read: Instant) -> TailPage {
        TailPage {
            after: Seq(after),
            until: Seq(until),
            records: Vec::new(),
            bytes,
            read,
        }
    }

    fn words(pages: &mut Pages, after: u64, now: Instant) -> String {
        match pages.step(Seq(after), now) {
            None => "ask".to_owned(),
            Some(TailStep::Page(page)) => format!("to {}", page.until),
            Some(TailStep::AtEnd) => "end".to_owned(),
            Some(TailStep::Elsewhere) => "elsewhere".to_owned(),
        }
    }

    #[test]
    fn a_page_is_found_from_any_place_in_it_and_none_is_put_beside_a_hole() {
        let now = Instant::now();
        let mut pages = Pages::default();
        assert_eq!(words(&mut pages, 7, now), "ask", "the first begins anywhere");
        pages.push(page(7, 10, 1, now));
        pages.push(page(10, 12, 1, now));
        for (after, expected) in [
            (6, "elsewhere"),
            (7, "to 10"),
            (9, "to 10"),
            (10, "to 12"),
            (12, "ask"),
            (13, "elsewhere"),
        ] {
            assert_eq!(words(&mut pages, after, now), expected, "{after}");
        }
        // The end that one stream has read counts for all, for a while.
        pages.end = Some((Seq(12), now));
        assert_eq!(words(&mut pages, 12, now), "end");
        assert_eq!(words(&mut pages, 12, now + REST), "ask");
    }

    #[test]
    fn pages_are_few_and_young() {
        let now = Instant::now();
        let mut pages = Pages::default();
        for at in 0..4 {
            pages.push(page(at, at + 1, BYTES_MAX / 2, now));
        }
        assert_eq!((pages.pages.len(), pages.bytes), (2, BYTES_MAX));
        pages.push(page(4, 5, 2 * BYTES_MAX, now + REST));
        assert_eq!(pages.pages.len(), 1, "one page may be larger");
        assert_eq!(words(&mut pages, 4, now + AGE_MAX), "to 5");
        assert_eq!(words(&mut pages, 4, now + AGE_MAX + REST), "ask");
        assert_eq!(pages.bytes, 0);
    }
}
