//! The table of routes.

use bridge_core::record::{Record, Timestamp};
use bridge_query::answer::{
    ActivityBucket, AnswerList, ChildItem, DiffItem, HistoryAnswer, Moment, NodeAnswer,
};
use bridge_query::{GapSpan, JournalQuery};
use schemars::{Schema, SchemaGenerator};

use super::SourceItem;
use super::document::Document;
use super::login::SessionAnswer;
use super::parameter::Parameters;
use super::problem::Problem;
use super::question;
use super::question::LetterItem;

/// Answers a question from one journal.
pub(super) type Question = fn(&JournalQuery, &Parameters, Timestamp) -> Result<Document, Problem>;

/// The part of the bridge that answers.
#[derive(Clone, Copy)]
pub(super) enum RouteAnswer {
    /// The journal of the source in the path.
    Question(Question),
    /// The journal of the source in the path, as events.
    Stream,
    /// The statuses.
    Status,
    /// The sources of the statuses.
    Sources,
    /// The sinks of the statuses.
    Sinks,
    /// The program.
    OpenApi,
    /// The caller's session.
    Session,
}

/// A parameter of the query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) is_required: bool,
    pub(super) kind: ParameterKind,
    pub(super) about: &'static str,
}

/// The values that a parameter takes.
#[derive(Clone, Copy)]
pub(super) enum ParameterKind {
    /// A text, which its question reads.
    Text,
    /// The path of a znode.
    Path,
    /// A whole number from `min` on.
    Number { min: u32 },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// One route.
pub(super) struct Route {
    /// Below [`super::BASE`], with the names of the path's parameters in braces.
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) answer: RouteAnswer,
    /// The schema of the answer; `None` for a document without one.
    pub(super) schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter {
        name,
        is_required: false,
        kind: ParameterKind::Text,
        about,
    }
}

const fn of_kind(kind: ParameterKind, parameter: Parameter) -> Parameter {
    Parameter { kind, ..parameter }
}

/// The number of a record.
const SEQ: ParameterKind = ParameterKind::Number { min: 0 };

/// A number of items, at least one.
const COUNT: ParameterKind = ParameterKind::Number { min: 1 };

const fn required(parameter: Parameter) -> Parameter {
    Parameter {
        is_required: true,
        ..parameter
    }
}

const AT: Parameter = text(
    "at",
    "The moment: a record's number, a zxid (0x…), a time, a date, an age (15m) or `now`. Left out: the end of the \
     journal.",
);
const FROM: Parameter = text(
    "from",
    "Where the range begins, as a moment. Left out: the oldest kept record.",
);
const TO: Parameter = text(
    "to",
    "Where the range ends, as a moment. Left out: the end of the journal.",
);
const UNDER: Parameter = text("under", "This path and everything below it, or a glob.");
const GLOB: Parameter = text(
    "glob",
    "A glob that the path matches, too: `*` is within one name, `**` goes across names.",
);
const OP: Parameter = text("op", "One or several operations, separated by commas.");
const SESSION: Parameter = text(
    "session",
    "The session that wrote (sources that read transactions), or that owns the ephemeral znode.",
);
const CLIENT: Parameter = text(
    "client",
    "The client whose session wrote: its address, with or without the port. Only of sources that read transactions and \
     knew it.",
);
const USER: Parameter = text(
    "user",
    "The user whose session wrote, one of the names of `txn.user`. Only of sources that read transactions and knew it.",
);
const TEXT: Parameter = text("text", "A text in the value.");
const CURSOR: Parameter = text("cursor", "The `next` of the page before.");
const LIMIT: Parameter = of_kind(
    COUNT,
    text(
        "limit",
        "Items of a page; 100 if it is left out, and never more than 1000.",
    ),
);
const PATH: Parameter = required(of_kind(
    ParameterKind::Path,
    text("path", "The path of the znode."),
));
const SINK: Parameter = required(text("sink", "The name of the sink."));

/// All routes.
pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/status",
        summary: "The state of the bridge, as /status has it",
        parameters: &[],
        answer: RouteAnswer::Status,
        schema: None,
    },
    Route {
        path: "/sources",
        summary: "The sources",
        parameters: &[],
        answer: RouteAnswer::Sources,
        schema: Some(SchemaGenerator::subschema_for::<Vec<SourceItem>>),
    },
    Route {
        path: "/sinks",
        summary: "The sinks, as /status has them",
        parameters: &[],
        answer: RouteAnswer::Sinks,
        schema: None,
    },
    Route {
        path: "/sources/{source}/moment",
        summary: "A moment as a place between two records",
        parameters: &[AT],
        answer: RouteAnswer::Question(question::moment),
        schema: Some(SchemaGenerator::subschema_for::<Moment>),
    },
    Route {
        path: "/sources/{source}/node",
        summary: "A znode at a moment",
        parameters: &[
            PATH,
            AT,
            of_kind(
                ParameterKind::OneOf(&["0", "1"]),
                text(
                    "raw",
                    "`1`: the bytes of the value as an attachment, instead of a document.",
                ),
            ),
        ],
        answer: RouteAnswer::Question(question::node),
        schema: Some(SchemaGenerator::subschema_for::<NodeAnswer>),
    },
    Route {
        path: "/sources/{source}/children",
        summary: "The children of a znode at a moment",
        parameters: &[
            PATH,
            AT,
            text("prefix", "Only names that begin so."),
            text("after", "Only names after this one, by their bytes."),
            CURSOR,
            LIMIT,
        ],
        answer: RouteAnswer::Question(question::children),
        schema: Some(SchemaGenerator::subschema_for::<AnswerList<ChildItem>>),
    },
    Route {
        path: "/sources/{source}/history",
        summary: "The versions of a znode, the newest first",
        parameters: &[
            PATH,
            FROM,
            TO,
            of_kind(SEQ, text("before", "Only records before this one.")),
            CURSOR,
            LIMIT,
        ],
        answer: RouteAnswer::Question(question::history),
        schema: Some(SchemaGenerator::subschema_for::<HistoryAnswer>),
    },
    Route {
        path: "/sources/{source}/changes",
        summary: "The records of a range that pass a filter",
        parameters: &[
            UNDER,
            FROM,
            TO,
            GLOB,
            OP,
            SESSION,
            CLIENT,
            USER,
            TEXT,
            of_kind(
                ParameterKind::OneOf(&["oldest", "newest"]),
                text(
                    "order",
                    "`oldest` or `newest`: the records that come first. Left out: oldest.",
                ),
            ),
            of_kind(
                ParameterKind::OneOf(&["0", "1"]),
                text(
                    "past",
                    "`1`: the history from before the journal, which `zkbridge backfill` has made, in the place of the \
                     journal. Its records have numbers of their own.",
                ),
            ),
            CURSOR,
            LIMIT,
        ],
        answer: RouteAnswer::Question(question::changes),
        schema: Some(SchemaGenerator::subschema_for::<AnswerList<Record>>),
    },
    Route {
        path: "/sources/{source}/diff",
        summary: "The paths of a subtree that differ between two moments",
        parameters: &[
            of_kind(
                ParameterKind::Path,
                text("under", "This path and everything below it. Left out: `/`."),
            ),
            required(text("a", "The first moment.")),
            text("b", "The second moment. Left out: the end of the journal."),
            text(
                "kind",
                "One or several kinds of differences, separated by commas; those that are not certain are listed, too. \
                 Left out: all.",
            ),
            CURSOR,
            LIMIT,
        ],
        answer: RouteAnswer::Question(question::diff),
        schema: Some(SchemaGenerator::subschema_for::<AnswerList<DiffItem>>),
    },
    Route {
        path: "/sources/{source}/activity",
        summary: "The number of records by interval; add the counts of equal intervals of several pages",
        parameters: &[
            UNDER,
            FROM,
            TO,
            GLOB,
            OP,
            SESSION,
            CLIENT,
            USER,
            TEXT,
            of_kind(
                COUNT,
                text(
                    "buckets",
                    "About how many intervals; 100 if it is left out, and never more than 500.",
                ),
            ),
            CURSOR,
        ],
        answer: RouteAnswer::Question(question::activity),
        schema: Some(SchemaGenerator::subschema_for::<AnswerList<ActivityBucket>>),
    },
    Route {
        path: "/sources/{source}/gaps",
        summary: "The gaps of a range: closed ones by their ends, then open ones",
        parameters: &[FROM, TO, CURSOR, LIMIT],
        answer: RouteAnswer::Question(question::gaps),
        schema: Some(SchemaGenerator::subschema_for::<AnswerList<GapSpan>>),
    },
    Route {
        path: "/sources/{source}/records/{seq}",
        summary: "One record",
        parameters: &[],
        answer: RouteAnswer::Question(question::record),
        schema: Some(SchemaGenerator::subschema_for::<Record>),
    },
    Route {
        path: "/sources/{source}/letters",
        summary: "The dead letters of a sink",
        parameters: &[SINK, CURSOR, LIMIT],
        answer: RouteAnswer::Question(question::letters),
        schema: Some(SchemaGenerator::subschema_for::<AnswerList<LetterItem>>),
    },
    Route {
        path: "/sources/{source}/letters/{seq}",
        summary: "The record of a dead letter",
        parameters: &[SINK],
        answer: RouteAnswer::Question(question::letter),
        schema: Some(SchemaGenerator::subschema_for::<Record>),
    },
    Route {
        path: "/sources/{source}/stream",
        summary: "New records as Server-Sent Events; Last-Event-ID resumes exactly",
        parameters: &[
            UNDER,
            GLOB,
            OP,
            of_kind(
                SEQ,
                text("after", "Begin after this record. Left out: after the last one."),
            ),
            of_kind(
                COUNT,
                text(
                    "rate",
                    "At most this many records a second; the others are counted in `skipped`.",
                ),
            ),
        ],
        answer: RouteAnswer::Stream,
        schema: None,
    },
    Route {
        path: "/session",
        summary: "The caller's session; POST opens one with {code} or {token}, DELETE closes it",
        parameters: &[],
        answer: RouteAnswer::Session,
        schema: Some(SchemaGenerator::subschema_for::<SessionAnswer>),
    },
    Route {
        path: "/openapi.json",
        summary: "This description",
        parameters: &[],
        answer: RouteAnswer::OpenApi,
        schema: None,
    },
];
