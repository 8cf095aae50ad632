//! Figures of the kernel: the processor time of processes and of the whole machine, and the memory of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `/proc` counts in hundredths of a second on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that a process has used so far, in user and kernel mode, over all its threads.
///
/// # Errors
///
/// If there is no such process.
pub fn used(process: u32) -> Result<Duration> {
    let file = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    // The name of the program is in parentheses and may contain anything.
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| {
        let value = behind_name.split_whitespace().nth(field);
        value.and_then(|value| value.parse::<u32>().ok())
    };
    let (user, system) = (ticks(11), ticks(12));
    let (user, system) = user
        .zip(system)
        .with_context(|| format!("{file} tells no processor time"))?;
    Ok(TICK * (user + system))
}

/// The processor time that the machine's cores have used so far, including time stolen by a hypervisor.
///
/// # Errors
///
/// If the kernel does not report it.
pub fn used_by_all() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(Duration::from_millis(busy * 10))
}

/// Peak resident memory, in bytes.
///
/// # Errors
///
/// If there is no such process.
pub fn peak_memory(process: u32) -> Result<u64> {
    memory(process, "VmHWM:")
}

/// Resident memory, in bytes.
///
/// # Errors
///
/// If there is no such process.
pub fn resident_memory(process: u32) -> Result<u64> {
    memory(process, "VmRSS:")
}

fn memory(process: u32, name: &str) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{file} has no {name}"))? << 10)
}

/// Bytes that a process has caused to be written to a disk so far.
///
/// # Errors
///
/// If there is no such process.
pub fn bytes_written(process: u32) -> Result<u64> {
    let file = format!("/proc/{process}/io");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    let bytes = line.and_then(|line| line.trim().parse().ok());
    bytes.with_context(|| format!("{file} tells no bytes written"))
}

/// The name of the processor.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split(':').nth(1));
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// The kernel's version.
pub fn kernel() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}
