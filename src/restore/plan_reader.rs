//! Reads the file of a plan, which may come from anywhere: every line and every number has a limit, and no message has a
//! text of the file.

use std::io::{BufRead, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::operation::Operation;
use super::plan_file::{
    EndLine, FORMAT, OPERATIONS_MAX, OperationState, ProgressLine, RestorePlan, VALUES_BYTES_MAX, hex,
};

/// The longest line: data of 8 MiB as base64, a path, and a list.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The bytes of all lines of a plan: its values as base64, and as much again for paths and lists.
const PLAN_BYTES_MAX: u64 = 3 * VALUES_BYTES_MAX as u64;

/// The longest line of progress: the numbers of one request.
const PROGRESS_BYTES_MAX: u64 = 64 << 10;

/// Lines of progress: each operation has at most two.
const PROGRESS_LINES_MAX: usize = 2 * OPERATIONS_MAX;

/// Lines of a limited length, and where the last whole one ended.
pub(super) struct PlanLines<R> {
    reader: R,
    at: u64,
    number: usize,
    plan_bytes_max: u64,
    values_bytes_max: usize,
}

impl<R: BufRead> PlanLines<R> {
    /// From the first line on.
    pub(super) fn new(reader: R) -> PlanLines<R> {
        PlanLines::within(reader, PLAN_BYTES_MAX, VALUES_BYTES_MAX)
    }

    /// The same with other limits for the plan, and for the values in it.
    pub(super) fn within(reader: R, plan_bytes_max: u64, values_bytes_max: usize) -> PlanLines<R> {
        PlanLines {
            reader,
            at: 0,
            number: 0,
            plan_bytes_max,
            values_bytes_max,
        }
    }

    /// The next line with its line feed; `None` at the end, and for a line that has none.
    fn next(&mut self, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(bytes_max + 1);
        let read = limited
            .read_until(b'\n', &mut line)
            .map_err(|error| format!("line {} cannot be read: {error}", self.number + 1))?;
        if read as u64 > bytes_max {
            return Err(format!(
                "line {} is longer than {bytes_max} bytes{ANEW}",
                self.number + 1
            ));
        }
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        self.number += 1;
        self.at += read as u64;
        Ok(Some(line))
    }
}

/// The remedy for a file that no version has written.
const ANEW: &str = "\nhelp: make a new plan with 'zkbridge restore'";

/// A file that is no plan at all.
const NO_PLAN: &str =
    "its first line is not that of a plan\nhelp: give the file that 'zkbridge restore … --plan FILE' wrote";

/// A file of which a part is missing.
const CUT: &str = "it was cut: its end is missing\nhelp: copy the whole file again, or make a new plan";

impl<R: BufRead> PlanLines<R> {
    /// Reads the plan up to its end, and checks it.
    pub(super) fn plan(&mut self) -> Result<RestorePlan, String> {
        let lines = self;
        #[derive(Deserialize)]
        struct AnyHeader {
            zkbridge_plan: u64,
        }
        let Some(first) = lines.next(LINE_BYTES_MAX)? else {
            return Err(NO_PLAN.to_owned());
        };
        let any: AnyHeader = serde_json::from_slice(&first).map_err(|_| NO_PLAN.to_owned())?;
        if any.zkbridge_plan != u64::from(FORMAT) {
            return Err(format!(
                "it has format {}, and this version of zkbridge reads format {FORMAT}\nhelp: apply it with the version that \
             made it, or make a new plan",
                any.zkbridge_plan
            ));
        }
        let header = serde_json::from_slice(&first).map_err(|error| bad_line(1, &error))?;
        let (mut digest, mut values_bytes) = (Sha256::new(), 0);
        digest.update(&first);
        let mut plan = RestorePlan {
            header,
            operations: Vec::new(),
        };
        loop {
            let Some(line) = lines.next(LINE_BYTES_MAX)? else {
                return Err(CUT.to_owned());
            };
            if line.starts_with(b"{\"end\":") {
                let EndLine { end } =
                    serde_json::from_slice(&line).map_err(|error| bad_line(lines.number, &error))?;
                let is_whole =
                    end.operations == plan.operations.len() && end.sha256 == hex(&digest.finalize());
                if !is_whole {
                    return Err(
                    "it was changed since it was made: its digest is another\nhelp: make a new plan; a plan is not edited"
                        .to_owned(),
                );
                }
                return match plan.objection() {
                    None => Ok(plan),
                    Some(reason) => Err(format!("{reason}{ANEW}")),
                };
            }
            if plan.operations.len() == OPERATIONS_MAX {
                return Err(format!("it has more than {OPERATIONS_MAX} operations{ANEW}"));
            }
            digest.update(&line);
            let operation = serde_json::from_slice(&line);
            let operation: Operation = operation.map_err(|error| bad_line(lines.number, &error))?;
            values_bytes += operation.data().map_or(0, |data| data.len());
            if lines.at > lines.plan_bytes_max || values_bytes > lines.values_bytes_max {
                return Err(format!(
                    "it has more than {} bytes, or values of more than {}{ANEW} of a smaller subtree",
                    lines.plan_bytes_max, lines.values_bytes_max
                ));
            }
            plan.operations.push(operation);
        }
    }

    /// Takes the progress after the plan. Returns where the last whole line ends.
    pub(super) fn progress(&mut self, states: &mut [OperationState]) -> Result<u64, String> {
        let lines = self;
        let mut count = 0;
        while let Some(line) = lines.next(PROGRESS_BYTES_MAX)? {
            count += 1;
            if count > PROGRESS_LINES_MAX {
                return Err(format!(
                    "it has more than {PROGRESS_LINES_MAX} lines of progress{ANEW}"
                ));
            }
            let progress = serde_json::from_slice(&line).map_err(|error| bad_line(lines.number, &error))?;
            let (numbers, state) = match progress {
                ProgressLine::Done(numbers) => (numbers, OperationState::Done),
                ProgressLine::Skipped { operation, reason } => {
                    (vec![operation], OperationState::Skipped(reason))
                }
            };
            for number in numbers {
                let known = states.get_mut(number);
                *known.ok_or_else(|| {
                    format!(
                        "line {} is of operation {number}, which it does not have{ANEW}",
                        lines.number
                    )
                })? = state.clone();
            }
        }
        Ok(lines.at)
    }
}

/// Without the text of the line: it may have values.
fn bad_line(number: usize, error: &serde_json::Error) -> String {
    let category = match error.classify() {
        serde_json::error::Category::Data => "has a field that no plan of this version has, or lacks one",
        _ => "is not JSON",
    };
    format!("line {number} {category}{ANEW}")
}
