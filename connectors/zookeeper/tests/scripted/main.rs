//! The source against servers that are scripts: what a real one does only when it likes, or never.

mod arming;
mod driver;
mod floods;
mod silence;
mod wire;
