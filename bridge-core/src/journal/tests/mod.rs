//! The journal from outside: what is appended is read, survives, and fits the image.

mod records;
mod scratch;
