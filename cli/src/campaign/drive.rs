//! Carries a campaign out: asks the scheduler what is next, writes it down, then does it, and listens to the jobs at
//! work.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use gantry_proto::{Level, v1};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Campaign,
    place::Place,
    schedule::{self, Next, Stop},
    show::Show,
    site::{Carried, Told},
    state::{Ended, Stage, State},
};
use crate::{
    client::Client,
    exit::{Exit, Failure},
    follow::{Heard, Known},
    output::Output,
    render::{lines::Teller, words},
    workbook,
};

/// How often the mark of a pause is looked for, and a live picture drawn.
const TICK: Duration = Duration::from_millis(500);
/// What jobs have told and has not been taken in yet; then they wait.
const TOLD: usize = 256;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Over(Stop),
    /// By Ctrl-C: the jobs go on.
    Detached,
}

/// A run of a campaign.
pub(crate) struct Drive<'a> {
    client: &'a Client,
    place: &'a Place,
    /// What it is about.
    pub(crate) campaign: Campaign,
    on_failure: v1::OnFailure,
    /// What has been told of the jobs at work.
    tellers: BTreeMap<usize, Teller>,
    show: Show,
    carried: JoinSet<()>,
    say: mpsc::Sender<(usize, Told)>,
    told: mpsc::Receiver<(usize, Told)>,
}

impl<'a> Drive<'a> {
    /// Nothing is done yet.
    pub(crate) fn new(
        out: Output,
        client: &'a Client,
        place: &'a Place,
        state: State,
        on_failure: v1::OnFailure,
    ) -> Self {
        let (say, told) = mpsc::channel(TOLD);
        let campaign = Campaign { name: place.name(), state, known: BTreeMap::new(), paused: None };
        let (tellers, show, carried) = (BTreeMap::new(), Show::new(out), JoinSet::new());
        Self { client, place, campaign, on_failure, tellers, show, carried, say, told }
    }

    /// Until nothing more happens, or somebody says that it is enough. Whatever stops it, the state is on disk.
    pub(crate) async fn run(&mut self) -> Result<End, Failure> {
        let at_work: Vec<usize> = (0..self.campaign.state.sites.len())
            .filter(|index| self.campaign.state.sites[*index].stage == Stage::Running)
            .collect();
        at_work.into_iter().for_each(|index| self.carry(index, None));
        let end = self.until_over().await;
        // Who follows a job goes; the job goes on.
        self.carried.shutdown().await;
        self.show.end();
        end
    }

    async fn until_over(&mut self) -> Result<End, Failure> {
        let mut tick = tokio::time::interval(TICK);
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        self.look_for_pause();
        loop {
            match self.next() {
                Next::Over(stop) => return Ok(End::Over(stop)),
                Next::Begin(which) => {
                    self.begin(&which)?;
                    continue;
                }
                Next::Follow | Next::Held => {}
            }
            tokio::select! {
                biased;
                // Where no handler can be set, the default one ends the process, which detaches too.
                Ok(()) = &mut interrupt => return Ok(End::Detached),
                _ = tick.tick() => self.tick(),
                Some((index, told)) = self.told.recv() => self.take(index, told)?,
                Some(Err(error)) = self.carried.join_next(), if !self.carried.is_empty() => {
                    return Err(Failure::new(Exit::Internal, said!("following a job broke off", "对作业的跟踪中断"))
                        .because(error.to_string()));
                }
            }
        }
    }

    fn next(&self) -> Next {
        let campaign = &self.campaign;
        schedule::next(&campaign.stands(), campaign.state.options.limits(), campaign.paused.is_some())
    }

    fn tick(&mut self) {
        self.look_for_pause();
        self.show.tick(&self.campaign.scene(self.show.is_broken()));
    }

    fn look_for_pause(&mut self) {
        self.campaign.paused = self.place.paused_since();
        self.show.pause(self.campaign.paused.as_deref());
    }

    /// The jobs get their ids, the ids get to disk, and only then the jobs get to the controller.
    fn begin(&mut self, which: &[usize]) -> Result<(), Failure> {
        let mut wishes = Vec::new();
        for index in which {
            let site = &mut self.campaign.state.sites[*index];
            match workbook::read(&site.workbook) {
                Ok(bytes) => wishes.push((
                    *index,
                    v1::SubmitJobRequest {
                        job_id: site.begin().to_string(),
                        workbook: bytes,
                        file_name: workbook::name(&site.workbook),
                        overrides: self.campaign.state.options.set.clone().into_iter().collect(),
                        agent_id: site.agent.clone().unwrap_or_default(),
                        site: site.site.clone(),
                        on_failure: self.on_failure.into(),
                    },
                )),
                Err(problem) => site.stage = Stage::Refused { message: problem.message },
            }
        }
        self.place.write(&self.campaign.state)?;
        for index in which {
            self.tell_site(*index)?;
        }
        wishes.into_iter().for_each(|(index, wish)| self.carry(index, Some(wish)));
        Ok(())
    }

    fn carry(&mut self, index: usize, wish: Option<v1::SubmitJobRequest>) {
        let Some(job) = self.campaign.state.sites[index].job_id else { return };
        self.campaign.known.insert(index, Known::default());
        self.tellers.insert(index, Teller::default());
        self.carried.spawn(Carried { index, job, wish }.run(self.client.clone(), self.say.clone()));
    }

    /// Something was told about a site.
    fn take(&mut self, index: usize, told: Told) -> Result<(), Failure> {
        match told {
            Told::Stored => {
                self.show.well(index);
                self.turn(index, Stage::Running)
            }
            Told::Refused(message) => {
                self.campaign.known.remove(&index);
                self.tellers.remove(&index);
                self.show.well(index);
                self.turn(index, Stage::Refused { message })
            }
            Told::Lost(failure) => Err(failure),
            Told::Heard(heard) => self.hear(index, &heard),
        }
    }

    fn hear(&mut self, index: usize, heard: &Heard) -> Result<(), Failure> {
        self.show.heard(index, heard);
        let Some(known) = self.campaign.known.get_mut(&index) else { return Ok(()) };
        let asked = known.needs_operator();
        known.take(heard);
        let asks = known.needs_operator();
        if let (Some(teller), false) =
            (self.tellers.get_mut(&index), matches!(heard, Heard::Broken { .. } | Heard::Back(_)))
        {
            let line = teller.tell(heard, known, Timestamp::now());
            if let Some(line) = line.filter(|line| line.level >= Level::Warning) {
                let site = &self.campaign.state.sites[index].site;
                self.show.line(line.level, &say!("{site}: {text}", "{site}：{text}"; text = line.text));
            }
        }
        if matches!(heard, Heard::End) {
            return self.end_of(index);
        }
        if asks != asked {
            self.tell_site(index)?;
        }
        Ok(())
    }

    /// The job of a site has ended.
    fn end_of(&mut self, index: usize) -> Result<(), Failure> {
        let ended = self.campaign.known.remove(&index).and_then(|known| Ended::of(&known));
        self.tellers.remove(&index);
        let Some(ended) = ended else {
            let site = &self.campaign.state.sites[index].site;
            let message = said!(
                "the controller ended the stream of the job of site {site}, which has not ended",
                "站点 {site} 的作业尚未结束，控制器却结束了事件流"
            );
            return Err(Failure::new(Exit::Internal, message)
                .remedy(said!("go on: {again}", "继续：{again}"; again = self.place.command("run"))));
        };
        self.turn(index, Stage::Ended(ended))
    }

    /// A site has got further: that is written down, then told.
    fn turn(&mut self, index: usize, stage: Stage) -> Result<(), Failure> {
        self.campaign.state.sites[index].stage = stage;
        self.place.write(&self.campaign.state)?;
        self.tell_site(index)
    }

    fn tell_site(&self, index: usize) -> Result<(), Failure> {
        let site = &self.campaign.state.sites[index];
        let job = site.job_id.map(|id| id.to_string()).unwrap_or_default();
        let asks = self.campaign.asks(index);
        let (level, what) = match &site.stage {
            Stage::Submitting => (Level::Debug, String::new()),
            Stage::Running if asks => (
                Level::Warning,
                say!("job {job} waits for an operator: ctl decide {job}", "作业 {job} 等待操作员：ctl decide {job}"),
            ),
            Stage::Running => (Level::Info, say!("job {job} is stored", "作业 {job} 已保存")),
            Stage::Refused { message } => (Level::Error, say!("refused: {message}", "被拒绝：{message}")),
            Stage::Ended(ended) => ended_line(&job, ended),
            Stage::Waiting | Stage::Skipped => (Level::Debug, String::new()),
        };
        if level > Level::Debug {
            self.show.line(level, &say!("{site}: {what}", "{site}：{what}"; site = site.site));
        }
        self.show.site(&self.campaign.scene(self.show.is_broken()), index)
    }
}

fn ended_line(job: &str, ended: &Ended) -> (Level, String) {
    let level = if ended.outcome == gantry_proto::JobOutcome::Succeeded { Level::Info } else { Level::Error };
    let why = ended.message.as_ref().map(|why| say!(": {why}", "：{why}")).unwrap_or_default();
    let left_over = if ended.left_over { word!("; something is left over", "；有残留对象") } else { "" };
    let outcome = words::ended(ended.outcome);
    (level, say!("job {job}: {outcome}{why}{left_over}", "作业 {job}：{outcome}{why}{left_over}"))
}
