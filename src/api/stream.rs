//! New records as Server-Sent Events, with an exact resume.
//!
//! A subscriber has a position in the journal and at most one page in memory; it pulls, so one that does not read costs
//! nothing more, and its connection is closed after a while. It holds nothing in the journal back: records that retention
//! removed before it read them are named in `lost`. At the end of the journal all subscribers share
//! [`TailPages`](super::tail_pages::TailPages).
//!
//! | event | id | data |
//! | --- | --- | --- |
//! | `record` | its seq | the record |
//! | `gap` | the seq of the mark | the begin or end of a gap that the filter leaves out |
//! | `position` | the last record that was read | `{seq}`: everything up to it is done |
//! | `skipped` | the last one skipped | `{from, to, count}`: left out by `rate` |
//! | `lost` | the last one lost | `{from, to}`: removed before they were read |

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bridge_core::number::Seq;
use bridge_core::record::Record;
use bridge_query::{ChangesPage, Follower, GapMark, JournalQuery, Selection};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::Api;
use super::access::{Access, Caller};
use super::journals::SourceJournal;
use super::parameter::Parameters;
use super::problem::Problem;
use super::tail_pages::{TailPage, TailRecord, TailStep};

/// Streams at the same time.
pub(super) const STREAMS_MAX: usize = 32;

/// The streams of a port that holds this number of connections: other callers get the other half.
pub(super) fn streams_max(connections: usize) -> usize {
    (connections / 2).clamp(1, STREAMS_MAX)
}

/// Poll interval at the end of the journal. The first of all streams that looks is enough for all.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// A comment keeps proxies from closing the connection, and finds a peer that is gone.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// How often the position moves past records that the filter leaves out.
const POSITION_EVERY: Duration = Duration::from_secs(10);

/// Records of a page that one stream reads by itself.
const PAGE: usize = 256;

/// Bytes that are encoded before they are sent, beside one record: fewer and larger writes cost less.
const CHUNK_BYTES: usize = 64 << 10;

/// The first lines: a client reconnects after this time in milliseconds.
const BEGIN: &str = "retry: 2000\n\n";

/// One stream.
struct Subscriber {
    journal: Arc<SourceJournal>,
    /// The journal with the eyes of the caller.
    seen: JournalQuery,
    access: Access,
    caller: Caller,
    selection: Selection,
    /// `None` until the end of the journal is known.
    after: Option<Seq>,
    rate: Option<Rate>,
    /// Read, and not encoded yet.
    page: StreamPage,
    /// Encoded, and not sent yet.
    chunk: Vec<u8>,
    commented: Instant,
    positioned: Instant,
    _place: OwnedSemaphorePermit,
}

/// The rest of a page.
enum StreamPage {
    /// Selected records and gaps, in order.
    Own(VecDeque<StreamItem>),
    /// A page that all streams share, from this record on.
    Shared(Arc<TailPage>, usize),
}

/// A part of a page of one stream.
enum StreamItem {
    Record(Arc<Record>),
    Gap(GapMark),
}

impl StreamPage {
    fn empty() -> StreamPage {
        StreamPage::Own(VecDeque::new())
    }

    fn is_empty(&self) -> bool {
        match self {
            StreamPage::Own(items) => items.is_empty(),
            StreamPage::Shared(page, at) => *at >= page.records.len(),
        }
    }

    /// A page of selected records with the gaps that the filter leaves out.
    fn own(page: ChangesPage) -> StreamPage {
        let mut gaps = page.gaps.into_iter().peekable();
        let mut items = VecDeque::new();
        for record in page.records {
            while let Some(gap) = gaps.next_if(|gap| gap.seq < record.seq) {
                items.push_back(StreamItem::Gap(gap));
            }
            // A gap that is selected is a record.
            let _ = gaps.next_if(|gap| gap.seq == record.seq);
            items.push_back(StreamItem::Record(record));
        }
        items.extend(gaps.map(StreamItem::Gap));
        StreamPage::Own(items)
    }
}

/// The records that may be sent in this second, and those that were skipped.
#[derive(Debug)]
struct Rate {
    a_second: u64,
    second: Instant,
    sent: u64,
    skipped: Option<(Seq, Seq, u64)>,
}

impl Rate {
    fn new(a_second: u32) -> Rate {
        Rate {
            a_second: u64::from(a_second.max(1)),
            second: Instant::now(),
            sent: 0,
            skipped: None,
        }
    }

    /// Whether a record may be sent now; otherwise it is skipped.
    fn takes(&mut self, seq: Seq, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.sent) = (now, 0);
        }
        if self.sent < self.a_second {
            self.sent += 1;
            return true;
        }
        let (from, _, count) = self.skipped.unwrap_or((seq, seq, 0));
        self.skipped = Some((from, seq, count + 1));
        false
    }
}

/// Begins a stream.
pub(super) fn answer(
    api: &Api,
    caller: &Caller,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let (selection, _) = parameters.selection()?;
    let last = headers.get("last-event-id");
    let last = last.and_then(|last| last.to_str().ok()).map(|last| {
        let seq = last.trim().parse();
        seq.map(Seq)
            .map_err(|_| Problem::bad_parameter("Last-Event-ID", "it is no record's number"))
    });
    let after = match last.transpose()? {
        Some(last) => Some(last),
        None => parameters.seq("after")?,
    };
    let journal = api.journals.source(parameters.source())?;
    let rate = parameters.count("rate")?.map(Rate::new);
    let place = Arc::clone(&api.streams).try_acquire_owned();
    let place = place.map_err(|_| Problem::busy("too many streams are open"))?;
    let subscriber = Subscriber {
        seen: journal.seen_by(caller),
        journal,
        access: api.access.clone(),
        caller: caller.clone(),
        selection,
        after,
        rate,
        page: StreamPage::empty(),
        chunk: BEGIN.into(),
        commented: Instant::now(),
        positioned: Instant::now(),
        _place: place,
    };
    let events = futures::stream::unfold(subscriber, |mut subscriber| async move {
        let chunk = subscriber.next().await?;
        Some((Ok::<_, Infallible>(chunk), subscriber))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    Ok(response)
}

impl Subscriber {
    /// The next bytes; `None` once the caller may no longer ask. Cancel safe between two pages.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.encode();
            if !self.chunk.is_empty() {
                return Some(std::mem::take(&mut self.chunk).into());
            }
            if !self.access.is_open(&self.caller) {
                return None;
            }
            // Everything that was read is sent.
            let now = Instant::now();
            if now.duration_since(self.positioned) >= POSITION_EVERY
                && let Some(after) = self.after
            {
                self.positioned = now;
                self.push("position", after, &json!({"seq": after}));
                continue;
            }
            if now.duration_since(self.commented) >= COMMENT_EVERY {
                self.commented = now;
                return Some(Bytes::from_static(b":\n\n"));
            }
            match (self.read().await, self.after) {
                (Ok(true), _) => {}
                (Ok(false), Some(after)) => self.journal.tail_pages().wait(after, POLL_EVERY).await,
                // A source that is gone, or too many questions: the next poll tries again, and the comments go on.
                (Ok(false), None) | (Err(_), _) => sleep(POLL_EVERY).await,
            }
        }
    }

    /// Reads one page; `false` at the end of the journal.
    async fn read(&mut self) -> Result<bool, Problem> {
        if let Some(after) = self.after {
            match self.journal.tail_pages().after(after, &self.journal).await? {
                TailStep::Page(page) => {
                    // The page may begin before this position.
                    let begin = page.records.partition_point(|known| known.record.seq <= after);
                    self.after = Some(page.until);
                    self.page = StreamPage::Shared(page, begin);
                    return Ok(true);
                }
                TailStep::AtEnd => return Ok(false),
                TailStep::Elsewhere => {}
            }
        }
        self.read_own().await
    }

    async fn read_own(&mut self) -> Result<bool, Problem> {
        let (after, selection) = (self.after, self.selection.clone());
        let read = self.journal.ask(&self.caller, move |journal, _| {
            let Some(after) = after else {
                return Ok((journal.tail()?, None, None));
            };
            // A restored older journal ends before the last event that arrived.
            let tail = journal.tail()?;
            if after > tail {
                return Ok((tail, None, Some((tail.next(), after))));
            }
            // Records that were removed are named and passed.
            let oldest = journal.oldest()?;
            let begin = oldest.map_or(after, |oldest| after.max(Seq(oldest.0.saturating_sub(1))));
            let lost = (begin > after).then_some((after.next(), begin));
            let mut follower = Follower::new(begin);
            let page = follower.next_within(journal, &selection, PAGE)?;
            Ok((follower.after(), page, lost))
        });
        let (reached, page, lost) = read.await?;
        let is_begun = self.after.is_some();
        self.after = Some(reached);
        if let Some((from, to)) = lost {
            self.push("lost", to.min(reached), &json!({"from": from, "to": to}));
        }
        if !is_begun {
            // A connection that breaks before the first record resumes here, too.
            self.push("position", reached, &json!({"seq": reached}));
        }
        let Some(page) = page else { return Ok(!is_begun) };
        self.page = StreamPage::own(page);
        Ok(true)
    }

    /// Encodes the page, up to the size of a chunk.
    fn encode(&mut self) {
        let now = Instant::now();
        let mut page = std::mem::replace(&mut self.page, StreamPage::empty());
        let had_page = !page.is_empty();
        while self.chunk.len() < CHUNK_BYTES {
            match &mut page {
                StreamPage::Own(items) => match items.pop_front() {
                    Some(StreamItem::Record(record)) => self.push_record(&record, None, now),
                    Some(StreamItem::Gap(gap)) => self.push_gap(&gap),
                    None => break,
                },
                StreamPage::Shared(page, at) => {
                    let Some(known) = page.records.get(*at) else { break };
                    *at += 1;
                    match (self.seen.selected(&known.record, &self.selection), &known.gap) {
                        // A record that is shown as it is was encoded for all.
                        (Some(shown), _) if Arc::ptr_eq(&shown, &known.record) => {
                            self.push_record(&shown, Some(known), now);
                        }
                        (Some(shown), _) => self.push_record(&shown, None, now),
                        (None, Some(gap)) if !self.seen.is_hidden(&known.record) => self.push_gap(gap),
                        (None, _) => {}
                    }
                }
            }
        }
        if had_page && page.is_empty() {
            self.push_skipped();
        }
        self.page = page;
    }

    fn push_record(&mut self, record: &Arc<Record>, known: Option<&TailRecord>, now: Instant) {
        if self.rate.as_mut().is_none_or(|rate| rate.takes(record.seq, now)) {
            self.push_skipped();
            let json = known.map_or_else(|| record.to_json().into(), TailRecord::json);
            self.push_bytes("record", record.seq, &json);
        }
    }

    fn push_gap(&mut self, gap: &GapMark) {
        self.push_skipped();
        self.push("gap", gap.seq, gap);
    }

    fn push_skipped(&mut self) {
        let skipped = self.rate.as_mut().and_then(|rate| rate.skipped.take());
        if let Some((from, to, count)) = skipped {
            let data = json!({"from": from, "to": to, "count": count});
            self.push("skipped", to, &data);
        }
    }

    fn push(&mut self, event: &str, id: Seq, data: &impl serde::Serialize) {
        // Data of our own types is always JSON.
        let data = serde_json::to_vec(data).unwrap_or_default();
        self.push_bytes(event, id, &data);
    }

    /// `data` is on one line: JSON escapes line feeds.
    fn push_bytes(&mut self, event: &str, id: Seq, data: &[u8]) {
        let head = format!("id: {id}\nevent: {event}\ndata: ");
        self.chunk.extend_from_slice(head.as_bytes());
        self.chunk.extend_from_slice(data);
        self.chunk.extend_from_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_takes_so_many_records_a_second_and_counts_the_others() {
        let mut rate = Rate::new(2);
        let begin = rate.second;
        let taken: Vec<bool> = (1..=5).map(|seq| rate.takes(Seq(seq), begin)).collect();
        assert_eq!(taken, [true, true, false, false, false]);
        assert_eq!(rate.skipped, Some((Seq(3), Seq(5), 3)));
        assert!(rate.takes(Seq(6), begin + Duration::from_secs(1)));
    }
}
