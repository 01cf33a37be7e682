//! Every input of the fuzz targets' corpus, on stable: what once was a finding stays none.

use std::{
    fs, panic,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use targets::TARGETS;

/// No input takes so long, with some room for a busy machine and an unoptimised build.
const LIMIT: Duration = Duration::from_secs(10);
/// The corpus stays small, bytes.
const CORPUS_MAX: u64 = 1 << 20;

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let dir = place().join("corpus").join(target);
    let found = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut found: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Runs every input. A panic in a task or on a thread that nobody waits for is a finding, too: this counts them.
fn replay(target: &str) {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let shown = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        shown(info);
    }));
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "the target {target} has no corpus");
    for path in inputs {
        let (input, begin, before) = (fs::read(&path).unwrap(), Instant::now(), PANICS.load(Ordering::Relaxed));
        let outcome = panic::catch_unwind(|| targets::run(target, &input));
        let panics = PANICS.load(Ordering::Relaxed) - before;
        assert!(outcome.is_ok() && panics == 0, "{}: {panics} panics, see above", path.display());
        let took = begin.elapsed();
        assert!(took < LIMIT, "{} takes {took:?}", path.display());
    }
}

/// Writes the seeds anew, after a change of an encoder: `cargo test --workspace -- --ignored write_the_seeds`.
#[test]
#[ignore = "it writes into the sources"]
fn write_the_seeds() {
    for (target, name, input) in targets::seeds::seeds() {
        let dir = place().join("corpus").join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), input).unwrap();
    }
}

macro_rules! replays {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_has_a_binary_a_replay_and_a_small_corpus() {
            let replayed = [$(stringify!($target)),*];
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, replayed);
            let manifest = fs::read_to_string(place().join("Cargo.toml")).unwrap();
            for name in &names {
                assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} has no binary");
            }
            let corpora = fs::read_dir(place().join("corpus")).unwrap();
            let mut corpora: Vec<String> =
                corpora.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            corpora.sort();
            let mut sorted = names.clone();
            sorted.sort_unstable();
            assert_eq!(corpora, sorted, "a corpus without target, or a target without corpus");
            let bytes: u64 =
                names.iter().flat_map(|name| inputs(name)).map(|path| fs::metadata(path).unwrap().len()).sum();
            assert!(bytes < CORPUS_MAX, "{bytes} bytes of corpus");
        }
    };
}

replays!(order, event, session, workbook, fisheye, cloudtower, journal, texts, iso);

#[test]
fn the_seeds_of_orders_are_carried_out_and_not_refused_at_the_gate() {
    for (name, least) in [("start", 1), ("cancel", 2), ("pause", 3), ("tune", 2), ("retry", 2), ("take-over", 1)] {
        let input = fs::read(place().join("corpus/order").join(format!("seed-{name}"))).unwrap();
        let taken = targets::orders_carried_out(&input);
        assert!(taken >= least, "{name}: only {taken} orders are carried out");
    }
}
