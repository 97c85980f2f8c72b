//! `kill -9` while a store commits without fsync: what of the confirmed commits is there afterwards?

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::engines;
use crate::workload::Batch;

const ROUNDS: u64 = 6;
const ROWS: u64 = 200;

/// Commits 1, 2, 3, … and prints each number after its commit.
pub fn write_forever(name: &str, path: &Path) {
    let store = engines::open(name, path, false);
    for number in 1u64.. {
        store.commit(&batch(number));
        let mut out = std::io::stdout();
        writeln!(out, "{number}").and_then(|()| out.flush()).expect("stdout");
    }
}

/// Every commit adds its own rows, so that a torn commit shows.
fn batch(number: u64) -> Batch {
    let row = |index: u64| (0, key(number, index), vec![1; 100]);
    Batch { puts: (0..ROWS).map(row).collect() }
}

fn key(number: u64, index: u64) -> Vec<u8> {
    [number.to_be_bytes(), index.to_be_bytes()].concat()
}

/// "all kept", "N of M lost" or "torn".
pub fn outcome(name: &str) -> String {
    let (mut lost, mut confirmed_total) = (0, 0);
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let confirmed = kill_a_writer(name, directory.path(), Duration::from_millis(150 + 90 * round));
        let store = engines::open(name, directory.path(), false);
        let mut torn = false;
        let mut kept = 0;
        store.read(&mut |get| {
            for number in 1..=confirmed + 1 {
                let rows = (0..ROWS).filter(|index| get(0, &key(number, *index))).count() as u64;
                torn |= rows != 0 && rows != ROWS;
                kept += u64::from(rows == ROWS && number <= confirmed);
            }
        });
        if torn {
            return "torn".into();
        }
        lost += confirmed - kept;
        confirmed_total += confirmed;
    }
    match lost {
        0 => format!("all {confirmed_total} kept"),
        lost => format!("{lost} of {confirmed_total} lost"),
    }
}

fn kill_a_writer(name: &str, path: &Path, after: Duration) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["kill-writer", name])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).last());
    std::thread::sleep(after);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let last = reader.join().expect("the reader");
    last.and_then(|line| line.parse().ok()).unwrap_or(0)
}
