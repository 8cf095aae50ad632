//! The questions that are put, with the time in which each is to be answered.

use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use bridge_query::answer::{
    ActivityQuestion, ChangesOrder, ChangesQuestion, ChildrenQuestion, DiffQuestion, HistoryQuestion,
    RangeQuestion,
};
use bridge_query::{JournalQuery, PathPattern, Selection};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::Outcome;
use crate::test_journal::{BEGIN_MS, SIBLINGS, Sizes, group_path, service_path};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A kind of question, with the time in which 99 of 100 are to be answered.
pub struct Promise {
    pub question: &'static str,
    pub target_ms: f64,
    /// Puts the question with other random choices each time. Returns the number of items of the answer.
    pub ask: fn(&mut Asking<'_>) -> Outcome<usize>,
}

pub const PROMISES: &[Promise] = &[
    Promise {
        question: "value then, the path with most records",
        target_ms: 2.0,
        ask: |asking| asking.value(&ZnodePath::parse("/hot")?),
    },
    Promise {
        question: "value then, a path with a thousandth of the records",
        target_ms: 2.0,
        ask: |asking| asking.value(&ZnodePath::parse("/warm")?),
    },
    Promise {
        question: "value then, a random path",
        target_ms: 2.0,
        ask: |asking| {
            let service = asking.random.random_range(0..asking.sizes.services);
            asking.value(&service_path(service)?)
        },
    },
    Promise {
        question: "200 children then, of 1,000",
        target_ms: 10.0,
        ask: |asking| {
            let group = asking.group()?;
            asking.children(&group)
        },
    },
    Promise {
        question: "200 children then, of the most siblings",
        target_ms: 20.0,
        ask: |asking| asking.children(&ZnodePath::parse("/siblings")?),
    },
    Promise {
        question: "children then, of a queue with dead names",
        target_ms: 5.0,
        ask: |asking| asking.children(&ZnodePath::parse("/queue")?),
    },
    Promise {
        question: "100 versions before a moment, the path with most records",
        target_ms: 10.0,
        ask: |asking| asking.versions(),
    },
    Promise {
        question: "record of a time",
        target_ms: 1.0,
        ask: |asking| {
            let time = asking.time();
            Ok(usize::from(asking.query.cut(time)?.seq > Seq::ZERO))
        },
    },
    Promise {
        question: "record of a zxid",
        target_ms: 1.0,
        ask: |asking| {
            let zxid = asking.random.random_range(1..=asking.sizes.records as u64);
            Ok(usize::from(
                asking.query.cut(Position::Zxid(Zxid(zxid)))?.seq > Seq::ZERO,
            ))
        },
    },
    Promise {
        question: "100 changes of a day, 100 paths",
        target_ms: 25.0,
        ask: |asking| {
            let app = asking.random.random_range(0..asking.sizes.keys / 100);
            asking.changes(ZnodePath::parse(&format!("/config/app-{app:05}"))?)
        },
    },
    Promise {
        question: "100 changes of a day, 1,000 paths",
        target_ms: 50.0,
        ask: |asking| {
            let group = asking.group()?;
            asking.changes(group)
        },
    },
    Promise {
        question: "100 changes of a day, most paths",
        target_ms: 10.0,
        ask: |asking| asking.changes(ZnodePath::parse("/services")?),
    },
    Promise {
        question: "difference of 1,000 paths over 7 days, a page of 200",
        target_ms: 100.0,
        ask: |asking| asking.diff(),
    },
    Promise {
        question: "activity in 300 intervals",
        target_ms: 60.0,
        ask: |asking| asking.activity(),
    },
];

/// A journal that is asked.
pub struct Asking<'a> {
    pub query: &'a JournalQuery,
    pub sizes: Sizes,
    pub now: Timestamp,
    pub random: SmallRng,
}

impl Asking<'_> {
    /// A moment after the first day, when all znodes are created.
    pub fn time(&mut self) -> Position {
        let after = BEGIN_MS + DAY_MS + DAY_MS / 2;
        Position::Time(Timestamp(self.random.random_range(after..self.now.0)))
    }

    fn group(&mut self) -> Outcome<ZnodePath> {
        group_path(self.random.random_range(0..self.sizes.groups()))
    }

    fn value(&mut self, path: &ZnodePath) -> Outcome<usize> {
        let at = self.time();
        let value = self.query.as_of(path, at, self.now)?;
        Ok(value.map_or(0, |value| usize::from(value.exists == Some(true))))
    }

    /// The first 200 children, over as many pages as they take.
    fn children(&mut self, path: &ZnodePath) -> Outcome<usize> {
        const WANTED: usize = 200;
        let at = Some(self.time());
        let (mut found, mut cursor) = (0, None::<String>);
        loop {
            let question = ChildrenQuestion {
                path,
                at,
                prefix: "",
                after: None,
                cursor: cursor.as_deref(),
                limit: WANTED - found,
            };
            let page = self.query.children_at(&question, self.now)?;
            found += page.items.len();
            cursor = page.next;
            if cursor.is_none() || found >= WANTED {
                return Ok(found);
            }
        }
    }

    fn versions(&mut self) -> Outcome<usize> {
        let question = HistoryQuestion {
            path: &ZnodePath::parse("/hot")?,
            from: None,
            to: Some(self.time()),
            cursor: None,
            limit: 100,
        };
        let answer = self.query.versions(&question, self.now)?;
        Ok(answer.map_or(0, |answer| answer.items.len()))
    }

    /// The newest changes of a day.
    fn changes(&mut self, under: ZnodePath) -> Outcome<usize> {
        let from = self.random.random_range(BEGIN_MS + DAY_MS..self.now.0 - DAY_MS);
        let selection = Selection {
            paths: vec![PathPattern::Subtree(under.clone())],
            ..Selection::default()
        };
        let question = ChangesQuestion {
            from: Some(Position::Time(Timestamp(from))),
            to: Some(Position::Time(Timestamp(from + DAY_MS))),
            selection: &selection,
            filter: under.as_str(),
            order: ChangesOrder::Newest,
            cursor: None,
            limit: 100,
        };
        Ok(self.query.records_between(&question, self.now)?.items.len())
    }

    fn diff(&mut self) -> Outcome<usize> {
        let under = self.group()?;
        let question = DiffQuestion {
            under: &under,
            a: Position::Time(Timestamp(BEGIN_MS + DAY_MS + DAY_MS / 2)),
            b: None,
            kinds: &[],
            cursor: None,
            limit: 200,
        };
        Ok(self.query.diff(&question, self.now)?.items.len())
    }

    /// All intervals, over as many pages as they take.
    fn activity(&mut self) -> Outcome<usize> {
        let selection = Selection::default();
        let (mut found, mut cursor) = (0, None::<String>);
        loop {
            let question = ActivityQuestion {
                range: RangeQuestion {
                    from: None,
                    to: None,
                    cursor: cursor.as_deref(),
                    limit: SIBLINGS,
                },
                selection: &selection,
                filter: "",
                buckets: 300,
            };
            let page = self.query.activity_between(&question, self.now)?;
            found += page.items.len();
            cursor = page.next;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }
}
