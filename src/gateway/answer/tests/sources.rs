//! The sources themselves: who may queue bytes of an answer.

use std::path::Path;

#[test]
fn nobody_else_queues_bytes_of_an_answer() {
    const QUEUES: [&str; 5] = [
        "begin_answer(",
        "end_answer(",
        "queue_pieces(",
        "client.poll_send(",
        "poll_flush_last(",
    ];
    let gateway = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway");
    let allowed = [
        "answer/",
        "client/sending.rs",
        "http1/wire.rs",
        "http2/wire.rs",
        "memory.rs",
    ];
    let (mut folders, mut read) = (vec![gateway.clone()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            read += 1;
            let name = path.strip_prefix(&gateway).expect("a file of it");
            if allowed.iter().any(|allowed| name.starts_with(allowed)) {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            for word in QUEUES {
                assert!(!text.contains(word), "{} calls {word}", name.display());
            }
        }
    }
    assert!(read > 50, "the sources were not found");
}
