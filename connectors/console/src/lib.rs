//! The console sink: records for people and for pipes.
