//! The sink over real sockets, with curl as its client.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gantry_bench::control::{Manner, SinkProcess, Volume};

const SIZE: u64 = 250_000;
const CHUNK: u64 = 100_000;

struct Lab {
    dir: tempfile::TempDir,
    sink: SinkProcess,
}

impl Lab {
    async fn start(manner: Manner) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manner = Manner { chunk_size: CHUNK, md5: "0123456789abcdef".into(), ..manner };
        let sink =
            SinkProcess::start(Path::new(env!("CARGO_BIN_EXE_sink")), dir.path(), "sink", &manner).await.unwrap();
        Self { dir, sink }
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-q", "-sS", "--noproxy", "*", "-w", " %{http_code}", "--cacert"]).arg(&self.sink.certificate);
        curl.args(arguments).output().unwrap()
    }

    fn file(&self, length: u64) -> PathBuf {
        let file = self.dir.path().join(format!("file.{length}"));
        std::fs::write(&file, vec![7; usize::try_from(length).unwrap()]).unwrap();
        file
    }

    /// Sends a chunk of this length; the answer with its status behind it.
    fn send(&self, volume: &Volume, chunk: u64, length: u64, field: &str) -> String {
        let form = format!("{field}=@{}", self.file(length).display());
        let url = format!(
            "{}/api/v2/images/upload?zbs_volume_id={}&image_uuid={}&chunk_num={chunk}",
            self.sink.address.url, volume.zbs_volume_id, volume.image_uuid
        );
        let token = format!("x-smartx-token: {}", volume.token);
        String::from_utf8(self.curl(&["-F", &form, "-H", &token, &url]).stdout).unwrap()
    }
}

#[tokio::test]
async fn chunks_are_taken_in_any_order_and_counted() {
    let lab = Lab::start(Manner { verify: true, ..Manner::default() }).await;
    let volume = lab.sink.volume("x.iso", SIZE).await.unwrap();
    assert!(lab.send(&volume, 2, 50_000, "file").contains(r#""data":{"chunk_num":2,"to_upload":[0,1]},"ec":"EOK""#));
    assert!(lab.send(&volume, 0, CHUNK, "file").ends_with(" 200"));
    assert!(lab.send(&volume, 0, CHUNK, "file").contains(r#""to_upload":[1]"#));
    for (chunk, length, field) in [(1, CHUNK - 1, "file"), (1, CHUNK + 1, "file"), (1, CHUNK, "other")] {
        assert!(lab.send(&volume, chunk, length, field).ends_with(" 400"), "{chunk} {length} {field}");
    }
    assert!(lab.send(&volume, 3, CHUNK, "file").ends_with(" 404"));
    assert!(lab.send(&Volume { token: "no".into(), ..volume.clone() }, 1, CHUNK, "file").ends_with(" 401"));
    let token = format!("x-smartx-token: {}", volume.token);
    let list =
        || String::from_utf8(lab.curl(&["-H", &token, &format!("{}/api/v2/images", lab.sink.address.url)]).stdout);
    assert!(list().unwrap().contains(r#""md5":null"#));
    assert!(lab.send(&volume, 1, CHUNK, "file").contains(r#""to_upload":[]"#));
    assert!(list().unwrap().contains(r#""size":250000,"md5":"0123456789abcdef""#));
    let stats = lab.sink.stats().await.unwrap();
    assert_eq!((stats.chunks_ok, stats.chunks_dup, stats.chunks_bad), (3, 1, 3));
    assert_eq!(stats.dup_bytes, CHUNK);
    assert_eq!(stats.bytes, SIZE + stats.dup_bytes + stats.lost_bytes);
    assert_eq!((stats.in_flight, stats.max_in_flight), (0, 1));
    let digests = lab.sink.digests().await.unwrap();
    assert!(digests.len() == 3 && digests.iter().flatten().all(|digest| digest.len() == 64), "{digests:?}");
    assert_eq!(digests[0], digests[1]);
    lab.sink.reset().await.unwrap();
    assert_eq!(lab.sink.stats().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_serial_sink_refuses_the_second_chunk_and_a_late_one_is_late() {
    let lab = Lab::start(Manner { serial: true, latency_ms: 400, ..Manner::default() }).await;
    let volume = lab.sink.volume("x.iso", SIZE).await.unwrap();
    let both = std::thread::scope(|scope| {
        let begin = std::time::Instant::now();
        let send = |chunk| {
            scope.spawn({
                let (lab, volume) = (&lab, &volume);
                move || lab.send(volume, chunk, CHUNK, "file")
            })
        };
        let both = [send(0), send(1)].map(|thread| thread.join().unwrap());
        assert!(begin.elapsed().as_millis() >= 400);
        both
    });
    let ends = |end: &str| both.iter().filter(|answer| answer.ends_with(end)).count();
    assert_eq!((ends(" 200"), ends(" 409")), (1, 1), "{both:?}");
    let stats = lab.sink.stats().await.unwrap();
    assert_eq!((stats.chunks_ok, stats.chunks_refused, stats.max_in_flight), (1, 1, 1));
    assert!(stats.lost_bytes >= CHUNK && stats.suites.values().sum::<u64>() == stats.connections);
}
