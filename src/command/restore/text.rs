//! The output of `restore`, for people and for programs. Never a value.

use std::collections::BTreeSet;
use std::path::Path;

use bridge_console::Style;
use bridge_console::text::{escaped, size};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_query::{Certainty, Doubt, SubtreeMoment};
use serde_json::{Value, json};

use crate::command::question::{doubt_lines, moment_words};
use crate::exit::{Exit, Failure};
use crate::restore::{
    Applied, Conflict, LeftReason, LiveTree, Operation, PlanDraft, Refusals, RestorePlan, VALUES_BYTES_MAX,
};
use crate::terminal::{Tone, count, line};

/// Lines of one list for people; the others are counted.
const LINES_MAX: usize = 200;

/// Everything about a plan besides its operations.
#[derive(Debug)]
pub struct PlanSummary {
    moment: SubtreeMoment,
    ahead: Vec<ZnodePath>,
    unknown_lifetimes: usize,
    left: Vec<(ZnodePath, LeftReason)>,
    unchanged: u64,
    extra: u64,
}

impl PlanSummary {
    /// Of a draft, whose operations are not settled yet.
    pub fn new(moment: &SubtreeMoment, draft: &PlanDraft, live: &LiveTree) -> PlanSummary {
        PlanSummary {
            moment: moment.clone(),
            ahead: draft.ahead_of_counter(live),
            unknown_lifetimes: draft.of_unknown_lifetime(),
            left: Vec::new(),
            unchanged: draft.unchanged,
            extra: draft.extra,
        }
    }

    /// The same with the znodes that the settled draft leaves out.
    pub fn with(mut self, draft: PlanDraft) -> PlanSummary {
        self.left = draft.left.into_iter().collect();
        self
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.unknown_lifetimes > 0 {
            warnings.push(format!(
                "{} to create: as persistent, because a watch cannot tell containers and znodes with a time to live",
                count(self.unknown_lifetimes as u64, "znode")
            ));
        }
        if let Some(first) = self.ahead.first() {
            warnings.push(format!(
                "{} to create with a number that the counter of the parent has not reached, {} first: a later sequential \
                 create may find its name in use",
                count(self.ahead.len() as u64, "znode"),
                escaped(&first.brief())
            ));
        }
        warnings
    }
}

/// A plan for people.
pub fn plan_words(file: &Path, plan: &RestorePlan, summary: &PlanSummary, style: &Style) -> String {
    let header = &plan.header;
    let mut text = format!(
        "{} as it was at {}\n",
        escaped(&header.under),
        moment_words(&summary.moment.moment)
    );
    text.push_str(&doubt_lines(&summary.moment.moment.doubts, style));
    if header.to != header.under {
        text.push_str(&format!("put at {}\n", escaped(&header.to)));
    }
    for operation in plan.operations.iter().take(LINES_MAX) {
        text.push_str(&operation_line(operation, style));
    }
    text.push_str(&more(plan.operations.len()));
    if !summary.left.is_empty() {
        text.push_str("left out:\n");
    }
    for (path, reason) in summary.left.iter().take(LINES_MAX) {
        text.push_str(&format!("  {}\n", escaped(path)));
        text.push_str(&line("", reason.words(), Tone::Quiet, style));
    }
    text.push_str(&more(summary.left.len()));
    for warning in summary.warnings() {
        text.push_str(&line("warning", &warning, Tone::Plain, style));
    }
    text.push_str(&sums(plan, summary));
    text.push_str(&match plan.operations.is_empty() {
        true => "nothing is to be done, and no file was written\n".to_owned(),
        false => format!("apply it with: zkbridge restore apply {}\n", file.display()),
    });
    text
}

fn operation_line(operation: &Operation, style: &Style) -> String {
    let sign = match operation {
        Operation::Create { .. } => "+",
        Operation::Set { .. } => "~",
        Operation::Delete { .. } => "-",
    };
    let path = Tone::Strong.paint(&escaped(operation.path()), style);
    let bytes = operation
        .data()
        .map(|data| format!("  {}", size(data.len() as u64)));
    format!("{sign} {path}{}\n", bytes.unwrap_or_default())
}

fn sums(plan: &RestorePlan, summary: &PlanSummary) -> String {
    let of = |verb: &str| plan.operations.iter().filter(|one| one.verb() == verb).count();
    let mut text = format!(
        "{} to create, {} to set, {} to delete, {} unchanged",
        of("create"),
        of("set"),
        of("delete"),
        summary.unchanged
    );
    if summary.extra > 0 {
        text.push_str(&format!(
            ", {} that did not exist then stay without --prune",
            summary.extra
        ));
    }
    text + "\n"
}

fn more(count: usize) -> String {
    match count.checked_sub(LINES_MAX) {
        Some(rest) if rest > 0 => format!("  and {rest} more: --json prints all\n"),
        _ => String::new(),
    }
}

/// The same for programs.
pub fn plan_document(file: &Path, plan: &RestorePlan, summary: &PlanSummary) -> Value {
    let operations: Vec<Value> = plan
        .operations
        .iter()
        .map(|operation| {
            json!({
                "op": operation.verb(),
                "path": operation.path(),
                "size": operation.data().map(|data| data.len()),
            })
        })
        .collect();
    let left: Vec<Value> = summary
        .left
        .iter()
        .map(|(path, reason)| json!({"path": path, "reason": reason.words()}))
        .collect();
    json!({
        "plan": (!plan.operations.is_empty()).then_some(file),
        "source": plan.header.source,
        "under": plan.header.under,
        "to": plan.header.to,
        "moment": summary.moment.moment,
        "operations": operations,
        "left": left,
        "unchanged": summary.unchanged,
        "extra": summary.extra,
        "warnings": summary.warnings(),
    })
}

/// The help where znodes are not certain at a time. `before`: the last record before it that is in no gap.
fn help_of_uncertain(refusals: &Refusals, before: Option<Seq>) -> String {
    let doubts = refusals.uncertain.iter().flat_map(|(_, doubts)| doubts);
    let kinds: BTreeSet<&str> = doubts
        .filter_map(|doubt| match doubt.certainty() {
            Certainty::Superseded => Some("superseded"),
            Certainty::Missed => Some("missed"),
            Certainty::Bounded => Some("bounded"),
            Certainty::Gap => Some("gap"),
            _ => None,
        })
        .collect();
    let accept = match kinds.is_empty() {
        true => String::new(),
        false => {
            let kinds: Vec<&str> = kinds.into_iter().collect();
            format!(", or take what is known with --accept {}", kinds.join(","))
        }
    };
    let before = before.map_or_else(String::new, |before| {
        format!(": --at {before} is the last record before this one outside of a gap, and shows the tree as it was captured then")
    });
    format!("choose another moment{before}{accept}; 'zkbridge tree --at' shows the doubts")
}

/// The failure of a plan that is refused. With `json` its reasons are printed as a document, too.
pub fn refused(refusals: &Refusals, before: Option<Seq>, changes_max: usize, json: bool) -> Failure {
    if json {
        let of = |list: &[(ZnodePath, String)]| -> Vec<Value> {
            let items = list.iter();
            items
                .map(|(path, reason)| json!({"path": path, "reason": reason}))
                .collect()
        };
        let uncertain: Vec<Value> = refusals
            .uncertain
            .iter()
            .map(|(path, doubts)| json!({"path": path, "doubts": doubts}))
            .collect();
        let without_value: Vec<Value> = refusals
            .without_value
            .iter()
            .map(|(path, reason)| json!({"path": path, "reason": reason}))
            .collect();
        let document = json!({"refused": {
            "uncertain": uncertain,
            "without_value": without_value,
            "unreadable": refusals.unreadable,
            "without_acl": of(&refusals.without_acl),
            "operations": refusals.too_many,
            "bytes": refusals.too_large,
            "more": refusals.more,
        }});
        if let Err(failure) = crate::command::print_json(&document) {
            return failure;
        }
    }
    let mut words = String::from("no plan was made");
    section(
        &mut words,
        "not certain at this moment",
        refusals
            .uncertain
            .iter()
            .map(|(path, doubts)| (path, doubt_words(doubts))),
        &help_of_uncertain(refusals, before),
    );
    section(
        &mut words,
        "without a value to put back",
        refusals
            .without_value
            .iter()
            .map(|(path, reason)| (path, (*reason).to_owned())),
        "put these back by hand, and restore the subtrees beside them",
    );
    section(
        &mut words,
        "not readable now",
        refusals.unreadable.iter().map(|path| {
            (
                path,
                "the credentials do not have the permission to read it".to_owned(),
            )
        }),
        "give credentials that may read and write them, with --credentials",
    );
    section(
        &mut words,
        "to create without an access control list",
        refusals
            .without_acl
            .iter()
            .map(|(path, reason)| (path, reason.clone())),
        "give them that of the parent with --acl parent, or one from a file with --acl FILE; acls = \"all\" records lists",
    );
    if let Some(operations) = refusals.too_many {
        words.push_str(&format!(
            "\n{operations} operations are more than the {changes_max} of --max-changes\nhelp: restore a smaller subtree, or \
             raise --max-changes"
        ));
    }
    if let Some(bytes) = refusals.too_large {
        words.push_str(&format!(
            "\nthe values have {} together, and a plan takes {} at most\nhelp: restore a smaller subtree",
            size(bytes as u64),
            size(VALUES_BYTES_MAX as u64)
        ));
    }
    Failure::new(Exit::Runtime, words)
}

/// Paths of a refusal that people see.
const REFUSED_SHOWN: usize = 20;

fn section<'a>(
    words: &mut String,
    title: &str,
    items: impl ExactSizeIterator<Item = (&'a ZnodePath, String)>,
    help: &str,
) {
    let all = items.len();
    if all == 0 {
        return;
    }
    words.push_str(&format!("\n{} {title}:", count(all as u64, "znode")));
    for (path, reason) in items.take(REFUSED_SHOWN) {
        words.push_str(&format!("\n  {}: {reason}", escaped(&path.brief())));
    }
    if all > REFUSED_SHOWN {
        words.push_str(&format!(
            "\n  and {} more: --json lists them",
            all - REFUSED_SHOWN
        ));
    }
    words.push_str(&format!("\nhelp: {help}"));
}

fn doubt_words(doubts: &[Doubt]) -> String {
    let words: Vec<String> = doubts.iter().map(Doubt::to_string).collect();
    words.join("; ")
}

/// The result of a run for people.
pub fn applied_words(applied: &Applied, style: &Style) -> String {
    let mut text = format!(
        "{} carried out, {} already as planned, {} carried out by an earlier run\n",
        applied.done, applied.found, applied.before
    );
    conflicts(&mut text, "skipped", &applied.skipped, style);
    if let Some(conflict) = &applied.stopped {
        text.push_str(&format!("stopped at operation {}:\n", conflict.operation));
        conflicts(&mut text, "conflict", std::slice::from_ref(conflict), style);
        let help = "look at the znode, then make a new plan, or leave it out with --on-conflict skip";
        text.push_str(&line("help", help, Tone::Plain, style));
        return text;
    }
    conflicts(&mut text, "not as planned", &applied.differences, style);
    if !applied.differences.is_empty() {
        let help = "make a new plan: what this one has done is never done again";
        text.push_str(&line("help", help, Tone::Plain, style));
    }
    if applied.differences.is_empty() && applied.skipped.is_empty() {
        text.push_str("every znode of the plan is as the plan wants it\n");
    }
    text
}

fn conflicts(text: &mut String, word: &str, conflicts: &[Conflict], style: &Style) {
    for conflict in conflicts.iter().take(LINES_MAX) {
        text.push_str(&format!(
            "{word}: {} {}\n",
            conflict.verb,
            escaped(&conflict.path)
        ));
        text.push_str(&line("", &conflict.reason, Tone::Quiet, style));
    }
    text.push_str(&more(conflicts.len()));
}

/// The same for programs.
pub fn applied_document(file: &Path, applied: &Applied) -> Value {
    let of = |conflict: &Conflict| {
        json!({
            "operation": conflict.operation,
            "op": conflict.verb,
            "path": conflict.path,
            "reason": conflict.reason,
        })
    };
    let all = |list: &[Conflict]| -> Vec<Value> { list.iter().map(of).collect() };
    json!({
        "plan": file,
        "before": applied.before,
        "done": applied.done,
        "found": applied.found,
        "skipped": all(&applied.skipped),
        "stopped": applied.stopped.as_ref().map(of),
        "differences": all(&applied.differences),
    })
}
