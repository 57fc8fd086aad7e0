//! The kernel's accounts of processors and CPU time, as it publishes them under `/proc` and `/sys/fs/cgroup`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::headroom::Processors;

/// Ticks a second in which `/proc` counts CPU time: part of the kernel's interface, the same on every Linux we build for.
const TICKS: u64 = 100;
const CGROUPS: &str = "/sys/fs/cgroup";

/// Reads a file; `None` when there is none.
type Read<'r> = &'r dyn Fn(&Path) -> Option<String>;

/// Reads the kernel's files.
pub(super) fn kernel(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What this process may run on: its affinity, and the quotas of its control group and those around it.
pub(super) fn usable(read: Read<'_>) -> Processors {
    let allowed = allowed(read).len().max(1);
    let quota = quotas(read).into_iter().fold(f64::INFINITY, f64::min);
    Processors {
        allowed,
        usable: quota.min(allowed as f64),
    }
}

/// Threads that keep the usable processors busy: one each, and half of one counts as one. At least one.
pub(super) fn threads(read: Read<'_>) -> usize {
    // What the standard library sees rounds a quota down; it counts where the kernel's files cannot be read.
    let seen = std::thread::available_parallelism().map_or(1, usize::from);
    threads_of(usable(read).usable, seen)
}

fn threads_of(usable: f64, seen: usize) -> usize {
    (usable.round() as usize).max(seen).max(1)
}

/// CPU time of one thread of this process.
pub(super) fn of_thread(thread: i32, read: Read<'_>) -> Duration {
    let task = PathBuf::from(format!("/proc/self/task/{thread}"));
    let exact = read(&task.join("schedstat")).and_then(|text| {
        let nanos = text.split(' ').next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    });
    exact
        .or_else(|| ticks_of(&read(&task.join("stat"))?))
        .unwrap_or_default()
}

/// CPU time of this process, threads that ended included.
pub(super) fn of_process(read: Read<'_>) -> Duration {
    read(Path::new("/proc/self/stat"))
        .and_then(|text| ticks_of(&text))
        .unwrap_or_default()
}

/// Idle time of the processors this process may run on, added up.
pub(super) fn idle(read: Read<'_>) -> Duration {
    let allowed = allowed(read);
    let text = read(Path::new("/proc/stat")).unwrap_or_default();
    let each = text.lines().filter_map(|line| {
        let mut fields = line.strip_prefix("cpu")?.split_whitespace();
        let processor = fields.next()?.parse().ok()?;
        // After user, nice and system: idle, and idle with somebody waiting for a disk.
        let counts: Vec<u64> = fields
            .skip(3)
            .take(2)
            .filter_map(|n| n.parse().ok())
            .collect();
        allowed
            .contains(&processor)
            .then(|| counts.iter().sum::<u64>())
    });
    ticks(each.sum())
}

/// User and system time of a `stat` line. The name in parentheses may hold anything, so it is read from behind that.
fn ticks_of(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some(ticks(user + system))
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS)
}

/// Numbers of the processors that the affinity allows.
fn allowed(read: Read<'_>) -> Vec<u32> {
    let status = read(Path::new("/proc/self/status")).unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default();
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Processors that each control group around this process allows it to keep busy, in either version of the interface.
fn quotas(read: Read<'_>) -> Vec<f64> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut quotas = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let root = match controllers {
            "" => PathBuf::from(CGROUPS),
            _ if controllers.split(',').any(|one| one == "cpu") => Path::new(CGROUPS).join("cpu"),
            _ => continue,
        };
        // In a container the path may be that of the host, where nothing is; the root then is the container's.
        let own = root.join(group.trim_start_matches('/'));
        let around = own.ancestors().take_while(|path| path.starts_with(&root));
        quotas.extend(around.filter_map(|path| quota(path, read)));
    }
    quotas
}

fn quota(group: &Path, read: Read<'_>) -> Option<f64> {
    let text = match read(&group.join("cpu.max")) {
        Some(text) => text,
        None => {
            let quota = read(&group.join("cpu.cfs_quota_us"))?;
            let period = read(&group.join("cpu.cfs_period_us"))?;
            format!("{} {}", quota.trim(), period.trim())
        }
    };
    // No quota reads "max" in one version and -1 in the other.
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<'f>(files: &'f [(&'f str, &'f str)]) -> impl Fn(&Path) -> Option<String> + 'f {
        move |path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        }
    }

    #[test]
    fn the_affinity_says_how_many() {
        let read = files(&[("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-2,8\n")]);
        assert_eq!(allowed(&read), [0, 1, 2, 8]);
        let on = usable(&read);
        assert_eq!((on.allowed, on.usable), (4, 4.0));
        assert_eq!(usable(&files(&[])).allowed, 1);
    }

    #[test]
    fn the_tightest_quota_counts_in_either_version() {
        let status = ("/proc/self/status", "Cpus_allowed_list:\t0-7\n");
        let two = [
            status,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
        ];
        assert_eq!(usable(&files(&two)).usable, 1.5);
        let one = [
            status,
            (
                "/proc/self/cgroup",
                "3:cpuset:/x\n2:cpu,cpuacct:/host/path\n",
            ),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(usable(&files(&one)).usable, 0.5);
        let none = [
            status,
            ("/proc/self/cgroup", "1:cpu:/\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(usable(&files(&none)).usable, 8.0);
    }

    #[test]
    fn half_a_processor_counts() {
        for (usable, seen, threads) in [
            (1.5, 1, 2),
            (1.4, 1, 1),
            (2.5, 2, 3),
            (0.2, 1, 1),
            (8.0, 8, 8),
            // The kernel's files say nothing.
            (1.0, 4, 4),
        ] {
            assert_eq!(threads_of(usable, seen), threads, "{usable} of {seen}");
        }
    }

    #[test]
    fn reads_the_time_of_a_thread_exactly_where_it_can() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 130 20 0 0 20 0 3 0 1 0 0";
        let coarse = [("/proc/self/task/7/stat", stat)];
        assert_eq!(of_thread(7, &files(&coarse)), Duration::from_millis(1500));
        let exact = [coarse[0], ("/proc/self/task/7/schedstat", "1234567 9 9\n")];
        assert_eq!(
            of_thread(7, &files(&exact)),
            Duration::from_nanos(1_234_567)
        );
        assert_eq!(of_thread(8, &files(&exact)), Duration::ZERO);
    }

    #[test]
    fn counts_idle_time_where_it_may_run() {
        let read = files(&[
            ("/proc/self/status", "Cpus_allowed_list:\t1\n"),
            (
                "/proc/stat",
                "cpu  9 9 9 999 9\ncpu0 1 1 1 500 7 1\ncpu1 1 1 1 300 20 1\nintr 1\n",
            ),
        ]);
        assert_eq!(idle(&read), Duration::from_millis(3200));
    }

    #[test]
    fn the_kernel_of_this_machine_is_understood() {
        let on = usable(&kernel);
        assert!(on.allowed >= 1 && on.usable > 0.0, "{on:?}");
        let begun = of_process(&kernel);
        let thread = nix::unistd::gettid().as_raw();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while of_process(&kernel) <= begun && std::time::Instant::now() < deadline {
            std::hint::black_box(idle(&kernel));
        }
        assert!(of_process(&kernel) > begun);
        assert!(of_thread(thread, &kernel) > Duration::ZERO);
    }
}
