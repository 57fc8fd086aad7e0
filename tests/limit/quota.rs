//! Quotas: windows of the calendar, and what survives the process.

use std::time::SystemTime;

use nix::sys::signal::Signal;

use super::{admitted, refused};
use crate::harness::{Gateway, eventually, seconds};

/// A quota of five a month: no test meets its end.
fn monthly() -> Gateway {
    Gateway::with(
        "[limit.plan]\nkey = \"client_ip\"\nalgorithm = \"quota\"\nquota = 5\nwindow = \"month\"\nutc_offset = \"+08:00\"\n\
         [[route]]\nid = \"r\"\npath = \"/\"\nlimits = [\"plan\"]\nrespond = { text = \"in\" }\n",
    )
    .own_program()
    .start()
}

/// The file, once what was counted until now is in it.
fn on_disk(gateway: &Gateway) -> std::path::PathBuf {
    let (file, now) = (gateway.dir().join("run/quotas"), SystemTime::now());
    eventually(seconds(10), "it is on disk", || {
        let written = std::fs::metadata(&file).and_then(|facts| facts.modified());
        written.is_ok_and(|written| written > now)
    });
    file
}

#[test]
fn a_quota_tells_what_is_left_and_when_it_comes_back() {
    let gateway = monthly();
    let client = gateway.client();
    for left in [4, 3, 2, 1, 0] {
        let answer = client.get("/").send().expect(200);
        assert_eq!(answer.number("x-ratelimit-limit"), 5);
        assert_eq!(answer.number("x-ratelimit-remaining"), left);
        assert!(answer.number("x-ratelimit-reset") <= 31 * 86_400);
    }
    let over = client.get("/").send();
    let reset = over.number("x-ratelimit-reset");
    assert!(refused(over).abs_diff(reset) <= 1);
    assert_eq!(admitted(&client.from(2), 9), 5);
}

#[test]
fn a_quota_survives_a_crash() {
    let gateway = monthly();
    assert_eq!(admitted(&gateway.client(), 3), 3);
    on_disk(&gateway);
    gateway.restart(Signal::SIGKILL);
    assert_eq!(admitted(&gateway.client(), 9), 2);
}

#[test]
fn a_quota_survives_a_stop_and_a_reload() {
    let gateway = monthly();
    assert_eq!(admitted(&gateway.client(), 2), 2);
    gateway.reload_ok();
    assert_eq!(admitted(&gateway.client(), 1), 1);
    gateway.restart(Signal::SIGTERM);
    assert_eq!(admitted(&gateway.client(), 9), 2);
}

#[test]
fn a_quota_goes_on_in_the_process_that_takes_over() {
    let gateway = monthly();
    assert_eq!(admitted(&gateway.client(), 3), 3);
    gateway.upgrade().expect(0);
    assert_eq!(admitted(&gateway.client(), 9), 2);
}

#[test]
fn a_damaged_file_costs_its_counts_and_nothing_else() {
    let gateway = monthly();
    assert_eq!(admitted(&gateway.client(), 5), 5);
    let file = on_disk(&gateway);
    gateway.signal(Signal::SIGKILL);
    gateway.wait_exit(seconds(10));
    let mut bytes = std::fs::read(&file).unwrap();
    // What stands around the counts is as long in front as behind.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    gateway.start_again();
    gateway.wait_for_log(|line| {
        let text = line["msg"].as_str().unwrap_or_default();
        text.contains("quotas begin anew: damaged")
    });
    assert_eq!(admitted(&gateway.client(), 9), 5);
}
