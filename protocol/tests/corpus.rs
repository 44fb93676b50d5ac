//! Replays the fuzz targets' corpus: what `ci/fuzz` once found worth keeping, on every test run and
//! with the stable compiler.

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub)] // For the fuzz crate they are reachable.
mod targets;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        // Shown only if the target panics.
        println!("{}", file.display());
        run(&fs::read(&file).expect("readable"));
    }
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), targets::$target);
            }
        )*

        #[test]
        fn every_target_and_corpus_is_replayed() {
            let replayed = [$(stringify!($target)),*];
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            for (directory, suffix) in [("fuzz_targets", ".rs"), ("corpus", "")] {
                for entry in fs::read_dir(fuzz.join(directory)).expect("a directory") {
                    let name = entry.expect("a file").file_name();
                    let name = name.to_str().expect("a plain name");
                    let name = name.strip_suffix(suffix).expect("a plain name");
                    assert!(replayed.contains(&name), "nobody replays {directory}/{name}");
                }
            }
        }
    };
}

replay! { wire text frames secure compression acceptor connector flood pair cephx }
