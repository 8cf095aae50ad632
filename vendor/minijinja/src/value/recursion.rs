//! zkbridge: bounds how deep and how far values are visited.
//!
//! Writing, comparing and hashing a container visits all that is in it. A value that contains itself, or one that has
//! another many times in it, would be visited without an end, or deeper than the stack. Here each visit of a container
//! counts: those beyond the limits end at once, and the engine ends the template with an error before it uses what they
//! gave.

use std::cell::Cell;

use crate::error::{Error, ErrorKind};
use crate::value::{Tuple, Value, ValueMap};

/// The deepest nesting of containers that is visited. Documents in JSON have at most 128 levels.
const DEPTH_MAX: u32 = 160;

/// The bytes of a text that count as one visit.
const TEXT_BYTES: usize = 64;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static EXCEEDED: Cell<bool> = const { Cell::new(false) };
}

/// A visit of a container, until it is dropped.
pub(crate) struct Visit(());

impl Drop for Visit {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Begins the visit of a container; `None` if it is too deep, or one too many.
pub(crate) fn enter() -> Option<Visit> {
    let depth = DEPTH.with(Cell::get);
    let left = LEFT.with(Cell::get);
    if depth >= DEPTH_MAX || left == 0 {
        EXCEEDED.with(|exceeded| exceeded.set(true));
        return None;
    }
    DEPTH.with(|value| value.set(depth + 1));
    LEFT.with(|value| value.set(left - 1));
    Some(Visit(()))
}

/// Counts a text in a container as visits of its length. False if it is too long.
pub(crate) fn text(bytes: usize) -> bool {
    let visits = (bytes / TEXT_BYTES) as u64;
    let left = LEFT.with(Cell::get);
    LEFT.with(|value| value.set(left.saturating_sub(visits)));
    if left < visits {
        EXCEEDED.with(|exceeded| exceeded.set(true));
    }
    left >= visits
}

/// Allows so many visits from now on, and returns how many were left before. Fails if a visit was refused since.
pub(crate) fn allow(visits: u64) -> Result<u64, Error> {
    let left = LEFT.with(|value| value.replace(visits));
    match EXCEEDED.with(|exceeded| exceeded.replace(false)) {
        true => Err(too_deep()),
        false => Ok(left),
    }
}

/// Counts all that is in the engine's own containers, and in all containers if the value goes `into` another one. Fails if
/// they nest too deep, or if that other one is in them.
pub(crate) fn count(
    value: &Value,
    into: Option<&Value>,
    charge: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    count_at(value, into, charge, 0)
}

fn count_at(
    value: &Value,
    into: Option<&Value>,
    charge: &dyn Fn() -> Result<(), Error>,
    depth: u32,
) -> Result<(), Error> {
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    let is_itself = into
        .and_then(|into| into.as_object())
        .is_some_and(|into| into.is_same_object(object));
    if is_itself || depth >= DEPTH_MAX {
        return Err(too_deep());
    }
    let is_own = object.downcast_ref::<Vec<Value>>().is_some()
        || object.downcast_ref::<Tuple>().is_some()
        || object.downcast_ref::<ValueMap>().is_some();
    if !is_own && into.is_none() {
        return Ok(());
    }
    if let Some(pairs) = object.try_iter_pairs() {
        for (_, item) in pairs {
            ok!(charge());
            ok!(count_at(&item, into, charge, depth + 1));
        }
    } else if let Some(items) = object.try_iter() {
        for item in items {
            ok!(charge());
            ok!(count_at(&item, into, charge, depth + 1));
        }
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(
        ErrorKind::OutOfFuel,
        "a value nests too deep, or has too much in it, to be written or compared",
    )
}
