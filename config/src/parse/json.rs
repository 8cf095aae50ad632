//! Errors of JSON. Places of keys and values come from the events of YAML, of which JSON is a part.

use std::error::Error;

use crate::tree::Place;

/// The position and cause of the first syntax error in JSON.
pub(super) fn syntax(cause: &(dyn Error + Send + Sync + 'static)) -> Option<(Place, String)> {
    let error = cause.downcast_ref::<serde_json::Error>()?;
    let place = Place::At {
        line: error.line().max(1),
        column: error.column().max(1),
    };
    let text = error.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason);
    Some((place, reason.to_owned()))
}
