//! What must hold for the project as a whole: which crate may know which, what every sink crate looks like, what every
//! source file begins with, and that the documents say what is true.
//!
//! Each rule is a function from an input to complaints. One test holds it against the project, another against an
//! input that breaks it, so that no rule stands here that cannot fail.

mod commands;
mod dependencies;
mod documents;
mod examples;
mod markdown;
mod project;
mod sinks;
mod sources;
