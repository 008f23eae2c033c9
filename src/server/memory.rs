//! How much memory this process uses, and how much it may: measured twice a second for admission.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::edge::Severity;
use crate::gateway::Gateway;

/// Between two measurements. What a node takes in the meantime is bounded by its other limits.
const EVERY: Duration = Duration::from_millis(500);
/// Alarm: calls are shed for want of memory.
const SHORT: &str = "MEMORY_SHORT";

/// Measures until the node stops. Where the system does not tell, nothing is shed.
pub(super) async fn watch(gateway: Arc<Gateway>) {
    let configured = gateway.config.listen.memory_ceiling_mib << 20;
    let ceiling = match configured {
        0 => limit(Path::new("/")),
        some => Some(some),
    };
    let Some(ceiling) = ceiling else {
        tracing::warn!("no limit of memory is known, so none is kept");
        return;
    };
    let (memory, alarms) = (&gateway.edge.memory, &gateway.edge.alarms);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some(used) = used(Path::new("/")) else {
            tracing::warn!("how much memory is used cannot be told, so no limit of it is kept");
            return;
        };
        memory.measured(used, ceiling);
        if memory.is_short() {
            let message = format!("{} MiB of {} are used", used >> 20, ceiling >> 20);
            let now = gateway.clock.now();
            alarms.raise(SHORT, "memory", Severity::Error, message, now);
        } else {
            alarms.keep_only(SHORT, &[]);
        }
    }
}

/// Bytes of memory that only this process uses: what the kernel cannot take back.
fn used(root: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(root.join("proc/self/status")).ok()?;
    kibibytes(&status, "RssAnon:")
}

/// The least of what the control group (version 2 or 1) and the machine allow.
fn limit(root: &Path) -> Option<u64> {
    let machine = std::fs::read_to_string(root.join("proc/meminfo")).ok();
    let machine = machine.and_then(|text| kibibytes(&text, "MemTotal:"));
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let set = limit_files(root, &groups).into_iter().filter_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        // "max" is no number, and no limit.
        text.trim().parse::<u64>().ok()
    });
    set.chain(machine).min()
}

/// Where limits may stand: in the groups of `/proc/self/cgroup`, and, as a container sees its own,
/// at the top.
fn limit_files(root: &Path, groups: &str) -> Vec<PathBuf> {
    let top = root.join("sys/fs/cgroup");
    let mut files = vec![
        top.join("memory.max"),
        top.join("memory/memory.limit_in_bytes"),
    ];
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(top.join(path).join("memory.max"));
        } else if controllers.split(',').any(|name| name == "memory") {
            let group = top.join("memory").join(path);
            files.push(group.join("memory.limit_in_bytes"));
        }
    }
    files
}

/// The number of kibibytes after `name`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix("kB")?.trim();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_least_limit_counts() {
        const TOTAL: (&str, &str) = ("proc/meminfo", "MemTotal:    2048 kB\nMemFree: 1 kB\n");
        let limit = |files: &[(&str, &str)]| limit(machine(files).path());
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[TOTAL]), Some(2 << 20));
        let two = ("proc/self/cgroup", "0::/renkei.service\n");
        let group = "sys/fs/cgroup/renkei.service/memory.max";
        assert_eq!(limit(&[TOTAL, two, (group, "max\n")]), Some(2 << 20));
        assert_eq!(limit(&[TOTAL, two, (group, "1048576\n")]), Some(1 << 20));
        let top = ("sys/fs/cgroup/memory.max", "4096\n");
        assert_eq!(limit(&[TOTAL, two, top]), Some(4096));
        let one = ("proc/self/cgroup", "4:cpu,memory:/a:b\n9:pids:/\n");
        let group = "sys/fs/cgroup/memory/a:b/memory.limit_in_bytes";
        assert_eq!(limit(&[TOTAL, one, (group, "8192\n")]), Some(8192));
        let none = (group, "9223372036854771712\n");
        assert_eq!(limit(&[TOTAL, one, none]), Some(2 << 20));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_and_may_use_more() {
        let root = Path::new("/");
        let before = used(root).unwrap();
        assert!(before > 100 << 10 && before < limit(root).unwrap());
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(used(root).unwrap() > before + (32 << 20));
        drop(held);
    }
}
