//! Tests of the machine, rule by rule. All rules together are tested by the simulator, `tests/simulator`.

mod book;
mod canary;
mod found;
mod lists;
mod positions;
mod rules;
