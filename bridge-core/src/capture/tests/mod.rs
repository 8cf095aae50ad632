//! Tests of the machine, rule by rule. All rules together are tested by the simulator, `tests/simulator`.

mod canary;
mod found;
mod lineage;
mod lists;
mod modes;
mod reported;
mod rolled_back;
mod rules;
mod settle_by_read;
mod unreadable;
mod walks;
