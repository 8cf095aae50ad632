//! The typed configuration of zkbridge: its schema, defaults, validation and errors.
