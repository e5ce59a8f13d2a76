//! What a process has used up, as Linux tells it.

use serde::Serialize;

/// What `/proc/*/stat` counts time in, on every architecture that there are functions for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used up so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Readings {
    /// Seconds of a processor, in the process itself and in the system for it.
    pub cpu_seconds: f64,
    /// The most memory that it ever held, in bytes.
    pub peak_rss_bytes: u64,
}

/// What the running process has used up; `None` where the system does not tell.
pub(super) fn readings(id: u32) -> Option<Readings> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).ok();
    parse(&file("stat")?, &file("status")?)
}

fn parse(stat: &str, status: &str) -> Option<Readings> {
    // The name, in parentheses, may hold anything. After it come the state, and eleven fields on the times.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let cpu = ticks()? + ticks()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = peak.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(Readings {
        cpu_seconds: cpu as f64 / TICKS_PER_SECOND,
        peak_rss_bytes: kibibytes * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_read_whatever_the_process_is_called() {
        let stat =
            "71 (a) b (c) S 1 71 71 0 -1 4194560 1163 0 0 0 123 45 7 8 20 0 1 0 100 1000 200 18446744073709551615";
        let status = "Name:\ta\nVmPeak:\t  9000 kB\nVmHWM:\t    8192 kB\nVmRSS:\t    4096 kB\n";
        assert_eq!(
            parse(stat, status),
            Some(Readings {
                cpu_seconds: 1.68,
                peak_rss_bytes: 8 * 1024 * 1024
            })
        );
        // a process that has ended has no memory
        assert_eq!(parse(stat, "Name:\ta\n"), None);
    }
}
