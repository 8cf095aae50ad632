// zkbridge: the counter of the processor is never used. It saves some nanoseconds for each measurement, and would be
// calibrated for up to 200 ms of processor time at the start of each process.
pub fn has_counter_support() -> bool {
    false
}
