//! Where the fuzzer begins: small inputs that mean something, made by the project's own encoders. What is added to the
//! corpus by hand (inputs that once were findings) is not made here.

use std::fs;

use gantry_agent::journal::{
    CancelRecord, Carried, Chunk, ChunkRecord, FILE_NAME, Journal, SealedText, StartRecord, hex,
};
use gantry_proto::{
    Body, Choice, Event, Failure, JobOutcome, Leftover, Level, StepInfo, TakenOver, UndoState,
    audit::{self, Entry, Record},
    event::{Extra, IntentResult},
    v1::{self, open_request::Item as Up, open_response::Item as Down, order::Kind},
};
use gantry_sim::{
    iso::Iso,
    workbook::{Hostile, Saving},
};
use jiff::Timestamp;
use prost::Message;
use serde_json::json;

use super::{input::SEPARATOR, session, stage, workbook};

/// The last number that there is: no event can follow on it.
const LAST_SEQ: &str = "\"last_seq\":18446744073709551615";

/// An input: its target, its name, and what it holds.
pub type Seed = (&'static str, String, Vec<u8>);

/// All of them.
pub fn seeds() -> Vec<Seed> {
    let all = [orders(), events(), sessions(), workbooks(), fisheye(), cloudtower(), journals(), texts(), isos()];
    all.into_iter().flatten().collect()
}

fn seed(target: &'static str, name: &str, input: impl Into<Vec<u8>>) -> Seed {
    (target, format!("seed-{name}"), input.into())
}

fn framed<M: Message>(messages: &[M]) -> Vec<u8> {
    messages.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn at() -> Timestamp {
    Timestamp::from_microsecond(1_760_000_000_123_456).unwrap()
}

/// A chosen byte, and parts.
fn chosen(choice: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[choice][..], &parts.join(&SEPARATOR)].concat()
}

fn plan() -> v1::PlanDocument {
    // Without its hash: the target gives it the right one, whatever becomes of the text.
    v1::PlanDocument { sha256: Vec::new(), ..stage::plan().to_document().unwrap() }
}

fn order(number: u64, epoch: u32, kind: Kind) -> v1::OpenResponse {
    let order = v1::Order { number, job_id: session::JOB.to_owned(), epoch, kind: Some(kind), ..Default::default() };
    v1::OpenResponse { item: Some(Down::Order(order)), ..Default::default() }
}

fn orders() -> Vec<Seed> {
    let sealed = || Some(v1::SealedSecrets { agent_id: "a1".to_owned(), ..Default::default() });
    let job = || session::JOB.to_owned();
    let (by, reason) = (|| "op".to_owned(), || "a reason".to_owned());
    let start = || {
        let start = v1::StartJob { plan: Some(plan()), secrets: sealed(), submitted_by: by(), keep_on_failure: false };
        order(1, 1, Kind::Start(start))
    };
    let say = |item| v1::OpenResponse { item: Some(item), ..Default::default() };
    let beat = |number| say(Down::Heartbeat(v1::Heartbeat { number }));
    let cancel = |number| order(number, 1, Kind::Cancel(v1::CancelOrder { by: by(), reason: reason() }));
    let pause = |number| order(number, 1, Kind::Pause(v1::PauseOrder { by: by(), reason: reason() }));
    let resume = |number| order(number, 1, Kind::Resume(v1::ResumeOrder { by: by() }));
    let tune = |number, in_flight| {
        let wishes = v1::TuneUploadOrder { by: by(), limit_bytes_per_s: Some(1 << 20), in_flight, paused: None };
        order(number, 1, Kind::TuneUpload(wishes))
    };
    let decide = |number, question, choice: &str| {
        let decide = v1::DecideOrder { question, choice: choice.to_owned(), by: by(), reason: reason() };
        order(number, 1, Kind::Decide(decide))
    };
    let retry = |kept: &[&str], undo_only| {
        let kept = kept.iter().map(|step| (*step).to_owned()).collect();
        order(7, 2, Kind::Retry(v1::RetryJob { by: by(), kept, undo_only, ..Default::default() }))
    };
    let surrender =
        |number| order(number, 1, Kind::Surrender(v1::SurrenderOrder { by: by(), to_agent: "a2".to_owned() }));
    let take_over = |epoch, undo_only| {
        let intent = v1::Intent {
            step: "made".to_owned(),
            id: 2,
            call: "create_vm".to_owned(),
            detail_json: json!({"name": "vm"}).to_string(),
        };
        let facts = [("ssh_user", json!("me")), ("vm", json!({"uuid": "u", "name": "vm", "job_id": "j"}))];
        let taken = v1::TakeOverJob {
            plan: Some(plan()),
            secrets: sealed(),
            submitted_by: by(),
            last_seq: 9,
            last_intent: 2,
            facts: facts.into_iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect(),
            open_intents: vec![intent],
            undo_only,
            from: Some(v1::TakenOver { from_agent: "a0".to_owned(), by: by(), confirmed: true }),
            ..Default::default()
        };
        order(8, epoch, Kind::TakeOver(taken))
    };
    let moved = v1::ReplayFrom { job_id: job(), moved: true, ..Default::default() };
    let welcome = say(Down::Welcome(v1::Welcome { protocol: 1, replay: vec![moved], ..Default::default() }));
    let ack = |seq| say(Down::Ack(v1::EventAck { job_id: job(), seq }));
    let goodbye = say(Down::Goodbye(v1::Goodbye { retry_after_ms: 5, reason: reason() }));
    // At the limits: an epoch that has none after it, a fact that can be read by itself but not inside of a journal's line.
    let at_last_epoch = [start(), beat(5), cancel(2), beat(20), retry(&[], false)].map(|mut response| {
        if let Some(Down::Order(order)) = &mut response.item {
            order.epoch = u32::MAX;
        }
        response
    });
    let mut deep = take_over(2, false);
    if let Some(Down::Order(v1::Order { kind: Some(Kind::TakeOver(taken)), .. })) = &mut deep.item {
        taken.facts.insert("license".to_owned(), format!("{}{}", "[".repeat(125), "]".repeat(125)));
    }
    vec![
        seed("order", "start", framed(&[start(), beat(5), ack(3), start(), goodbye])),
        seed("order", "cancel", framed(&[start(), beat(5), cancel(2), beat(20), cancel(3)])),
        seed("order", "pause", framed(&[start(), pause(2), resume(3), pause(4), beat(6), resume(5)])),
        seed("order", "tune", framed(&[start(), tune(2, Some(4)), beat(5), tune(3, None), cancel(4)])),
        seed("order", "decide", framed(&[start(), beat(6), decide(2, 6, "look-again"), beat(9), decide(3, 9, "undo")])),
        seed("order", "retry", framed(&[start(), beat(5), cancel(2), beat(20), retry(&["made"], false), beat(25)])),
        seed("order", "sweep", framed(&[start(), beat(5), cancel(2), beat(20), retry(&[], true), beat(25)])),
        seed("order", "surrender", framed(&[start(), beat(5), surrender(2), beat(9), welcome, take_over(3, false)])),
        seed("order", "take-over", framed(&[take_over(2, false), beat(15), cancel(3)])),
        seed("order", "take-over-undo", framed(&[take_over(2, true), beat(15)])),
        seed("order", "last-epoch", framed(&at_last_epoch)),
        seed("order", "deep-fact", framed(&[deep])),
        seed("order", "alone", start().encode_to_vec()),
    ]
}

fn bodies() -> Vec<Body> {
    let step = || "create-vm".into();
    let info = |id: &str| StepInfo { id: id.into(), title: id.to_owned(), weight: 30, attempts: 2 };
    let detail = || Extra::from_iter([("name".to_owned(), json!("名"))]);
    let failure = || Failure {
        code: "x".to_owned(),
        message: "it failed".to_owned(),
        causes: vec!["a".to_owned()],
        remedy: "do this".to_owned(),
        detail: detail(),
    };
    let word = || "op".to_owned();
    let choice = Choice { id: "look-again".to_owned(), text: "look again".to_owned() };
    let vm = json!({"uuid": "u", "name": "vm"});
    vec![
        Body::JobStarted {
            agent: "a1".parse().unwrap(),
            agent_version: "0.1.0".to_owned(),
            steps: vec![info("upload-iso"), info("create-vm")],
            kept: vec!["upload-iso".into()],
            taken_over: Some(TakenOver { from: "a0".parse().unwrap(), by: word(), confirmed: false }),
        },
        Body::StepStarted { step: step(), attempt: 1 },
        Body::Note { step: Some(step()), level: Level::Warning, code: word(), message: word(), extra: detail() },
        Body::Intent { step: step(), id: 1, call: "create_vm".to_owned(), detail: detail() },
        Body::IntentOutcome { step: step(), intent: 1, result: IntentResult::Unknown, detail: Extra::new() },
        Body::Fact { step: step(), key: "vm".to_owned(), value: Some(vm) },
        Body::Paused { by: word(), reason: word() },
        Body::Resumed { by: word() },
        Body::OperatorNeeded { step: step(), failure: failure(), choices: vec![choice] },
        Body::OperatorDecided { question: 9, choice: "look-again".to_owned(), by: word(), reason: word() },
        Body::StepFailed { step: step(), attempt: 1, failure: failure(), will_retry: false },
        Body::CancelAccepted { by: word(), reason: word() },
        Body::UndoStarted { step: step() },
        Body::UndoFinished { step: step(), failure: Some(failure()), removed: vec![word()] },
        Body::Fact { step: step(), key: "vm".to_owned(), value: None },
        Body::StepSucceeded { step: step(), elapsed_ms: 5 },
        Body::JobFinished {
            outcome: JobOutcome::Failed,
            undo: UndoState::RollbackIncomplete,
            failure: Some(failure()),
            leftovers: vec![Leftover { kind: "vm".to_owned(), id: "u".to_owned(), name: word(), remedy: word() }],
            result: json!({"deploy_cloudtower": {}}),
        },
    ]
}

fn log(bodies: Vec<Body>) -> Vec<v1::Event> {
    let event = |(body, seq)| v1::Event::from(&Event { seq, epoch: 1, at: at(), body });
    bodies.into_iter().zip(1..).map(event).collect()
}

fn batch(events: Vec<v1::Event>) -> v1::OpenRequest {
    up(Up::Events(v1::EventBatch { job_id: session::JOB.to_owned(), events }))
}

fn up(item: Up) -> v1::OpenRequest {
    v1::OpenRequest { item: Some(item), ..Default::default() }
}

fn sample(per_second: f64) -> v1::OpenRequest {
    up(Up::Sample(v1::Sample {
        job_id: session::JOB.to_owned(),
        step: "create-vm".to_owned(),
        at_micros: at().as_microsecond(),
        done: 3,
        total: 9,
        unit: "bytes".to_owned(),
        per_second,
        text: "uploading".to_owned(),
        extra_json: json!({"chunk": 3}).to_string(),
    }))
}

fn surrendered() -> Body {
    Body::Surrendered { by: "op".to_owned(), to: "a2".parse().unwrap() }
}

fn events() -> Vec<Seed> {
    let mut all = vec![
        seed("event", "log", framed(&[batch(log(bodies()))])),
        seed("event", "sample", framed(&[batch(log(bodies()[..2].to_vec())), sample(1.5)])),
        seed("event", "no-end-in-sight", framed(&[batch(log(bodies()[..2].to_vec())), sample(f64::MIN_POSITIVE)])),
        seed("event", "surrendered", framed(&[batch(log(vec![bodies()[0].clone(), surrendered()]))])),
    ];
    for (number, body) in (1..).zip(bodies()) {
        let event = Event { seq: 2, epoch: 1, at: at(), body };
        let first = Event { seq: 1, epoch: 1, at: at(), body: bodies()[0].clone() };
        let pair = [v1::Event::from(&first), v1::Event::from(&event)];
        all.push(seed("event", &format!("body-{number:02}"), framed(&[batch(pair.to_vec())])));
    }
    all
}

fn sessions() -> Vec<Seed> {
    let position = v1::JobPosition { job_id: session::JOB.to_owned(), epoch: 1, last_seq: 3, ..Default::default() };
    let iso = v1::IsoFile { name: "cloudtower-4.6.0.oe.x86_64.iso".to_owned(), size: 1 << 33, ..Default::default() };
    let hello = v1::Hello { jobs: vec![position], isos: vec![iso.clone()], ..session::hello() };
    let update = |stage: v1::OrderStage| {
        let (code, message) = ("busy".to_owned(), "not now".to_owned());
        up(Up::OrderUpdate(v1::OrderUpdate { number: 1, stage: stage.into(), code, message }))
    };
    let beat = up(Up::Heartbeat(v1::Heartbeat { number: 1 }));
    let isos = up(Up::Isos(v1::IsoList { isos: vec![iso] }));
    let whole = || batch(log(bodies()));
    let begin = || batch(log(bodies()[..2].to_vec()));
    let stages = [v1::OrderStage::Delivered, v1::OrderStage::Applied, v1::OrderStage::Done].map(update);
    let mut gap = log(bodies()[..4].to_vec());
    gap.remove(2);
    vec![
        seed("session", "hello", framed(&[up(Up::Hello(hello)), beat, isos])),
        seed("session", "log", framed(&[begin(), sample(1.5), whole()])),
        seed("session", "gap", framed(&[batch(gap)])),
        seed("session", "order", framed(&stages)),
        seed("session", "refused", framed(&[update(v1::OrderStage::Refused), begin()])),
        seed("session", "surrendered", framed(&[batch(log(vec![bodies()[0].clone(), surrendered()])), whole()])),
        seed("session", "two-hellos", framed(&[up(Up::Hello(session::hello())), up(Up::Hello(session::hello()))])),
    ]
}

fn workbooks() -> Vec<Seed> {
    let whole = |saving| [&[0][..], &workbook::base(saving)].concat();
    let mut all = vec![
        seed("workbook", "file", whole(Saving::Openpyxl)),
        seed("workbook", "saved", whole(Saving::Spreadsheet)),
        seed("workbook", "cut-off", [&[0][..], &Hostile::CutOff.bytes()].concat()),
        seed("workbook", "broken", [&[0][..], &Hostile::BrokenXml.bytes()].concat()),
        seed("workbook", "cells", b"\x01\x00\x00 127.0.0.1\n\x05\x00#12\n\x09\x00=A1\n\x0c\x00!#REF!\n\x11\x00-\n"),
        seed("workbook", "cells-saved", "\x02\x10\x00 名\n\x14\x00#1e300\n\x18\x01 VLAN 12\n\x20\x00 a\tb\n"),
    ];
    for (number, content) in workbook::small_parts() {
        let part = [format!("{number}\n").as_bytes(), &content].concat();
        all.push(seed("workbook", &format!("part-{number}"), chosen(3, &[&part])));
    }
    all
}

/// An answer: status 200 by its first byte.
fn ok(body: &serde_json::Value) -> Vec<u8> {
    [&[0][..], body.to_string().as_bytes()].concat()
}

/// An answer with another status, by its place in the table of the server.
fn refused(status: u8, body: &str) -> Vec<u8> {
    [&[status][..], body.as_bytes()].concat()
}

fn fisheye() -> Vec<Seed> {
    let data = |value: serde_json::Value| ok(&json!({"data": value, "ec": "EOK", "error": {}}));
    let image =
        json!({"uuid": "i", "name": "x.iso", "path": "/p", "size": "5", "md5": "AB", "time": 7, "vms_count": 0});
    let nics = json!([{"mac_address": "52:54", "ip_address": "192.0.2.20"}]);
    let guest = json!({"ga_state": "Running", "ga_version": 2, "os_version": "oe", "expired": false,
        "nics": [{"ip_addresses": ["192.0.2.20", {"ip_address": "192.0.2.21"}]}]});
    let vm = json!({"uuid": "u", "vm_name": "n", "description": "d", "status": "Running", "memory": 5,
        "node_ip": "10.0.0.1", "nics": nics, "disks": [{"volume_uuid": "v"}], "guest_info": guest});
    let job = |state: &str| {
        json!({"job": {"job_id": "j", "state": state, "resources": {"u": {"type": "VM", "uuid": "u", "vm_name": "n"}},
            "error_code": null, "task_list": [{"error_code": "HostAvailableMemoryFilter", "error_msg": "no"}]}})
    };
    let volume = json!({"image_uuid": "i", "zbs_volume_id": "z", "image_path": "/p", "chunk_size": 8_388_608,
        "to_upload": [0, 1, 2, "3", -1]});
    let host = json!({"name": "h", "management_ip": "10.0.0.1", "data_ip": "10.0.1.1",
        "memory": {"total": 10, "used": "4", "free": 5}, "cpu": {"num_cores": 8}});
    let entity = json!([{"uuid": "e", "name": "default", "ovsbr_name": "ovs", "vlan_id": "12", "type": 3}]);
    let answers: [(u8, &str, Vec<Vec<u8>>); 18] = [
        (0, "login", vec![ok(&json!({"token": "a-token"}))]),
        (1, "logout", vec![ok(&json!({"data": {"token": "a-token"}})), refused(4, "")]),
        (2, "images", vec![data(json!({"images": [image.clone()], "total_entities": 2})), data(json!([image]))]),
        (3, "volume", vec![data(json!({"result": {"data": [volume]}}))]),
        (4, "chunk", vec![data(json!({"chunk_num": 3, "to_upload": [4, 5]}))]),
        (5, "delete-image", vec![refused(9, r#"{"ec": "IMAGE_NOT_FOUND", "error": {"msg": "gone"}}"#)]),
        (6, "policies", vec![data(json!({"entities": entity.clone()}))]),
        (7, "switches", vec![data(entity.clone())]),
        (8, "vlans", vec![data(json!({"list": entity}))]),
        (9, "hosts", vec![data(json!([host]))]),
        (10, "vms", vec![data(json!({"vms": [vm.clone()], "total_entities": "3"})), data(json!([vm.clone()]))]),
        (11, "vm", vec![data(vm.clone())]),
        (12, "vm-as-told", vec![data(vm)]),
        (13, "job", vec![data(job("failed"))]),
        (14, "volumes", vec![data(json!([{"volume_uuid": "v", "name": "n", "mounting_vm_list": [1, 2]}]))]),
        (15, "create-vm", vec![data(json!({"job_id": "j", "vm": {"uuid": "u"}}))]),
        (16, "delete-vm", vec![refused(6, r#"{"ec": "REST_FORM_ERROR", "error": {"detail": {"a": ["b"]}}}"#)]),
        (17, "watch", vec![data(job("pending")), refused(13, "<html>"), data(job("done"))]),
    ];
    let mut all: Vec<Seed> = Vec::new();
    for (choice, name, parts) in answers {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        all.push(seed("fisheye", name, chosen(choice, &parts)));
    }
    let late = b"\x00@Tue, 03 Mar 2026 08:00:00 GMT\n{\"data\": null, \"ec\": \"EOK\"}";
    all.push(seed("fisheye", "date", chosen(9, &[late])));
    let unauthorized = refused(7, r#"{"code": 16, "message": "no", "details": []}"#);
    all.push(seed("fisheye", "unauthorized", chosen(0, &[&unauthorized])));
    all.push(seed("fisheye", "expired", chosen(11, &[&unauthorized, &unauthorized])));
    all
}

fn cloudtower() -> Vec<Seed> {
    let data = |value: serde_json::Value| ok(&json!({ "data": value }));
    let named = json!([{"id": "o", "name": "Example Org"}]);
    let license = json!({"license_serial": "s", "type": "TRIAL", "max_vm_num": 5, "expire_date": null});
    let change = json!([{"task_id": "t", "data": {"id": "u"}}]);
    let answers: [(u8, &str, Vec<u8>); 13] = [
        (0, "login", ok(&json!([{"data": {"token": "a-token"}}]))),
        (1, "setup", data(json!({"organizations": named, "userCreated": {"created": true}}))),
        (2, "user-plain", data(json!({"createUser": {"id": "u"}}))),
        (3, "user-encoded", data(json!({"createUser": [{"id": "u"}]}))),
        (4, "user-rest", ok(&change)),
        (5, "organization", data(json!({"createOrganization": {"id": "o"}}))),
        (6, "set-ntp", data(json!({"updateCloudTowerNtpUrl": {"ntp_service_url": "192.0.2.2;b"}}))),
        (7, "license", data(json!({"deploys": [{"id": "d", "license": license}]}))),
        (8, "user-id", ok(&json!([{"id": "u"}]))),
        (9, "password", ok(&change)),
        (10, "organizations", ok(&named)),
        (11, "ntp", ok(&json!({"ntp_service_url": "192.0.2.2,ntp.example.net"}))),
        (12, "task", ok(&json!([{"status": "FAILED", "error_code": "E", "error_message": "why"}]))),
    ];
    let mut all: Vec<Seed> =
        answers.iter().map(|(choice, name, part)| seed("cloudtower", name, chosen(*choice, &[part]))).collect();
    let errors = ok(&json!({"data": null, "errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}));
    all.push(seed("cloudtower", "errors", chosen(7, &[&errors, &errors])));
    let unauthorized = refused(7, r#"{"code": "Unauthorized", "message": "expired"}"#);
    all.push(seed("cloudtower", "expired", chosen(12, &[&unauthorized])));
    all.push(seed("cloudtower", "html", chosen(1, &[&refused(14, "<html>Bad gateway</html>")])));
    all
}

fn journals() -> Vec<Seed> {
    let place = stage::dir();
    let dir = stage::fresh(&place);
    let (journal, _) = Journal::open(&dir).unwrap();
    let document = stage::plan().to_document().unwrap();
    let start = |epoch, carried| StartRecord {
        order: 1,
        epoch,
        at: at(),
        schema: document.schema.clone(),
        plan: String::from_utf8(document.json.clone()).unwrap(),
        sha256: hex(&document.sha256),
        sealed: SealedText::default(),
        keep_on_failure: false,
        submitted_by: "op".to_owned(),
        trace: Default::default(),
        kept: vec!["upload-iso".into()],
        undo_only: false,
        carried,
    };
    journal.start(start(1, None)).unwrap();
    for body in bodies() {
        journal.event(body).unwrap();
    }
    let chunk = Chunk { chunk_num: 3, sha256: "ab".to_owned(), size: 8 };
    journal.chunk(ChunkRecord { image_uuid: "i".to_owned(), chunk }).unwrap();
    journal.cancel(CancelRecord { order: 2, epoch: 1, by: "op".to_owned(), reason: String::new() }).unwrap();
    journal.acked(5).unwrap();
    journal.moved().unwrap();
    journal.start(start(2, None)).unwrap();
    journal.close().unwrap();
    let file = fs::read(dir.join(FILE_NAME)).unwrap();

    let dir = stage::fresh(&place);
    let (journal, _) = Journal::open(&dir).unwrap();
    let from = TakenOver { from: "a0".parse().unwrap(), by: "op".to_owned(), confirmed: true };
    let facts = [("ssh_user".to_owned(), json!("me"))].into();
    let carried = Carried { from, last_seq: 9, last_intent: 2, facts, open_intents: Default::default() };
    journal.start(start(3, Some(Box::new(carried)))).unwrap();
    journal.event(surrendered()).unwrap();
    journal.close().unwrap();
    let moved = fs::read(dir.join(FILE_NAME)).unwrap();

    // The same without checksums.
    let records = |file: &[u8]| -> Vec<u8> {
        let lines = file.split_inclusive(|byte| *byte == b'\n');
        [1].into_iter().chain(lines.flat_map(|line| line[9..].iter().copied())).collect()
    };
    let last = |records: Vec<u8>| String::from_utf8(records).unwrap().replace("\"last_seq\":9", LAST_SEQ).into_bytes();
    vec![
        seed("journal", "last-number", last(records(&moved))),
        seed("journal", "file", [&[0][..], &file].concat()),
        seed("journal", "torn", [&[0][..], &file[..file.len() - 3]].concat()),
        seed("journal", "records", records(&file)),
        seed("journal", "moved", records(&moved)),
    ]
}

fn texts() -> Vec<Seed> {
    let log = b"\x1b[32mcheckDiskSpace ok\x1b[0m\ncheckVmSpec: fail\n 50%\r100%\r\nInstall Operation Center Success";
    let mut head = audit::Head::NONE;
    let mut export = String::new();
    for (act, outcome) in [(audit::BEGIN, audit::Outcome::Done), ("job.cancel", audit::Outcome::Asked)] {
        let entry = Entry { act: act.to_owned(), outcome, operator: "op".to_owned(), ..Entry::default() };
        let record = Record::after(head, at(), entry);
        head = record.head();
        export += &(record.line() + "\n");
    }
    let join = json!({"controller": "https://c:7443", "server_name": "c", "ca_pem": "CA", "cert_pem": "CERT",
        "key_pem": "PRIVATE-KEY", "agent": "a1", "site": "s1"});
    let profile = "controller = \"https://c:7443\"\nserver_name = \"c\"\nca_pem_file = \"ca.pem\"\n\
        cert_pem_file = \"cert.pem\"\nkey_pem_file = \"key.pem\"\n";
    let settings = "data_dir = \"/d\"\n[timing]\ntime_scale = 60.0\n[link]\nbatch_events = 5\n";
    let config = "data = \"/d\"\nlisten = \"0.0.0.0:7443\"\n[limits]\nplanning = 2\n[plan]\nvm_name = \"x\"\n";
    let shown = json!({"password": "s3cr3t-pass", "text": "it is s3cr3t-pass"}).to_string();
    vec![
        seed("texts", "installer", chosen(0, &[log, b"fully\n"])),
        seed("texts", "status", b"\x01pid=12\nalive=1\nrc=7\ninstaller.out=55 7\nnohup.out=oops\n"),
        seed("texts", "resolver", b"\x02# x\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch a;b,c\n"),
        seed("texts", "audit", format!("\x03{head}\n{export}")),
        seed("texts", "join", format!("\x04{join}")),
        seed("texts", "profile", format!("\x04{profile}")),
        seed("texts", "agent", format!("\x05{settings}")),
        seed("texts", "controller", format!("\x05{config}")),
        seed("texts", "redactor", chosen(6, &[b"s3cr3t-pass", b"a s3cr3t-pass b", shown.as_bytes()])),
        seed("texts", "iso-name", b"\x07cloudtower-4.6.0.oe2003.x86_64.iso"),
        seed("texts", "job-id", format!("\x07{}", session::JOB)),
        seed("texts", "trace", b"\x0700-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
}

fn isos() -> Vec<Seed> {
    let image = |iso: Iso| {
        let bytes = iso.bytes().unwrap();
        // Descriptors, tables and directories; the filling behind them says nothing.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[(32 << 10).min(end)..end.min(60 << 10)].to_vec()
    };
    vec![
        seed("iso", "rock-ridge", image(Iso::new(64 << 10))),
        seed("iso", "joliet", image(Iso::new(64 << 10).joliet(true).rock_ridge(false))),
        seed("iso", "plain", image(Iso::new(64 << 10).tools(false).rock_ridge(false))),
    ]
}
