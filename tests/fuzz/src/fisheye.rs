//! What a cluster answers, through the real client over loopback: envelopes, lists and their pages, chunks, jobs, logins.
//! The first byte chooses the call.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use gantry_agent::{
    Settings,
    fisheye::{
        ChunkAddress, ChunkOutcome, Client, Error, JobEnd, JobWatch, Patience, Volume, Wire, WireError, same_image_name,
    },
    upload::Chunks,
};
use gantry_proto::{Redactor, error::causes};
use serde_json::json;
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    input::choice,
    server::{Script, during},
    stage::{plan, secrets, wait},
};

/// Calls that can be chosen.
const CALLS: usize = 18;
/// Where a client logs in.
const SESSIONS: &str = "/api/v3/sessions";
/// Bytes of the image of which a volume is a plan.
const SIZE: u64 = 64 << 20;

static LISTENER: LazyLock<(TcpListener, Settings)> = LazyLock::new(|| {
    // The CloudTower of the plan is never asked: the cluster is the next address.
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut settings = Settings::default();
    settings.fisheye.scheme = "http".to_owned();
    settings.fisheye.port = listener.local_addr().unwrap().port();
    settings.fisheye.max_response_bytes = 1 << 20;
    settings.timing.time_scale = 1_000_000.0;
    settings.timing.read_attempts = 2;
    (TcpListener::from_std(listener).unwrap(), settings)
});

pub(crate) fn run(input: &[u8]) {
    let (chosen, rest) = choice(input);
    let chosen = chosen % CALLS;
    wait(async {
        let (listener, settings) = &*LISTENER;
        let client = Client::new(&plan(), &secrets(), settings, &Redactor::new());
        let login = (chosen > 1).then_some((SESSIONS, r#"{"token": "a-token-that-is-long"}"#));
        let outcome = during(listener, None, Script::new(rest, login), call(&client, chosen)).await;
        client.clock_skew();
        if let Err(error) = outcome {
            let story = causes(&error).join(": ");
            assert!(!story.is_empty() && !story.contains("a-token-that-is-long"));
            let _either = (error.is_transient(), error.is_gone(), error.kind.refusal().is_some());
        }
    });
}

async fn call(client: &Client, chosen: usize) -> Result<(), Error> {
    match chosen {
        0 => client.login().await?,
        1 => {
            client.login().await?;
            client.logout().await?;
        }
        2 => {
            let images = client.images().await?;
            images.iter().for_each(|image| assert!(same_image_name(&image.name, &image.name)));
        }
        3 => planned(&client.create_volume("an image", SIZE).await?),
        4 => chunk(client).await?,
        5 => client.delete_image("an-image").await?,
        6 => drop(client.policies().await?),
        7 => drop(client.switches().await?),
        8 => drop(client.vlans("a-switch").await?),
        9 => drop(client.hosts().await?),
        10 => drop(client.vms().await?),
        11 => {
            if let Some(vm) = client.vm("a-vm").await? {
                let _either = (vm.is_running(), vm.agent_runs());
            }
        }
        12 => drop(client.vm_as_told("a-vm").await?),
        13 => {
            let job = client.job("a-job").await?;
            let _either = (job.failure.is_permanent(), job.failure.to_string());
        }
        14 => drop(client.volumes().await?),
        15 => drop(client.create_vm(&json!({"vm_name": "x"})).await?),
        16 => drop(client.delete_vm("a-vm").await?),
        _ => {
            let mut watch = JobWatch::new("a-job", 2);
            for _ in 0..4 {
                if !matches!(watch.look(client).await?, (JobEnd::Running, _)) {
                    break;
                }
                watch.word();
            }
        }
    }
    Ok(())
}

/// What a volume asks for, sent to the end.
fn planned(volume: &Volume) {
    let chunk_size = volume.chunk_size.unwrap_or(8 << 20);
    // Smaller chunks only make it slow.
    if SIZE.div_ceil(chunk_size.max(1)) > 1_000 {
        return;
    }
    let Ok(mut chunks) = Chunks::new(SIZE, chunk_size, volume.to_upload.as_deref(), BTreeSet::new(), 2) else { return };
    let mut sent = 0;
    while let Some(index) = chunks.take_next() {
        assert!(index < chunks.count() && chunks.len_of(index) > 0 && chunks.offset_of(index) < SIZE);
        chunks.acknowledge(index, volume.to_upload.clone());
        sent += 1;
        assert!(sent <= 4 * chunks.count(), "chunks are sent for ever");
    }
    assert!(chunks.done_bytes() <= SIZE);
}

async fn chunk(client: &Client) -> Result<(), Error> {
    let at = ChunkAddress { zbs_volume_id: "a-volume", image_uuid: "an-image", chunk_num: 3 };
    // The server takes one connection at a time.
    client.login().await?;
    let line = client.chunk_line().await?;
    let endpoint = line.endpoint.clone();
    let request = client.chunk_request(&endpoint, at, (5, "an image.iso"), None).await?;
    let (head, tail) = (request.head.clone(), request.tail.clone());
    let answer = spawn_blocking(move || {
        let limit = Duration::from_secs(10);
        let mut patience = Patience::new(CancellationToken::new(), limit, 0);
        let mut wire = Wire::open(line, limit, &mut patience)?;
        for part in [&head[..], b"chunk", &tail] {
            wire.send(part, &mut patience)?;
        }
        let (answer, _) = wire.answer(1 << 20, &mut patience)?;
        assert!(answer.body.len() <= 1 << 20);
        let _again = wire.has_news();
        Ok::<_, WireError>(answer)
    });
    let span = client.chunk_span(&endpoint, 1);
    match client.chunk_outcome(at, request, answer.await.unwrap(), (&span, Duration::ZERO)) {
        ChunkOutcome::Acknowledged(ack) => assert_eq!(ack.chunk_num, Some(3)),
        ChunkOutcome::LoggedOut(stale) => {
            client.chunk_request(&endpoint, at, (5, "an image.iso"), Some(&stale)).await?;
        }
        ChunkOutcome::Failed(error) => return Err(error),
    }
    Ok(())
}
