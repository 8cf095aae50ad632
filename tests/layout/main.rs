//! Rules for the project as a whole: dependencies between crates, the files of a sink, names and words, the length and
//! header of a source file, and documents that agree with the program.
//!
//! Each rule is a function from an input to complaints. One test applies it to the project, another one to an input that
//! breaks it, so that every rule is known to fail where it should.

mod commands;
mod dependencies;
mod documents;
mod examples;
mod markdown;
mod names;
mod project;
mod sinks;
mod sources;
mod words;
