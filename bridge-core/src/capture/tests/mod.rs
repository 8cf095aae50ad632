//! Tests of the machine: by hand for single rules, and by a seeded model of a server for all of them together.

mod book;
mod found;
mod rules;
mod server;
mod storm;
