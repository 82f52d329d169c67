//! `tessera-bench` runs every scenario in its smoke mode, so that it cannot rot.

use std::process::Command;
use std::time::Duration;

use crate::harness::{find_program, program_under_test, run_to_end, skip};

const SCENARIOS: [&str; 12] = [
    "throughput",
    "collections",
    "shards",
    "several",
    "several-shards",
    "memory",
    "growth",
    "snapshot",
    "recovery",
    "durability",
    "connections",
    "pubsub",
];

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn smoke_mode_measures_every_scenario() {
    let (Some(load), Some(redis)) = (find_program("redis-benchmark"), find_program("redis-server"))
    else {
        return skip("redis-benchmark or redis-server is not installed");
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [results, chart] = ["results.md", "chart.svg"].map(|name| dir.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera-bench-under-test"));
    command.arg("--smoke").arg("--tessera").arg(program_under_test());
    command.arg("--redis").arg(redis).arg("--redis-benchmark").arg(load);
    command.args(["--valkey", "none", "--dragonfly", "none", "--memtier", "none"]);
    command.arg("--results").arg(&results).arg("--chart").arg(&chart);
    let done = run_to_end(&mut command, LIMIT);
    assert!(done.success, "{}\n{}", done.stdout, done.stderr);
    let text = std::fs::read_to_string(results).expect("a results file");
    for scenario in SCENARIOS {
        assert!(text.contains(&format!("### {scenario}:")), "{scenario} is reported:\n{text}");
    }
    assert!(text.contains("GET 64 B P16 c50"), "{text}");
    assert!(text.contains("EVAL of 2 keys, two halves P16"), "{text}");
    let drawing = std::fs::read_to_string(chart).expect("a chart");
    assert_eq!(drawing.matches("<polyline").count(), 4, "two snapshots on two servers are drawn");
    assert!(drawing.starts_with("<svg") && drawing.trim_end().ends_with("</svg>"));
}
